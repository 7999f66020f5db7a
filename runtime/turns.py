"""Turns on the event loop: bulk work of one caller yields to all other callers. A turn is the permission to run one
slice of work.

Long work is done in slices of about a millisecond, and waits for a turn before each:

    for some in slices(mutations):
        await turn(user)
        ...

One slice runs in every REST_ROUNDS rounds of the event loop, beside work that is not bulk. A short call takes some ten
rounds, and so meets one slice instead of one in each round. An idle loop passes through REST_ROUNDS rounds within
microseconds, so that bulk work waits only for other work.

Turns are round-robin over the waiting callers, so that a caller with a hundred requests gets no more turns than a
caller with one. The turns of one key are round-robin over its members.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from runtime.fair_queue import FairQueue

T = TypeVar("T")

SLICE_ITEMS: Final = 100
"""Number of mutations, or nodes, that are processed in one turn."""
REST_ROUNDS: Final = 10
"""Number of rounds of the event loop between two turns of bulk work."""


async def slices(items: Sequence[T], key: str, *, size: int = SLICE_ITEMS) -> AsyncIterator[Sequence[T]]:
    """Yield all items in order, `size` at a time, with a turn before each slice; items that fit into one slice need no
    turn.
    """
    for at in range(0, len(items), size):
        if len(items) > size:
            await turn(key)
        yield items[at : at + size]


async def turn_for(count: int, key: str) -> None:
    """Wait for a turn to process `count` items at once, unless they fit into one slice."""
    if count > SLICE_ITEMS:
        await turn(key)


async def turn(key: str) -> None:
    """Wait for a turn of bulk work on the running event loop. `key` is the account that the turn is charged to: a
    person, or a space.
    """
    await _of_loop(_bulk, REST_ROUNDS).granted(key, "")


def granted(key: str, member: str = "") -> asyncio.Future[None]:
    """Return a future that is done when a request of `key` (a network) and its `member` (a person) may start.
    Cancelling the future removes the request from the queue. In each round of the running event loop one request
    starts.
    """
    return _of_loop(_requests, 1).granted(key, member)


class _Turns:
    """Turns on one event loop, at most one in each `rounds` rounds."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._waiting = FairQueue()
        self._rest = 0
        """Number of rounds before the next turn."""
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
        """Grant one turn, unless fewer than `rounds` rounds have passed since the last one. Runs in each round until no
        request waits.
        """
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
    """Return the turns of the running event loop."""
    loop = asyncio.get_running_loop()
    found = turns.get(loop)
    if found is None:
        found = turns[loop] = _Turns(rounds)
    return found
