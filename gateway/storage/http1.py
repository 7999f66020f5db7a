"""Requests over HTTP/1.1 to one origin, for large bodies: these go from the socket to where they are used from.

Libraries hand a body over in pieces that they have copied once or twice, and that is most of what a download through us
costs besides verifying it. Only what S3 answers is understood: no redirects, no cookies, no compression.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self, cast
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpResponseParser

from gateway.storage.segments import SEGMENT_BYTES, Segments
from syncline.model.blocks import KIB

_CONNECT_SECONDS: Final = 5
_HEAD_BYTES: Final = 32 * KIB
"""Maximum size of the head of an answer, in bytes; S3's heads have less than one KiB."""
_REFUSAL_BYTES: Final = 64 * KIB
"""Maximum size of the body of an answer that is no success, in bytes."""
_SCRATCH_BYTES: Final = 4 * KIB
"""Size of the buffer into which heads come, in bytes. Bytes of a body that come with a head are copied."""


class BodyTooLarge(Exception):
    """The body of an answer is larger than what was asked for."""


class BadAnswer(ConnectionError):
    """The peer has sent bytes that are no HTTP."""


@dataclass(frozen=True, slots=True)
class RawResponse:
    """A status, and the whole body in parts that lie one after the other."""

    status: int
    body: Sequence[memoryview]
    date: str = ""
    """When it was given, by the clock of the other side, as the header has it."""


class Origin:
    """Connections to one scheme, host and port, kept for the next request; at most `connections` at once."""

    def __init__(self, url: str, *, connections: int, memory: Segments, tls: ssl.SSLContext | None = None) -> None:
        """`url` is any of the origin's. `memory` is for bodies. `tls` says whom to trust: else whom the system does."""
        parts = urlsplit(url)
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._netloc = parts.netloc
        self._host = parts.hostname or ""
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._memory = memory
        self._turns = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in self._idle:
            connection.abort()

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], *, body: bytes = b"", most: int, silence: float
    ) -> RawResponse:
        """The answer, when all of it is there. OSError if there is none, BodyTooLarge.

        Only for what may be repeated: a kept connection that turns out to be closed is not told from one that breaks.
        `url` is one of the origin's, encoded. `most` is what the body of a success may have, in bytes. After `silence`
        seconds without a byte, and not later than after twice as many, no more is waited for.
        """
        lines = [f"{method} {url.removeprefix(self._base)} HTTP/1.1", f"host: {self._netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"content-length: {len(body)}")
        head = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
        async with self._turns:
            while True:
                kept = self._kept()
                connection = kept or await self._connect()
                try:
                    answer = await connection.ask(head, body, _Incoming(self._memory, most), silence)
                except ConnectionError:
                    connection.abort()
                    if kept is None or connection.heard:
                        raise
                    continue  # The peer closed the idle connection just when it was used again.
                except BaseException:
                    connection.abort()
                    raise
                if connection.reusable:
                    self._idle.append(connection)
                else:
                    connection.abort()
                return answer

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        return None

    async def _connect(self) -> _Connection:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, connection = await asyncio.get_running_loop().create_connection(
                _Connection, self._host, self._port, ssl=self._tls
            )
        return connection


class _Connection(asyncio.BufferedProtocol):
    """A connection on which one request at a time is answered."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._incoming: _Incoming | None = None
        self._answered: asyncio.Future[RawResponse] | None = None
        self._transport: asyncio.Transport
        self._watch: asyncio.TimerHandle
        self._silent = True
        self.heard = False
        """True if anything of the answer has come."""
        self.reusable = True
        """True if another request may be sent on this connection."""

    def abort(self) -> None:
        """Break it off."""
        self._transport.abort()

    async def ask(self, head: bytes, body: bytes, incoming: _Incoming, silence: float) -> RawResponse:
        """Send a request; see Origin.request."""
        self.heard, self._silent = False, True
        if self._transport.is_closing():  # The transport has closed and has not told yet.
            raise ConnectionResetError("the connection was closed")
        self._incoming, self._answered = incoming, self._loop.create_future()
        self._watch = self._loop.call_later(silence, self._listen, silence)
        try:
            self._transport.write(head)
            if body:
                self._transport.write(body)
            return await self._answered
        finally:
            self._watch.cancel()
            incoming.let_go()
            self._incoming = self._answered = None

    def _listen(self, silence: float) -> None:
        """Cheaper than a new timer for each piece that comes; so it can take up to twice as long."""
        if self._silent:
            self._end(TimeoutError(f"not a byte for {silence} seconds"))
        self._silent = True
        self._watch = self._loop.call_later(silence, self._listen, silence)

    def _end(self, outcome: RawResponse | Exception) -> None:
        if self._answered is None or self._answered.done():
            return
        if isinstance(outcome, RawResponse):
            self._answered.set_result(outcome)
        else:
            self._answered.set_exception(outcome)

    # -- as asyncio.BufferedProtocol has them

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that the connection is open."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is closed, and end the answer that was waited for."""
        self.reusable = False
        self._end(exc if isinstance(exc, OSError) else ConnectionResetError("the connection was closed"))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 # asyncio's
        """Return the memory into which the next bytes go."""
        rest = self._incoming.rest if self._incoming else None
        return rest or self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of `nbytes` bytes in the memory that `get_buffer` gave."""
        incoming = self._incoming
        if incoming is None or incoming.complete:  # nobody asked for more
            self.reusable = False
            self.abort()
            return
        self.heard, self._silent = True, False
        try:
            if incoming.rest:
                incoming.filled(nbytes)
            else:
                incoming.feed(self._scratch[:nbytes])
        except (BadAnswer, BodyTooLarge) as error:
            self.reusable = False
            self._end(error)
        else:
            if incoming.complete:
                # A request that was answered before all of it was sent would go on into the next.
                self.reusable = incoming.keeps and not self._transport.get_write_buffer_size()
                self._end(RawResponse(incoming.status, incoming.parts, incoming.date))


class _Incoming:
    """An answer on its way. Its head is parsed, and the body that follows it is only counted."""

    def __init__(self, memory: Segments, most: int) -> None:
        self._memory = memory
        self._parser = HttpResponseParser(self)
        self._most = most
        self._length: int | None = None
        self._size = 0
        self._fed = 0
        self._fault: Exception | None = None
        self.status = 0
        self.date = ""
        self.parts: list[memoryview] = []
        self.rest: memoryview | None = None
        """The memory for more of a body whose length is known; None for a head or a chunked body."""
        self.complete = False
        self.keeps = False
        """True if the other side keeps the connection open."""

    def filled(self, size: int) -> None:
        """Note that `size` bytes have come into `rest`."""
        assert self.rest is not None
        self._size += size
        self.rest = self.rest[size:] or self._next()
        self.complete = self.rest is None

    def _next(self) -> memoryview | None:
        """A part for what is still to come."""
        assert self._length is not None
        left = self._length - self._size
        if left == 0:
            return None
        # A part that does not fill a segment has memory of its own, so that nobody holds more than what there is of a
        # body.
        part = self._memory.take() if left >= SEGMENT_BYTES else memoryview(bytearray(left))
        self.parts.append(part)
        return part

    def feed(self, data: memoryview) -> None:
        """Parse bytes that come as long as there is no `rest`. Raise BadAnswer, BodyTooLarge."""
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fault = self._fault or BadAnswer(str(error))
        if not self.status:
            self._fed += len(data)
            if self._fed > _HEAD_BYTES:
                self._fault = BadAnswer("the head of an answer has no end")
        if self._fault is not None:
            raise self._fault

    def let_go(self) -> None:
        """Nothing more comes. The parser and this hold each other, and so the parts, until somebody lets go."""
        del self._parser

    # -- as httptools calls them

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of the headers."""
        if name.lower() == b"content-length":
            self._length = int(value)
        elif name.lower() == b"date":
            self.date = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is there."""
        if self.complete:
            self._fault = BadAnswer("more than one answer")
            return
        status = self._parser.get_status_code()
        if status < HTTPStatus.OK:  # a word in between
            self._length = None
            return
        self.status = status
        self.keeps = self._parser.should_keep_alive()
        if status >= HTTPStatus.BAD_REQUEST:
            self._most = _REFUSAL_BYTES
        if self._length is not None and self._may_have(self._length):
            self.rest = self._next()

    def on_body(self, data: bytes) -> None:
        """Some of the body: what came with the head, or all of it piece by piece."""
        if self._fault is not None:
            return
        if self.rest is not None:
            self.rest[: len(data)] = data
            self.filled(len(data))
        elif self._may_have(self._size + len(data)):
            self.parts.append(memoryview(data))
            self._size += len(data)

    def on_message_complete(self) -> None:
        """Note the end of the answer, as the parser tells it."""
        self.complete = self.status != 0

    def _may_have(self, size: int) -> bool:
        if size > self._most:
            error = BodyTooLarge if self.status < HTTPStatus.BAD_REQUEST else BadAnswer
            self._fault = error(f"a body of {size} bytes, not {self._most}")
        return self._fault is None
