"""Proof of objects: an object is proven before a version may name it.

A single block is proven by the SHA-256 that S3 computed at upload, or by reading the block if S3 computed none. A pack
or a manifest is proven by reading it. Proven facts are recorded in the object index and cached here, because they stay
true.

An object whose bytes do not match its key, or that not everybody can read, blocks the key, because an existing key
cannot be overwritten. Such an object is removed by its etag. Readable bytes that match the key have a different etag,
so the removal never hits an object that is or will be sealed. Only matching bytes that are archived, or that come with
foreign headers, have the same etag: these are removed as `removal.py` removes unsealed objects.

To prove an object costs the service far more than to declare it costs a caller. Therefore:

- Each object is read once, however many calls declare it at the same time.
- Failed proofs are cached.
- A call reads a bounded number of bytes, and stops after a bounded number of objects that cannot be proven.
- A caller has a bounded number of concurrent calls and HEAD requests.
- Callers are served in turn.

The same holds for a call that looks up ten thousand digests: see `Objects.missing`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from cachetools import LRUCache

from runtime.logs import structlog
from runtime.pool import Pool, Share
from runtime.rates import charge
from runtime.turns import slices
from runtime.workers import results_of
from services.metadata import metrics
from services.metadata.ports import Barrier, ObjectIndex, ObjectStorage, Sealed, StoredObject
from services.metadata.removal import remove_unsealed
from services.metadata.tree.decide import Unsealed, block_refused
from syncline.model.blocks import (
    DIGEST_BYTES,
    MAX_OBJECT_BYTES,
    MAX_PACK_ENTRIES,
    MIB,
    BlockRef,
    Digest,
    MalformedManifest,
    Manifest,
)
from syncline.model.errors import InvalidArgument, RequestTooLarge
from syncline.model.identifiers import SpaceId
from syncline.model.limits import MAX_SEAL_FORMS, MAX_SEAL_READ_BYTES
from syncline.model.verdicts import SealVerdict
from syncline.wire.tree import manifest_from_bytes

MAX_REMEMBERED_ENTRIES = 200_000
"""Maximum number of proven blocks of sealed objects in memory: about 10 MB."""
CALLS_AT_ONCE: Final = 16
"""Maximum number of concurrent SealObjects calls; further calls wait. Each holds its declarations, some 16 MiB in
memory.
"""
READ_BYTES_AT_ONCE: Final = 4 * MAX_OBJECT_BYTES
"""Maximum number of bytes of objects in memory that are being proven. The bytes of manifests have a budget of the same
size of their own, because comparing a manifest with the object index takes long.
"""
HEAD_REQUESTS_AT_ONCE: Final = 8
"""Maximum number of concurrent HEAD requests to S3 in one process. Each takes two milliseconds of the event loop, so
that this many keep the loop busy; more would only delay all other calls.
"""
MAX_UNPROVEN_OBJECTS: Final = 8
"""Maximum number of objects of one call that S3 is asked about and that cannot be proven. A correct client has uploaded
the objects that it declares, and a client that has lost objects uploads them again, whatever their number.
"""
OBJECTS_PER_CALL: Final = 20
"""Number of objects in a SealObjects call that are charged to the caller's rate limit like one additional call."""
CALLS_PER_UNPROVEN: Final = 10
"""Number of calls that are charged to the caller's rate limit for each object that could not be proven although S3 was
asked about it.
"""
FINDS_AT_ONCE: Final = 8
"""Maximum number of concurrent FindMissingObjects calls that have more than one slice of digests; further calls wait.
Few calls share the lookups, so that each ends soon; many would all exceed their deadlines.
"""
LOOKUPS_AT_ONCE: Final = 4
"""Maximum number of concurrent lookups in the object index for FindMissingObjects calls. Each takes up to a hundred
records from the table, and some milliseconds of the event loop.
"""
LOOKUPS_PER_CALL: Final = 50
"""Number of digests that a FindMissingObjects call looks up in the object index and that are charged to the caller's
rate limit like one additional call.
"""
MAX_UNSEALED_LOOKUPS: Final = 8
"""Maximum number of unsealed objects of a batch of commits for which S3 is asked if they exist. Mutations that name
further unsealed objects are refused with the verdict "not sealed", which is true of stored and of missing objects;
clients upload again after that verdict as well.
"""
_OBJECTS_AT_ONCE: Final = 8
"""Maximum number of objects of one call that are proven concurrently."""
_RECORDS_AT_ONCE: Final = 100
"""Maximum number of objects of one call whose complete records are in memory at once; one record has up to a megabyte.
"""
_REFS_AT_ONCE: Final = 5_000
"""Number of blocks of a manifest that are compared in one slice of work."""
_MAX_LOOKED_AT_ENTRIES: Final = 500_000
"""Maximum number of proven blocks, over all objects that one commit names for the first time: about 50 MB."""
_MAX_REMEMBERED_REFUSALS: Final = 20_000
_SAME_ETAG: Final = frozenset({Barrier.ARCHIVE, Barrier.HEADERS})
"""The barriers with which an object has the same etag as a readable object with the same bytes."""

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SingleBlock:
    """Declares that the whole object is one block."""


@dataclass(frozen=True, slots=True)
class PackOfBlocks:
    """Declares that the object consists of many blocks. `blocks` has their digests, 32 bytes each, one after the other.
    `offsets` and `lengths` are those of the blocks in the object, in bytes.
    """

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
    """Declares that the object is a serialised manifest."""


@dataclass(frozen=True, slots=True)
class DeclaredObject:
    """A client's declaration of an object that it uploaded."""

    digest: Digest
    size: int
    form: SingleBlock | PackOfBlocks | SerializedManifest


Proof = Sealed | SealVerdict
"""The proven facts about an object, or the reason that a declaration of it is not true."""


@dataclass(slots=True)
class _Reading:
    """The limits of one SealObjects call. Its reads are charged to `share`, and `left` is the number of bytes that the
    call may still read.
    """

    share: Share
    left: int = MAX_SEAL_READ_BYTES
    unproven: int = 0
    """Number of objects for which storage was asked and that could not be proven."""
    removed: int = 0
    """Number of unproven objects that were removed. They do not count towards MAX_UNPROVEN_OBJECTS, because storage
    cannot be asked for them again and again.
    """

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _too_much_to_read()

    @property
    def is_over(self) -> bool:
        """True if the call has reached MAX_UNPROVEN_OBJECTS objects that could not be proven, so that it asks S3 about
        no further object.
        """
        return self.unproven - self.removed >= MAX_UNPROVEN_OBJECTS


@dataclass(slots=True)
class _ProofLock:
    """The lock under which one call at a time proves an object; `users` counts the call that has it and those that
    wait.

    `proven` has the results for the waiting calls. They may not be recorded yet, so that each call records them as
    well. The key of `proven` is the number of earlier removals of the object: a proof of bytes that have been removed
    since is worthless.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    proven: dict[tuple[DeclaredObject, int], Proof] = field(default_factory=dict)


class Objects:
    """Proves the objects that clients declare, for all spaces, and answers which objects are sealed. Sealed ones are
    cached.
    """

    def __init__(
        self, *, index: ObjectIndex, storage: ObjectStorage, now_ms: Callable[[], int] = lambda: int(time.time() * 1000)
    ) -> None:
        self._now_ms = now_ms
        self._index = index
        self._storage = storage
        self._remembered: LRUCache[tuple[SpaceId, Digest], Sealed] = LRUCache(
            MAX_REMEMBERED_ENTRIES, getsizeof=lambda sealed: 1 + len(sealed.offsets)
        )
        self._refused: LRUCache[tuple[SpaceId, bytes], SealVerdict] = LRUCache(_MAX_REMEMBERED_REFUSALS)
        self._calls = Pool("seals", CALLS_AT_ONCE, counted=True)
        self._reads = Pool("seal_reads", READ_BYTES_AT_ONCE)
        self._manifests = Pool("seal_manifests", READ_BYTES_AT_ONCE)
        self._heads = Pool("heads", HEAD_REQUESTS_AT_ONCE, counted=True)
        self._finds = Pool("finds", FINDS_AT_ONCE, counted=True)
        self._lookups = Pool("object_lookups", LOOKUPS_AT_ONCE, counted=True)
        self._proof_locks: dict[tuple[SpaceId, Digest], _ProofLock] = {}

    def remembered(self, space: SpaceId, digest: Digest) -> Sealed | None:
        """Return the facts about a sealed object if they are in this process's cache; otherwise None."""
        return self._remembered.get((space, digest))

    async def sealed(self, space: SpaceId, digests: Collection[Digest]) -> dict[Digest, Sealed]:
        """Return the proven facts about those of `digests` that are sealed, by digest. Facts that another process has
        proven recently may be missing.
        """
        found = {digest: known for digest in digests if (known := self.remembered(space, digest))}
        unknown = [digest for digest in digests if digest not in found]
        if unknown:
            found.update(await self._recorded(space, unknown))
        return found

    async def missing(self, space: SpaceId, digests: Collection[Digest], *, share: Share) -> set[Digest]:
        """Return the digests in `digests` whose objects are not sealed. Digests that are not in this process's cache
        are looked up in the object index, a slice at a time, and charged to `share`. The call waits for its turn before
        each slice, and so that few lookups are in progress at the same time.

        Raise TooMuchAtOnce if the caller, or all callers together, have too many concurrent calls for too long.
        """
        missing: set[Digest] = set()
        looked_up = 0
        is_long = len(digests) > _RECORDS_AT_ONCE
        try:
            async with self._finds.lent(1, share) if is_long else nullcontext():
                async for some in slices(tuple(digests), share.caller, size=_RECORDS_AT_ONCE):
                    unknown = [digest for digest in some if self.remembered(space, digest) is None]
                    if unknown:
                        async with self._lookups.lent(1, share):
                            looked_up += len(unknown)
                            missing.update(set(unknown).difference(await self._recorded(space, unknown)))
        finally:
            charge(looked_up // LOOKUPS_PER_CALL)
        return missing

    async def unsealed(self, space: SpaceId, digests: Collection[Digest]) -> set[Digest]:
        """Return the digests in `digests` whose objects are not sealed. For many objects this costs less than
        `missing`, because the proven facts about sealed objects are neither read nor cached.
        """
        unknown = {digest for digest in digests if self.remembered(space, digest) is None}
        return unknown - await self._index.known(space, unknown) if unknown else set()

    async def look(
        self, space: SpaceId, digests: Collection[Digest], *, beside: int = 0, unsealed_before: int = 0
    ) -> dict[Digest, Sealed | Unsealed]:
        """Return, for each of `digests`, the facts that are proven about the object. For an object that is not sealed,
        return Unsealed, with True if the object is in S3.

        - S3 is asked about at most MAX_UNSEALED_LOOKUPS unsealed objects of a batch of commits; further ones are
          reported as stored. `unsealed_before` is the number of those that were asked about in earlier calls for the
          batch.
        - `beside` is the number of proven blocks that the caller holds in memory already. Raise RequestTooLarge if the
          facts do not fit into memory together with these.
        """
        found: dict[Digest, Sealed | Unsealed] = {}
        entries = beside
        for some in _slices(digests, _RECORDS_AT_ONCE):
            recorded = await self._recorded(space, some)
            entries += sum(len(sealed.offsets) for sealed in recorded.values())
            if entries > _MAX_LOOKED_AT_ENTRIES:
                raise RequestTooLarge("the request names too many packs of many blocks at once; split it")
            found.update(recorded)
        unsealed = [digest for digest in digests if digest not in found]
        asked = unsealed[: max(0, MAX_UNSEALED_LOOKUPS - unsealed_before)]
        share = Share.alone(space)  # a commit batches the requests of several callers
        heads = await results_of(
            (partial(self._describe, space, digest, share=share) for digest in asked), at_once=_OBJECTS_AT_ONCE
        )
        found.update(dict.fromkeys(unsealed, Unsealed(stored=True)))
        found.update((digest, Unsealed(stored=head is not None)) for digest, head in zip(asked, heads, strict=True))
        return found

    async def seal(self, space: SpaceId, declared: Sequence[DeclaredObject], *, share: Share) -> list[SealVerdict]:
        """Prove that each object is as its declaration says, record the proven facts, and return the verdicts in the
        order of `declared`. The call waits for its turn, and its reads are charged to `share`.

        Once MAX_UNPROVEN_OBJECTS of the objects could not be proven, S3 is asked about no further object; the verdict
        on the others is then that they are missing.

        - Raise InvalidArgument if an object is declared as more than MAX_SEAL_FORMS different things.
        - Raise RequestTooLarge if more than MAX_SEAL_READ_BYTES have to be read.
        - Raise TooMuchAtOnce if the caller, or all callers together, have too many concurrent calls for too long.
        """
        forms: dict[Digest, dict[DeclaredObject, None]] = {}
        for one in declared:
            forms.setdefault(one.digest, {})[one] = None
        if any(len(each) > MAX_SEAL_FORMS for each in forms.values()):
            raise InvalidArgument(f"an object can be declared as at most {MAX_SEAL_FORMS} things at once")
        if sum(max(map(_bytes_to_read, each)) for each in forms.values()) > MAX_SEAL_READ_BYTES:
            raise _too_much_to_read()
        reading = _Reading(share)
        verdicts: dict[DeclaredObject, SealVerdict] = {}
        try:
            async with self._calls.lent(1, reading.share):
                for some in _slices(forms, _RECORDS_AT_ONCE):
                    if reading.is_over:
                        break
                    verdicts |= await self._seal({digest: list(forms[digest]) for digest in some}, space, reading)
        finally:
            charge(len(forms) // OBJECTS_PER_CALL + CALLS_PER_UNPROVEN * reading.unproven)
        answer = [verdicts.get(one, SealVerdict.OBJECT_MISSING) for one in declared]
        for verdict, count in Counter(answer).items():
            metrics.SEALED.labels(verdict.name).inc(count)
        return answer

    async def _seal(
        self, forms: Mapping[Digest, Sequence[DeclaredObject]], space: SpaceId, reading: _Reading
    ) -> dict[DeclaredObject, SealVerdict]:
        recorded = await self._index.look(space, forms)  # the index is read before storage is asked: see ObjectIndex
        known, removals = recorded.sealed, recorded.removals
        for digest, sealed in known.items():
            self._remember(space, digest, sealed)
        now_ms = self._now_ms()
        going = {digest for digest, removal in removals.items() if removal.until_ms >= now_ms}
        after = {digest: removal.number for digest, removal in removals.items() if digest not in going}
        sound = [digest for digest in forms if digest not in going]
        proofs = await results_of(
            (
                partial(self._prove, space, forms[digest], known.get(digest), after.get(digest, 0), reading)
                for digest in sound
            ),
            at_once=_OBJECTS_AT_ONCE,
        )
        fresh: dict[Digest, Sealed] = {}
        for digest, of_one in zip(sound, proofs, strict=True):
            before = known.get(digest)
            for proof in of_one.values():
                if isinstance(proof, Sealed) and not (before and before.proves(proof)):
                    fresh[digest] = fresh[digest].with_all_of(proof) if digest in fresh else proof
        lost = await self._index.seal(space, fresh, after=after) if fresh else set()
        for digest, proven in fresh.items():
            before = known.get(digest)
            if digest not in lost:
                self._remember(space, digest, before.with_all_of(proven) if before else proven)
        verdicts = {one: SealVerdict.OBJECT_MISSING for digest in going | lost for one in forms[digest]}
        return {
            one: SealVerdict.SEALED if isinstance(proof, Sealed) else proof
            for of_one in proofs
            for one, proof in of_one.items()
        } | verdicts

    async def _recorded(self, space: SpaceId, digests: Collection[Digest]) -> Mapping[Digest, Sealed]:
        stored = await self._index.sealed(space, digests)
        for digest, sealed in stored.items():
            self._remember(space, digest, sealed)
        return stored

    def _remember(self, space: SpaceId, digest: Digest, sealed: Sealed) -> None:
        self._remembered[space, digest] = sealed

    async def _describe(self, space: SpaceId, digest: Digest, *, share: Share) -> StoredObject | None:
        async with self._heads.lent(1, share):
            return await self._storage.describe(space, digest)

    async def _prove(
        self, space: SpaceId, forms: Sequence[DeclaredObject], known: Sealed | None, removals: int, reading: _Reading
    ) -> dict[DeclaredObject, Proof]:
        """Return the proof, or the reason against it, for each of `forms`, which are all declarations of one object.
        `known` has the facts that are recorded about the object, and `removals` is the number of its earlier removals.
        """
        proofs = self._proven_before(space, forms, known)
        if len(proofs) == len(forms):
            return proofs
        digest = forms[0].digest
        async with self._proof_lock(space, digest) as mine:
            proofs |= {one: mine.proven[one, removals] for one in forms if (one, removals) in mine.proven}
            proofs |= self._proven_before(space, [one for one in forms if one not in proofs], known)
            left = [one for one in forms if one not in proofs]
            if left and reading.is_over:
                proofs |= dict.fromkeys(left, SealVerdict.OBJECT_MISSING)
            elif left:
                found = await self._examined(space, digest, left, known, reading)
                reading.unproven += not any(isinstance(proof, Sealed) for proof in found.values())
                mine.proven |= {(one, removals): proof for one, proof in found.items() if isinstance(proof, Sealed)}
                proofs |= found
            return proofs

    def _proven_before(
        self, space: SpaceId, forms: Iterable[DeclaredObject], known: Sealed | None
    ) -> dict[DeclaredObject, Proof]:
        """Return the outcome for those of the declarations `forms` of one object that can be judged without asking S3:
        by `known`, the facts that are recorded about the object, or by the cache of failed proofs.
        """
        proofs: dict[DeclaredObject, Proof] = {}
        for one in forms:
            if isinstance(one.form, PackOfBlocks) and (problem := _entries_refused(one.form, one.size)):
                proofs[one] = problem
            elif known is not None and known.size != one.size:
                proofs[one] = SealVerdict.SIZE_MISMATCH
            elif known is not None and (claimed := _claimed(one, known)) is not None and known.proves(claimed):
                proofs[one] = claimed
            elif (refused := self._refused.get((space, _fingerprint(one)))) is not None:
                proofs[one] = refused
        return proofs

    @asynccontextmanager
    async def _proof_lock(self, space: SpaceId, digest: Digest) -> AsyncIterator[_ProofLock]:
        mine = self._proof_locks.setdefault((space, digest), _ProofLock())
        mine.users += 1
        try:
            async with mine.lock:
                yield mine
        finally:
            mine.users -= 1
            if not mine.users:
                del self._proof_locks[space, digest]

    async def _examined(
        self,
        space: SpaceId,
        digest: Digest,
        forms: Sequence[DeclaredObject],
        known: Sealed | None,
        reading: _Reading,
    ) -> dict[DeclaredObject, Proof]:
        stored = await self._describe(space, digest, share=reading.share)
        if stored is None:
            return dict.fromkeys(forms, SealVerdict.OBJECT_MISSING)
        if stored.barrier is Barrier.HEADERS and known is not None:  # an earlier version sealed it, so it stays sealed
            stored = replace(stored, barrier=None)
        if stored.barrier or stored.sha256 not in {digest, None} or stored.size > MAX_OBJECT_BYTES:
            return await self._wrong(space, digest, forms, stored, reading)
        proofs: dict[DeclaredObject, Proof] = {}
        if stored.sha256 == digest:
            for one in forms:
                if stored.size != one.size:
                    proofs[one] = SealVerdict.SIZE_MISMATCH
                elif isinstance(one.form, SingleBlock):
                    proofs[one] = Sealed(one.size)
        left = [one for one in forms if one not in proofs]
        if not left:
            return proofs
        reading.take(stored.size)
        if any(isinstance(one.form, SerializedManifest) for one in left):
            async with self._manifests.lent(stored.size, reading.share):
                return proofs | await self._read(space, digest, left, stored, reading)
        return proofs | await self._read(space, digest, left, stored, reading)

    async def _read(
        self, space: SpaceId, digest: Digest, forms: Sequence[DeclaredObject], stored: StoredObject, reading: _Reading
    ) -> dict[DeclaredObject, Proof]:
        proofs: dict[DeclaredObject, Proof] = {}
        manifest: DeclaredObject | None = None
        async with self._reads.lent(stored.size, reading.share):
            data = await self._storage.read(space, digest)
            if data is None:
                return dict.fromkeys(forms, SealVerdict.OBJECT_MISSING)
            if await asyncio.to_thread(_sha256, data) != digest:
                # Sealing never removes matching bytes, so the bytes that HEAD found (`stored`) did not match either,
                # and their etag is safe to use.
                return await self._wrong(space, digest, forms, stored, reading)
            for one in forms:
                if len(data) != one.size:
                    proofs[one] = SealVerdict.SIZE_MISMATCH
                    continue
                match one.form:
                    case SingleBlock():
                        proofs[one] = Sealed(one.size)
                    case PackOfBlocks() as pack:
                        proof = await asyncio.to_thread(_prove_pack, data, pack)
                        if isinstance(proof, SealVerdict):
                            self._refused[space, _fingerprint(one)] = proof
                        proofs[one] = proof
                    case SerializedManifest():
                        manifest = one
        if manifest is not None:
            proofs[manifest] = await self._prove_manifest(space, manifest, data)
        return proofs

    async def _wrong(
        self, space: SpaceId, digest: Digest, forms: Sequence[DeclaredObject], stored: StoredObject, reading: _Reading
    ) -> dict[DeclaredObject, Proof]:
        """Remove an object whose bytes do not match its key, or that not everybody can read, and return the verdict for
        each of its declarations `forms`. `stored` is its metadata in S3.
        """
        if await self._index.sealed(space, [digest]):
            log.error("sealed_object_damaged", space=space, object=digest.hex(), size=stored.size)
        elif await self._removed(space, digest, stored):
            reading.removed += 1
            metrics.REMOVED.inc()
            log.warning("wrong_object_removed", space=space, object=digest.hex(), size=stored.size)
        return {
            one: SealVerdict.CHECKSUM_MISMATCH if stored.size == one.size else SealVerdict.SIZE_MISMATCH
            for one in forms
        }

    async def _removed(self, space: SpaceId, digest: Digest, stored: StoredObject) -> bool:
        """Remove an object from S3 if it is not sealed; return True if it was removed. `stored` is its metadata
        in S3.
        """
        if stored.barrier in _SAME_ETAG:
            # Another process may have removed it, and the same bytes may have been put and sealed since.
            return await remove_unsealed(
                self._index, self._storage, space, digest, etag=stored.etag, now_ms=self._now_ms
            )
        return await self._storage.remove(space, digest, etag=stored.etag)

    async def _prove_manifest(self, space: SpaceId, one: DeclaredObject, data: bytes) -> Proof:
        """Return the proof of a declared manifest, whose bytes are `data`, or the reason against it. Its blocks are
        compared with the object index, a slice at a time, up to the first block that is not proven.
        """
        manifest = await asyncio.to_thread(_manifest, data)
        if manifest is None:
            self._refused[space, _fingerprint(one)] = SealVerdict.MANIFEST_INVALID
            return SealVerdict.MANIFEST_INVALID
        content_size = 0
        parts = _ref_slices(manifest)
        while refs := await asyncio.to_thread(next, parts, None):
            objects = await self.sealed(space, {ref.object for ref in refs})
            if doubtful := await asyncio.to_thread(_not_held, refs, objects):
                objects |= await self._recorded(space, doubtful)
                if await asyncio.to_thread(_not_held, refs, objects):
                    return SealVerdict.MANIFEST_INVALID
            content_size += sum(ref.length for ref in refs)
        return Sealed(one.size, content_size=content_size)


def _slices(items: Iterable[T], count: int) -> Iterator[list[T]]:
    waiting = iter(items)
    while some := list(islice(waiting, count)):
        yield some


def _ref_slices(manifest: Manifest) -> Iterator[list[BlockRef]]:
    """Yield the blocks in order, in slices that touch few objects."""
    refs: list[BlockRef] = []
    objects: set[Digest] = set()
    for ref in manifest.refs():
        if len(refs) == _REFS_AT_ONCE or (ref.object not in objects and len(objects) == _RECORDS_AT_ONCE):
            yield refs
            refs, objects = [], set()
        refs.append(ref)
        objects.add(ref.object)
    if refs:
        yield refs


def _too_much_to_read() -> RequestTooLarge:
    mib = MAX_SEAL_READ_BYTES // MIB
    return RequestTooLarge(f"the objects that have to be read have more than {mib} MiB together; split the request")


def _bytes_to_read(one: DeclaredObject) -> int:
    """Return the number of bytes that the service reads to prove a declaration, according to its declared size."""
    return 0 if isinstance(one.form, SingleBlock) else one.size


def _fingerprint(one: DeclaredObject) -> bytes:
    """Return a digest that identifies a declaration without keeping the declaration in memory."""
    told = hashlib.sha256(one.digest + one.size.to_bytes(8, "big") + type(one.form).__name__.encode())
    if isinstance(one.form, PackOfBlocks):
        told.update(one.form.blocks)
        told.update(array("Q", one.form.offsets + one.form.lengths))
    return told.digest()


def _not_held(refs: Iterable[BlockRef], objects: Mapping[Digest, Sealed]) -> set[Digest]:
    """Return those objects in which `objects` does not prove a block of a manifest: `refs` are its blocks, each with
    the object, offset and length that the manifest states.
    """
    return {ref.object for ref in refs if not _holds(objects.get(ref.object), ref)}


def _holds(sealed: Sealed | None, ref: BlockRef) -> bool:
    return sealed is not None and block_refused(ref, sealed) is None


def _claimed(one: DeclaredObject, known: Sealed) -> Sealed | None:
    """Return the facts that a declaration states about the object, as far as they can be known without reading the
    object. `known` has the recorded facts. Return None if they cannot be known.
    """
    match one.form:
        case SingleBlock():
            return Sealed(one.size)
        case PackOfBlocks(blocks, offsets, lengths):
            return Sealed(one.size, offsets, lengths, blocks)
        case SerializedManifest():
            return None if known.content_size is None else Sealed(one.size, content_size=known.content_size)


def _entries_refused(pack: PackOfBlocks, size: int) -> SealVerdict | None:
    end = 0
    for offset, length in zip(pack.offsets, pack.lengths, strict=True):
        if offset + length > size:
            return SealVerdict.ENTRY_OUT_OF_BOUNDS
        if offset < end or not length:
            return SealVerdict.ENTRIES_OVERLAP
        end = offset + length
    return None


def _prove_pack(data: bytes, pack: PackOfBlocks) -> Sealed | SealVerdict:
    """Return the proof of a pack, after hashing each of its entries. Called in a thread, because hashing releases the
    GIL.
    """
    view = memoryview(data)
    for i, (offset, length) in enumerate(zip(pack.offsets, pack.lengths, strict=True)):
        if _sha256(view[offset : offset + length]) != pack.blocks[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES]:
            return SealVerdict.ENTRY_DIGEST_MISMATCH
    return Sealed(len(data), pack.offsets, pack.lengths, pack.blocks)


def _manifest(data: bytes) -> Manifest | None:
    """Return the parsed manifest; None if the bytes are malformed, or its blocks are too fine. Called in a thread."""
    try:
        manifest = manifest_from_bytes(data)
    except MalformedManifest:
        return None
    return None if manifest.is_too_fine else manifest


def _sha256(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()
