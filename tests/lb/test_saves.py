"""Safe saves over WebDAV whose requests meet different gateways, and new ones."""

from __future__ import annotations

import signal
import time

from gateway.dav.steps import SAVE_SECONDS
from tests.e2e.test_dav_saves import (
    WAYS,
    Folder,
    delete_and_make,
    in_a_folder,
    move_over,
    rename_and_put,
    tree,
)
from tests.lb.conftest import BalancedStack

_ATTEMPTS = 3


def test_the_requests_of_a_save_may_meet_any_gateway(system: BalancedStack) -> None:
    system.settled()
    folder = Folder(system.stack)
    folder.put("f.txt", b"0")
    before = folder.node("f.txt")["id"]
    asked = {host.port: host.requests for host in system.balanced.hosts() if host.cluster == "gateway"}
    saves = [*WAYS, *[lambda folder, data: rename_and_put(folder, data, "f.txt~")] * 2]
    for number, save in enumerate(saves, start=1):
        save(folder, b"%d" % number)
        assert folder.node("f.txt")["id"] == before, save
    contents = [one for one in folder.contents("f.txt") if one]
    assert contents == [b"%d" % number for number in range(len(saves) + 1)]
    assert folder.trash() == []
    assert all(
        host.requests > asked[host.port] + len(WAYS) for host in system.balanced.hosts() if host.cluster == "gateway"
    )
    tree(folder, "d", 0)
    a = folder.located("d/a")["id"]
    for number, replace in enumerate((move_over, delete_and_make, in_a_folder), start=1):
        replace(folder, number)
        assert folder.located("d/a")["id"] == a, replace
    assert folder.contents("d/a") == [b"a0", b"a1", b"a2", b"a3"]


def test_gateways_that_are_killed_within_a_save_forget_nothing(system: BalancedStack) -> None:
    gateways = system.balanced.instances("gateway")
    for attempt in range(_ATTEMPTS):
        folder = Folder(system.stack)
        for data in (b"0", b"1"):
            folder.put("f.txt", data)
            folder.put("g.txt", data)
        before = {name: folder.node(name)["id"] for name in ("f.txt", "g.txt")}
        began = time.monotonic()
        folder.move("f.txt", "f.txt~")
        folder.delete("g.txt")
        system.end(gateways, signal.SIGKILL)
        for name in before:
            folder.put(name, b"2")
        in_time = time.monotonic() - began < SAVE_SECONDS
        # Nothing is lost in any case.
        assert folder.read("f.txt") == folder.read("g.txt") == b"2"
        assert folder.read("f.txt~") == b"1"
        if not in_time and attempt < _ATTEMPTS - 1:  # the machine was too slow to tell
            continue
        assert {name: folder.node(name)["id"] for name in before} == before
        assert folder.contents("f.txt") == folder.contents("g.txt") == [b"0", b"1", b"2"]
        assert folder.trash() == []
        return
