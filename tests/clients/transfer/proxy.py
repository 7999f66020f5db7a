"""A way to storage on which things go wrong as told."""

from __future__ import annotations

import calendar
import http.client
import socket
import struct
import threading
import time
import urllib.parse
from collections import deque
from email.utils import formatdate
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from botocore.credentials import ReadOnlyCredentials

from stack.embedded_aws import REGION, AwsCredentials
from syncline.s3.sigv4 import Signer


class Fault(Enum):
    """A fault of one request."""

    NONE = auto()
    UNAVAILABLE = auto()  # 503 SlowDown
    INTERNAL = auto()  # 500
    CONFLICT = auto()  # 409, as for two PUTs of one key at once
    RESET = auto()  # the connection is reset before an answer
    LOST_ANSWER = auto()  # it is done, and the answer lost
    DAMAGED_REQUEST = auto()  # a bit of the body flips on the way to storage
    DAMAGED_ANSWER = auto()  # a bit of the body flips on the way back
    SHORT_ANSWER = auto()  # the connection ends in the midst of the body
    CLOCK = auto()  # 403 RequestTimeTooSkewed
    EXPIRED = auto()  # 400 ExpiredToken
    ARCHIVED = auto()  # 403 InvalidObjectState
    ENCRYPTED = auto()  # 400 InvalidRequest, as without the customer's key
    FULL = auto()  # 507 InsufficientStorage, of the embedded AWS
    SLOW = auto()  # the answer takes a while
    DENIED = auto()  # 403 AccessDenied, as soon as `denies` is set


_ANSWERS = {
    Fault.UNAVAILABLE: (503, "SlowDown"),
    Fault.INTERNAL: (500, "InternalError"),
    Fault.CONFLICT: (409, "ConditionalRequestConflict"),
    Fault.CLOCK: (403, "RequestTimeTooSkewed"),
    Fault.EXPIRED: (400, "ExpiredToken"),
    Fault.ARCHIVED: (403, "InvalidObjectState"),
    Fault.ENCRYPTED: (400, "InvalidRequest"),
    Fault.FULL: (507, "InsufficientStorage"),
    Fault.DENIED: (403, "AccessDenied"),
}


class Proxy:
    """Forwards to `endpoint`. The next requests meet `faults`, one each, then `always`."""

    def __init__(self, endpoint: str) -> None:
        self.faults: deque[Fault] = deque()
        self.always = Fault.NONE
        self.slowness = 0.5
        self.ahead: float | None = None
        """The number of seconds by which storage's clock is ahead of the system's. If given, requests of other times
        are refused; what lies behind has the system's clock, and gets them signed anew as `root`."""
        self.root: AwsCredentials | None = None
        self.requests: list[str] = []
        self.denies = threading.Event()
        self._target = urllib.parse.urlsplit(endpoint).netloc
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def do_GET(self) -> None:
                proxy.serve(self)

            def do_HEAD(self) -> None:
                proxy.serve(self)

            def do_PUT(self) -> None:
                proxy.serve(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.requests.append(handler.command)
            fault = self.faults.popleft() if self.faults else self.always
        body = bytearray(handler.rfile.read(int(handler.headers.get("content-length", 0))))
        if fault is Fault.DENIED:
            self.denies.wait(60)
        if fault in _ANSWERS:
            status, code = _ANSWERS[fault]
            self._answer(handler, status, f"<Error><Code>{code}</Code></Error>".encode(), {})
            return
        if self.ahead is not None and not self._is_in_time(handler, self.ahead):
            self._answer(handler, 403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", {"Date": self._date()})
            return
        if self.ahead:
            self._sign_anew(handler, handler.headers["x-amz-content-sha256"])
        if fault is Fault.SLOW:
            time.sleep(self.slowness)
        if fault is Fault.RESET:
            self._reset(handler)
            return
        if fault is Fault.DAMAGED_REQUEST:
            body[-1] ^= 1
        connection = http.client.HTTPConnection(self._target, timeout=60)
        try:
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                connection.putheader(name, value)
            connection.endheaders(bytes(body))
            answer = connection.getresponse()
            data = bytearray(answer.read())
            headers = dict(answer.getheaders())
        finally:
            connection.close()
        if fault is Fault.LOST_ANSWER:
            self._reset(handler)
            return
        if fault is Fault.DAMAGED_ANSWER and data:
            data[-1] ^= 1
        if fault is Fault.SHORT_ANSWER:
            headers["content-length"] = str(len(data))
            del data[len(data) // 2 :]
            handler.close_connection = True
        self._answer(handler, answer.status, bytes(data), headers)

    def _sign_anew(self, handler: BaseHTTPRequestHandler, body_sha256: str) -> None:
        assert self.root is not None
        root = ReadOnlyCredentials(self.root.access_key_id, self.root.secret_access_key, None)
        headers = handler.headers
        kept = {name: headers[name] for name in ("range", "if-none-match", "x-amz-checksum-sha256") if name in headers}
        signed = Signer(f"http://{headers['host']}/", region=REGION).headers(
            handler.path.lstrip("/"), kept, method=handler.command, body_sha256=body_sha256, credentials=root
        )
        del headers["x-amz-security-token"]
        for name, value in signed.items():
            del headers[name]
            headers[name] = value

    def _date(self) -> str:
        return formatdate(time.time() + (self.ahead or 0.0), usegmt=True)

    @staticmethod
    def _is_in_time(handler: BaseHTTPRequestHandler, ahead: float) -> bool:
        signed = handler.headers.get("x-amz-date")
        if signed is None:
            return False
        moment = calendar.timegm(time.strptime(signed, "%Y%m%dT%H%M%SZ"))
        return abs(moment - time.time() - ahead) <= 15 * 60

    def _answer(self, handler: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str]) -> None:
        handler.send_response_only(status)
        sent = {name.lower() for name in headers}
        for name, value in headers.items():
            if name.lower() not in {"connection", "transfer-encoding"}:
                handler.send_header(name, value)
        if "content-length" not in sent:
            handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data)

    def _reset(self, handler: BaseHTTPRequestHandler) -> None:
        # With nothing left to linger for, closing sends RST.
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.connection.close()
