"""Periodic work in the background of a process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from runtime.logs import structlog
from syncline.model.errors import SynclineError

log = structlog.get_logger()


@asynccontextmanager
async def run_periodically(*works: Callable[[], Awaitable[object]], interval_seconds: float) -> AsyncIterator[None]:
    """Context manager within which each coroutine function in `works` is called again and again, each in a task of its
    own. A pause of `interval_seconds` on average, which varies at random, precedes each call. A failure is logged, and
    the next call is made all the same. The tasks are cancelled at the end of the context.
    """
    tasks = [asyncio.create_task(_repeat(work, interval_seconds)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(work: Callable[[], Awaitable[object]], interval_seconds: float) -> None:
    while True:
        await asyncio.sleep(interval_seconds * (0.5 + random.random()))  # noqa: S311 - not a secret
        try:
            await work()
        except Exception as error:
            log.warning("round_postponed", work=work.__name__, exc_info=not isinstance(error, SynclineError))
