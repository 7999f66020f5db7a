"""The port of a service that is reached without a balancer: one network leaves room for others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from runtime.network import current_network
from runtime.server import App, build, running
from runtime.settings import ServiceSettings
from tests.runtime import echo
from tests.runtime.http2 import Http2, http2

OK = str(grpc.StatusCode.OK.value[0])
CALLED_FROM: list[str] = []


async def network(request: bytes, _context: Any) -> bytes:
    CALLED_FROM.append(current_network())
    return request


@asynccontextmanager
async def service(*, connections: int = 16, trusted_networks: str = "", trusted_proxies: int = 0) -> AsyncIterator[str]:
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        drain_seconds=0,
        grace_seconds=0,
        connections=connections,
        trusted_networks=trusted_networks,  # type: ignore[arg-type]  # as the environment has it
        trusted_proxies=trusted_proxies,
        service_secret=SecretStr("s" * 32),
    )
    app = App(name="test", mounts=[echo.mount(Same=echo.unary(echo.same), Network=echo.unary(network))])
    async with running(app, settings) as target:
        yield target


async def served(connection: Http2) -> bool:
    """True if a call succeeds there; False if the server closes the connection."""
    stream = connection.begin(echo.path("Same"), message=b"x")
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
        async with asyncio.timeout(20):
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
