"""Contents are put together in order, verified, within a bound."""

import asyncio
import hashlib
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.blocks import Digest, Manifest
from core.errors import Unavailable
from core.tree import Content
from gateway.content import Budget, Contents
from gateway.in_memory import InMemoryObjectSource
from gateway.ports import ObjectUnreadable
from tests.gateway.fakes import SPACE, stored
from wire.tree import manifest_to_wire

PLENTY = 100_000_000


async def read(contents, manifest, start, stop):
    async with aclosing(contents.stream(SPACE, manifest, start, stop)) as stream:
        return b"".join([bytes(part) async for part in stream])


class Watched(InMemoryObjectSource):
    """Counts reads under way; may be slow, or fail at the nth."""

    def __init__(self, fail_at=None, error=None):
        super().__init__()
        self.reads = self.under_way = self.most = 0
        self.ranges = []
        self.fail_at, self.error = fail_at, error
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, space, digest, *, offset, length):
        self.reads += 1
        self.ranges.append((digest, offset, length))
        if self.reads == self.fail_at:
            raise self.error
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            return await super().read(space, digest, offset=offset, length=length)
        finally:
            self.under_way -= 1


def blocks(count, size):
    return [bytes([index % 256]) * size for index in range(count)]


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=10), st.booleans(), st.data())
async def test_a_part_is_a_slice_of_the_whole(parts, packed, data):
    objects, budget = InMemoryObjectSource(), Budget(PLENTY)
    manifest, whole = stored(objects, parts, packed=packed), b"".join(parts)
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert await read(Contents(objects, budget), manifest, start, stop) == whole[start:stop]
    assert budget.free == PLENTY


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=10, unique=True), st.booleans(), st.data())
async def test_a_part_in_the_middle_reads_only_the_blocks_that_it_touches(parts, packed, data):
    objects = Watched()
    manifest, size = stored(objects, parts, packed=packed), sum(map(len, parts))
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    await read(Contents(objects, Budget(PLENTY)), manifest, start, stop)
    begins = [sum(map(len, parts[:index])) for index in range(len(parts))]
    touched = [part for begin, part in zip(begins, parts, strict=True) if begin < stop and begin + len(part) > start]
    assert objects.reads <= len(touched)
    assert sum(length for _, _, length in objects.ranges) == stop - start
    if not packed:
        assert [digest for digest, _, _ in objects.ranges] == [hashlib.sha256(part).digest() for part in touched]


async def test_a_few_fetches_are_ahead_and_no_more():
    objects, budget = Watched(), Budget(PLENTY)
    manifest = stored(objects, blocks(20, 1000))
    async with aclosing(Contents(objects, budget).stream(SPACE, manifest, 0, 20_000)) as stream:
        await anext(stream)
        await asyncio.sleep(0.01)
        assert objects.reads == 1 + 4
        assert budget.free == PLENTY - 5000
    assert budget.free == PLENTY
    assert objects.most == 5


async def test_downloads_share_a_budget_and_all_get_on():
    objects, budget = Watched(), Budget(2500)
    manifest = stored(objects, blocks(10, 1000))
    contents = Contents(objects, budget)
    read_all = await asyncio.gather(*(read(contents, manifest, 0, 10_000) for _ in range(8)))
    assert all(data == b"".join(blocks(10, 1000)) for data in read_all)
    assert objects.most <= 2
    assert budget.free == 2500


async def test_a_download_that_is_given_up_gives_its_memory_back():
    objects, budget = Watched(), Budget(1000)
    manifest = stored(objects, blocks(3, 1000))
    contents = Contents(objects, budget)
    objects.gate.clear()
    first = asyncio.create_task(read(contents, manifest, 0, 3000))
    waiting = [asyncio.create_task(read(contents, manifest, 0, 3000)) for _ in range(3)]
    await asyncio.sleep(0.01)
    for task in (waiting[0], first, waiting[2]):
        task.cancel()
    objects.gate.set()
    assert len(await waiting[1]) == 3000
    await asyncio.gather(first, *waiting, return_exceptions=True)
    assert budget.free == 1000
    assert objects.under_way == 0


async def test_whoever_is_served_and_cancelled_at_once_gives_it_back():
    budget = Budget(10)
    await budget.take(10)
    waiting = asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    budget.give(10)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert budget.free == 10


async def test_a_damaged_block_does_not_go_out():
    objects, budget = InMemoryObjectSource(), Budget(PLENTY)
    parts = blocks(3, 100_000)
    manifest = stored(objects, parts)
    objects.objects[SPACE, hashlib.sha256(parts[1]).digest()] = bytes([7]) * 100_000
    async with aclosing(Contents(objects, budget).stream(SPACE, manifest, 0, 300_000)) as stream:
        assert await anext(stream) == parts[0]
        with pytest.raises(ObjectUnreadable, match="holds other bytes"):
            await anext(stream)
    assert budget.free == PLENTY


@pytest.mark.parametrize("packed", [True, False])
async def test_a_damaged_block_in_a_pack_does_not_go_out_either(packed):
    objects = InMemoryObjectSource()
    parts = blocks(3, 100)
    manifest = stored(objects, parts, packed=packed)
    for key, data in objects.objects.items():
        objects.objects[key] = data[:-1] + b"\xff"
    with pytest.raises(ObjectUnreadable):
        await read(Contents(objects, Budget(PLENTY)), manifest, 0, 300)


@pytest.mark.parametrize("fail_at", [1, 2, 3, 5])
async def test_a_failure_anywhere_is_told_and_frees_everything(fail_at):
    objects, budget = Watched(fail_at, Unavailable("S3 does not answer")), Budget(PLENTY)
    manifest = stored(objects, blocks(5, 1000))
    with pytest.raises(Unavailable):
        await read(Contents(objects, budget), manifest, 0, 5000)
    assert budget.free == PLENTY
    assert objects.under_way == 0


# -- manifests


def content(manifest: Manifest, size: int, **more) -> Content:
    return Content(Digest(bytes(32)), size, manifest=manifest, **more)


async def test_a_manifest_may_lie_in_an_object_of_its_own():
    objects = InMemoryObjectSource()
    manifest = stored(objects, blocks(3, 10), packed=True)
    raw = manifest_to_wire(manifest).SerializeToString()
    found = await Contents(objects, Budget(PLENTY)).manifest(
        SPACE, content(Manifest(), 30, manifest_object=objects.put(SPACE, raw))
    )
    assert found == manifest


async def test_a_damaged_manifest_is_no_manifest():
    objects = InMemoryObjectSource()
    manifest = stored(objects, blocks(3, 10))
    digest = objects.put(SPACE, manifest_to_wire(manifest).SerializeToString())
    contents = Contents(objects, Budget(PLENTY))
    objects.objects[SPACE, digest] += b"x"
    with pytest.raises(ObjectUnreadable):
        await contents.manifest(SPACE, content(Manifest(), 30, manifest_object=digest))


@pytest.mark.parametrize(
    ("manifest", "size"),
    [(Manifest(bytes(32), (5,)), 6), (Manifest(bytes(31), (5,)), 5), (Manifest(bytes(32), (0,)), 0), (Manifest(), 1)],
)
async def test_a_manifest_must_make_up_the_content(manifest, size):
    with pytest.raises(ObjectUnreadable):
        await Contents(InMemoryObjectSource(), Budget(PLENTY)).manifest(SPACE, content(manifest, size))
