"""An application that a limit refuses each request of, in a process that can delay no further refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from runtime.pool import Share
from runtime.refusals import MAX_DELAYED_REFUSALS, MAX_PAUSE_SECONDS, DelayedRefusals, RefusalRate


class Refusing:
    """Answers health checks, and every other request with the status 429."""

    def __init__(self) -> None:
        self.asked = 0
        """Number of requests that were refused."""
        self.last: Any = None
        """The ASGI scope of the last request that was refused."""
        self._rate = RefusalRate(clock=lambda: 0.0)
        self._over = asyncio.Event()
        self.delayed = DelayedRefusals(self._rate, sleep=self._sleep)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_refused = scope["path"] != "/readyz"
        self.asked += is_refused
        self.last = scope if is_refused else self.last
        headers = [(b"content-length", b"0"), (b"retry-after", b"1")]
        await send({"type": "http.response.start", "status": 429 if is_refused else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    @asynccontextmanager
    async def exhausted(self, network: str) -> AsyncIterator[None]:
        """While the body of the `with` statement runs, no further refusal of `network` can be delayed."""
        while self._rate.pause(network) < MAX_PAUSE_SECONDS:
            pass
        async with asyncio.TaskGroup() as delaying:
            for _ in range(MAX_DELAYED_REFUSALS):
                delaying.create_task(self.delayed.delay(Share.alone(network)))
            await asyncio.sleep(0)  # each task takes its slot, or finds none
            try:
                yield
            finally:
                self._over.set()

    async def _sleep(self, _seconds: float) -> None:
        await self._over.wait()
