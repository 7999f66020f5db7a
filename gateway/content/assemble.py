"""Assembles contents from objects, with bounded memory, and lets no whole block out that is not verified."""

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

from gateway.content.plan import ObjectRange, gather, plan_reads
from gateway.ports import ObjectSource, ObjectTooLarge, ObjectUnreadable
from runtime.pool import PATIENCE_SECONDS, Pool, Share
from syncline.metadata.v1 import journal_pb2
from syncline.model.blocks import KIB, MAX_OBJECT_BYTES, MIN_BLOCK_BYTES, Digest, Manifest
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import SpaceId
from syncline.model.tree import Content
from syncline.wire.tree import manifest_from_wire

_FETCHES_AHEAD: Final = 4
"""Number of fetches that are under way while the one before them goes out."""
LARGE_MANIFESTS_AT_ONCE: Final = 1
"""Manifests larger than their content suggests that are read at the same time."""
_INLINE_HASH_BYTES: Final = 64 * KIB
_INLINE_PARSE_BYTES: Final = 64 * KIB
"""Manifests up to this size are parsed on the event loop; larger ones in a thread."""
_ENTRY_BYTES: Final = 96
"""More than a manifest has for each block: two digests, a length, an index and an offset."""


class Memory:
    """Memory that all downloads share, in bytes.

    An eighth is reserved for reads of at most 1/128 of the total, so that they never wait for larger ones.
    """

    def __init__(self, total: int, *, manifests: int | None = None, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """`manifests`: bytes beside `total` for manifests that are objects of their own; else as many as `total`.

        `patience_seconds`: how long a download that has not begun waits for its first bytes.
        """
        self.patience_seconds = patience_seconds
        self._most = total // 128
        self._small = Pool("small_reads", total // 8)
        self._large = Pool("downloads", total - total // 8)
        self.manifests = Pool("manifests", manifests or total)
        self.large_manifests = Pool("large_manifests", LARGE_MANIFESTS_AT_ONCE)
        """The right to read a large manifest, which takes several times its size until it is in its shortest form."""

    def pool(self, size: int) -> Pool:
        """Return the pool from which a read of `size` bytes takes them."""
        return self._small if size <= self._most else self._large

    def taken(self) -> int:
        """Bytes in use."""
        return self._small.taken() + self._large.taken() + self.manifests.taken()


class Contents:
    """Reads contents. All methods raise Unavailable, and ObjectUnreadable for what must not be."""

    def __init__(self, objects: ObjectSource, memory: Memory) -> None:
        self._objects = objects
        self._memory = memory
        self._manifests: dict[tuple[SpaceId, Digest], _Held] = {}

    @asynccontextmanager
    async def manifest(self, space: SpaceId, content: Content, share: Share) -> AsyncGenerator[Manifest, None]:
        """The blocks of a content, whether they stand in it or in an object of their own. Raise TooMuchAtOnce.

        The memory for an object is taken as long as the context lasts; who reads the same at the same time shares
        it.
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
                # A read is finished in any case: a thread that parses it cannot be stopped and holds what it has.
                held.reading.add_done_callback(lambda _: self._drop_manifest(name, held))

    def _drop_manifest(self, name: tuple[SpaceId, Digest], held: _Held) -> None:
        if held.users or self._manifests.get(name) is not held:  # somebody came for it meanwhile, or has gone too
            return
        del self._manifests[name]
        if not held.reading.cancelled() and held.reading.exception() is None:
            self._memory.manifests.give(held.reading.result()[1], held.share)

    async def _read_manifest(
        self, space: SpaceId, digest: Digest, content: Content, share: Share
    ) -> tuple[Manifest, int]:
        """A manifest, and how many bytes of the pool it has."""
        expected = (content.size // MIN_BLOCK_BYTES + 2) * _ENTRY_BYTES
        if expected < MAX_OBJECT_BYTES:
            try:
                return await self._read_manifest_of(expected, space, digest, content, share)
            except ObjectTooLarge:
                pass  # Another client has cut the content in another way than ours do.
        async with self._memory.large_manifests.lent(1, share):
            return await self._read_manifest_of(MAX_OBJECT_BYTES, space, digest, content, share)

    async def _read_manifest_of(
        self, most: int, space: SpaceId, digest: Digest, content: Content, share: Share
    ) -> tuple[Manifest, int]:
        pool, taken = self._memory.manifests, 2 * most
        await pool.take(taken, share)
        try:
            raw = await self._objects.read_all(space, digest, most=most)
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
        """The bytes [start, stop), in parts; close it if it is not read to its end. TooMuchAtOnce before the first."""
        async with self.manifest(space, content, share) as manifest:
            fetches = plan_reads(manifest, start, stop)
            following = next(fetches, None)
            patience: float | None = self._memory.patience_seconds
            under_way: deque[_Fetching] = deque()

            def begin(fetch: ObjectRange) -> ObjectRange | None:
                under_way.append(_Fetching(fetch, asyncio.create_task(self._fetch(space, fetch)), fetch.length))
                return next(fetches, None)

            try:
                while following is not None or under_way:
                    if following is not None and not under_way:
                        await self._memory.pool(following.length).take(following.length, share, patience=patience)
                        following = begin(following)
                    patience = None  # The answer has begun, so the client cannot be told any more to come again.
                    # What is fetched ahead takes only what nobody else waits for: so each download gets on.
                    while (
                        following is not None
                        and len(under_way) <= _FETCHES_AHEAD
                        and self._memory.pool(following.length).try_take(following.length, share)
                    ):
                        following = begin(following)
                    first = under_way[0]
                    assert first.reading is not None
                    parts = deque(await first.reading)
                    first.reading = None  # The result of the read would keep the parts in memory.
                    pool = self._memory.pool(first.fetch.length)
                    while parts:
                        size = len(parts[0])
                        yield parts.popleft()
                        first.taken -= size
                        pool.give(size, share)
                    under_way.popleft()
            finally:
                reading = [one.reading for one in under_way if one.reading is not None]
                for one in under_way:  # before anything is waited for, which whoever's client is gone does not get to
                    self._memory.pool(one.fetch.length).give(one.taken, share)
                for task in reading:
                    task.cancel()
                await asyncio.gather(*reading, return_exceptions=True)

    async def read_together(self, space: SpaceId, contents: Sequence[Content], *, share: Share) -> list[bytes]:
        """All bytes of several contents that hold their manifests themselves, for which the caller has room.

        What lies together is fetched together.
        """
        manifests = [_checked(content.manifest, content) for content in contents]
        found: dict[tuple[Digest, int, int], bytes] = {}
        limit = asyncio.Semaphore(_FETCHES_AHEAD)

        async def read(fetch: ObjectRange) -> None:
            async with limit, self._memory.pool(fetch.length).lent(fetch.length, share, patience=None):
                data = b"".join(await self._fetch(space, fetch))
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

    async def _fetch(self, space: SpaceId, fetch: ObjectRange) -> Sequence[memoryview]:
        parts = await self._objects.read(space, fetch.object, offset=fetch.offset, length=fetch.length)
        if fetch.length <= _INLINE_HASH_BYTES:
            damaged = _damaged(parts, fetch)
        else:
            damaged = await asyncio.to_thread(_damaged, parts, fetch)
        if damaged is not None:
            raise ObjectUnreadable(f"block {damaged.hex()} in object {fetch.object.hex()} holds other bytes")
        return parts


@dataclass(slots=True)
class _Held:
    """A manifest that somebody uses, or that is being read."""

    reading: asyncio.Task[tuple[Manifest, int]]
    share: Share
    """The share on whose account the memory is held."""
    users: int = 0


@dataclass(slots=True)
class _Fetching:
    """A fetch under way, and how many bytes of the pool it has."""

    fetch: ObjectRange
    reading: asyncio.Task[Sequence[memoryview]] | None
    taken: int


def _parsed(raw: bytes, digest: Digest, content: Content) -> Manifest:
    """A manifest from its object, in as few bytes as its columns need: tuples of numbers take several times as many."""
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
    """The first whole block that is not what its digest says. `pieces` lie one after the other."""
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
