"""Bodies of requests and answers between the connection, which is the event loop's, and a worker's thread.

Both ways a worker waits until the other side has taken or given what there is: nothing piles up in between.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Receive, Send

from gateway.waiting import wait
from runtime.interruption import Interruption

SILENCE_SECONDS: Final = 60.0
"""A client that gives or takes nothing for so long is gone."""


class ClientGone(Exception):
    """The client has gone before the request or the answer was complete."""


class Incoming:
    """The body of a request, read by one worker, as long as the sender's right stands."""

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop, ending: Interruption) -> None:
        """`ending` is by what the body is not read to its end; a worker that reads on gets its error."""
        self._ending = ending
        self._receive = receive
        self._loop = loop
        self._rest = memoryview(b"")
        self.size = 0
        self.ended = False

    def read_into(self, buffer: memoryview) -> int:
        """Fill the buffer from its beginning; 0 at the end. ClientGone if there is no end."""
        while not self._rest and not self.ended:
            self._rest = memoryview(wait(self._next(), self._loop))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self.size += count
        return count

    async def _next(self) -> bytes:
        try:
            with self._ending.interrupting():
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await self._receive()
        except TimeoutError:
            raise ClientGone from None
        if message["type"] != "http.request":
            raise ClientGone
        self.ended = not message.get("more_body", False)
        return bytes(message.get("body", b""))


class Outgoing:
    """The answer to a request, given by one worker."""

    def __init__(self, send: Send, loop: asyncio.AbstractEventLoop) -> None:
        self._send = send
        self._loop = loop
        self.begun = False

    def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        """The status and the headers."""
        self.begun = True
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self._wait({"type": "http.response.start", "status": status, "headers": raw})

    def write(self, part: bytes, *, more: bool) -> None:
        """A part of the body; ClientGone if nobody takes it."""
        self._wait({"type": "http.response.body", "body": part, "more_body": more})

    def _wait(self, message: dict[str, object]) -> None:
        wait(self._within(message), self._loop)

    async def _within(self, message: dict[str, object]) -> None:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await self._send(message)
        except TimeoutError:
            raise ClientGone from None
