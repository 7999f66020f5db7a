"""Threads that wait for what the event loop does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

T = TypeVar("T")

_LOOK_SECONDS: Final = 0.5
"""Seconds between looks of a waiting thread whether the event loop still runs."""


class LoopStopped(Exception):
    """The process ends, and what a thread waits for will not be done any more."""


def wait(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """Return the result of `work`, which runs on the event loop. For a thread, with the errors of `outcome`."""
    return outcome(asyncio.run_coroutine_threadsafe(work, loop), loop)


def outcome(work: Future[T], loop: asyncio.AbstractEventLoop) -> T:
    """Return the result of work on the event loop, when it is done. For a thread.

    Raise LoopStopped if the loop does not run any more: a process does not end as long as a thread waits. All work
    must have an end of its own.
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
