"""Supervision of children: they are kept running, and stopped in order with no process left behind.

Each child leads a process group, so that its own children end with it and a Ctrl-C at the terminal reaches only the
stack; and the kernel signals each child when the stack is gone (see `child`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from stack.errors import StackError, StartFailed
from stack.output import Output

_CHILD: Final = Path(__file__).with_name("child.py")
_POLL_SECONDS: Final = 0.05
_SETTLED_SECONDS: Final = 60.0
_MAX_STARTS: Final = 3
"""Maximum number of starts of a child that ends before it is ready. Its peers may answer late when all children start
on a busy machine.
"""
_CHUNK_BYTES: Final = 64 * 1024
_MAX_LINE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Child:
    """Description of a program that a Supervisor starts and restarts.

    - `name` is the name of the child in output and errors. `argv` is the command, and `env` the complete environment.
    - `ready` returns True if the program serves. It must answer within about a second, and must not raise.
    - `hopeless` is the exit status by which the program says that a restart would not help. The program is then not
      restarted, and the stack has failed. With None, no exit status has this meaning.
    - `stop_seconds` is the number of seconds between SIGTERM and SIGKILL.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready: Callable[[], Awaitable[bool]]
    hopeless: int | None = None
    stop_seconds: float = 10.0
    inherited: tuple[int, ...] = ()
    """File descriptors that the child inherits."""


@dataclass(slots=True)
class _Running:
    child: Child
    process: Process
    pump: asyncio.Task[None]
    started: float = field(default_factory=time.monotonic)
    starts: int = 1
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Starts child processes, restarts each child that ends, and stops all children in reverse order."""

    def __init__(self, output: Output, *, first_delay: float = 0.5, longest_delay: float = 30.0) -> None:
        """`output` receives the output of the children. A child that ended is restarted after `first_delay` seconds.

        The delay doubles after each failure, up to `longest_delay`; an exit with status 0 was requested and is no
        failure.
        """
        self._output = output
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._running: dict[str, _Running] = {}
        self._failed = asyncio.Event()
        self._failure: StackError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, *children: Child, within: float) -> None:
        """Start `children` concurrently and return when all are ready.

        A child that ends before it is ready is restarted, up to _MAX_STARTS starts, unless it exits with its status
        `hopeless`. Raise StartFailed if a child cannot be started in this way, or if a child is not ready after
        `within` seconds; the other children keep running until `stop`.
        """
        deadline = time.monotonic() + within
        starting = []
        for child in children:
            running = self._running[child.name] = await self._spawn(child)
            starting.append(running)
        waiting = list(starting)
        while waiting:
            for running in starting:
                if (status := running.process.returncode) is not None:
                    await running.pump
                    running.starts += 1
                    if status == running.child.hopeless or running.starts > _MAX_STARTS:
                        raise self._not_started(running.child, f"it {_ended(status)}")
                    await self._start_again(running, status, self._first_delay)
            waiting = [running for running in waiting if not await running.child.ready()]
            if waiting and time.monotonic() > deadline:
                raise self._not_started(waiting[0].child, f"it was not ready after {within:g} s")
            if waiting:
                await asyncio.sleep(_POLL_SECONDS)
        for running in starting:
            running.keeper = asyncio.create_task(self._keep(running), name=f"keep {running.child.name}")

    @property
    def pids(self) -> Mapping[str, int]:
        """The process ids of the children that run now, by name."""
        return {name: running.process.pid for name, running in self._running.items()}

    async def failure(self) -> StackError:
        """Wait until a child exits with its status `hopeless`, so that the stack cannot continue; return the reason."""
        await self._failed.wait()
        assert self._failure is not None
        return self._failure

    async def stop(self) -> None:
        """Stop all children, the last started first. Each child gets SIGTERM; after its `stop_seconds`, its process
        group gets SIGKILL.

        If this method is cancelled while it waits, it kills all remaining children.
        """
        try:
            for name, running in reversed(list(self._running.items())):
                await _cancelled(running.keeper)
                await self._end(running)
                del self._running[name]
        except asyncio.CancelledError:
            self._output.say(f"killing {', '.join(self._running)}")
            for running in self._running.values():
                await _cancelled(running.keeper)
                _kill_group(running.process)
            for running in self._running.values():
                await running.process.wait()
                await running.pump
            self._running.clear()
            raise

    async def _spawn(self, child: Child) -> _Running:
        shim = (sys.executable, "-I", "-S", str(_CHILD), str(os.getpid()))
        process = await asyncio.create_subprocess_exec(
            *shim,
            *child.argv,
            env=dict(child.env),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            # A group of its own is not reached by the terminal's Ctrl-C. It stays in the session, because Linux may
            # share processors by session, and a thread's low priority then counts within its session alone.
            process_group=0,
            pass_fds=child.inherited,
        )
        return _Running(child, process, asyncio.create_task(self._pump(child.name, process)))

    async def _keep(self, running: _Running) -> None:
        child, delay = running.child, self._first_delay
        while True:
            status = await running.process.wait()
            await running.pump
            if status == child.hopeless:
                self._output.say(f"{child.name} {_ended(status)}; the stack cannot go on without it")
                self._failure = StackError(f"{child.name} {_ended(status)}")
                self._failed.set()
                return
            if status == 0 or time.monotonic() - running.started > _SETTLED_SECONDS:
                delay = self._first_delay
            await self._start_again(running, status, delay)
            delay = min(2 * delay, self._longest_delay)

    async def _start_again(self, running: _Running, status: int, delay: float) -> None:
        self._output.say(f"{running.child.name} {_ended(status)}; starting it again in {delay:g} s")
        _kill_group(running.process)
        await asyncio.sleep(delay)
        again = await self._spawn(running.child)
        running.process, running.pump, running.started = again.process, again.pump, again.started

    async def _end(self, running: _Running) -> None:
        child, process = running.child, running.process
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(child.stop_seconds):  # wait_for loses a cancellation when the child ends
                    await process.wait()
            except TimeoutError:
                self._output.say(f"{child.name} did not stop within {child.stop_seconds:g} s; killing it")
        _kill_group(process)
        await process.wait()
        await running.pump

    async def _pump(self, name: str, process: Process) -> None:
        assert process.stdout is not None
        rest = b""
        while chunk := await process.stdout.read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._output.line(name, line.decode(errors="replace"))
            if len(rest) > _MAX_LINE_BYTES:
                self._output.line(name, rest.decode(errors="replace"))
                rest = b""
        if rest:
            self._output.line(name, rest.decode(errors="replace"))

    def _not_started(self, child: Child, why: str) -> StartFailed:
        return StartFailed(child.name, why, self._output.last_lines(child.name))


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


def _kill_group(process: Process) -> None:
    # The group outlives its leader while it has members; without any, there is nothing to kill.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
