"""What happened in a space, newest first, as its journal tells it: whether or not the table holds it yet."""

from __future__ import annotations

from typing import Final

from core.errors import InvalidPageToken
from core.identifiers import SpaceId
from core.tree import Change
from services.metadata.journal import Activity, Entry, Place
from services.metadata.ports import Journal
from services.metadata.wire import entry_from_bytes
from wire.pages import PAGE_BYTES

_END: Final = 1 << 63
"""Beyond every entry."""


async def list_activity(
    journal: Journal, space: SpaceId, *, after: Place | None, limit: int
) -> tuple[list[Activity], bool]:
    """Up to `limit` changes older than the one at `after`, newest first, and whether there are more.

    Fewer where their entries are large: no more is read than a page can carry.
    InvalidPageToken if there is no change at `after`.
    """
    found: list[Activity] = []
    below = _END
    if after is not None:
        found += await _rest_of_entry(journal, space, after)
        below = after.seq
    size = 0
    while len(found) <= limit and size < PAGE_BYTES:
        page = await journal.before(space, below, limit + 1 - len(found))
        if not page:
            return found[:limit], len(found) > limit
        for seq, blob in page:
            if len(found) > limit:
                break
            found += _newest_first(entry_from_bytes(seq, blob))
            below, size = seq, size + len(blob)
    return found[:limit], len(found) > limit or below > 1


async def _rest_of_entry(journal: Journal, space: SpaceId, after: Place) -> list[Activity]:
    """The changes of the entry of `after` that are older than that one."""
    for seq, blob in await journal.read(space, after.seq - 1, 1):
        changes = _newest_first(entry_from_bytes(seq, blob))
        if any(change.place == after for change in changes):
            return [change for change in changes if change.place.index < after.index]
    raise InvalidPageToken


def _newest_first(entry: Entry) -> list[Activity]:
    changes = [(commit, result) for commit in entry.commits for result in commit.accepted()]
    return [
        Activity(Place(entry.seq, index), result, commit.user, commit.device, commit.at_ms)
        for index, (commit, result) in reversed(list(enumerate(changes)))
        if result.change is not Change.DISCARDED  # what became of its content is told already
    ]
