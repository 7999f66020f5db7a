"""Ending of streams from outside: when the process is about to stop, or when a caller's right has ended."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

from syncline.model.errors import SynclineError, TokenExpired, Unavailable
from syncline.model.limits import REVOCATION_SECONDS

T = TypeVar("T")

ASK_SECONDS: Final = 4.0
"""Seconds between two checks of the right with which a stream was opened. A check that gets no answer does not end the
stream; a right that has ended ends the stream within REVOCATION_SECONDS.
"""
REMEMBERED_SECONDS: Final = REVOCATION_SECONDS - ASK_SECONDS - 1.0
"""Seconds for which a service may cache auth's answer that a caller has a right. A stream may be opened with a cached
answer just before the cache drops it; the right is then checked ASK_SECONDS later. REVOCATION_SECONDS is the sum of
REMEMBERED_SECONDS, ASK_SECONDS and one second for the check.
"""


class ClientGone(Exception):
    """The client has disconnected before the request or the answer was complete."""


class Interruption:
    """Raises an error in code that waits within `until` or `interrupting`, as soon as `interrupt` sets the error."""

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._waiting: set[asyncio.Task[Any]] = set()
        """Tasks that are within the body of a `with` statement of `interrupting`."""
        self._interrupted: set[asyncio.Task[Any]] = set()
        """Tasks that the interruption has cancelled."""

    @property
    def error(self) -> Exception | None:
        """The error that `interrupt` has set; None before."""
        return self._error

    def interrupt(self, error: Exception) -> None:
        """Raise `error` in the bodies of all `with` statements of `interrupting`, those that are being executed now and
        those that are entered later.
        """
        self._error = error
        for task in self._waiting:
            self._interrupted.add(task)
            task.cancel()

    async def until(self, items: AsyncIterable[T]) -> AsyncIterator[T]:
        """Yield `items` until they end. At the interruption, raise its error instead of yielding further items.

        If the next item is being awaited at that moment, it is dropped. An item that was yielded before stays with the
        consumer, and the error is raised when the consumer asks for the next one.
        """
        source = aiter(items)
        while True:
            try:
                with self.interrupting():
                    item = await anext(source)
            except StopAsyncIteration:
                return
            yield item

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Context manager: at the interruption, cancel what the current task awaits within the body of the `with`
        statement, and raise the error in place of the cancellation, as asyncio.timeout does. No task is created.
        """
        if self._error is not None:
            raise self._error
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
                if task.uncancel() <= before:  # otherwise the client has cancelled the call as well
                    assert self._error is not None
                    raise self._error from None


@contextmanager
def expiring(expires_at: float) -> Iterator[Interruption]:
    """Context manager that yields an interruption, which raises TokenExpired at `expires_at`, in seconds since 1970, in
    code that waits within it. If `expires_at` is infinite, the interruption never happens.
    """
    interruption = Interruption()
    if math.isinf(expires_at):
        yield interruption
        return
    error = TokenExpired("the access token by which this was opened has expired; get another one and open it again")
    timer = asyncio.get_running_loop().call_later(expires_at - time.time(), interruption.interrupt, error)
    try:
        yield interruption
    finally:
        timer.cancel()


@asynccontextmanager
async def asked_again(
    ask: Callable[[], Awaitable[object]], *, seconds: float = ASK_SECONDS, patience: float = float(REVOCATION_SECONDS)
) -> AsyncIterator[Interruption]:
    """Context manager that yields an interruption, and calls `ask` every `seconds` seconds until the body of the `with`
    statement ends. `ask` checks the caller's right. If it raises an error, the interruption raises this error in code
    that waits within it.

    Some failures of `ask` leave open if the right has ended: Unavailable, the refusal of a limit such as RateExceeded,
    and no answer in time. They interrupt only if there was no other outcome for `patience` seconds.
    """
    interruption, clock = Interruption(), asyncio.get_running_loop().time

    async def asking() -> None:
        answered_at = clock()
        while True:
            await asyncio.sleep(seconds)
            try:
                async with asyncio.timeout_at(answered_at + patience):
                    await ask()
            except Exception as error:
                unanswered = isinstance(error, Unavailable | TimeoutError) or (
                    isinstance(error, SynclineError) and error.slow_down_seconds is not None
                )
                if not unanswered or clock() + seconds >= answered_at + patience:
                    interruption.interrupt(Unavailable() if isinstance(error, TimeoutError) else error)
                    return
            else:
                answered_at = clock()

    task = asyncio.create_task(asking())
    try:
        yield interruption
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
