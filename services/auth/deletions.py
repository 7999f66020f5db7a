"""Deleted spaces: the errors for their members, and the limits that they count against.

A deleted space gives its members no right: the store returns no grant where a right is checked (`ports.AccessStore`),
so that every service refuses, whatever it is asked. For as long as an owner can undelete the space, the error for
its members says that it was deleted; afterwards it does not exist for anybody.
"""

from __future__ import annotations

from typing import Final

from services.auth.records import DAY_MS, Membership, SpaceDeletion
from syncline.model.errors import NoSuchSpace, SpaceDeleted
from syncline.model.identifiers import SpaceId

FORGOTTEN_AFTER_MS: Final = DAY_MS
"""Milliseconds from the time until which a space can be undeleted to the time from which it is left out of the lists of
its members for good. The clocks of two processes differ by less.
"""


def error_without_grant(space: SpaceId, deletion: SpaceDeletion | None, *, now_ms: int) -> NoSuchSpace:
    """Return the error to raise for a caller who has no right in a space. `deletion` is the deletion of the space if
    the caller is a member of it, otherwise None, and `now_ms` is the present time in milliseconds since 1970. The
    result is a SpaceDeleted as long as the space can be undeleted, and otherwise a NoSuchSpace.
    """
    if deletion is None or not deletion.is_reversible(now_ms):
        return NoSuchSpace(space_id=space)
    return SpaceDeleted.since(space, at_ms=deletion.at_ms, until_ms=deletion.until_ms)


def is_counted(membership: Membership, *, now_ms: int) -> bool:
    """Return True if a membership counts against the limits of its holder at `now_ms`, in milliseconds since 1970. A
    deleted space counts until it cannot be undeleted any more, so that nobody exceeds a limit by deleting and
    undeleting spaces.
    """
    return membership.deletion is None or membership.deletion.is_reversible(now_ms)


def is_forgotten(membership: Membership, *, now_ms: int) -> bool:
    """Return True if a membership of a deleted space may be removed from the list of its holder."""
    return membership.deletion is not None and now_ms >= membership.deletion.until_ms + FORGOTTEN_AFTER_MS
