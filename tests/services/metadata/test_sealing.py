"""Sealing: nothing that lies is ever recorded."""

from __future__ import annotations

import asyncio
import hashlib
import itertools

import pytest

from runtime.logs import structlog
from runtime.pool import Share
from services.metadata.ports import Barrier, Deletion, Sealed, StoredObject
from services.metadata.sealing import DeclaredObject, Objects, PackOfBlocks, SerializedManifest, SingleBlock
from services.metadata.tree.decide import Unsealed
from syncline.model.blocks import (
    MAX_FINE_BLOCKS,
    MAX_OBJECT_BYTES,
    MIN_BLOCK_BYTES,
    MIN_MEAN_BLOCK_BYTES,
    BlockRef,
    Digest,
    Manifest,
)
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import SpaceId
from syncline.model.verdicts import SealVerdict
from syncline.wire.tree import manifest_to_wire
from tests.support.metadata import MemoryObjects

ANN = Share.alone("ann")

A, B = SpaceId("a" * 26), SpaceId("b" * 26)


def sha(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).digest())


DATA = b"0123456789"
ENTRIES = PackOfBlocks(sha(b"0123") + sha(b"456789"), (0, 4), (4, 6))


@pytest.fixture
def backend() -> MemoryObjects:
    backend = MemoryObjects()
    backend.stored[A, sha(DATA)] = DATA
    return backend


@pytest.fixture
def objects(backend: MemoryObjects) -> Objects:
    return Objects(index=backend, storage=backend)


async def seal(objects: Objects, form, *, space: SpaceId = A, digest: Digest | None = None, size: int = 10):
    return (await objects.seal(space, [DeclaredObject(digest or sha(DATA), size, form)], share=ANN))[0]


@pytest.mark.parametrize(
    ("form", "size", "verdict"),
    [
        (SingleBlock(), 10, SealVerdict.SEALED),
        (SingleBlock(), 11, SealVerdict.SIZE_MISMATCH),
        (ENTRIES, 10, SealVerdict.SEALED),
        (PackOfBlocks(sha(b"456789"), (4,), (6,)), 10, SealVerdict.SEALED),  # a gap harms nobody
        (ENTRIES, 12, SealVerdict.SIZE_MISMATCH),
        (PackOfBlocks(sha(b"lie") + sha(b"456789"), (0, 4), (4, 6)), 10, SealVerdict.ENTRY_DIGEST_MISMATCH),
        (PackOfBlocks(sha(b"0123") + sha(b"456789"), (0, 4), (4, 7)), 10, SealVerdict.ENTRY_OUT_OF_BOUNDS),
        (PackOfBlocks(sha(b"0123") + sha(b"3456"), (0, 3), (4, 4)), 10, SealVerdict.ENTRIES_OVERLAP),
        (PackOfBlocks(sha(b"456789") + sha(b"0123"), (4, 0), (6, 4)), 10, SealVerdict.ENTRIES_OVERLAP),
        (PackOfBlocks(sha(b""), (0,), (0,)), 10, SealVerdict.ENTRIES_OVERLAP),
        (SerializedManifest(), 10, SealVerdict.MANIFEST_INVALID),
    ],
)
async def test_each_verdict(objects: Objects, backend: MemoryObjects, form, size, verdict) -> None:
    assert await seal(objects, form, size=size) is verdict
    assert (await objects.sealed(A, [sha(DATA)]) != {}) == (verdict is SealVerdict.SEALED)
    assert ((A, sha(DATA)) in backend.index) == (verdict is SealVerdict.SEALED)


async def test_an_object_of_another_space_is_missing(objects: Objects) -> None:
    assert await seal(objects, SingleBlock(), space=B) is SealVerdict.OBJECT_MISSING
    assert await seal(objects, ENTRIES, space=B) is SealVerdict.OBJECT_MISSING


@pytest.mark.parametrize("form", [SingleBlock(), ENTRIES, SerializedManifest()])
async def test_bytes_under_a_wrong_name_are_not_sealed(objects: Objects, backend: MemoryObjects, form) -> None:
    backend.stored[A, sha(b"another")] = DATA
    assert await seal(objects, form, digest=sha(b"another")) is SealVerdict.CHECKSUM_MISMATCH


async def test_a_sealed_object_cannot_become_another_form_that_lies(objects: Objects) -> None:
    assert await seal(objects, ENTRIES) is SealVerdict.SEALED
    lie = PackOfBlocks(sha(b"lie"), (0,), (4,))
    assert await seal(objects, lie) is SealVerdict.ENTRY_DIGEST_MISMATCH
    assert (await objects.sealed(A, [sha(DATA)]))[sha(DATA)].offsets == (0, 4)
    assert await seal(objects, ENTRIES) is SealVerdict.SEALED


MANIFEST = manifest_to_wire(
    Manifest.of([BlockRef(sha(b"0123"), 4, sha(DATA), 0), BlockRef(sha(b"456789"), 6, sha(DATA), 4)])
).SerializeToString(deterministic=True)
HALVES = PackOfBlocks(sha(MANIFEST[:40]) + sha(MANIFEST[40:]), (0, 40), (40, len(MANIFEST) - 40))
THIRDS = PackOfBlocks(
    sha(MANIFEST[:30]) + sha(MANIFEST[30:60]) + sha(MANIFEST[60:]), (0, 30, 60), (30, 30, len(MANIFEST) - 60)
)
FORMS: dict[str, SingleBlock | PackOfBlocks | SerializedManifest] = {
    "block": SingleBlock(),
    "halves": HALVES,
    "thirds": THIRDS,
    "manifest": SerializedManifest(),
}


@pytest.mark.parametrize("order", list(itertools.permutations(FORMS)), ids="-".join)
@pytest.mark.parametrize("how", ["one process", "a process each", "one request"])
async def test_an_object_can_be_sealed_as_everything_that_it_is(backend: MemoryObjects, order, how) -> None:
    """A manifest is also a block of whoever keeps it as a file, and a pack of whoever keeps its parts."""
    backend.stored[A, sha(MANIFEST)] = MANIFEST
    first = Objects(index=backend, storage=backend)
    await seal(first, ENTRIES)
    declared = [DeclaredObject(sha(MANIFEST), len(MANIFEST), FORMS[name]) for name in order]
    if how == "one request":
        assert await first.seal(A, declared, share=ANN) == [SealVerdict.SEALED] * 4
    for one in declared:
        process = first if how == "one process" else Objects(index=backend, storage=backend)
        assert await process.seal(A, [one], share=ANN) == [SealVerdict.SEALED]
    for process in (first, Objects(index=backend, storage=backend)):
        (sealed,) = (await process.look(A, [sha(MANIFEST)])).values()
        assert isinstance(sealed, Sealed)
        assert sealed.content_size == 10
        assert [sealed.block(0, 40), sealed.block(0, 30), sealed.block(30, 30)] == [
            sha(MANIFEST[:40]),
            sha(MANIFEST[:30]),
            sha(MANIFEST[30:60]),
        ]


async def test_what_is_proven_is_not_read_again(objects: Objects, backend: MemoryObjects) -> None:
    assert await seal(objects, ENTRIES) is SealVerdict.SEALED
    del backend.stored[A, sha(DATA)]
    assert await seal(objects, ENTRIES) is SealVerdict.SEALED
    assert await seal(objects, SingleBlock()) is SealVerdict.SEALED
    assert await seal(objects, SingleBlock(), size=11) is SealVerdict.SIZE_MISMATCH
    assert await seal(objects, PackOfBlocks(sha(b"0123"), (0,), (4,))) is SealVerdict.SEALED
    assert await seal(objects, SerializedManifest()) is SealVerdict.OBJECT_MISSING


# ---- uploaded, and not what it should be


@pytest.mark.parametrize("form", [SingleBlock(), ENTRIES])
async def test_an_object_that_was_put_without_a_sha256_is_proven_by_reading_it(
    objects: Objects, backend: MemoryObjects, form
) -> None:
    backend.unchecked.add((A, sha(DATA)))
    assert await seal(objects, form, size=11) is SealVerdict.SIZE_MISMATCH
    assert await seal(objects, form) is SealVerdict.SEALED
    assert backend.stored[A, sha(DATA)] == DATA


WRONG = [
    (b"9876543210", SealVerdict.CHECKSUM_MISMATCH),
    (b"too short", SealVerdict.SIZE_MISMATCH),
    (b"", SealVerdict.SIZE_MISMATCH),
    (bytes(MAX_OBJECT_BYTES + 1), SealVerdict.SIZE_MISMATCH),
]


@pytest.mark.parametrize("form", [SingleBlock(), ENTRIES, SerializedManifest()])
@pytest.mark.parametrize("wrong", WRONG, ids=["other", "short", "empty", "too large"])
@pytest.mark.parametrize("checked", [True, False], ids=["SHA-256", "no SHA-256"])
async def test_wrong_bytes_are_removed_so_that_the_right_ones_can_be_put(
    objects: Objects, backend: MemoryObjects, form, wrong, checked
) -> None:
    backend.stored[A, sha(DATA)], verdict = wrong
    if not checked:
        backend.unchecked.add((A, sha(DATA)))
    assert await seal(objects, form) is verdict
    assert (A, sha(DATA)) not in backend.stored
    assert await seal(objects, form) is SealVerdict.OBJECT_MISSING
    backend.stored[A, sha(DATA)] = DATA
    assert await seal(objects, SingleBlock()) is SealVerdict.SEALED


@pytest.mark.parametrize("checked", [True, False], ids=["SHA-256", "no SHA-256"])
async def test_right_bytes_are_not_removed_whatever_is_said_of_them(
    objects: Objects, backend: MemoryObjects, checked
) -> None:
    if not checked:
        backend.unchecked.add((A, sha(DATA)))
    lies = [
        await seal(objects, SingleBlock(), size=3),
        await seal(objects, SerializedManifest()),
        await seal(objects, PackOfBlocks(sha(b"lie"), (0,), (4,))),
        await seal(objects, ENTRIES, size=99),
    ]
    assert SealVerdict.SEALED not in lies
    assert backend.stored[A, sha(DATA)] == DATA
    assert await seal(objects, ENTRIES) is SealVerdict.SEALED


async def test_what_is_sealed_is_never_removed(objects: Objects, backend: MemoryObjects) -> None:
    """Not even if storage has damaged it: there may be a copy of it somewhere."""
    assert await seal(objects, SingleBlock()) is SealVerdict.SEALED
    backend.stored[A, sha(DATA)] = b"9876543210"
    assert await seal(objects, ENTRIES) is SealVerdict.CHECKSUM_MISMATCH
    assert backend.stored[A, sha(DATA)] == b"9876543210"


@pytest.mark.parametrize("form", [SingleBlock(), ENTRIES, SerializedManifest()])
@pytest.mark.parametrize("data", [DATA, b"9876543210", b"short"])
@pytest.mark.parametrize("barrier", list(Barrier))
async def test_what_not_everybody_can_read_is_not_sealed_and_gives_way(
    objects: Objects, backend: MemoryObjects, form, data, barrier
) -> None:
    """S3 may know anything of the object's bytes."""
    backend.stored[A, sha(DATA)] = data
    backend.barriers[A, sha(DATA)] = barrier
    verdict = SealVerdict.CHECKSUM_MISMATCH if len(data) == 10 else SealVerdict.SIZE_MISMATCH
    assert await objects.look(A, [sha(DATA)]) == {sha(DATA): Unsealed(stored=True)}
    assert await seal(objects, form) is verdict
    assert not backend.index
    assert not backend.stored
    backend.stored[A, sha(DATA)] = DATA
    assert await seal(objects, ENTRIES) is SealVerdict.SEALED


@pytest.mark.parametrize("barrier", [Barrier.ARCHIVE, Barrier.HEADERS])
async def test_right_bytes_that_were_sealed_meanwhile_are_not_removed_in_place_of_what_had_their_etag(barrier) -> None:
    class Raced(MemoryObjects):
        """Right after HEAD somebody else removes the object, and puts and seals the same bytes."""

        async def describe(self, space: SpaceId, digest: Digest) -> StoredObject | None:
            found = await super().describe(space, digest)
            if self.barriers.pop((space, digest), None) is not None:
                assert await seal(Objects(index=self, storage=self), ENTRIES) is SealVerdict.SEALED
            return found

    backend = Raced()
    backend.stored[A, sha(DATA)] = DATA
    backend.barriers[A, sha(DATA)] = barrier
    assert await seal(Objects(index=backend, storage=backend), SingleBlock()) is SealVerdict.CHECKSUM_MISMATCH
    assert backend.stored[A, sha(DATA)] == DATA
    assert (A, sha(DATA)) in backend.index


async def test_a_caller_that_goes_away_does_not_break_a_removal_off() -> None:
    """A removal that is not known to be over keeps the object from being sealed for a day."""

    class Slow(MemoryObjects):
        is_asked, may_answer = asyncio.Event(), asyncio.Event()

        async def remove_once(self, space: SpaceId, name: str, *, etag: str) -> Deletion:
            self.is_asked.set()
            await self.may_answer.wait()
            return await super().remove_once(space, name, etag=etag)

    backend = Slow()
    backend.stored[A, sha(DATA)] = DATA
    backend.barriers[A, sha(DATA)] = Barrier.HEADERS
    calling = asyncio.create_task(seal(Objects(index=backend, storage=backend), SingleBlock()))
    await backend.is_asked.wait()
    calling.cancel()
    backend.may_answer.set()
    with pytest.raises(asyncio.CancelledError):
        await calling
    backend.stored[A, sha(DATA)] = DATA
    assert await seal(Objects(index=backend, storage=backend), SingleBlock()) is SealVerdict.SEALED


async def test_what_an_earlier_version_sealed_with_strange_headers_can_be_sealed_as_more(
    objects: Objects, backend: MemoryObjects
) -> None:
    assert await seal(objects, SingleBlock()) is SealVerdict.SEALED
    backend.barriers[A, sha(DATA)] = Barrier.HEADERS
    assert await seal(objects, ENTRIES) is SealVerdict.SEALED
    assert backend.stored[A, sha(DATA)] == DATA


class Racing(MemoryObjects):
    """Storage in which, just before a removal, somebody else removes the object and puts and seals the right one."""

    async def remove(self, space: SpaceId, digest: Digest, *, etag: str) -> bool:
        if self.stored[space, digest] != DATA:
            self.stored[space, digest] = DATA
            assert await seal(Objects(index=self, storage=self), ENTRIES) is SealVerdict.SEALED
        return await super().remove(space, digest, etag=etag)


@pytest.mark.parametrize("form", [SingleBlock(), ENTRIES, SerializedManifest()])
async def test_a_removal_that_comes_too_late_removes_nothing(form) -> None:
    backend = Racing()
    backend.stored[A, sha(DATA)] = b"9876543210"
    with structlog.testing.capture_logs() as logs:
        assert await seal(Objects(index=backend, storage=backend), form) is SealVerdict.CHECKSUM_MISMATCH
    assert "wrong_object_removed" not in [line["event"] for line in logs]
    assert backend.stored[A, sha(DATA)] == DATA
    assert (A, sha(DATA)) in backend.index


async def test_a_manifest_is_sealed_once_its_blocks_are(objects: Objects, backend: MemoryObjects) -> None:
    manifest = Manifest.of([BlockRef(sha(b"0123"), 4, sha(DATA), 0), BlockRef(sha(b"456789"), 6, sha(DATA), 4)] * 3)
    raw = manifest_to_wire(manifest).SerializeToString(deterministic=True)
    backend.stored[A, sha(raw)] = raw
    assert await seal(objects, SerializedManifest(), digest=sha(raw), size=len(raw)) is SealVerdict.MANIFEST_INVALID
    await seal(objects, ENTRIES)
    assert await seal(objects, SerializedManifest(), digest=sha(raw), size=len(raw)) is SealVerdict.SEALED
    assert (await objects.sealed(A, [sha(raw)]))[sha(raw)].content_size == 30


@pytest.mark.parametrize(
    ("lengths", "verdict"),
    [
        ([1] * MAX_FINE_BLOCKS, SealVerdict.SEALED),
        ([1] * (MAX_FINE_BLOCKS + 1), SealVerdict.MANIFEST_INVALID),
        ([1] * 100_000, SealVerdict.MANIFEST_INVALID),
        ([MIN_MEAN_BLOCK_BYTES] * 999 + [1], SealVerdict.SEALED),
        ([MIN_MEAN_BLOCK_BYTES - 1] * 999 + [1], SealVerdict.MANIFEST_INVALID),
        ([MIN_BLOCK_BYTES] * 1000 + [1], SealVerdict.SEALED),
        ([1] * 100_000 + [MIN_BLOCK_BYTES], SealVerdict.MANIFEST_INVALID),
    ],
    ids=["few", "one too many", "all fine", "coarse enough", "too fine", "ours", "one is coarse"],
)
async def test_a_manifest_of_finer_blocks_than_clients_cut_is_refused(
    objects: Objects, backend: MemoryObjects, lengths: list[int], verdict: SealVerdict
) -> None:
    blocks = {length: sha(b"%d" % length) for length in lengths}
    for length, digest in blocks.items():
        backend.index[A, digest] = Sealed(length)
    raw = manifest_to_wire(
        Manifest.of([BlockRef(blocks[length], length, blocks[length], 0) for length in lengths])
    ).SerializeToString()
    backend.stored[A, sha(raw)] = raw
    assert await seal(objects, SerializedManifest(), digest=sha(raw), size=len(raw)) is verdict


async def test_a_manifest_that_is_sealed_stays_sealed_however_fine_its_blocks_are(
    objects: Objects, backend: MemoryObjects
) -> None:
    backend.index[A, sha(b"x")] = Sealed(1)
    raw = manifest_to_wire(Manifest.of([BlockRef(sha(b"x"), 1, sha(b"x"), 0)] * 5000)).SerializeToString()
    backend.stored[A, sha(raw)] = raw
    backend.index[A, sha(raw)] = Sealed(len(raw), content_size=5000)
    assert await seal(objects, SerializedManifest(), digest=sha(raw), size=len(raw)) is SealVerdict.SEALED


@pytest.mark.parametrize(
    "columns",
    [(b"", (), ()), (sha(b"x"), (0,), ()), (b"short", (0,), (1,)), (sha(b"x") * 5000, (0,) * 5000, (1,) * 5000)],
)
def test_columns_that_do_not_fit_are_refused(columns) -> None:
    with pytest.raises(InvalidArgument):
        PackOfBlocks(*columns)
