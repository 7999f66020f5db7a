"""Assembles contents from objects, with bounded memory, and sends no whole block before it is verified."""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, cast

from google.protobuf.message import DecodeError

from gateway.content.fetch_plan import ObjectRange, gather, plan_reads
from gateway.ports import ObjectSource, ObjectTooLarge, ObjectUnreadable
from runtime.pool import PATIENCE_SECONDS, Pool, Share
from syncline.metadata.v1 import journal_pb2
from syncline.model.blocks import KIB, MAX_OBJECT_BYTES, MIN_BLOCK_BYTES, Digest, Manifest
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import SpaceId
from syncline.model.tree import Content
from syncline.wire.tree import manifest_from_wire

_MAX_PREFETCHES: Final = 4
"""Number of fetches of objects from S3 that are in progress while the bytes of the fetch before them are sent."""
MAX_LARGE_MANIFESTS: Final = 1
"""Maximum number of concurrent reads of manifests that are larger than their content suggests."""
_INLINE_HASH_BYTES: Final = 64 * KIB
_INLINE_PARSE_BYTES: Final = 64 * KIB
"""Manifests up to this size are parsed on the event loop; larger ones in a thread."""
_ENTRY_BYTES: Final = 96
"""Upper bound of the bytes that a manifest has per block: two digests, a length, an index and an offset."""


class Memory:
    """The pools of memory, in bytes, that all downloads through the gateway share.

    One eighth of the total is only for reads of at most 1/128 of the total, so that these small reads never wait for
    larger ones.
    """

    def __init__(self, total: int, *, manifests: int | None = None, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """`total` is the memory for contents, in bytes. `manifests` is the memory for manifests that are objects of
        their own, in addition to `total`; by default it is as large as `total`.

        `patience_seconds` is the time for which a download that has not begun waits for memory.
        """
        self.patience_seconds = patience_seconds
        self._most = total // 128
        self._small = Pool("small_reads", total // 8)
        self._large = Pool("downloads", total - total // 8)
        self.manifests = Pool("manifests", manifests or total)
        self.large_manifests = Pool("large_manifests", MAX_LARGE_MANIFESTS)
        """Slots for reading a large manifest, which takes several times its size until it is converted to its shortest
        form.
        """

    def pool(self, size: int) -> Pool:
        """Return the pool to take `size` bytes from: the one for small reads, or the one for all others."""
        return self._small if size <= self._most else self._large

    def taken(self) -> int:
        """Return the number of bytes in use."""
        return self._small.taken() + self._large.taken() + self.manifests.taken()


class Contents:
    """Reads contents. All methods raise Unavailable if S3 does not answer, and ObjectUnreadable for a damaged
    object.
    """

    def __init__(self, objects: ObjectSource, memory: Memory) -> None:
        self._objects = objects
        self._memory = memory
        self._manifests: dict[tuple[SpaceId, Digest], _Held] = {}

    @asynccontextmanager
    async def manifest(self, space: SpaceId, content: Content, share: Share) -> AsyncGenerator[Manifest, None]:
        """Context manager that yields the manifest of a content, which is inline or an object of its own. Raise
        TooMuchAtOnce if the pool of manifests has no memory for it.

        `share` is charged for the memory of a manifest that is an object of its own, until the end of the context.
        Concurrent readers of the same manifest share the memory.
        """
        if not content.manifest_object:
            yield _checked(content.manifest, content)
            return
        name = space, Digest(content.manifest_object)
        held = self._manifests.get(name)
        if held is None:
            held = self._manifests[name] = _Held(asyncio.create_task(self._read_manifest(*name, content, share)), share)
        held.users += 1
        try:
            manifest, _ = await asyncio.shield(held.reading)
            if manifest.size != content.size:
                raise _wrong_size(manifest, content)
            yield manifest
        finally:
            held.users -= 1
            if not held.users:
                # A read is always completed: a thread that parses a manifest cannot be stopped, and holds its memory.
                held.reading.add_done_callback(lambda _: self._drop_manifest(name, held))

    def _drop_manifest(self, name: tuple[SpaceId, Digest], held: _Held) -> None:
        # another reader has come in the meantime, or has dropped it already
        if held.users or self._manifests.get(name) is not held:
            return
        del self._manifests[name]
        if not held.reading.cancelled() and held.reading.exception() is None:
            self._memory.manifests.give(held.reading.result()[1], held.share)

    async def _read_manifest(
        self, space: SpaceId, digest: Digest, content: Content, share: Share
    ) -> tuple[Manifest, int]:
        """Return the manifest of `content`, which is the object with this digest, and the number of bytes that it takes
        from the pool. The memory is charged to `share`.
        """
        expected = (content.size // MIN_BLOCK_BYTES + 2) * _ENTRY_BYTES
        if expected < MAX_OBJECT_BYTES:
            try:
                return await self._read_manifest_of(expected, space, digest, content, share)
            except ObjectTooLarge:
                pass  # another client may have cut the content differently
        async with self._memory.large_manifests.lent(1, share):
            return await self._read_manifest_of(MAX_OBJECT_BYTES, space, digest, content, share)

    async def _read_manifest_of(
        self, most: int, space: SpaceId, digest: Digest, content: Content, share: Share
    ) -> tuple[Manifest, int]:
        pool, taken = self._memory.manifests, 2 * most
        await pool.take(taken, share)
        try:
            raw = await self._objects.read_all(space, digest, most=most, share=share)
            if len(raw) <= _INLINE_PARSE_BYTES:
                manifest = _parsed(raw, digest, content)
            else:
                manifest = await asyncio.to_thread(_parsed, raw, digest, content)
        except BaseException:
            pool.give(taken, share)
            raise
        kept = min(2 * len(raw), taken)
        pool.give(taken - kept, share)
        return manifest, kept

    async def stream(
        self, space: SpaceId, content: Content, start: int, stop: int, *, share: Share
    ) -> AsyncGenerator[memoryview, None]:
        """Yield the bytes of a content from `start` up to, and without, `stop`, in parts. The generator has to be
        closed if it is not exhausted. Raise TooMuchAtOnce, before the first part, if there is no memory for `share`.
        """
        async with self.manifest(space, content, share) as manifest:
            fetches = plan_reads(manifest, start, stop)
            following = next(fetches, None)
            patience: float | None = self._memory.patience_seconds
            under_way: deque[_Fetching] = deque()

            def begin(fetch: ObjectRange) -> ObjectRange | None:
                under_way.append(_Fetching(fetch, asyncio.create_task(self._fetch(space, fetch, share)), fetch.length))
                return next(fetches, None)

            try:
                while following is not None or under_way:
                    if following is not None and not under_way:
                        await self._memory.pool(following.length).take(following.length, share, patience=patience)
                        following = begin(following)
                    patience = None  # the answer has begun, so the client cannot be told to retry any more
                    # Read-ahead takes only memory that nobody waits for, so that every download makes progress.
                    while (
                        following is not None
                        and len(under_way) <= _MAX_PREFETCHES
                        and self._memory.pool(following.length).try_take(following.length, share)
                    ):
                        following = begin(following)
                    first = under_way[0]
                    assert first.reading is not None
                    parts = deque(await first.reading)
                    first.reading = None  # the result of the read would keep the parts in memory
                    pool = self._memory.pool(first.fetch.length)
                    while parts:
                        size = len(parts[0])
                        yield parts.popleft()
                        first.taken -= size
                        pool.give(size, share)
                    under_way.popleft()
            finally:
                reading = [one.reading for one in under_way if one.reading is not None]
                # cancelled before anything is awaited, because the task of a disconnected client is cancelled at its
                # next await
                for one in under_way:
                    self._memory.pool(one.fetch.length).give(one.taken, share)
                for task in reading:
                    task.cancel()
                await asyncio.gather(*reading, return_exceptions=True)

    async def read_together(self, space: SpaceId, contents: Sequence[Content], *, share: Share) -> list[bytes]:
        """Return the bytes of each of several contents, in the order of `contents`. Their manifests must be inline, and
        the caller must have taken the memory for the bytes from a pool. Adjacent blocks are fetched together, in turns
        of `share`.
        """
        manifests = [_checked(content.manifest, content) for content in contents]
        found: dict[tuple[Digest, int, int], bytes] = {}
        limit = asyncio.Semaphore(_MAX_PREFETCHES)

        async def read(fetch: ObjectRange) -> None:
            async with limit, self._memory.pool(fetch.length).lent(fetch.length, share, patience=None):
                data = b"".join(await self._fetch(space, fetch, share))
            for piece in fetch.pieces:
                if piece.digest is not None:
                    place = (fetch.object, fetch.offset + piece.at, piece.length)
                    found[place] = data[piece.at : piece.at + piece.length]

        reading = [asyncio.create_task(read(fetch)) for fetch in gather(ref for one in manifests for ref in one.refs())]
        try:
            await asyncio.gather(*reading)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
        return [b"".join(found[ref.object, ref.offset, ref.length] for ref in one.refs()) for one in manifests]

    async def _fetch(self, space: SpaceId, fetch: ObjectRange, share: Share) -> Sequence[memoryview]:
        parts = await self._objects.read(space, fetch.object, offset=fetch.offset, length=fetch.length, share=share)
        if fetch.length <= _INLINE_HASH_BYTES:
            damaged = _damaged(parts, fetch)
        else:
            damaged = await asyncio.to_thread(_damaged, parts, fetch)
        if damaged is not None:
            raise ObjectUnreadable(f"block {damaged.hex()} in object {fetch.object.hex()} holds other bytes")
        return parts


@dataclass(slots=True)
class _Held:
    """A separate manifest that is in use, or is being read for somebody."""

    reading: asyncio.Task[tuple[Manifest, int]]
    share: Share
    """The share that the memory is charged to."""
    users: int = 0


@dataclass(slots=True)
class _Fetching:
    """A fetch in progress, and the number of bytes that it takes from the pool."""

    fetch: ObjectRange
    reading: asyncio.Task[Sequence[memoryview]] | None
    taken: int


def _parsed(raw: bytes, digest: Digest, content: Content) -> Manifest:
    """Return the manifest of `content` from `raw`, the bytes of the object `digest`. The columns of a large manifest
    are packed: tuples of numbers would take several times the memory. Raise ObjectUnreadable if the object has other
    bytes, is no manifest, or is the manifest of another size than that of `content`.
    """
    if hashlib.sha256(raw).digest() != digest:
        raise ObjectUnreadable(f"manifest {digest.hex()} holds other bytes")
    try:
        manifest = manifest_from_wire(journal_pb2.Manifest.FromString(raw))
    except DecodeError:
        raise ObjectUnreadable(f"object {digest.hex()} is no manifest") from None
    manifest = _checked(manifest, content)
    if len(raw) <= _INLINE_PARSE_BYTES:
        return manifest
    return replace(
        manifest,
        lengths=cast("tuple[int, ...]", array("I", manifest.lengths)),
        object_index=cast("tuple[int, ...]", array("I", manifest.object_index)),
        offsets=cast("tuple[int, ...]", array("Q", manifest.offsets)),
    )


def _checked(manifest: Manifest, content: Content) -> Manifest:
    try:
        manifest.check()
    except (ValueError, InvalidArgument) as error:
        raise ObjectUnreadable(f"the manifest is malformed: {error}") from None
    if manifest.size != content.size:
        raise _wrong_size(manifest, content)
    return manifest


def _wrong_size(manifest: Manifest, content: Content) -> ObjectUnreadable:
    return ObjectUnreadable(f"the manifest makes up {manifest.size} bytes, not {content.size}")


def _damaged(parts: Sequence[memoryview], fetch: ObjectRange) -> Digest | None:
    """Return the digest of the first whole block in `parts`, the consecutive bytes of a fetch, that does not match its
    digest; None if all match.
    """
    views = deque(parts)
    for piece in fetch.pieces:
        seen, left = hashlib.sha256(usedforsecurity=False), piece.length
        while left:
            view = views.popleft()
            if len(view) > left:
                views.appendleft(view[left:])
                view = view[:left]
            left -= len(view)
            if piece.digest is not None:
                seen.update(view)
        if piece.digest is not None and seen.digest() != piece.digest:
            return piece.digest
    return None
