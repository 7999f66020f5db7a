"""Bodies of requests and answers. They move on the event loop, and no worker waits for a client meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import Receive

from runtime.interruption import Interruption
from syncline.model.chunk import Cut

Step = Callable[[], Awaitable[None]]
"""Work that the event loop does for a request before a worker goes on with it."""


class ClientGone(Exception):
    """The client has gone before the request or the answer was complete."""


class Incoming:
    """Feeds the body of an upload to a chunker, as long as the sender's right lasts."""

    def __init__(self, receive: Receive, ending: Interruption, *, first: int, more: Step) -> None:
        """`ending` interrupts the upload when the sender's right ends.

        `more` is done once, before more than `first` bytes are held in memory.
        """
        self._receive = receive
        self._ending = ending
        self._first = first
        self._more: Step | None = more
        self._rest = memoryview(b"")
        self._last = False

    async def fill(self, cut: Cut) -> None:
        """Fill all room, or what of it comes until the end. Raise ClientGone if there is no end, or what `ending`
        raises.
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
