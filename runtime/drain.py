"""Ending of streams when a process is about to stop."""

from __future__ import annotations

import asyncio

from runtime.interruption import Interruption
from syncline.model.errors import Draining


class Drain(Interruption):
    """Ends streams when the process is about to stop.

    `runtime.rpc.server` passes the results of every async-generator handler through `until`, so that handlers need no
    code for draining. A stream that the process ends has the error Draining; only its handler ends a stream with OK.
    """

    def __init__(self) -> None:
        super().__init__()
        self._event = asyncio.Event()

    @property
    def draining(self) -> bool:
        """True once `begin` was called: the process is about to stop."""
        return self._event.is_set()

    def begin(self) -> None:
        """End all streams with the error Draining: a stream whose handler is waiting ends at once, and any other stream
        when its handler next waits.
        """
        self._event.set()
        self.interrupt(Draining())

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until draining begins, and return True. Return False if it has not begun after `seconds`; None waits
        without a limit.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True
