"""Requests that never come to their end: what they hold is bounded, and whoever finishes is served beside them."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from runtime.identity import Identity
from runtime.permissions import ANYBODY, PEOPLE, RPCS, CallerKind, RequestBound
from runtime.pool import MAX_WAITERS
from runtime.rpc import reflection
from runtime.rpc.requests import MAX_ARRIVING_MESSAGES, MAX_HEALTH_REQUEST_BYTES, MAX_SILENT_STREAMS, WINDOW_BYTES
from runtime.rpc.server import App, running
from runtime.rpc.strangers import REFUSALS_AT_ONCE
from runtime.settings import ServiceSettings
from syncline.model.errors import Unauthenticated
from syncline.model.identifiers import DeviceId, UserId
from tests.runtime import echo
from tests.runtime.http2 import http2

MIB = 1024 * 1024
LARGE = 3_900_000
AS_MANY = RequestBound(4 * MIB, parsed_bytes_per_byte=1)
"""The bound of methods that take any message, and do not parse it."""
PLACES = 8
"""Messages of the largest size for which there is room, and late calls."""


class Doorkeeper:
    def __init__(self) -> None:
        self.expiries: list[float] = []
        """The ends of the tokens called "brief", in seconds since 1970, each soon after the token was shown."""

    async def verify(self, token: str) -> Identity:
        if token == "bad":
            raise Unauthenticated
        if token == "brief":
            self.expiries.append(time.time() + 0.3)
            return Identity(user=UserId(token), device=DeviceId("laptop"), expires_at=self.expiries[-1])
        service = "gateway" if token == "service" else None
        return Identity(user=UserId(token), device=DeviceId("laptop"), token=token, service=service)


async def size(request: bytes, _context: Any) -> bytes:
    return str(len(request)).encode()


async def sizes(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield str(len(request)).encode()


async def echoes(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield bytes(len(request))  # a server that does not read has no room for it


@asynccontextmanager
async def service(*, request_seconds: float = 30, doorkeeper: Doorkeeper | None = None) -> AsyncIterator[str]:
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        drain_seconds=0,
        grace_seconds=0,
        request_bytes=2 * PLACES * 4 * MIB,
        request_seconds=request_seconds,
        service_secret=SecretStr("s" * 32),
    )
    mount = echo.mount(
        Size=echo.unary(size),
        Small=echo.unary(size),
        Open=echo.unary(size),
        Sizes=echo.chat(sizes),
        Echoes=echo.chat(echoes),
    )
    signed_in = PEOPLE | {CallerKind.SERVICE}
    table = dict(RPCS) | {
        "test.Echo/Size": signed_in,
        "test.Echo/Small": signed_in,
        "test.Echo/Sizes": signed_in,
        "test.Echo/Echoes": signed_in,
        "test.Echo/Open": ANYBODY,
    }
    bounds = {"test.Echo/" + name: AS_MANY for name in ("Size", "Open", "Sizes", "Echoes")}
    app = App(name="test", mounts=[mount], verifier=doorkeeper or Doorkeeper(), operations=table, bounds=bounds)
    async with running(app, settings) as target:
        yield target


def refused(pool: str) -> float:
    """Count the refusals of a pool so far."""
    return REGISTRY.get_sample_value("syncline_pool_refused_total", {"pool": pool}) or 0


def code(status: grpc.StatusCode) -> str:
    return str(status.value[0])


def held(length: int) -> int:
    """Count the references of objects that the collector of garbage knows to values of `length` bytes."""
    return sum(
        type(value) is bytes and len(value) == length for known in gc.get_objects() for value in gc.get_referents(known)
    )


@pytest.mark.parametrize("method", ["Size", "Open", "Sizes", "Small"])
async def test_nothing_keeps_a_request_when_its_call_has_ended(method: str) -> None:
    """The collection of garbage may be minutes away, and a refused request of 4 MB is little work."""
    length = 3_333_331
    async with service() as target, http2(target) as caller:
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                stream = caller.begin(echo.path(method), token="ann", message_bytes=length, finished=True)
                await caller.until(partial(caller.codes.__contains__, stream))
                assert (caller.codes[stream] == code(grpc.StatusCode.OK)) is (method != "Small")
            async with asyncio.timeout(60):
                while held(length):
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()


@pytest.mark.parametrize("token", ["", "bad"])
async def test_whoever_does_not_get_in_is_refused_before_the_request_has_come(token: str) -> None:
    async with service() as target, http2(target) as stranger:
        for _ in range(20):
            stranger.begin(echo.path("Size"), token=token, message_bytes=LARGE)
        await stranger.until(lambda: len(stranger.codes) == 20)
        assert set(stranger.codes.values()) == {code(grpc.StatusCode.UNAUTHENTICATED)}
        assert max(stranger.sent.values()) <= WINDOW_BYTES


async def test_a_connection_on_which_very_many_calls_are_refused_is_ended_and_others_are_not() -> None:
    async with service() as target, http2(target) as client, http2(target) as stranger:
        for _ in range(20):  # a device whose token has expired
            client.begin(echo.path("Size"), token="bad", finished=True)
        await client.until(lambda: len(client.codes) == 20)
        for _ in range(REFUSALS_AT_ONCE + 10):
            stranger.begin(echo.path("Size"), token="bad", finished=True)
        await stranger.until(lambda: stranger.closed)
        client.begin(echo.path("Size"), token="ann", finished=True)
        await client.until(lambda: len(client.codes) == 21)
        assert client.codes.popitem()[1] == code(grpc.StatusCode.OK)


@pytest.mark.parametrize(("method", "token"), [("Size", "mallory"), ("Open", "")])
async def test_one_caller_holds_half_of_the_room_by_requests_that_do_not_end(method: str, token: str) -> None:
    async with service() as target, http2(target) as slow:
        for _ in range(MAX_ARRIVING_MESSAGES // 2 + 10):
            slow.begin(echo.path(method), token=token, message_bytes=LARGE)
        await slow.until(lambda: len(slow.codes) == MAX_ARRIVING_MESSAGES // 2 + 10 - PLACES // 2)
        assert set(slow.codes.values()) == {code(grpc.StatusCode.RESOURCE_EXHAUSTED)}
        async with echo.connect(target, authorization=lambda: "ann") as channel:
            for _ in range(5):
                assert await channel.unary_unary(echo.path("Size"))(bytes(LARGE)) == str(LARGE).encode()
        # Another service comes with what many people ask.
        async with echo.connect(target, authorization=lambda: "service") as channel:
            assert await channel.unary_unary(echo.path("Size"))(bytes(LARGE)) == str(LARGE).encode()


async def test_of_many_requests_that_wait_for_room_further_ones_are_refused() -> None:
    before = refused("arriving")
    async with service() as target, http2(target) as slow:
        for _ in range(MAX_ARRIVING_MESSAGES // 2 + MAX_WAITERS + 10):
            slow.begin(echo.path("Size"), token="mallory", message_bytes=10)
        await slow.until(lambda: len(slow.codes) >= 10)
        assert set(slow.codes.values()) == {code(grpc.StatusCode.RESOURCE_EXHAUSTED)}
    assert refused("arriving") == before + 10


async def test_many_accounts_of_one_network_that_say_nothing_stop_nobody() -> None:
    async with service() as target, http2(target, source="127.0.0.2") as silent:
        for number in range(200):
            silent.begin(echo.path("Size"), token=f"mallory-{number % 50}", message_bytes=10)
        before = refused("late")
        async with echo.connect(target, authorization=lambda: "ann") as channel:
            for _ in range(3):
                for size in (100, 300_000, LARGE):
                    assert await channel.unary_unary(echo.path("Size"))(bytes(size)) == str(size).encode()
        # A few silent calls are waited for, in a part of the room that nobody needs who says something.
        await silent.until(lambda: len(silent.codes) >= 200 - PLACES)
        assert refused("late") >= before + 200 - PLACES
        async with http2(target, source="127.0.0.2") as colleague:
            for _ in range(3):
                colleague.begin(echo.path("Size"), token="ben", message_bytes=300_000, finished=True)
            await colleague.until(lambda: len(colleague.codes) == 3)
            assert set(colleague.codes.values()) == {code(grpc.StatusCode.OK)}


async def test_a_request_that_does_not_arrive_in_time_gives_its_room_back() -> None:
    async with service(request_seconds=0.2) as target, http2(target) as slow:
        for _ in range(PLACES // 2 + 20):
            slow.begin(echo.path("Size"), token="mallory", message_bytes=LARGE)
        await slow.until(lambda: len(slow.codes) == PLACES // 2 + 20)
        assert set(slow.codes.values()) == {code(grpc.StatusCode.DEADLINE_EXCEEDED)}
        async with echo.connect(target, authorization=lambda: "mallory") as channel:
            assert await channel.unary_unary(echo.path("Size"))(bytes(LARGE)) == str(LARGE).encode()


async def test_a_request_that_comes_when_its_token_has_expired_is_refused() -> None:
    doorkeeper = Doorkeeper()
    async with (
        service(doorkeeper=doorkeeper) as target,
        echo.connect(target, authorization=lambda: "brief") as channel,
        asyncio.timeout(60),
    ):
        call = channel.stream_unary(echo.path("Size"))()  # one message, which comes when it likes
        while not doorkeeper.expiries or time.time() <= doorkeeper.expiries[0]:
            await asyncio.sleep(0.01)
        await call.write(b"late")
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_without_a_request_is_an_error_of_its_caller() -> None:
    async with service() as target, echo.connect(target, authorization=lambda: "ann") as channel:
        call = channel.stream_unary(echo.path("Size"))()
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_streams_may_be_silent_while_there_is_room_and_others_go_on() -> None:
    before, most = refused("silent"), MAX_SILENT_STREAMS // 2 - 1  # another one is silent, too
    async with service() as target, echo.connect(target, authorization=lambda: "ann") as channel:
        calm = channel.stream_stream(echo.path("Sizes"))()
        await calm.write(b"one")
        assert await calm.read() == b"3"
        async with http2(target) as slow:
            for _ in range(most + 10):
                slow.begin(echo.path("Sizes"), token="mallory", message_bytes=LARGE)
            await slow.until(lambda: len(slow.codes) == 10)
            assert set(slow.codes.values()) == {code(grpc.StatusCode.RESOURCE_EXHAUSTED)}
            assert refused("silent") == before + 10
            await calm.write(b"four")
            assert await calm.read() == b"4"
        await calm.done_writing()
        assert await calm.read() is grpc.aio.EOF


async def test_messages_of_streams_that_arrive_are_bounded_in_total_and_for_one_caller() -> None:
    most = MAX_SILENT_STREAMS // 2
    async with service() as target, http2(target) as slow:
        for _ in range(most + 10):
            slow.begin(echo.path("Sizes"), token="mallory", message_bytes=LARGE)
        await slow.until(lambda: len(slow.codes) == 10)
        async with AsyncExitStack() as stack:
            for number, left in enumerate((most // 2, most // 4, most // 8)):
                one = await stack.enter_async_context(http2(target, source=f"127.0.0.{10 + number}"))
                for _ in range(most):
                    one.begin(echo.path("Sizes"), token=f"eve-{number}", message_bytes=LARGE)
                await one.until(lambda one=one, left=left: len(one.codes) == most - left)  # type: ignore[misc]
            async with echo.connect(target, authorization=lambda: "ann") as channel:
                calm = channel.stream_stream(echo.path("Sizes"))()
                await calm.write(b"one")
                assert await calm.read() == b"3"
                calm.cancel()


@pytest.mark.parametrize("method", ["Sizes", "Echoes"])
async def test_the_last_message_of_a_stream_counts_until_the_next_one_or_the_end(method: str) -> None:
    """One caller sends nothing more, and one does not read the answer to it."""
    async with (
        service() as target,
        echo.connect(target, authorization=lambda: "mallory") as channel,
        echo.connect(target, authorization=lambda: "ann") as other,
    ):
        streams = [channel.stream_stream(echo.path(method))() for _ in range(PLACES // 2)]
        for one in streams:
            await one.write(bytes(LARGE))
            if method == "Sizes":
                assert await one.read() == str(LARGE).encode()
        late = channel.stream_stream(echo.path("Sizes"))()
        await late.write(bytes(LARGE))
        answer = asyncio.ensure_future(late.read())
        calm = other.stream_stream(echo.path("Sizes"))()
        for _ in range(20):
            await calm.write(bytes(LARGE))
            assert await calm.read() == str(LARGE).encode()
        assert not answer.done()
        calm.cancel()
        streams[0].cancel()
        assert await answer == str(LARGE).encode()


async def test_messages_of_streams_that_wait_for_memory_have_the_places_of_late_requests() -> None:
    """Places of silent streams are many, since a silent stream has no message. Complete messages would fill them."""
    async with service() as target, echo.connect(target, authorization=lambda: "mallory") as channel:
        streams = [channel.stream_stream(echo.path("Sizes"))() for _ in range(PLACES // 2)]
        for one in streams:
            await one.write(bytes(LARGE))
            assert await one.read() == str(LARGE).encode()
        before = refused("late")
        async with http2(target) as greedy:
            for _ in range(PLACES // 2 + 6):
                greedy.begin(echo.path("Sizes"), token="mallory", message_bytes=LARGE, finished=True)
            await greedy.until(lambda: len(greedy.codes) == 6)
            assert set(greedy.codes.values()) == {code(grpc.StatusCode.RESOURCE_EXHAUSTED)}
            assert refused("late") == before + 6


async def test_a_process_looks_well_whatever_does_not_arrive() -> None:
    async with service() as target, http2(target) as slow:
        for _ in range(100):
            slow.begin("/grpc.health.v1.Health/Check", message_bytes=LARGE)
            slow.begin(echo.path("Open"), message_bytes=LARGE)
        await slow.settled()
        async with grpc.aio.insecure_channel(target) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            for _ in range(10):
                answer = await health.Check(HealthCheckRequest(), timeout=30)
                assert answer.status == HealthCheckResponse.SERVING


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_a_request_of_the_health_service_is_small(method: str) -> None:
    async with service() as target, grpc.aio.insecure_channel(target) as channel:
        ask: Any = channel.unary_stream(f"/grpc.health.v1.Health/{method}")
        largest = HealthCheckRequest(service="x" * (MAX_HEALTH_REQUEST_BYTES - 3)).SerializeToString()
        assert len(largest) == MAX_HEALTH_REQUEST_BYTES
        call = ask(HealthCheckRequest(service="x" * LARGE).SerializeToString())
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        call = ask(HealthCheckRequest(service="x" * (MAX_HEALTH_REQUEST_BYTES - 2)).SerializeToString())
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        call = ask(largest)
        if method == "Watch":
            status = HealthCheckResponse.FromString(await call.read())
            assert status.status == HealthCheckResponse.SERVICE_UNKNOWN
        else:
            assert await call.code() is grpc.StatusCode.NOT_FOUND


async def test_a_request_of_reflection_is_small() -> None:
    async with service() as target, grpc.aio.insecure_channel(target) as channel:
        ask: Any = channel.stream_stream(f"/{reflection.V1}/ServerReflectionInfo")
        question = ServerReflectionRequest(file_by_filename="x" * (reflection.MAX_REQUEST_BYTES - 3))
        assert question.ByteSize() == reflection.MAX_REQUEST_BYTES
        call = ask(iter([question.SerializeToString()]))
        assert await call.read() != grpc.aio.EOF
        call.cancel()
        question.file_by_filename += "x"
        call = ask(iter([question.SerializeToString()]))
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["Size", "Open", "Sizes"])
async def test_a_message_that_is_too_large_when_it_is_unpacked_is_no_error_of_the_service(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Some 8 KB on the wire, 8 MiB unpacked: gRPC ends the call by itself, with or without an account."""
    async with (
        service() as target,
        grpc.aio.insecure_channel(target, compression=grpc.Compression.Gzip) as channel,
    ):
        ann: dict[str, Any] = {"metadata": (("authorization", "Bearer ann"),)}
        stream: Any = partial(channel.stream_unary(echo.path(method)), **ann)
        unary: Any = partial(channel.unary_unary(echo.path(method)), **ann)
        fine: Any = partial(channel.unary_unary(echo.path("Size")), **ann)
        large = bytes(8 * MIB)
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await (stream(iter([large])) if method == "Sizes" else unary(large))
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await fine(b"fine") == b"4"
    assert not caplog.records
