"""Values that notify's domain and its adapters share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, TypeAlias

from syncline.model.accounts import MailMode
from syncline.model.errors import SpaceDeleted
from syncline.model.identifiers import DeviceId, SpaceId, UserId

SECOND_MS: Final = 1000
MINUTE_MS: Final = 60 * SECOND_MS
DAY_MS: Final = 24 * 60 * MINUTE_MS

MAX_POSTPONED_ENTRIES: Final = 1000
"""Maximum number of waiting sequence numbers that one mail covers, besides those of its own event."""

Clock: TypeAlias = Callable[[], int]
"""Function that returns the present time in milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class PersonAccess:
    """The answer of auth about one person: the spaces in which the person has a grant, and the devices that were
    revoked or have expired. `deleted` has the errors for the spaces that were deleted and have the person as a member.
    """

    spaces: Set[SpaceId]
    revoked: Set[DeviceId]
    """The devices in the question that were revoked, or that belong to somebody else."""
    expired: Set[DeviceId]
    deleted: Mapping[SpaceId, SpaceDeleted] = field(default_factory=dict)
    limited: Mapping[DeviceId, Set[SpaceId]] = field(default_factory=dict)
    """The devices in the question that are programs with a key for some spaces only, with these spaces."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The mail mode that a user has chosen for a space."""

    space: SpaceId
    mode: MailMode


@dataclass(frozen=True, slots=True)
class RosterMember:
    """A person with a grant in a space."""

    user: UserId
    email: str
    alias: str = ""
    """The member's own name for the space; empty if unknown."""
    suspended: bool = False
    """True for a member who is suspended, and so gets no mail."""


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
    """The state of the claim to mail a user about an entry of a journal."""

    CLAIMED = auto()
    """This attempt holds the claim: mail the user, then finish it."""
    HELD = auto()
    """Another attempt holds the claim, and may have crashed: try again later."""
    DONE = auto()
    """The claim is finished, because the user was mailed: do nothing."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """One attempt to mail a user about changes of a space. `attempt` is random, and distinguishes this attempt from
    other attempts to mail the same user.
    """

    space: SpaceId
    user: UserId
    attempt: str


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A message taken from a queue."""

    body: str
    receipt: str
    receives: int
    """The number of deliveries including this one, plus the attempts at the messages that it replaces."""
    first_ms: int
    """The time at which the message, or the first of the messages that it replaces, was sent to the queue, in
    milliseconds since 1970.
    """
