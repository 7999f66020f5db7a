"""HTTP/1.1 for a process that untrusted clients connect to.

- The number of connections is limited.
- The header section of a request has a maximum size and has to arrive in a limited time.
- The memory for input that was received before it is used is limited.
- The parsing of input and the start of requests are shared fairly among networks and people.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, Final, TypeAlias

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from runtime.connection_pool import ConnectionPool
from runtime.http.reading import MAX_PIECE_BYTES, ReadInTurns, Unread
from runtime.pool import Pool, Share, TooMuchAtOnce
from runtime.turns import charged_to, granted

RequestScope: TypeAlias = MutableMapping[str, Any]

SILENT_SECONDS: Final = 75.0
"""Seconds for which a new connection may stay silent; browsers open connections ahead of time."""
MAX_HEADER_SECTION_BYTES: Final = 32 * 1024
"""Maximum size of all headers of a request in bytes, including trailers after a chunked body."""
MAX_HEADERS: Final = 100
MAX_ADDRESS_BYTES: Final = 16 * 1024
"""Maximum size of a request target in bytes, which is more than the longest encoded path."""
MAX_LENGTH_DIGITS: Final = 19
"""Maximum number of digits of Content-Length, leading zeros included. Python refuses to convert thousands of digits,
and the parser accepts any number of zeros.
"""
MAX_PARAMETERS: Final = 200
"""Maximum number of query parameters. No valid request has more, and parsing thousands takes milliseconds."""
MAX_UNSENT_BYTES: Final = 128 * 1024
"""Maximum number of bytes of one connection that the kernel holds and has not sent yet. The bytes that are on their way
are not limited, so that a fast connection loses nothing.
"""
MAX_PIPELINED_REQUESTS: Final = 16
"""Maximum number of pipelined requests of one connection that wait for earlier answers."""
_MAX_LINES_BYTES: Final = MAX_ADDRESS_BYTES + MAX_HEADER_SECTION_BYTES + 4 * MAX_HEADERS + 64
"""Maximum size of a header section on the wire, in bytes, including the separators."""
SMALL_HEADER_SECTION_BYTES: Final = 4 * 1024
"""Maximum size in bytes of the header section of a request that takes nothing from the memory for large ones."""
LARGE_HEADER_SECTIONS_BYTES: Final = 32 * 1024 * 1024
"""Memory for header sections of more than SMALL_HEADER_SECTION_BYTES, of all connections, in bytes. Each of these
header sections takes as much memory as the largest permitted one.
"""
_MAX_FED_BYTES: Final = 4 * 1024
"""Number of bytes that are parsed in one step while each byte may cause a callback of the parser. When a header section
begins within such a step, the bytes of the step do not count towards its size, because they may belong to the request
before.
"""

ABORT: Final = "syncline.abort"
"""Key in the ASGI scope of a request. The value is a function that closes the connection at once and drops unsent data.
"""
CLOSE_AFTER_SENDING: Final = "syncline.close_after_sending"
"""Key in the ASGI scope of a request. The value is a function that sends the data that was written so far and then
closes the connection, because the response will not be completed. The application logs the reason, so uvicorn logs no
error.
"""
RESET: Final = "syncline.reset"
"""Key in the ASGI scope of a request. The value is a function that resets the connection (RST of TCP): data that was
written and that the client has not received yet is dropped, also by the kernel. The application logs the reason.
"""
CLOSE_UNANSWERED: Final = "syncline.close_unanswered"
"""Key in the ASGI scope of a request. The value is a function of a number of seconds. The function closes the
connection at once, without an answer. For these seconds, the connection still counts towards the limit of its network.
A request of a trusted proxy lacks the key: a balancer repeats a request whose connection was closed, and all clients of
the proxy would have one connection less.
"""
_NO_LINGERING: Final = struct.pack("ii", 1, 0)
"""Value of SO_LINGER with which closing a connection resets it, and drops what the kernel has not sent."""
_KEPT_SECONDS: Final = "syncline.kept_seconds"
"""Key in the ASGI scope of a request. The value is the number of seconds for which its connection counts after its end.
"""


class Reception(ABC):
    """The limits that all connections of one listening process share, and the texts of refusals."""

    too_many: ClassVar[HTTPStatus] = HTTPStatus.TOO_MANY_REQUESTS
    """Status of the answer to a connection above the limit."""

    def __init__(self, pool: ConnectionPool, *, unread_bytes: int, header_section_seconds: float) -> None:
        """`pool` counts the connections. `unread_bytes` is the memory for input that no request has consumed. The
        header section of a request has to arrive within `header_section_seconds` of its first byte.
        """
        self.pool = pool
        self.unread = Unread(unread_bytes)
        self.large_headers = Pool("large_heads", LARGE_HEADER_SECTIONS_BYTES)
        self.header_section_seconds = header_section_seconds

    @abstractmethod
    def network(self, scope: RequestScope) -> str:
        """Return the network that the request with this ASGI scope comes from. Requests start in turns, which go round
        the networks, and within each network round its people.
        """

    @abstractmethod
    def person(self, scope: RequestScope) -> str:
        """Return the name of the person who sent the request with this ASGI scope. The next input of the connection is
        parsed in this person's turns. Return an empty text for an unknown client.
        """

    @abstractmethod
    def refusal(self, status: HTTPStatus, detail: str, error: TooMuchAtOnce | None) -> tuple[Mapping[str, str], bytes]:
        """Return the headers and the body of an answer with this status, which the connection sends without the
        application. `detail` says for people what is wrong; `error` is given if a limit of a pool is the reason,
        otherwise None.
        """

    def prepare(self, scope: RequestScope) -> None:  # noqa: B027 # nothing has to be prepared
        """Add the keys that this process needs in the ASGI scope of a request, before the application sees it. Adds
        nothing by default.
        """

    def protocol(self, *args: Any, **kwargs: Any) -> ReadInTurns:
        """Return a protocol for a new connection; the arguments are those that uvicorn passes to protocols."""
        return ReadInTurns(Connection(self, *args, **kwargs), self.unread)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol of one HTTP/1.1 connection, with additional limits on header sections, pipelined requests and
    memory.
    """

    def __init__(self, reception: Reception, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reception = reception
        self._limit: asyncio.TimerHandle | None = None
        self._in_header_section = self._may_have_trailer = self._is_chunked = False
        self._begun = 0
        self._calls = 0
        """Total number of callbacks of the parser."""
        self._fed = self._address_bytes = self._header_bytes = self._headers = 0
        self._refusal: tuple[HTTPStatus, str, TooMuchAtOnce | None] | None = None
        self._is_refused = self._is_admitted = False
        self.share = Share.alone("")
        self._turn: asyncio.Future[None] | None = None
        self._working: RequestResponseCycle | None = None
        """The request that is in progress, or, if none is, the last one."""
        self._is_large = False
        """True if memory was taken from the pool for the header section, or the trailers, that are being parsed."""
        self._with_large_headers: set[RequestResponseCycle] = set()
        """The requests for whose header sections memory was taken."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        pool, peer = self._reception.pool, self.client or ("", 0)
        self.share = pool.share_of(*peer)
        _bound_unsent(transport)
        self._is_admitted = pool.admit(*peer) is not None
        if self._is_admitted:
            self._limit = self.loop.call_later(SILENT_SECONDS, transport.close)
            return
        # The input of a refused connection is not parsed.
        error = pool.refused()
        self._is_refused = True
        self._answer(self._reception.too_many, str(error), error)
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        if self._turn is not None:
            self._turn.cancel()
        if self._is_admitted:
            self._is_admitted = False
            kept = 0.0 if self._working is None else self._working.scope.get(_KEPT_SECONDS, 0.0)
            self._reception.pool.leave(self.share, after_seconds=kept)  # type: ignore[arg-type]  # of ours
        self._give_back(len(self._with_large_headers) + self._is_large)
        self._with_large_headers.clear()
        self._is_large = False
        super().connection_lost(exc)
        # uvicorn would keep the keep-alive timer of a connection that was reset, and the timer keeps everything that it
        # refers to.
        self._unset_keepalive_if_required()
        self.pipeline.clear()
        self.scope = self.headers = self.cycle = self._working = None  # type: ignore[assignment]  # as before the first request

    @property
    def person(self) -> str:
        """The name of the person in whose turns the next input is parsed; empty for an unknown client."""
        return "" if self._working is None else self._reception.person(self._working.scope)  # type: ignore[arg-type]  # of uvicorn

    @property
    def is_full(self) -> bool:
        """True if a pipelined request waits until an earlier request is answered."""
        return bool(self.pipeline)

    @property
    def is_cut_short(self) -> bool:
        """True if the connection was refused, or if its last request was answered before its body had arrived."""
        cycle = self.cycle
        return self._is_refused or (cycle is not None and cycle.response_complete and cycle.more_body)

    def next_size(self) -> int:
        """Return the number of bytes to parse in one step, which is large for the plain bytes of a body."""
        in_body = not self._in_header_section and self.cycle is not None and self.cycle.more_body
        return MAX_PIECE_BYTES if in_body and not self._is_chunked else _MAX_FED_BYTES

    def parse(self, data: memoryview) -> int:
        """Parse `data`, and return the number of callbacks that the parser made. If a limit is exceeded or `data` is no
        HTTP, the refusal is sent and the connection is closed.
        """
        begun, calls = self._begun, self._calls
        self._feed(data)
        # A chunk extension may follow the chunk size; the parser makes no callback for it.
        in_lines = self._in_header_section or self._may_have_trailer or (self._is_chunked and self._calls == calls)
        if in_lines and self._begun == begun and not self._is_refused:
            # the parser makes no callback for an unterminated header, so its bytes are counted here
            self._fed += len(data)
            if self._fed > _MAX_LINES_BYTES:
                detail = f"a header section has at most {MAX_HEADER_SECTION_BYTES} bytes"
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail, None)
            elif (error := self._take_for_headers(self._fed)) is not None:
                self._refuse(self._reception.too_many, str(error), error)
        return self._calls - calls

    def _feed(self, data: memoryview) -> None:
        """Pass `data` to the parser. If it is no HTTP, or a callback has refused the request, send the refusal. A
        request to upgrade the protocol is answered as an ordinary request.
        """
        while data and not self._is_refused:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as error:
                (parsed,) = error.args
                data = data[parsed:]
            except httptools.HttpParserError:
                self._refuse(*(self._refusal or (HTTPStatus.BAD_REQUEST, "this is no HTTP request", None)))
            else:
                return

    def on_message_begin(self) -> None:
        """Callback of the parser for the first byte of a request."""
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self._stop()
        self._in_header_section, self._may_have_trailer, self._is_chunked = True, False, False
        self._begun += 1
        self._calls += 1
        self._fed = self._address_bytes = self._header_bytes = self._headers = 0
        self._limit = self.loop.call_later(self._reception.header_section_seconds, self.transport.close)
        scope: RequestScope = self.scope  # type: ignore[assignment]  # uvicorn says which keys it puts there itself
        scope[ABORT] = self.transport.abort
        self._reception.prepare(scope)

    def on_url(self, url: bytes) -> None:
        """Callback of the parser for a part of the request target. A fragment is invalid here; cutting it off would
        change the address. Raise ValueError for a fragment.
        """
        self._calls += 1
        if b"#" in url:
            raise ValueError("an address with a fragment")
        self._address_bytes += len(url)
        if self._address_bytes > MAX_ADDRESS_BYTES:
            self._stop_at(HTTPStatus.BAD_REQUEST, f"an address has at most {MAX_ADDRESS_BYTES} bytes")
        self._check_memory()
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Callback of the parser for a header, or for a trailer of a chunked body, which is ignored."""
        self._calls += 1
        self._headers += 1
        self._header_bytes += len(name) + len(value)
        if self._headers > MAX_HEADERS or self._header_bytes > MAX_HEADER_SECTION_BYTES:
            detail = f"a request has at most {MAX_HEADERS} headers, of {MAX_HEADER_SECTION_BYTES} bytes together"
            self._stop_at(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        if self._in_header_section:
            self._check_memory()
            super().on_header(name, value)
            self._is_chunked |= self.headers[-1][0] == b"transfer-encoding"

    def on_headers_complete(self) -> None:
        """Callback of the parser for the end of the header section."""
        self._stop()
        self._in_header_section = False
        if self.url.partition(b"?")[2].count(b"&") >= MAX_PARAMETERS:
            self._stop_at(HTTPStatus.BAD_REQUEST, f"an address has at most {MAX_PARAMETERS} parameters")
        has_body = False
        for name, value in self.headers:
            has_body |= name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ") != b"")
            if name == b"content-length" and len(value) > MAX_LENGTH_DIGITS:
                self._stop_at(HTTPStatus.BAD_REQUEST, f"Content-Length has at most {MAX_LENGTH_DIGITS} digits")
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                self._stop_at(HTTPStatus.BAD_REQUEST, "the only transfer encoding is `chunked`")
        if has_body and self.parser.should_upgrade():
            # The parser would parse the body as the next request.
            detail = "a request that asks for another protocol has no body; leave `upgrade` out"
            self._stop_at(HTTPStatus.BAD_REQUEST, detail)
        super().on_headers_complete()
        if self._is_large:
            self._with_large_headers.add(self.cycle)
            self._is_large = False
        if len(self.pipeline) > MAX_PIPELINED_REQUESTS:
            detail = f"at most {MAX_PIPELINED_REQUESTS} requests wait on one connection"
            self._stop_at(HTTPStatus.TOO_MANY_REQUESTS, detail)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Pass the request `cycle` to the application `app` when its turn comes, if its connection is still open."""
        if self._working is not None:
            self._forget_headers(self._working)
        self._working = cycle
        # The function refers to no connection, because a scope may outlive the connection.
        cycle.scope[CLOSE_AFTER_SENDING] = partial(_close_after_sending, cycle, self.transport)  # type: ignore[typeddict-unknown-key]  # as above
        cycle.scope[RESET] = partial(_reset, cycle, self.transport)  # type: ignore[typeddict-unknown-key]  # as above
        if not self._reception.pool.is_trusted((self.client or ("", 0))[0]):
            cycle.scope[CLOSE_UNANSWERED] = partial(_close_unanswered, cycle, self.transport)  # type: ignore[typeddict-unknown-key]  # as above
        start = super()._start_asgi_task
        scope: RequestScope = cycle.scope  # type: ignore[assignment]  # of uvicorn
        network = self._reception.network(scope)

        async def charged(*arguments: Any) -> None:
            await charged_to(network, app(*arguments))  # type: ignore[arg-type]  # each application is a coroutine function

        self._turn = granted(network, self._reception.person(scope))
        self._turn.add_done_callback(lambda turn: None if turn.cancelled() else start(cycle, charged))

    def on_chunk_header(self) -> None:
        """Callback of the parser for the size of a chunk. Trailers may follow the last chunk, which has no bytes."""
        self._calls += 1
        self._may_have_trailer = True
        self._begun += 1
        self._fed = 0

    def on_body(self, body: bytes) -> None:
        """Callback of the parser for a part of the body. The next piece of input is parsed once this part is
        consumed.
        """
        self._calls += 1
        self._may_have_trailer = False
        if self.cycle.response_complete:
            return
        self.cycle.body += body
        self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Callback of the parser for the last byte of a request."""
        self._may_have_trailer = False
        if self._is_large:  # by the headers that follow a chunked body, which nobody keeps
            self._is_large = False
            self._give_back(1)
        super().on_message_complete()
        self.cycle.more_body = False  # uvicorn does not reset this for a request that was answered before

    def on_response_complete(self) -> None:
        """Callback for the last byte of an answer given to the transport. The rest of the request is discarded."""
        if self._working is not None:
            self._working.body = bytearray()
        super().on_response_complete()
        if not self.transport.is_closing():
            self.transport.resume_reading()  # a waiting request paused it, even if something else has resumed it since

    def _check_memory(self) -> None:
        """Callbacks of the parser call this method to refuse a request whose header section is large, if the pool has
        no memory for it.
        """
        if (error := self._take_for_headers(self._address_bytes + self._header_bytes)) is not None:
            self._stop_at(self._reception.too_many, str(error), error)

    def _take_for_headers(self, size: int) -> TooMuchAtOnce | None:
        """Take memory from the pool for the header section that is being parsed, once `size`, the number of its bytes
        that have arrived, exceeds SMALL_HEADER_SECTION_BYTES. Return None if this succeeds, or nothing has to be taken;
        otherwise return the error for refusing the request.
        """
        large = self._reception.large_headers
        if size <= SMALL_HEADER_SECTION_BYTES or self._is_large:
            return None
        if not large.try_take(_MAX_LINES_BYTES, self.share):
            return large.refused("too many requests with large headers; try again in a few seconds")
        self._is_large = True
        return None

    def _forget_headers(self, cycle: RequestResponseCycle) -> None:
        """Return the memory for the header section of a request, which is answered and will not be used any more."""
        if cycle in self._with_large_headers:
            self._with_large_headers.remove(cycle)
            self._give_back(1)

    def _give_back(self, sections: int) -> None:
        if sections:
            self._reception.large_headers.give(sections * _MAX_LINES_BYTES, self.share)

    def _stop_at(self, status: HTTPStatus, detail: str, error: TooMuchAtOnce | None = None) -> None:
        """Raise ValueError, which stops the parser, after recording the refusal that `_feed` then sends."""
        self._refusal = status, detail, error
        raise ValueError(detail)

    def _refuse(self, status: HTTPStatus, detail: str, error: TooMuchAtOnce | None) -> None:
        """Refuse a request: send an answer with this status and the text `detail` as the last one of this connection,
        and then close the connection. `error` is given if a limit of a pool is the reason.
        """
        self._stop()
        self._unset_keepalive_if_required()
        if self._turn is not None:
            self._turn.cancel()
        self.pipeline.clear()
        if self._working is not None and not self._working.response_complete:
            self._working.disconnected = True  # The request before is aborted, and writes nothing after this answer.
            self._working.message_event.set()
        self._is_refused = True
        self._answer(status, detail, error)
        self.transport.close()

    def _answer(self, status: HTTPStatus, detail: str, error: TooMuchAtOnce | None) -> None:
        """Write the refusal of a request, with this status and the text `detail`, as the last answer of this
        connection.
        """
        headers, body = self._reception.refusal(status, detail, error)
        lines = f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n"
        lines += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"{lines}content-length: {len(body)}\r\n\r\n".encode() + body)

    def _stop(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


def _bound_unsent(transport: asyncio.Transport) -> None:
    """Let the kernel hold at most MAX_UNSENT_BYTES of a TCP connection besides what is on its way to the client, on
    systems that can: by default, it holds up to 4 MB, which a slow client receives for minutes.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, MAX_UNSENT_BYTES)


def _close_after_sending(cycle: RequestResponseCycle, transport: asyncio.BaseTransport) -> None:
    cycle.disconnected = True  # otherwise uvicorn logs an error about the incomplete response
    transport.close()


def _reset(cycle: RequestResponseCycle, transport: asyncio.Transport) -> None:
    cycle.disconnected = True  # otherwise uvicorn logs an error about the incomplete response
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
    transport.abort()


def _close_unanswered(cycle: RequestResponseCycle, transport: asyncio.Transport, seconds: float) -> None:
    cycle.disconnected = True  # otherwise uvicorn logs an error about the missing response
    cycle.scope[_KEPT_SECONDS] = seconds  # type: ignore[typeddict-unknown-key]  # of ours
    transport.abort()
