"""The ports of notify. Each docstring states the obligations of adapters; `tests/contract` checks every adapter against
them.

All methods raise Unavailable if the backend does not answer or throttles; a write may then have been carried out or
not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from services.notify.records import Choice, Claim, Claimant, Mail, PersonAccess, QueueMessage, Roster
from syncline.model.accounts import MailMode
from syncline.model.identifiers import DeviceId, RequestId, SpaceId, UserId


class QueueGone(Exception):
    """The SQS queue no longer exists, and its messages are lost."""


class MailRefused(Exception):
    """This mail can never be delivered; another attempt would fail as well."""


class PreferenceStore(Protocol):
    """Store of the mail modes that people chose. Reads include every write that was acknowledged before they began."""

    async def mode(self, space: SpaceId, user: UserId) -> MailMode | None:
        """Return the mode that the user chose for the space; None if they chose none."""

    async def modes(self, space: SpaceId) -> Mapping[UserId, MailMode]:
        """Return the modes that were chosen for the space, by user."""

    async def set_mode(self, space: SpaceId, user: UserId, mode: MailMode, *, request: RequestId, now: int) -> Choice:
        """Carry out the request with the id `request`: set the mail mode of a user for a space to `mode`, and return
        the resulting choice.

        If the request was carried out before, change nothing and return the choice that it made then. Requests are
        remembered for ANSWER_DAYS from `now`, in milliseconds since 1970.
        """


class ClaimStore(Protocol):
    """Store of claims: before a process mails a user about an entry of a journal, it claims the mail, so that nobody is
    mailed twice and no mail is forgotten.

    Times are milliseconds since 1970. A claim that is not finished by its `lease_until` is free again.
    """

    async def claim(self, claimant: Claimant, seq: int, *, now: int, lease_until: int) -> Claim:
        """Claim the mail about the entry with the sequence number `seq` for `claimant` until `lease_until`, if the
        claim is free at `now`. Return the resulting state of the claim. Of concurrent attempts, one succeeds. An
        attempt that holds the claim may claim again, which renews the claim.

        Claims are remembered for at least 14 days.
        """

    async def finish(self, claimant: Claimant, seqs: Collection[int], *, now: int) -> None:
        """Finish, at the time `now`, the claims of `claimant` for the entries with the sequence numbers `seqs`, because
        the user was mailed about them, or they are stored for the next mail. They can then never be claimed again.
        """

    async def release(self, claimant: Claimant, seqs: Collection[int]) -> None:
        """Free the claims that `claimant` holds for the entries with the sequence numbers `seqs`, because the user was
        not mailed about them. Finished claims, and claims of another attempt to mail the same user, stay.
        """


class MailScheduleStore(Protocol):
    """Store of the time at which a person may be mailed about a space again, and of the changes that wait for that
    mail.

    Times are milliseconds since 1970. The waiting changes are texts by sequence number, remembered for at least 14
    days.
    """

    async def begin_mail(self, claimant: Claimant, *, now: int, lease_until: int) -> int:
        """Begin a mail to the user of `claimant` about the space of `claimant`, and return 0. If `now` is in the quiet
        time after the last mail, begin none and return the end of the quiet time.

        From the beginning of a mail the quiet time lasts until `lease_until`, and from its end as `end_mail` says. Of
        concurrent attempts, one succeeds. The same attempt may begin again.
        """

    async def end_mail(self, claimant: Claimant, *, told: Collection[int], quiet_until: int) -> None:
        """End the mail that `claimant` began, whether it was sent or not. Remove the changes with the sequence numbers
        `told`, which the mail was about, from the waiting changes, and set the end of the quiet time to `quiet_until`.

        Do nothing if another attempt has begun a mail since.
        """

    async def postpone(self, claimant: Claimant, waiting: Mapping[int, str], *, now: int) -> None:
        """Store `waiting`, changes that wait for the next mail to the user of `claimant` about the space of `claimant`:
        their texts by sequence number. `now` is the present time. Idempotent.
        """

    async def postponed(self, space: SpaceId, user: UserId) -> Mapping[int, str]:
        """Return the texts of the changes in a space that wait for the next mail to a user, by sequence number, in
        ascending order. At most MAX_POSTPONED_ENTRIES are returned, those with the lowest sequence numbers. Every write
        that was acknowledged before the call is included.
        """


class MailCounts(Protocol):
    """Counters of the mails to a person within a window of time. They are exact over all processes."""

    async def count_mail(self, subject: str, *, limit: int, window_ms: int, now: int) -> int:
        """Count a mail for `subject`, the name of a counter, at the present time `now`, and return 0. If the counter
        has counted `limit` mails in the window already, count nothing and return the end of the window.

        A window begins with its first mail and lasts `window_ms`. Times are milliseconds since 1970.
        """


class LeaseStore(Protocol):
    """Store of leases, which say until when a running instance uses its doorbell queue. Reads include every write that
    was acknowledged before they began.
    """

    async def hold_queue(self, name: str, *, until: int) -> None:
        """Take or renew the lease of the queue `name` until `until`, in milliseconds since 1970. The caller's process
        has made the queue, and no other process takes the lease of it.
        """

    async def drop_queue(self, name: str) -> None:
        """End the lease of a queue; the queue itself stays. Do nothing for a queue without a lease."""

    async def held_queues(self, *, now: int) -> Collection[str]:
        """Return the names of the queues with a lease that has not expired at `now`, in milliseconds since 1970."""


class NotifyStore(PreferenceStore, ClaimStore, MailScheduleStore, MailCounts, LeaseStore, Protocol):
    """All stores of notify in one, which is what an adapter implements."""


class MessageQueue(Protocol):
    """A queue of SQS. Each message is delivered to one consumer, and is delivered again after its visibility timeout
    (`hide`) until it is deleted.

    All methods raise QueueGone if the queue does not exist.
    """

    async def receive(self) -> Sequence[QueueMessage]:
        """Return up to ten messages. If the queue is empty, wait some seconds for a message, then return an empty
        sequence.
        """

    async def delete(self, messages: Collection[QueueMessage]) -> None:
        """Delete processed messages. A message whose visibility timeout has expired may be delivered again all the
        same.
        """

    async def put_back(self, message: QueueMessage, *, seconds: int) -> None:
        """Delete the message and add a copy at the end of the queue, with a delay of `seconds`, at most 900.

        The copy carries the number of attempts before this delivery, and `first_ms`. The queue's own count of
        deliveries starts anew. Both messages exist for a moment, and stay if the process stops in between.
        """

    async def hide(self, message: QueueMessage, *, seconds: int) -> None:
        """Set the visibility timeout of a message to `seconds`, at most 12 hours. Do nothing if its present visibility
        timeout has expired.
        """


class DoorbellQueues(Protocol):
    """The queues of SQS that receive a copy of every announcement on the SNS topic; each process has a queue of its
    own.
    """

    async def open(self, name: str) -> MessageQueue:
        """Create a queue with this name and subscribe it to the topic. The queue keeps every announcement after the
        return for at least five minutes. The name must consist of `prefix` and a random part, and must never be used
        again. Return the queue, from which the caller takes the announcements.
        """

    async def close(self, name: str) -> None:
        """Remove the queue and its subscription. Idempotent, also after a partial removal."""

    async def names(self) -> Collection[str]:
        """Return the names of all doorbell queues, of this and of other processes, for which a queue or a subscription
        exists. A queue that was created a moment ago may be missing.
        """

    @property
    def prefix(self) -> str:
        """The prefix of the names of all doorbell queues."""


class MailSender(Protocol):
    """Port by which mail is sent."""

    async def send(self, mail: Mail) -> None:
        """Submit a mail for delivery. Raise MailRefused if the address is invalid."""


class MemberDirectory(Protocol):
    """The members of spaces, and the rights of people and devices, as auth knows them."""

    async def members(self, space: SpaceId) -> Roster:
        """Return the space's name and members. Raise NoSuchSpace if the space does not exist."""

    async def check(self, spaces: Sequence[SpaceId], *, user: UserId, devices: Sequence[DeviceId]) -> PersonAccess:
        """Return the user's access: those of `spaces` in which the user has a grant, and those of `devices` that were
        revoked, have expired, or belong to somebody else.

        `spaces` and `devices` have at most MAX_CHECKED_RIGHTS ids each.
        """
