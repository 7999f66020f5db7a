"""The purpose of a balancer: the load spreads, and the system looks like one."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack.demo import DemoDevice, DemoTeller, same_trees, story
from syncline.model.identifiers import new_text_id
from tests.lb.conftest import BalancedStack
from tests.lb.load import people
from tests.support.passwords import STRONG

MIB = 1 << 20

pytestmark = pytest.mark.timeout(600)


def test_the_calls_of_a_load_are_spread_evenly(system: BalancedStack, tmp_path: Path) -> None:
    system.settled()

    def calls() -> dict[int, int]:
        return {host.port: host.requests for host in system.balanced.hosts() if host.cluster == "metadata"}

    with people(system.stack.endpoint, tmp_path, seed=2, users=20) as load:
        before = calls()
        with load.running(seconds=10):
            pass
        spread = sorted(count - before[port] for port, count in calls().items())
        assert not load.notes.failures
    print("calls of each metadata process:", spread)
    assert len(spread) == 3
    assert sum(spread) > 30
    assert spread[-1] <= 1.2 * spread[0]


@contextmanager
def killing(system: BalancedStack) -> Iterator[list[str]]:
    """While the block lasts, kill one process of each service, again and again; yields the names so far."""
    killed: list[str] = []
    stop = threading.Event()

    def kill() -> None:
        while not stop.is_set():
            for service in ("auth", "metadata", "notify", "gateway"):
                if stop.wait(0.3):
                    return
                instances = system.balanced.instances(service)
                name = instances[len(killed) // 4 % len(instances)]
                system.kill(name)
                killed.append(name)
            system.settled()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def test_a_sync_does_not_notice_that_processes_are_killed(system: BalancedStack, tmp_path: Path) -> None:
    system.settled()
    tag = new_text_id()
    one, two = (DemoDevice("sync", name, tmp_path / name, tag) for name in ("one", "two"))
    source = random.Random(3)
    for number in range(3000):
        file = one.folder / f"{number % 50}" / f"{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source.randbytes(source.randrange(8192)))
    (one.folder / "big").write_bytes(b"".join(source.randbytes(MIB) for _ in range(96)))
    two.folder.mkdir(parents=True)
    for device, command in ((one, "signup"), (two, "login")):
        device.run(
            *(command, "--endpoint", system.stack.endpoint, "--email", device.email, "--password-stdin"),
            *("--device", device.name),
            stdin=f"{STRONG}\n",
        )
    # `sync` and `check` raise unless the exit status is 0.
    with killing(system) as killed:
        figures = one.sync()
    assert figures["uploaded"] == 3001
    assert len(killed) >= 4
    system.settled()
    with killing(system) as killed:
        two.sync()
        assert two.check()["current"] == 3001
    assert len(killed) >= 4
    assert same_trees(one, two) == 3001 + 50
    system.settled()


def test_the_story_holds_behind_a_balancer(system: BalancedStack, tmp_path: Path) -> None:
    system.settled()
    story(
        DemoTeller(),
        tmp_path,
        endpoint=system.stack.endpoint,
        mails=system.stack.aws.mails,
        tag=f"-{new_text_id()[:6]}",
    )
