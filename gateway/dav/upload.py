"""Upload of the content of a PUT to S3 with bounded memory. The content is cut into the same blocks as by a device.

An upload has one content, of which only the last block can be below MIN_BLOCK_BYTES. Nothing has to be packed: a device
would store that block in a pack of one block, and such a pack is the same object as the block by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from cachetools import LRUCache

from gateway.dav.bodies import Incoming, Step
from gateway.identity.caller import Caller
from gateway.ports import ObjectSink, WriteCredentials
from gateway.services.calls import Services, ask
from runtime.pool import Share
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import metadata_pb2
from syncline.model.blocks import (
    EMPTY_MANIFEST,
    KIB,
    MAX_BLOCK_BYTES,
    MAX_INLINE_BLOCKS,
    MAX_OBJECT_BYTES,
    MIB,
    MIN_BLOCK_BYTES,
    BlockRef,
    Digest,
    Manifest,
)
from syncline.model.chunking import Block, Chunker, digest_of
from syncline.model.errors import Kind, SynclineError
from syncline.model.identifiers import SpaceId
from syncline.wire.tree import PUT_AGAIN, manifest_to_wire

_STORING_BYTES: Final = 12 * MIB
MEMORY_BYTES: Final = 2 * MAX_BLOCK_BYTES + _STORING_BYTES
"""Maximum number of bytes that one upload holds in memory: the buffer in which the next block is cut, the blocks that
were cut, and the blocks that are being stored.
"""
FIRST_MEMORY_BYTES: Final = 256 * KIB
"""Memory in bytes that every upload gets at its start."""
FIRST_BYTES: Final = 128 * KIB
"""Maximum number of bytes that may be received before an upload needs more memory than FIRST_MEMORY_BYTES."""
_GROUP_BYTES: Final = 4 * MIB
"""Size in bytes up to which blocks are looked up, stored and sealed together."""
_RENEW_MS: Final = 5 * 60_000
_MAX_ATTEMPTS: Final = 3


class TooLarge(SynclineError):
    """The file is too large to be stored; split it."""

    reason = "FILE_TOO_LARGE"
    kind = Kind.INVALID


class NotSealed(SynclineError):
    """The service did not accept the stored objects; send the file again."""

    reason = "NOT_SEALED"
    kind = Kind.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Stored:
    """A content that was uploaded, whose objects are all sealed."""

    digest: Digest
    size: int
    manifest: Manifest
    manifest_object: bytes


def memory_of(length: int | None) -> int:
    """Return the number of bytes of memory that an upload of `length` bytes needs to receive and store the content at
    the same time; None stands for an unknown length.
    """
    return MEMORY_BYTES if length is None else min(2 * length + 256 * KIB, MEMORY_BYTES)


class Storing(Protocol):
    """Port by which objects are stored."""

    async def store(self, blocks: Sequence[Block], *, manifest: bool = False) -> None:
        """Store and seal the objects with these bytes; `manifest` is True if they are serialised manifests, and False
        for blocks.
        """


class SpaceStorage:
    """Finds, stores and seals objects of a space on behalf of one caller. Used on the event loop."""

    def __init__(
        self,
        services: Services,
        sink: ObjectSink,
        held: UploadCredentials,
        *,
        space: SpaceId,
        caller: Caller,
        share: Share,
    ) -> None:
        self._services = services
        self._sink = sink
        self._held = held
        self._space = space
        self._caller = caller
        self._share = share

    async def store(self, blocks: Sequence[Block], *, manifest: bool = False) -> None:
        wanted, token = list(blocks), await self._caller.fresh()
        # Putting a small object in vain is cheaper than looking it up first; a manifest has to be sealed as one in any
        # case.
        if not manifest and sum(len(block.data) for block in blocks) >= MIN_BLOCK_BYTES:
            request = metadata_pb2.FindMissingObjectsRequest(
                space_id=self._space, objects=b"".join(block.digest for block in blocks)
            )
            found = await ask(self._services.metadata.FindMissingObjects, request, token=token)
            wanted = [blocks[index] for index in found.missing]
        for _ in range(_MAX_ATTEMPTS):
            if not wanted:
                return
            wanted = await self._put_and_seal(wanted, token, manifest=manifest)
        raise NotSealed

    async def _put_and_seal(self, blocks: Sequence[Block], token: str, *, manifest: bool) -> list[Block]:
        """Store blocks, or, if `manifest`, serialised manifests, and have them sealed. `token` is an access token of
        the caller. Return those under whose key other bytes were stored; these bytes have been removed, so that the
        objects have to be stored again. Raise NotSealed if an object could not be sealed for another reason.
        """
        credentials = await self._held.get(self._services, self._space, token)
        async with asyncio.TaskGroup() as puts:
            for block in blocks:
                put = self._sink.put(
                    credentials, space=self._space, digest=block.digest, data=block.data, share=self._share
                )
                puts.create_task(put)
        objects = [metadata_pb2.ObjectDeclaration(sha256=block.digest, size=len(block.data)) for block in blocks]
        if manifest:
            for one in objects:
                one.manifest.SetInParent()
        answer = await ask(
            self._services.metadata.SealObjects,
            metadata_pb2.SealObjectsRequest(space_id=self._space, objects=objects),
            token=token,
        )
        refused = [i for i, verdict in enumerate(answer.verdicts) if verdict != metadata_pb2.SEAL_VERDICT_SEALED]
        if any(answer.verdicts[i] not in PUT_AGAIN for i in refused):
            raise NotSealed
        return [blocks[i] for i in refused]


class UploadCredentials:
    """Credentials to put objects, by caller and space, cached until shortly before they expire."""

    def __init__(self, *, now_ms: Callable[[], int], remembered: int = 1000) -> None:
        self._now_ms = now_ms
        self._issued: LRUCache[tuple[bytes, SpaceId], WriteCredentials] = LRUCache(remembered)

    async def get(self, services: Services, space: SpaceId, token: str) -> WriteCredentials:
        """Return credentials to put objects into `space` that are valid for some more minutes. `token` is an access
        token of the caller. Raise PermissionDenied if the caller may not write in the space, and NoSuchSpace if the
        caller has no grant.
        """
        name = (hashlib.sha256(token.encode()).digest(), space)
        held = self._issued.get(name)
        if held is None or held.expires_at_ms - _RENEW_MS < self._now_ms():
            request = auth_pb2.IssueCredentialsRequest(space_id=space, access=auth_pb2.ACCESS_WRITE)
            answer = await ask(services.auth.IssueCredentials, request, token=token)
            held = self._issued[name] = WriteCredentials(
                answer.access_key_id, answer.secret_access_key, answer.session_token, answer.expires_at_ms
            )
        return held


def upload(
    body: Incoming,
    seen: Callable[[memoryview], None],
    storage: Storing,
    loop: asyncio.AbstractEventLoop,
    *,
    inline: int = MAX_INLINE_BLOCKS,
) -> Generator[Step, None, Stored]:
    """Store and seal the content of `body`, and return it. Called in worker threads: the event loop awaits each `Step`
    that the generator yields, before a worker resumes the generator.

    `seen` is called with all bytes in order. A manifest of more than `inline` blocks is stored as an object of its own.

    - Raise TooLarge if the manifest exceeds the maximum size of an object.
    - Raise NotSealed if an object is not accepted.
    - Raise ClientGone if the body is incomplete.
    """
    refs: list[BlockRef] = []
    known: set[Digest] = set()
    group: list[Block] = []
    under_way: deque[tuple[int, Future[None]]] = deque()

    def start(size: int) -> Iterator[Step]:
        while under_way and sum(taken for taken, _ in under_way) + size > _STORING_BYTES:
            yield partial(asyncio.wrap_future, under_way.popleft()[1])
        under_way.append((size, asyncio.run_coroutine_threadsafe(storage.store(tuple(group)), loop)))
        group.clear()

    try:
        cut = Chunker().begin()
        gathered = 0
        while not cut.ended:
            before = len(cut.held)
            yield partial(body.fill, cut)
            seen(cut.held[before:])
            for block in cut.ready():
                refs.append(BlockRef(block.digest, len(block.data), block.digest, 0))
                if block.digest in known:
                    continue
                known.add(block.digest)
                group.append(block)
                gathered += len(block.data)
                if gathered >= _GROUP_BYTES:
                    yield from start(gathered)
                    gathered = 0
        if group:
            yield from start(gathered)
        while under_way:
            yield partial(asyncio.wrap_future, under_way.popleft()[1])
    finally:
        for _, storing in under_way:
            storing.cancel()
    manifest = Manifest.of(refs) if refs else EMPTY_MANIFEST
    if len(refs) <= inline:
        return Stored(cut.digest, cut.size, manifest, b"")
    data = manifest_to_wire(manifest).SerializeToString(deterministic=True)
    if len(data) > MAX_OBJECT_BYTES:
        raise TooLarge
    apart = Block(digest_of(data), data)
    yield partial(storage.store, [apart], manifest=True)
    return Stored(cut.digest, cut.size, EMPTY_MANIFEST, apart.digest)
