"""A limited resource of a process, such as memory or threads, shared fairly among callers and networks.

A caller may have as much as it leaves free for others (the dynamic thresholds of shared-memory switches, Choudhury and
Hahne 1998): one caller alone gets half, two get a third each, and n get 1/(n+1) each, so that the next caller always
finds some. The limits are:

- A caller may have as much as it leaves free.
- All callers of one network together may have NETWORK_FACTOR times as much as they leave free.
- Those callers of a network who already have something may have HOLDERS_FACTOR times as much together, so that their
  colleagues in the same network find some.
- A request of at most 1/1024 of the free amount is granted whatever its caller has, unless another request waits. In a
  pool that counts things, such as connections, no request is that small.
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
"""Factor for one network: if no other network uses the pool, it gets 4/5, because many people may share one address."""
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
"""Maximum number of waiting requests of all callers of one network in one pool; further ones are refused at once."""
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
    """The account to which an amount that is taken from a pool is charged: a caller (a person or a public link), and
    the network that the caller uses.
    """

    caller: str
    network: str

    @classmethod
    def alone(cls, caller: str) -> Share:
        """Return a share with `caller` as the name of both the caller and its network, because one of the two is
        unknown.
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
    """A limited amount (of bytes, connections or threads, for example) that callers take from and return to. For one
    event loop (not thread-safe).

    The waiting caller who holds least is served first; the amount of the caller's network counts as well, divided by
    NETWORK_FACTOR. Callers who hold the same take turns.
    """

    def __init__(self, name: str, total: int, *, counted: bool = False, refuses: bool = True) -> None:
        """- `name` is the label of the pool in the metric, and `total` the whole amount.
        - `counted` is True if the pool counts things, such as connections, rather than bytes. A request of at most
          1/1024 of the free amount is then not granted beyond the limits.
        - `refuses` is False if a request waits however many others wait. This is for requests whose number is limited
          by something that each has taken before.
        """
        self._name = name
        self._refuses = refuses
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
        """The number of the round in which waiting requests are served now (start-time fair queueing). A round has at
        most one request of each caller.
        """

    def free(self) -> int:
        """Return the amount that is free."""
        return self._free

    def taken(self) -> int:
        """Return the amount that is in use."""
        return self._total - self._free

    def try_take(self, size: int, share: Share) -> bool:
        """Take the amount `size` for `share` and return True. Take nothing and return False in these cases:

        - less than `size` is free;
        - `share` would exceed its limit;
        - a waiting request is to be served before.
        """
        if not self._fits(size) or not self._may(size, share) or self._first() is not None:
            return False
        self._grant(size, share)
        return True

    async def take(self, size: int, share: Share, *, patience: float | None = PATIENCE_SECONDS) -> None:
        """Take the amount `size` for `share`, after waiting until it is free and within the limit of `share`. A size
        above the total waits until nothing else is taken.

        Raise TooMuchAtOnce, and take nothing, after waiting for `patience` seconds (None: without a limit). Raise it at
        once, in a pool that refuses, if MAX_WAITERS requests of the caller, or MAX_NETWORK_WAITERS of its network,
        already wait.
        """
        if self.try_take(size, share):
            return
        queue = self._waiting.get(share.caller, deque())
        if self._refuses and (
            len(queue) >= MAX_WAITERS or self._waiting_of_network[share.network] >= MAX_NETWORK_WAITERS
        ):
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
        """Return the amount `size`, which was taken for `share`, to the pool: all that was taken, or a part of it."""
        self._free += size
        for name in _names(share):
            self._held[name] -= size
            if not self._held[name]:
                del self._held[name]
        self._serve()

    @asynccontextmanager
    async def lent(self, size: int, share: Share, *, patience: float | None = PATIENCE_SECONDS) -> AsyncIterator[None]:
        """Context manager that takes the amount `size` for `share`, as `take` does with the same arguments and errors,
        and returns it to the pool at the end.
        """
        await self.take(size, share, patience=patience)
        try:
            yield
        finally:
            self.give(size, share)

    def _fits(self, size: int) -> bool:
        return size <= self._free or self._free == self._total

    def _may(self, size: int, share: Share) -> bool:
        """Return True if `share` would stay within its limits after taking `size`, which the module describes."""
        if not self._counted and size <= self._free // _TINY:
            return True
        left = self._free - size
        caller, network = (self._held[name] for name in _names(share))
        factor = HOLDERS_FACTOR if caller else NETWORK_FACTOR
        return (not caller or caller + size <= left) and (not network or network + size <= factor * left)

    def _first(self) -> _Waiter | None:
        """Return the waiting request to serve next; None if there is none. Only requests that are within the limits of
        their share count; the requested amount need not be free yet.
        """
        candidates = [
            first
            for first in (queue[0] for queue in self._waiting.values())
            if self._may(first.size, first.share) and (self._fits(first.size) or first.size * _KEPT_FREE <= self._total)
        ]
        return min(candidates, key=self._rank, default=None)

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
        """Return the error to raise after `try_take` has returned False, and count the refusal in the metric. `text`
        tells people the reason; an empty one stands for the default text of TooMuchAtOnce.
        """
        REFUSED.labels(self._name).inc()
        return TooMuchAtOnce(text)


def _names(share: Share) -> tuple[str, str]:
    return f"caller {share.caller}", f"network {share.network}"
