"""Objects are proven before a version can name them.

A single block is proven by the SHA-256 that S3 computed when it was put; a pack or a manifest by reading it.
What is proven is recorded in the object index and remembered here, since it never changes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from cachetools import LRUCache
from google.protobuf.message import DecodeError

from core.blocks import DIGEST_BYTES, MAX_OBJECT_BYTES, MAX_PACK_ENTRIES, Digest, MalformedManifest, Manifest
from core.errors import InvalidArgument
from core.identifiers import SpaceId
from services.metadata import metrics
from services.metadata.decide import Unsealed, block_refused
from services.metadata.ports import ObjectIndex, ObjectStorage, Sealed
from syncline.metadata.v1 import journal_pb2
from wire.tree import manifest_from_wire

REMEMBERED_ENTRIES = 200_000
"""Block entries of sealed objects kept in memory: about 10 MB."""
READS_AT_ONCE = 4
"""Packs that are read at the same time: at most 64 MiB of memory."""
HEADS_AT_ONCE = 32


class SealVerdict(Enum):
    """What became of sealing one object. The values are those of the wire, where each is described."""

    SEALED = 1
    OBJECT_MISSING = 2
    SIZE_MISMATCH = 3
    CHECKSUM_MISMATCH = 4
    ENTRY_DIGEST_MISMATCH = 5
    ENTRY_OUT_OF_BOUNDS = 6
    ENTRIES_OVERLAP = 7
    MANIFEST_INVALID = 8


@dataclass(frozen=True, slots=True)
class SingleBlock:
    """The object is one block."""


@dataclass(frozen=True, slots=True)
class Pack:
    """The object is many blocks: packed digests, offsets and lengths of its entries."""

    blocks: bytes
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.offsets) <= MAX_PACK_ENTRIES:
            raise InvalidArgument(f"a pack has 1 to {MAX_PACK_ENTRIES} entries")
        if len(self.blocks) != len(self.offsets) * DIGEST_BYTES or len(self.lengths) != len(self.offsets):
            raise InvalidArgument("`blocks`, `offsets` and `lengths` of a pack do not fit together")


@dataclass(frozen=True, slots=True)
class SerializedManifest:
    """The object is a serialised Manifest."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a client says about an object that it uploaded."""

    digest: Digest
    size: int
    form: SingleBlock | Pack | SerializedManifest


class Objects:
    """The proven objects of all spaces, for one process."""

    def __init__(self, *, index: ObjectIndex, storage: ObjectStorage) -> None:
        self._index = index
        self._storage = storage
        self._remembered: LRUCache[tuple[SpaceId, Digest], Sealed] = LRUCache(
            REMEMBERED_ENTRIES, getsizeof=lambda sealed: 1 + len(sealed.offsets)
        )
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._heads = asyncio.Semaphore(HEADS_AT_ONCE)

    def remembered(self, space: SpaceId, digest: Digest) -> Sealed | None:
        """The object if this process knows that it is sealed."""
        return self._remembered.get((space, digest))

    async def sealed(self, space: SpaceId, digests: Collection[Digest]) -> dict[Digest, Sealed]:
        """The sealed ones among `digests`."""
        found = {digest: known for digest in digests if (known := self.remembered(space, digest))}
        unknown = [digest for digest in digests if digest not in found]
        if unknown:
            stored = await self._index.sealed(space, unknown)
            self._remember(space, stored)
            found.update(stored)
        return found

    async def look(self, space: SpaceId, digests: Collection[Digest]) -> dict[Digest, Sealed | Unsealed]:
        """What each of `digests` is; for one that is not sealed, whether it is at least stored."""
        found: dict[Digest, Sealed | Unsealed] = dict(await self.sealed(space, digests))
        unsealed = [digest for digest in digests if digest not in found]
        heads = await asyncio.gather(*(self._head(space, digest) for digest in unsealed))
        found.update((digest, Unsealed(stored=head is not None)) for digest, head in zip(unsealed, heads, strict=True))
        return found

    async def _head(self, space: SpaceId, digest: Digest) -> object:
        async with self._heads:
            return await self._storage.head(space, digest)

    async def seal(self, space: SpaceId, declared: Sequence[Declaration]) -> list[SealVerdict]:
        """Prove each declared object and record the proven ones."""
        known = await self.sealed(space, {one.digest for one in declared})
        proofs = await asyncio.gather(*(self._prove(space, one, known.get(one.digest)) for one in declared))
        fresh = {
            one.digest: proof
            for one, proof in zip(declared, proofs, strict=True)
            if isinstance(proof, Sealed) and one.digest not in known
        }
        if fresh:
            await self._index.seal(space, fresh)
            self._remember(space, fresh)
        verdicts = [SealVerdict.SEALED if isinstance(proof, Sealed) else proof for proof in proofs]
        for verdict, count in Counter(verdicts).items():
            metrics.SEALED.labels(verdict.name).inc(count)
        return verdicts

    def _remember(self, space: SpaceId, sealed: Mapping[Digest, Sealed]) -> None:
        for digest, one in sealed.items():
            self._remembered[space, digest] = one

    async def _prove(self, space: SpaceId, one: Declaration, known: Sealed | None) -> Sealed | SealVerdict:
        if known is not None and _is_same_form(known, one):
            return known if known.size == one.size else SealVerdict.SIZE_MISMATCH
        match one.form:
            case SingleBlock():
                return await self._prove_block(space, one)
            case Pack() as pack:
                if problem := _entries_refused(pack, one.size):
                    return problem
                async with self._reads:
                    data = await self._storage.read(space, one.digest)
                    return await asyncio.to_thread(_prove_pack, data, one, pack)
            case SerializedManifest():
                return await self._prove_manifest(space, one)

    async def _prove_block(self, space: SpaceId, one: Declaration) -> Sealed | SealVerdict:
        async with self._heads:
            stored = await self._storage.head(space, one.digest)
        if stored is None:
            return SealVerdict.OBJECT_MISSING
        if stored.size != one.size or stored.size > MAX_OBJECT_BYTES:
            return SealVerdict.SIZE_MISMATCH
        if stored.sha256 != one.digest:
            return SealVerdict.CHECKSUM_MISMATCH
        return Sealed(one.size)

    async def _prove_manifest(self, space: SpaceId, one: Declaration) -> Sealed | SealVerdict:
        async with self._reads:
            data = await self._storage.read(space, one.digest)
        if data is None:
            return SealVerdict.OBJECT_MISSING
        if len(data) != one.size:
            return SealVerdict.SIZE_MISMATCH
        if hashlib.sha256(data).digest() != one.digest:
            return SealVerdict.CHECKSUM_MISMATCH
        try:
            manifest = manifest_from_wire(journal_pb2.Manifest.FromString(data))
            manifest.check()
        except (DecodeError, MalformedManifest):
            return SealVerdict.MANIFEST_INVALID
        return await self._prove_blocks_of(space, one, manifest)

    async def _prove_blocks_of(self, space: SpaceId, one: Declaration, manifest: Manifest) -> Sealed | SealVerdict:
        objects = await self.sealed(space, set(manifest.object_digests()))
        for ref in manifest.refs():
            sealed = objects.get(ref.object)
            if sealed is None or block_refused(ref, sealed):
                return SealVerdict.MANIFEST_INVALID
        return Sealed(one.size, content_size=manifest.size)


def _is_same_form(known: Sealed, one: Declaration) -> bool:
    match one.form:
        case SingleBlock():
            return not known.offsets and known.content_size is None
        case Pack(blocks, offsets, lengths):
            return (known.blocks, known.offsets, known.lengths) == (blocks, offsets, lengths)
        case SerializedManifest():
            return known.content_size is not None


def _entries_refused(pack: Pack, size: int) -> SealVerdict | None:
    end = 0
    for offset, length in zip(pack.offsets, pack.lengths, strict=True):
        if offset + length > size:
            return SealVerdict.ENTRY_OUT_OF_BOUNDS
        if offset < end or not length:
            return SealVerdict.ENTRIES_OVERLAP
        end = offset + length
    return None


def _prove_pack(data: bytes | None, one: Declaration, pack: Pack) -> Sealed | SealVerdict:
    """Hash the pack and each of its entries; for a thread, since hashing releases the interpreter."""
    if data is None:
        return SealVerdict.OBJECT_MISSING
    if len(data) != one.size:
        return SealVerdict.SIZE_MISMATCH
    if hashlib.sha256(data).digest() != one.digest:
        return SealVerdict.CHECKSUM_MISMATCH
    view = memoryview(data)
    for i, (offset, length) in enumerate(zip(pack.offsets, pack.lengths, strict=True)):
        digest = hashlib.sha256(view[offset : offset + length]).digest()
        if digest != pack.blocks[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES]:
            return SealVerdict.ENTRY_DIGEST_MISMATCH
    return Sealed(one.size, pack.offsets, pack.lengths, pack.blocks)
