"""HTTP/1.1 requests to one origin, for large bodies: bytes are received directly into the buffers from which they are
used.

HTTP libraries copy a body once or twice, which is most of the cost of a download through the gateway besides
verification. Only features that S3 uses are implemented: no redirects, no cookies, no compression.
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
from runtime.pool import Pool, Share
from syncline.model.blocks import KIB

_CONNECT_SECONDS: Final = 5
_HEADER_SECTION_BYTES: Final = 32 * KIB
"""Maximum size of the header section of an answer in bytes; S3's have less than one KiB."""
_REFUSAL_BYTES: Final = 64 * KIB
"""Maximum size in bytes of the body of an error answer."""
_SCRATCH_BYTES: Final = 4 * KIB
"""Size in bytes of the buffer that header sections are received into. Bytes of a body that arrive with them are copied.
"""


class BodyTooLarge(Exception):
    """The body of an answer is larger than the caller of `Origin.request` allows."""


class BadAnswer(ConnectionError):
    """The peer has sent invalid HTTP."""


@dataclass(frozen=True, slots=True)
class RawResponse:
    """An answer of the server: the status, the date, and the whole body in consecutive parts."""

    status: int
    body: Sequence[memoryview]
    date: str = ""
    """The Date header: the time of the answer by the server's clock."""


class Origin:
    """Sends HTTP requests to one scheme, host and port over persistent connections, of which at most `connections` are
    open at the same time. Callers share them fairly: one caller alone gets half.
    """

    def __init__(self, url: str, *, connections: int, memory: Segments, tls: ssl.SSLContext | None = None) -> None:
        """`url` is any URL of the origin. `memory` has the segments into which bodies are received. `tls` has the
        trusted certificates; by default those of the system.
        """
        parts = urlsplit(url)
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._netloc = parts.netloc
        self._host = parts.hostname or ""
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._memory = memory
        self._connections = Pool("storage_connections", connections, counted=True, refuses=False)
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in self._idle:
            connection.abort()

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        share: Share,
        body: bytes = b"",
        most: int,
        silence: float,
    ) -> RawResponse:
        """Send a request, which must be idempotent, and return the complete answer.

        - `url` is a percent-encoded URL of this origin.
        - `share` is charged for a connection until the answer is complete. The request waits until it may have one.
        - `most` is the maximum size in bytes of the body of a successful answer.
        - `silence` is the number of seconds without a byte after which the request fails; it may take twice as long.

        Raise OSError if no complete answer arrives, and BodyTooLarge if a successful body exceeds `most`. If a
        connection that was open before breaks without a byte of the answer, the request is sent again on another one:
        the server may just have closed the idle connection.
        """
        lines = [f"{method} {url.removeprefix(self._base)} HTTP/1.1", f"host: {self._netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"content-length: {len(body)}")
        header_section = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
        async with self._connections.lent(1, share, patience=None):
            while True:
                kept = self._kept()
                connection = kept or await self._connect()
                try:
                    answer = await connection.ask(header_section, body, _Incoming(self._memory, most), silence)
                except ConnectionError:
                    connection.abort()
                    if kept is None or connection.heard:
                        raise
                    continue  # the peer closed the idle connection just when it was used again
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
    """One connection, which sends one request at a time and receives the answer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._incoming: _Incoming | None = None
        self._answered: asyncio.Future[RawResponse] | None = None
        self._transport: asyncio.Transport
        self._watch: asyncio.TimerHandle
        self._silent = True
        self.heard = False
        """True if any byte of the present answer has arrived."""
        self.reusable = True
        """True if another request may be sent on this connection."""

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    async def ask(self, header_section: bytes, body: bytes, incoming: _Incoming, silence: float) -> RawResponse:
        """Send a request, which consists of `header_section` and `body`. Receive the answer into `incoming`, and return
        it. `silence` and the errors are those of Origin.request. Raise ConnectionResetError if the connection was
        closed before.
        """
        self.heard, self._silent = False, True
        if self._transport.is_closing():  # the transport is closing and has not reported it yet
            raise ConnectionResetError("the connection was closed")
        self._incoming, self._answered = incoming, self._loop.create_future()
        self._watch = self._loop.call_later(silence, self._listen, silence)
        try:
            self._transport.write(header_section)
            if body:
                self._transport.write(body)
            return await self._answered
        finally:
            self._watch.cancel()
            incoming.let_go()
            self._incoming = self._answered = None

    def _listen(self, silence: float) -> None:
        """Let the present request fail after `silence` seconds without a byte. One repeating timer is used, which is
        cheaper than a new timer for each piece, so that it may take twice as long.
        """
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
        """Record that the connection is open, and keep its transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that the connection is closed, and end the pending answer."""
        self.reusable = False
        self._end(exc if isinstance(exc, OSError) else ConnectionResetError("the connection was closed"))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 # asyncio's
        """Return the memory into which the next bytes go."""
        rest = self._incoming.rest if self._incoming else None
        return rest or self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Process `nbytes` bytes in the memory that `get_buffer` returned."""
        incoming = self._incoming
        if incoming is None or incoming.complete:  # unsolicited bytes
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
                # If the answer came before the request was sent completely, the rest of the request would be taken for
                # the next one.
                self.reusable = incoming.keeps and not self._transport.get_write_buffer_size()
                self._end(RawResponse(incoming.status, incoming.parts, incoming.date))


class _Incoming:
    """An answer that is being received. Its header section is parsed; the bytes of a body with a known length are only
    counted.
    """

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
        """The memory for the part of the body that comes next, if the length of the body is known; None during the
        header section and for a chunked body.
        """
        self.complete = False
        self.keeps = False
        """True if the server keeps the connection open after this answer."""

    def filled(self, size: int) -> None:
        """Record that `size` bytes have arrived in `rest`."""
        assert self.rest is not None
        self._size += size
        self.rest = self.rest[size:] or self._next()
        self.complete = self.rest is None

    def _next(self) -> memoryview | None:
        """Return memory for the next part of the body; None if the body is complete."""
        assert self._length is not None
        left = self._length - self._size
        if left == 0:
            return None
        # A part that does not fill a segment gets memory of its own size, so that no answer holds more than its body
        # needs.
        part = self._memory.take() if left >= SEGMENT_BYTES else memoryview(bytearray(left))
        self.parts.append(part)
        return part

    def feed(self, data: memoryview) -> None:
        """Parse bytes that arrive while there is no `rest`. Raise BadAnswer for invalid HTTP, and BodyTooLarge for a
        body above the limit.
        """
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fault = self._fault or BadAnswer(str(error))
        if not self.status:
            self._fed += len(data)
            if self._fed > _HEADER_SECTION_BYTES:
                self._fault = BadAnswer("the header section of an answer has no end")
        if self._fault is not None:
            raise self._fault

    def let_go(self) -> None:
        """Break the reference cycle between the parser and this object, which would keep the parts in memory."""
        del self._parser

    # -- as httptools calls them

    def on_header(self, name: bytes, value: bytes) -> None:
        """Callback of the parser for a header."""
        if name.lower() == b"content-length":
            self._length = int(value)
        elif name.lower() == b"date":
            self.date = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Callback of the parser for the end of the header section."""
        if self.complete:
            self._fault = BadAnswer("more than one answer")
            return
        status = self._parser.get_status_code()
        if status < HTTPStatus.OK:  # an interim 1xx response
            self._length = None
            return
        self.status = status
        self.keeps = self._parser.should_keep_alive()
        if status >= HTTPStatus.BAD_REQUEST:
            self._most = _REFUSAL_BYTES
        if self._length is not None and self._may_have(self._length):
            self.rest = self._next()

    def on_body(self, data: bytes) -> None:
        """Callback of the parser for bytes of the body: those that came with the header section, or all of a chunked
        body.
        """
        if self._fault is not None:
            return
        if self.rest is not None:
            self.rest[: len(data)] = data
            self.filled(len(data))
        elif self._may_have(self._size + len(data)):
            self.parts.append(memoryview(data))
            self._size += len(data)

    def on_message_complete(self) -> None:
        """Callback of the parser for the end of the answer."""
        self.complete = self.status != 0

    def _may_have(self, size: int) -> bool:
        if size > self._most:
            error = BodyTooLarge if self.status < HTTPStatus.BAD_REQUEST else BadAnswer
            self._fault = error(f"a body of {size} bytes, not {self._most}")
        return self._fault is None
