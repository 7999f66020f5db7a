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
    """Within this context, call each coroutine function in `works` again and again, with a pause of `interval_seconds`
    seconds on average between two calls. The pause varies at random. A failure is logged, and the next call is made all
    the same.
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
