"""Sealing: nothing that lies is ever recorded."""

from __future__ import annotations

import hashlib

import pytest

from core.blocks import BlockRef, Digest, Manifest
from core.errors import InvalidArgument
from core.identifiers import SpaceId
from services.metadata.in_memory import MemoryObjects
from services.metadata.objects import Declaration, Objects, Pack, SealVerdict, SerializedManifest, SingleBlock
from wire.tree import manifest_to_wire

A, B = SpaceId("a" * 26), SpaceId("b" * 26)


def sha(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).digest())


DATA = b"0123456789"
ENTRIES = Pack(sha(b"0123") + sha(b"456789"), (0, 4), (4, 6))


@pytest.fixture
def backend() -> MemoryObjects:
    backend = MemoryObjects()
    backend.stored[A, sha(DATA)] = DATA
    return backend


@pytest.fixture
def objects(backend: MemoryObjects) -> Objects:
    return Objects(index=backend, storage=backend)


async def seal(objects: Objects, form, *, space: SpaceId = A, digest: Digest | None = None, size: int = 10):
    return (await objects.seal(space, [Declaration(digest or sha(DATA), size, form)]))[0]


@pytest.mark.parametrize(
    ("form", "size", "verdict"),
    [
        (SingleBlock(), 10, SealVerdict.SEALED),
        (SingleBlock(), 11, SealVerdict.SIZE_MISMATCH),
        (ENTRIES, 10, SealVerdict.SEALED),
        (Pack(sha(b"456789"), (4,), (6,)), 10, SealVerdict.SEALED),  # a gap harms nobody
        (ENTRIES, 12, SealVerdict.SIZE_MISMATCH),
        (Pack(sha(b"lie") + sha(b"456789"), (0, 4), (4, 6)), 10, SealVerdict.ENTRY_DIGEST_MISMATCH),
        (Pack(sha(b"0123") + sha(b"456789"), (0, 4), (4, 7)), 10, SealVerdict.ENTRY_OUT_OF_BOUNDS),
        (Pack(sha(b"0123") + sha(b"3456"), (0, 3), (4, 4)), 10, SealVerdict.ENTRIES_OVERLAP),
        (Pack(sha(b"456789") + sha(b"0123"), (4, 0), (6, 4)), 10, SealVerdict.ENTRIES_OVERLAP),
        (Pack(sha(b""), (0,), (0,)), 10, SealVerdict.ENTRIES_OVERLAP),
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
    lie = Pack(sha(b"lie"), (0,), (4,))
    assert await seal(objects, lie) is SealVerdict.ENTRY_DIGEST_MISMATCH
    assert (await objects.sealed(A, [sha(DATA)]))[sha(DATA)].offsets == (0, 4)
    assert await seal(objects, ENTRIES) is SealVerdict.SEALED


async def test_a_manifest_is_sealed_once_its_blocks_are(objects: Objects, backend: MemoryObjects) -> None:
    manifest = Manifest.of([BlockRef(sha(b"0123"), 4, sha(DATA), 0), BlockRef(sha(b"456789"), 6, sha(DATA), 4)] * 3)
    raw = manifest_to_wire(manifest).SerializeToString(deterministic=True)
    backend.stored[A, sha(raw)] = raw
    assert await seal(objects, SerializedManifest(), digest=sha(raw), size=len(raw)) is SealVerdict.MANIFEST_INVALID
    await seal(objects, ENTRIES)
    assert await seal(objects, SerializedManifest(), digest=sha(raw), size=len(raw)) is SealVerdict.SEALED
    assert (await objects.sealed(A, [sha(raw)]))[sha(raw)].content_size == 30


@pytest.mark.parametrize(
    "columns",
    [(b"", (), ()), (sha(b"x"), (0,), ()), (b"short", (0,), (1,)), (sha(b"x") * 5000, (0,) * 5000, (1,) * 5000)],
)
def test_columns_that_do_not_fit_are_refused(columns) -> None:
    with pytest.raises(InvalidArgument):
        Pack(*columns)
