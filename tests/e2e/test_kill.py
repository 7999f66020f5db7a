"""kill -9 of the real client in the middle of real syncs: the next one goes on, and nothing is lost or left over."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.demo import DemoDevice, same_trees

FILES = 2000
KILLS = int(os.environ.get("SYNCLINE_TEST_KILLS", "10"))
"""`make soak-kill` sets it to a hundred."""
KILLS_A_ROUND = 3


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and ".syncline" not in path.parts)


def killed(device: DemoDevice, after_seconds: float) -> bool:
    """Start a sync and kill it after a while; whether it was not done yet."""
    with device.start("sync", str(device.folder), "--json") as child:
        try:
            child.wait(after_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            return True
    assert child.returncode == 0
    return False


def change(rng: random.Random, number: int, one: DemoDevice, two: DemoDevice) -> set[bytes]:
    """Work on both devices, nearly all of it on the first; returns what was saved."""
    saved = set()
    files = files_of(one.folder)
    for n, path in enumerate(files):
        data = b"%d %d\n" % (number, n) * rng.randint(1, 500)
        path.write_bytes(data)
        saved.add(data)
    directory = rng.choice([path for path in one.folder.iterdir() if path.is_dir() and path.name != ".syncline"])
    directory.rename(one.folder / f"renamed {number}")
    for n, path in enumerate(rng.sample(files_of(one.folder), 20)):
        path.rename(one.folder / f"moved {number} {n}")
    for path in rng.sample(files_of(one.folder), 20):
        saved.discard(path.read_bytes())
        path.unlink()
        data = b"new in the place of one, %d %s\n" % (number, path.name.encode())
        path.with_name(f"{path.name}, new {number}").write_bytes(data)
        saved.add(data)
    for n, path in enumerate(rng.sample(files_of(two.folder), 5)):
        data = b"edited on the other device, %d %d\n" % (number, n)
        path.write_bytes(data)
        saved.add(data)
    return saved


@pytest.mark.timeout(900)
def test_syncs_that_are_killed_lose_nothing(new_device: Callable[..., DemoDevice]) -> None:
    rng = random.Random(KILLS)
    one = new_device("one")
    for n in range(FILES):
        path = one.folder / f"{n // 100:02}" / f"{n % 100:02}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d\n" % n * 100)
    two = new_device("two", one.owner)
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        assert rounds <= KILLS, f"of the syncs of {rounds} rounds only {kills} could be killed"
        saved = change(rng, rounds, one, two) if rounds > 1 else {path.read_bytes() for path in files_of(one.folder)}
        for device in (one, two):
            longest = 2.0
            for _ in range(KILLS_A_ROUND):
                began = time.monotonic()
                if killed(device, rng.uniform(0.3, longest)):
                    kills += 1
                else:
                    longest = max(0.4, (time.monotonic() - began) * 0.7)
                    break
            device.sync()
        one.sync()
        two.sync()
        assert same_trees(one, two) >= FILES
        there = {path.read_bytes() for path in files_of(one.folder)}
        assert saved <= there, f"{len(saved - there)} contents were lost in round {rounds}"
        for device in (one, two):
            assert not list((device.folder / ".syncline" / "tmp").iterdir())
            figures = device.sync()
            assert not figures["uploaded"] + figures["downloaded"] + figures["moved"] + figures["deleted_local"]
