"""Assembles contents from objects, with bounded memory, and lets no whole block out that is not verified."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from core.blocks import KIB, Digest, Manifest
from core.errors import InvalidArgument
from core.identifiers import SpaceId
from core.tree import Content
from gateway.plan import Fetch, gather, plan
from gateway.ports import ObjectSource, ObjectUnreadable
from syncline.metadata.v1 import journal_pb2
from wire.tree import manifest_from_wire

_AHEAD: Final = 4
"""How many fetches are under way while the one before them goes out."""
_HASH_INLINE: Final = 64 * KIB


class Budget:
    """Bytes of memory that all downloads share. Whoever waits is served in order."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def taken(self) -> int:
        """What is in use."""
        return self._total - self._free

    @property
    def free(self) -> int:
        """What is left."""
        return self._free

    def try_take(self, size: int) -> bool:
        """Take it if it is there and nobody waits."""
        if self._waiting or size > self._free:
            return False
        self._free -= size
        return True

    async def take(self, size: int) -> None:
        """Take it, when it is there. `size` is at most the total."""
        if self.try_take(size):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._serve()
            raise

    def give(self, size: int) -> None:
        """Give it back."""
        self._free += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= size
                turn.set_result(None)


class Contents:
    """Reads contents. All methods raise Unavailable, and ObjectUnreadable for what must not be."""

    def __init__(self, objects: ObjectSource, budget: Budget) -> None:
        self._objects = objects
        self._budget = budget

    async def manifest(self, space: SpaceId, content: Content) -> Manifest:
        """The blocks of a content, whether they stand in it or in an object of their own."""
        manifest = content.manifest
        if content.manifest_object:
            digest = Digest(content.manifest_object)
            raw = await self._objects.read_all(space, digest)
            if hashlib.sha256(raw).digest() != digest:
                raise ObjectUnreadable(f"manifest {digest.hex()} holds other bytes")
            manifest = manifest_from_wire(journal_pb2.Manifest.FromString(raw))
        try:
            manifest.check()
        except (ValueError, InvalidArgument) as error:
            raise ObjectUnreadable(f"the manifest is malformed: {error}") from None
        if manifest.size != content.size:
            raise ObjectUnreadable(f"the manifest makes up {manifest.size} bytes, not {content.size}")
        return manifest

    async def stream(
        self, space: SpaceId, manifest: Manifest, start: int, stop: int
    ) -> AsyncGenerator[memoryview, None]:
        """The bytes [start, stop), in parts; close it if it is not read to its end."""
        fetches = plan(manifest, start, stop)
        following = next(fetches, None)
        under_way: deque[tuple[Fetch, asyncio.Task[Sequence[memoryview]]]] = deque()

        def begin(fetch: Fetch) -> Fetch | None:
            under_way.append((fetch, asyncio.create_task(self._fetch(space, fetch))))
            return next(fetches, None)

        try:
            while following is not None or under_way:
                if following is not None and not under_way:
                    await self._budget.take(following.length)
                    following = begin(following)
                # What is fetched ahead takes only what nobody else waits for: so each download gets on.
                while following is not None and len(under_way) <= _AHEAD and self._budget.try_take(following.length):
                    following = begin(following)
                for part in await under_way[0][1]:
                    yield part
                fetch, _ = under_way.popleft()
                self._budget.give(fetch.length)
        finally:
            for fetch, task in under_way:
                task.cancel()
                self._budget.give(fetch.length)
            await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)

    async def read_together(self, space: SpaceId, manifests: Sequence[Manifest]) -> list[bytes]:
        """All bytes of several contents, which the caller has room for. What lies together is fetched together."""
        found: dict[tuple[Digest, int, int], bytes] = {}
        limit = asyncio.Semaphore(_AHEAD)

        async def read(fetch: Fetch) -> None:
            async with limit:
                await self._budget.take(fetch.length)
                try:
                    data = b"".join(await self._fetch(space, fetch))
                finally:
                    self._budget.give(fetch.length)
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

    async def _fetch(self, space: SpaceId, fetch: Fetch) -> Sequence[memoryview]:
        parts = await self._objects.read(space, fetch.object, offset=fetch.offset, length=fetch.length)
        if fetch.length <= _HASH_INLINE:
            damaged = _damaged(parts, fetch)
        else:
            damaged = await asyncio.to_thread(_damaged, parts, fetch)
        if damaged is not None:
            raise ObjectUnreadable(f"block {damaged.hex()} in object {fetch.object.hex()} holds other bytes")
        return parts


def _damaged(parts: Sequence[memoryview], fetch: Fetch) -> Digest | None:
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
