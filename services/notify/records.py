"""Values that notify's domain and its adapters share."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from syncline.model.accounts import MailMode
from syncline.model.identifiers import DeviceId, SpaceId, UserId

SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
DAY: Final = 24 * 60 * MINUTE

MAX_POSTPONED: Final = 1000
"""Sequence numbers that one mail tells of at most, beside those of the event that it is sent for."""

Clock: TypeAlias = Callable[[], int]
"""Milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class PersonAccess:
    """The answer of auth about one person: the spaces in which there is a grant, and the devices that have ended."""

    spaces: Set[SpaceId]
    revoked: Set[DeviceId]
    """Also those that are not the person's."""
    expired: Set[DeviceId]


@dataclass(frozen=True, slots=True)
class Choice:
    """The mail mode that a user has chosen for a space."""

    space: SpaceId
    mode: MailMode


@dataclass(frozen=True, slots=True)
class RosterMember:
    """Somebody with a grant in a space."""

    user: UserId
    email: str
    alias: str = ""
    """The member's own name for the space; empty if it is not known."""


@dataclass(frozen=True, slots=True)
class Roster:
    """A space's name and its members."""

    space_name: str
    members: tuple[RosterMember, ...]


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail to one address. `subject` is a single line; `html` says the same as `text`."""

    to: str
    subject: str
    text: str
    html: str


class Claim(Enum):
    """The state of the claim to tell a user about a sequence number."""

    CLAIMED = auto()
    """Ours: tell, then say that it is done."""
    HELD = auto()
    """Somebody else's, who may still be at it or may have crashed: look again later."""
    DONE = auto()
    """Nobody's any more: the user was told."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """One attempt to tell a user about changes of a space. `attempt` is random."""

    space: SpaceId
    user: UserId
    attempt: str


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A message taken from a queue."""

    body: str
    receipt: str
    receives: int
    """The number of times that it was taken, this time included, and the attempts at messages that it replaces."""
    first_ms: int
    """Time at which it was put into the queue, or the first of the messages that it replaces."""
