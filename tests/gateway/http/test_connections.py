"""Clients that take their time."""

import asyncio
import contextlib
import gc
import socket
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from gateway.http.reception import GatewayReception
from gateway.identity.address import OwnAddress
from runtime.http.connection import MAX_UNSENT_BYTES, Connection
from syncline.auth.v1 import auth_pb2
from syncline.model.blocks import MIB
from tests.gateway.fakes import SPACE, TOKEN, World, gateway

Connected = tuple[bytes, asyncio.StreamWriter]


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return the bytes that came before the connection was closed; none if something of ours arrived after that."""
    async with asyncio.timeout(20):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close, whatever the other side did already."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def test_a_head_that_never_ends_is_given_up():
    async with gateway(request_seconds=0.3) as world:
        reader, writer = await connect(world.address)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
        for _ in range(100):  # a byte now and then does not extend the time
            if reader.at_eof():
                break
            writer.write(b"x")
            await asyncio.sleep(0.02)
        assert await ended(reader) == b""
        await closed(writer)
        # The second request of a connection is no different.
        reader, writer = await connect(world.address)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HT")
        answer = await ended(reader)
        assert answer.count(b"HTTP/1.1 200") == 1
        await closed(writer)


async def test_what_is_complete_is_never_given_up():
    async with gateway(request_seconds=0.3) as world:
        reader, writer = await connect(world.address)
        for _ in range(3):  # longer in all than a head may take
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"200" in await reader.readline()
            while (await reader.readline()).strip():
                pass
            await reader.readexactly(len(b'{"status":"alive"}'))
            await asyncio.sleep(0.25)
        await closed(writer)


async def test_many_that_never_finish_keep_nobody_else_waiting():
    async with gateway() as world:
        host, _, port = world.address.rpartition(":")
        slow = []
        for _ in range(300):
            connection = socket.create_connection((host, int(port)))
            connection.sendall(b"POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
            slow.append(connection)
        world.file("f", [b"abc"])
        async with asyncio.timeout(30):
            answer = await world.get("f")
        assert (answer.status, answer.body) == (200, b"abc")
        for connection in slow:
            connection.close()


async def test_a_body_that_never_comes_is_given_up():
    async with gateway(request_seconds=0.3) as world:
        reader, writer = await connect(world.address)
        head = "POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\n"
        writer.write(f"{head}authorization: Bearer {TOKEN}\r\n\r\n{{".encode())
        answer = await ended(reader)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"BODY_TOO_SLOW" in answer
        await closed(writer)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz#fragment HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000, 431),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 100 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + (b"x: " + b"y" * 8000 + b"\r\n") * 5 + b"\r\n", 431),
        (b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-length: " + b"0" * 5_000 + b"1\r\n\r\n1", 400),
        (b"PROPFIND /dav/s HTTP/1.1\r\nhost: x\r\ncontent-length: " + b"0" * 19 + b"1\r\n\r\n1", 400),
        (b"PUT /dav/s/f HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 400),
        (
            b"PUT /dav/s/f HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\ncontent-length: 3\r\n\r\nabc",
            400,
        ),
        (b"CONNECT /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc", 400),
    ],
)
async def test_what_is_no_http_is_a_problem_too(head, status):
    async with gateway() as world:
        reader, writer = await connect(world.address)
        writer.write(head)
        answer = await ended(reader)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
        assert b"application/problem+json" in answer
        assert b"INVALID_REQUEST" in answer
        assert b"no-store" in answer
        assert b"nosniff" in answer
        await closed(writer)


@pytest.mark.parametrize("wish", ["h2c", "websocket", "nothing"])
async def test_who_asks_for_another_protocol_is_answered_in_this_one(wish):
    async with gateway() as world:
        reader, writer = await connect(world.address)
        plain = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        upgrading = plain[:-2] + f"connection: upgrade\r\nupgrade: {wish}\r\n\r\n".encode()
        writer.write(upgrading + plain + upgrading + plain)
        async with asyncio.timeout(20):
            for _ in range(4):
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        await closed(writer)


async def test_what_a_chunk_is_said_to_be_beside_its_size_is_bounded():
    async with gateway() as world:
        reader, writer = await connect(world.address)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1;")
        writer.write(b"a" * 100_000)
        assert b"HTTP/1.1 431" in await ended(reader)
        await closed(writer)


async def test_what_follows_a_body_is_bounded_and_is_no_header():
    async with gateway() as world:
        reader, writer = await connect(world.address)
        head = b"GET /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
        writer.write(head + b"x-request-id: from-a-trailer\r\n\r\n")
        answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"from-a-trailer" not in answer
        await closed(writer)
        reader, writer = await connect(world.address)
        writer.write(head + b"x: y\r\n" * 5000)
        assert b"HTTP/1.1 431" in await ended(reader)
        await closed(writer)


def with_head_of(size: int, more: str = "") -> bytes:
    fill = "x" * 8000
    lines = [f"x-{at}: {fill[: min(8000, size - at)]}" for at in range(0, size, 8000)]
    return "\r\n".join(["GET /healthz HTTP/1.1", "host: x", *([more] if more else []), *lines, "", ""]).encode()


@pytest.mark.parametrize("body", [b"", b"y" * 100_000])
async def test_a_head_counts_for_its_own_request_alone(body):
    """However the bytes of several requests arrive: each is within the limits."""
    async with gateway() as world:
        one = with_head_of(30_000, f"content-length: {len(body)}") + body
        for cut in (1, len(one) - 3):
            reader, writer = await connect(world.address)
            writer.write(one * 2 + one[:cut])
            for _ in range(2):
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
            writer.write(one[cut:])
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
            await closed(writer)


async def test_a_head_may_be_as_large_as_it_may_in_whatever_pieces_it_comes():
    async with gateway() as world:
        reader, writer = await connect(world.address)
        lines = ["host: x", *(f"x-{at:03}: {'x' * 320}" for at in range(99))]
        head = "\r\n".join([f"GET /healthz?{'a' * 16_300} HTTP/1.1", *lines, "", ""]).encode()
        before = b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 16000\r\n\r\n" + b"y" * 16_000
        writer.write(before + head[:100])  # parsed at once, of which the first counts for nothing
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        for at in range(100, len(head), 500):
            writer.write(head[at : at + 500])
            await writer.drain()
            await asyncio.sleep(0)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        await closed(writer)


@pytest.mark.parametrize(
    "begin", [b"", b"GET /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"]
)
async def test_a_line_that_does_not_end_is_ended_wherever_it_begins(begin):
    async with gateway() as world:
        reader, writer = await connect(world.address)
        writer.write(begin or b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
        await asyncio.sleep(0.1)
        writer.write(b"x: " + b"y" * 100_000)
        assert b"HTTP/1.1 431" in await ended(reader)
        await closed(writer)


async def sent_for_ever(writer: asyncio.StreamWriter) -> None:
    """Send until the other side does not take it any more."""
    async with asyncio.timeout(60):
        while True:
            writer.write(b"z" * 10_000)
            await writer.drain()
            await asyncio.sleep(0.01)


async def test_who_sends_too_much_reads_why_and_is_not_listened_to_for_ever():
    async with gateway() as world:
        reader, writer = await connect(world.address)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"x: " + b"y" * 100_000)
        assert b"HTTP/1.1 431" in await ended(reader)
        writer.write(b"z" * 100_000)  # still on its way when the answer came, so nothing is reset
        await writer.drain()
        assert reader.exception() is None
        with pytest.raises(ConnectionError):
            await sent_for_ever(writer)
        await closed(writer)


async def test_an_answer_under_way_ends_where_its_connection_is_refused(caplog, capsys):
    async with gateway() as world:
        size = len(world.file("f", [bytes([65 + at]) * MIB for at in range(24)]))
        reader, writer = await connect(world.address)
        head = f"GET /v1/spaces/{SPACE}/content/f HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
        writer.write(head.encode())
        begun = await reader.readuntil(b"AAAA")
        assert begun.startswith(b"HTTP/1.1 200")
        writer.write(head.encode() + b"nonsense\r\n\r\n")
        rest = await ended(reader)
        assert rest.endswith(b"}")
        assert rest.count(b"HTTP/1.1 400") == 1
        assert b"HTTP/1.1 200" not in rest, "the request that waited is not answered any more"
        assert len(rest) < size
        await closed(writer)
    assert not [record for record in caplog.records if record.exc_info]
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err


async def test_a_connection_asks_only_so_much_ahead():
    async with gateway() as world:
        reader, writer = await connect(world.address)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 1000)
        answers = await ended(reader)
        assert b"HTTP/1.1 429" in answers
        assert answers.count(b"HTTP/1.1 200") <= 17
        await closed(writer)


# -- how many there are


async def connections_of(network: str, count: int, world: World) -> list[Connected]:
    """Return `count` connections from an address, each of which has asked for something and read what came."""
    host, _, port = world.address.rpartition(":")
    opened = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=(network, 0))
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        opened.append((await reader.readuntil(b"}"), writer))
    return opened


def statuses(opened: list[Connected]) -> Counter[bytes]:
    return Counter(answer.split()[1] for answer, _ in opened)


async def test_a_network_has_as_many_connections_as_it_leaves_free():
    async with gateway(connections=16, trusted_networks="") as world:
        greedy = await connections_of("127.0.0.2", 20, world)
        assert statuses(greedy) == {b"200": 8, b"429": 12}
        refusal = next(answer.lower() for answer, _ in greedy if answer.split()[1] == b"429")
        assert b"retry-after: 5\r\n" in refusal
        assert b"connection: close\r\n" in refusal
        assert b'"reason": "too_much_at_once"' in refusal
        others = await connections_of("127.0.0.3", 3, world)
        assert statuses(others) == {b"200": 3}
        for _, writer in greedy:
            await closed(writer)
        await until(lambda: REGISTRY.get_sample_value("syncline_connections") == 3)
        again = await connections_of("127.0.0.2", 6, world)
        assert statuses(again) == {b"200": 6}, "what was closed is free again"
        for _, writer in [*others, *again]:
            await closed(writer)


def test_however_many_there_are_a_network_leaves_half():
    reception = GatewayReception(4096, OwnAddress(public_url="", trusted_networks=()), header_section_seconds=30.0)
    greedy = [reception.pool.admit("192.0.2.1", port) for port in range(4096)]
    assert [share is not None for share in greedy].count(True) == 2048
    assert reception.pool.admit("192.0.2.2", 1) is not None


async def test_of_a_trusted_proxy_all_connections_are_taken_up_to_the_total():
    async with gateway(connections=16, trusted_networks="127.0.0.2/32") as world:
        opened = await connections_of("127.0.0.2", 20, world)
        assert statuses(opened) == {b"200": 16, b"429": 4}
        for _, writer in opened:
            await closed(writer)


# -- connections that are reset

ASKED = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 3_000 + b"\r\n\r\n"


def reset(connection: socket.socket) -> None:
    """Close by RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def alive() -> list[Connection]:
    """Connections of gateways that something in this process still holds."""
    gc.collect()
    return [found for found in gc.get_objects() if isinstance(found, Connection)]


@pytest.mark.parametrize(
    ("sent", "answers"),
    [(b"", 0), (ASKED[:-2], 0), (ASKED, 1), (ASKED + ASKED[:-2], 1), (ASKED * 4, 0), (ASKED * 4, 4)],
    ids=["silent", "in a head", "answered", "answered, in a head", "asked ahead", "asked ahead and answered"],
)
async def test_nothing_is_kept_of_a_connection_that_was_reset(sent: bytes, answers: int) -> None:
    async with gateway() as world:
        host, _, port = world.address.rpartition(":")
        loop = asyncio.get_running_loop()
        of_other_tests = alive()  # Held until the end, so that no later connection can have the id of one of these.
        for _ in range(100):
            with socket.socket() as connection:
                connection.setblocking(False)
                await loop.sock_connect(connection, (host, int(port)))
                await loop.sock_sendall(connection, sent)
                taken = b""
                async with asyncio.timeout(30):
                    while taken.count(b'"alive"') < answers:
                        part = await loop.sock_recv(connection, 65536)
                        assert part, taken
                        taken += part
                await asyncio.sleep(0)  # the server may have read it, or not
                reset(connection)
        await until(lambda: REGISTRY.get_sample_value("syncline_connections") == 0)
        await until(lambda: {id(one) for one in alive()} == {id(one) for one in of_other_tests})


# -- bodies that do not move


async def test_a_body_that_comes_a_byte_now_and_then_is_given_up():
    async with gateway(request_seconds=0.3, body_bytes_per_second=1000) as world:
        reader, writer = await connect(world.address)
        head = (
            "POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10000\r\n\r\n"
        )
        writer.write(head.encode())
        line = asyncio.create_task(reader.readline())
        async with asyncio.timeout(20):
            while not line.done():
                writer.write(b" ")
                await asyncio.sleep(0.02)
        assert line.result().startswith(b"HTTP/1.1 408")
        await closed(writer)


async def test_a_body_that_keeps_to_the_rate_may_take_longer_than_the_grace():
    async with gateway(request_seconds=2.0, body_bytes_per_second=1000) as world:
        reader, writer = await connect(world.address)
        head = (
            "POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50000\r\n\r\n"
        )
        writer.write(head.encode())
        for _ in range(50):  # two and a half seconds in all, at 20 times the rate
            writer.write(b" " * 1000)
            await asyncio.sleep(0.05)
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")  # a JSON of blanks
        await closed(writer)


def content_memory() -> float | None:
    """Return the bytes that downloads hold in this process."""
    return REGISTRY.get_sample_value("syncline_content_memory_bytes")


def served_by(port: int) -> int:
    """Connections of this port that a process still has open, whatever the kernel still sends of them."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    listening = "0A"
    return sum(
        int(at.partition(":")[2], 16) == port and state != listening and inode != "0"
        for _, at, _, state, *_, inode in ((*line[:4], line[9]) for line in lines)
    )


async def test_whoever_takes_a_content_too_slowly_is_cut_off_and_gives_its_memory_back():
    async with gateway(request_seconds=0.3, body_bytes_per_second=1_000_000) as world:
        world.file("large", [bytes([index]) * 1_000_000 for index in range(20)])
        host, _, port = world.address.rpartition(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"GET /v1/spaces/{SPACE}/content/large HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
            connection.sendall(head.encode())
            await until(lambda: content_memory() != 0)
            await until(lambda: content_memory() == 0)  # though the other side still has its end open
            await until(lambda: served_by(int(port)) == 0)
            connection.settimeout(10)
            taken = 0
            with contextlib.suppress(ConnectionResetError):
                while part := await asyncio.to_thread(connection.recv, 1_000_000):
                    taken += len(part)
            assert taken < 20_000_000


@pytest.mark.parametrize("address", ["content/large", f"archive?node={'0' * 31}1"], ids=["download", "archive"])
async def test_nothing_of_a_content_arrives_once_the_right_to_it_has_ended(address: str) -> None:
    """The kernel held megabytes for a slow reader, who received them for most of a minute."""
    small = 4_096
    async with gateway() as world:
        world.file("large" if "large" in address else "", [bytes([index]) * 1_000_000 for index in range(20)])
        host, _, port = world.address.rpartition(":")
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, small)
            connection.settimeout(10)
            await asyncio.to_thread(connection.connect, (host, int(port)))
            head = f"GET /v1/spaces/{SPACE}/{address} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
            connection.sendall(head.encode())
            assert (await asyncio.to_thread(connection.recv, small)).startswith(b"HTTP/1.1 200")
            world.auth.role = auth_pb2.ROLE_UNSPECIFIED
            await until(lambda: served_by(int(port)) == 0)
            arrived = 0
            with contextlib.suppress(ConnectionResetError):
                while part := await asyncio.to_thread(connection.recv, 1_000_000):
                    arrived += len(part)
            assert arrived <= 4 * small  # These bytes are in the client's own kernel.
            assert content_memory() == 0


def unacknowledged(port: int) -> int:
    """Return the number of bytes that the kernel holds for clients of this port: unsent, or not acknowledged yet."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(int(queues.partition(":")[0], 16) for _, at, _, _, queues, *_ in lines if at.endswith(f":{port:04X}"))


async def test_the_kernel_holds_little_of_a_content_for_a_slow_client() -> None:
    small = 4_096
    async with gateway() as world:
        world.file("large", [bytes([index]) * 1_000_000 for index in range(20)])
        host, _, port = world.address.rpartition(":")
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, small)
            await asyncio.to_thread(connection.connect, (host, int(port)))
            head = f"GET /v1/spaces/{SPACE}/content/large HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
            connection.sendall(head.encode())
            await until(lambda: unacknowledged(int(port)) >= MAX_UNSENT_BYTES)
            most = 0
            for _ in range(100):
                await asyncio.to_thread(connection.recv, small)
                most = max(most, unacknowledged(int(port)))
            assert most <= 2 * MAX_UNSENT_BYTES


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("parameters", "status"), [(200, b"404"), (201, b"400"), (5_000, b"400")])
async def test_an_address_has_so_many_parameters(parameters, status):
    async with gateway() as world:
        reader, writer = await connect(world.address)
        writer.write(
            b"GET /nothing?%s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % b"&".join([b"q="] * parameters)
        )
        assert (await ended(reader)).split()[1] == status
        await closed(writer)
