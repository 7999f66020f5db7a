"""Minimum transfer rates of bodies, in both directions, and bounds on the memory of answers to slow readers.

The body of a request, and the body of its answer, each have a credit of seconds, which begins with some. Waiting for
the client reduces the credit, and each transferred byte increases it by the time that the byte takes at the minimum
rate. A body at the minimum rate therefore continues for ever, and a slower one is aborted when its credit is used up.
The time of our own processing does not count.

A part of an answer stays in memory until the connection has taken it; large answers are charged to the caller. A
handler whose answer is known to become large reserves memory before it makes the answer, because the parts of which the
answer is made take memory as well. Contents have a pool of their own (`content/assemble.py`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.reception import SENDER
from gateway.identity.address import OwnAddress
from runtime.http.connection import ABORT
from runtime.pool import Pool, Share
from syncline.model.blocks import KIB

ACCOUNTED: Final = "syncline.accounted"
"""Key in an ASGI message with a part of a body; the value is True if the memory of the part is already charged to a
pool.
"""
MEMORY: Final = "syncline.answer_memory"
"""Key in the ASGI scope of a request; the value is the AnswerMemory of its answer."""
_SLICE_BYTES: Final = 64 * KIB
"""Maximum number of bytes that a connection may buffer besides its answer: the server's own queue before it signals
back-pressure.
"""


class TooSlow(Exception):
    """The client sends or receives a body more slowly than the minimum rate of transfer."""


class Paced:
    """ASGI middleware that aborts a request whose body or answer is transferred more slowly than a minimum rate, and
    takes memory from a pool for each large part of an answer.

    The application's `receive` and `send` raise TooSlow when the client has been too slow, and `send` raises
    TooMuchAtOnce if the pool has no memory for a part.
    """

    def __init__(self, app: ASGIApp, *, grace: float, rate: int, answers: Pool, own: OwnAddress) -> None:
        """- `rate` is the minimum rate of transfer, in bytes per second.
        - `grace` is the number of seconds that the client may wait in addition: each body begins with this credit, and
          never has more.
        - `answers` is the pool of memory for large parts of answers.
        - `own` determines the network of a request, to which the memory is charged.
        """
        self._app = app
        self._grace = grace
        self._rate = rate
        self._answers = answers
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        incoming, outgoing = Credit(self._grace, self._rate), Credit(self._grace, self._rate)
        memory = scope[MEMORY] = AnswerMemory(self._answers, self._own, scope)
        ended = False
        start: Message | None = None

        async def receiving() -> Message:
            nonlocal ended
            if ended:  # only a disconnect can follow
                return await receive()
            async with incoming.waiting(0):
                message = await receive()
            incoming.earn(len(message.get("body", b"")))
            ended = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            nonlocal start
            if message["type"] != "http.response.body":
                start = message
                return
            if len(message.get("body", b"")) <= _SLICE_BYTES or message.get(ACCOUNTED, False):
                await forward(message)
                return
            await memory.fit(len(message["body"]))
            try:
                view = memoryview(message["body"])
                for at in range(0, len(view), _SLICE_BYTES):
                    await forward({"type": message["type"], "body": view[at : at + _SLICE_BYTES], "more_body": True})
            finally:
                memory.release()
            if not message.get("more_body", False):
                await forward({"type": message["type"], "body": b"", "more_body": False})

        async def forward(message: Message) -> None:
            nonlocal start
            first, start = start, None
            size = len(message.get("body", b""))
            try:
                async with outgoing.waiting(size):
                    if first is not None:
                        await send(first)
                    await send(message)
                    if size and message.get("more_body", False):
                        # The server accepts one part at once, and waits for the connection before the next one.
                        await send({"type": "http.response.body", "body": b"", "more_body": True})
            except TooSlow:
                scope.get(ABORT, lambda: None)()
                raise
            outgoing.earn(size)

        try:
            await self._app(scope, receiving, sending)
        finally:
            memory.release()


class AnswerMemory:
    """The memory for one answer. The pool charges this memory to the sender of the request if a service has accepted
    the sender's credentials before, and otherwise to the network.
    """

    def __init__(self, pool: Pool, own: OwnAddress, scope: Scope) -> None:
        """`own` determines the network of the request, and `scope` is the ASGI scope of the request."""
        self._pool = pool
        self._own = own
        self._scope = scope
        self._size = 0
        """The number of bytes that are taken from the pool."""
        self._share: Share | None = None

    async def reserve(self, size: int) -> None:
        """Take `size` bytes from the pool for an answer that will be made. Bytes that were taken before are returned
        first. Raise TooMuchAtOnce, with nothing taken, if the pool has too little for a while.
        """
        self.release()
        if self._share is None:
            network = self._own.network(Request(self._scope))
            sender: str = self._scope.get(SENDER, _nobody)(self._scope)
            self._share = Share(sender or network, network)
        await self._pool.take(size, self._share)
        self._size = size

    async def fit(self, size: int) -> None:
        """Adjust the taken memory to an answer of `size` bytes: return what it does not need, or take more. Raise
        TooMuchAtOnce, with nothing taken, if the pool has too little for a while.
        """
        if size > self._size:
            await self.reserve(size)
        else:
            self._give(self._size - size)

    def release(self) -> None:
        """Return all memory to the pool."""
        self._give(self._size)

    def _give(self, size: int) -> None:
        if size and self._share is not None:
            self._size -= size
            self._pool.give(size, self._share)


def _nobody(_scope: Scope) -> str:
    return ""


class Credit:
    """The remaining seconds for which the transfer of one body, in one direction, may wait for the client. The credit
    begins with `grace` seconds, and `rate` is the minimum rate in bytes per second.
    """

    def __init__(self, grace: float, rate: int) -> None:
        self._grace = grace
        self._rate = rate
        self._seconds = grace

    def waiting(self, size: int) -> _Waiting:
        """Return an asynchronous context manager for code that waits until the client has transferred `size` bytes. The
        time within it is deducted from the credit. The context manager raises TooSlow when the credit, and the seconds
        that these bytes take at the minimum rate, have passed.
        """
        return _Waiting(self, self._seconds + size / self._rate)

    def charge(self, seconds: float) -> None:
        """Deduct `seconds` of waiting from the credit."""
        self._seconds -= seconds

    def earn(self, size: int) -> None:
        """Add the seconds that `size` transferred bytes take at the minimum rate. The credit never exceeds `grace`."""
        self._seconds = min(self._seconds + size / self._rate, self._grace)


class _Waiting:
    """An asynchronous context manager whose duration is deducted from `credit`, and which raises TooSlow after `most`
    seconds.
    """

    def __init__(self, credit: Credit, most: float) -> None:
        self._credit = credit
        self._timeout = asyncio.timeout(max(most, 0))
        self._began = 0.0

    async def __aenter__(self) -> None:
        self._began = time.monotonic()
        await self._timeout.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        self._credit.charge(time.monotonic() - self._began)
        try:
            await self._timeout.__aexit__(*raised)
        except TimeoutError:
            raise TooSlow from None
