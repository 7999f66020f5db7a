"""Connections over HTTP/1.1 to an application of a test, on the loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import uvicorn

from runtime.http.connection import Reception

SECONDS: Final = 60.0

Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(app: Any, reception: Reception) -> AsyncIterator[int]:
    """Serve an application, and yield the port."""
    config = uvicorn.Config(
        app,
        http=reception.protocol,  # type: ignore[arg-type]  # uvicorn calls it, whatever it is
        log_config=None,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listener])
        try:
            yield port
        finally:
            await server.shutdown(sockets=[listener])
            await until(lambda: not server.server_state.connections)
            await asyncio.sleep(0.05)  # until the loop has closed what they were


async def connect(opened: AsyncExitStack, port: int, source: str) -> Connected:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    opened.push_async_callback(gone, writer)
    return reader, writer


async def gone(writer: asyncio.StreamWriter) -> None:
    """Hang up, whatever has not been sent."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)
