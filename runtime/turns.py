"""Turns on the event loop: bulk work of one caller yields to everybody else's.

Work that takes long is done in slices of about a millisecond, and waits for a turn before each:

    for some in slices(mutations):
        await turn(user)
        ...

In each round of the event loop one slice runs, beside all that is not bulk. The turns go round the callers that wait,
so a caller with a hundred requests gets no more of them than one with a single request. The turns of one key go round
those who share it.
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
    await granted(key)


def granted(key: str, member: str = "") -> asyncio.Future[None]:
    """A future that is done when it is the turn of `key`, and in that of `member`; cancelling it gives the turn up."""
    loop = asyncio.get_running_loop()
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = _Turns()
    return turns.granted(key, member)


class _Turns:
    """The turns of one event loop."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, OrderedDict[str, deque[asyncio.Future[None]]]] = OrderedDict()
        """The futures of waiting callers, by key and by member. In both mappings the next to be served comes first."""
        self._is_called = False

    def granted(self, key: str, member: str) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, OrderedDict()).setdefault(member, deque()).append(future)
        self._call()
        return future

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Grant one turn; the next one is granted in the next round of the loop."""
        self._is_called = False
        while self._waiting:
            future = self._next()
            if not future.done():  # A future that is done belongs to a caller who has given up.
                future.set_result(None)
                break
        if self._waiting:
            self._call()

    def _next(self) -> asyncio.Future[None]:
        """Take out who is served next; its key and member come last from now on."""
        key, members = self._waiting.popitem(last=False)
        member, queue = members.popitem(last=False)
        future = queue.popleft()
        if queue:
            members[member] = queue
        if members:
            self._waiting[key] = members
        return future


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()
