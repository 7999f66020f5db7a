"""A device reads a bounded number of bytes for a bounded time, whatever a server sends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace

import pytest

from syncline.sdk import bounded_http
from syncline.sdk.bounded_http import (
    MAX_ERROR_BYTES,
    AnswerTooLong,
    HttpAnswer,
    HttpOrigin,
    NotConnected,
    NotHttp,
    _is_quiet,
    fetch,
)
from tests.clients.hostile_server import MAX_TAKEN_BYTES, MIB, HostileConnection, HostileServer, hostile

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def ask(server: HostileServer, seconds: float = 600.0) -> HttpAnswer:
    return fetch(f"{server.endpoint}/place", {}, max_bytes=1000, seconds=seconds)


def answer(body: bytes, *, status: str = "200 OK", headers: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n%s" % (status.encode(), headers, size, body)


def test_an_answer_has_a_status_headers_and_a_body() -> None:
    with hostile(lambda to: to.send(answer(b"content", headers=b"x-one: two\r\n"))) as server:
        found = ask(server)
    assert (found.status, found.is_success, found.headers["X-One"], found.body) == (200, True, "two", b"content")
    (request,) = server.requests
    assert request.startswith(b"GET /place HTTP/1.1\r\n")
    assert f"host: {server.address}\r\n".encode() in request


# ---- without an end


@pytest.mark.parametrize(
    ("beginning", "repeated"),
    [
        (b"HTTP/1.1 200 ", b"O"),
        (OK, b"x-more: headers\r\n"),
        (OK, b"\x00\r\n"),
        (OK + b"x-long: ", b"x"),
        (OK + b"x-folded: x\r\n", b" and so on\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n", b"x-more: headers\r\n"),
        (CHUNKED, b"1;" + b"x" * 60 + b"\r\ny\r\n"),
        (CHUNKED + b"0\r\n", b"x-more: trailers\r\n"),
        (CHUNKED + b"-1\r\n", b"x"),
        (CHUNKED + b"-5\r\n", b"x"),
        (CHUNKED, b"0"),
    ],
    ids=[
        "status",
        "headers",
        "headers of nothing",
        "one header",
        "folded header",
        "interim answers",
        "headers of an interim answer",
        "extensions of chunks",
        "trailers",
        "chunk of all that follows",
        "chunk of a negative size",
        "size of a chunk",
    ],
)
def test_what_is_not_body_and_has_no_end_is_given_up(beginning: bytes, repeated: bytes) -> None:
    def send(to: HostileConnection) -> None:
        to.send(beginning)
        to.flood(repeated)

    with hostile(send) as server:
        with pytest.raises(NotHttp):
            ask(server)
        assert server.sent < MAX_TAKEN_BYTES


@pytest.mark.parametrize("status", ["200 OK", "301 Moved", "403 Forbidden", "500 Error"])
@pytest.mark.parametrize(
    "framing",
    [b"content-length: 1000000000000\r\n", b"connection: close\r\n", b"transfer-encoding: chunked\r\n"],
    ids=["length", "close", "chunks"],
)
def test_a_body_without_an_end_is_cut_after_its_bound(status: str, framing: bytes) -> None:
    chunked = b"chunked" in framing

    def send(to: HostileConnection) -> None:
        to.send(b"HTTP/1.1 %s\r\n%s\r\n" % (status.encode(), framing))
        to.flood(b"10000\r\n%s\r\n" % bytes(0x10000) if chunked else bytes(MIB))

    with hostile(send) as server:
        found = ask(server)
        assert found.status == int(status[:3])
        assert len(found.body) == (1001 if found.is_success else MAX_ERROR_BYTES + 1)
        assert server.sent < MAX_TAKEN_BYTES


def test_the_answer_of_a_proxy_has_a_bound_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(to: HostileConnection) -> None:
        to.send(b"HTTP/1.1 200 Connection established\r\n")
        to.flood(b"x-more: headers\r\n")

    with hostile(send) as server:
        for name in ("NO_PROXY", "no_proxy", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", server.endpoint)
        with pytest.raises(AnswerTooLong):
            fetch("https://files.example.com/place", {}, max_bytes=1000, seconds=600)
        assert server.sent < MAX_TAKEN_BYTES


# ---- slowly

SLOW = [
    answer(b"x" * 400),
    OK + b"x-slow: " + b"x" * 400 + b"\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 16 + answer(b""),
    CHUNKED + b"1\r\nx\r\n" * 80 + b"0\r\n\r\n",
    answer(b"x" * 400, status="403 Forbidden"),
]


@pytest.mark.parametrize("slow", SLOW, ids=["body", "header", "interim answers", "chunks", "error"])
def test_what_comes_byte_by_byte_has_a_deadline(slow: bytes) -> None:
    with hostile(lambda to: to.drip(slow)) as server, pytest.raises(TimeoutError):
        ask(server, seconds=0.5)


def test_who_does_not_read_a_request_is_not_waited_for() -> None:
    with (
        hostile(lambda to: to.wait()) as server,
        closing(HttpOrigin(server.endpoint)) as origin,
        pytest.raises(TimeoutError),
    ):
        origin.request("PUT", "/place", {}, bytes(64 * MIB), max_bytes=0, seconds=0.5)


def test_silence_ends_an_answer_before_its_deadline() -> None:
    def send(to: HostileConnection) -> None:
        to.send(OK)
        to.wait()

    with (
        hostile(send) as server,
        closing(HttpOrigin(server.endpoint)) as origin,
        pytest.raises(TimeoutError),
    ):
        origin.request("GET", "/place", {}, max_bytes=0, seconds=3600, silence_seconds=0.2)


def test_time_for_which_the_device_itself_waits_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    taken: list[int] = []

    def take(size: int) -> None:
        nonlocal now
        now += 100.0
        taken.append(size)

    monkeypatch.setattr(bounded_http, "time", SimpleNamespace(monotonic=lambda: now))
    body = bytes(range(256)) * 4096
    with hostile(lambda to: to.send(answer(body))) as server, closing(HttpOrigin(server.endpoint)) as origin:
        found = origin.request("GET", "/place", {}, max_bytes=len(body), seconds=60, take=take)
    assert found.body == body
    assert sum(taken) == len(body)
    assert len(taken) > 1


# ---- what is not true


@pytest.mark.parametrize(
    "sent",
    [
        b"220 mail.example.com ESMTP\r\n",
        b"HTTP/1.1 many OK\r\n\r\n",
        b"HTTP/3.0 200 OK\r\n\r\n",
        CHUNKED + b"many\r\n",
        b"\x16\x03\x01\x00\x05hello",
    ],
)
def test_what_is_no_http_is_said(sent: bytes) -> None:
    def send(to: HostileConnection) -> None:
        to.send(sent)
        to.close()

    with hostile(send) as server, pytest.raises(NotHttp):
        ask(server)


def test_a_body_that_is_shorter_than_it_says_is_no_answer() -> None:
    def send(to: HostileConnection) -> None:
        to.send(answer(b"content", length=100))
        to.close()

    with hostile(send) as server, pytest.raises(ConnectionError, match="ended early"):
        ask(server)


def test_what_follows_an_answer_is_not_taken_for_the_next_one() -> None:
    followed = threading.Event()
    answers = iter([answer(b"first") + answer(b"invented"), answer(b"second")])

    def send(to: HostileConnection) -> None:
        to.send(next(answers))
        followed.set()

    with hostile(send) as server, closing(HttpOrigin(server.endpoint)) as origin:
        for expected in (b"first", b"second"):
            assert origin.request("GET", "/place", {}, max_bytes=1000, seconds=60).body == expected
            assert followed.wait(60)


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with (
        hostile(lambda to: to.send(answer(b""))) as other,
        hostile(
            lambda to: to.send(answer(b"", status="307 Moved", headers=f"location: {other.endpoint}/\r\n".encode()))
        ) as server,
    ):
        assert ask(server).status == 307
        assert other.requests == []


# ---- connections


def keep(to: HostileConnection) -> None:
    to.send(answer(b"content"))


def leave(to: HostileConnection) -> None:
    to.send(answer(b"content"))
    to.close()


@pytest.mark.parametrize(("send", "connections"), [(keep, 1), (leave, 3)])
def test_a_connection_is_used_again_unless_the_server_has_closed_it(
    send: Callable[[HostileConnection], None], connections: int
) -> None:
    used = set()

    def noted(to: HostileConnection) -> None:
        used.add(to.peer)
        send(to)

    with hostile(noted) as server, closing(HttpOrigin(server.endpoint)) as origin:
        for _ in range(3):
            assert origin.request("GET", "/place", {}, max_bytes=1000, seconds=60).body == b"content"
            (idle,) = origin._idle.queue
            while send is leave and _is_quiet(idle.sock):
                time.sleep(0.01)
    assert len(used) == connections


def test_a_server_that_refuses_a_request_before_it_has_read_it_is_understood() -> None:
    def refuse(to: HostileConnection) -> None:
        to.send(answer(b"why", status="403 Forbidden", headers=b"connection: close\r\n"))
        to.close()

    with hostile(refuse) as server, closing(HttpOrigin(server.endpoint)) as origin:
        found = origin.request("PUT", "/place", {}, bytes(64 * MIB), max_bytes=0, seconds=600)
    assert (found.status, found.body) == (403, b"why")


def test_a_handshake_that_nobody_answers_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        fetch(f"https://127.0.0.1:{silent.getsockname()[1]}/place", {}, max_bytes=1000, seconds=0.5)


def test_a_proxy_gets_the_whole_address_and_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile(keep) as server:
        for name in ("NO_PROXY", "no_proxy", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", f"http://ann:secret@{server.address}")
        found = fetch("http://files.example.com:8000/place", {"x-one": "two"}, max_bytes=1000, seconds=600)
    assert found.body == b"content"
    (request,) = server.requests
    lines = set(request.split(b"\r\n"))
    assert b"GET http://files.example.com:8000/place HTTP/1.1" in lines
    assert {b"host: files.example.com:8000", b"x-one: two", b"Proxy-Authorization: Basic YW5uOnNlY3JldA=="} <= lines


def test_each_address_of_a_host_is_tried() -> None:
    with hostile(keep) as server:
        url = f"http://files.localhost:{server.address.rpartition(':')[2]}/place"
        # The server listens at the second address only.
        with closing(HttpOrigin(url, look_up=lambda host, port: ["127.0.0.2", "127.0.0.1"])) as origin:
            assert origin.request("GET", "/place", {}, max_bytes=1000, seconds=600).body == b"content"


def test_a_name_that_is_not_looked_up_in_time_is_not_waited_for() -> None:
    ended = threading.Event()

    def never(_host: str, _port: int) -> list[str]:
        ended.wait()
        return []

    with closing(HttpOrigin("http://files.localhost/place", look_up=never)) as origin, pytest.raises(NotConnected):
        origin.request("GET", "/place", {}, max_bytes=1000, seconds=0.2)
    ended.set()


def test_requests_that_give_up_leave_one_thread_with_a_resolver_that_never_answers() -> None:
    ended = threading.Event()

    def never(_host: str, _port: int) -> list[str]:
        ended.wait()
        return []

    with closing(HttpOrigin("http://files.localhost/place", look_up=never)) as origin:
        for _ in range(20):
            with pytest.raises(NotConnected):
                origin.request("GET", "/place", {}, max_bytes=1000, seconds=0.02)
        assert sum(thread.name == "resolver" for thread in threading.enumerate()) == 1
    ended.set()


def test_the_next_request_looks_a_name_up_again() -> None:
    asked: list[str] = []

    def look_up(host: str, _port: int) -> list[str]:
        asked.append(host)
        return []

    with closing(HttpOrigin("http://files.localhost/place", look_up=look_up)) as origin:
        for _ in range(2):
            with pytest.raises(OSError, match="no address"):
                origin.request("GET", "/place", {}, max_bytes=1000, seconds=600)
    assert asked == ["files.localhost"] * 2


def test_a_name_without_addresses_is_an_error() -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise socket.gaierror("unknown name")

    with (
        closing(HttpOrigin("http://files.localhost/place", look_up=unknown)) as origin,
        pytest.raises(socket.gaierror, match="unknown name"),
    ):
        origin.request("GET", "/place", {}, max_bytes=1000, seconds=600)


def test_all_addresses_of_a_host_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have thousands of addresses, none of which answers."""
    now = 0.0
    tried: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], *rest: object) -> socket.socket:
        nonlocal now
        now += 10.0
        tried.append(address)
        raise TimeoutError("timed out")

    addresses = [f"127.0.1.{number}" for number in range(200)]
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(bounded_http, "time", SimpleNamespace(monotonic=lambda: now))
    with (
        closing(HttpOrigin("http://files.localhost/place", look_up=lambda host, port: addresses)) as origin,
        pytest.raises(NotConnected),
    ):
        origin.request("GET", "/place", {}, max_bytes=1000, seconds=60)
    assert len(tried) == 6
