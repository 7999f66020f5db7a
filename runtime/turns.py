"""Turns on the event loop: bulk work of one caller yields to everybody else's.

Work that takes long is done in slices of about a millisecond, and waits for a turn before each:

    for some in slices(mutations):
        await turn(user)
        ...

In each round of the event loop one slice runs, beside all that is not bulk. The turns go round the callers that wait,
so a caller with a hundred requests gets no more of them than one with a single request.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

SLICE: Final = 100
"""Mutations, or nodes, that are worked on in one turn."""


async def slices(items: Sequence[T], key: str, *, size: int = SLICE) -> AsyncIterator[Sequence[T]]:
    """All items in order, `size` at a time, with a turn before each; those that are one slice are not bulk."""
    for at in range(0, len(items), size):
        if len(items) > size:
            await turn(key)
        yield items[at : at + size]


async def turn(key: str) -> None:
    """Wait for a turn on the running event loop. `key` says on whose account: a person, or a space."""
    loop = asyncio.get_running_loop()
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = _Turns()
    await turns.turn(key)


class _Turns:
    """The turns of one event loop."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """By key; the key that is served next comes first."""
        self._is_called = False

    async def turn(self, key: str) -> None:
        granted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(granted)
        self._call()
        await granted

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Grant one turn; the next one is granted in the next round of the loop."""
        self._is_called = False
        while self._waiting:
            key, queue = self._waiting.popitem(last=False)
            granted = queue.popleft()
            if queue:
                self._waiting[key] = queue
            if not granted.done():  # else whoever waited has given up
                granted.set_result(None)
                break
        if self._waiting:
            self._call()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()
