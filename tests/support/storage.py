"""Objects in memory, for tests."""

from __future__ import annotations

import hashlib

from gateway.ports import ObjectTooLarge, ObjectUnreadable, WriteCredentials
from gateway.storage.segments import SEGMENT_BYTES
from runtime.pool import Share
from syncline.model.blocks import Digest
from syncline.model.identifiers import SpaceId


class InMemoryObjectSource:
    """ObjectSource in a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[tuple[SpaceId, bytes], bytes] = {}

    def put(self, space: SpaceId, data: bytes) -> Digest:
        """Store an object."""
        digest = Digest(hashlib.sha256(data).digest())
        self.objects[space, digest] = data
        return digest

    async def read(self, space: SpaceId, digest: Digest, *, offset: int, length: int, share: Share) -> list[memoryview]:
        data = self._object(space, digest)[offset : offset + length]
        if len(data) != length:
            raise ObjectUnreadable(f"object {digest.hex()} is too short")
        return [memoryview(data)[at : at + SEGMENT_BYTES] for at in range(0, length, SEGMENT_BYTES)]

    async def read_all(self, space: SpaceId, digest: Digest, *, most: int, share: Share) -> bytes:
        data = self._object(space, digest)
        if len(data) > most:
            raise ObjectTooLarge(f"object {digest.hex()} has more than {most} bytes")
        return data

    def _object(self, space: SpaceId, digest: Digest) -> bytes:
        try:
            return self.objects[space, digest]
        except KeyError:
            raise ObjectUnreadable(f"object {digest.hex()} is missing") from None


class InMemoryObjectSink:
    """ObjectSink that fills an InMemoryObjectSource."""

    def __init__(self, source: InMemoryObjectSource) -> None:
        self._source = source

    async def put(
        self, credentials: WriteCredentials, *, space: SpaceId, digest: Digest, data: bytes, share: Share
    ) -> None:
        assert self._source.put(space, data) == digest
