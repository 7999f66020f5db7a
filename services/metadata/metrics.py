"""Metrics of metadata."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

COMMITS: Final = Counter("syncline_commits", "Requests of which something was accepted and appended.")
ENTRIES: Final = Counter("syncline_journal_entries", "Journal entries appended; each holds one or many commits.")
MUTATIONS: Final = Counter(
    "syncline_mutations", "Mutations decided, by verdict; all but ACCEPTED are refusals.", ["verdict"]
)
RACES_LOST: Final = Counter(
    "syncline_append_races_lost", "Appends that found their entry taken, and were decided again."
)
ENTRY_BYTES: Final = Counter("syncline_journal_bytes", "Bytes of the entries appended.")

VIEW_USES: Final = Counter(
    "syncline_view_uses", "Uses of a space's view: `hit` if the space was in memory, else `miss`.", ["outcome"]
)
VIEW_LOADED: Final = Counter("syncline_view_loaded", "Nodes and names read from the table, as no view knew them.")
SPACES: Final = Gauge("syncline_spaces_in_memory", "Spaces in memory.")
KNOWN: Final = Gauge("syncline_view_size", "Nodes and names in memory.")
SEARCHABLE: Final = Gauge("syncline_search_size", "Names in memory for searches.")

OUTBOX_AGE: Final = Gauge(
    "syncline_outbox_age_seconds", "Age of the oldest entry that this process has yet to announce or to project."
)
OUTBOX: Final = Gauge("syncline_outbox_entries", "Entries that this process has yet to announce or to project.")
PROJECTED: Final = Counter("syncline_projected_entries", "Entries written to the table.")
POSTPONED: Final = Counter("syncline_projections_postponed", "Projections and announcements to be tried again.")
ANNOUNCED: Final = Counter("syncline_announcements", "Messages published.")
TAKEN_OVER: Final = Counter("syncline_spaces_taken_over", "Spaces that another process left behind unfinished.")

SEALED: Final = Counter("syncline_objects_declared", "Objects that were to be proven, by verdict.", ["verdict"])
REMOVED: Final = Counter(
    "syncline_objects_removed", "Uploaded objects that were removed, since not everybody could read the right bytes."
)

MEASURED: Final = Counter("syncline_spaces_measured", "Spaces whose uploaded objects were listed.")
LISTED: Final = Counter("syncline_objects_listed", "Objects listed, to find out which are not sealed.")
UNSEALED_BYTES: Final = Gauge(
    "syncline_unsealed_bytes", "Bytes that are uploaded and not sealed, of the spaces measured here within an hour."
)
DISCARDED: Final = Counter("syncline_objects_discarded", "Uploaded objects removed, since nobody sealed them.")
