"""Every port of the domain in memory: what the contract tests hold against the real adapters."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from services.metadata.entry import NameKey, Projection
from services.metadata.ports import (
    MAX_READ_BACK_BYTES,
    NO_REMOVALS,
    Barrier,
    Deletion,
    EntryTaken,
    ListedObject,
    Listing,
    Measure,
    ProjectionState,
    Recorded,
    Removal,
    Rows,
    Sealed,
    StoredObject,
)
from services.metadata.reserving import ReservedBytes
from services.metadata.tree.view import version_of
from syncline.model.blocks import MAX_OBJECT_BYTES, Digest
from syncline.model.identifiers import NodeId, RequestId, SpaceId
from syncline.model.tree import Node, Version

_LISTED = 1_000
"""Objects on a page of a listing."""


async def _no_pause() -> None:
    pass


async def still_allowed() -> None:
    """The answer to a commit that asks whether its caller may still make it."""


class MemoryJournal:
    """`pause` is awaited before and after each effect: tests interleave and crash there."""

    def __init__(self, pause: Callable[[], Awaitable[None]] = _no_pause) -> None:
        self.entries: dict[SpaceId, list[bytes]] = defaultdict(list)
        self._pause = pause

    async def append(self, space: SpaceId, seq: int, blob: bytes) -> None:
        await self._pause()
        entries = self.entries[space]
        if seq <= len(entries):
            taken = entries[seq - 1]
            await self._pause()
            raise EntryTaken(taken)
        if seq != len(entries) + 1:
            raise AssertionError(f"append of {seq} after {len(entries)} would leave a gap")
        entries.append(blob)
        await self._pause()

    async def read(self, space: SpaceId, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        await self._pause()
        entries = self.entries[space][after : after + limit]
        await self._pause()
        return [(after + 1 + i, blob) for i, blob in enumerate(entries)]

    async def before(self, space: SpaceId, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        await self._pause()
        newest = min(seq - 1, len(self.entries[space]))
        found: list[tuple[int, bytes]] = []
        size = 0
        for number in range(newest, max(newest - limit, 0), -1):
            found.append((number, self.entries[space][number - 1]))
            size += len(found[-1][1])
            if size >= MAX_READ_BACK_BYTES:
                break
        await self._pause()
        return found


class MemoryTable:
    """Tables in memory, as MemoryJournal is a journal. `project` pauses between items, since the real one writes
    them independently.
    """

    def __init__(self, pause: Callable[[], Awaitable[None]] = _no_pause) -> None:
        self.nodes: dict[tuple[SpaceId, NodeId], Node] = {}
        self.names: dict[tuple[SpaceId, NameKey], tuple[NodeId | None, int]] = {}
        self.stored_versions: dict[tuple[SpaceId, NodeId, int], Version] = {}
        self.trashed: dict[tuple[SpaceId, NodeId], tuple[bool, int]] = {}
        self.requests: dict[tuple[SpaceId, RequestId], int] = {}
        self.states: dict[SpaceId, ProjectionState] = {}
        self._pause = pause

    async def state(self, space: SpaceId) -> ProjectionState:
        await self._pause()
        state = self.states.get(space, ProjectionState())
        await self._pause()
        return state

    async def rows(
        self,
        space: SpaceId,
        *,
        nodes: Collection[NodeId] = (),
        names: Collection[NameKey] = (),
        requests: Collection[RequestId] = (),
    ) -> Rows:
        rows = Rows()
        for node in nodes:
            await self._pause()
            if (space, node) in self.nodes:
                rows.nodes[node] = self.nodes[space, node]
        for key in names:
            await self._pause()
            if (space, key) in self.names:
                rows.names[key] = self.names[space, key]
        for request in requests:
            await self._pause()
            if (space, request) in self.requests:
                rows.requests[request] = self.requests[space, request]
        await self._pause()
        return rows

    async def list_names(self, space: SpaceId, parent: NodeId, *, after: str, limit: int) -> Rows:
        await self._pause()
        held = sorted(
            (
                (key, value)
                for (owner, key), value in self.names.items()
                if owner == space and key[0] == parent and key[1].encode() > after.encode()
            ),
            key=lambda item: item[0][1].encode(),
        )
        await self._pause()
        return Rows(names=dict(held[:limit]), more=len(held) > limit)

    async def versions(self, space: SpaceId, node: NodeId, *, before: int, limit: int) -> Sequence[Version]:
        await self._pause()
        found = [
            version
            for (owner, one, number), version in self.stored_versions.items()
            if owner == space and one == node and number < before
        ]
        await self._pause()
        return sorted(found, key=lambda version: -version.number)[:limit]

    async def trash(self, space: SpaceId, *, after: NodeId | None, limit: int) -> Sequence[tuple[NodeId, bool, int]]:
        await self._pause()
        found = sorted(
            (node, deleted, seq)
            for (owner, node), (deleted, seq) in self.trashed.items()
            if owner == space and (after is None or node > after)
        )
        await self._pause()
        return found[:limit]

    async def project(self, space: SpaceId, projection: Projection) -> None:
        for node_id in projection.updated:
            await self._pause()
            before = self.nodes.get((space, node_id))
            if before and before.version < projection.nodes[node_id].version:
                self.stored_versions[space, node_id, before.version] = version_of(before)
        for node in projection.superseded:
            await self._pause()
            self.stored_versions[space, node.id, node.version] = version_of(node)
        for node in projection.nodes.values():
            await self._pause()
            stored = self.nodes.get((space, node.id))
            if stored is None or stored.seq < node.seq:
                self.nodes[space, node.id] = node
        for key, value in projection.names.items():
            await self._pause()
            if self.names.get((space, key), (None, 0))[1] < value[1]:
                self.names[space, key] = value
        for trashed, (deleted, seq) in projection.trash.items():
            await self._pause()
            if self.trashed.get((space, trashed), (False, 0))[1] < seq:
                self.trashed[space, trashed] = (deleted, seq)
        for request, seq in projection.requests.items():
            await self._pause()
            self.requests[space, request] = seq
        await self._pause()

    async def save_progress(
        self,
        space: SpaceId,
        *,
        projected_seq: int,
        announced_seq: int,
        used_bytes: int,
        unmark: Mapping[str, int],
        nodes: int | None = None,
    ) -> None:
        await self._pause()
        state = self.states.get(space, ProjectionState())
        marks = {process: until for process, until in state.marks.items() if unmark.get(process) != until}
        self.states[space] = ProjectionState(
            projected_seq=max(state.projected_seq, projected_seq),
            announced_seq=max(state.announced_seq, announced_seq),
            used_bytes=used_bytes if projected_seq >= state.projected_seq else state.used_bytes,
            marks=marks,
            nodes=state.nodes if (projected_seq, nodes is not None) < (state.projected_seq, True) else nodes,
        )
        await self._pause()

    async def mark_dirty(self, space: SpaceId, process: str, lease_until_ms: int) -> None:
        await self._pause()
        state = self.states.get(space, ProjectionState())
        self.states[space] = replace(state, marks={**state.marks, process: lease_until_ms})
        await self._pause()

    async def stale(self, now_ms: int, limit: int) -> Sequence[SpaceId]:
        await self._pause()
        found = [space for space, state in self.states.items() if state.marks and max(state.marks.values()) < now_ms]
        return found[:limit]


class MemoryMeasures:
    """A measure table in memory."""

    def __init__(self) -> None:
        self.measures: dict[SpaceId, Measure] = {}
        self.scheduled: dict[SpaceId, int] = {}

    async def schedule(self, spaces: Collection[SpaceId], now_ms: int) -> None:
        for space in spaces:
            last = self.measures.get(space, Measure())
            self.scheduled.setdefault(space, max(now_ms, last.next_at_ms))

    async def due(self, now_ms: int, limit: int) -> Sequence[tuple[SpaceId, int]]:
        found = [(space, at) for space, at in self.scheduled.items() if at <= now_ms]
        return sorted(found, key=lambda due: due[1])[:limit]

    async def claim(self, space: SpaceId, *, since_ms: int, until_ms: int) -> bool:
        if self.scheduled.get(space) != since_ms:
            return False
        self.scheduled[space] = until_ms
        return True

    async def save(self, space: SpaceId, measure: Measure, *, lease_ms: int, due_ms: int | None) -> bool:
        if self.scheduled.get(space) != lease_ms:
            return False
        self.measures[space] = measure
        del self.scheduled[space]
        if due_ms is not None:
            self.scheduled[space] = due_ms
        return True

    async def measure(self, space: SpaceId) -> Measure:
        return self.measures.get(space, Measure())


class MemoryObjects:
    """Object index and storage. What is in `unchecked` was put without a SHA-256, what has a barrier cannot be read."""

    def __init__(self) -> None:
        self.index: dict[tuple[SpaceId, Digest], Sealed] = {}
        self.stored: dict[tuple[SpaceId, Digest], bytes] = {}
        self.removals: dict[tuple[SpaceId, Digest], Removal] = {}
        self.unchecked: set[tuple[SpaceId, Digest]] = set()
        self.barriers: dict[tuple[SpaceId, Digest], Barrier] = {}
        self.modified_at_ms: dict[tuple[SpaceId, Digest], int] = {}
        """Return the time when something was put, in ms since 1970; 0 for an object that is missing here."""
        self.misnamed: dict[tuple[SpaceId, str], bytes] = {}
        """Objects of which the name is no digest, all put at `misnamed_at_ms`."""
        self.misnamed_at_ms = 0

    async def look(self, space: SpaceId, objects: Collection[Digest]) -> Recorded:
        return Recorded(
            {digest: self.index[space, digest] for digest in objects if (space, digest) in self.index},
            {digest: self.removals[space, digest] for digest in objects if (space, digest) in self.removals},
        )

    async def sealed(self, space: SpaceId, objects: Collection[Digest]) -> Mapping[Digest, Sealed]:
        return (await self.look(space, objects)).sealed

    async def known(self, space: SpaceId, objects: Collection[Digest]) -> set[Digest]:
        return {digest for digest in objects if (space, digest) in self.index}

    async def seal(
        self, space: SpaceId, objects: Mapping[Digest, Sealed], *, after: Mapping[Digest, int] = NO_REMOVALS
    ) -> set[Digest]:
        lost: set[Digest] = set()
        for digest, sealed in objects.items():
            before = self.index.get((space, digest))
            removal = self.removals.get((space, digest))
            if before is None and (removal.number if removal else 0) != after.get(digest, 0):
                lost.add(digest)
                continue
            self.removals.pop((space, digest), None)
            self.index[space, digest] = before.with_all_of(sealed) if before else sealed
        return lost

    async def begin_removal(self, space: SpaceId, digest: Digest, *, now_ms: int, until_ms: int) -> int | None:
        last = self.removals.get((space, digest), Removal(0, 0))
        if (space, digest) in self.index or last.until_ms >= now_ms:
            return None
        self.removals[space, digest] = Removal(last.number + 1, until_ms)
        return last.number + 1

    async def end_removal(self, space: SpaceId, digest: Digest, number: int) -> None:
        last = self.removals.get((space, digest))
        if last is not None and last.number == number:
            self.removals[space, digest] = Removal(number, 0)

    async def list(self, space: SpaceId, *, after: str = "") -> Listing:
        found = [
            ListedObject(digest.hex(), digest, len(data), self.modified_at_ms.get((space, digest), 0), _etag(data))
            for (owner, digest), data in self.stored.items()
            if owner == space
        ]
        found += [
            ListedObject(name, None, len(data), self.misnamed_at_ms, _etag(data))
            for (owner, name), data in self.misnamed.items()
            if owner == space
        ]
        page = sorted((one for one in found if one.name > after), key=lambda one: one.name)
        return Listing(page[:_LISTED], page[_LISTED - 1].name if len(page) > _LISTED else "")

    async def describe(self, space: SpaceId, digest: Digest) -> StoredObject | None:
        data = self.stored.get((space, digest))
        if data is None:
            return None
        barrier = self.barriers.get((space, digest))
        is_unchecked = (space, digest) in self.unchecked or barrier is Barrier.KEY
        sha256 = None if is_unchecked else Digest(hashlib.sha256(data).digest())
        return StoredObject(len(data), sha256, _etag(data), barrier)

    async def read(self, space: SpaceId, digest: Digest) -> bytes | None:
        data = self.stored.get((space, digest))
        is_readable = self.barriers.get((space, digest)) in {None, Barrier.HEADERS}
        is_held = data is not None and len(data) <= MAX_OBJECT_BYTES and is_readable
        return data if is_held else None

    async def remove(self, space: SpaceId, digest: Digest, *, etag: str) -> bool:
        data = self.stored.get((space, digest))
        if data is None or _etag(data) != etag:
            return False
        del self.stored[space, digest]
        self.barriers.pop((space, digest), None)
        return True

    async def remove_once(self, space: SpaceId, name: str, *, etag: str) -> Deletion:
        if (space, name) not in self.misnamed:
            return Deletion(await self.remove(space, Digest(bytes.fromhex(name)), etag=etag), is_over=True)
        if _etag(self.misnamed[space, name]) != etag:
            return Deletion(removed=False, is_over=True)
        del self.misnamed[space, name]
        return Deletion(removed=True, is_over=True)


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class MemoryTopic:
    """Keeps what was published."""

    def __init__(self, pause: Callable[[], Awaitable[None]] = _no_pause) -> None:
        self.published: list[tuple[SpaceId, str]] = []
        self._pause = pause

    async def publish(self, space: SpaceId, event: str) -> None:
        await self._pause()
        self.published.append((space, event))
        await self._pause()


class FixedQuotas:
    """Reserving with one quota for each space, and nobody for whom spaces count. Like auth, it reserves somewhat more
    than is asked for, and never takes back what it has reserved.
    """

    def __init__(self, quota_bytes: int = 1 << 40, pause: Callable[[], Awaitable[None]] | None = None) -> None:
        """`pause` is awaited before each answer, so that others come first."""
        self.quota_bytes = quota_bytes
        self._pause = pause
        self.reserved: dict[SpaceId, int] = {}
        self.asked = 0
        """The number of times that `reserve` was called."""

    async def reserve(self, space: SpaceId, *, used_bytes: int, wanted_bytes: int) -> ReservedBytes:
        self.asked += 1
        if self._pause is not None:
            await self._pause()
        reserved = max(self.reserved.get(space, 0), used_bytes)
        if reserved < wanted_bytes <= self.quota_bytes:
            reserved = min(wanted_bytes + self.quota_bytes // 1024, self.quota_bytes)
        self.reserved[space] = reserved
        return ReservedBytes(min(reserved, self.quota_bytes), self.quota_bytes, self.quota_bytes)
