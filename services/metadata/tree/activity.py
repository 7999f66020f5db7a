"""The activity in a space, newest first, as its journal tells it, whether or not the table holds it yet."""

from __future__ import annotations

from typing import Final

from services.metadata.entry import Activity, ChangePlace, JournalEntry
from services.metadata.ports import Journal
from services.metadata.wire import entry_from_bytes
from syncline.model.errors import InvalidPageToken
from syncline.model.identifiers import SpaceId
from syncline.model.tree import Change
from syncline.wire.pages import PAGE_BYTES

_END: Final = 1 << 63
"""Beyond every entry."""


async def list_activity(
    journal: Journal, space: SpaceId, *, after: ChangePlace | None, limit: int
) -> tuple[list[Activity], ChangePlace | None]:
    """Up to `limit` changes older than `after`, newest first, and the place to go on after; None if there are no
    more.

    No more is read than a page can carry. So there are fewer changes where entries are large, and none where all
    that was read are changes that are not told. Raise InvalidPageToken if there is no change at `after`.
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
            return found, None
        for seq, blob in page:
            if len(found) > limit:
                break
            found += _newest_first(entry_from_bytes(seq, blob))
            below, size = seq, size + len(blob)
    if len(found) > limit:
        return found[:limit], found[limit - 1].place
    return found, ChangePlace(below, 0) if below > 1 else None


async def _rest_of_entry(journal: Journal, space: SpaceId, after: ChangePlace) -> list[Activity]:
    """The changes of the entry of `after` that are older than that one."""
    for seq, blob in await journal.read(space, after.seq - 1, 1):
        entry = entry_from_bytes(seq, blob)
        if after.index in range(max(1, len(list(entry.accepted())))):
            return [change for change in _newest_first(entry) if change.place.index < after.index]
    raise InvalidPageToken


def _newest_first(entry: JournalEntry) -> list[Activity]:
    changes = [(commit, result) for commit in entry.commits for result in commit.accepted()]
    return [
        Activity(ChangePlace(entry.seq, index), result, commit.user, commit.device, commit.at_ms)
        for index, (commit, result) in reversed(list(enumerate(changes)))
        if result.change is not Change.DISCARDED  # The fate of its content is told already.
    ]
