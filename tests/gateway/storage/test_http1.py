"""Requests to an origin: what comes is what was sent, however it was cut, and what goes wrong is told."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gateway.storage.http1 import BodyTooLarge, Origin, RawResponse, _Incoming
from gateway.storage.segments import SEGMENT_BYTES, Segments
from runtime.pool import MAX_WAITERS, Share

PLENTY = 64 * SEGMENT_BYTES
SILENCE = 10.0
ANN, BEN = Share("ann", "office"), Share("ben", "office")

Serve = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers each request on each connection by `serve`, which gets the head of the request."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.connections = self.most = self.open = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while not writer.is_closing():
                await self.serve(await reader.readuntil(b"\r\n\r\n"), reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def origin(serve: Serve, *, connections: int = 8, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None):
    """An origin, the address of something there, and the server behind it."""
    server = Server(serve)
    listening = await asyncio.start_server(server, "127.0.0.1", 0, ssl=tls[0] if tls else None)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{listening.sockets[0].getsockname()[1]}/a/b%20c?d=e"
    async with (
        listening,
        Origin(url, connections=connections, memory=Segments(8 * SEGMENT_BYTES), tls=tls[1] if tls else None) as opened,
    ):
        yield opened, url, server


async def get(
    opened: Origin, url: str, *, share: Share = ANN, most: int = PLENTY, silence: float = SILENCE
) -> RawResponse:
    return await opened.request("GET", url, {"range": "bytes=0-"}, share=share, most=most, silence=silence)


def body(answer: RawResponse) -> bytes:
    return b"".join(answer.body)


def answering(data: bytes, *, status: str = "206 Partial Content", more: str = "") -> Serve:
    async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(data)}\r\n\r\n".encode())
        writer.write(data)

    return serve


def saying(*pieces: bytes, pause: float = 0.002, close: bool = False) -> Serve:
    """Exactly this, piece by piece, with so many seconds in between."""

    async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        if close:
            writer.close()

    return serve


def some(size: int) -> bytes:
    """Bytes that differ from one segment to the next."""
    return (b"%016x" * (size // 16 + 1) % tuple(range(size // 16 + 1)))[:size]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's certificate, and a context that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=pem.decode())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_bodies_of_all_sizes_arrive_whole_on_one_connection(loop, over_tls, certificate):
    sizes = [0, 1, 3500, 70_000, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3_000_000]

    async def go() -> None:
        left = iter(sizes)

        async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert head.startswith(b"GET /a/b%20c?d=e HTTP/1.1\r\nhost: 127.0.0.1:")
            assert b"\r\nrange: bytes=0-\r\n" in head
            await answering(some(next(left)))(head, reader, writer)

        async with origin(serve, tls=certificate if over_tls else None) as (opened, url, server):
            for size in sizes:
                answer = await get(opened, url)
                assert answer.status == 206
                assert body(answer) == some(size)
            assert server.connections == 1

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(go())


async def test_a_server_that_is_not_trusted_is_not_asked(certificate):
    async with origin(answering(b"abc"), tls=certificate) as (_, url, server):
        async with Origin(url, connections=1, memory=Segments(0)) as doubting:
            with pytest.raises(ssl.SSLCertVerificationError):
                await get(doubting, url)
        assert server.connections == 0


async def test_requests_at_once_take_turns_on_so_many_connections():
    async with origin(answering(some(200_000)), connections=3) as (opened, url, server):
        answers = await asyncio.gather(*(get(opened, url, share=Share.alone(f"{n}")) for n in range(20)))
        assert all(body(answer) == some(200_000) for answer in answers)
        assert server.connections == server.most == 3


async def test_many_requests_of_one_person_leave_connections_for_others():
    """A person with 24 downloads, each of which reads five blocks ahead, does not delay the request of another."""
    going = asyncio.Event()
    begun: list[str] = []

    async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append("ben" if b"/ben " in head else "ann")
        await going.wait()
        await answering(b"abc")(head, reader, writer)

    async with origin(serve, connections=64) as (opened, url, _server):
        downloads = 24 * 5
        asked = [asyncio.create_task(get(opened, url, share=ANN, silence=60.0)) for _ in range(downloads)]
        async with asyncio.timeout(60.0):
            while len(begun) < 32:
                await asyncio.sleep(0.001)
            asked.append(asyncio.create_task(get(opened, f"{url}/ben", share=BEN, silence=60.0)))
            while "ben" not in begun:
                await asyncio.sleep(0.001)
            assert begun == ["ann"] * 32 + ["ben"]
            going.set()
            assert [body(answer) for answer in await asyncio.gather(*asked)] == [b"abc"] * (downloads + 1)


async def test_requests_take_turns_by_person_where_all_connections_are_used():
    going = asyncio.Semaphore(0)
    begun: list[str] = []

    async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append("ben" if b"/ben " in head else "ann")
        await going.acquire()
        await answering(b"abc")(head, reader, writer)

    async with origin(serve, connections=1) as (opened, url, _server), asyncio.timeout(60.0):
        asked = [asyncio.create_task(get(opened, url, share=ANN, silence=60.0)) for _ in range(24)]
        while not begun:
            await asyncio.sleep(0.001)
        asked += [asyncio.create_task(get(opened, f"{url}/ben", share=BEN, silence=60.0)) for _ in range(2)]
        await asyncio.sleep(0)
        for _ in asked:
            going.release()
        await asyncio.gather(*asked)
        assert [at for at, name in enumerate(begun) if name == "ben"][-1] <= 4


async def test_no_request_is_refused_however_many_wait():
    async with origin(answering(b"abc"), connections=2) as (opened, url, _server):
        answers = await asyncio.gather(*(get(opened, url) for _ in range(2 * MAX_WAITERS)))
        assert {body(answer) for answer in answers} == {b"abc"}


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_put_brings_its_body(loop):
    came = []

    async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        came.append(await reader.readexactly(size))
        await answering(b"", status="200 OK")(head, reader, writer)

    async def go() -> None:
        async with origin(serve) as (opened, url, server):
            for size in (1, 5_000_000, 10):
                answer = await opened.request("PUT", url, {}, share=ANN, body=some(size), most=0, silence=SILENCE)
                assert answer == RawResponse(200, [])
                assert came.pop() == some(size)
            assert server.connections == 1

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(go())


async def test_a_put_that_is_refused_before_all_of_it_was_sent_is_told_and_its_connection_not_used_again():
    async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"PUT"):
            await answering(b"<Code>SlowDown</Code>", status="503 Slow Down")(head, reader, writer)
            await asyncio.sleep(60)
        await answering(b"abc")(head, reader, writer)

    async with origin(serve) as (opened, url, server):
        answer = await opened.request("PUT", url, {}, share=ANN, body=bytes(50_000_000), most=0, silence=SILENCE)
        assert (answer.status, body(answer)) == (503, b"<Code>SlowDown</Code>")
        assert body(await get(opened, url)) == b"abc"
        assert server.connections == 2


async def test_a_refusal_in_chunks_as_s3_sends_them():
    said = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<Code\r\n8\r\n>abc</Co\r\n0\r\n\r\n"
    async with origin(saying(said[:20], said[20:70], said[70:])) as (opened, url, server):
        for _ in range(2):
            answer = await get(opened, url, most=3)
            assert (answer.status, body(answer)) == (404, b"<Code>abc</Co")
        assert server.connections == 1


async def test_a_connection_that_was_closed_while_nobody_used_it_is_replaced():
    async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(b"abc")(head, reader, writer)
        await writer.drain()
        writer.close()

    async with origin(serve) as (opened, url, server):
        for number in range(3):
            assert body(await get(opened, url)) == b"abc"
            while number and server.open:  # the first one is perhaps closed only when it is asked again
                await asyncio.sleep(0.001)
        assert server.connections == 3


async def test_a_connection_that_is_just_closing_is_replaced():
    async with origin(answering(b"abc")) as (opened, url, server):
        assert body(await get(opened, url)) == b"abc"
        opened._idle[0]._transport.close()  # the next request uses it before the close is told
        assert body(await get(opened, url)) == b"abc"
        assert server.connections == 2


async def test_a_connection_that_its_owner_says_to_close_is_not_kept():
    async with origin(answering(b"abc", more="Connection: close\r\n")) as (opened, url, server):
        for _ in range(2):
            assert body(await get(opened, url)) == b"abc"
        assert server.connections == 2


async def test_what_comes_after_an_answer_is_nobodys():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    for data in (b"abc", some(200_000)):  # parsed, and only counted
        async with origin(saying(head % len(data), data + b"HTTP/1.1 200 OK\r\n")) as (opened, url, _):
            with contextlib.suppress(ConnectionError):  # if it comes in one piece with the answer
                assert body(await get(opened, url)) == data
            async with asyncio.timeout(SILENCE):
                while any(connection.reusable for connection in opened._idle):
                    await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000000000000\r\n\r\n",
    ],
    ids=["another protocol", "no length", "two lengths", "two ways", "no end", "always on the way", "a long refusal"],
)
async def test_what_is_no_answer_is_told_as_no_answer(said):
    async with origin(saying(said)) as (opened, url, _):
        with pytest.raises(ConnectionError):
            await get(opened, url)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    ],
)
async def test_more_than_was_asked_for_is_not_taken(said):
    async with origin(saying(said)) as (opened, url, _):
        with pytest.raises(BodyTooLarge):
            await get(opened, url, most=3)


async def test_a_word_in_between_is_passed_over():
    said = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    async with origin(saying(said)) as (opened, url, _):
        assert body(await get(opened, url)) == b"abc"


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"]
)
async def test_a_connection_that_breaks_off_is_told(sent):
    async with origin(saying(sent, close=True)) as (opened, url, _):
        with pytest.raises(ConnectionError):
            await get(opened, url)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\nab"])
async def test_silence_is_not_waited_for(sent):
    async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await reader.read()

    async with origin(serve) as (opened, url, server):
        with pytest.raises(TimeoutError):
            await get(opened, url, silence=0.05)
        async with asyncio.timeout(SILENCE):
            while server.open:  # the client has broken the connection off
                await asyncio.sleep(0.01)


async def test_what_comes_slowly_but_comes_is_waited_for():
    """The transfer takes longer in all than the server may be silent."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n"
    async with origin(saying(head, *[b"x"] * 300, pause=0.01)) as (opened, url, _):
        began = asyncio.get_running_loop().time()
        assert body(await get(opened, url, silence=2.0)) == b"x" * 300
        assert asyncio.get_running_loop().time() - began > 2.0


async def test_whoever_gives_up_breaks_the_connection_off():
    async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with origin(serve, connections=1) as (opened, url, server):
        for number in range(1, 4):
            asked = asyncio.create_task(get(opened, url))
            async with asyncio.timeout(SILENCE):
                while server.connections < number:  # the client has come that far
                    await asyncio.sleep(0.001)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        server.serve = answering(b"abc")
        assert body(await get(opened, url)) == b"abc"
        assert server.connections == 4


async def test_nobody_is_there():
    async with origin(answering(b"")) as (_, url, _):
        pass
    async with Origin(url, connections=1, memory=Segments(0)) as opened:
        with pytest.raises(ConnectionRefusedError):
            await get(opened, url)


# -- an answer in pieces


@given(
    data=st.binary(max_size=200)
    | st.integers(SEGMENT_BYTES - 300, SEGMENT_BYTES + 300).map(some)
    | st.just(some(3 * SEGMENT_BYTES)),
    headers=st.lists(
        st.tuples(st.from_regex(r"x-[a-z]{1,8}", fullmatch=True), st.text("abc ", max_size=9)), max_size=4
    ),
    seed=st.integers(0, 2**32),
)
def test_an_answer_is_the_same_however_it_is_cut(data, headers, seed):
    cuts = random.Random(seed)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    said = f"HTTP/1.1 206 Partial Content\r\n{lines}content-length: {len(data)}\r\n\r\n".encode() + data
    incoming = _Incoming(Segments(2 * SEGMENT_BYTES), PLENTY)
    at = 0
    while at < len(said):
        assert not incoming.complete
        room = min(len(incoming.rest) if incoming.rest else 4096, len(said) - at)
        size = cuts.choice([1, cuts.randint(1, room), room])
        if incoming.rest:
            incoming.rest[:size] = said[at : at + size]
            incoming.filled(size)
        else:
            incoming.feed(memoryview(said)[at : at + size])
        at += size
    assert incoming.complete
    assert incoming.keeps
    assert b"".join(incoming.parts) == data
    incoming.let_go()
