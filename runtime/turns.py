"""Turns on the event loop: long work of one caller lets the work of other callers run in between. A turn is the
permission to run one slice of work.

Long work is done in slices of about a millisecond, and waits for a turn before each:

    for some in slices(mutations):
        await turn(user)
        ...

One slice runs in every REST_ITERATIONS iterations of the event loop, beside work that does not wait for turns. A short
call takes some ten iterations, and so is delayed by one slice instead of one in each iteration. An idle loop passes
through REST_ITERATIONS iterations within microseconds, so that long work waits only for other work.

Turns go round the waiting callers, so that a caller with a hundred requests gets no more turns than a caller with one.

A request begins in a turn of its network, and a network whose requests have occupied the event loop rests before its
next turn: for some iterations, in which the requests of others that are in progress go on. Otherwise a network whose
requests take ten milliseconds each would delay each step of everybody else's by as much.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from runtime.fair_queue import FairQueue
from runtime.rests import Rests

T = TypeVar("T")

SLICE_ITEMS: Final = 100
"""Number of mutations, or nodes, that are processed in one turn."""
REST_ITERATIONS: Final = 10
"""Number of iterations of the event loop between two turns of long work."""


async def slices(items: Sequence[T], key: str, *, size: int = SLICE_ITEMS) -> AsyncIterator[Sequence[T]]:
    """Yield all items in order, `size` at a time, and wait for a turn before each of these slices. If all items fit
    into one slice, wait for no turn. `key` is the name of the account that the turns are charged to: a person, or a
    space.
    """
    for at in range(0, len(items), size):
        if len(items) > size:
            await turn(key)
        yield items[at : at + size]


async def turn_for(count: int, key: str) -> None:
    """Wait for a turn to process `count` items at once; do not wait if they fit into one slice. `key` is the name of
    the account that the turn is charged to: a person, or a space.
    """
    if count > SLICE_ITEMS:
        await turn(key)


async def turn(key: str) -> None:
    """Wait for a turn to run one slice of long work on the event loop. `key` is the name of the account that the turn
    is charged to: a person, or a space.
    """
    await _of_loop(_bulk, REST_ITERATIONS).granted(key, "")


def granted(key: str, person: str = "") -> asyncio.Future[None]:
    """Return a future that gets a result when a request of the network `key` and its person `person` may start.
    Cancelling the future removes the request from the queue. One request starts in each iteration of the event loop.
    """
    return _of_loop(_requests, 1).granted(key, person)


async def charged_to(key: str, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, a request of the network `key`, and return its result. The network rests (`runtime.rests`) for the
    time that `work` takes on the event loop.
    """
    return await _of_loop(_requests, 1).rests.charged(key, work)


class _Turns:
    """Turns on one event loop, at most one in `iterations` iterations."""

    def __init__(self, iterations: int) -> None:
        self._iterations = iterations
        self._waiting = FairQueue()
        self._rest = 0
        """Number of iterations of the event loop before the next turn."""
        self._is_called = False
        self.rests = Rests()

    def granted(self, key: str, person: str) -> asyncio.Future[None]:
        future = self._waiting.add(key, person)
        self._call()
        return future

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Grant one turn to a key that has rested, unless the last turn was fewer than `iterations` of the event loop
        ago. The method runs in each iteration while a request waits.
        """
        self._is_called = False
        self.rests.count_iteration()
        self._rest = max(self._rest - 1, 0)
        if not self._rest and (following := self._waiting.take(self.rests.has_rested)) is not None:
            following[1].set_result(None)
            self._rest = self._iterations
        if self._waiting or self._rest:
            self._call()


_OfLoops: TypeAlias = WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns]
_bulk: Final[_OfLoops] = WeakKeyDictionary()
_requests: Final[_OfLoops] = WeakKeyDictionary()


def _of_loop(turns: _OfLoops, iterations: int) -> _Turns:
    """Return the turns of the running event loop from `turns`; add new ones, with `iterations`, if it has none."""
    loop = asyncio.get_running_loop()
    found = turns.get(loop)
    if found is None:
        found = turns[loop] = _Turns(iterations)
    return found
