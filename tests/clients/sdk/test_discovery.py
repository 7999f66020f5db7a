from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest

from syncline.sdk.discovery import Deployment, Service, StorageAddress, deployment_to_json, discover
from syncline.sdk.errors import EndpointUnreachable, NewerSyncline, NotSyncline
from tests.clients.hostile_server import MAX_TAKEN_BYTES, HostileConnection, hostile
from tests.support.http import serving

DOCUMENT: dict[str, Any] = {
    "syncline": 1,
    "auth": {"target": "127.0.0.1:8081", "tls": False},
    "metadata": {"target": "localhost:443", "tls": True},
    "notify": {"target": "127.0.0.1:8083", "tls": False},
    "s3": {"endpoint": None, "region": "us-east-1", "bucket": "content", "path_style": False},
    "something": "that a later version adds",
}


def found(body: Any, status: int = 200) -> Deployment:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with serving(lambda path: (status, raw)) as endpoint:
        return discover(endpoint)


def test_an_endpoint_says_where_everything_is() -> None:
    deployment = found(DOCUMENT)
    assert deployment == Deployment(
        Service("127.0.0.1:8081", tls=False),
        Service("localhost:443", tls=True),
        Service("127.0.0.1:8083", tls=False),
        StorageAddress(None, "us-east-1", "content", path_style=False),
    )
    assert deployment_to_json(deployment) == {name: DOCUMENT[name] for name in DOCUMENT if name != "something"}


def test_a_slash_at_the_end_does_not_matter() -> None:
    paths = []

    def answer(path: str) -> tuple[int, bytes]:
        paths.append(path)
        return 200, json.dumps(DOCUMENT).encode()

    with serving(answer) as endpoint:
        discover(endpoint + "/")
    assert paths == ["/.well-known/syncline"]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"<html>", 200, NotSyncline),
        (b"\xff\xfe", 200, NotSyncline),
        (b"[" * 60_000, 200, NotSyncline),
        (b'{"syncline": ' + b"1" * 60_000 + b"}", 200, NotSyncline),
        (b"", 200, NotSyncline),
        ([], 200, NotSyncline),
        ({}, 200, NotSyncline),
        ({"syncline": "1"}, 200, NotSyncline),
        ({"syncline": True}, 200, NotSyncline),
        ({"syncline": 0}, 200, NotSyncline),
        (b"", 404, NotSyncline),
        (b"", 401, NotSyncline),
        (b"", 500, EndpointUnreachable),
        (b"", 503, EndpointUnreachable),
        (b"", 429, EndpointUnreachable),
        ({"syncline": 2}, 200, NewerSyncline),
        ({**DOCUMENT, "auth": None}, 200, NotSyncline),
        ({**DOCUMENT, "auth": {"target": "", "tls": False}}, 200, NotSyncline),
        ({name: DOCUMENT[name] for name in DOCUMENT if name != "s3"}, 200, NotSyncline),
        (b'{"syncline": 1, "pad": "' + b"x" * 100_000 + b'"}', 200, NotSyncline),
    ],
)
def test_what_is_not_syncline_is_told_from_what_does_not_answer(body: Any, status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        found(body, status)


def test_an_endpoint_that_is_not_there_does_not_answer() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # the port does not listen, and nobody else can take it
        port = taken.getsockname()[1]
        with pytest.raises(EndpointUnreachable, match=f"http://127.0.0.1:{port} does not answer"):
            discover(f"http://127.0.0.1:{port}")


def test_a_name_that_does_not_exist_does_not_answer() -> None:
    with pytest.raises(EndpointUnreachable, match="does not answer"):
        discover("https://syncline.invalid")


def test_silence_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(EndpointUnreachable, match="timed out"):
        discover(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.1)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "slow",
    [
        HEAD + b"content-length: 1500\r\n\r\n" + b" " * 1500,
        HEAD + b"x-slow: " + b"x" * 1500 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 60,
        b"HTTP/1.1 503 Wait\r\nx-slow: " + b"x" * 1500 + b"\r\n\r\n",
    ],
    ids=["body", "header", "interim answers", "error"],
)
def test_an_endpoint_that_sends_one_byte_after_the_other_is_not_waited_for(slow: bytes) -> None:
    """The socket is never silent for as long as the timeout, and the answer takes half a minute."""
    with (
        hostile(lambda to: to.drip(slow)) as server,
        pytest.raises(EndpointUnreachable, match="timed out"),
    ):
        discover(server.endpoint, timeout=1.0)


@pytest.mark.parametrize(
    ("beginning", "repeated"),
    [
        (CHUNKED + b"0\r\n", b"x-more: trailers\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (HEAD, b"x-more: headers\r\n"),
        (HEAD + b"connection: close\r\n\r\n", b"    "),
    ],
    ids=["trailers", "interim answers", "headers", "body"],
)
def test_an_endpoint_without_an_end_is_not_syncline(beginning: bytes, repeated: bytes) -> None:
    def send(to: HostileConnection) -> None:
        to.send(beginning)
        to.flood(repeated)

    with hostile(send) as server:
        with pytest.raises(NotSyncline):
            discover(server.endpoint, timeout=600.0)
        assert server.sent < MAX_TAKEN_BYTES


def test_redirects_have_an_end() -> None:
    def redirect(to: HostileConnection) -> None:
        to.send(b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")

    with hostile(redirect) as server:
        with pytest.raises(NotSyncline, match="redirects again and again"):
            discover(server.endpoint, timeout=600.0)
        assert len(server.requests) == 6


def test_what_does_not_speak_http_is_not_syncline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example.com ESMTP\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(NotSyncline, match="does not speak HTTP"):
            discover(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


@pytest.mark.parametrize("endpoint", ["files.example.com", "ftp://files.example.com", "http://", "file:///etc/passwd"])
def test_an_endpoint_is_a_web_address(endpoint: str) -> None:
    with pytest.raises(NotSyncline, match="not an address"):
        discover(endpoint)
