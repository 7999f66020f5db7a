"""Unsealed objects are measured, where somebody writes, and count against the quota of the space."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from typing import Any

import pytest
from typing_extensions import override

from runtime.pool import Share
from services.metadata.ports import Listing, Measure, ProjectionState, Sealed
from services.metadata.quota import Measuring
from services.metadata.sealing import DeclaredObject, Objects, SingleBlock
from syncline.model.blocks import KIB, Digest
from syncline.model.errors import Unavailable
from syncline.model.identifiers import SpaceId, new_text_id
from syncline.model.limits import MIN_UNSEALED_BYTES
from syncline.model.verdicts import SealVerdict
from tests.services.metadata.support import FakeAuth
from tests.support.metadata import FixedQuotas, MemoryMeasures, MemoryObjects, MemoryTable

ANN = Share.alone("ann")

QUOTA = 1_000 * KIB


class CountedObjects(MemoryObjects):
    """Counts listings, and asks of the index by how many objects they name."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = 0
        self.asked: list[int] = []

    @override
    async def list(self, space: SpaceId, *, after: str = "") -> Listing:
        self.listed += 1
        return await super().list(space, after=after)

    @override
    async def known(self, space: SpaceId, objects: Any) -> set[Digest]:
        self.asked.append(len(objects))
        return await super().known(space, objects)


class World:
    """Two processes over the same data."""

    def __init__(self) -> None:
        self.storage, self.measures, self.table, self.auth = (
            CountedObjects(),
            MemoryMeasures(),
            MemoryTable(),
            FakeAuth(),
        )
        self.now_ms = 1_000_000
        self.objects = [Objects(index=self.storage, storage=self.storage) for _ in range(2)]
        self.one, self.other = (
            Measuring(
                measures=self.measures,
                storage=self.storage,
                index=self.storage,
                objects=objects,
                table=self.table,
                writers=self.auth,
                reserving=FixedQuotas(QUOTA),
                now_ms=lambda: self.now_ms,
                interval_seconds=60,
                keep_days=7,
            )
            for objects in self.objects
        )

    def put(self, space: SpaceId, size: int) -> Digest:
        data = os.urandom(size)
        digest = Digest(hashlib.sha256(data).digest())
        self.storage.stored[space, digest] = data
        return digest

    async def seal(self, space: SpaceId, *digests: Digest) -> None:
        declared = [DeclaredObject(one, len(self.storage.stored[space, one]), SingleBlock()) for one in digests]
        assert await self.objects[0].seal(space, declared, share=ANN) == [SealVerdict.SEALED] * len(digests)

    async def round(self, measuring: Measuring) -> int:
        """Return how many spaces the round measured."""
        await measuring.schedule()
        return await measuring.measure()

    async def later(self, seconds: float = 61) -> int:
        self.now_ms += int(seconds * 1000)
        return await self.round(self.one)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def space(world: World) -> SpaceId:
    """A space that is written to."""
    space = SpaceId(new_text_id())
    world.auth.writing.add(space)
    return space


async def test_a_space_that_nobody_writes_to_costs_nothing(world: World) -> None:
    world.put(SpaceId(new_text_id()), 2 * QUOTA)
    assert [await world.later() for _ in range(3)] == [0, 0, 0]
    assert (world.storage.listed, world.auth.uploads) == (0, {})


async def test_what_fits_is_measured_and_nobody_is_told(world: World, space: SpaceId) -> None:
    sealed = [world.put(space, 100 * KIB) for _ in range(3)]
    await world.seal(space, *sealed)
    world.put(space, 200 * KIB)
    assert await world.round(world.one) == 1
    measured = await world.measures.measure(space)
    assert (measured.unsealed_bytes, measured.unsealed_objects) == (200 * KIB, 1)
    assert (measured.stored_bytes, measured.refused) == (500 * KIB, False)
    assert world.auth.uploads == {}


async def test_what_is_unsealed_comes_on_top_of_what_versions_use(world: World, space: SpaceId) -> None:
    world.table.states[space] = ProjectionState(used_bytes=QUOTA - 200 * KIB)
    world.put(space, 200 * KIB)
    await world.round(world.one)
    assert world.auth.uploads == {}
    more = world.put(space, 65 * KIB)
    await world.later()
    assert world.auth.uploads[space] == await world.measures.measure(space)
    assert world.auth.uploads[space].refused
    await world.seal(space, more)
    await world.later()
    assert not world.auth.uploads[space].refused


async def test_a_full_space_in_which_nothing_is_unsealed_is_not_refused(world: World, space: SpaceId) -> None:
    """A commit refuses then, by the quota itself; what needs no room can go on."""
    world.table.states[space] = ProjectionState(used_bytes=QUOTA + 1)
    await world.seal(space, world.put(space, 1))
    await world.round(world.one)
    assert world.auth.uploads == {}


async def test_small_objects_count_for_more_than_they_have(world: World, space: SpaceId) -> None:
    for _ in range(QUOTA // MIN_UNSEALED_BYTES):
        world.put(space, 10)
    await world.round(world.one)
    assert world.auth.uploads == {}
    world.put(space, 10)
    await world.later()
    assert world.auth.uploads[space].refused
    assert world.auth.uploads[space].unsealed_bytes == 10 * (QUOTA // MIN_UNSEALED_BYTES + 1)


async def test_what_is_sealed_and_in_no_version_has_twice_the_quota_as_its_limit(world: World, space: SpaceId) -> None:
    """Leftovers of changes that were not made stop nobody who is near the quota."""
    world.table.states[space] = ProjectionState(used_bytes=QUOTA - 100 * KIB)
    await world.seal(space, *(world.put(space, 100 * KIB) for _ in range(20)))
    await world.round(world.one)
    assert world.auth.uploads == {}
    await world.seal(space, world.put(space, 100 * KIB))
    await world.later()
    assert world.auth.uploads[space].refused
    assert (world.auth.uploads[space].unsealed_objects, world.auth.uploads[space].stored_bytes) == (0, 2_100 * KIB)


async def test_no_space_counts_for_another(world: World, space: SpaceId) -> None:
    other = SpaceId(new_text_id())
    world.auth.writing.add(other)
    world.put(space, QUOTA + 1)
    world.put(other, 1)
    assert await world.round(world.one) == 2
    assert {space: told.refused for space, told in world.auth.uploads.items()} == {space: True}


async def test_however_many_are_due_are_measured_in_one_round_once_each(world: World) -> None:
    world.auth.writing.update(SpaceId(new_text_id()) for _ in range(130))
    assert await world.round(world.one) == 130
    assert world.storage.listed == 130
    assert await world.later(0) == 0


async def test_hands_take_different_spaces(world: World) -> None:
    """Most claims succeed when two hands look at the same moment."""
    spaces = [SpaceId(new_text_id()) for _ in range(100)]
    await world.measures.schedule(spaces, world.now_ms)
    claims: list[bool] = []
    claim = world.measures.claim

    async def counted(space: SpaceId, *, since_ms: int, until_ms: int) -> bool:
        await asyncio.sleep(0)
        claims.append(await claim(space, since_ms=since_ms, until_ms=until_ms))
        return claims[-1]

    world.measures.claim = counted  # type: ignore[method-assign]
    assert sum(await asyncio.gather(*[world.one.measure() for _ in range(2)])) == 100
    assert sum(claims) == 100
    assert len(claims) < 180


async def test_it_is_measured_until_nothing_is_unsealed(world: World, space: SpaceId) -> None:
    digest = world.put(space, 10)
    await world.round(world.one)
    world.auth.writing.clear()
    assert [await world.later() for _ in range(3)] == [1, 1, 1]
    await world.seal(space, digest)
    assert [await world.later() for _ in range(3)] == [1, 0, 0]


async def test_no_space_is_measured_more_often_than_the_interval(world: World, space: SpaceId) -> None:
    world.put(space, 10)
    assert await world.round(world.one) == 1
    assert await world.later(59) == 0
    assert await world.later(1) == 1
    assert world.storage.listed == 2


async def test_one_process_measures_a_space_at_a_time(world: World, space: SpaceId) -> None:
    """The other one comes while the first is at it."""
    rounds: list[int] = []

    class Slow(CountedObjects):
        async def list(self, space: SpaceId, *, after: str = "") -> Listing:
            rounds.append(await world.round(world.other))
            return await super().list(space, after=after)

    world.one._storage = Slow()
    assert await world.round(world.one) == 1
    assert rounds == [0]


async def test_what_another_process_left_behind_is_taken_over(world: World, space: SpaceId) -> None:
    world.put(space, QUOTA + 1)

    async def broken(space: SpaceId, *, after: str = "") -> Listing:
        raise Unavailable

    world.one._storage.list = broken  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await world.round(world.one)
    del world.one._storage.list
    assert await world.later() == 0
    assert await world.later(600) == 1
    assert world.auth.uploads[space].refused


async def test_auth_is_told_again_if_it_did_not_answer(world: World, space: SpaceId) -> None:
    digest = world.put(space, QUOTA // 2)
    world.table.states[space] = ProjectionState(used_bytes=QUOTA)
    answers = [Unavailable(), None, Unavailable(), None]
    tell = world.auth.set_uploads

    async def told(space: SpaceId, measure: Measure, *, quota_bytes: int) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer
        await tell(space, measure, quota_bytes=quota_bytes)

    world.auth.set_uploads = told  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await world.round(world.one)
    await world.later(601)
    assert world.auth.uploads[space].refused
    await world.seal(space, digest)
    world.auth.writing.clear()
    with pytest.raises(Unavailable):
        await world.later()
    assert world.auth.uploads[space].refused
    await world.later(601)
    assert not world.auth.uploads[space].refused
    assert answers == []


@pytest.mark.parametrize("step", ["state", "save", "told"])
async def test_a_process_that_stalls_beyond_its_lease_leaves_no_space_refused(
    world: World, space: SpaceId, step: str
) -> None:
    """The process found room or none, stalls at this step, and another process finds the opposite meanwhile."""
    over = world.put(space, QUOTA + 1)
    if step != "told":
        world.storage.stored.pop((space, over))
        world.put(space, 1)
    stalled: list[int] = []

    async def stall() -> None:
        if stalled:
            return
        stalled.append(1)
        world.now_ms += 601_000
        if step == "told":
            await world.seal(space, over)
            world.storage.stored.pop((space, over))
            world.put(space, 1)
        else:
            world.put(space, QUOTA + 1)
        assert await world.round(world.other) == 1

    owner: Any
    owner, name = {
        "state": (world.table, "state"),
        "save": (world.measures, "save"),
        "told": (world.auth, "set_uploads"),
    }[step]
    done = getattr(owner, name)

    async def slow(*args: Any, **more: Any) -> Any:
        await stall()
        return await done(*args, **more)

    setattr(owner, name, slow)
    assert await world.round(world.one) == 0
    assert stalled
    assert (await world.measures.measure(space)).refused == world.auth.uploads[space].refused
    for where in list(world.storage.stored):
        del world.storage.stored[where]
    assert await world.later(601) == 1
    assert not world.auth.uploads[space].refused


async def test_what_is_told_late_by_a_process_that_dies_then_leaves_no_space_refused(
    world: World, space: SpaceId
) -> None:
    """Auth hears of the refusal when another process has found room, told it and forgotten the refusal."""
    over = world.put(space, QUOTA + 1)
    tell = world.auth.set_uploads

    async def late(space: SpaceId, measure: Measure, *, quota_bytes: int) -> None:
        world.auth.set_uploads = tell  # type: ignore[method-assign]
        world.storage.stored.pop((space, over))
        assert await world.later(601) == 1
        assert await world.later() == 1  # somebody writes meanwhile
        await tell(space, measure, quota_bytes=quota_bytes)
        raise asyncio.CancelledError  # the step ends here

    world.auth.set_uploads = late  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await world.round(world.other)
    assert not world.auth.uploads[space].refused


async def test_each_measure_has_a_later_time_also_by_a_clock_that_is_behind(world: World, space: SpaceId) -> None:
    over = world.put(space, QUOTA + 1)
    await world.round(world.one)
    first = world.auth.uploads[space]
    ((_, due_ms),) = await world.measures.due(world.now_ms + 10**6, 1)
    world.now_ms -= 300_000
    world.storage.stored.pop((space, over))
    lease = await world.other._lease(space, due_ms)
    assert lease is not None
    assert await world.other._measure(space, lease)
    assert world.auth.uploads[space].at_ms > first.at_ms
    assert not world.auth.uploads[space].refused


async def test_pages_are_compared_one_by_one_and_what_is_remembered_is_not_asked_for(
    world: World, space: SpaceId
) -> None:
    digests = [world.put(space, 9) for _ in range(2_100)]
    await world.seal(space, *digests[:1_000])
    for digest in digests[1_000:2_000]:  # by another process
        await world.storage.seal(space, {digest: Sealed(9)})
    await world.round(world.one)
    assert world.storage.listed == 3
    assert sum(world.storage.asked) == 1_100
    assert max(world.storage.asked) <= 1_000
    measured = await world.measures.measure(space)
    assert (measured.unsealed_objects, measured.stored_bytes) == (100, 9 * 2_100)


async def test_a_measure_that_lasts_keeps_its_lease(world: World, space: SpaceId) -> None:
    for _ in range(3_001):
        world.put(space, 9)
    taken: Counter[str] = Counter()
    listing = world.storage.list

    async def slow(space: SpaceId, *, after: str = "") -> Listing:
        page = await listing(space, after=after)
        world.now_ms += 400_000
        taken["others"] += await world.round(world.other) if taken["pages"] else 0
        taken["pages"] += 1
        return page

    world.storage.list = slow  # type: ignore[method-assign]
    assert await world.round(world.one) == 1
    assert taken == {"pages": 4, "others": 0}
