"""Ctrl-C at any moment of a sync: one line, exit code 130, nothing broken, nothing left lying about."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.cli.main import INTERRUPTED
from stack.demo import REPOSITORY, Device, same_trees

NewDevice = Callable[..., Device]

SAID = "syncline: interrupted; what was done so far is kept, run the same command again to go on\n"


def interrupted_sync(device: Device, after: float, *arguments: str) -> tuple[int, str]:
    """A sync that gets SIGINT so many seconds after it began to work; its exit code and what it said on stderr."""
    child = device.start("sync", str(device.folder), *arguments)
    lock = device.folder / ".syncline" / "lock"
    deadline = time.monotonic() + 60
    while child.poll() is None and not is_locked(lock) and time.monotonic() < deadline:
        time.sleep(0.005)
    try:
        child.wait(after)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=20)
    return child.returncode, said


def is_locked(path: Path) -> bool:
    """Whether the sync has the folder, by the system's own list."""
    if not path.exists():
        return False
    inode = path.stat().st_ino
    return any(line.split()[5].endswith(f":{inode}") for line in Path("/proc/locks").read_text().splitlines())


AT_THE_WORST_MOMENT = """
import grpc._channel
from clients.cli.main import main

def interrupt(state):
    raise KeyboardInterrupt

grpc._channel._run_channel_spin_thread = interrupt
main()
"""
"""gRPC knows of a call already, and the thread that would read its events does not run yet."""


def test_an_interruption_between_the_steps_of_grpc(new_device: NewDevice) -> None:
    device = new_device("one")
    (device.folder / "f").write_bytes(b"x")
    ended = subprocess.run(
        [sys.executable, "-c", AT_THE_WORST_MOMENT, "sync", str(device.folder)],
        env={**os.environ, "SYNCLINE_HOME": str(device.root / "home")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == INTERRUPTED, ended.stderr
    assert ended.stderr == SAID
    assert device.sync()["uploaded"] == 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize("arguments", [(), ("--limit-up", "300K", "--limit-down", "300K")])
def test_a_sync_that_is_interrupted_at_random_moments(new_device: NewDevice, arguments: tuple[str, ...]) -> None:
    source = random.Random(1)
    one, two = new_device("one"), None
    interrupted = 0
    for turn in range(5):
        for n in range(100):
            (one.folder / f"{turn}-{n}").write_bytes(source.randbytes(2000))
        (one.folder / f"large {turn}").write_bytes(source.randbytes(700_000))
        for device in filter(None, (one, two)):
            code, said = interrupted_sync(device, source.uniform(0, 0.2), *arguments)
            # Once the work is done the interpreter has no handler any more, and a shell makes 130 of that, too.
            assert code in {0, INTERRUPTED, -signal.SIGINT}, said
            assert "Traceback" not in said
            assert "Exception ignored" not in said
            if code == INTERRUPTED:
                interrupted += 1
                assert said == SAID
        one.sync()
        two = two or new_device("two", one.owner)
        two.sync()
        assert same_trees(one, two) == 101 * (turn + 1)
        for device in (one, two):
            assert not list((device.folder / ".syncline" / "tmp").iterdir())
    assert interrupted
