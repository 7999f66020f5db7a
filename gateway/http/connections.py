"""Connections: how many there are, how long the head of a request may take to arrive, and how many bytes it has; and
whose request is worked on next.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final

from cachetools import LRUCache
from starlette.requests import Request
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway import metrics
from gateway.http.problems import MEDIA_TYPE
from gateway.http.protection import ALWAYS
from gateway.identity.address import OwnAddress
from runtime.connections import ConnectionPool
from runtime.pool import Share
from runtime.turns import granted

_SILENT_SECONDS: Final = 75.0
"""Seconds for which a new connection may send nothing; browsers open some ahead of time."""
_HEAD_BYTES: Final = 32 * 1024
"""Maximum size of all headers of a request, in bytes, with those that follow a chunked body."""
_HEADERS: Final = 100
_ADDRESS_BYTES: Final = 16 * 1024
"""Maximum size of an address, in bytes: more than the longest path encoded."""
_PARAMETERS: Final = 200
"""Maximum number of parameters of an address: no request has more, and to parse thousands takes milliseconds."""
_LINES_BYTES: Final = _ADDRESS_BYTES + _HEAD_BYTES + 4 * _HEADERS + 64
"""Maximum size of a head as it arrives, in bytes, with the separators between its parts."""
_FED_AT_ONCE: Final = 16 * 1024
"""Bytes that are parsed at once. Those in which a head begins are not counted to it, since others end there."""
_DISCARDED_BYTES: Final = 256 * 1024
_DISCARDED_SECONDS: Final = 2.0
"""Maximum bytes that are read and thrown away, and for how many seconds, after the last answer of a connection."""
_PIPELINED: Final = 16
"""Requests of one connection that wait for the answers to those before them."""


_REMEMBERED: Final = 10_000
"""Credentials that are known to have been accepted."""

ABORT: Final = "syncline.abort"
"""In the scope of a request: ends its connection at once, with what it has not taken."""
ACCEPTED: Final = "syncline.accepted"
"""In the scope of a request: to be called with it once a service has accepted its sender."""


class Connections(ConnectionPool):
    """The pool of connections, and whose request is worked on next."""

    def __init__(self, total: int, own: OwnAddress) -> None:
        super().__init__(total, own.trusted_networks)
        metrics.CONNECTIONS.set_function(self.taken)
        self._own = own
        self._accepted: LRUCache[bytes, None] = LRUCache(_REMEMBERED)
        """Digests of credentials."""

    def turn(self, scope: Scope) -> asyncio.Future[None]:
        """A future that is done when it is the turn of this request; cancelling it gives the turn up.

        In each round of the event loop one request begins. The turns go round the networks that have requests, and in
        each network round those whose credentials were accepted here before. All others of a network count as one.
        """
        credentials = _credentials(scope)
        member = credentials.hex() if credentials in self._accepted else ""
        return granted(self._own.network(Request(scope)), member)

    def accept(self, scope: Scope) -> None:
        """A service has accepted the credentials of this request."""
        self._accepted[_credentials(scope)] = None


class Connection(HttpToolsProtocol):
    """uvicorn's, with limits where it has none."""

    head_seconds: ClassVar[float]
    """Seconds from the first byte of a request's head to its last."""
    admission: ClassVar[Connections]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit: asyncio.TimerHandle | None = None
        self._in_head = self._may_have_trailer = False
        self._begun = 0
        self._fed = self._address_bytes = self._head_bytes = self._headers = 0
        self._discarded: int | None = None
        """Bytes that came after the last answer; None before it."""
        self._refusal: tuple[HTTPStatus, str] | None = None
        self._share: Share | None = None
        self._turn: asyncio.Future[None] | None = None
        self._working: RequestResponseCycle | None = None
        """The request that is worked on, or was last."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._share = self.admission.admit(*(self.client or ("", 0)))
        if self._share is None:
            # Nothing of it is looked at: that it is there is too much.
            transport.pause_reading()
            error = self.admission.refused()
            self._answer(
                HTTPStatus.TOO_MANY_REQUESTS, error.reason, str(error), {"retry-after": f"{error.pause_seconds:.0f}"}
            )
            transport.close()
            return
        self._limit = self.loop.call_later(_SILENT_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        if self._turn is not None:
            self._turn.cancel()
        if self._share is not None:
            self.admission.leave(self._share)
        super().connection_lost(exc)
        # uvicorn would keep the timer for the next request of a connection that was reset, and by it all that follows.
        self._unset_keepalive_if_required()
        self.pipeline.clear()
        self.scope = self.headers = self.cycle = self._working = None  # type: ignore[assignment]  # as before the first request

    def data_received(self, data: bytes) -> None:
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > _DISCARDED_BYTES:
                self.transport.close()
            return
        for at in range(0, len(data), _FED_AT_ONCE):
            if self._discarded is not None or self.transport.is_closing():
                return
            self._feed(data[at : at + _FED_AT_ONCE])

    def _feed(self, data: bytes) -> None:
        begun = self._begun
        super().data_received(data)
        in_lines = self._in_head or self._may_have_trailer
        if in_lines and self._begun == begun and self._discarded is None:
            self._fed += len(data)  # a header that has no end is told to nobody
            if self._fed > _LINES_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head has at most {_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._stop()
        self._in_head, self._may_have_trailer = True, False
        self._begun += 1
        self._fed = self._address_bytes = self._head_bytes = self._headers = 0
        self._limit = self.loop.call_later(self.head_seconds, self.transport.close)
        self.scope[ABORT] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        self.scope[ACCEPTED] = self.admission.accept  # type: ignore[typeddict-unknown-key]

    def on_url(self, url: bytes) -> None:
        """A part of the address. A fragment means nothing here, and cut off it would leave another address."""
        if b"#" in url:
            raise ValueError("an address with a fragment")
        self._address_bytes += len(url)
        if self._address_bytes > _ADDRESS_BYTES:
            self._stop_at(HTTPStatus.BAD_REQUEST, f"an address has at most {_ADDRESS_BYTES} bytes")
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of the headers, or of those that follow a chunked body, which say nothing to us."""
        self._headers += 1
        self._head_bytes += len(name) + len(value)
        if self._headers > _HEADERS or self._head_bytes > _HEAD_BYTES:
            detail = f"a request has at most {_HEADERS} headers, of {_HEAD_BYTES} bytes together"
            self._stop_at(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The last byte of its head."""
        self._stop()
        self._in_head = False
        if self.url.partition(b"?")[2].count(b"&") >= _PARAMETERS:
            self._stop_at(HTTPStatus.BAD_REQUEST, f"an address has at most {_PARAMETERS} parameters")
        super().on_headers_complete()
        if len(self.pipeline) > _PIPELINED:
            self._stop_at(HTTPStatus.TOO_MANY_REQUESTS, f"at most {_PIPELINED} requests wait on one connection")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin to work on a request, when it is its turn and its connection is still there."""
        self._working = cycle
        start = super()._start_asgi_task
        self._turn = self.admission.turn(cycle.scope)  # type: ignore[arg-type]  # of starlette
        self._turn.add_done_callback(lambda turn: None if turn.cancelled() else start(cycle, app))

    def on_chunk_header(self) -> None:
        """The size of a part of a chunked body. After the last one, which has no bytes, headers may follow."""
        self._may_have_trailer = True
        self._begun += 1
        self._fed = 0

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._may_have_trailer = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._may_have_trailer = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no HTTP as everything else that is wrong."""
        self._refuse(*(self._refusal or (HTTPStatus.BAD_REQUEST, msg)))

    def _stop_at(self, status: HTTPStatus, detail: str) -> None:
        """Called by the parser's callbacks: it stops, and the request is refused."""
        self._refusal = status, detail
        raise ValueError(detail)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Give the last answer of this connection. What still comes is thrown away for a while: who is cut off while
        sending does not read why.
        """
        self._stop()
        self._unset_keepalive_if_required()
        if self._turn is not None:
            self._turn.cancel()
        self.pipeline.clear()
        if self._working is not None and not self._working.response_complete:
            self._working.disconnected = True  # The request before is given up, and writes nothing after this answer.
            self._working.message_event.set()
        self._discarded = 0
        self._answer(status, "INVALID_REQUEST", detail, {})
        if self.transport.is_closing():
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._limit = self.loop.call_later(_DISCARDED_SECONDS, self.transport.close)

    def _answer(self, status: HTTPStatus, reason: str, detail: str, headers: Mapping[str, str]) -> None:
        """Write what is the last answer of this connection."""
        members = {"title": status.phrase, "status": status, "detail": detail, "reason": reason}
        body = json.dumps(members | {"request_id": ""}).encode()
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\nconnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in {**ALWAYS, **headers}.items())
        self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    def _stop(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


def connections(admission: Connections, *, head_seconds: float) -> type[Connection]:
    """Connections of which there are so many, and on which the head of a request may take so long."""
    return type("Connection", (Connection,), {"admission": admission, "head_seconds": head_seconds})


def _credentials(scope: Scope) -> bytes:
    """The digest of all by which the sender of a request may be known."""
    told = [value for name, value in scope["headers"] if name in {b"authorization", b"cookie"}]
    return hashlib.sha256(b"\0".join(told)).digest() if told else b""
