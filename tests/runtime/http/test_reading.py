"""Input that comes in many small pieces, is not taken, or comes after the last answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any, Final

import pytest
import uvloop
from typing_extensions import override

from runtime.connection_pool import ConnectionPool
from runtime.http.connection import (
    _MAX_LINES_BYTES,
    CLOSE_UNANSWERED,
    LARGE_HEADER_SECTIONS_BYTES,
    MAX_HEADER_SECTION_BYTES,
    SMALL_HEADER_SECTION_BYTES,
    Reception,
    RequestScope,
)
from runtime.http.reading import (
    MAX_LINGERING_BYTES,
    MAX_PIECE_BYTES,
    MAX_TURN_COST_BYTES,
    PARSER_CALL_COST_BYTES,
    SMALL_PIECE_BYTES,
)
from runtime.pool import TooMuchAtOnce
from syncline.model.blocks import MIB
from tests.runtime.connections import SECONDS, connect, serving, until

_MALLORY: Final = "127.0.0.2"
_ANN: Final = "127.0.0.3"
_HEAD: Final = b"PUT /x HTTP/1.1\r\nhost: x\r\n"
_CHUNKED: Final = _HEAD + b"transfer-encoding: chunked\r\n\r\n"
_CHUNK: Final = b"1\r\nx\r\n"


class Plain(Reception):
    """Connections of no process in particular."""

    @override
    def network(self, scope: RequestScope) -> str:
        return str(scope["client"][0])

    @override
    def person(self, scope: RequestScope) -> str:
        return ""

    @override
    def refusal(self, status: HTTPStatus, detail: str, error: TooMuchAtOnce | None) -> tuple[Mapping[str, str], bytes]:
        return {}, detail.encode()


class Taking:
    """An application that notes from whom it gets parts of bodies, and how large they are, while it `takes`."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, int]] = []
        self.begun = 0
        self.takes = asyncio.Event()

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        self.begun += 1
        more = True
        while more:
            await self.takes.wait()
            message = await receive()
            if message["type"] != "http.request":
                return
            more = message["more_body"]
            if message["body"]:
                self.parts.append((scope["client"][0], len(message["body"])))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    """Answer before the body has come, as the last answer of the connection."""
    headers = [(b"content-length", b"7"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"refused"})


async def shutting(scope: Any, receive: Any, send: Any) -> None:
    """Close the connection, which counts for as many seconds as the path says."""
    scope[CLOSE_UNANSWERED](float(scope["path"].strip("/")))


def plain(*, connections: int = 4096, unread: int = 32 * MIB) -> Plain:
    """Connections with few limits."""
    return Plain(ConnectionPool(connections, []), unread_bytes=unread, header_section_seconds=30.0)


async def test_what_many_connections_of_one_network_send_is_read_as_that_of_one() -> None:
    app = Taking()
    app.takes.set()
    async with serving(app, plain()) as port, AsyncExitStack() as opened:
        many = [await connect(opened, port, _MALLORY) for _ in range(60)]
        _, ann = await connect(opened, port, _ANN)
        for _, writer in [*many, (None, ann)]:
            writer.write(_CHUNKED)
        await until(lambda: app.begun == 61)
        # The server runs on this loop, so it finds all of them at once.
        for _, writer in many:
            writer.write(_CHUNK)
        ann.write(_CHUNK)
        most = 0
        async with asyncio.timeout(SECONDS):
            while len(app.parts) < 61:
                before = len(app.parts)
                await asyncio.sleep(0)
                most = max(most, len(app.parts) - before)
        assert app.parts.index((_ANN, 1)) <= 2, app.parts
        assert most == 1, "in each round of the loop one piece is parsed"


async def test_a_turn_has_so_many_calls_of_the_parser() -> None:
    app = Taking()
    app.takes.set()
    async with serving(app, plain()) as port, AsyncExitStack() as opened:
        reader, writer = await connect(opened, port, _MALLORY)
        writer.write(_CHUNKED + _CHUNK * 50_000 + b"0\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            assert b"200" in await reader.readline()
        assert sum(size for _, size in app.parts) == 50_000
        assert max(size for _, size in app.parts) <= MAX_TURN_COST_BYTES // PARSER_CALL_COST_BYTES


async def test_pieces_that_are_not_taken_are_bounded_in_total_and_of_one_network() -> None:
    app, total = Taking(), 16 * MAX_PIECE_BYTES
    reception = plain(unread=total)
    async with serving(app, reception) as port, AsyncExitStack() as opened:
        for _ in range(30):
            _, writer = await connect(opened, port, _MALLORY)
            writer.write(_HEAD + b"content-length: 1000000\r\n\r\n" + bytes(999_999))
        await until(lambda: app.begun == 30)
        await asyncio.sleep(0.2)  # The server reads all that it still wants.
        assert reception.unread.memory.taken() <= total // 2
        _, ann = await connect(opened, port, _ANN)
        ann.write(_HEAD + b"content-length: 1000000\r\n\r\n" + bytes(1_000_000))
        await until(lambda: app.begun == 31)
        app.takes.set()
        await until(lambda: sum(size for source, size in app.parts if source == _ANN) == 1_000_000)
        await until(lambda: sum(size for _, size in app.parts) == 30 * 999_999 + 1_000_000)
        first: dict[str, list[int]] = {_MALLORY: [], _ANN: []}
        for source, size in app.parts[:31]:
            first[source].append(size)
        assert max(size for _, size in app.parts) <= MAX_PIECE_BYTES
        granted_pieces = [size for size in first[_MALLORY] if size > SMALL_PIECE_BYTES]
        assert len(granted_pieces) <= 8, "one network leaves half of the memory"
        assert max(first[_ANN]) > SMALL_PIECE_BYTES
        await until(lambda: reception.unread.memory.taken() == 0)


async def test_what_waits_for_the_answer_before_it_is_not_read_ahead() -> None:
    app = Taking()
    reception = plain()
    async with serving(app, reception) as port, AsyncExitStack() as opened:
        _, writer = await connect(opened, port, _MALLORY)
        large = b"GET /y HTTP/1.1\r\nhost: x\r\n" + b"x: " + b"y" * (MAX_HEADER_SECTION_BYTES - 100) + b"\r\n\r\n"
        writer.write(large * 40)  # more than a connection may send ahead, if it is read ahead
        await until(lambda: app.begun == 1)
        await asyncio.sleep(0.2)
        assert reception.unread.memory.taken() <= MAX_PIECE_BYTES
        app.takes.set()
        await until(lambda: app.begun == 40)


def _with_headers(size: int, path: str = "/x") -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\nx: {'y' * size}\r\n\r\n".encode()


async def test_large_heads_take_memory_that_networks_share() -> None:
    app, reception = Taking(), plain()
    heads = reception.large_headers
    most = LARGE_HEADER_SECTIONS_BYTES // 2 // _MAX_LINES_BYTES
    async with serving(app, reception) as port, AsyncExitStack() as opened:
        many = [await connect(opened, port, _MALLORY) for _ in range(most + 100)]
        for _, writer in many[::2]:
            writer.write(_with_headers(MAX_HEADER_SECTION_BYTES // 2))
        for _, writer in many[1::2]:
            writer.write(_with_headers(MAX_HEADER_SECTION_BYTES // 2)[:-4])  # a header that does not end is as large
        answers = [asyncio.create_task(reader.readline()) for reader, _ in many]
        await until(lambda: sum(answer.done() for answer in answers) >= 100)
        refused = [answer.result() for answer in answers if answer.done()]
        assert {line.split()[1] for line in refused} == {b"429"}
        assert len(refused) == 100, "one network leaves half"
        for answer in answers:
            answer.cancel()
        assert 0 < heads.taken() <= LARGE_HEADER_SECTIONS_BYTES // 2
        app.takes.set()
        for source, size in (
            (_ANN, SMALL_HEADER_SECTION_BYTES // 2),
            (_ANN, MAX_HEADER_SECTION_BYTES // 2),
            (_MALLORY, 2_000),
        ):
            reader, writer = await connect(opened, port, source)
            writer.write(_with_headers(size))
            async with asyncio.timeout(SECONDS):
                assert b"200" in await reader.readline(), (source, size)
    assert heads.taken() == 0


async def test_the_memory_of_a_large_head_is_given_back_with_the_next_request() -> None:
    app, reception = Taking(), plain()
    app.takes.set()
    async with serving(app, reception) as port, AsyncExitStack() as opened:
        reader, writer = await connect(opened, port, _ANN)
        for size in (MAX_HEADER_SECTION_BYTES // 2, MAX_HEADER_SECTION_BYTES // 2, 10):
            writer.write(_with_headers(size))
            async with asyncio.timeout(SECONDS):
                await reader.readuntil(b"\r\n\r\n")
            assert bool(reception.large_headers.taken()) == (size > SMALL_HEADER_SECTION_BYTES)
        writer.write(_CHUNKED + _CHUNK + b"0\r\nx: " + b"y" * (MAX_HEADER_SECTION_BYTES // 2) + b"\r\n\r\n")
        await until(lambda: app.begun == 4)
        async with asyncio.timeout(SECONDS):
            await reader.readuntil(b"\r\n\r\n")
        await until(lambda: reception.large_headers.taken() == 0)


async def after_refusal(port: int, opened: AsyncExitStack, size: int, *, source: str = _MALLORY) -> bytes:
    """Send so many bytes of a body, and return the answer that is read afterwards."""
    loop = asyncio.get_running_loop()
    connection = socket.create_connection(("127.0.0.1", port), source_address=(source, 0))
    opened.callback(connection.close)
    connection.setblocking(False)
    await loop.sock_sendall(connection, _HEAD + f"content-length: {size}\r\n\r\n".encode())
    await asyncio.sleep(0.1)  # the answer is there, and the connection refused
    await loop.sock_sendall(connection, bytes(size))
    answer = b""
    async with asyncio.timeout(SECONDS):
        while part := await loop.sock_recv(connection, 65536):
            answer += part
    return answer


@pytest.mark.parametrize("connections", [4096, 1], ids=["answered early", "one too many"])
async def test_who_is_refused_while_sending_reads_why(connections: int) -> None:
    async with serving(refusing, plain(connections=connections)) as port, AsyncExitStack() as opened:
        if connections == 1:
            await connect(opened, port, _MALLORY)
        answer = await after_refusal(port, opened, MAX_LINGERING_BYTES // 2)
        assert (b"refused" if connections > 1 else b"too many connections") in answer


async def test_who_never_stops_sending_is_cut_off() -> None:
    reception = plain()
    async with serving(refusing, reception) as port, AsyncExitStack() as opened:
        with pytest.raises(ConnectionError):
            await after_refusal(port, opened, MAX_LINGERING_BYTES + 64 * MIB)
        await until(lambda: reception.unread.lingering.taken() == 0)


async def test_one_network_has_half_of_the_places_to_linger() -> None:
    reception = plain()
    async with serving(refusing, reception) as port, AsyncExitStack() as opened:
        places = reception.unread.lingering.free()
        for _ in range(places):
            _, writer = await connect(opened, port, _MALLORY)
            writer.write(_HEAD + b"content-length: 100\r\n\r\n")
        await asyncio.sleep(0.2)
        assert 0 < reception.unread.lingering.taken() <= places // 2
        assert b"refused" in await after_refusal(port, opened, MAX_LINGERING_BYTES // 2, source=_ANN)


def test_the_loop_of_the_processes_does_the_same() -> None:
    """The services run on uvloop, which reads into buffers by a way of its own."""

    async def live() -> None:
        await test_what_many_connections_of_one_network_send_is_read_as_that_of_one()
        await test_a_turn_has_so_many_calls_of_the_parser()
        await test_pieces_that_are_not_taken_are_bounded_in_total_and_of_one_network()
        await test_what_waits_for_the_answer_before_it_is_not_read_ahead()
        await test_who_is_refused_while_sending_reads_why(4096)
        await test_who_is_refused_while_sending_reads_why(1)
        await test_who_never_stops_sending_is_cut_off()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())


@pytest.mark.parametrize(("path", "kept"), [("/3600", 1), ("/0.01", 0)])
async def test_a_connection_that_is_closed_unanswered_counts_for_a_while(path: str, kept: int) -> None:
    reception = plain(connections=3)
    async with serving(shutting, reception) as port, AsyncExitStack() as opened:
        reader, writer = await connect(opened, port, _MALLORY)
        _, open_until_the_end = await connect(opened, port, _ANN)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        async with asyncio.timeout(SECONDS):
            assert await reader.read() == b""
        await until(lambda: reception.pool.taken() == 1 + kept)
        assert (reception.pool.admit(_MALLORY, 1) is None) is bool(kept)
        assert not open_until_the_end.is_closing()
