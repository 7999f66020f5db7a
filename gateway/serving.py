"""The life cycle of the gateway's process: serve, then stop in an order in which no client sees an error."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn

from gateway.bootstrap import Gateway
from gateway.http.reception import GatewayReception
from gateway.settings import GatewaySettings
from runtime import memory, metrics, process
from runtime.listening import listening_socket, split_address, with_port
from runtime.logs import structlog

_KEEP_ALIVE_SECONDS: Final = 75
"""Seconds before an idle connection is closed; longer than a balancer's idle timeout of 60 s, so that the balancer
always closes first.
"""
_UNSENT_MS: Final = 60_000
"""Milliseconds after which a client that acknowledges no data is disconnected."""
_CANCELLED_SECONDS: Final = 5.0
"""Seconds in which cancelled requests have to release their resources before the process ends."""

log = structlog.get_logger()


async def run_gateway(gateway: Gateway, settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT, then let the requests in progress finish and return. A second signal ends the
    process at once.
    """
    with process.told_to_stop() as stopping, metrics.exposed(settings.metrics_listen):
        async with running_gateway(gateway, settings) as address, memory.returning():
            memory.settle()
            host, port = split_address(address)
            log.info("serving", host=host, port=port)
            await stopping.wait()
    log.info("stopped")


@asynccontextmanager
async def running_gateway(gateway: Gateway, settings: GatewaySettings) -> AsyncIterator[str]:
    """Context manager that serves the gateway, and yields the address that it listens on. At its end it reports that
    the process is not ready, waits until load balancers have noticed, ends the event streams, and lets the other
    requests finish.
    """
    listener = _listen(settings.listen)
    reception = GatewayReception(
        process.most_connections(settings.connections), gateway.own, header_section_seconds=settings.request_seconds
    )
    config = uvicorn.Config(
        gateway.app,
        http=reception.protocol,  # type: ignore[arg-type]  # uvicorn calls it, whatever it is
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.grace_seconds),
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    if not server.started:
        await serving  # raises the error that prevented the start
    try:
        yield with_port(settings.listen, listener.getsockname()[1])
    finally:
        gateway.readiness.drain()
        await asyncio.sleep(settings.drain_seconds)
        gateway.drain.begin()
        server.should_exit = True
        await serving
        if given_up := server.server_state.tasks:  # cancelled, but still releasing their resources
            await asyncio.wait(given_up, timeout=_CANCELLED_SECONDS)


class _Server(uvicorn.Server):
    """uvicorn's server with our own signal handling and a notification when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.listening.set()


def _listen(address: str) -> socket.socket:
    try:
        listener = listening_socket(address)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror}") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # available on Linux; accepted connections inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNSENT_MS)
    return listener
