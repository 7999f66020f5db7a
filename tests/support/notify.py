"""All adapters in memory, for tests and for thinking."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.notify.ports import MessageQueue, QueueGone
from services.notify.records import MAX_POSTPONED_ENTRIES, Choice, Claim, Claimant, Mail, QueueMessage
from syncline.model.accounts import MailMode
from syncline.model.identifiers import RequestId, SpaceId, UserId

_BATCH: Final = 10


@dataclass(slots=True)
class _Window:
    attempt: str = ""
    quiet_until: int = 0
    waiting: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Claimed:
    attempt: str
    lease_until: int
    done: bool = False


class InMemoryNotifyStore:
    """NotifyStore in dictionaries."""

    def __init__(self) -> None:
        self._modes: dict[SpaceId, dict[UserId, MailMode]] = {}
        self._chosen: dict[tuple[UserId, RequestId], Choice] = {}
        self._claims: dict[tuple[SpaceId, UserId, int], _Claimed] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        """By subject: how many mails there were, and when their window ends."""
        self._windows: defaultdict[tuple[SpaceId, UserId], _Window] = defaultdict(_Window)
        self._queues: dict[str, int] = {}

    async def mode(self, space: SpaceId, user: UserId) -> MailMode | None:
        return self._modes.get(space, {}).get(user)

    async def modes(self, space: SpaceId) -> Mapping[UserId, MailMode]:
        return dict(self._modes.get(space, {}))

    async def set_mode(
        self,
        space: SpaceId,
        user: UserId,
        mode: MailMode,
        *,
        request: RequestId,
        now: int,  # nothing is forgotten here
    ) -> Choice:
        if (user, request) not in self._chosen:
            self._chosen[user, request] = Choice(space, mode)
            self._modes.setdefault(space, {})[user] = mode
        return self._chosen[user, request]

    async def claim(self, claimant: Claimant, seq: int, *, now: int, lease_until: int) -> Claim:
        found = self._claims.get((claimant.space, claimant.user, seq))
        if found is not None and found.done:
            return Claim.DONE
        if found is not None and found.lease_until > now and found.attempt != claimant.attempt:
            return Claim.HELD
        self._claims[claimant.space, claimant.user, seq] = _Claimed(claimant.attempt, lease_until)
        return Claim.CLAIMED

    async def finish(self, claimant: Claimant, seqs: Collection[int], *, now: int) -> None:
        for seq in seqs:
            self._claims[claimant.space, claimant.user, seq] = _Claimed(claimant.attempt, now, done=True)

    async def release(self, claimant: Claimant, seqs: Collection[int]) -> None:
        for seq in seqs:
            found = self._claims.get((claimant.space, claimant.user, seq))
            if found is not None and found.attempt == claimant.attempt and not found.done:
                found.lease_until = 0

    async def begin_mail(self, claimant: Claimant, *, now: int, lease_until: int) -> int:
        window = self._windows[claimant.space, claimant.user]
        if window.quiet_until > now and window.attempt != claimant.attempt:
            return window.quiet_until
        window.attempt, window.quiet_until = claimant.attempt, lease_until
        return 0

    async def end_mail(self, claimant: Claimant, *, told: Collection[int], quiet_until: int) -> None:
        window = self._windows[claimant.space, claimant.user]
        if window.attempt == claimant.attempt:
            window.attempt, window.quiet_until = "", quiet_until
            for seq in told:
                window.waiting.pop(seq, None)

    async def postpone(self, claimant: Claimant, waiting: Mapping[int, str], *, now: int) -> None:
        self._windows[claimant.space, claimant.user].waiting |= waiting

    async def postponed(self, space: SpaceId, user: UserId) -> Mapping[int, str]:
        return dict(sorted(self._windows[space, user].waiting.items())[:MAX_POSTPONED_ENTRIES])

    async def count_mail(self, subject: str, *, limit: int, window_ms: int, now: int) -> int:
        mails, ends_at = self._counts.get(subject, (0, 0))
        if ends_at <= now:
            mails, ends_at = 0, now + window_ms
        if mails >= limit:
            return ends_at
        self._counts[subject] = mails + 1, ends_at
        return 0

    async def hold_queue(self, name: str, *, until: int) -> None:
        self._queues[name] = until

    async def drop_queue(self, name: str) -> None:
        self._queues.pop(name, None)

    async def held_queues(self, *, now: int) -> Collection[str]:
        return {name for name, until in self._queues.items() if until > now}


@dataclass(slots=True)
class _Queued:
    body: str
    hidden_until: float = 0.0
    receipt: str = ""
    receives: int = 0
    attempts: int = 0
    first_ms: int = field(default_factory=lambda: int(time.time() * 1000))


class InMemoryQueue:
    """Queue in a list. Messages stay hidden for `hidden_seconds`, `receive` waits `wait_seconds`.

    A message that was taken `max_receives` times is not handed out again, but goes to the dead letters (`dead`).
    """

    def __init__(
        self, *, hidden_seconds: float = 60.0, wait_seconds: float = 20.0, max_receives: int | None = None
    ) -> None:
        self._hidden_seconds = hidden_seconds
        self._wait_seconds = wait_seconds
        self._max_receives = max_receives
        self.dead: list[str] = []
        self._messages: list[_Queued] = []
        self._gone = False
        self._changed = asyncio.Event()

    def put(self, body: str) -> None:
        """Add a message."""
        self._messages.append(_Queued(body))
        self._changed.set()

    def put_first(self, body: str) -> None:
        """Add a message before all others."""
        self._messages.insert(0, _Queued(body))
        self._changed.set()

    def remove(self) -> None:
        """The queue is no more."""
        self._gone = True
        self._changed.set()

    def __len__(self) -> int:
        return len(self._messages)

    async def receive(self) -> Sequence[QueueMessage]:
        deadline = time.monotonic() + self._wait_seconds
        while True:
            self._check()
            now = time.monotonic()
            self._bury(now)
            ready = [queued for queued in self._messages if queued.hidden_until <= now][:_BATCH]
            if ready or now >= deadline:
                return [self._take(queued, now) for queued in ready]
            wake_at = min([deadline, *(queued.hidden_until for queued in self._messages)])
            self._changed.clear()
            try:
                async with asyncio.timeout(wake_at - now):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def delete(self, messages: Collection[QueueMessage]) -> None:
        self._check()
        receipts = {message.receipt for message in messages}
        self._messages = [queued for queued in self._messages if queued.receipt not in receipts]

    async def put_back(self, message: QueueMessage, *, seconds: int) -> None:
        self._check()
        hidden_until = time.monotonic() + seconds
        self._messages.append(
            _Queued(message.body, hidden_until, attempts=message.receives - 1, first_ms=message.first_ms)
        )
        await self.delete([message])
        self._changed.set()

    async def hide(self, message: QueueMessage, *, seconds: int) -> None:
        self._check()
        for queued in self._messages:
            if queued.receipt == message.receipt:
                queued.hidden_until = time.monotonic() + seconds
        self._changed.set()

    def _take(self, queued: _Queued, now: float) -> QueueMessage:
        queued.hidden_until = now + self._hidden_seconds
        queued.receipt = secrets.token_hex(8)
        queued.receives += 1
        return QueueMessage(queued.body, queued.receipt, queued.attempts + queued.receives, queued.first_ms)

    def _bury(self, now: float) -> None:
        for queued in [*self._messages]:
            if queued.receives == self._max_receives and queued.hidden_until <= now:
                self._messages.remove(queued)
                self.dead.append(queued.body)

    def _check(self) -> None:
        if self._gone:
            raise QueueGone


@dataclass(slots=True)
class InMemoryTopic:
    """A topic that hands each message to all its queues, and DoorbellQueues on it."""

    prefix: str = "doorbell-"
    queues: dict[str, InMemoryQueue] = field(default_factory=dict)
    subscribed: list[InMemoryQueue] = field(default_factory=list)
    """Other queues that are there for good."""

    def publish(self, body: str) -> None:
        """Put an event into the queues of all subscribers."""
        for queue in [*self.queues.values(), *self.subscribed]:
            queue.put(body)

    async def open(self, name: str) -> MessageQueue:
        return self.queues.setdefault(name, InMemoryQueue())

    async def close(self, name: str) -> None:
        queue = self.queues.pop(name, None)
        if queue is not None:
            queue.remove()

    async def names(self) -> Collection[str]:
        return set(self.queues)


class InMemoryMailSender:
    """MailSender into a list."""

    def __init__(self) -> None:
        self.sent: list[Mail] = []

    async def send(self, mail: Mail) -> None:
        self.sent.append(mail)
