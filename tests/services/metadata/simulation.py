"""A deterministic world for two metadata processes: virtual time, random interleaving, crashes at any await."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from services.metadata.journal.open_spaces import OpenSpaces
from services.metadata.journal.sweep import Sweeper
from services.metadata.sealing import Objects
from services.metadata.tree.depths import Depths
from services.metadata.tree.search import MAX_INDEXED_NAMES, NameSearch
from syncline.model.identifiers import SpaceId
from tests.support.metadata import FixedQuotas, MemoryJournal, MemoryObjects, MemoryTable, MemoryTopic

T = TypeVar("T")
SPACE = SpaceId("a" * 26)
LEASE_MS = 30_000


class Deadlock(AssertionError):
    """Every task waits and no timer is set."""


class _VirtualTime(selectors.SelectSelector):
    """A selector that never waits: it moves the clock to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock
        self.now += max(timeout, 0)
        return super().select(0)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on an event loop whose sleeps take no time."""
    selector = _VirtualTime()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]

    async def whole() -> T:
        try:
            return await main
        finally:
            # Tasks of crashed processes hang for ever; ending one may start another.
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(whole())


class World:
    """The parts that survive a crash: journal, table, topic, objects, and the clock."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.clock_ms = 1_000_000
        self.journal = MemoryJournal()
        self.table = MemoryTable()
        self.topic = MemoryTopic()
        self.objects = MemoryObjects()
        self.started = 0
        self.hung: list[asyncio.Future[None]] = []
        """The futures that crashed processes wait for; kept, lest their tasks be collected."""

    def now_ms(self) -> int:
        self.clock_ms += 1
        return self.clock_ms

    def let_leases_run_out(self) -> None:
        self.clock_ms += 2 * LEASE_MS


class Process:
    """One metadata process over the world. After `crash` nothing it does takes effect any more."""

    def __init__(
        self,
        world: World,
        *,
        quota_bytes: int = 1 << 40,
        max_nodes: int = 1 << 40,
        max_journal_bytes: int = 1 << 40,
        capacity: int = 1000,
        most_names: int = MAX_INDEXED_NAMES,
    ) -> None:
        world.started += 1
        self.world = world
        self.crashed = False
        self._hang_at: int | None = None
        journal = _sharing(MemoryJournal(self._pause), world.journal, "entries")
        self.table = _sharing(
            MemoryTable(self._pause),
            world.table,
            *("nodes", "names", "stored_versions", "trashed", "requests", "states"),
        )
        topic = _sharing(MemoryTopic(self._pause), world.topic, "published")
        self.journal = journal
        self.search = NameSearch(journal=journal, most_names=most_names)
        self.spaces = OpenSpaces(
            journal=journal,
            table=self.table,
            topic=topic,
            objects=Objects(index=world.objects, storage=world.objects),
            depths=Depths(self.search),
            process=f"process-{world.started}",
            reserving=FixedQuotas(quota_bytes, self._pause),
            max_nodes=max_nodes,
            max_journal_bytes=max_journal_bytes,
            now_ms=world.now_ms,
            coalesce_seconds=0.0,
            lease_ms=LEASE_MS,
            capacity=capacity,
        )
        self.sweeper = Sweeper(spaces=self.spaces, table=self.table, now_ms=world.now_ms, interval_seconds=1.0)

    def crash_after(self, pauses: int) -> None:
        """Crash at the given number of awaits from now."""
        self._hang_at = pauses

    async def _pause(self) -> None:
        if self._hang_at is not None:
            self._hang_at -= 1
            if self._hang_at <= 0:
                self.crashed = True
        if self.crashed:
            hung = asyncio.get_running_loop().create_future()
            self.world.hung.append(hung)
            await hung
        if (luck := self.world.rng.random()) > 0.9:
            await asyncio.sleep(luck / 20)  # long enough for others to commit and project meanwhile
        elif luck > 0.5:
            await asyncio.sleep(0)


def _sharing(private: T, shared: T, *names: str) -> T:
    """`private`, with its contents replaced by those of `shared`: own pauses, common data."""
    for name in names:
        setattr(private, name, getattr(shared, name))
    return private
