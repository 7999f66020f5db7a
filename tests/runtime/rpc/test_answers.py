"""Answers that nobody reads: bounded for each caller, and whoever reads is served beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from runtime.identity import Identity
from runtime.permissions import PEOPLE
from runtime.pool import TooMuchAtOnce
from runtime.rpc.server import App, running
from runtime.settings import ServiceSettings
from syncline.model.identifiers import DeviceId, UserId
from syncline.rpc.errors import error_from_rpc
from tests.runtime import echo
from tests.runtime.http2 import http2

MIB = 1024 * 1024


class EverybodyIsWelcome:
    async def verify(self, token: str) -> Identity:
        return Identity(user=UserId(token), device=DeviceId("laptop"), token=token)


async def small(_request: bytes, _context: Any) -> bytes:
    return bytes(MIB // 4)


async def large(_request: bytes, _context: Any) -> bytes:
    return bytes(MIB)


async def endless(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
    while True:
        yield bytes(MIB)


@pytest.fixture
async def target() -> AsyncIterator[str]:
    """A service that keeps 4 MiB for slow readers."""
    async with service() as address:
        yield address


@asynccontextmanager
async def service(*, trusted_networks: str = "", request_seconds: float = 30) -> AsyncIterator[str]:
    settings = ServiceSettings(
        trusted_networks=trusted_networks,  # type: ignore[arg-type]
        request_seconds=request_seconds,
        body_bytes_per_second=100 * MIB,
        listen="127.0.0.1:0",
        drain_seconds=0,
        grace_seconds=0,
        unread_bytes=4 * MIB,
        service_secret=SecretStr("s" * 32),
    )
    mount = echo.mount(
        Small=echo.unary(small), Large=echo.unary(large), Endless=grpc.unary_stream_rpc_method_handler(endless)
    )
    table = {f"test.Echo/{name}": PEOPLE for name in ("Small", "Large", "Endless")}
    app = App(name="test", mounts=[mount], verifier=EverybodyIsWelcome(), operations=table)
    async with running(app, settings) as address:
        yield address


def refused() -> float:
    return REGISTRY.get_sample_value("syncline_pool_refused_total", {"pool": "answers"}) or 0


EXHAUSTED = str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])


@pytest.mark.parametrize("method", ["Large", "Endless"])
async def test_one_caller_leaves_half_unread_and_others_are_answered(target: str, method: str) -> None:
    async with http2(target, window_bytes=0) as silent:
        for _ in range(12):
            silent.begin(echo.path(method), token="mallory", finished=True)
        await silent.until(lambda: len(silent.codes) >= 10)
        assert [*silent.codes.values()] == [EXHAUSTED] * 10, "two answers wait, the others are not kept"
        async with echo.connect(target, authorization=lambda: "mallory") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(echo.path("Large"))(b"")
            refusal = error_from_rpc(caught.value)
            assert refusal is not None
            assert (refusal.reason, refusal.retry_after_seconds) == (TooMuchAtOnce.reason, 5.0)
        async with echo.connect(target, authorization=lambda: "ann") as channel:
            for _ in range(5):
                assert await channel.unary_unary(echo.path("Large"))(b"") == bytes(MIB)
    # A message that is read, or will never be, waits no more.
    async with echo.connect(target, authorization=lambda: "mallory") as channel, asyncio.timeout(20):
        while True:
            try:
                assert await channel.unary_unary(echo.path("Large"))(b"") == bytes(MIB)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
            else:
                break


async def test_all_callers_together_leave_no_more_unread_than_there_is_room(target: str) -> None:
    before = refused()
    async with AsyncExitStack() as stack:
        for network, refusals in enumerate((7, 9, 10, 10)):
            opened = http2(target, window_bytes=0, source=f"127.0.0.{10 + network}")
            silent = await stack.enter_async_context(opened)
            for number in range(10):
                silent.begin(echo.path("Large"), token=f"mallory{network}.{number}", finished=True)
            await silent.until(lambda one=silent, most=refusals: len(one.codes) >= most)  # type: ignore[misc]
            assert [*silent.codes.values()] == [EXHAUSTED] * refusals
    assert refused() == before + 36


async def test_all_callers_of_one_network_leave_something_for_others(target: str) -> None:
    async with http2(target, window_bytes=0, source="127.0.0.2") as silent:
        for number in range(40):
            silent.begin(echo.path("Small"), token=f"mallory{number}", finished=True)
        await silent.until(lambda: len(silent.codes) == 40 - 12)
        assert [*silent.codes.values()] == [EXHAUSTED] * 28
        async with echo.connect(target, authorization=lambda: "ann") as channel:
            for _ in range(5):
                assert await channel.unary_unary(echo.path("Small"))(b"") == bytes(MIB // 4)


@pytest.mark.parametrize("method", ["Large", "Endless"])
async def test_the_connection_of_one_who_does_not_read_ends_whatever_deadline_a_call_has(method: str) -> None:
    async with service(request_seconds=0.2) as target:
        async with http2(target, window_bytes=0) as silent:
            silent.begin(echo.path(method), token="mallory", finished=True)
            await silent.until(lambda: silent.closed)
            assert not silent.codes
        async with http2(target, window_bytes=0) as idle, echo.connect(target, authorization=lambda: "ann") as channel:
            for _ in range(5):
                assert await channel.unary_unary(echo.path("Large"))(b"") == bytes(MIB)
                await idle.settled(seconds=0.2)
            assert not idle.closed, "nothing is unread there"


async def test_a_proxy_that_has_calls_of_many_keeps_its_connection() -> None:
    before = REGISTRY.get_sample_value("syncline_connections_ended_total", {"why": "unread"}) or 0
    async with (
        service(request_seconds=0.2, trusted_networks="127.0.0.2/32") as target,
        http2(target, window_bytes=0, source="127.0.0.2") as proxy,
        http2(target, window_bytes=0, source="127.0.0.3") as other,
    ):
        for one in (proxy, other):
            one.begin(echo.path("Large"), token="mallory", finished=True, forwarded="192.0.2.1")
        await other.until(lambda: other.closed)
        await proxy.settled(seconds=1)
        assert not proxy.closed
    assert REGISTRY.get_sample_value("syncline_connections_ended_total", {"why": "unread"}) == before + 1
