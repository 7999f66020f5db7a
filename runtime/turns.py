"""Turns on the event loop: bulk work of one caller yields to everybody else's.

Work that takes long is done in slices of about a millisecond, and waits for a turn before each:

    for some in slices(mutations):
        await turn(user)
        ...

In one of REST_ROUNDS rounds of the event loop one slice runs, beside all that is not bulk: a call that is not bulk
takes some ten rounds, and meets one slice on its way instead of one in each of them. A loop that has nothing else to do
goes through the rounds of a rest within microseconds, so that bulk work waits only for work of others.

The turns go round the callers that wait, so a caller with a hundred requests gets no more of them than one with a
single request. The turns of one key go round those who share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from runtime.fair_queue import FairQueue

T = TypeVar("T")

SLICE: Final = 100
"""Mutations, or nodes, that are worked on in one turn."""
REST_ROUNDS: Final = 10
"""Rounds of the event loop from one turn of bulk work to the next."""


async def slices(items: Sequence[T], key: str, *, size: int = SLICE) -> AsyncIterator[Sequence[T]]:
    """All items in order, `size` at a time, with a turn before each; those that are one slice are not bulk."""
    for at in range(0, len(items), size):
        if len(items) > size:
            await turn(key)
        yield items[at : at + size]


async def turn(key: str) -> None:
    """Wait for a turn of bulk work on the running event loop. `key` says on whose account: a person, or a space."""
    await _of_loop(_bulk, REST_ROUNDS).granted(key, "")


def granted(key: str, member: str = "") -> asyncio.Future[None]:
    """A future that is done when a request of `key` may begin, and in its turn one of `member`; cancelling it gives the
    turn up.

    In each round of the running event loop one request begins.
    """
    return _of_loop(_requests, 1).granted(key, member)


class _Turns:
    """Turns on one event loop, at most one in `rounds` rounds of it."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._waiting = FairQueue()
        self._rest = 0
        """Rounds that have yet to pass before the next turn."""
        self._is_called = False

    def granted(self, key: str, member: str) -> asyncio.Future[None]:
        future = self._waiting.add(key, member)
        self._call()
        return future

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Grant one turn, unless the rest after the last one is not over; called in each round until all is done."""
        self._is_called = False
        self._rest = max(self._rest - 1, 0)
        if not self._rest and (following := self._waiting.take()) is not None:
            following[1].set_result(None)
            self._rest = self._rounds
        if self._waiting or self._rest:
            self._call()


_OfLoops: TypeAlias = WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns]
_bulk: Final[_OfLoops] = WeakKeyDictionary()
_requests: Final[_OfLoops] = WeakKeyDictionary()


def _of_loop(turns: _OfLoops, rounds: int) -> _Turns:
    """The turns of the running event loop."""
    loop = asyncio.get_running_loop()
    found = turns.get(loop)
    if found is None:
        found = turns[loop] = _Turns(rounds)
    return found
