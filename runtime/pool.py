"""A limited resource of a process, such as memory or threads, shared fairly among callers and networks.

A holder may have as much as it leaves free for others (the dynamic thresholds of shared-memory switches, Choudhury and
Hahne 1998): one caller alone gets half, two get a third each, and n get 1/(n+1) each, so that the next caller always
finds some. All callers of one network together may have NETWORK_FACTOR times as much as they leave free; those of them
who already hold something, HOLDERS_FACTOR times as much, since colleagues share a network. A request of at most 1/1024
of the free amount is granted whatever its caller holds, unless another request waits. In a pool of counted things no
request is that small.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import prometheus_client

from syncline.model.errors import Kind, SynclineError

NETWORK_FACTOR: Final = 4
"""Factor for one network: if no other network uses the pool, it gets 4/5, since many people may share one address."""
HOLDERS_FACTOR: Final = 3
"""Factor for the callers of one network who already hold a part of the pool: they get 3/4 in total, so that the next
caller of that network finds some.
"""
_TINY: Final = 1024
"""Divisor: a request of at most 1/1024 of the free amount counts as tiny, and is granted whatever its caller holds."""
_KEPT_FREE: Final = 6
"""Divisor: for a waiting request of up to 1/6 of the total, freed amounts are kept until they suffice. A larger request
is served only when enough happens to be free, so that one large request does not block all others.
"""
MAX_WAITERS: Final = 128
"""Maximum number of waiting requests of one caller in one pool; further ones are refused at once."""
MAX_NETWORK_WAITERS: Final = 1024
"""Maximum number of waiting requests of all callers of one network in one pool."""
PATIENCE_SECONDS: Final = 20.0

REFUSED: Final = prometheus_client.Counter(
    "syncline_pool_refused", "Requests that were refused because a shared pool was exhausted.", ["pool"]
)


class TooMuchAtOnce(SynclineError):
    """Too many requests are in progress at once; try again in a few seconds."""

    reason = "TOO_MUCH_AT_ONCE"
    kind = Kind.EXHAUSTED
    pause_seconds = 5.0


@dataclass(frozen=True, slots=True)
class Share:
    """The account that a taken amount is charged to: the caller (a person or a public link) and its network."""

    caller: str
    network: str

    @classmethod
    def alone(cls, caller: str) -> Share:
        """Return a share of a caller whose network is unknown, or of a network whose caller is unknown: one name stands
        for both.
        """
        return cls(caller, caller)


@dataclass(eq=False, slots=True)
class _Waiter:
    """A request for an amount that waits until it is granted."""

    size: int
    share: Share
    round: int
    number: int
    turn: asyncio.Future[None] = field(repr=False)


class Pool:
    """An amount (of bytes, places or threads) that callers take from and return to, for one event loop (not
    thread-safe).

    The caller who holds least is served first; the amount of the caller's network counts as well, divided by
    NETWORK_FACTOR. Callers who hold the same are served round-robin.
    """

    def __init__(self, name: str, total: int, *, counted: bool = False) -> None:
        """`total` is the whole amount, and `name` the label in the metric. `counted` is True if the unit is a thing,
        such as a connection, rather than a byte: the rule of the module for requests of at most 1/1024 of the free
        amount does not apply then.
        """
        self._name = name
        self._counted = counted
        self._total = total
        self._free = total
        self._held: Counter[str] = Counter()
        """The amount that each caller and each network holds, by the keys of `_names`, whose prefixes distinguish the
        two.
        """
        self._waiting: dict[str, deque[_Waiter]] = {}
        """The waiting requests of each caller, in order of arrival."""
        self._waiting_of_network: Counter[str] = Counter()
        self._came = 0
        self._round = 0
        """The number of the round that is being served (start-time fair queueing): of one caller, each waiting request
        belongs to another round.
        """

    def free(self) -> int:
        """Return the amount that is free."""
        return self._free

    def taken(self) -> int:
        """Return the amount that is in use."""
        return self._total - self._free

    def try_take(self, size: int, share: Share) -> bool:
        """Take `size` if that amount is free, `share` is entitled to it, and no waiting request could be served with
        it; return True if it was taken.
        """
        if not self._fits(size) or not self._may(size, share) or self._first() is not None:
            return False
        self._grant(size, share)
        return True

    async def take(self, size: int, share: Share, *, patience: float | None = PATIENCE_SECONDS) -> None:
        """Take the amount `size`, after waiting until it is free and `share` is entitled to it. A size above the total
        waits until nothing else is taken. Raise TooMuchAtOnce after `patience` seconds (None: never), or if MAX_WAITERS
        requests of the caller, or MAX_NETWORK_WAITERS of its network, already wait.
        """
        if self.try_take(size, share):
            return
        queue = self._waiting.get(share.caller, deque())
        if len(queue) >= MAX_WAITERS or self._waiting_of_network[share.network] >= MAX_NETWORK_WAITERS:
            raise self.refused()
        self._waiting[share.caller] = queue
        self._waiting_of_network[share.network] += 1
        self._came += 1
        turn = max(self._round, queue[-1].round + 1) if queue else self._round
        waiter = _Waiter(size, share, turn, self._came, asyncio.get_running_loop().create_future())
        queue.append(waiter)
        try:
            async with asyncio.timeout(patience):
                await waiter.turn
        except BaseException as error:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self.give(size, share)
            else:
                self._leave(waiter)
                self._serve()
            if isinstance(error, TimeoutError):
                raise self.refused() from None
            raise

    def give(self, size: int, share: Share) -> None:
        """Return `size` to the pool: all or a part of the amount that was taken."""
        self._free += size
        for name in _names(share):
            self._held[name] -= size
            if not self._held[name]:
                del self._held[name]
        self._serve()

    @asynccontextmanager
    async def lent(self, size: int, share: Share, *, patience: float | None = PATIENCE_SECONDS) -> AsyncIterator[None]:
        """Take `size` for the duration of the context; arguments and errors are those of `take`."""
        await self.take(size, share, patience=patience)
        try:
            yield
        finally:
            self.give(size, share)

    def _fits(self, size: int) -> bool:
        return size <= self._free or self._free == self._total

    def _may(self, size: int, share: Share) -> bool:
        """Return True if `share` would leave enough free for others."""
        if not self._counted and size <= self._free // _TINY:
            return True
        left = self._free - size
        caller, network = (self._held[name] for name in _names(share))
        factor = HOLDERS_FACTOR if caller else NETWORK_FACTOR
        return (not caller or caller + size <= left) and (not network or network + size <= factor * left)

    def _first(self) -> _Waiter | None:
        """Return the waiter to serve next among the waiters whose share is entitled to the requested amount, which may
        not be free yet; None if there is no such waiter.
        """
        heads = [
            head
            for head in (queue[0] for queue in self._waiting.values())
            if self._may(head.size, head.share) and (self._fits(head.size) or head.size * _KEPT_FREE <= self._total)
        ]
        return min(heads, key=self._rank, default=None)

    def _rank(self, waiter: _Waiter) -> tuple[float, int, int, int]:
        caller, network = (self._held[name] for name in _names(waiter.share))
        return max(caller, network / NETWORK_FACTOR), caller, waiter.round, waiter.number

    def _serve(self) -> None:
        while (first := self._first()) is not None and self._fits(first.size):
            self._leave(first)
            self._round = max(self._round, first.round)
            if not first.turn.cancelled():
                self._grant(first.size, first.share)
                first.turn.set_result(None)

    def _leave(self, waiter: _Waiter) -> None:
        queue = self._waiting.get(waiter.share.caller)
        if queue is None or waiter not in queue:
            return  # cancelled, and skipped before its own task was resumed
        queue.remove(waiter)
        self._waiting_of_network[waiter.share.network] -= 1
        if not self._waiting_of_network[waiter.share.network]:
            del self._waiting_of_network[waiter.share.network]
        if not queue:
            del self._waiting[waiter.share.caller]

    def _grant(self, size: int, share: Share) -> None:
        self._free -= size
        for name in _names(share):
            self._held[name] += size

    def refused(self, text: str = "") -> TooMuchAtOnce:
        """Return the error to raise after `try_take` returned False, and count it in the metric."""
        REFUSED.labels(self._name).inc()
        return TooMuchAtOnce(text)


def _names(share: Share) -> tuple[str, str]:
    return f"caller {share.caller}", f"network {share.network}"
