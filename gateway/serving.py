"""The life of the gateway's process: serve, then drain in the order in which nobody sees an error."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Final

import uvicorn

from gateway.bootstrap import Gateway
from gateway.connections import patient_for
from gateway.settings import Settings
from runtime import logs, memory, metrics, traces
from runtime.logs import structlog

_KEEP_ALIVE_SECONDS: Final = 75
"""Longer than a balancer's idle timeout of 60 s, so that it is never us who closes a connection under a request."""
_UNSENT_MS: Final = 60_000
"""A client that takes nothing for so long is gone."""
_BACKLOG: Final = 1024
_CANCELLED_SECONDS: Final = 5.0
"""For requests that were given up to put away what they had taken."""

log = structlog.get_logger()


def serve(settings: Settings, bootstrap: Callable[[], AbstractAsyncContextManager[Gateway]]) -> None:
    """The whole life: logs, event loop, bootstrap, run. Exits with 1 if it cannot start."""
    import uvloop  # noqa: PLC0415 # only a process of its own needs it; tests run on the plain loop

    memory.limit_arenas()
    logs.configure(fmt=settings.log_format, level=settings.log_level, service="gateway")
    if problem := traces.configure("syncline-gateway"):
        log.warning("no traces", reason=problem)

    async def live() -> None:
        async with bootstrap() as gateway:
            await run(gateway, settings)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(live())
    except OSError as error:
        log.error("cannot start", reason=str(error))  # noqa: TRY400 # an expected failure, told in one line
        sys.exit(1)
    finally:
        traces.stop()


async def run(gateway: Gateway, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. A second signal ends the process at once."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stopping.is_set():
            log.warning("forced", signal=number.name)
            os._exit(128 + number)
        log.info("stopping", signal=number.name)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        with metrics.exposed(settings.metrics_listen):
            async with running(gateway, settings) as address:
                memory.settle()
                host, _, port = address.rpartition(":")
                log.info("serving", host=host, port=int(port))
                await stopping.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    log.info("stopped")


@asynccontextmanager
async def running(gateway: Gateway, settings: Settings) -> AsyncIterator[str]:
    """Serve, and yield the address. At the end: not ready, wait, end events, then let requests in flight finish."""
    listener = _listen(settings.listen)
    config = uvicorn.Config(
        gateway.app,
        http=patient_for(settings.request_seconds),
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
        await serving  # raises what kept it from starting
    try:
        yield f"{settings.listen.rpartition(':')[0]}:{listener.getsockname()[1]}"
    finally:
        gateway.readiness.drain()
        await asyncio.sleep(settings.drain_seconds)
        gateway.drain.begin()
        server.should_exit = True
        await serving
        if given_up := server.server_state.tasks:  # cancelled, and not yet done with what that means for them
            await asyncio.wait(given_up, timeout=_CANCELLED_SECONDS)


class _Server(uvicorn.Server):
    """uvicorn's server, except that signals are ours and that it says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn.Server."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server."""
        try:
            await super().startup(sockets)
        finally:
            self.listening.set()


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror}") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # of Linux; accepted connections inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNSENT_MS)
    return listener
