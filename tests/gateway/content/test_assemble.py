"""Contents are put together in order, verified, within a bound."""

import asyncio
import hashlib
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.content.assemble import Contents, Memory
from gateway.content.download import first_of
from gateway.ports import ObjectUnreadable
from runtime.pool import Share, TooMuchAtOnce
from syncline.model.blocks import Digest, Manifest
from syncline.model.errors import NoSuchSpace, Unavailable
from syncline.model.tree import Content
from syncline.wire.tree import manifest_to_wire
from tests.gateway.fakes import SPACE, stored
from tests.support.storage import InMemoryObjectSource

PLENTY = 100_000_000


ANN = Share("ann", "192.0.2.1")


def whole(manifest: Manifest) -> Content:
    """A content that holds its manifest itself."""
    return Content(Digest(bytes(32)), manifest.size, manifest=manifest)


async def read(contents, manifest, start, stop, share=ANN):
    async with aclosing(contents.stream(SPACE, whole(manifest), start, stop, share=share)) as stream:
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

    async def read(self, space, digest, *, offset, length, share):
        self.reads += 1
        self.ranges.append((digest, offset, length))
        if self.reads == self.fail_at:
            raise self.error
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            return await super().read(space, digest, offset=offset, length=length, share=share)
        finally:
            self.under_way -= 1


def blocks(count, size):
    return [bytes([index % 256]) * size for index in range(count)]


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=10), st.booleans(), st.data())
async def test_a_part_is_a_slice_of_the_whole(parts, packed, data):
    objects, budget = InMemoryObjectSource(), Memory(PLENTY)
    manifest, every = stored(objects, parts, packed=packed), b"".join(parts)
    start = data.draw(st.integers(0, len(every)))
    stop = data.draw(st.integers(start, len(every)))
    assert await read(Contents(objects, budget), manifest, start, stop) == every[start:stop]
    assert budget.taken() == 0


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=10, unique=True), st.booleans(), st.data())
async def test_a_part_in_the_middle_reads_only_the_blocks_that_it_touches(parts, packed, data):
    objects = Watched()
    manifest, size = stored(objects, parts, packed=packed), sum(map(len, parts))
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    await read(Contents(objects, Memory(PLENTY)), manifest, start, stop)
    begins = [sum(map(len, parts[:index])) for index in range(len(parts))]
    touched = [part for begin, part in zip(begins, parts, strict=True) if begin < stop and begin + len(part) > start]
    assert objects.reads <= len(touched)
    assert sum(length for _, _, length in objects.ranges) == stop - start
    if not packed:
        assert [digest for digest, _, _ in objects.ranges] == [hashlib.sha256(part).digest() for part in touched]


async def turns() -> None:
    """Many more turns of the event loop than a fetch takes: there is no clock in anything that is waited for here."""
    for _ in range(1000):
        await asyncio.sleep(0)


async def test_a_few_fetches_are_ahead_and_no_more():
    objects, budget = Watched(), Memory(PLENTY)
    manifest = stored(objects, blocks(20, 1000))
    async with aclosing(Contents(objects, budget).stream(SPACE, whole(manifest), 0, 20_000, share=ANN)) as stream:
        await anext(stream)
        await turns()
        assert objects.reads == 1 + 4
        assert budget.taken() == 5000
    assert budget.taken() == 0
    assert objects.most == 5


async def test_downloads_share_a_budget_and_all_get_on():
    objects, budget = Watched(), Memory(2500)
    manifest = stored(objects, blocks(10, 1000))
    contents = Contents(objects, budget)
    read_all = await asyncio.gather(*(read(contents, manifest, 0, 10_000) for _ in range(8)))
    assert all(data == b"".join(blocks(10, 1000)) for data in read_all)
    assert objects.most <= 2
    assert budget.taken() == 0


async def test_a_download_that_is_given_up_gives_its_memory_back():
    objects, budget = Watched(), Memory(1000)
    manifest = stored(objects, blocks(3, 1000))
    contents = Contents(objects, budget)
    objects.gate.clear()
    first = asyncio.create_task(read(contents, manifest, 0, 3000))
    waiting = [asyncio.create_task(read(contents, manifest, 0, 3000)) for _ in range(3)]
    await turns()
    for task in (waiting[0], first, waiting[2]):
        task.cancel()
    objects.gate.set()
    assert len(await waiting[1]) == 3000
    await asyncio.gather(first, *waiting, return_exceptions=True)
    assert budget.taken() == 0
    assert objects.under_way == 0


async def test_a_damaged_block_does_not_go_out():
    objects, budget = InMemoryObjectSource(), Memory(PLENTY)
    parts = blocks(3, 100_000)
    manifest = stored(objects, parts)
    objects.objects[SPACE, hashlib.sha256(parts[1]).digest()] = bytes([7]) * 100_000
    async with aclosing(Contents(objects, budget).stream(SPACE, whole(manifest), 0, 300_000, share=ANN)) as stream:
        assert await anext(stream) == parts[0]
        with pytest.raises(ObjectUnreadable, match="holds other bytes"):
            await anext(stream)
    assert budget.taken() == 0


@pytest.mark.parametrize("packed", [True, False])
async def test_a_damaged_block_in_a_pack_does_not_go_out_either(packed):
    objects = InMemoryObjectSource()
    parts = blocks(3, 100)
    manifest = stored(objects, parts, packed=packed)
    for key, data in objects.objects.items():
        objects.objects[key] = data[:-1] + b"\xff"
    with pytest.raises(ObjectUnreadable):
        await read(Contents(objects, Memory(PLENTY)), manifest, 0, 300)


@pytest.mark.parametrize("fail_at", [1, 2, 3, 5])
async def test_a_failure_anywhere_is_told_and_frees_everything(fail_at):
    objects, budget = Watched(fail_at, Unavailable("S3 does not answer")), Memory(PLENTY)
    manifest = stored(objects, blocks(5, 1000))
    with pytest.raises(Unavailable):
        await read(Contents(objects, budget), manifest, 0, 5000)
    assert budget.taken() == 0
    assert objects.under_way == 0


# -- manifests


def content(manifest: Manifest, size: int, **more) -> Content:
    return Content(Digest(bytes(32)), size, manifest=manifest, **more)


async def opened(contents: Contents, wanted: Content) -> Manifest:
    async with contents.manifest(SPACE, wanted, ANN) as manifest:
        return manifest


async def test_a_manifest_may_lie_in_an_object_of_its_own():
    objects, memory = InMemoryObjectSource(), Memory(PLENTY)
    manifest = stored(objects, blocks(3, 10), packed=True)
    raw = manifest_to_wire(manifest).SerializeToString()
    wanted = content(Manifest(), 30, manifest_object=objects.put(SPACE, raw))
    assert await opened(Contents(objects, memory), wanted) == manifest
    assert await settled(memory)


async def test_a_damaged_manifest_is_no_manifest():
    objects = InMemoryObjectSource()
    manifest = stored(objects, blocks(3, 10))
    digest = objects.put(SPACE, manifest_to_wire(manifest).SerializeToString())
    contents = Contents(objects, Memory(PLENTY))
    objects.objects[SPACE, digest] += b"x"
    with pytest.raises(ObjectUnreadable):
        await opened(contents, content(Manifest(), 30, manifest_object=digest))
    garbage = objects.put(SPACE, b"\xff" * 50)
    with pytest.raises(ObjectUnreadable):
        await opened(contents, content(Manifest(), 30, manifest_object=garbage))


@pytest.mark.parametrize(
    ("manifest", "size"),
    [(Manifest(bytes(32), (5,)), 6), (Manifest(bytes(31), (5,)), 5), (Manifest(bytes(32), (0,)), 0), (Manifest(), 1)],
)
async def test_a_manifest_must_make_up_the_content(manifest, size):
    with pytest.raises(ObjectUnreadable):
        await opened(Contents(InMemoryObjectSource(), Memory(PLENTY)), content(manifest, size))


class Manifests(Watched):
    """Knows how many manifests were read, and how many bytes of them at most at once."""

    def __init__(self):
        super().__init__()
        self.whole = self.held = self.most_held = 0

    async def read_all(self, space, digest, *, most, share):
        data = await super().read_all(space, digest, most=most, share=share)
        self.whole += 1
        self.held += len(data)
        self.most_held = max(self.most_held, self.held)
        await asyncio.sleep(0.01)
        self.held -= len(data)
        return data


def of_bytes(objects: Manifests, count: int, seed: bytes) -> Content:
    """A content of `count` bytes, cut into blocks of one byte each: its manifest is 34 times as large."""
    block = objects.put(SPACE, seed)
    manifest = Manifest(block * count, (1,) * count)
    raw = manifest_to_wire(manifest).SerializeToString() + b"\x7a\x10" + seed * 16  # a field of another version
    return content(Manifest(), count, manifest_object=objects.put(SPACE, raw))


async def first_byte(contents: Contents, wanted: Content, share: Share) -> bytes:
    async with aclosing(contents.stream(SPACE, wanted, wanted.size - 1, wanted.size, share=share)) as stream:
        return bytes(await anext(stream))


async def settled(memory: Memory) -> bool:
    """True once everything has been given back."""
    for _ in range(6000):
        if not memory.taken():
            return True
        await asyncio.sleep(0.01)
    return False


async def test_a_large_manifest_is_read_once_for_all_who_want_it_at_the_same_time():
    objects, memory = Manifests(), Memory(PLENTY)
    contents, wanted = Contents(objects, memory), of_bytes(objects, 60_000, b"a")
    assert await asyncio.gather(*(first_byte(contents, wanted, ANN) for _ in range(30))) == [b"a"] * 30
    assert objects.whole == 1
    assert await settled(memory)


@pytest.mark.parametrize("total", [40_000_000, 1_000_000_000])
async def test_manifests_take_memory_of_the_pool_and_large_ones_one_after_the_other(total):
    objects, memory = Manifests(), Memory(PLENTY, manifests=total)
    contents = Contents(objects, memory)
    wanted = [of_bytes(objects, 60_000, bytes([number])) for number in range(12)]
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, memory.manifests.taken())
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    asked = [first_byte(contents, one, Share(f"visitor {index}", "net")) for index, one in enumerate(wanted)]
    assert await asyncio.gather(*asked) == [bytes([number]) for number in range(12)]
    watching.cancel()
    assert objects.most_held < 2 * 34 * 60_000  # two are sent at once
    assert 2 * 34 * 60_000 < most <= 40_000_000
    assert await settled(memory)


async def test_what_a_content_says_of_its_size_takes_memory_before_its_manifest_is_read():
    """A content of this size has so large a manifest; it turns out afterwards that it has another one."""
    objects, memory = Manifests(), Memory(PLENTY, manifests=40_000_000)
    contents, most = Contents(objects, memory), 0
    wanted = [replace(of_bytes(objects, 100, bytes([number])), size=40_000_000_000) for number in range(12)]

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, memory.manifests.taken())
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    asked = [first_byte(contents, one, Share(f"visitor {index}", "net")) for index, one in enumerate(wanted)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    watching.cancel()
    assert all(isinstance(outcome, ObjectUnreadable) for outcome in outcomes)
    assert 10_000_000 < most <= 40_000_000
    assert await settled(memory)


# -- fairness


async def test_slow_visitors_of_one_link_leave_memory_for_a_member_next_to_them():
    objects, memory = Watched(), Memory(64_000_000)
    contents = Contents(objects, memory)
    large, small = stored(objects, blocks(40, 1_000_000)), stored(objects, [b"fourteen bytes"])
    link = Share("link", "net")
    slow = [contents.stream(SPACE, whole(large), 0, 40_000_000, share=link) for _ in range(50)]
    begun = [asyncio.create_task(anext(stream)) for stream in slow]  # each takes a part, and nothing after that
    half = 64_000_000 * 7 // 8 // 2  # of what is not kept for small reads
    async with asyncio.timeout(60):
        while memory.taken() < half:
            await asyncio.sleep(0.01)
    assert memory.taken() == half
    ann = Share("ann", "net")
    async with asyncio.timeout(60):
        assert await read(contents, small, 0, 14, ann) == b"fourteen bytes"
        assert len(await read(contents, large, 0, 40_000_000, ann)) == 40_000_000
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)
    for stream in slow:
        await stream.aclose()
    assert await settled(memory)


async def test_small_reads_have_a_reserve_that_large_ones_never_take():
    """The large reads of many networks together have all that large reads can have, and others of them wait."""
    objects, memory = Watched(), Memory(64_000_000, patience_seconds=0.05)
    contents = Contents(objects, memory)
    large, small = stored(objects, blocks(3, 1_000_000)), stored(objects, blocks(1, 400_000))
    every = [Share(f"link {number}", f"192.0.2.{number}") for number in range(100)]
    slow = [contents.stream(SPACE, whole(large), 0, 3_000_000, share=share) for share in every]
    begun = [asyncio.create_task(anext(stream)) for stream in slow]
    async with asyncio.timeout(60):
        done = [one for one in await asyncio.gather(*begun, return_exceptions=True) if isinstance(one, TooMuchAtOnce)]
    assert done, "large reads have no room any more"
    assert await read(contents, small, 0, 400_000) == bytes(400_000)
    for stream in slow:
        await stream.aclose()
    assert await settled(memory)


async def test_a_download_that_cannot_begin_says_when_to_come_back():
    objects, memory = Watched(), Memory(2000, patience_seconds=0.05)
    manifest = stored(objects, blocks(2, 1000))
    contents = Contents(objects, memory)
    async with aclosing(contents.stream(SPACE, whole(manifest), 0, 1000, share=ANN)) as held:
        await anext(held)
        with pytest.raises(TooMuchAtOnce) as refused:
            await read(contents, manifest, 1000, 2000, Share("ben", "192.0.2.2"))
    assert refused.value.retry_after_seconds == 5
    assert await settled(memory)


# -- the right to it


async def test_a_download_that_had_to_wait_asks_for_the_right_again():
    objects, memory = Watched(), Memory(2000)
    manifest = stored(objects, blocks(2, 1000))
    contents = Contents(objects, memory)
    asked = []

    async def check_right():
        asked.append(1)
        raise NoSuchSpace

    def part():
        return contents.stream(SPACE, whole(manifest), 0, 1000, share=ANN)

    async with aclosing(part()) as held:
        assert len(await first_of(held, check_right)) == 1000
        assert asked == [], "it did not wait"
        waiting = asyncio.create_task(first_of(part(), check_right))
        await asyncio.sleep(1.1)
        assert not waiting.done()
    with pytest.raises(NoSuchSpace):
        await waiting
    assert await settled(memory)
