"""Metrics of metadata."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

COMMITS: Final = Counter("syncline_commits", "Requests with at least one accepted mutation.")
ENTRIES: Final = Counter("syncline_journal_entries", "Appended journal entries, each with one or more commits.")
MUTATIONS: Final = Counter(
    "syncline_mutations", "Decided mutations, by verdict; all but ACCEPTED are refusals.", ["verdict"]
)
RACES_LOST: Final = Counter(
    "syncline_append_races_lost", "Appends that lost the race for their entry, and were decided again."
)
ENTRY_BYTES: Final = Counter("syncline_journal_bytes", "Total size of the appended entries, in bytes.")

VIEW_USES: Final = Counter(
    "syncline_view_uses", "Uses of a space's view: `hit` if the space was in memory, else `miss`.", ["outcome"]
)
VIEW_LOADED: Final = Counter(
    "syncline_view_loaded", "Nodes and names that were read from the table because no view had them."
)
SPACES: Final = Gauge("syncline_spaces_in_memory", "Spaces in memory.")
KNOWN: Final = Gauge("syncline_view_size", "Number of nodes and names in memory.")
SEARCHABLE: Final = Gauge("syncline_search_size", "Number of names in memory for searches.")

OUTBOX_AGE: Final = Gauge(
    "syncline_outbox_age_seconds",
    "Age in seconds of the oldest entry that this process has yet to announce or to project.",
)
OUTBOX: Final = Gauge(
    "syncline_outbox_entries", "Number of entries that this process has yet to announce or to project."
)
PROJECTED: Final = Counter("syncline_projected_entries", "Entries that were projected to the table.")
POSTPONED: Final = Counter("syncline_projections_postponed", "Failed attempts of projections and announcements.")
ANNOUNCED: Final = Counter("syncline_announcements", "Messages published.")
TAKEN_OVER: Final = Counter("syncline_spaces_taken_over", "Spaces that another process left unfinished.")

SEALED: Final = Counter("syncline_objects_declared", "Declared objects, by verdict.", ["verdict"])
REMOVED: Final = Counter(
    "syncline_objects_removed",
    "Uploaded objects that were removed because their bytes were wrong or not readable by everybody.",
)

MEASURED: Final = Counter("syncline_spaces_measured", "Measures of the uploads of a space.")
LISTED: Final = Counter("syncline_objects_listed", "Objects that were listed to find unsealed ones.")
UNSEALED_BYTES: Final = Gauge(
    "syncline_unsealed_bytes", "Unsealed bytes of the spaces that this process measured within the last hour."
)
DISCARDED: Final = Counter(
    "syncline_objects_discarded", "Uploaded objects that were removed because they were never sealed."
)
