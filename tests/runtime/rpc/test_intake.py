"""The port of a service that is reached without a balancer: one network leaves room for others."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from runtime.connection_pool import ConnectionPool
from runtime.identity import Identity
from runtime.network import current_network
from runtime.network_tokens import NetworkTokens
from runtime.permissions import PEOPLE
from runtime.rpc.intake import (
    ADMITTED_PER_SECOND,
    CALLS_AHEAD,
    CALLS_WAITING,
    HANDSHAKE_SECONDS,
    KNOWN_SECONDS,
    NETWORK_FRAMES_AT_ONCE,
    SHUT_OUT_SECONDS,
    SMALL_FRAMES_AT_ONCE,
    UNITS_AT_ONCE,
    UNITS_PER_SECOND,
    Intake,
)
from runtime.rpc.server import App, build, running
from runtime.settings import ServiceSettings
from syncline.model.errors import Unauthenticated
from syncline.model.identifiers import DeviceId, UserId
from tests.runtime import echo
from tests.runtime.connections import connect
from tests.runtime.frames import BEGINNING, message_by_the_byte, whole_calls, window
from tests.runtime.http2 import Http2, http2

OK = str(grpc.StatusCode.OK.value[0])
UNAUTHENTICATED = str(grpc.StatusCode.UNAUTHENTICATED.value[0])
CALLED_FROM: list[str] = []
GATEWAY_SECRET = "g" * 32


class Doorkeeper:
    """Knows everybody whose token is not 'bad', and counts the questions."""

    def __init__(self) -> None:
        self.asked = 0

    async def verify(self, token: str) -> Identity:
        self.asked += 1
        if token == "bad":
            raise Unauthenticated
        return Identity(user=UserId(token), device=DeviceId("laptop"), token=token)


async def network(request: bytes, _context: Any) -> bytes:
    CALLED_FROM.append(current_network())
    return request


@asynccontextmanager
async def service(
    *, connections: int = 16, trusted_networks: str = "", trusted_proxies: int = 0, verifier: Doorkeeper | None = None
) -> AsyncIterator[str]:
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        drain_seconds=0,
        grace_seconds=0,
        connections=connections,
        trusted_networks=trusted_networks,  # type: ignore[arg-type]  # as the environment has it
        trusted_proxies=trusted_proxies,
        service_secret=SecretStr("s" * 32),
        gateway_secret=SecretStr(GATEWAY_SECRET),
    )
    mount = echo.mount(Same=echo.unary(echo.same), Network=echo.unary(network))
    app = App(name="test", mounts=[mount], verifier=verifier, operations={"test.Echo/Same": PEOPLE})
    async with running(app, settings) as target:
        yield target


def proof() -> str:
    """Make the token by which the gateway proves that a call is its own."""
    return NetworkTokens(GATEWAY_SECRET).mint("192.0.2.1")


async def served(connection: Http2, token: str = "", proof: str = "") -> bool:
    """True if a call succeeds there; False if it is refused, or the server closes the connection."""
    stream = connection.begin(echo.path("Same"), message=b"x", token=token, proof=proof)
    await connection.until(lambda: stream in connection.codes or connection.closed)
    return connection.codes.get(stream) == OK


async def opened(stack: AsyncExitStack, target: str, source: str, count: int) -> list[bool]:
    """Open connections from an address, one after the other, and keep them; whether each is served."""
    return [await served(await stack.enter_async_context(http2(target, source=source))) for _ in range(count)]


async def test_a_network_has_as_many_connections_of_a_service_as_it_leaves_free() -> None:
    async with service() as target, AsyncExitStack() as others:
        async with AsyncExitStack() as stack:
            assert (await opened(stack, target, "127.0.0.2", 20)).count(True) == 8
            assert await opened(others, target, "127.0.0.3", 3) == [True] * 3
        async with asyncio.timeout(60):
            while not all(await opened(others, target, "127.0.0.2", 1)):  # a closed connection is free again
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("options", [{"trusted_networks": "127.0.0.2/32"}, {"trusted_proxies": 1}])
async def test_of_a_trusted_proxy_all_connections_are_taken_up_to_the_total(options: dict[str, Any]) -> None:
    async with service(**options) as target, AsyncExitStack() as stack:
        assert (await opened(stack, target, "127.0.0.2", 20)).count(True) == 16


async def test_a_call_comes_from_where_its_connection_does() -> None:
    async with service() as target:
        CALLED_FROM.clear()
        for source in ("127.0.0.1", "127.0.0.2"):
            async with http2(target, source=source) as connection:
                stream = connection.begin(echo.path("Network"), message=b"x")
                await connection.until(lambda stream=stream: stream in connection.codes)  # type: ignore[misc]
        assert CALLED_FROM == ["127.0.0.1", "127.0.0.2"]


async def test_a_port_that_is_taken_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is removed but what the intake itself has made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("here")
    async with service() as target:
        settings = ServiceSettings(service_secret=SecretStr("s" * 32), listen=target)
        with pytest.raises(OSError, match="cannot listen on"):
            build(App(name="test", mounts=[]), settings)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "file").read_text() == "here"


# -- strangers

MALLORY, ANN = "127.0.0.2", "127.0.0.3"


async def false_tokens(target: str, *, connections: int) -> int:
    """Make a call with a false token on each of so many connections; the number that were answered."""
    answered = 0
    for _ in range(connections):
        with suppress(ConnectionError):
            async with http2(target, source=MALLORY) as stranger:
                await served(stranger, "bad")
                answered += UNAUTHENTICATED in stranger.codes.values()
    return answered


async def test_a_network_of_strangers_is_shut_out_and_nobody_else() -> None:
    doorkeeper, tried = Doorkeeper(), 1_000
    async with (
        service(connections=4096, verifier=doorkeeper) as target,
        http2(target, source=MALLORY) as colleague,
        http2(target, source=ANN) as ann,
    ):
        assert await served(colleague, "ben")
        assert await served(ann, "ann")
        began = time.monotonic()
        answered = await false_tokens(target, connections=tried)
        most = UNITS_AT_ONCE + UNITS_PER_SECOND * (time.monotonic() - began)
        assert 0 < answered < tried / 2
        assert 2 * answered <= most + ADMITTED_PER_SECOND * (1 + time.monotonic() - began)
        assert doorkeeper.asked <= answered + 10
        assert await served(ann, "ann")
        assert await served(colleague, "ben"), "a connection with a good token is not cut"
        async with http2(target, source=ANN) as another:
            assert await served(another, "ann")


async def test_who_was_signed_in_is_let_in_from_a_network_that_is_shut_out() -> None:
    async with service(connections=4096, verifier=Doorkeeper()) as target:
        async with http2(target, source=MALLORY) as colleague:
            assert await served(colleague, "ben")
        await false_tokens(target, connections=400)
        async with asyncio.timeout(SHUT_OUT_SECONDS / 2):
            while True:
                async with http2(target, source=MALLORY) as colleague:
                    with suppress(ConnectionError):
                        if await served(colleague, "ben"):
                            break
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("token", ["ann", "bad"])
async def test_the_gateway_goes_on_when_its_network_is_shut_out(token: str) -> None:
    """The tokens of the people for whom the gateway calls do not matter."""
    async with service(connections=4096, verifier=Doorkeeper()) as target:
        async with http2(target, source=MALLORY) as gateway:
            assert await served(gateway, token, proof()) is (token == "ann")
            before = ended("shut out")
            await false_tokens(target, connections=400)
            assert ended("shut out") > before
            assert await served(gateway, "ann", proof())
        async with asyncio.timeout(SHUT_OUT_SECONDS / 2):
            while True:
                async with http2(target, source=MALLORY) as another:
                    with suppress(ConnectionError):
                        if await served(another, "ann", proof()):
                            break
                await asyncio.sleep(0.1)


async def test_a_proof_that_is_not_the_gateways_makes_no_connection_known() -> None:
    async with (
        service(connections=4096, verifier=Doorkeeper()) as target,
        http2(target, source=MALLORY) as stranger,
    ):
        assert not await served(stranger, "bad", NetworkTokens("x" * 32).mint("192.0.2.1"))
        await false_tokens(target, connections=400)
        await stranger.until(lambda: stranger.closed)


async def test_a_network_is_known_from_its_last_good_token_on() -> None:
    now = 0.0
    async with bare_intake(lambda: now) as (intake, target):
        async with handed_on(target) as (_, peer):
            intake.accepted(peer)
            now = KNOWN_SECONDS - 1
            intake.accepted(peer)
        async with asyncio.timeout(60):
            while intake.admission.taken():
                await asyncio.sleep(0.01)
        now = KNOWN_SECONDS + 1
        await shut_out(intake, target)
        async with handed_on(target):
            pass
        now = 2 * KNOWN_SECONDS + 1
        await shut_out(intake, target)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            async with handed_on(target):
                pass


async def test_connections_that_have_said_nothing_are_cut_with_the_others() -> None:
    async with AsyncExitStack() as callers:
        async with bare_intake(time.monotonic) as (intake, target):
            opened = [await callers.enter_async_context(connected(target)) for _ in range(3)]
            await callers.enter_async_context(handed_on(target))
            assert intake.admission.taken() == 4
        async with asyncio.timeout(0.8 * HANDSHAKE_SECONDS):
            for reader, _ in opened:
                with suppress(ConnectionError):
                    assert not await reader.read()
            while intake.admission.taken():
                await asyncio.sleep(0.01)


async def test_a_connection_that_speaks_when_all_are_cut_is_no_failure() -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    async with AsyncExitStack() as callers:
        async with bare_intake(time.monotonic) as (intake, target):
            opened = [await callers.enter_async_context(connected(target)) for _ in range(3)]
            await callers.enter_async_context(handed_on(target))
            for _, writer in opened:
                writer.write(b"PRI * HTTP/2.0")
        async with asyncio.timeout(0.8 * HANDSHAKE_SECONDS):
            while intake.admission.taken():
                await asyncio.sleep(0.01)
        gc.collect()  # A task that has failed tells so when nothing knows it any more.
    assert failures == []


@asynccontextmanager
async def bare_intake(clock: Callable[[], float]) -> AsyncIterator[tuple[Intake, str]]:
    """The intake of a service, before something that says back what it is told; and where it listens."""

    saying: set[asyncio.Task[None]] = set()

    async def say_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        saying.add(task)
        task.add_done_callback(saying.discard)
        with suppress(ConnectionError):
            while data := await reader.read(1024):
                writer.write(data)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    intake = Intake(ConnectionPool(64, ()), clock=clock)
    port = intake.bind("127.0.0.1:0")
    server = await asyncio.start_unix_server(say_back, intake.address.removeprefix("unix:"))
    intake.start()
    try:
        yield intake, f"127.0.0.1:{port}"
    finally:
        await intake.close()
        server.close()
        if saying:
            await asyncio.wait(saying)


@asynccontextmanager
async def connected(
    target: str, *, source: str = MALLORY
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def handed_on(target: str) -> AsyncIterator[tuple[asyncio.StreamReader, str]]:
    """A connection that has said something and got it back; what reads from it, and its name."""
    async with connected(target) as (reader, writer):
        writer.write(b"PRI * HTTP/2.0")
        async with asyncio.timeout(60):
            assert await reader.readexactly(14) == b"PRI * HTTP/2.0"
        yield reader, f"ipv4:{MALLORY}:{writer.get_extra_info('sockname')[1]}"


async def test_small_frames_of_many_connections_of_a_network_are_read_bit_by_bit() -> None:
    """The clock stands, so that nothing of what was counted is worked off."""
    connections, frames = 40, window(1) * (SMALL_FRAMES_AT_ONCE // 2)
    before, read = ended("frames"), 0

    async def count(reader: asyncio.StreamReader) -> None:
        nonlocal read
        while data := await reader.read(65_536):
            read += len(data)

    async with bare_intake(lambda: 0.0) as (_, target), AsyncExitStack() as stack, asyncio.timeout(60):
        for _ in range(connections):
            reader, writer = await connect(stack, int(target.rpartition(":")[2]), MALLORY)
            stack.callback(asyncio.create_task(count(reader)).cancel)
            writer.write(BEGINNING + frames)
        while read < NETWORK_FRAMES_AT_ONCE * len(window(1)):
            await asyncio.sleep(0)
        async with connected(target, source=ANN) as (reader, writer):
            writer.write(BEGINNING + frames)
            await said_back(reader, BEGINNING + frames)
    assert read < connections * len(frames) / 4
    assert ended("frames") == before


# -- calls that wait before grpc


def said(calls: int) -> bytes:
    """Make what one connection says that makes so many calls, after what it says before any."""
    return b"".join([BEGINNING, *itertools.islice(whole_calls(b"/x.Y/Z", token=b"x", message=b"y"), calls)])


async def said_back(reader: asyncio.StreamReader, wanted: bytes) -> None:
    async with asyncio.timeout(60):
        assert await reader.readexactly(len(wanted)) == wanted


async def test_no_call_is_handed_on_while_many_of_its_network_wait_for_their_turn() -> None:
    waiting = {MALLORY: CALLS_WAITING}
    async with bare_intake(time.monotonic) as (intake, target), connected(target) as (reader, writer):
        intake.count_waiting(lambda network: waiting.get(network, 0))
        writer.write(said(5))
        await said_back(reader, said(0))
        async with connected(target, source=ANN) as (of_ann, writer_of_ann):
            writer_of_ann.write(said(5))
            await said_back(of_ann, said(5))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await reader.read(1)
        waiting[MALLORY] -= 1
        intake.begun(MALLORY)
        await said_back(reader, said(5)[len(said(0)) :])


@pytest.mark.parametrize("parked", [False, True])
async def test_a_connection_that_rests_is_read_again_afterwards(*, parked: bool) -> None:
    waiting = {MALLORY: CALLS_WAITING if parked else 0}
    async with bare_intake(time.monotonic) as (intake, target), connected(target) as (reader, writer):
        intake.count_waiting(lambda network: waiting.get(network, 0))
        first, rest = said(0), said(5)[len(said(0)) :]
        writer.write(said(5) if parked else first)
        await said_back(reader, first)
        began = time.monotonic()
        intake.rest(f"ipv4:{MALLORY}:{writer.get_extra_info('sockname')[1]}", 0.2)
        if parked:
            waiting[MALLORY] = 0
            intake.begun(MALLORY)
        else:
            writer.write(rest)
        await said_back(reader, rest)
        assert time.monotonic() - began > 0.18


async def test_calls_that_grpc_never_hands_in_stop_nobody_for_long() -> None:
    async with bare_intake(time.monotonic) as (_, target), connected(target) as (reader, writer):
        writer.write(said(3 * CALLS_AHEAD))
        await said_back(reader, said(3 * CALLS_AHEAD))


async def test_the_calls_of_the_gateway_are_handed_on_as_they_come() -> None:
    async with bare_intake(time.monotonic) as (intake, target), connected(target) as (reader, writer):
        intake.count_waiting(lambda _network: CALLS_WAITING)
        writer.write(said(0))
        await said_back(reader, said(0))
        intake.proven(f"ipv4:{MALLORY}:{writer.get_extra_info('sockname')[1]}")
        calls = said(3 * CALLS_AHEAD)[len(said(0)) :]
        writer.write(calls)
        await said_back(reader, calls)


async def shut_out(intake: Intake, target: str) -> None:
    """Have calls refused until their network is shut out."""
    async with handed_on(target) as (reader, peer), asyncio.timeout(60):
        for _ in range(UNITS_AT_ONCE + 1):
            intake.refused(peer)
        with suppress(ConnectionError):
            assert not await reader.read()


async def test_a_trusted_network_is_not_shut_out() -> None:
    async with service(connections=4096, verifier=Doorkeeper(), trusted_networks=f"{MALLORY}/32") as target:
        assert await false_tokens(target, connections=500) == 500


async def test_a_message_of_tiny_frames_ends_its_connection() -> None:
    """The connection is cut when it has had its frames, long before the message is complete."""
    before = ended("frames")
    size = 4 * SMALL_FRAMES_AT_ONCE
    async with service(verifier=Doorkeeper()) as target, http2(target, source=ANN) as ann:
        assert await served(ann, "ann")
        host, _, port = target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=(MALLORY, 0))
        with suppress(ConnectionError):
            for part in message_by_the_byte(echo.path("Same").encode(), token=b"mallory", message_bytes=size):
                writer.write(part)
                await writer.drain()
        with suppress(ConnectionError):
            async with asyncio.timeout(60):
                await reader.read()
        writer.close()
        assert ended("frames") == before + 1
        assert await served(ann, "ann")


@pytest.mark.parametrize("by_gateway", [False, True])
async def test_calls_with_good_tokens_pay_for_their_frames(*, by_gateway: bool) -> None:
    proven = proof() if by_gateway else ""
    calls = SMALL_FRAMES_AT_ONCE // 4
    before = ended("frames")
    async with service(verifier=Doorkeeper()) as target, http2(target, source=ANN) as ann:
        for _ in range(calls // 100):
            streams = [ann.begin(echo.path("Same"), message=b"x", token="ann", proof=proven) for _ in range(100)]
            ann.widen(1000)
            await ann.until(lambda streams=streams: ann.closed or all(stream in ann.codes for stream in streams))  # type: ignore[misc]
            assert not ann.closed
    assert set(ann.codes.values()) == {OK}
    assert ended("frames") == before


def ended(why: str) -> float:
    """Count the connections that were ended so far because of that."""
    return REGISTRY.get_sample_value("syncline_connections_ended_total", {"why": why}) or 0
