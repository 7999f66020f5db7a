"""Answers that nobody reads: bounded for each caller, and whoever reads is served beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived
from h2.settings import SettingCodes, Settings
from pydantic import SecretStr

from core.identifiers import DeviceId, UserId
from runtime.context import Identity
from runtime.errors import error_from_rpc
from runtime.operations import PEOPLE
from runtime.pool import TooMuchAtOnce
from runtime.server import App, running
from runtime.settings import ServiceSettings
from tests.runtime import echo

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


class Mute:
    """An HTTP/2 connection that grants no window: a server can send headers on it, but no data."""

    def __init__(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._target, self._reader, self._writer = target, reader, writer
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._http.local_settings = Settings(client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: 0})
        self._http.initiate_connection()

    def ask(self, method: str, *, caller: str) -> None:
        """Begin a call."""
        stream = self._http.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", f"/test.Echo/{method}"),
            (":authority", self._target),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("authorization", f"Bearer {caller}"),
        ]
        self._http.send_headers(stream, headers)
        self._http.send_data(stream, bytes(5), end_stream=True)
        self._writer.write(self._http.data_to_send())

    async def refusals(self, count: int) -> list[str]:
        """The codes of the first `count` calls that end."""
        codes: list[str] = []
        async with asyncio.timeout(20):
            while len(codes) < count:
                for event in self._http.receive_data(await self._reader.read(65536)):
                    if isinstance(event, ResponseReceived | TrailersReceived):
                        codes += [str(value) for name, value in event.headers or () if str(name) == "grpc-status"]
                self._writer.write(self._http.data_to_send())
        return codes


@asynccontextmanager
async def mute(target: str) -> AsyncIterator[Mute]:
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Mute(target, reader, writer)
    finally:
        writer.close()


EXHAUSTED = str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])


@pytest.mark.parametrize("method", ["Large", "Endless"])
async def test_one_caller_leaves_half_unread_and_others_are_answered(target: str, method: str) -> None:
    async with mute(target) as silent:
        for _ in range(12):
            silent.ask(method, caller="mallory")
        assert await silent.refusals(10) == [EXHAUSTED] * 10, "two answers wait, the others are not kept"
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
    async with mute(target) as silent:
        for number in range(40):
            silent.ask("Large", caller=f"mallory {number}".replace(" ", ""))
        assert await silent.refusals(36) == [EXHAUSTED] * 36
