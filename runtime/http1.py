"""HTTP/1.1 of a process that strangers reach: how many connections there are, how long the head of a request may take
to arrive, how many bytes it has, what is read ahead, and whose input and request is worked on next.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, ClassVar, Final, TypeAlias

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from runtime.connections import ConnectionPool
from runtime.pool import Share, TooMuchAtOnce
from runtime.reading import MAX_PIECE_BYTES, ReadInTurns, Unread

Scope: TypeAlias = MutableMapping[str, Any]

SILENT_SECONDS: Final = 75.0
"""Seconds for which a new connection may send nothing; browsers open some ahead of time."""
MAX_HEAD_BYTES: Final = 32 * 1024
"""Maximum size of all headers of a request, in bytes, with those that follow a chunked body."""
MAX_HEADERS: Final = 100
MAX_ADDRESS_BYTES: Final = 16 * 1024
"""Maximum size of an address, in bytes: more than the longest path encoded."""
MAX_PARAMETERS: Final = 200
"""Maximum number of parameters of an address: no request has more, and to parse thousands takes milliseconds."""
MAX_PIPELINED: Final = 16
"""Requests of one connection that wait for the answers to those before them."""
_LINES_BYTES: Final = MAX_ADDRESS_BYTES + MAX_HEAD_BYTES + 4 * MAX_HEADERS + 64
"""Maximum size of a head as it arrives, in bytes, with the separators between its parts."""
_FED_AT_ONCE: Final = 4 * 1024
"""Bytes that are parsed at once where each may be a call of the parser. Those in which a head begins are not counted to
it, since others end there."""

ABORT: Final = "syncline.abort"
"""In the scope of a request: ends its connection at once, with what it has not taken."""


class Reception(ABC):
    """The bounds that all connections of one listening process share, and its words of refusal."""

    too_many: ClassVar[HTTPStatus] = HTTPStatus.TOO_MANY_REQUESTS
    """The status of the answer to a connection that is one too many."""

    def __init__(self, pool: ConnectionPool, *, unread_bytes: int, head_seconds: float) -> None:
        """`pool` counts the connections. `unread_bytes` is the memory for input that nobody has taken yet. The head of
        a request may take `head_seconds` from its first byte to its last.
        """
        self.pool = pool
        self.unread = Unread(unread_bytes)
        self.head_seconds = head_seconds

    @abstractmethod
    def turn(self, scope: Scope) -> asyncio.Future[None]:
        """A future that is done when it is the turn of this request; cancelling it gives the turn up."""

    @abstractmethod
    def member(self, scope: Scope) -> str:
        """Return the name of the person whose turns within the network the next input takes; empty for a stranger."""

    @abstractmethod
    def refusal(self, status: HTTPStatus, detail: str, error: TooMuchAtOnce | None) -> tuple[Mapping[str, str], bytes]:
        """Headers and body of an answer that the connection gives itself: `error` if it is one too many."""

    def prepare(self, scope: Scope) -> None:  # noqa: B027 # nothing has to be prepared
        """Put into the scope of a request what is to be in it."""

    def protocol(self, *args: Any, **kwargs: Any) -> ReadInTurns:
        """A new connection, with the arguments that uvicorn gives to protocols."""
        return ReadInTurns(Connection(self, *args, **kwargs), self.unread)


class Connection(HttpToolsProtocol):
    """uvicorn's, with limits where it has none."""

    def __init__(self, reception: Reception, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reception = reception
        self._limit: asyncio.TimerHandle | None = None
        self._in_head = self._may_have_trailer = self._is_chunked = False
        self._begun = 0
        self._calls = 0
        """Calls of the parser, in all."""
        self._fed = self._address_bytes = self._head_bytes = self._headers = 0
        self._refusal: tuple[HTTPStatus, str] | None = None
        self._is_refused = self._is_admitted = False
        self.share = Share.alone("")
        self._turn: asyncio.Future[None] | None = None
        self._working: RequestResponseCycle | None = None
        """The request that is worked on, or was last."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        pool, peer = self._reception.pool, self.client or ("", 0)
        self.share = pool.share_of(*peer)
        self._is_admitted = pool.admit(*peer) is not None
        if self._is_admitted:
            self._limit = self.loop.call_later(SILENT_SECONDS, transport.close)
            return
        # Nothing of it is looked at: that it is there is too much.
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
            self._reception.pool.leave(self.share)
        super().connection_lost(exc)
        # uvicorn would keep the timer for the next request of a connection that was reset, and by it all that follows.
        self._unset_keepalive_if_required()
        self.pipeline.clear()
        self.scope = self.headers = self.cycle = self._working = None  # type: ignore[assignment]  # as before the first request

    @property
    def member(self) -> str:
        """The name of the person whose turns within the network input takes; empty for a stranger."""
        return "" if self._working is None else self._reception.member(self._working.scope)  # type: ignore[arg-type]  # of uvicorn

    @property
    def is_full(self) -> bool:
        """True if a request waits for the answer to one before it."""
        return bool(self.pipeline)

    @property
    def is_cut_short(self) -> bool:
        """True if the connection was refused, or its last request answered before its body had come."""
        cycle = self.cycle
        return self._is_refused or (cycle is not None and cycle.response_complete and cycle.more_body)

    def next_size(self) -> int:
        """The number of bytes to parse at once: many where they are the plain bytes of a body."""
        in_body = not self._in_head and self.cycle is not None and self.cycle.more_body
        return MAX_PIECE_BYTES if in_body and not self._is_chunked else _FED_AT_ONCE

    def parse(self, data: memoryview) -> int:
        """Parse `data`, and return the number of calls that were made for it."""
        begun, calls = self._begun, self._calls
        self._feed(data)
        # The size of a chunk may be followed by an extension, of which the parser tells nothing.
        in_lines = self._in_head or self._may_have_trailer or (self._is_chunked and self._calls == calls)
        if in_lines and self._begun == begun and not self._is_refused:
            self._fed += len(data)  # a header that has no end is told to nobody
            if self._fed > _LINES_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head has at most {MAX_HEAD_BYTES} bytes")
        return self._calls - calls

    def _feed(self, data: memoryview) -> None:
        """Have `data` parsed. A request to go on in another protocol is answered in this one, as if it were none."""
        while data and not self._is_refused:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as error:
                (parsed,) = error.args
                data = data[parsed:]
            except httptools.HttpParserError:
                self._refuse(*(self._refusal or (HTTPStatus.BAD_REQUEST, "this is no HTTP request")))
            else:
                return

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self._stop()
        self._in_head, self._may_have_trailer, self._is_chunked = True, False, False
        self._begun += 1
        self._calls += 1
        self._fed = self._address_bytes = self._head_bytes = self._headers = 0
        self._limit = self.loop.call_later(self._reception.head_seconds, self.transport.close)
        scope: Scope = self.scope  # type: ignore[assignment]  # uvicorn says which keys it puts there itself
        scope[ABORT] = self.transport.abort
        self._reception.prepare(scope)

    def on_url(self, url: bytes) -> None:
        """A part of the address. A fragment means nothing here, and cut off it would leave another address."""
        self._calls += 1
        if b"#" in url:
            raise ValueError("an address with a fragment")
        self._address_bytes += len(url)
        if self._address_bytes > MAX_ADDRESS_BYTES:
            self._stop_at(HTTPStatus.BAD_REQUEST, f"an address has at most {MAX_ADDRESS_BYTES} bytes")
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of the headers, or of those that follow a chunked body, which say nothing to us."""
        self._calls += 1
        self._headers += 1
        self._head_bytes += len(name) + len(value)
        if self._headers > MAX_HEADERS or self._head_bytes > MAX_HEAD_BYTES:
            detail = f"a request has at most {MAX_HEADERS} headers, of {MAX_HEAD_BYTES} bytes together"
            self._stop_at(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        if self._in_head:
            super().on_header(name, value)
            self._is_chunked |= self.headers[-1][0] == b"transfer-encoding"

    def on_headers_complete(self) -> None:
        """The last byte of its head."""
        self._stop()
        self._in_head = False
        if self.url.partition(b"?")[2].count(b"&") >= MAX_PARAMETERS:
            self._stop_at(HTTPStatus.BAD_REQUEST, f"an address has at most {MAX_PARAMETERS} parameters")
        has_body = False
        for name, value in self.headers:
            has_body |= name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ") != b"")
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                self._stop_at(HTTPStatus.BAD_REQUEST, "the only transfer encoding is `chunked`")
        if has_body and self.parser.should_upgrade():
            # The parser would take the body for the next request.
            detail = "a request that asks for another protocol has no body; leave `upgrade` out"
            self._stop_at(HTTPStatus.BAD_REQUEST, detail)
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self._stop_at(HTTPStatus.TOO_MANY_REQUESTS, f"at most {MAX_PIPELINED} requests wait on one connection")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin to work on a request, when it is its turn and its connection is still there."""
        self._working = cycle
        start = super()._start_asgi_task
        self._turn = self._reception.turn(cycle.scope)  # type: ignore[arg-type]  # of uvicorn
        self._turn.add_done_callback(lambda turn: None if turn.cancelled() else start(cycle, app))

    def on_chunk_header(self) -> None:
        """The size of a part of a chunked body. After the last one, which has no bytes, headers may follow."""
        self._calls += 1
        self._may_have_trailer = True
        self._begun += 1
        self._fed = 0

    def on_body(self, body: bytes) -> None:
        """Some of the body. The next piece of input is parsed when this one is taken."""
        self._calls += 1
        self._may_have_trailer = False
        if self.cycle.response_complete:
            return
        self.cycle.body += body
        self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._may_have_trailer = False
        super().on_message_complete()
        self.cycle.more_body = False  # uvicorn leaves this out for a request that was answered before

    def on_response_complete(self) -> None:
        """Called when the last byte of an answer is given to the transport: the rest of the request is for nobody."""
        if self._working is not None:
            self._working.body = bytearray()
        super().on_response_complete()
        if not self.transport.is_closing():
            self.transport.resume_reading()  # paused by a request that had to wait, whoever else resumed since then

    def _stop_at(self, status: HTTPStatus, detail: str) -> None:
        """Called by the parser's callbacks: it stops, and the request is refused."""
        self._refusal = status, detail
        raise ValueError(detail)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Give the last answer of this connection."""
        self._stop()
        self._unset_keepalive_if_required()
        if self._turn is not None:
            self._turn.cancel()
        self.pipeline.clear()
        if self._working is not None and not self._working.response_complete:
            self._working.disconnected = True  # The request before is given up, and writes nothing after this answer.
            self._working.message_event.set()
        self._is_refused = True
        self._answer(status, detail, None)
        self.transport.close()

    def _answer(self, status: HTTPStatus, detail: str, error: TooMuchAtOnce | None) -> None:
        """Write what is the last answer of this connection."""
        headers, body = self._reception.refusal(status, detail, error)
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    def _stop(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
