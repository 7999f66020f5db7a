"""Devices that are changed at random, and that crash at any step, converge and lose nothing."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import pytest

from tests.clients.sync.fakes import Crash, CrashAt, Device, MemorySpace, Point
from tests.clients.sync.users import User

SEEDS = range(40)


class World:
    """Some devices of one space, and their users."""

    def __init__(self, base: Path, space: MemorySpace, seed: int, *, crashes: bool, meddling: bool) -> None:
        self.rng = random.Random(seed)
        self.space = space
        self.devices = [Device(base, name, self.space) for name in "xyz"[: self.rng.choice((2, 2, 3))]]
        for device in self.devices:
            assert device.folder
        self.users = [User(device.root, self.rng, device.name) for device in self.devices]
        self.crashes = crashes
        self.meddling = meddling
        self.log: list[str] = []

    def run(self, steps: int) -> None:
        for _ in range(steps):
            index = self.rng.randrange(len(self.devices))
            if self.rng.random() < 0.75:
                for _ in range(self.rng.choice((1, 1, 2, 4))):
                    self.log.append(f"{self.devices[index].name}: {self.users[index].act()}")
            else:
                self.sync(index)

    def sync(self, index: int) -> None:
        """Sync, perhaps until a crash, perhaps while the user goes on."""
        device = self.devices[index]
        before = contents(device)
        point: Point | None = None
        if self.crashes and self.rng.random() < 0.5:
            point = CrashAt(self.rng.choice((1, 2, 3, 5, 8, 13, 20)))
        elif self.meddling and self.rng.random() < 0.5:
            point = Meddling(self, index, before)
        self.log.append(f"{device.name}: sync {point.__class__.__name__} {getattr(point, 'left', '')}")
        try:
            device.sync(point, allow_mass_delete=True)
        except Crash:
            self.log.append(f"{device.name}: crashed")
        lost = before - contents(device) - self.history()
        assert not lost, (lost, self.log)

    def history(self) -> set[bytes]:
        return {self.space.objects[digest] for digest in self.space.history if digest in self.space.objects}

    def settle(self) -> None:
        """Sync all devices in turn until nothing happens any more."""
        for _ in range(8):
            head = len(self.space.journal)
            busy = False
            for device in self.devices:
                report = device.sync(allow_mass_delete=True)
                assert not report.problems, (report.problems, self.log)
                busy |= any((report.downloaded, report.deleted_local, report.moved, report.conflicts))
            if not busy and len(self.space.journal) == head:
                return
        raise AssertionError(("does not settle", self.log))


class Meddling:
    """The user goes on while the device syncs."""

    def __init__(self, world: World, index: int, before: set[bytes]) -> None:
        self.world = world
        self.index = index
        self.before = before

    def __call__(self) -> None:
        if self.world.rng.random() < 0.1:
            device, user = self.world.devices[self.index], self.world.users[self.index]
            there = contents(device)
            self.world.log.append(f"{device.name}: meanwhile {user.act()}")
            # What the user overwrote is the user's loss, what it saved is not.
            self.before -= there - contents(device)
            self.before |= contents(device) - there


def contents(device: Device) -> set[bytes]:
    """All contents on a device, wherever they are, but for those of no bytes."""
    return {
        path.read_bytes()
        for path in device.root.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and not path.is_relative_to(device.root / ".syncline" / "lock")
        and path.stat().st_size
    }


def composed(tree: dict[str, object]) -> dict[str, object]:
    return {unicodedata.normalize("NFC", path): what for path, what in tree.items()}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("disturbance", ["quiet", "crashes", "meddling"])
def test_devices_converge_and_nothing_is_lost(base: Path, space: MemorySpace, seed: int, disturbance: str) -> None:
    world = World(base, space, seed, crashes=disturbance == "crashes", meddling=disturbance == "meddling")
    world.run(30)
    before = set[bytes]().union(*map(contents, world.devices))
    world.settle()
    tree = world.space.tree()
    for device in world.devices:
        assert composed(device.tree()) == tree, (device.name, world.log)
        assert not list((device.root / ".syncline" / "tmp").iterdir())
    assert before <= set[bytes]().union(*map(contents, world.devices)) | world.history(), world.log

    head = len(world.space.journal)
    for device in world.devices:
        report = device.sync()
        assert device.calls == ["changes"], world.log
        assert not any((report.uploaded, report.downloaded, report.moved, report.deleted_local, report.deleted_remote))
    assert len(world.space.journal) == head
    assert not any(name.rpartition("/")[2].startswith(".syncline-") for name in tree), (tree, world.log)
