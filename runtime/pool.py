"""Something of which a process has only so much, bytes of memory or threads, shared fairly among callers and networks.

A holder may have as much as it leaves free for others (the dynamic thresholds of shared-memory switches, Choudhury and
Hahne 1998): one caller alone gets half, two get a third each, and n get 1/(n+1) each, so that whoever comes next finds
something. All callers of one network together may have NETWORK_FACTOR times as much as they leave free, and of
these who hold something already HOLDERS_FACTOR times as much, since colleagues share a network. A request
of at most 1/1024 of what is free is granted whatever its caller holds, unless somebody waits. In a pool of counted
things no request is that small.
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
"""One network alone gets 4/5: people behind one address are many."""
HOLDERS_FACTOR: Final = 3
"""The callers of one network who hold something already get 3/4, so that a colleague who comes next finds something."""
_TINY: Final = 1024
"""A request of at most 1/1024 of what is free counts as tiny."""
_KEPT_FREE: Final = 6
"""For requests of up to 1/6 of the total, what comes free is kept until there is enough. A larger one has to find it,
so that nobody stops all others by waiting for very much."""
MAX_WAITING: Final = 128
"""Requests of one caller that wait for one pool; more are refused at once."""
MAX_WAITING_OF_NETWORK: Final = 1024
"""The same of all callers of one network."""
PATIENCE_SECONDS: Final = 20.0

REFUSED: Final = prometheus_client.Counter(
    "syncline_pool_refused", "Requests that were refused since a shared pool had nothing left for them.", ["pool"]
)


class TooMuchAtOnce(SynclineError):
    """Too much is asked for at once; try again in a few seconds."""

    reason = "TOO_MUCH_AT_ONCE"
    kind = Kind.EXHAUSTED
    pause_seconds = 5.0


@dataclass(frozen=True, slots=True)
class Share:
    """On whose account something is taken: who asks (a person or a public link), and from which network."""

    caller: str
    network: str

    @classmethod
    def alone(cls, caller: str) -> Share:
        """A caller whose network is not known, or a network whose caller is not: one name stands for both."""
        return cls(caller, caller)


@dataclass(eq=False, slots=True)
class _Waiter:
    """A request that is not served yet."""

    size: int
    share: Share
    round: int
    number: int
    turn: asyncio.Future[None] = field(repr=False)


class Pool:
    """A shared quantity, for one event loop (not thread-safe).

    The caller who holds least is served first, where what the whole network holds counts, too, for a part of
    1/NETWORK_FACTOR; those who hold the same take turns.
    """

    def __init__(self, name: str, total: int, *, counted: bool = False) -> None:
        """`counted` is true of things that are taken one by one, of which none is tiny, however many are free."""
        self._name = name
        self._counted = counted
        self._total = total
        self._free = total
        self._held: Counter[str] = Counter()
        """The amount that each caller and each network holds, by `_names`, whose prefixes tell the two apart."""
        self._waiting: dict[str, deque[_Waiter]] = {}
        """The waiting requests of each caller, in order of arrival."""
        self._waiting_of_network: Counter[str] = Counter()
        self._came = 0
        self._round = 0
        """The turn that is being served (start-time fair queueing): who waits with n requests waits for n turns."""

    def free(self) -> int:
        """The amount that is not in use."""
        return self._free

    def taken(self) -> int:
        """The amount that is in use."""
        return self._total - self._free

    def try_take(self, size: int, share: Share) -> bool:
        """Take `size` if that is free, `share` may have it, and nobody waits who may have something too."""
        if not self._fits(size) or not self._may(size, share) or self._first() is not None:
            return False
        self._grant(size, share)
        return True

    async def take(self, size: int, share: Share, *, patience: float | None = PATIENCE_SECONDS) -> None:
        """Take `size`, waiting until it is free. A size above the total waits until nothing else is taken.

        TooMuchAtOnce after `patience` seconds (None: never), or if MAX_WAITING requests of the caller wait already, or
        MAX_WAITING_OF_NETWORK of its network.
        """
        if self.try_take(size, share):
            return
        queue = self._waiting.get(share.caller, deque())
        if len(queue) >= MAX_WAITING or self._waiting_of_network[share.network] >= MAX_WAITING_OF_NETWORK:
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
        """Give back `size`: all of what was taken, or a part."""
        self._free += size
        for name in _names(share):
            self._held[name] -= size
            if not self._held[name]:
                del self._held[name]
        self._serve()

    @asynccontextmanager
    async def lent(self, size: int, share: Share, *, patience: float | None = PATIENCE_SECONDS) -> AsyncIterator[None]:
        """Take `size` for as long as the context lasts; see `take`."""
        await self.take(size, share, patience=patience)
        try:
            yield
        finally:
            self.give(size, share)

    def _fits(self, size: int) -> bool:
        return size <= self._free or self._free == self._total

    def _may(self, size: int, share: Share) -> bool:
        """True if `share` leaves enough free for others."""
        if not self._counted and size <= self._free // _TINY:
            return True
        left = self._free - size
        caller, network = (self._held[name] for name in _names(share))
        factor = HOLDERS_FACTOR if caller else NETWORK_FACTOR
        return (not caller or caller + size <= left) and (not network or network + size <= factor * left)

    def _first(self) -> _Waiter | None:
        """The next waiter of those that may have what they wait for, which may not be free yet."""
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
            return  # cancelled, and passed over before its own task heard of that
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
        """The error to raise after `try_take` returned False; it is counted in the metric."""
        REFUSED.labels(self._name).inc()
        return TooMuchAtOnce(text)


def _names(share: Share) -> tuple[str, str]:
    return f"caller {share.caller}", f"network {share.network}"
