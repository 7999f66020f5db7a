"""Requests that never come to their end: what they hold is bounded, and whoever finishes is served beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from core.errors import Unauthenticated
from core.identifiers import DeviceId, UserId
from runtime import reflection
from runtime.context import Identity
from runtime.operations import ANYBODY, PEOPLE, RPCS, CallerKind
from runtime.requests import HEALTH_BYTES, WINDOW_BYTES
from runtime.server import App, running
from runtime.settings import ServiceSettings
from tests.runtime import echo
from tests.runtime.http2 import http2

MIB = 1024 * 1024
LARGE = 3_900_000
PLACES = 8
"""Messages of the largest size for which there is room."""


class Doorkeeper:
    async def verify(self, token: str) -> Identity:
        if token == "bad":
            raise Unauthenticated
        service = "gateway" if token == "service" else None
        return Identity(user=UserId(token), device=DeviceId("laptop"), token=token, service=service)


async def size(request: bytes, _context: Any) -> bytes:
    return str(len(request)).encode()


async def sizes(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield str(len(request)).encode()


@asynccontextmanager
async def service(*, request_seconds: float = 30) -> AsyncIterator[str]:
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        drain_seconds=0,
        grace_seconds=0,
        request_bytes=PLACES * 4 * MIB,
        request_seconds=request_seconds,
        service_secret=SecretStr("s" * 32),
    )
    mount = echo.mount(Size=echo.unary(size), Open=echo.unary(size), Sizes=echo.chat(sizes))
    signed_in = PEOPLE | {CallerKind.SERVICE}
    table = dict(RPCS) | {"test.Echo/Size": signed_in, "test.Echo/Sizes": signed_in, "test.Echo/Open": ANYBODY}
    app = App(name="test", mounts=[mount], verifier=Doorkeeper(), operations=table)
    async with running(app, settings) as target:
        yield target


def code(status: grpc.StatusCode) -> str:
    return str(status.value[0])


@pytest.mark.parametrize("token", ["", "bad"])
async def test_whoever_does_not_get_in_is_refused_before_the_request_has_come(token: str) -> None:
    async with service() as target, http2(target) as stranger:
        for _ in range(20):
            stranger.begin(echo.path("Size"), token=token, message_bytes=LARGE)
        await stranger.until(lambda: len(stranger.codes) == 20)
        assert set(stranger.codes.values()) == {code(grpc.StatusCode.UNAUTHENTICATED)}
        assert max(stranger.sent.values()) <= WINDOW_BYTES


@pytest.mark.parametrize(("method", "token"), [("Size", "mallory"), ("Open", "")])
async def test_one_caller_holds_half_of_the_room_by_requests_that_do_not_end(method: str, token: str) -> None:
    async with service() as target, http2(target) as slow:
        for _ in range(20):
            slow.begin(echo.path(method), token=token, message_bytes=LARGE)
        await slow.settled()
        assert sorted(slow.sent.values())[-PLACES // 2 :] == [LARGE + 5 - 1] * (PLACES // 2)
        assert sorted(slow.sent.values())[: -PLACES // 2][-1] <= WINDOW_BYTES
        async with echo.connect(target, authorization=lambda: "ann") as channel:
            for _ in range(5):
                assert await channel.unary_unary(echo.path("Size"))(bytes(LARGE)) == str(LARGE).encode()
        # Another service comes with what many people ask.
        async with echo.connect(target, authorization=lambda: "service") as channel:
            assert await channel.unary_unary(echo.path("Size"))(bytes(LARGE)) == str(LARGE).encode()


async def test_of_many_requests_that_wait_for_room_further_ones_are_refused() -> None:
    async with service() as target, http2(target) as slow:
        for _ in range(PLACES // 2 + 128 + 10):
            slow.begin(echo.path("Size"), token="mallory", message_bytes=10)
        await slow.until(lambda: len(slow.codes) == 10)
        assert set(slow.codes.values()) == {code(grpc.StatusCode.RESOURCE_EXHAUSTED)}


async def test_a_request_that_does_not_arrive_in_time_gives_its_room_back() -> None:
    async with service(request_seconds=0.2) as target, http2(target) as slow:
        for _ in range(PLACES // 2 + 20):
            slow.begin(echo.path("Size"), token="mallory", message_bytes=LARGE)
        await slow.until(lambda: len(slow.codes) == PLACES // 2 + 20)
        assert set(slow.codes.values()) == {code(grpc.StatusCode.DEADLINE_EXCEEDED)}
        async with echo.connect(target, authorization=lambda: "mallory") as channel:
            assert await channel.unary_unary(echo.path("Size"))(bytes(LARGE)) == str(LARGE).encode()


async def test_a_call_without_a_request_is_an_error_of_its_caller() -> None:
    async with service() as target, echo.connect(target, authorization=lambda: "ann") as channel:
        call = channel.stream_unary(echo.path("Size"))()
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_streams_may_be_silent_while_there_is_room_and_others_go_on() -> None:
    before = REGISTRY.get_sample_value("syncline_pool_refused_total", {"pool": "requests"}) or 0
    async with service(request_seconds=0.2) as target, echo.connect(target, authorization=lambda: "ann") as channel:
        calm = channel.stream_stream(echo.path("Sizes"))()
        await calm.write(b"one")
        assert await calm.read() == b"3"
        async with http2(target) as slow:
            for _ in range(20):
                slow.begin(echo.path("Sizes"), token="mallory", message_bytes=LARGE)
            await slow.until(lambda: len(slow.codes) >= 20 - PLACES // 2)
            await slow.settled()
            assert [*slow.codes.values()] == [code(grpc.StatusCode.RESOURCE_EXHAUSTED)] * (20 - PLACES // 2 + 1)
            refused = REGISTRY.get_sample_value("syncline_pool_refused_total", {"pool": "requests"})
            assert refused == before + len(slow.codes)
            await calm.write(b"four")
            assert await calm.read() == b"4"
        await calm.done_writing()
        assert await calm.read() is grpc.aio.EOF


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
        largest = HealthCheckRequest(service="x" * (HEALTH_BYTES - 3)).SerializeToString()
        assert len(largest) == HEALTH_BYTES
        call = ask(HealthCheckRequest(service="x" * LARGE).SerializeToString())
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        call = ask(HealthCheckRequest(service="x" * (HEALTH_BYTES - 2)).SerializeToString())
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
        question = ServerReflectionRequest(file_by_filename="x" * (reflection.REQUEST_BYTES - 3))
        assert question.ByteSize() == reflection.REQUEST_BYTES
        call = ask(iter([question.SerializeToString()]))
        assert await call.read() != grpc.aio.EOF
        call.cancel()
        question.file_by_filename += "x"
        call = ask(iter([question.SerializeToString()]))
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
