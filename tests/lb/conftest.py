"""One balanced system for all of these tests: three processes of metadata, two of the others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest

from stack.balancer import Balanced
from stack.running import running_stack
from stack.up import Stack

PATIENCE_SECONDS = 180.0


class BalancedStack:
    """A running stack whose processes can be ended; the supervisor starts them again."""

    def __init__(self, stack: Stack, balanced: Balanced) -> None:
        self.stack = stack
        self.balanced = balanced

    def end(self, names: Sequence[str], number: signal.Signals) -> None:
        """Send a signal to these processes; return when new ones have taken their places and get calls."""
        before = dict(self.stack.pids)
        for name in names:
            os.kill(before[name], number)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all(self.stack.pids[name] != before[name] and self._serves(name) for name in names):
            assert time.monotonic() < deadline, f"not back: {names}; {last_words(self.stack, names)}"
            time.sleep(0.05)
        self.settled()

    def kill(self, name: str) -> None:
        """Kill it and do not wait; if it has just ended and is not back yet, it is left alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.stack.pids[name], signal.SIGKILL)

    @contextmanager
    def stopped(self, name: str) -> Iterator[Callable[[], None]]:
        """Yields what stops a process in its tracks; at the end of the block it goes on."""
        pid = self.stack.pids[name]
        try:
            yield partial(os.kill, pid, signal.SIGSTOP)
        finally:
            os.kill(pid, signal.SIGCONT)

    def settled(self) -> None:
        """Return when the balancer sends calls to every instance."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (hosts := self.balanced.hosts()) or not all(host.healthy for host in hosts):
            assert time.monotonic() < deadline, hosts
            time.sleep(0.05)

    def _serves(self, name: str) -> bool:
        async def asked() -> bool:
            return await self.balanced.ready[name]()

        return asyncio.run(asked())


def last_words(stack: Stack, names: Sequence[str]) -> str:
    """Return the last lines of these processes and of the supervisor."""
    logs = {name: (stack.data / "logs" / f"{name}.log").read_text().splitlines()[-15:] for name in (*names, "stack")}
    return "\n".join(f"{name}: {line[:300]}" for name, lines in logs.items() for line in lines)


@pytest.fixture(scope="session")
def system() -> Iterator[BalancedStack]:
    pytest.importorskip("envoy", reason="there is no Envoy for this platform")
    balanced = Balanced(metadata=3)
    with running_stack(children=balanced) as stack:
        yield BalancedStack(stack, balanced)


@pytest.fixture(scope="session")
def seconds() -> float | None:
    """For how long to restart under load: `make test-lb` says so, else each test is as short as it can be."""
    given = os.environ.get("SYNCLINE_LB_SECONDS")
    return float(given) if given else None
