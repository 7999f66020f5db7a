"""Bodies of requests and answers. They are transferred on the event loop, so that no worker waits for a client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import Receive

from runtime.interruption import ClientGone, Interruption
from syncline.model.chunking import Cut

Step = Callable[[], Awaitable[None]]
"""Coroutine function without arguments. A generator that runs in a worker yields a `Step`; the event loop awaits it,
and a worker resumes the generator afterwards.
"""


class Incoming:
    """The body of an upload. The body is read from the client into the buffer of a chunker, for as long as the sender
    has the right to write.
    """

    def __init__(self, receive: Receive, ending: Interruption, *, first: int, more: Step) -> None:
        """`receive` returns the next ASGI message of the client, and `ending` interrupts the upload when the sender's
        right ends.

        `more` is awaited once, before more than `first` bytes are held in memory, in order to take further memory.
        """
        self._receive = receive
        self._ending = ending
        self._first = first
        self._more: Step | None = more
        self._rest = memoryview(b"")
        self._last = False

    async def fill(self, cut: Cut) -> None:
        """Read from the body into the buffer of the chunker `cut` until the buffer is full, or the body has ended.
        Raise ClientGone if the client disconnects before the end of the body, and the error of the interruption if the
        sender's right has ended.
        """
        while not cut.ended and len(cut.room):
            if not self._rest and not self._last:
                with self._ending.interrupting():
                    message = await self._receive()
                if message["type"] != "http.request":
                    raise ClientGone
                self._last = not message.get("more_body", False)
                self._rest = memoryview(message.get("body", b""))
            if not self._rest and not self._last:
                continue
            if self._more is not None and len(cut.held) + len(self._rest) > self._first:
                await self._more()
                self._more = None
            count = min(len(cut.room), len(self._rest))
            cut.room[:count] = self._rest[:count]
            cut.fill(count)
            self._rest = self._rest[count:]
