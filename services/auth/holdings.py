"""Limits of the number of items in the lists of one person or one space (spaces, members, devices, keys, links,
invitations), so that no list grows without bound, least of all through actions of other people.

Existing items are counted by reading the list when one is added, because lists are never longer than their limits;
there is no counter that could be wrong. Two concurrent additions cannot rely on the same count: each addition
increments the version of the list, the "gate", and the second one then has to count again.

A list that others can fill is shared as pools are (runtime.pool): one person may have added as many items as remain
free afterwards, so that the next person always finds room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from services.auth import metrics
from services.auth.ports import GateMoved, GrantMoved, ReservationMoved, StandingMoved
from services.auth.records import Membership
from syncline.model.accounts import Role
from syncline.model.errors import Contended, LimitReached
from syncline.model.identifiers import UserId
from syncline.model.retry_policy import RetryPolicy

T = TypeVar("T")

_RETRIES: Final = RetryPolicy(max_attempts=8, first_pause_seconds=0.02, max_pause_seconds=0.3, jitter=1)


KEPT_FOR_KNOWN: Final = 8
"""Reciprocal of the reserved part of a person's list of spaces: only people whom that person has admitted to a space
may fill it. Accounts are free of charge, so that people whom nobody knows could otherwise fill the list.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingLimits:
    """Maximum number of items in each kind of list."""

    spaces: int = 500
    """Maximum number of spaces that one person has made and is still a member of, besides the personal space."""
    memberships: int = 1000
    """Maximum number of memberships of one person in spaces of others."""
    members: int = 2000
    """Maximum number of members of one space."""
    devices: int = 200
    """Maximum number of clients and browsers that one person is signed in with."""
    keys: int = 100
    """Maximum number of valid keys of programs that one person has made."""
    links: int = 1000
    """Maximum number of links of one space, including those that were ended within a day."""
    links_made: int = 2000
    """Maximum number of links that one person has made in all spaces."""
    invitations: int = 200
    """Maximum number of invitations to one space that nobody has taken up and that have not expired."""
    invitations_made: int = 500
    """Maximum number of such invitations that one person has made in all spaces."""
    invitations_received: int = 100
    """Maximum number of such invitations of one address to all spaces."""


def is_full(limit: int, *, total: int, held: int) -> bool:
    """Return True if a person who has added `held` of the `total` items of a list with the maximum length `limit` may
    add no more. A first item may be added as long as the list is not full; a further one only if afterwards at least as
    many items as the person has added can still be added.
    """
    return total >= limit or bool(held and held + 1 > limit - total - 1)


def is_own(membership: Membership, user: UserId) -> bool:
    """Return True if `user`, whose membership it is, made the space. In a space from the time before makers were
    recorded, every owner counts as the maker.
    """
    if membership.by is None:
        return membership.personal or membership.role is Role.OWNER
    return membership.by == user


def limit_reached(limit: str, text: str) -> LimitReached:
    """Return the LimitReached to raise, with `text` for people, and count it in the metric. `limit` is the name of a
    field of HoldingLimits.
    """
    metrics.LIMITS_REACHED.labels(limit).inc()
    return LimitReached(text, limit=limit)


async def decided_anew(decide: Callable[[], Awaitable[T]], *, busy: str) -> T:
    """Return the result of `decide`, a coroutine function that reads, decides, and writes on the condition that nothing
    has changed since. `decide` is called again if it raises GrantMoved, GateMoved, StandingMoved or ReservationMoved,
    because a concurrent writer came first. Raise Contended with the text `busy` after 8 such calls.
    """
    for pause in _RETRIES.pauses():
        try:
            return await decide()
        except (GrantMoved, GateMoved, StandingMoved, ReservationMoved):
            await asyncio.sleep(pause)
    raise Contended(busy)
