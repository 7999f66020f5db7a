"""Limits of the number of things that one person or one space may have, so that no list grows without bound, least
of all by the doing of others.

What is there is counted when something is added, by reading it, since lists are as long as their limits at most; no
counter has to be kept true. Two that add at once do not both go by the same count: both pass a gate, and the second
one counts again.

What others can fill is shared as pools are (runtime.pool): one giver may have given somebody as many as that leaves
free, so that whoever comes next finds something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from services.auth import metrics
from services.auth.ports import GateMoved, GrantMoved
from services.auth.records import Membership
from syncline.model.accounts import Role
from syncline.model.errors import Contended, LimitReached
from syncline.model.identifiers import UserId
from syncline.model.retry_policy import RetryPolicy

T = TypeVar("T")

_RETRIES: Final = RetryPolicy(max_attempts=8, first_pause_seconds=0.02, max_pause_seconds=0.3, jitter=1)


KEPT_FOR_KNOWN: Final = 8
"""One part in so many of what others can fill is kept for those whom its owner has let in somewhere. Accounts are free,
so that strangers are never too few to fill the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingLimits:
    """Maximum numbers of things of each kind."""

    spaces: int = 500
    """Spaces that one person has made and is still a member of, besides their personal space."""
    memberships: int = 1000
    """Memberships of one person in spaces of others."""
    members: int = 2000
    """Members of one space."""
    devices: int = 200
    """Clients and browsers that one person is signed in with."""
    keys: int = 100
    """Good keys of programs that one person has made."""
    links: int = 1000
    """Links of one space, with those that were ended within a day."""
    links_made: int = 2000
    """In all spaces, by one person."""


def is_full(limit: int, *, total: int, held: int) -> bool:
    """True if who has given `held` of `total` may give no more: that would leave less than they have given."""
    return total >= limit or bool(held and held + 1 > limit - total - 1)


def is_own(membership: Membership, user: UserId) -> bool:
    """True if the user made the space, as far as is known: before it was noted who did, the owners of a space count."""
    if membership.by is None:
        return membership.personal or membership.role is Role.OWNER
    return membership.by == user


def limit_reached(limit: str, text: str) -> LimitReached:
    """The error to raise, which is counted. `limit` is a field of HoldingLimits."""
    metrics.LIMITS_REACHED.labels(limit).inc()
    return LimitReached(text, limit=limit)


async def decided_anew(decide: Callable[[], Awaitable[T]], *, busy: str) -> T:
    """Return the result of `decide`, which reads and then conditionally writes.

    Another writer that comes first makes it be repeated. Raise Contended with the text `busy` after 8 attempts.
    """
    for pause in _RETRIES.pauses():
        try:
            return await decide()
        except (GrantMoved, GateMoved):
            await asyncio.sleep(pause)
    raise Contended(busy)
