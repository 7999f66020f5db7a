"""SIGTERM after SIGTERM while commands and requests are under way: none that ended well has missed anything.

The short form is part of the tests; `make soak-drain N=300` sends so many signals.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from stack.embedded_aws import HOST
from stack.probe import grpc_serving, http_ok
from stack.running import running_stack
from stack.up import Stack
from tests.lb.commands import Commands
from tests.lb.conftest import PATIENCE_SECONDS, BalancedStack, last_words

SIGNALS = int(os.environ.get("SYNCLINE_TEST_DRAINS", "8"))
"""To be sent in all, a half of them to each kind of system."""
MANY = 100
"""The number of signals that are sure to have met streams and bodies under way."""
ENDED = ("metadata", "notify", "gateway")

End = Callable[[Sequence[str]], None]
"""Sends SIGTERM to these processes, and returns when others have taken their places."""


def drained(commands: Commands, end: End, rounds: Callable[[], Sequence[str]]) -> None:
    """Commands at work while processes are ended; see above."""
    rng, began, sent = random.Random(SIGNALS), time.monotonic(), 0
    notes = commands.notes
    with commands.at_work():
        while sent < SIGNALS // 2:
            names = rounds()
            time.sleep(rng.uniform(0, 2))  # at any moment of what is under way
            end(names)
            sent += len(names)
            print(
                f"{time.monotonic() - began:.0f} s: {sent} signals, done {sum(notes.done.values())}", notes.faults[:3]
            )
        commands.heard()
    commands.each_succeeds()
    print(f"{sent} signals in {time.monotonic() - began:.0f} s")
    print(f"ended well {dict(notes.done)}, failed {dict(notes.failed)}, broken off {dict(notes.broken_off)}")
    assert not notes.faults
    if SIGNALS >= MANY:
        assert notes.done.keys() >= {"pull", "check", "sync", "check command", "get", "download", "archive"}
        assert notes.done["put_by_dav"]
        assert notes.broken_off["check_slowly"]


@pytest.mark.timeout(3600)
def test_a_balanced_system_that_is_restarted_time_and_again(system: BalancedStack, tmp_path: Path) -> None:
    """Somebody else is there: streams go on where they broke off. Now and then all of a service are away."""
    system.settled()
    rng = random.Random(SIGNALS)

    def some() -> list[str]:
        if rng.random() < 0.2:
            return system.balanced.instances(rng.choice(ENDED))
        return [rng.choice(system.balanced.instances(service)) for service in ENDED]

    commands = Commands(system.stack.endpoint, tmp_path)
    try:
        drained(commands, partial(system.end, number=signal.SIGTERM), some)
    finally:
        commands.close()


@pytest.mark.timeout(3600)
def test_a_system_of_one_process_each_that_is_restarted_time_and_again(tmp_path: Path) -> None:
    """Nobody else is there: what was under way fails, and says so."""
    with running_stack() as stack:
        rng = random.Random(SIGNALS)
        commands = Commands(stack.endpoint, tmp_path)
        try:
            drained(commands, partial(_end, stack), lambda: rng.sample(ENDED, rng.randint(1, len(ENDED))))
        finally:
            commands.close()


def _end(stack: Stack, names: Sequence[str]) -> None:
    before = dict(stack.pids)
    for name in names:
        os.kill(before[name], signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(stack.pids[name] != before[name] and _serves(stack, name) for name in names):
        assert time.monotonic() < deadline, f"not back: {names}; {last_words(stack, names)}"
        time.sleep(0.05)


def _serves(stack: Stack, name: str) -> bool:
    port = getattr(stack.ports, name)
    return asyncio.run(http_ok(HOST, port, "/readyz") if name == "gateway" else grpc_serving(f"{HOST}:{port}"))
