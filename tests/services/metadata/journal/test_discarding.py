"""An object that nobody seals is removed, and no moment at which somebody seals it after all loses a byte."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping

import pytest
from typing_extensions import override

from runtime.pool import Share
from services.metadata.metrics import DISCARDED
from services.metadata.ports import NO_REMOVALS, Deletion, Recorded, Sealed, StoredObject
from services.metadata.quota import Measuring
from services.metadata.sealing import DeclaredObject, Objects, SingleBlock
from syncline.model.blocks import Digest
from syncline.model.errors import Unavailable
from syncline.model.identifiers import SpaceId, new_text_id
from syncline.model.verdicts import SealVerdict
from tests.services.metadata.support import FakeAuth
from tests.support.metadata import FixedQuotas, MemoryMeasures, MemoryObjects, MemoryTable

ANN = Share.alone("ann")

DAY_MS = 86_400_000
KEEP_DAYS = 7
CONTENT = b"what is uploaded"
NAME = Digest(hashlib.sha256(CONTENT).digest())
SPACE = SpaceId(new_text_id())
BLOCK = DeclaredObject(NAME, len(CONTENT), SingleBlock())


class PausedObjects(MemoryObjects):
    """Index and storage to which every call takes a way there and a way back; `at` is told where each is."""

    def __init__(self) -> None:
        super().__init__()
        self.at: Callable[[str], object] | None = None

    async def _pass(self, place: str) -> None:
        if self.at is not None and (awaited := self.at(place)) is not None:
            assert asyncio.iscoroutine(awaited)
            await awaited

    @override
    async def look(self, space: SpaceId, objects: Collection[Digest]) -> Recorded:
        await self._pass("before look")
        found = await super().look(space, objects)
        await self._pass("after look")
        return found

    @override
    async def known(self, space: SpaceId, objects: Collection[Digest]) -> set[Digest]:
        await self._pass("before known")
        found = await super().known(space, objects)
        await self._pass("after known")
        return found

    @override
    async def describe(self, space: SpaceId, digest: Digest) -> StoredObject | None:
        await self._pass("before head")
        found = await super().describe(space, digest)
        await self._pass("after head")
        return found

    @override
    async def seal(
        self, space: SpaceId, objects: Mapping[Digest, Sealed], *, after: Mapping[Digest, int] = NO_REMOVALS
    ) -> set[Digest]:
        await self._pass("before seal")
        lost = await super().seal(space, objects, after=after)
        await self._pass("after seal")
        return lost

    @override
    async def begin_removal(self, space: SpaceId, digest: Digest, *, now_ms: int, until_ms: int) -> int | None:
        await self._pass("before begin")
        number = await super().begin_removal(space, digest, now_ms=now_ms, until_ms=until_ms)
        await self._pass("after begin")
        return number

    @override
    async def end_removal(self, space: SpaceId, digest: Digest, number: int) -> None:
        await self._pass("before end")
        await super().end_removal(space, digest, number)
        await self._pass("after end")

    @override
    async def remove(self, space: SpaceId, digest: Digest, *, etag: str) -> bool:
        await self._pass("before remove")
        removed = await super().remove(space, digest, etag=etag)
        await self._pass("after remove")
        return removed


class World:
    """Processes of metadata over the same data, in a space that somebody writes to."""

    def __init__(self, *, keep_days: float = KEEP_DAYS) -> None:
        self.keep_days = keep_days
        self.data, self.measures, self.table, self.auth = PausedObjects(), MemoryMeasures(), MemoryTable(), FakeAuth()
        self.now_ms = 1_000 * DAY_MS
        self.auth.writing.add(SPACE)

    def objects(self) -> Objects:
        """Return the objects of a process that was just started."""
        return Objects(index=self.data, storage=self.data, now_ms=lambda: self.now_ms)

    def measuring(self) -> Measuring:
        return Measuring(
            measures=self.measures,
            storage=self.data,
            index=self.data,
            objects=self.objects(),
            table=self.table,
            writers=self.auth,
            reserving=FixedQuotas(),
            now_ms=lambda: self.now_ms,
            interval_seconds=60,
            keep_days=self.keep_days,
        )

    def put(self) -> None:
        """Put as devices do: nothing is put over what is there."""
        if (SPACE, NAME) not in self.data.stored:
            self.data.stored[SPACE, NAME] = CONTENT
            self.data.modified_at_ms[SPACE, NAME] = self.now_ms

    async def measure(self) -> None:
        measuring = self.measuring()
        await measuring.schedule()
        await measuring.measure()

    async def seal(self, objects: Objects | None = None) -> SealVerdict:
        (verdict,) = await (objects or self.objects()).seal(SPACE, [BLOCK], share=ANN)
        return verdict

    def later(self, days: float) -> None:
        self.now_ms += int(days * DAY_MS)

    async def watched(self, days: float) -> None:
        """Measure twice a day for so long, and at the end."""
        end_ms = self.now_ms + int(days * DAY_MS)
        while self.now_ms < end_ms:
            self.now_ms = min(end_ms, self.now_ms + DAY_MS // 2)
            await self.measure()

    @property
    def stored(self) -> bool:
        return (SPACE, NAME) in self.data.stored

    def nothing_is_lost(self) -> None:
        assert self.stored or (SPACE, NAME) not in self.data.index


@pytest.fixture
async def world() -> World:
    """A world with an object that may go at the next measure."""
    world = World()
    await world.watched(KEEP_DAYS + 1)
    world.put()
    world.data.modified_at_ms[SPACE, NAME] -= (KEEP_DAYS + 1) * DAY_MS
    world.later(0.1)
    return world


async def test_what_nobody_seals_goes_after_a_week() -> None:
    world = World()
    await world.measure()
    world.put()
    await world.watched(KEEP_DAYS - 0.1)
    assert world.stored
    await world.watched(0.2)
    assert not world.stored
    await world.watched(0.1)
    assert (await world.measures.measure(SPACE)).unsealed_objects == 0


async def test_what_is_sealed_stays(world: World) -> None:
    assert await world.seal() is SealVerdict.SEALED
    await world.measure()
    assert world.stored


async def test_what_was_put_of_late_stays(world: World) -> None:
    world.data.modified_at_ms[SPACE, NAME] = world.now_ms
    await world.measure()
    assert world.stored


async def test_nothing_goes_by_a_table_that_has_not_known_the_space_for_long(world: World) -> None:
    """After a restore, or with the bucket of another stage, the table does not know the objects."""
    world.measures = MemoryMeasures()
    await world.measure()
    await world.watched(KEEP_DAYS - 0.1)
    assert world.stored
    await world.watched(0.2)
    assert not world.stored


@pytest.mark.parametrize("gap_days", [1.1, 10, 200])
async def test_nothing_goes_by_a_table_that_has_not_measured_the_space_of_late(gap_days: float) -> None:
    """A table from a backup does not know what was sealed since, and a space may be written to again after months."""
    world = World()
    await world.watched(KEEP_DAYS + 1)
    backup = dict(world.measures.measures)
    world.later(gap_days)
    world.put()
    world.data.modified_at_ms[SPACE, NAME] -= int(gap_days * DAY_MS) - 1
    assert await world.seal() is SealVerdict.SEALED
    world.data.index.clear()
    world.measures = MemoryMeasures()
    world.measures.measures = backup
    await world.measure()
    await world.watched(KEEP_DAYS - 0.1)
    assert world.stored
    await world.watched(0.2)
    assert not world.stored


async def test_what_was_removed_can_be_put_and_sealed_at_once(world: World) -> None:
    await world.measure()
    assert await world.seal() is SealVerdict.OBJECT_MISSING
    world.put()
    assert await world.seal() is SealVerdict.SEALED
    await world.watched(KEEP_DAYS + 1)
    assert world.stored


async def test_removals_that_last_keep_the_lease(world: World) -> None:
    for number in range(20):
        data = str(number).encode()
        world.data.stored[SPACE, Digest(hashlib.sha256(data).digest())] = data
    others: list[int] = []

    async def slow() -> None:
        world.now_ms += 60_000
        other = world.measuring()
        await other.schedule()
        others.append(await other.measure())

    world.data.at = lambda where: slow() if where == "before begin" else None
    await world.measure()
    assert others == [0] * 21
    assert not world.data.stored


@pytest.mark.parametrize("name", ["\u00e9" * 64, "A" * 64, "\x07" * 64, "not-a-digest"])
async def test_what_has_another_name_than_a_digest_goes_after_a_week_too(name: str) -> None:
    """Such an object can never be sealed, and no policy can refuse all such names."""
    world = World()
    await world.measure()
    world.put()
    assert await world.seal() is SealVerdict.SEALED
    world.data.misnamed[SPACE, name] = b"x"
    world.data.misnamed_at_ms = world.now_ms
    await world.watched(KEEP_DAYS - 0.1)
    assert (await world.measures.measure(SPACE)).unsealed_objects == 1
    await world.watched(0.2)
    await world.watched(0.1)
    assert world.data.misnamed == {}
    assert (await world.measures.measure(SPACE)).unsealed_objects == 0
    assert world.stored


async def test_what_storage_refused_to_remove_is_not_counted_as_removed(world: World) -> None:
    async def forbidden(space: SpaceId, name: str, *, etag: str) -> Deletion:
        return Deletion(removed=False, is_over=True)

    world.data.remove_once = forbidden  # type: ignore[method-assign]
    before = discarded()
    await world.measure()
    assert discarded() == before
    assert await world.seal() is SealVerdict.SEALED
    del world.data.remove_once


async def test_what_is_removed_is_counted(world: World) -> None:
    before = discarded()
    await world.measure()
    assert discarded() == before + 1


async def test_a_process_that_stalled_before_its_request_leaves_the_object_to_be_sealed(world: World) -> None:
    async def stalls() -> None:
        world.later(0.1)

    world.data.at = lambda where: stalls() if where == "after begin" else None
    await world.measure()
    world.data.at = None
    assert world.stored
    assert await world.seal() is SealVerdict.SEALED


def discarded() -> float:
    (family,) = DISCARDED.collect()
    return next(sample.value for sample in family.samples if sample.name.endswith("_total"))


PLACES = [f"{when} {what}" for what in ("known", "begin", "remove", "end") for when in ("before", "after")]
"""The places at which a removal can be met."""


@pytest.mark.parametrize("place", PLACES)
async def test_a_seal_at_any_moment_of_a_removal_loses_nothing(world: World, place: str) -> None:
    """A device that puts and seals again has the object stored."""
    met: list[SealVerdict] = []

    async def seal() -> None:
        world.put()
        met.append(await world.seal())
        world.nothing_is_lost()

    def at(where: str) -> object:
        if where == place and not met:
            world.data.at = None
            return seal()
        return None

    world.data.at = at
    await world.measure()
    world.nothing_is_lost()
    assert len(met) == 1
    world.put()
    assert await world.seal() is SealVerdict.SEALED
    assert world.stored


@pytest.mark.parametrize("place", ["before look", "after look", "before head", "after head", "before seal"])
@pytest.mark.parametrize("again", [False, True], ids=["gone", "put again"])
async def test_a_removal_at_any_moment_of_a_seal_loses_nothing(world: World, place: str, again: bool) -> None:
    """Also if somebody else has put and sealed the same bytes again in between."""
    done: list[bool] = []

    async def remove() -> None:
        await world.measure()
        if again:
            world.put()
        done.append(True)

    def at(where: str) -> object:
        if where == place and not done:
            world.data.at = None
            return remove()
        return None

    world.data.at = at
    verdict = await world.seal()
    world.nothing_is_lost()
    assert done
    after_all = place == "before look" and again
    assert verdict is (SealVerdict.SEALED if after_all else SealVerdict.OBJECT_MISSING)
    world.put()
    assert await world.seal() is SealVerdict.SEALED
    assert world.stored


async def test_what_another_call_has_proven_before_a_removal_proves_nothing_after_it(world: World) -> None:
    """Two calls of one process: the first looks at storage, the object goes, and the second waits for the first."""
    objects, others = world.objects(), []

    async def remove_and_seal() -> None:
        await world.measure()
        others.append(asyncio.create_task(world.seal(objects)))
        for _ in range(20):
            await asyncio.sleep(0)

    def at(where: str) -> object:
        if where == "after head" and not others:
            return remove_and_seal()
        return None

    world.data.at = at
    verdicts = [await world.seal(objects), await others[0]]
    world.nothing_is_lost()
    assert verdicts == [SealVerdict.OBJECT_MISSING] * 2


async def test_a_removal_of_which_the_answer_is_missing_keeps_the_object_from_being_sealed(world: World) -> None:
    """The request may still be on its way: it hits the bytes that were put meanwhile, which nobody could seal."""
    late: list[Callable[[], object]] = []

    async def lost(space: SpaceId, name: str, *, etag: str) -> Deletion:
        late.append(lambda: MemoryObjects.remove(world.data, space, NAME, etag=etag))
        raise Unavailable

    world.data.remove_once = lost  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await world.measure()
    world.put()
    assert await world.seal() is SealVerdict.OBJECT_MISSING
    removal = late[0]()
    assert asyncio.iscoroutine(removal)
    await removal
    world.nothing_is_lost()
    world.later(1.1)  # S3 has long refused what was signed then
    world.put()
    assert await world.seal() is SealVerdict.SEALED
    assert world.stored


async def test_a_process_that_is_stopped_ends_the_removal_that_it_has_begun(world: World) -> None:
    begun = asyncio.Event()

    async def slowly() -> None:
        begun.set()
        for _ in range(10):
            await asyncio.sleep(0)

    world.data.at = lambda where: slowly() if where == "after begin" else None
    measuring = asyncio.create_task(world.measure())
    await begun.wait()
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    assert not world.stored
    assert world.data.removals[SPACE, NAME].until_ms == 0


@pytest.mark.parametrize("seed", range(300))
async def test_devices_and_removals_in_any_order_lose_nothing(seed: int) -> None:
    """Three devices put and seal, in processes of their own or a shared one; three processes measure; time passes."""
    chance, world = random.Random(seed), World(keep_days=0.5)
    world.put()
    await world.measure()
    shared = world.objects()

    async def wander() -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        world.nothing_is_lost()

    async def device() -> None:
        for _ in range(4):
            world.put()
            await wander()
            if await world.seal(shared if chance.random() < 0.5 else None) is SealVerdict.SEALED:
                return

    async def remover() -> None:
        for _ in range(3):
            # No process stalls for a day between two steps of a removal: that is what a removal relies on.
            going = any(removal.until_ms for removal in world.data.removals.values())
            world.later(0.05 if going else chance.choice([0.05, 0.6]))
            await world.measure()
            await wander()

    world.data.at = lambda _: wander()
    works = [device() for _ in range(3)] + [remover() for _ in range(3)]
    chance.shuffle(works)
    await asyncio.gather(*works)
    world.nothing_is_lost()
    world.data.at = None
    OUTCOMES["removed"] += (SPACE, NAME) in world.data.removals
    OUTCOMES["sealed"] += (SPACE, NAME) in world.data.index


OUTCOMES: Counter[str] = Counter()


def test_both_came_first_now_and_then() -> None:
    """The test above would say nothing if one order never came."""
    assert OUTCOMES["sealed"] > 30
