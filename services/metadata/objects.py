"""Objects are proven before a version can name them.

A single block is proven by the SHA-256 that S3 computed when it was put, or by reading it where S3 computed none; a
pack or a manifest by reading it. What is proven is recorded in the object index and remembered here, since it stays
true.

An object whose bytes are not those that its key names stands in the way of the right ones, since nothing can be put
over it. It is removed, by the etag of its wrong bytes: the right bytes have another one, so nothing that is or will be
sealed can go with it.
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

from core.blocks import (
    DIGEST_BYTES,
    MAX_OBJECT_BYTES,
    MAX_PACK_ENTRIES,
    BlockRef,
    Digest,
    MalformedManifest,
    Manifest,
)
from core.errors import InvalidArgument
from core.identifiers import SpaceId
from runtime.logs import structlog
from services.metadata import metrics
from services.metadata.decide import Unsealed, block_refused
from services.metadata.ports import ObjectIndex, ObjectStorage, Sealed, StoredObject
from syncline.metadata.v1 import journal_pb2
from wire.tree import manifest_from_wire

REMEMBERED_ENTRIES = 200_000
"""Block entries of sealed objects kept in memory: about 10 MB."""
READS_AT_ONCE = 4
"""Objects that are read at the same time: at most 64 MiB of memory."""
HEADS_AT_ONCE = 32

log = structlog.get_logger()


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
        """The sealed ones among `digests`. More may have been proven of one meanwhile, by another process."""
        found = {digest: known for digest in digests if (known := self.remembered(space, digest))}
        unknown = [digest for digest in digests if digest not in found]
        if unknown:
            found.update(await self._recorded(space, unknown))
        return found

    async def look(self, space: SpaceId, digests: Collection[Digest]) -> dict[Digest, Sealed | Unsealed]:
        """All that is proven of each of `digests` now; for one that is not sealed, whether it is at least stored."""
        found: dict[Digest, Sealed | Unsealed] = dict(await self._recorded(space, digests))
        unsealed = [digest for digest in digests if digest not in found]
        heads = await asyncio.gather(*(self._head(space, digest) for digest in unsealed))
        found.update((digest, Unsealed(stored=head is not None)) for digest, head in zip(unsealed, heads, strict=True))
        return found

    async def seal(self, space: SpaceId, declared: Sequence[Declaration]) -> list[SealVerdict]:
        """Prove each declared object to be what it is declared as, and add that to what is recorded of it."""
        known = await self._recorded(space, {one.digest for one in declared})
        proofs = await asyncio.gather(*(self._prove(space, one, known.get(one.digest)) for one in declared))
        fresh: dict[Digest, Sealed] = {}
        for one, proof in zip(declared, proofs, strict=True):
            before = known.get(one.digest)
            if isinstance(proof, Sealed) and not (before and before.proves(proof)):
                fresh[one.digest] = fresh[one.digest].with_all_of(proof) if one.digest in fresh else proof
        if fresh:
            await self._index.seal(space, fresh)
            for digest, proof in fresh.items():
                before = known.get(digest)
                self._remember(space, digest, before.with_all_of(proof) if before else proof)
        verdicts = [SealVerdict.SEALED if isinstance(proof, Sealed) else proof for proof in proofs]
        for verdict, count in Counter(verdicts).items():
            metrics.SEALED.labels(verdict.name).inc(count)
        return verdicts

    async def _recorded(self, space: SpaceId, digests: Collection[Digest]) -> Mapping[Digest, Sealed]:
        stored = await self._index.sealed(space, digests)
        for digest, sealed in stored.items():
            self._remember(space, digest, sealed)
        return stored

    def _remember(self, space: SpaceId, digest: Digest, sealed: Sealed) -> None:
        self._remembered[space, digest] = sealed

    async def _head(self, space: SpaceId, digest: Digest) -> StoredObject | None:
        async with self._heads:
            return await self._storage.head(space, digest)

    async def _prove(self, space: SpaceId, one: Declaration, known: Sealed | None) -> Sealed | SealVerdict:
        if isinstance(one.form, Pack) and (problem := _entries_refused(one.form, one.size)):
            return problem
        if known is not None and known.size != one.size:
            return SealVerdict.SIZE_MISMATCH
        if known is not None and (claimed := _claimed(one, known)) is not None and known.proves(claimed):
            return claimed
        stored = await self._head(space, one.digest)
        if stored is None:
            return SealVerdict.OBJECT_MISSING
        if stored.sha256 not in {one.digest, None} or stored.size > MAX_OBJECT_BYTES:
            return await self._wrong(space, one, stored)
        if stored.sha256 == one.digest:
            if stored.size != one.size:
                return SealVerdict.SIZE_MISMATCH
            if isinstance(one.form, SingleBlock):
                return Sealed(one.size)
        async with self._reads:
            data = await self._storage.read(space, one.digest)
            if data is None:
                return SealVerdict.OBJECT_MISSING
            if await asyncio.to_thread(_sha256, data) != one.digest:
                # Sealing never removes right bytes, so the bytes that HEAD saw (`stored`) were wrong too, and their
                # etag may be used.
                return await self._wrong(space, one, stored)
            if len(data) != one.size:
                return SealVerdict.SIZE_MISMATCH
            match one.form:
                case SingleBlock():
                    return Sealed(one.size)
                case Pack() as pack:
                    return await asyncio.to_thread(_prove_pack, data, pack)
                case SerializedManifest():
                    manifest = _manifest(data)
        return SealVerdict.MANIFEST_INVALID if manifest is None else await self._prove_manifest(space, one, manifest)

    async def _wrong(self, space: SpaceId, one: Declaration, stored: StoredObject) -> SealVerdict:
        """The verdict on an object whose bytes are not those that its key names; it is removed."""
        if await self._index.sealed(space, [one.digest]):
            log.error("sealed_object_damaged", space=space, object=one.digest.hex(), size=stored.size)
        elif await self._storage.remove(space, one.digest, etag=stored.etag):
            metrics.REMOVED.inc()
            log.warning("wrong_object_removed", space=space, object=one.digest.hex(), size=stored.size)
        return SealVerdict.CHECKSUM_MISMATCH if stored.size == one.size else SealVerdict.SIZE_MISMATCH

    async def _prove_manifest(self, space: SpaceId, one: Declaration, manifest: Manifest) -> Sealed | SealVerdict:
        objects = await self.sealed(space, set(manifest.object_digests()))
        doubtful = {ref.object for ref in manifest.refs() if not _holds(objects.get(ref.object), ref)}
        if doubtful:
            objects |= await self._recorded(space, doubtful)
            if not all(_holds(objects.get(ref.object), ref) for ref in manifest.refs() if ref.object in doubtful):
                return SealVerdict.MANIFEST_INVALID
        return Sealed(one.size, content_size=manifest.size)


def _holds(sealed: Sealed | None, ref: BlockRef) -> bool:
    return sealed is not None and block_refused(ref, sealed) is None


def _claimed(one: Declaration, known: Sealed) -> Sealed | None:
    """What a declaration says of the object, as far as that can be told without reading it."""
    match one.form:
        case SingleBlock():
            return Sealed(one.size)
        case Pack(blocks, offsets, lengths):
            return Sealed(one.size, offsets, lengths, blocks)
        case SerializedManifest():
            return None if known.content_size is None else Sealed(one.size, content_size=known.content_size)


def _entries_refused(pack: Pack, size: int) -> SealVerdict | None:
    end = 0
    for offset, length in zip(pack.offsets, pack.lengths, strict=True):
        if offset + length > size:
            return SealVerdict.ENTRY_OUT_OF_BOUNDS
        if offset < end or not length:
            return SealVerdict.ENTRIES_OVERLAP
        end = offset + length
    return None


def _prove_pack(data: bytes, pack: Pack) -> Sealed | SealVerdict:
    """Hash each entry of the pack; for a thread, since hashing releases the interpreter."""
    view = memoryview(data)
    for i, (offset, length) in enumerate(zip(pack.offsets, pack.lengths, strict=True)):
        if _sha256(view[offset : offset + length]) != pack.blocks[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES]:
            return SealVerdict.ENTRY_DIGEST_MISMATCH
    return Sealed(len(data), pack.offsets, pack.lengths, pack.blocks)


def _manifest(data: bytes) -> Manifest | None:
    try:
        manifest = manifest_from_wire(journal_pb2.Manifest.FromString(data))
        manifest.check()
    except (DecodeError, MalformedManifest):
        return None
    return manifest


def _sha256(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()
