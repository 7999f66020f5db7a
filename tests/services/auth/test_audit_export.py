"""The export of the audit log writes each event once, whatever interrupts it."""

from __future__ import annotations

import itertools
import json

import pytest

from services.auth.audit import export
from services.auth.audit.events import AuditKind, audit_event
from services.auth.audit.export import SETTLED_SECONDS, AuditExport, object_key_of_hour
from services.auth.records import HOUR_MS
from tests.services.auth.support import Clock
from tests.support.auth import InMemoryAuditStore

HOUR = 500_000
SETTLED_MS = SETTLED_SECONDS * 1000


class Killed(BaseException):
    """The process is killed at this point."""


class Archive:
    """An archive in a dictionary. The process is killed before or after the write number `dies_at`, counted from 1."""

    def __init__(self, objects: dict[str, bytes], *, dies_at: int = 0, after: bool = False) -> None:
        self.objects = objects
        self.dies_at, self.after = dies_at, after
        self.writes = 0

    async def put(self, key: str, body: bytes) -> None:
        self.writes += 1
        if self.writes == self.dies_at and not self.after:
            raise Killed
        assert self.objects.setdefault(key, body) == body, "an object is written again with the same content alone"
        if self.writes == self.dies_at:
            raise Killed


class Log(InMemoryAuditStore):
    """A log whose process is killed before it records that an hour is exported, number `dies_at` counted from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.dies_at = self.notes = 0

    async def note_exported(self, hour: int) -> None:
        self.notes += 1
        if self.notes == self.dies_at:
            raise Killed
        await super().note_exported(hour)


class World:
    def __init__(self) -> None:
        self.clock, self.log = Clock(), Log()
        self.objects: dict[str, bytes] = {}

    def add(self, hour: int, count: int) -> None:
        for number in range(count):
            at_ms = hour * HOUR_MS + number * (HOUR_MS - 1) // max(1, count - 1)
            self.log.events.append(audit_event(AuditKind.SIGNED_IN, at_ms=at_ms, name="a\nname"))

    def process(self, **how) -> AuditExport:
        return AuditExport(self.log, Archive(self.objects, **how), clock=self.clock)

    def exported(self) -> list[str]:
        """Return the ids of all exported events, in the order of the objects and lines."""
        lines = [line for key in sorted(self.objects) for line in self.objects[key].decode().splitlines()]
        return [json.loads(line)["id"] for line in lines]

    def logged(self, until_hour: int) -> list[str]:
        events = sorted(self.log.events, key=lambda event: event.place)
        return [event.ident for event in events if event.at_ms < until_hour * HOUR_MS]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(export, "MAX_OBJECT_EVENTS", 4)
    world = World()
    for hour, count in ((HOUR, 3), (HOUR + 1, 9), (HOUR + 5, 4), (HOUR + 6, 2)):
        world.add(hour, count)
    return world


async def test_each_hour_with_events_is_exported_when_it_is_over(world):
    world.clock.now = (HOUR + 1) * HOUR_MS + SETTLED_MS - 1
    assert await world.process().export() == 0
    world.clock.advance(1)
    assert await world.process().export() == 1
    assert world.exported() == world.logged(HOUR + 1)
    world.clock.now = (HOUR + 6) * HOUR_MS + SETTLED_MS
    assert await world.process().export() == 2
    assert world.exported() == world.logged(HOUR + 6)
    assert sorted(world.objects) == [
        object_key_of_hour(HOUR, 0),
        *(object_key_of_hour(HOUR + 1, number) for number in range(3)),
        object_key_of_hour(HOUR + 5, 0),
    ]
    assert all(len(body.decode().splitlines()) <= 4 for body in world.objects.values())


@pytest.mark.parametrize("after", [False, True])
async def test_a_killed_export_is_resumed_without_gaps_or_doubles(world, after):
    world.clock.now = (HOUR + 9) * HOUR_MS
    for dies_at in itertools.count(1):
        world.objects.clear()
        world.log._exported = None
        try:
            await world.process(dies_at=dies_at, after=after).export()
        except Killed:
            assert await world.process().export()
        else:
            break
        assert world.exported() == world.logged(HOUR + 9)
    assert dies_at == 6 + 1


async def test_an_export_that_was_written_and_not_noted_is_noted_by_the_next_one(world):
    world.clock.now = (HOUR + 9) * HOUR_MS
    world.log.dies_at = 2
    with pytest.raises(Killed):
        await world.process().export()
    assert await world.process().export() == 3
    assert world.exported() == world.logged(HOUR + 9)


async def test_two_processes_export_the_same(world):
    world.clock.now = (HOUR + 9) * HOUR_MS
    first, second = world.process(), world.process()
    assert await first.export() == 4
    world.log._exported = HOUR
    assert await second.export() == 3
    assert world.exported() == world.logged(HOUR + 9)


def test_the_key_of_an_object_is_its_hour() -> None:
    assert object_key_of_hour(1_796_000 * 1000 // 3600, 7).endswith("-0007.jsonl")
    assert object_key_of_hour(0, 0) == "audit/1970/01/01/00-0000.jsonl"
