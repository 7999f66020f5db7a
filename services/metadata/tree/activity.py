"""The activity in a space, newest first, read from the journal, so that it includes entries that are not projected
yet.
"""

from __future__ import annotations

from typing import Final

from runtime.rates import BYTES_PER_CALL, charge
from services.metadata.entry import Activity, ChangePlace, JournalEntry
from services.metadata.ports import Journal
from services.metadata.wire import entry_from_bytes
from syncline.model.errors import InvalidPageToken
from syncline.model.identifiers import SpaceId
from syncline.model.tree import Change
from syncline.wire.pages import PAGE_BYTES

_END: Final = 1 << 63
"""A sequence number greater than that of every entry."""


async def list_activity(
    journal: Journal, space: SpaceId, *, after: ChangePlace | None, limit: int, account: str
) -> tuple[list[Activity], ChangePlace | None]:
    """Return up to `limit` changes older than the one at `after` (None: than all), newest first, and the position after
    which to continue; None if there are no more.

    No more is read than a page can carry. A page therefore has fewer changes if entries are large, and none if
    everything that was read is not shown (nodes that were deleted without a trash entry). `account`, a person, is
    charged for the work, and the bytes that are read count as further calls. Raise InvalidPageToken if there is no
    change at `after`.
    """
    found: list[Activity] = []
    below, size = _END, 0
    if after is not None:
        found += await _rest_of_entry(journal, space, after, account=account)
        below = after.seq
    while len(found) <= limit and size < PAGE_BYTES:
        page = await journal.before(space, below, limit + 1 - len(found))
        if not page:
            return found, None
        for seq, blob in page:
            if len(found) > limit:
                break
            charge(len(blob) // BYTES_PER_CALL)
            found += _newest_first(await entry_from_bytes(seq, blob, account=account))
            below, size = seq, size + len(blob)
    if len(found) > limit:
        return found[:limit], found[limit - 1].place
    return found, ChangePlace(below, 0) if below > 1 else None


async def _rest_of_entry(journal: Journal, space: SpaceId, after: ChangePlace, *, account: str) -> list[Activity]:
    """Return the changes that are in the same entry as the change at `after`, and are older. Raise InvalidPageToken if
    there is no such change.
    """
    for seq, blob in await journal.read(space, after.seq - 1, 1):
        charge(len(blob) // BYTES_PER_CALL)
        entry = await entry_from_bytes(seq, blob, account=account)
        if after.index in range(max(1, len(list(entry.accepted())))):
            return [change for change in _newest_first(entry) if change.place.index < after.index]
    raise InvalidPageToken


def _newest_first(entry: JournalEntry) -> list[Activity]:
    changes = [(commit, result) for commit in entry.commits for result in commit.accepted()]
    return [
        Activity(ChangePlace(entry.seq, index), result, commit.user, commit.device, commit.at_ms)
        for index, (commit, result) in reversed(list(enumerate(changes)))
        if result.change is not Change.DISCARDED  # Activity already shows the node that holds its content.
    ]
