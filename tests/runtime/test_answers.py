"""Answers that nobody reads: bounded for each caller, and whoever reads is served beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from runtime.identity import Identity
from runtime.operations import PEOPLE
from runtime.pool import TooMuchAtOnce
from runtime.server import App, running
from runtime.settings import ServiceSettings
from syncline.model.identifiers import DeviceId, UserId
from syncline.rpc.errors import error_from_rpc
from tests.runtime import echo
from tests.runtime.http2 import http2

MIB = 1024 * 1024


class EverybodyIsWelcome:
    async def verify(self, token: str) -> Identity:
        return Identity(user=UserId(token), device=DeviceId("laptop"), token=token)


async def large(_request: bytes, _context: Any) -> bytes:
    return bytes(MIB)


async def endless(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
    while True:
        yield bytes(MIB)


@pytest.fixture
async def target() -> AsyncIterator[str]:
    """A service that keeps 4 MiB for slow readers."""
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        drain_seconds=0,
        grace_seconds=0,
        unread_bytes=4 * MIB,
        service_secret=SecretStr("s" * 32),
    )
    mount = echo.mount(Large=echo.unary(large), Endless=grpc.unary_stream_rpc_method_handler(endless))
    table = {f"test.Echo/{name}": PEOPLE for name in ("Large", "Endless")}
    app = App(name="test", mounts=[mount], verifier=EverybodyIsWelcome(), operations=table)
    async with running(app, settings) as address:
        yield address


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
    # What is read, or will never be, waits no more.
    async with echo.connect(target, authorization=lambda: "mallory") as channel, asyncio.timeout(20):
        while True:
            try:
                assert await channel.unary_unary(echo.path("Large"))(b"") == bytes(MIB)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
            else:
                break


async def test_all_callers_together_leave_no_more_unread_than_there_is_room(target: str) -> None:
    before = REGISTRY.get_sample_value("syncline_pool_refused_total", {"pool": "answers"}) or 0
    async with http2(target, window_bytes=0) as silent:
        for number in range(40):
            silent.begin(echo.path("Large"), token=f"mallory{number}", finished=True)
        await silent.until(lambda: len(silent.codes) >= 36)
        assert [*silent.codes.values()] == [EXHAUSTED] * 36
    assert REGISTRY.get_sample_value("syncline_pool_refused_total", {"pool": "answers"}) == before + 36
