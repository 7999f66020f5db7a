"""The end of streams when a process is about to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from core.errors import Draining

T = TypeVar("T")


class Drain:
    """Ends streams when the process is about to stop.

    `runtime.server` lets every method whose handler is an async generator pass through `until`, so that handlers need
    not know of it: a stream ends with OK only if its handler has ended it.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._waiting: set[asyncio.Task[Any]] = set()
        """Tasks that wait for the next item of a stream."""
        self._interrupted: set[asyncio.Task[Any]] = set()
        """Those of them that draining has cancelled."""

    @property
    def draining(self) -> bool:
        """Whether draining has begun."""
        return self._event.is_set()

    def begin(self) -> None:
        """End all streams, those that wait for their next item at once and the others when they do."""
        self._event.set()
        for task in self._waiting:
            self._interrupted.add(task)
            task.cancel()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for draining to begin, at most `seconds`; returns whether it has."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True

    async def until(self, items: AsyncIterable[T]) -> AsyncIterator[T]:
        """Yield `items` until they end; Draining, and never a quiet end, once draining has begun.

        An item under way at that moment is dropped, one that has been yielded is not interrupted.
        """
        source = aiter(items)
        while True:
            try:
                with self._interrupting():
                    item = await anext(source)
            except StopAsyncIteration:
                return
            yield item

    @contextmanager
    def _interrupting(self) -> Iterator[None]:
        """Raise Draining in place of what draining cancels in this block, as asyncio.timeout does; no task is made."""
        if self.draining:
            raise Draining
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)
            if task in self._interrupted:
                self._interrupted.discard(task)
                if task.uncancel() <= before:  # else the client has cancelled the call as well
                    raise Draining from None
