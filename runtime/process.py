"""The life cycle of a serving process: its start, and the signals that stop it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from runtime import logs, memory
from runtime.logs import structlog
from syncline.model.errors import Unavailable
from syncline.rpc import traces

if TYPE_CHECKING:
    from runtime.settings import Observed

_FILE_DESCRIPTORS: Final = 65_536

log = structlog.get_logger()


S = TypeVar("S", bound="Observed")
Adapters = TypeVar("Adapters")
Application = TypeVar("Application")


def serve(
    settings: type[S],
    adapters: Callable[[S], AbstractAsyncContextManager[Adapters]],
    bootstrap: Callable[[S, Adapters], AbstractAsyncContextManager[Application]],
    run: Callable[[Application, S], Coroutine[Any, Any, None]],
    *,
    name: str,
) -> None:
    """Run a serving process until it is stopped: read the settings, configure the logs, start the event loop, open the
    adapters, compose the application and serve it.

    `settings` are read from the environment, `adapters` opens the adapters, `bootstrap` composes the application, and
    `run` serves it until a signal comes. Exit with status 2 if the settings are wrong, and with 1 if the process cannot
    start.
    """
    from runtime.settings import load  # noqa: PLC0415 # the embedded AWS lives by this module, and needs no pydantic

    read = load(settings)

    async def life() -> None:
        async with adapters(read) as opened, bootstrap(read, opened) as application:
            await run(application, read)

    live(life, name=name, log_format=read.log_format, log_level=read.log_level)


def live(
    life: Callable[[], Coroutine[Any, Any, None]],
    *,
    name: str,
    log_format: Literal["json", "console"],
    log_level: Literal["debug", "info", "warning", "error"],
) -> None:
    """Run the coroutine function `life` on an event loop, with logs and traces under the name `name`. Log events below
    `log_level` are dropped, and the others are written as `log_format` says: JSON, or text for people.

    Exit with status 1 if `life` raises OSError, or Unavailable because a peer that it needs at startup does not answer.
    """
    import uvloop  # noqa: PLC0415 # only a process of its own needs it; tests run on the plain loop

    memory.limit_arenas()
    open_many()
    logs.configure_logs(fmt=log_format, level=log_level, service=name)
    logs.take_uncaught()
    if problem := traces.configure_traces(f"syncline-{name}"):
        log.warning("no traces", reason=problem)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(life())
    except (OSError, Unavailable) as error:
        log.error("cannot start", reason=str(error))  # noqa: TRY400 # an expected failure, told in one line
        sys.exit(1)
    finally:
        traces.stop()


def most_connections(wanted: int, *, files: int = 1) -> int:
    """Return the maximum number of connections to accept: `wanted`, or fewer if half of the process's open-file limit
    does not suffice for them.

    Each connection takes `files` file descriptors. The other half of the limit is for files and outgoing connections.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if most == resource.RLIM_INFINITY else min(wanted, most // 2 // files)


def open_many() -> None:
    """Raise the open-file limit to the maximum that the system allows; the initial limit is often 1,024."""
    most, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILE_DESCRIPTORS if allowed == resource.RLIM_INFINITY else min(allowed, _FILE_DESCRIPTORS)
    if most != resource.RLIM_INFINITY and most < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, allowed))


@contextmanager
def told_to_stop() -> Iterator[asyncio.Event]:
    """Context manager that yields an event. The first SIGTERM or SIGINT sets the event; a second signal ends the
    process at once.
    """
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
        yield stopping
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
