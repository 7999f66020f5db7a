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

from core.blocks import MAX_OBJECT_BYTES, MIB, BlockRef, Digest, Manifest
from core.errors import InvalidArgument, RequestTooLarge
from core.identifiers import SpaceId
from core.limits import MAX_SEAL, SEAL_FORMS, SEAL_READ_BYTES
from runtime.pool import TooMuchAtOnce
from services.metadata.in_memory import MemoryObjects
from services.metadata.objects import (
    CALLS_AT_ONCE,
    READ_BYTES_AT_ONCE,
    Declaration,
    Objects,
    Pack,
    SealVerdict,
    SerializedManifest,
    SingleBlock,
)
from services.metadata.ports import Sealed, StoredObject
from wire.tree import manifest_to_wire

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
        return await super().sealed(space, objects)

    @override
    async def head(self, space: SpaceId, digest: Digest) -> StoredObject | None:
        if digest in self.sizes:
            return StoredObject(self.sizes[digest], None if (space, digest) in self.unchecked else digest)
        return await super().head(space, digest)

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


def a_pack(data: bytes) -> Declaration:
    return Declaration(sha(data), len(data), Pack(sha(data), (0,), (len(data),)))


def a_lie(data: bytes, n: int = 0) -> Declaration:
    return Declaration(sha(data), len(data), Pack(sha(b"lie%d" % n), (0,), (len(data),)))


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def test_an_object_is_read_once_however_often_one_call_declares_it(objects: Objects, backend: Counting) -> None:
    digest = backend.put(b"0123456789")
    same = [a_pack(b"0123456789"), a_lie(b"0123456789")] * (MAX_SEAL // 2)
    assert await objects.seal(SPACE, same, caller="mallory") == [
        SealVerdict.SEALED,
        SealVerdict.ENTRY_DIGEST_MISMATCH,
    ] * (MAX_SEAL // 2)
    assert backend.reads == {digest: 1}


async def test_an_object_is_read_once_however_many_calls_declare_it_at_once(
    objects: Objects, backend: Counting
) -> None:
    digest = backend.put(b"0123456789")
    backend.gate.clear()
    declared = [a_pack(b"0123456789"), a_lie(b"0123456789")]
    calls = [asyncio.create_task(objects.seal(SPACE, declared, caller=f"caller {i}")) for i in range(20)]
    await until(lambda: backend.reading)
    backend.gate.set()
    assert await asyncio.gather(*calls) == [[SealVerdict.SEALED, SealVerdict.ENTRY_DIGEST_MISMATCH]] * 20
    assert backend.reads == {digest: 1}


async def test_what_bytes_were_found_not_to_be_is_not_looked_at_again(objects: Objects, backend: Counting) -> None:
    digest = backend.put(b"0123456789")
    raw = backend.put(b"no manifest")
    for _ in range(10):
        assert await objects.seal(SPACE, [a_lie(b"0123456789")], caller="mallory") == [
            SealVerdict.ENTRY_DIGEST_MISMATCH
        ]
        assert await objects.seal(SPACE, [Declaration(raw, 11, SerializedManifest())], caller="mallory") == [
            SealVerdict.MANIFEST_INVALID
        ]
    assert backend.reads == {digest: 1, raw: 1}


async def test_too_many_forms_of_one_object_are_refused_unread(objects: Objects, backend: Counting) -> None:
    backend.put(b"0123456789")
    with pytest.raises(InvalidArgument):
        await objects.seal(SPACE, [a_lie(b"0123456789", n) for n in range(SEAL_FORMS + 1)], caller="mallory")
    assert not backend.reads


@pytest.mark.parametrize("form", [SerializedManifest(), Pack(sha(b"lie"), (0,), (1,))], ids=["manifests", "packs"])
async def test_a_call_that_has_too_much_read_is_refused_unread(objects: Objects, backend: Counting, form) -> None:
    """A thousand declarations are 83 KB, and would have 16 GB read."""
    huge = [Declaration(backend.pretend(i, MAX_OBJECT_BYTES), MAX_OBJECT_BYTES, form) for i in range(MAX_SEAL)]
    with pytest.raises(RequestTooLarge):
        await objects.seal(SPACE, huge, caller="mallory")
    assert not backend.reads


@pytest.mark.parametrize("form", [SingleBlock(), SerializedManifest()], ids=["blocks", "manifests"])
async def test_what_storage_has_no_checksum_of_counts_by_its_real_size(
    objects: Objects, backend: Counting, form
) -> None:
    """Such an object is read to be proven, or to be removed, whatever the caller says of its size."""
    declared = [Declaration(backend.pretend(i, MAX_OBJECT_BYTES), 1, form) for i in range(MAX_SEAL)]
    backend.unchecked.update((SPACE, one.digest) for one in declared)
    with pytest.raises(RequestTooLarge):
        await objects.seal(SPACE, declared, caller="mallory")
    assert backend.bytes_read <= SEAL_READ_BYTES


async def test_somebody_else_finds_room_at_once(objects: Objects, backend: Counting) -> None:
    """Whoever has much proven holds half of the memory for it; others go on beside that."""
    backend.gate.clear()
    greedy = [
        Declaration(backend.pretend(i, MAX_OBJECT_BYTES), MAX_OBJECT_BYTES, SerializedManifest()) for i in range(64)
    ]
    calls = [asyncio.create_task(objects.seal(SPACE, greedy[i::8], caller="mallory")) for i in range(8)]
    await until(lambda: backend.reading * MAX_OBJECT_BYTES == READ_BYTES_AT_ONCE // 2)
    modest = a_pack(b"modest")
    backend.put(b"modest")
    innocent = asyncio.create_task(objects.seal(SPACE, [modest], caller="ann"))
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
    form = Pack(sha(b"lie"), (0,), (1,))
    packs = [Declaration(backend.pretend(i, MAX_OBJECT_BYTES), MAX_OBJECT_BYTES, form) for i in range(33)]
    calls = [asyncio.create_task(objects.seal(SPACE, packs[i:32:8], caller="mallory")) for i in range(8)]
    await until(lambda: backend.reading * MAX_OBJECT_BYTES == READ_BYTES_AT_ONCE // 2)
    innocent = asyncio.create_task(objects.seal(SPACE, packs[32:], caller="ann"))
    await until(lambda: packs[32].digest in backend.order)
    assert backend.reading * MAX_OBJECT_BYTES <= READ_BYTES_AT_ONCE
    backend.gate.set()
    await asyncio.gather(innocent, *calls)


async def test_calls_under_way_are_bounded_and_shared(objects: Objects, backend: Counting) -> None:
    backend.put(b"x")
    backend.gate.clear()
    calls = [
        asyncio.create_task(objects.seal(SPACE, [a_pack(b"x")], caller="mallory")) for _ in range(CALLS_AT_ONCE // 2)
    ]
    await until(lambda: backend.reading)
    before = REGISTRY.get_sample_value("syncline_pool_refused_total", {"pool": "seals"}) or 0
    async with asyncio.timeout(30):
        with pytest.raises(TooMuchAtOnce) as refused:
            await objects.seal(SPACE, [a_pack(b"x")], caller="mallory")
    assert refused.value.retry_after_seconds
    assert REGISTRY.get_sample_value("syncline_pool_refused_total", {"pool": "seals"}) == before + 1
    calls.append(asyncio.create_task(objects.seal(SPACE, [a_pack(b"x")], caller="ann")))
    await asyncio.sleep(0)
    backend.gate.set()
    assert await asyncio.gather(*calls) == [[SealVerdict.SEALED]] * (CALLS_AT_ONCE // 2 + 1)
    assert await objects.seal(SPACE, [a_pack(b"x")], caller="mallory") == [SealVerdict.SEALED]


async def test_a_manifest_ends_at_the_first_block_that_is_not_sealed(objects: Objects, backend: Counting) -> None:
    refs = [BlockRef(sha(b"%d" % i), 1, sha(b"%d" % i), 0) for i in range(50_000)]
    raw = manifest_to_wire(Manifest.of(refs)).SerializeToString()
    backend.put(raw)
    verdicts = await objects.seal(SPACE, [Declaration(sha(raw), len(raw), SerializedManifest())], caller="mallory")
    assert verdicts == [SealVerdict.MANIFEST_INVALID]
    assert backend.looked_up < 500


async def test_a_manifest_of_many_blocks_is_proven_outside_the_loop(objects: Objects, backend: Counting) -> None:
    """The loop makes as many turns meanwhile as there are slices of blocks, and more."""
    backend.index[SPACE, sha(b"block")] = Sealed(5)
    raw = manifest_to_wire(
        Manifest.of([BlockRef(sha(b"block"), 5, sha(b"block"), 0)] * (8 * MIB // 36))
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
    sys.setprofile(called)  # of this thread, which is the loop's
    try:
        verdicts = await objects.seal(SPACE, [Declaration(sha(raw), len(raw), SerializedManifest())], caller="ann")
    finally:
        sys.setprofile(None)
    other.cancel()
    assert compared <= 1, "to make the generator"
    assert verdicts == [SealVerdict.SEALED]
    assert (await objects.sealed(SPACE, [sha(raw)]))[sha(raw)].content_size == 5 * (8 * MIB // 36)
    assert turns > 8 * MIB // 36 // 5000


async def test_bytes_are_hashed_outside_the_loop(objects: Objects, backend: Counting) -> None:
    data = bytes(MIB)
    backend.put(data)
    backend.unchecked.add((SPACE, sha(data)))
    form = Pack(sha(data[:1024]) * 1024, tuple(range(0, MIB, 1024)), (1024,) * 1024)
    hashed = 0

    def called(frame: FrameType, event: str, arg: object) -> None:
        nonlocal hashed
        hashed += event == "call" and frame.f_code.co_name in {"_sha256", "_prove_pack"}

    sys.setprofile(called)  # of this thread, which is the loop's
    try:
        declared = [Declaration(sha(data), MIB, form), Declaration(sha(data), MIB, SingleBlock())]
        verdicts = await objects.seal(SPACE, declared, caller="ann")
    finally:
        sys.setprofile(None)
    assert verdicts == [SealVerdict.SEALED] * 2
    assert hashed == 0


async def test_columns_of_numbers_without_digests_are_no_manifest(objects: Objects, backend: Counting) -> None:
    """Sixteen megabytes can be sixteen million lengths; they are counted before they are copied."""
    raw = b"\x12\x80\x80\x80\x04" + b"\x01" * (8 * MIB)
    backend.put(raw)
    assert await objects.seal(SPACE, [Declaration(sha(raw), len(raw), SerializedManifest())], caller="m") == [
        SealVerdict.MANIFEST_INVALID
    ]


async def test_missing_objects_are_asked_for_a_slice_at_a_time(objects: Objects, backend: Counting) -> None:
    digests = [sha(b"%d" % i) for i in range(1000)]
    for digest in digests[::2]:
        backend.index[SPACE, digest] = Sealed(1)
    assert await objects.missing(SPACE, digests) == set(digests[1::2])


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
