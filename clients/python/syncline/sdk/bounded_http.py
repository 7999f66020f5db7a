"""HTTP/1.1 requests of a device: each answer is bounded in bytes and in time, whoever sends it.

The standard library bounds neither interim answers, trailers and the headers of a proxy's answer, nor the time of an
answer that comes byte by byte: its timeout is for one operation of the socket. Here both bounds are enforced where
bytes arrive from the socket, and so hold for all that the library reads. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import io
import queue
import select
import socket
import ssl
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from typing_extensions import override

from syncline.model.blocks import KIB
from syncline.sdk.network import proxy_for, proxy_headers, trusted

MAX_CONNECT_SECONDS: Final = 10.0
"""Maximum time in seconds that one address of a host may take to accept a connection."""
MAX_OVERHEAD_BYTES: Final = 32 * KIB
"""Maximum size in bytes of everything in an answer that is not its body: interim answers, headers, the framing of
chunks and trailers. The framing of chunks may take a sixteenth of the largest body in addition.
"""
MAX_ERROR_BYTES: Final = 16 * KIB
"""Maximum size in bytes of the body of an answer whose status is not 2xx; the rest is not read."""
_PIECE_BYTES: Final = 64 * KIB
_MAX_IDLE_CONNECTIONS: Final = 8


LookUp: TypeAlias = Callable[[str, int], Sequence[str]]
"""Function that returns the IP addresses of a host name for a TCP port, and raises OSError if there are none."""


class NotConnected(TimeoutError):
    """There was no connection in time, so nothing of the request was sent: the host name was not looked up, no address
    of the host accepted a connection, or TLS was not agreed on.
    """


class NotHttp(ConnectionError):
    """The peer has sent something that is not an HTTP answer."""


class AnswerTooLong(NotHttp):
    """The headers of an answer, or other parts besides its body, have no end."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer to a request. The body of an answer that is longer than allowed is cut one byte after the bound."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes | bytearray

    @property
    def is_success(self) -> bool:
        """True if the status is 2xx."""
        return _is_success(self.status)


class HttpOrigin:
    """Sends requests to one scheme, host and port over persistent connections. Usable from any thread."""

    def __init__(self, url: str, *, look_up: LookUp | None = None) -> None:
        """`url` is any URL of the origin. `look_up` finds the addresses of its host, by default as the system does.
        Raise ProxyUnusable or CertificatesUnreadable if the environment names a proxy or certificates that cannot be
        used.
        """
        self._look_ups = _LookUps(look_up or _look_up)
        self._netloc = urllib.parse.urlsplit(url).netloc
        self._route = _route(url)
        self._idle: queue.LifoQueue[_Connection] = queue.LifoQueue(_MAX_IDLE_CONNECTIONS)
        weakref.finalize(self, _close, self._idle)

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        max_bytes: int,
        seconds: float,
        silence_seconds: float | None = None,
        take: Callable[[int], None] | None = None,
    ) -> HttpAnswer:
        """Return the answer to a request for `target`, an encoded path with its query.

        - The body of a 2xx answer may have `max_bytes`, the body of another one MAX_ERROR_BYTES.
        - The peer may take `seconds` in all, and `silence_seconds` without a byte; None sets no separate bound on
          silence.
        - `take` is called with the size of each piece of the body and may wait; that time does not count.

        Raise NotHttp if the answer is not HTTP, NotConnected if the connection takes too long, TimeoutError if anything
        else does, and another OSError if no complete answer arrives.
        """
        connection = self._idle_connection() or _Connection(self._route, self._look_ups)
        connection.budget.begin(seconds, silence_seconds or seconds)
        is_reusable = False
        try:
            if connection.sock is None:
                try:
                    connection.connect()
                except TimeoutError as error:
                    raise NotConnected(str(error)) from None
            # A server may refuse a request before it has read the whole body, and close. Its answer says why.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._full(target), body, self._complete(headers))
            with connection.getresponse() as response:
                bound = max_bytes if _is_success(response.status) else MAX_ERROR_BYTES
                connection.budget.bytes_left += bound + bound // 16 + 1
                data = _body(response, bound, take, connection.budget)
                is_complete = response.isclosed() and response.status >= HTTPStatus.OK
                is_reusable = is_complete and not response.will_close
        except (http.client.RemoteDisconnected, ssl.SSLError):
            raise
        except (http.client.HTTPException, ValueError) as error:
            raise NotHttp(f"{type(error).__name__}: {str(error)[:100]}") from None
        finally:
            self._release(connection, is_reusable=is_reusable)
        return HttpAnswer(response.status, response.headers, data)

    def close(self) -> None:
        """Close the idle connections."""
        _close(self._idle)

    def _idle_connection(self) -> _Connection | None:
        """Return an idle connection that the peer has not closed."""
        with suppress(queue.Empty):
            while True:
                connection = self._idle.get_nowait()
                if _is_quiet(connection.sock):
                    return connection
                connection.close()
        return None

    def _release(self, connection: _Connection, *, is_reusable: bool) -> None:
        if is_reusable:
            try:
                self._idle.put_nowait(connection)
            except queue.Full:
                pass
            else:
                return
        connection.close()

    def _full(self, target: str) -> str:
        """Return the target of a request: a whole URL for a proxy, unless there is a tunnel through the proxy."""
        return f"http://{self._netloc}{target}" if self._route.is_relayed else target

    def _complete(self, headers: Mapping[str, str]) -> dict[str, str]:
        relayed = self._route.proxy_headers if self._route.is_relayed else {}
        return {"user-agent": "syncline", **headers, **relayed, "host": self._netloc}


def fetch(url: str, headers: Mapping[str, str], *, max_bytes: int, seconds: float) -> HttpAnswer:
    """Return the answer to one GET of `url`, whose query is ignored. The bounds and errors are those of
    HttpOrigin.request.
    """
    with closing(HttpOrigin(url)) as origin:
        target = urllib.parse.urlsplit(url).path or "/"
        return origin.request("GET", target, headers, max_bytes=max_bytes, seconds=seconds)


@dataclass(frozen=True, slots=True)
class _Route:
    """The way to an origin: its host and port, the TLS context for an https URL, and the proxy if there is one."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    proxy: tuple[str, int] | None
    proxy_headers: Mapping[str, str]

    @property
    def is_relayed(self) -> bool:
        """True if a proxy forwards each request. With TLS, it forwards bytes in a tunnel instead."""
        return self.proxy is not None and self.tls is None


def _route(url: str) -> _Route:
    parts = urllib.parse.urlsplit(url)
    is_https = parts.scheme == "https"
    named = proxy_for(url)
    proxy = urllib.parse.urlsplit(named) if named else None
    return _Route(
        host=parts.hostname or "",
        port=parts.port or (http.client.HTTPS_PORT if is_https else http.client.HTTP_PORT),
        tls=trusted() if is_https else None,
        proxy=(proxy.hostname or "", proxy.port or http.client.HTTP_PORT) if proxy else None,
        proxy_headers=proxy_headers(named) if named else {},
    )


class _Budget:
    """The seconds and the bytes that the peer may still take for one request and its answer."""

    def __init__(self) -> None:
        self.bytes_left = 0
        self._end = 0.0
        self._silence = 0.0

    def begin(self, seconds: float, silence: float) -> None:
        self.bytes_left = MAX_OVERHEAD_BYTES
        self._end = time.monotonic() + seconds
        self._silence = silence

    def seconds(self) -> float:
        """Return the timeout of the next operation of the socket. Raise TimeoutError if no time is left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return min(left, self._silence)

    def wait(self, take: Callable[[int], None], size: int) -> None:
        """Call `take` with `size`. The time that the call takes is not charged to the peer, because `take` waits for
        something else.
        """
        began = time.monotonic()
        take(size)
        self._end += time.monotonic() - began


class _LookUps:
    """Looks up the addresses of the host that the connections of an origin lead to: its own, or that of a proxy."""

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._present: Future[Sequence[str]] | None = None

    def addresses(self, host: str, port: int, *, seconds: float) -> Sequence[str]:
        """Return the addresses of the host. Raise TimeoutError after `seconds`, and the errors of the resolver.

        The look-up runs in a thread of its own, because the resolver has no timeout that a program can set. Requests
        that begin while a look-up is in progress wait for the same one, so that a resolver that never answers holds one
        thread, however many requests give up.
        """
        with self._lock:
            if self._present is None or self._present.done():
                self._present = Future()
                arguments = (self._present, host, port)
                threading.Thread(target=self._finish, args=arguments, name="resolver", daemon=True).start()
            present = self._present
        return present.result(seconds)

    def _finish(self, present: Future[Sequence[str]], host: str, port: int) -> None:
        try:
            present.set_result(self._look_up(host, port))
        except Exception as error:  # the threads that wait raise every error
            present.set_exception(error)


class _Connection(http.client.HTTPConnection):
    """A connection whose every operation keeps to the budget of the request."""

    def __init__(self, route: _Route, look_ups: _LookUps) -> None:
        super().__init__(*(route.proxy or (route.host, route.port)))
        self._look_ups = look_ups
        self.budget = _Budget()
        self.response_class = partial(_BoundedResponse, budget=self.budget)  # type: ignore[assignment]
        self._route = route
        if route.proxy is not None and not route.is_relayed:
            self.set_tunnel(route.host, route.port, route.proxy_headers)

    @override
    def connect(self) -> None:
        """Connect to the first address of the host that accepts, because a name may have very many addresses."""
        failure = OSError(f"{self.host} has no address")
        for address in self._look_ups.addresses(self.host, self.port, seconds=self.budget.seconds()):
            self.host = address
            self.timeout = min(self.budget.seconds(), MAX_CONNECT_SECONDS)
            try:
                super().connect()
            except OSError as error:
                self.close()
                failure = error
            else:
                break
        else:
            raise failure
        if self._route.tls is not None:
            self.sock.settimeout(self.budget.seconds())
            self.sock = self._route.tls.wrap_socket(self.sock, server_hostname=self._route.host)

    @override
    def send(self, data: Any) -> None:
        """Send bytes. The timeout of the library's own method starts again with each record of TLS."""
        rest = memoryview(data)
        while rest:
            self.sock.settimeout(self.budget.seconds())
            rest = rest[self.sock.send(rest) :]


class _BoundedResponse(http.client.HTTPResponse):
    """An answer that is read within a budget from its first byte on."""

    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
        *,
        budget: _Budget,
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp = io.BufferedReader(_Incoming(self.fp.detach(), sock, budget))


class _Incoming(io.RawIOBase):
    """The bytes that arrive from a socket, within a budget."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, budget: _Budget) -> None:
        self._raw = raw
        self._sock = sock
        self._budget = budget

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        budget = self._budget
        if budget.bytes_left <= 0:
            raise AnswerTooLong("the answer has no end")
        seconds = budget.seconds()
        if seconds != self._sock.gettimeout():  # to set it is a system call, and mostly it is the silence that it was
            self._sock.settimeout(seconds)
        size = self._sock.recv_into(memoryview(buffer)[: budget.bytes_left])
        budget.bytes_left -= size
        return size

    @override
    def close(self) -> None:
        self._raw.close()
        super().close()


def _look_up(host: str, port: int) -> list[str]:
    return [str(address[0]) for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _body(
    response: http.client.HTTPResponse, bound: int, take: Callable[[int], None] | None, budget: _Budget
) -> bytes | bytearray:
    """Return the body of an answer, or `bound` + 1 bytes of it if it is longer."""
    if take is None:
        data: bytes | bytearray = response.read(bound + 1)
    else:
        data = bytearray()
        while piece := response.read(min(_PIECE_BYTES, bound + 1 - len(data))):
            budget.wait(take, len(piece))
            data += piece
    if len(data) <= bound and response.length:  # bytes of the announced length are missing
        raise ConnectionError("the answer ended early")
    return data


def _is_success(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def _is_quiet(sock: socket.socket) -> bool:
    """Return True if an idle connection can be used again: the peer has not closed it, and has sent no bytes. Bytes
    that the peer sends without a request would be taken for the next answer.
    """
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)


def _close(idle: queue.LifoQueue[_Connection]) -> None:
    with suppress(queue.Empty):
        while True:
            idle.get_nowait().close()
