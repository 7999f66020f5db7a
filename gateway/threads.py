"""Threads that wait for coroutines on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

T = TypeVar("T")

_LOOK_SECONDS: Final = 0.5
"""Seconds between checks of a waiting thread that the event loop still runs."""


class LoopStopped(Exception):
    """The process is stopping, so the awaited work will not be done."""


def wait(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """Run the coroutine `work` on the event loop `loop`, and return its result to the calling thread. Raise the errors
    of `work`, and LoopStopped as `outcome` does.
    """
    return outcome(asyncio.run_coroutine_threadsafe(work, loop), loop)


def outcome(work: Future[T], loop: asyncio.AbstractEventLoop) -> T:
    """Wait in the calling thread for `work`, which runs on the event loop `loop`, and return its result.

    Raise the errors of `work`, and LoopStopped if the loop does not run any more: a process cannot exit while a thread
    waits. There is no other time limit, so all work has to end by itself.
    """
    while True:
        try:
            return work.result(_LOOK_SECONDS)
        except TimeoutError:
            if work.done():
                return work.result()
            if not loop.is_running():
                work.cancel()
                raise LoopStopped from None
