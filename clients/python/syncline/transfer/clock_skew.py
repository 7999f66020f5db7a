"""S3 requests of a device whose clock is wrong, signed by S3's time.

obstore signs by the system's clock, and S3 refuses requests that are more than a quarter of an hour off. This module
then uses the time that S3 states, as the AWS SDKs do.
"""

from __future__ import annotations

import base64
import http.client
import queue
import urllib.parse
import weakref
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NamedTuple

from syncline.model.blocks import Digest
from syncline.s3.clock import ServerClock
from syncline.s3.sigv4 import NO_BODY, Signer
from syncline.sdk.credentials import S3Credentials
from syncline.sdk.network import proxy_for, proxy_headers, trusted
from syncline.transfer.rate_limit import Limit

_MAX_ERROR_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_MAX_IDLE_CONNECTIONS: Final = 8


class StorageRefused(Exception):
    """S3 answered with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status code: {status} {body.decode(errors='replace')}")


class _Signing(NamedTuple):
    access_key: str
    secret_key: str
    token: str


class SignedRequests:
    """Requests for objects by a client of our own. Usable from any thread. All methods raise FileNotFoundError for a
    missing object, StorageRefused for another error answer of S3, and OSError if no answer arrives.
    """

    def __init__(
        self, base: str, *, region: str, provide: Callable[[], S3Credentials], clock: ServerClock, timeout: float
    ) -> None:
        """`base` is the common prefix of the URLs of objects; `timeout` is the maximum silence of S3 in seconds."""
        self._parts = urllib.parse.urlsplit(base)
        self._signer = Signer(base, region=region)
        self._provide = provide
        self._clock = clock
        self._timeout = timeout
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue(_MAX_IDLE_CONNECTIONS)
        weakref.finalize(self, _close, self._idle)
        self._tls = trusted() if self._parts.scheme == "https" else None
        proxy = proxy_for(base)
        self._proxy = urllib.parse.urlsplit(proxy) if proxy else None
        self._to_proxy = proxy_headers(proxy) if proxy else {}

    def put(self, key: str, digest: Digest, data: bytes) -> bool:
        """Store an object whose SHA-256 is `digest`; return False if it exists already."""
        checksum = base64.b64encode(digest).decode()
        try:
            self._ask("PUT", key, {"if-none-match": "*", "x-amz-checksum-sha256": checksum}, data, digest.hex())
        except _Present:
            return False
        return True

    def get(
        self, key: str, *, most: int, span: tuple[int, int] | None = None, limit: Limit | None = None
    ) -> memoryview:
        """Return an object, or its bytes [start, stop) if `span` is given. If there are more than `most` bytes, return
        `most` + 1 of them.
        """
        headers = {"range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
        return memoryview(self._ask("GET", key, headers, most=most, limit=limit))

    def tag(self, key: str) -> str:
        """Return the ETag of an object."""
        told: list[str] = []
        self._ask("GET", key, {"range": "bytes=0-0"}, most=1, etag=told)
        return told[0]

    def correct_clock(self) -> None:
        """Use the time that S3 states. Raise OSError if it states none."""
        connection = self._connect()
        try:
            connection.request("HEAD", self._target(""), headers=self._plainly())
            date = connection.getresponse().getheader("date")
        except http.client.HTTPException as error:
            raise OSError(str(error)) from None
        finally:
            connection.close()
        if not self._clock.hear(date or ""):
            raise OSError("S3 does not say what time it is")

    def _ask(
        self,
        method: str,
        key: str,
        headers: dict[str, str],
        body: bytes | None = None,
        body_sha256: str = NO_BODY,
        *,
        most: int = _MAX_ERROR_BYTES,
        limit: Limit | None = None,
        etag: list[str] | None = None,
    ) -> bytes:
        held = self._provide()
        signed = self._signer.headers(
            key,
            headers,
            method=method,
            body_sha256=body_sha256,
            credentials=_Signing(held.access_key_id, held.secret_access_key, held.session_token),
            now=self._clock.now(),
        )
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._connect()
        kept = False
        try:
            connection.request(method, self._target(key), body, {**signed, **self._plainly(), "user-agent": "syncline"})
            answer = connection.getresponse()
            if answer.status >= HTTPStatus.BAD_REQUEST:
                data = answer.read(_MAX_ERROR_BYTES)
            else:
                data = answer.read(most + 1) if limit is None else _read(answer, most, limit)
                if len(data) <= most and answer.length:  # a read of the complete body implies this
                    raise http.client.IncompleteRead(data, answer.length)
            kept = not answer.will_close and answer.isclosed()
        except http.client.HTTPException as error:
            raise OSError(f"{type(error).__name__}: {error}") from None
        finally:
            if kept:
                with suppress(queue.Full):
                    self._idle.put_nowait(connection)
                    connection = None  # type: ignore[assignment]
            if connection is not None:
                connection.close()
        match answer.status:
            case status if status < HTTPStatus.MULTIPLE_CHOICES:
                if etag is not None:
                    etag.append(answer.getheader("etag", "untagged"))
                return data
            case HTTPStatus.NOT_FOUND:
                raise FileNotFoundError(key)
            case HTTPStatus.PRECONDITION_FAILED:
                raise _Present
            case status:
                raise StorageRefused(status, data)

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        at, at_port = (self._proxy.hostname or "", self._proxy.port) if self._proxy else (host, port)
        if self._tls is None:
            return http.client.HTTPConnection(at, at_port, timeout=self._timeout)
        connection = http.client.HTTPSConnection(at, at_port, timeout=self._timeout, context=self._tls)
        if self._proxy:
            connection.set_tunnel(host, port, self._to_proxy)
        return connection

    def _plainly(self) -> dict[str, str]:
        """Return the proxy headers for each request. With TLS there is a tunnel, which got them when it was opened."""
        return {} if self._tls else self._to_proxy

    def _target(self, key: str) -> str:
        path = f"{self._parts.path}{key}"
        return f"http://{self._parts.netloc}{path}" if self._proxy and self._parts.scheme == "http" else path


class _Present(Exception):
    """An object with this key exists."""


def _close(idle: queue.LifoQueue[http.client.HTTPConnection]) -> None:
    with suppress(queue.Empty):
        while True:
            idle.get_nowait().close()


def _read(answer: http.client.HTTPResponse, most: int, limit: Limit) -> bytes:
    data = bytearray()
    while chunk := answer.read(min(_CHUNK_BYTES, most + 1 - len(data))):
        limit.take(len(chunk))
        data += chunk
    return bytes(data)
