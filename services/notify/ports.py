"""The ports of notify. Each obligation stands here once; every adapter passes the same suite.

All methods raise Unavailable when what is behind them does not answer or throttles; a write may then have happened
or not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from services.notify.records import Choice, Claim, Claimant, Mail, PersonAccess, QueueMessage, Roster
from syncline.model.accounts import MailMode
from syncline.model.identifiers import DeviceId, RequestId, SpaceId, UserId


class QueueGone(Exception):
    """The queue does not exist any more, and its messages with it."""


class MailRefused(Exception):
    """This mail can never be delivered; another attempt would end the same way."""


class PreferenceStore(Protocol):
    """Store of the mail modes that people chose. Reads see every write that was acknowledged before they began."""

    async def mode(self, space: SpaceId, user: UserId) -> MailMode | None:
        """Return the mode that the user chose for the space; None if they chose none."""

    async def modes(self, space: SpaceId) -> Mapping[UserId, MailMode]:
        """Return the modes that were chosen for the space, by user."""

    async def set_mode(self, space: SpaceId, user: UserId, mode: MailMode, *, request: RequestId, now: int) -> Choice:
        """Choose; the last choice holds. Returns what this request of the user's has chosen.

        That is another choice, and nothing is changed, if the request was carried out before. It is remembered for
        ANSWER_DAYS from `now`, milliseconds since 1970.
        """


class ClaimStore(Protocol):
    """Store of the claims to tell a user about a sequence number, so that nobody is told twice and nothing is
    forgotten.

    Times are milliseconds since 1970. A claim that is not done by its `lease_until` is free again.
    """

    async def claim(self, claimant: Claimant, seq: int, *, now: int, lease_until: int) -> Claim:
        """Claim it if it is free; of many attempts at once, one succeeds. The same attempt may claim again.

        Remembered for at least 14 days.
        """

    async def finish(self, claimant: Claimant, seqs: Collection[int], *, now: int) -> None:
        """The user was told about these: they are nobody's any more."""

    async def release(self, claimant: Claimant, seqs: Collection[int]) -> None:
        """The user was not told: what this attempt claimed of these is free at once."""


class DigestStore(Protocol):
    """When somebody may be mailed about a space again, and what waits for that mail.

    Times are milliseconds since 1970. What waits is text by sequence number, remembered for at least 14 days.
    """

    async def begin_mail(self, claimant: Claimant, *, now: int, lease_until: int) -> int:
        """Begin a mail if `now` is not in the quiet time after the last one, which is then until `lease_until`.

        0 if it is begun, else when the quiet time is over. Of many attempts at once, one begins. The same attempt may
        begin again.
        """

    async def end_mail(self, claimant: Claimant, *, told: Collection[int], quiet_until: int) -> None:
        """The mail that this attempt began is sent, or there is none: what was told waits no more.

        Does nothing if another attempt has begun one since.
        """

    async def postpone(self, claimant: Claimant, waiting: Mapping[int, str], *, now: int) -> None:
        """These wait for the next mail. Safe to repeat."""

    async def postponed(self, space: SpaceId, user: UserId) -> Mapping[int, str]:
        """Return the summaries that wait, the oldest first, at most a thousand. Sees every write that was
        acknowledged before.
        """


class MailCounts(Protocol):
    """Counts of the mails that somebody got within the present window. Exact over all processes."""

    async def count_mail(self, subject: str, *, limit: int, window_ms: int, now: int) -> int:
        """Count a mail. 0, or if there were `limit` in the window: when it ends, and nothing is counted.

        A window begins with its first mail. Times are milliseconds since 1970.
        """


class LeaseStore(Protocol):
    """Store of the doorbell queues that are in use. Reads see every write that was acknowledged before they began."""

    async def hold_queue(self, name: str, *, until: int) -> None:
        """The queue is in use until then, milliseconds since 1970."""

    async def drop_queue(self, name: str) -> None:
        """The queue is not in use any more. Does nothing for an unknown one."""

    async def held_queues(self, *, now: int) -> Collection[str]:
        """The queues that are in use."""


class NotifyStore(PreferenceStore, ClaimStore, DigestStore, MailCounts, LeaseStore, Protocol):
    """Everything that is stored, as the adapters implement it."""


class MessageQueue(Protocol):
    """Hands each message to one consumer, and again to any after a while (`hide`), until it is deleted.

    All methods raise QueueGone when there is no such queue.
    """

    async def receive(self) -> Sequence[QueueMessage]:
        """Up to ten messages; waits for the first for a while, then returns none."""

    async def delete(self, messages: Collection[QueueMessage]) -> None:
        """Remove messages that are dealt with. A message whose time has run out may come again all the same."""

    async def put_back(self, message: QueueMessage, *, seconds: int) -> None:
        """Hand the message out as a new one behind all that are there, not within the next `seconds`, at most 900.

        The new message goes on counting where this one was before it was taken this time, and keeps `first_ms`. To the
        queue, whose own count ends a message, it is new. It may be there twice if the process ends meanwhile.
        """

    async def hide(self, message: QueueMessage, *, seconds: int) -> None:
        """Nobody gets it again within the next `seconds`, at most 12 hours. Does nothing if its time has run out."""


class DoorbellQueues(Protocol):
    """Queues that get a copy of everything announced on the topic; each instance has its own."""

    async def open(self, name: str) -> MessageQueue:
        """Make the queue. What is announced after this returned is in it, for at least five minutes.

        Names are unique for ever: `prefix` and something random.
        """

    async def close(self, name: str) -> None:
        """Remove the queue and whatever led to it. Done already, or in part, it succeeds again."""

    async def names(self) -> Collection[str]:
        """All names that something is left of, of this instance and others. One made a moment ago may be missing."""

    @property
    def prefix(self) -> str:
        """Begins the name of every such queue."""


class MailSender(Protocol):
    """Port by which mail is sent."""

    async def send(self, mail: Mail) -> None:
        """Hand the mail over for delivery. Raises MailRefused if the address is none that mail can go to."""


class MemberDirectory(Protocol):
    """Directory of the members of spaces, as auth knows them."""

    async def members(self, space: SpaceId) -> Roster:
        """The space's name and members. Raise NoSuchSpace."""

    async def check(self, spaces: Sequence[SpaceId], *, user: UserId, devices: Sequence[DeviceId]) -> PersonAccess:
        """In which of these spaces the user has a grant, and which of these devices have ended.

        At most MAX_CHECKED of each.
        """
