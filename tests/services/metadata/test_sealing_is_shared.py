"""Sealing costs each caller what it costs the service: bytes read, calls and turns are counted, never timed."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from types import FrameType

import pytest
from prometheus_client import REGISTRY
from typing_extensions import override

from runtime.pool import MAX_WAITERS, Share, TooMuchAtOnce
from runtime.rates import bind_charging
from runtime.turns import REST_ITERATIONS
from services.metadata.ports import Recorded, Sealed, StoredObject
from services.metadata.sealing import (
    CALLS_AT_ONCE,
    FINDS_AT_ONCE,
    HEAD_REQUESTS_AT_ONCE,
    LOOKUPS_AT_ONCE,
    LOOKUPS_PER_CALL,
    MAX_UNPROVEN_OBJECTS,
    MAX_UNSEALED_LOOKUPS,
    READ_BYTES_AT_ONCE,
    DeclaredObject,
    Objects,
    PackOfBlocks,
    SerializedManifest,
    SingleBlock,
)
from services.metadata.tree.decide import Unsealed
from syncline.model.blocks import MAX_OBJECT_BYTES, MIB, MIN_BLOCK_BYTES, BlockRef, Digest, Manifest
from syncline.model.errors import InvalidArgument, RequestTooLarge
from syncline.model.identifiers import SpaceId
from syncline.model.limits import MAX_SEAL_DECLARATIONS, MAX_SEAL_FORMS, MAX_SEAL_READ_BYTES
from syncline.model.verdicts import SealVerdict
from syncline.wire.tree import manifest_to_wire
from tests.support.metadata import MemoryObjects

ANN = Share.alone("ann")
MALLORY = Share.alone("mallory")

SPACE = SpaceId("a" * 26)


def sha(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).digest())


class Counting(MemoryObjects):
    """Counts what is asked of storage and index; reads wait while `gate` is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads: Counter[Digest] = Counter()
        self.order: list[Digest] = []
        self.looked_up = 0
        self.looking = 0
        self.index_gate = asyncio.Event()
        self.index_gate.set()
        self.recorded = 0
        self.heads = 0
        self.heading = 0
        self.heads_wait = False
        self.reading = 0
        self.sizes: dict[Digest, int] = {}

    def put(self, data: bytes) -> Digest:
        self.stored[SPACE, sha(data)] = data
        return sha(data)

    def pretend(self, name: int, size: int) -> Digest:
        """An object of so many bytes of which HEAD says that all is well; only counting asks for it."""
        digest = sha(str(name).encode())
        self.sizes[digest] = size
        return digest

    @override
    async def sealed(self, space: SpaceId, objects: Collection[Digest]) -> Mapping[Digest, Sealed]:
        self.looked_up += len(objects)
        self.looking += 1
        try:
            await self.index_gate.wait()
            return await super().sealed(space, objects)
        finally:
            self.looking -= 1

    @override
    async def look(self, space: SpaceId, objects: Collection[Digest]) -> Recorded:
        self.recorded += len(objects)
        return await super().look(space, objects)

    @override
    async def describe(self, space: SpaceId, digest: Digest) -> StoredObject | None:
        self.heads += 1
        self.heading += 1
        if self.heads_wait:
            await self.gate.wait()
        self.heading -= 1
        if digest in self.sizes:
            return StoredObject(self.sizes[digest], None if (space, digest) in self.unchecked else digest)
        return await super().describe(space, digest)

    @override
    async def read(self, space: SpaceId, digest: Digest) -> bytes | None:
        self.reads[digest] += 1
        self.order.append(digest)
        self.reading += 1
        try:
            await self.gate.wait()
            return await super().read(space, digest)
        finally:
            self.reading -= 1

    @property
    def bytes_read(self) -> int:
        return sum(n * self.sizes.get(digest, MAX_OBJECT_BYTES) for digest, n in self.reads.items())


@pytest.fixture
def backend() -> Counting:
    return Counting()


@pytest.fixture
def objects(backend: Counting) -> Objects:
    return Objects(index=backend, storage=backend)


def a_pack(data: bytes) -> DeclaredObject:
    return DeclaredObject(sha(data), len(data), PackOfBlocks(sha(data), (0,), (len(data),)))


def a_lie(data: bytes, n: int = 0) -> DeclaredObject:
    return DeclaredObject(sha(data), len(data), PackOfBlocks(sha(b"lie%d" % n), (0,), (len(data),)))


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def test_an_object_is_read_once_however_often_one_call_declares_it(objects: Objects, backend: Counting) -> None:
    digest = backend.put(b"0123456789")
    same = [a_pack(b"0123456789"), a_lie(b"0123456789")] * (MAX_SEAL_DECLARATIONS // 2)
    assert await objects.seal(SPACE, same, share=MALLORY) == [
        SealVerdict.SEALED,
        SealVerdict.ENTRY_DIGEST_MISMATCH,
    ] * (MAX_SEAL_DECLARATIONS // 2)
    assert backend.reads == {digest: 1}


async def test_an_object_is_read_once_however_many_calls_declare_it_at_once(
    objects: Objects, backend: Counting
) -> None:
    digest = backend.put(b"0123456789")
    backend.gate.clear()
    declared = [a_pack(b"0123456789"), a_lie(b"0123456789")]
    calls = [asyncio.create_task(objects.seal(SPACE, declared, share=Share.alone(f"caller {i}"))) for i in range(20)]
    await until(lambda: backend.reading)
    backend.gate.set()
    assert await asyncio.gather(*calls) == [[SealVerdict.SEALED, SealVerdict.ENTRY_DIGEST_MISMATCH]] * 20
    assert backend.reads == {digest: 1}


async def test_what_bytes_were_found_not_to_be_is_not_looked_at_again(objects: Objects, backend: Counting) -> None:
    digest = backend.put(b"0123456789")
    raw = backend.put(b"no manifest")
    for _ in range(10):
        assert await objects.seal(SPACE, [a_lie(b"0123456789")], share=MALLORY) == [SealVerdict.ENTRY_DIGEST_MISMATCH]
        assert await objects.seal(SPACE, [DeclaredObject(raw, 11, SerializedManifest())], share=MALLORY) == [
            SealVerdict.MANIFEST_INVALID
        ]
    assert backend.reads == {digest: 1, raw: 1}


async def test_too_many_forms_of_one_object_are_refused_unread(objects: Objects, backend: Counting) -> None:
    backend.put(b"0123456789")
    with pytest.raises(InvalidArgument):
        await objects.seal(SPACE, [a_lie(b"0123456789", n) for n in range(MAX_SEAL_FORMS + 1)], share=MALLORY)
    assert not backend.reads


@pytest.mark.parametrize(
    "form", [SerializedManifest(), PackOfBlocks(sha(b"lie"), (0,), (1,))], ids=["manifests", "packs"]
)
async def test_a_call_that_has_too_much_read_is_refused_unread(objects: Objects, backend: Counting, form) -> None:
    """A thousand declarations are 83 KB, and would have 16 GB read."""
    huge = [
        DeclaredObject(backend.pretend(i, MAX_OBJECT_BYTES), MAX_OBJECT_BYTES, form)
        for i in range(MAX_SEAL_DECLARATIONS)
    ]
    with pytest.raises(RequestTooLarge):
        await objects.seal(SPACE, huge, share=MALLORY)
    assert not backend.reads


async def test_what_storage_has_no_checksum_of_counts_by_its_real_size(objects: Objects, backend: Counting) -> None:
    """Such an object is read to be proven, or to be removed, whatever the caller says of its size."""
    declared = [DeclaredObject(backend.put(b"%04d" % i), 4, SingleBlock()) for i in range(MAX_SEAL_DECLARATIONS)]
    backend.sizes.update((one.digest, MAX_OBJECT_BYTES) for one in declared)
    backend.unchecked.update((SPACE, one.digest) for one in declared)
    with pytest.raises(RequestTooLarge):
        await objects.seal(SPACE, declared, share=MALLORY)
    assert backend.bytes_read <= MAX_SEAL_READ_BYTES


async def test_of_what_storage_has_no_checksum_of_and_is_wrong_a_few_are_read(
    objects: Objects, backend: Counting
) -> None:
    declared = [
        DeclaredObject(backend.pretend(i, MAX_OBJECT_BYTES), 1, SerializedManifest())
        for i in range(MAX_SEAL_DECLARATIONS)
    ]
    backend.unchecked.update((SPACE, one.digest) for one in declared)
    assert await objects.seal(SPACE, declared, share=MALLORY) == [SealVerdict.OBJECT_MISSING] * MAX_SEAL_DECLARATIONS
    assert len(backend.reads) <= MAX_UNPROVEN_OBJECTS + HEAD_REQUESTS_AT_ONCE


async def test_somebody_else_finds_room_at_once(objects: Objects, backend: Counting) -> None:
    """A caller who has much proven holds half of the memory for it; others go on beside that."""
    backend.gate.clear()
    greedy = [
        DeclaredObject(backend.pretend(i, MAX_OBJECT_BYTES), MAX_OBJECT_BYTES, SerializedManifest()) for i in range(64)
    ]
    calls = [asyncio.create_task(objects.seal(SPACE, greedy[i::8], share=MALLORY)) for i in range(8)]
    await until(lambda: backend.reading * MAX_OBJECT_BYTES == READ_BYTES_AT_ONCE // 2)
    modest = a_pack(b"modest")
    backend.put(b"modest")
    innocent = asyncio.create_task(objects.seal(SPACE, [modest], share=ANN))
    await until(lambda: modest.digest in backend.order)
    assert backend.reading * MAX_OBJECT_BYTES <= READ_BYTES_AT_ONCE
    assert backend.order.index(modest.digest) == READ_BYTES_AT_ONCE // 2 // MAX_OBJECT_BYTES
    backend.gate.set()
    assert await innocent == [SealVerdict.SEALED]
    for verdicts in await asyncio.gather(*calls):
        assert SealVerdict.SEALED not in verdicts


async def test_somebody_else_has_a_large_pack_read_beside_those_of_one_caller(
    objects: Objects, backend: Counting
) -> None:
    backend.gate.clear()
    form = PackOfBlocks(sha(b"lie"), (0,), (1,))
    packs = [DeclaredObject(backend.pretend(i, MAX_OBJECT_BYTES), MAX_OBJECT_BYTES, form) for i in range(33)]
    calls = [asyncio.create_task(objects.seal(SPACE, packs[i:32:8], share=MALLORY)) for i in range(8)]
    await until(lambda: backend.reading * MAX_OBJECT_BYTES == READ_BYTES_AT_ONCE // 2)
    innocent = asyncio.create_task(objects.seal(SPACE, packs[32:], share=ANN))
    await until(lambda: packs[32].digest in backend.order)
    assert backend.reading * MAX_OBJECT_BYTES <= READ_BYTES_AT_ONCE
    backend.gate.set()
    await asyncio.gather(innocent, *calls)


async def test_calls_wait_in_turn_and_those_of_one_caller_leave_room(objects: Objects, backend: Counting) -> None:
    """Nothing is refused at once: somebody's many calls wait, and those of others go past."""
    for name in (b"x", b"y"):
        backend.put(name)
    backend.gate.clear()
    calls = [asyncio.create_task(objects.seal(SPACE, [a_pack(b"x")], share=MALLORY)) for _ in range(CALLS_AT_ONCE + 8)]
    await until(lambda: backend.reading)
    calls.append(asyncio.create_task(objects.seal(SPACE, [a_pack(b"y")], share=ANN)))
    await until(lambda: backend.reading == 2)
    assert not any(call.done() for call in calls)
    backend.gate.set()
    assert await asyncio.gather(*calls) == [[SealVerdict.SEALED]] * (CALLS_AT_ONCE + 9)


async def test_calls_of_many_callers_wait_for_each_other(objects: Objects, backend: Counting) -> None:
    """Free accounts with one call each once took all there was, and whoever came then was refused."""
    backend.put(b"x")
    backend.gate.clear()
    calls = [
        asyncio.create_task(objects.seal(SPACE, [a_pack(b"x")], share=Share.alone(f"mallory {n}")))
        for n in range(CALLS_AT_ONCE + 4)
    ]
    await until(lambda: backend.reading)
    calls.append(asyncio.create_task(objects.seal(SPACE, [a_pack(b"x")], share=ANN)))
    await asyncio.sleep(0)
    backend.gate.set()
    assert await asyncio.gather(*calls) == [[SealVerdict.SEALED]] * (CALLS_AT_ONCE + 5)


async def test_calls_that_wait_are_bounded(objects: Objects, backend: Counting) -> None:
    backend.put(b"x")
    backend.gate.clear()
    most = CALLS_AT_ONCE // 2 + MAX_WAITERS
    calls = [asyncio.create_task(objects.seal(SPACE, [a_pack(b"x")], share=MALLORY)) for _ in range(most)]
    await until(lambda: backend.reading)
    before = REGISTRY.get_sample_value("syncline_pool_refused_total", {"pool": "seals"}) or 0
    async with asyncio.timeout(60):
        with pytest.raises(TooMuchAtOnce) as refused:
            await objects.seal(SPACE, [a_pack(b"x")], share=MALLORY)
    assert refused.value.retry_after_seconds
    assert REGISTRY.get_sample_value("syncline_pool_refused_total", {"pool": "seals"}) == before + 1
    backend.gate.set()
    assert await asyncio.gather(*calls) == [[SealVerdict.SEALED]] * most


async def test_a_call_ends_when_too_much_is_not_there(objects: Objects, backend: Counting) -> None:
    """A thousand digests of nothing are 42 KB, and once cost a thousand requests to S3."""
    declared = [DeclaredObject(sha(b"%d" % i), 1, SingleBlock()) for i in range(MAX_SEAL_DECLARATIONS)]
    verdicts = await objects.seal(SPACE, declared, share=MALLORY)
    assert verdicts == [SealVerdict.OBJECT_MISSING] * MAX_SEAL_DECLARATIONS
    assert backend.heads <= MAX_UNPROVEN_OBJECTS + HEAD_REQUESTS_AT_ONCE
    assert backend.recorded <= 100


async def test_a_call_ends_when_too_much_is_not_what_it_is_said_to_be(objects: Objects, backend: Counting) -> None:
    """Objects that are there, and are never proven, can be asked for again and again."""
    declared = [DeclaredObject(backend.pretend(i, 5), 6, SingleBlock()) for i in range(MAX_SEAL_DECLARATIONS)]
    for _ in range(2):
        backend.heads = 0
        verdicts = await objects.seal(SPACE, declared, share=MALLORY)
        assert set(verdicts) == {SealVerdict.SIZE_MISMATCH, SealVerdict.OBJECT_MISSING}
        assert backend.heads <= MAX_UNPROVEN_OBJECTS + HEAD_REQUESTS_AT_ONCE


async def test_all_that_is_wrong_is_removed_by_one_call(objects: Objects, backend: Counting) -> None:
    """Somebody put wrong bytes under many names; others can put the right ones at once."""
    digests = [sha(b"%d" % i) for i in range(100)]
    backend.stored.update(((SPACE, digest), b"wrong") for digest in digests)
    declared = [DeclaredObject(digest, 5, SingleBlock()) for digest in digests]
    assert await objects.seal(SPACE, declared, share=ANN) == [SealVerdict.CHECKSUM_MISMATCH] * 100
    assert not backend.stored


async def test_what_is_stored_beside_a_few_objects_that_are_not_is_sealed(objects: Objects, backend: Counting) -> None:
    data = [b"%d" % i for i in range(MAX_SEAL_DECLARATIONS)]
    for n, one in enumerate(data):
        if n % 200:
            backend.put(one)
    declared = [DeclaredObject(sha(one), len(one), SingleBlock()) for one in data]
    verdicts = await objects.seal(SPACE, declared, share=ANN)
    assert [n for n, one in enumerate(verdicts) if one is not SealVerdict.SEALED] == [0, 200, 400, 600, 800]


async def test_requests_to_storage_are_shared(objects: Objects, backend: Counting) -> None:
    """One caller, with as many calls as it likes, leaves half of them to others."""
    backend.gate.clear()
    backend.heads_wait = True
    calls = [
        asyncio.create_task(
            objects.seal(
                SPACE, [DeclaredObject(sha(b"%d %d" % (n, i)), 1, SingleBlock()) for i in range(100)], share=MALLORY
            )
        )
        for n in range(8)
    ]
    await until(lambda: backend.heading)
    backend.put(b"y")
    innocent = asyncio.create_task(objects.seal(SPACE, [a_pack(b"y")], share=ANN))
    await until(lambda: backend.heading > HEAD_REQUESTS_AT_ONCE // 2)
    assert backend.heading == HEAD_REQUESTS_AT_ONCE // 2 + 1
    backend.gate.set()
    assert await innocent == [SealVerdict.SEALED]
    await asyncio.gather(*calls)


async def test_a_commit_looks_for_a_few_unsealed_objects_only(objects: Objects, backend: Counting) -> None:
    """One commit can name nine thousand objects; whether what is not sealed is stored needs no answer for each."""
    digests = [sha(b"%d" % i) for i in range(1000)]
    found = await objects.look(SPACE, digests)
    assert backend.heads == MAX_UNSEALED_LOOKUPS
    assert Counter(found.values()) == {
        Unsealed(stored=False): MAX_UNSEALED_LOOKUPS,
        Unsealed(stored=True): 1000 - MAX_UNSEALED_LOOKUPS,
    }
    await objects.look(SPACE, digests, unsealed_before=3)
    assert backend.heads == 2 * MAX_UNSEALED_LOOKUPS - 3


async def test_a_manifest_ends_at_the_first_block_that_is_not_sealed(objects: Objects, backend: Counting) -> None:
    refs = [BlockRef(sha(b"%d" % i), MIN_BLOCK_BYTES, sha(b"%d" % i), 0) for i in range(50_000)]
    raw = manifest_to_wire(Manifest.of(refs)).SerializeToString()
    backend.put(raw)
    verdicts = await objects.seal(SPACE, [DeclaredObject(sha(raw), len(raw), SerializedManifest())], share=MALLORY)
    assert verdicts == [SealVerdict.MANIFEST_INVALID]
    assert backend.looked_up < 500


async def test_a_manifest_of_many_blocks_is_proven_outside_the_loop(objects: Objects, backend: Counting) -> None:
    """The loop makes as many turns meanwhile as there are slices of blocks, and more."""
    backend.index[SPACE, sha(b"block")] = Sealed(MIN_BLOCK_BYTES)
    raw = manifest_to_wire(
        Manifest.of([BlockRef(sha(b"block"), MIN_BLOCK_BYTES, sha(b"block"), 0)] * (8 * MIB // 36))
    ).SerializeToString()
    backend.put(raw)
    loop_thread = threading.get_ident()
    turns = 0

    async def beside() -> None:
        nonlocal turns
        while True:
            assert threading.get_ident() == loop_thread
            turns += 1
            await asyncio.sleep(0)

    compared = 0

    def called(frame: FrameType, event: str, arg: object) -> None:
        nonlocal compared
        compared += event == "call" and frame.f_code.co_name in {"_holds", "_ref_slices", "_manifest"}

    other = asyncio.create_task(beside())
    sys.setprofile(called)  # the profile is of this thread, which is the loop's
    try:
        verdicts = await objects.seal(SPACE, [DeclaredObject(sha(raw), len(raw), SerializedManifest())], share=ANN)
    finally:
        sys.setprofile(None)
    other.cancel()
    assert compared <= 1, "to make the generator"
    assert verdicts == [SealVerdict.SEALED]
    assert (await objects.sealed(SPACE, [sha(raw)]))[sha(raw)].content_size == MIN_BLOCK_BYTES * (8 * MIB // 36)
    assert turns > 8 * MIB // 36 // 5000


async def test_bytes_are_hashed_outside_the_loop(objects: Objects, backend: Counting) -> None:
    data = bytes(MIB)
    backend.put(data)
    backend.unchecked.add((SPACE, sha(data)))
    form = PackOfBlocks(sha(data[:1024]) * 1024, tuple(range(0, MIB, 1024)), (1024,) * 1024)
    hashed = 0

    def called(frame: FrameType, event: str, arg: object) -> None:
        nonlocal hashed
        hashed += event == "call" and frame.f_code.co_name in {"_sha256", "_prove_pack"}

    sys.setprofile(called)  # the profile is of this thread, which is the loop's
    try:
        declared = [DeclaredObject(sha(data), MIB, form), DeclaredObject(sha(data), MIB, SingleBlock())]
        verdicts = await objects.seal(SPACE, declared, share=ANN)
    finally:
        sys.setprofile(None)
    assert verdicts == [SealVerdict.SEALED] * 2
    assert hashed == 0


async def test_columns_of_numbers_without_digests_are_no_manifest(objects: Objects, backend: Counting) -> None:
    """Sixteen megabytes can be sixteen million lengths; they are counted before they are copied."""
    raw = b"\x12\x80\x80\x80\x04" + b"\x01" * (8 * MIB)
    backend.put(raw)
    assert await objects.seal(SPACE, [DeclaredObject(sha(raw), len(raw), SerializedManifest())], share=MALLORY) == [
        SealVerdict.MANIFEST_INVALID
    ]


async def test_missing_objects_are_asked_for_a_slice_at_a_time(objects: Objects, backend: Counting) -> None:
    digests = [sha(b"%d" % i) for i in range(1000)]
    for digest in digests[::2]:
        backend.index[SPACE, digest] = Sealed(1)
    assert await objects.missing(SPACE, digests, share=ANN) == set(digests[1::2])


async def test_a_commit_that_names_too_many_packs_of_many_blocks_is_refused(
    objects: Objects, backend: Counting
) -> None:
    block = sha(b"x")
    large = Sealed(4096, tuple(range(4096)), (1,) * 4096, block * 4096)
    digests = [sha(b"%d" % i) for i in range(200)]
    backend.index.update(((SPACE, digest), large) for digest in digests)
    with pytest.raises(RequestTooLarge):
        await objects.look(SPACE, digests)
    assert len(await objects.look(SPACE, digests[:100])) == 100


def new_digests(count: int, *, first: int = 0) -> list[Digest]:
    return [sha(b"new %d" % n) for n in range(first, first + count)]


async def test_lookups_of_one_caller_leave_room_for_others(objects: Objects, backend: Counting) -> None:
    """Sixteen calls of ten thousand digests each once had sixteen lookups in progress, and everybody waited for all."""
    backend.index_gate.clear()
    calls = [
        asyncio.create_task(objects.missing(SPACE, new_digests(1_000, first=1_000 * n), share=MALLORY))
        for n in range(16)
    ]
    await until(lambda: backend.looking == LOOKUPS_AT_ONCE // 2)
    innocent = asyncio.create_task(objects.missing(SPACE, new_digests(1, first=-1), share=ANN))
    await until(lambda: backend.looking == LOOKUPS_AT_ONCE // 2 + 1)
    backend.index_gate.set()
    assert len(await innocent) == 1
    assert [len(missing) for missing in await asyncio.gather(*calls)] == [1_000] * 16


async def test_small_questions_of_one_caller_leave_room_as_well(objects: Objects, backend: Counting) -> None:
    backend.index_gate.clear()
    calls = [
        asyncio.create_task(objects.missing(SPACE, new_digests(1, first=n), share=MALLORY)) for n in range(MAX_WAITERS)
    ]
    await until(lambda: backend.looking == LOOKUPS_AT_ONCE // 2)
    innocent = asyncio.create_task(objects.missing(SPACE, new_digests(1, first=-1), share=ANN))
    await until(lambda: backend.looking == LOOKUPS_AT_ONCE // 2 + 1)
    backend.index_gate.set()
    assert len(await innocent) == 1
    assert [len(missing) for missing in await asyncio.gather(*calls)] == [1] * MAX_WAITERS


async def test_questions_of_one_caller_that_wait_are_bounded(objects: Objects, backend: Counting) -> None:
    backend.index_gate.clear()
    most = FINDS_AT_ONCE // 2 + MAX_WAITERS
    calls = [asyncio.create_task(objects.missing(SPACE, new_digests(101), share=MALLORY)) for _ in range(most)]
    await until(lambda: backend.looking == LOOKUPS_AT_ONCE // 2)
    with pytest.raises(TooMuchAtOnce):
        await objects.missing(SPACE, new_digests(101), share=MALLORY)
    backend.index_gate.set()
    assert [len(missing) for missing in await asyncio.gather(*calls)] == [101] * most


async def test_a_question_of_many_objects_gives_way_before_each_slice(objects: Objects) -> None:
    rounds = 0

    async def others() -> None:
        nonlocal rounds
        while True:
            await asyncio.sleep(0)
            rounds += 1

    counting = asyncio.create_task(others())
    await objects.missing(SPACE, new_digests(2_000), share=ANN)
    counting.cancel()
    assert rounds >= REST_ITERATIONS * 19


async def test_a_question_costs_what_is_looked_up(objects: Objects, backend: Counting) -> None:
    charged: list[float] = []
    known = [backend.put(b"%d" % n) for n in range(500)]
    await objects.seal(
        SPACE, [DeclaredObject(one, len(str(n)), SingleBlock()) for n, one in enumerate(known)], share=ANN
    )
    bind_charging(charged.append)
    await objects.missing(SPACE, known, share=ANN)
    assert charged == []
    await objects.missing(SPACE, [*known, *new_digests(1_000)], share=ANN)
    assert charged == [1_000 // LOOKUPS_PER_CALL]
