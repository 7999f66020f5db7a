"""The ports of the domain. Each docstring states what an adapter owes; `tests/contract` holds them to it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType
from typing import Final, Protocol

from services.metadata.entry import NameKey, Projection
from syncline.model.blocks import DIGEST_BYTES, MAX_PACK_ENTRIES, Digest
from syncline.model.identifiers import NodeId, RequestId, SpaceId
from syncline.model.tree import Node, Version

BYTES_READ_BACK: Final = 1_000_000
"""Bytes of entries after which one call that reads the journal backwards ends: as many as DynamoDB reads at once."""
MAX_SEALED_ENTRIES: Final = 9000
"""Blocks within one object that are kept as proven: what an item of DynamoDB holds, more than two full packs."""
PROJECTION_WRITES: Final = 2
"""Writes by which one process has the table follow the journals that are under way at once, if nothing else is set."""
NO_REMOVALS: Final[Mapping[Digest, int]] = MappingProxyType({})
assert 2 * MAX_PACK_ENTRIES <= MAX_SEALED_ENTRIES


class EntryTaken(Exception):
    """The journal has an entry of that number already. `blob` is that entry."""

    def __init__(self, blob: bytes) -> None:
        super().__init__("entry taken")
        self.blob = blob


class Journal(Protocol):
    """The total order of a space's changes: append-only, without a gap, the source of everything else."""

    async def append(self, space: SpaceId, seq: int, blob: bytes) -> None:
        """Store entry `seq` (head + 1 as the caller knows it), or raise EntryTaken with what is stored there.

        Atomic and durable on return. After an error other than EntryTaken the entry may or may not be stored; a
        retry then finds its own bytes in EntryTaken. At most 390,000 bytes.
        """

    async def read(self, space: SpaceId, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Up to `limit` entries after `after`, in order, without a gap. Consistent: none that was appended before."""

    async def before(self, space: SpaceId, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Up to `limit` entries before `seq`, newest first, without a gap. Consistent, as `read`.

        May end early: with the entry that makes it BYTES_READ_BACK or more.
        """


@dataclass(frozen=True, slots=True)
class ProjectionState:
    """The progress of projection and announcement. All values are zero for a space without changes."""

    projected_seq: int = 0
    announced_seq: int = 0
    used_bytes: int = 0
    """Bytes that the versions of the space use after entry `projected_seq`."""
    marks: Mapping[str, int] = field(default_factory=dict)
    """Dirty marks: process -> lease end, milliseconds since 1970."""
    nodes: int | None = None
    """Number of nodes after entry `projected_seq`, deleted ones too; None if the table does not say it."""


@dataclass(slots=True)
class Rows:
    """The values that the table holds for some keys. A key that the table does not hold is absent."""

    nodes: dict[NodeId, Node] = field(default_factory=dict)
    names: dict[NameKey, tuple[NodeId | None, int]] = field(default_factory=dict)
    """Holder (None: a tombstone) and the seq that said so."""
    requests: dict[RequestId, int] = field(default_factory=dict)
    more: bool = False
    """True if a listing goes on after its last name."""

    @property
    def newest(self) -> int:
        """The highest seq among the rows; 0 if there is none."""
        return max(
            max((node.seq for node in self.nodes.values()), default=0),
            max((seq for _, seq in self.names.values()), default=0),
            max(self.requests.values(), default=0),
        )


class TreeTable(Protocol):
    """The table that the journal is projected to. Reads are consistent: they see every write that ended before."""

    async def state(self, space: SpaceId) -> ProjectionState: ...

    async def rows(
        self,
        space: SpaceId,
        *,
        nodes: Collection[NodeId] = (),
        names: Collection[NameKey] = (),
        requests: Collection[RequestId] = (),
    ) -> Rows:
        """Return the values that are stored under these keys, read in batches; not a snapshot."""

    async def list_names(self, space: SpaceId, parent: NodeId, *, after: str, limit: int) -> Rows:
        """Up to `limit` names of a directory greater than `after` in UTF-8 order, tombstones included."""

    async def versions(self, space: SpaceId, node: NodeId, *, before: int, limit: int) -> Sequence[Version]:
        """Superseded versions with a number below `before`, newest first."""

    async def trash(self, space: SpaceId, *, after: NodeId | None, limit: int) -> Sequence[tuple[NodeId, bool, int]]:
        """Up to `limit` rows (id, whether it is in the trash, seq that said so) by id after `after`."""

    async def project(self, space: SpaceId, projection: Projection) -> None:
        """Write the projection's items, each only over an older seq; versions before the nodes that supersede them.

        Idempotent; overlapping projections in any order leave each item at its highest seq.
        """

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
        """Move projected_seq and announced_seq forward (never back) and remove the dirty marks `unmark`.

        `used_bytes` and `nodes` (None if not known) are as after entry `projected_seq`. A mark is removed only while
        its lease is the given one; when the last goes, the space leaves `stale`.
        """

    async def mark_dirty(self, space: SpaceId, process: str, lease_until_ms: int) -> None:
        """Set or renew a process's dirty mark. Durable on return."""

    async def stale(self, now_ms: int, limit: int) -> Sequence[SpaceId]:
        """Spaces whose latest dirty lease ended before `now_ms`; may lag by seconds."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """The proven facts about an object of `size` bytes. An object can be several things at once.

    Its bytes have the SHA-256 that it is named by, so the whole object is always a proven block. `offsets`,
    `lengths` and `blocks` (packed digests) are the proven blocks within it, ascending by offset, then by length;
    those of different packs over the same bytes may overlap. `content_size` is the size in bytes of the content that
    the object describes if it is proven to be a serialised manifest.
    """

    size: int
    offsets: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    blocks: bytes = b""
    content_size: int | None = None

    def block(self, offset: int, length: int) -> bytes | None:
        """The digest of the proven block that lies there within the object; None if none is."""
        first = bisect_left(self.offsets, offset)
        at = bisect_left(self.lengths, length, first, bisect_right(self.offsets, offset, first))
        if at == len(self.offsets) or (self.offsets[at], self.lengths[at]) != (offset, length):
            return None
        return self.blocks[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES]

    def proves(self, other: Sealed) -> bool:
        """Return True if this value states everything of the object that `other` states."""
        return (
            self.size == other.size
            and (other.content_size is None or other.content_size == self.content_size)
            and all(self.block(*where) == digest for where, digest in other._entries().items())
        )

    def with_all_of(self, other: Sealed) -> Sealed:
        """Return the facts of this value and of `other` together; of more than MAX_SEALED_ENTRIES blocks, all those
        of `other`.
        """
        if other.proves(self):
            return other
        entries = other._entries()
        room = MAX_SEALED_ENTRIES - len(entries)
        kept = [item for item in self._entries().items() if item[0] not in entries][:room]
        entries = dict(kept) | entries
        places = sorted(entries)
        return Sealed(
            self.size,
            tuple(offset for offset, _ in places),
            tuple(length for _, length in places),
            b"".join(entries[place] for place in places),
            self.content_size if other.content_size is None else other.content_size,
        )

    def _entries(self) -> dict[tuple[int, int], bytes]:
        digests = (self.blocks[at : at + DIGEST_BYTES] for at in range(0, len(self.blocks), DIGEST_BYTES))
        return dict(zip(zip(self.offsets, self.lengths, strict=True), digests, strict=True))


@dataclass(frozen=True, slots=True)
class Removal:
    """The record of a removal of an unsealed object.

    `number` counts the removals of this object, from 1. `until_ms` is when the removal has certainly ended, in
    milliseconds since 1970; it is 0 once the removal is known to have ended.
    """

    number: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """The records of an index about some objects: those that are sealed, and the removals of those that are not."""

    sealed: Mapping[Digest, Sealed]
    removals: Mapping[Digest, Removal]


class ObjectIndex(Protocol):
    """Index of the objects of a space that are proven, with the facts proven of each.

    An object that is not sealed may be removed, and no removal can hit what is sealed: it is recorded here before it
    begins, which fails if the object is sealed. Sealing looks here before it looks at storage, and records what it
    has proven only if no removal has begun since, and none was under way.
    """

    async def look(self, space: SpaceId, objects: Collection[Digest]) -> Recorded:
        """Return the records about `objects`. Consistent."""

    async def sealed(self, space: SpaceId, objects: Collection[Digest]) -> Mapping[Digest, Sealed]:
        """The sealed ones among `objects`. Consistent."""

    async def known(self, space: SpaceId, objects: Collection[Digest]) -> set[Digest]:
        """Return those of `objects` that are sealed, without the facts proven of them. Consistent."""

    async def seal(
        self, space: SpaceId, objects: Mapping[Digest, Sealed], *, after: Mapping[Digest, int] = NO_REMOVALS
    ) -> set[Digest]:
        """Add what is proven to what is recorded (`Sealed.with_all_of`). Idempotent, and right under concurrency.

        `after` are the numbers of the last removals, as `look` told before the objects were proven. Those of which
        another one has begun since are not recorded; these are returned.
        """

    async def begin_removal(self, space: SpaceId, digest: Digest, *, now_ms: int, until_ms: int) -> int | None:
        """Record that an object is about to be removed; the number of the removal.

        None, and nothing is recorded, if it is sealed, or another removal may be under way.
        """

    async def end_removal(self, space: SpaceId, digest: Digest, number: int) -> None:
        """Record that this removal is over: no request for it is on its way. Nothing if another one has begun."""


class Barrier(Enum):
    """The reason that the services cannot read an object that is stored."""

    KEY = auto()
    """The object is encrypted by a key that the services do not have. No bytes that they can read have its etag."""
    ARCHIVE = auto()
    """The object is archived. The same bytes, stored to be read, have the same etag."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The facts that storage tells about an object: its size in bytes, and the SHA-256 that storage itself computed
    when it was put.

    `sha256` is None if storage computed none of the whole object. `etag` tells these bytes from any others that are
    stored under the same key, but for those of Barrier.ARCHIVE. `barrier` is None if the object can be read.
    """

    size: int
    sha256: Digest | None
    etag: str = field(default="", compare=False)
    barrier: Barrier | None = None


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing of storage tells it, by its name within the space; `digest` is None if that is not one."""

    name: str
    digest: Digest | None
    size: int
    modified_at_ms: int
    etag: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a listing. `after` is what the next page begins after, empty for the last one."""

    objects: Sequence[ListedObject]
    after: str


@dataclass(frozen=True, slots=True)
class Deletion:
    """The outcome of removing an object.

    `is_over` is True if storage has answered the only request for it, so that none can take effect any more.
    """

    removed: bool
    is_over: bool


class ObjectStorage(Protocol):
    """The bytes of objects: read to prove them, and removed where they are not what their key says."""

    async def list(self, space: SpaceId, *, after: str = "") -> Listing:
        """Up to 1,000 objects of the space in the order of their names. Consistent."""

    async def head(self, space: SpaceId, digest: Digest) -> StoredObject | None:
        """None if the object is not in this space."""

    async def read(self, space: SpaceId, digest: Digest) -> bytes | None:
        """All bytes, at most MAX_OBJECT_BYTES; None if the object is not in this space, or archived."""

    async def remove(self, space: SpaceId, digest: Digest, *, etag: str) -> bool:
        """Remove the object if it has this etag; whatever else is there stays. True if the object was removed."""

    async def remove_once(self, space: SpaceId, name: str, *, etag: str) -> Deletion:
        """Remove an object as `remove` does, by any name that a listing told."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of the objects of a space, taken at `at_ms`, in milliseconds since 1970.

    `refused` is True if further uploads were refused then. Before `next_at_ms` the space is not measured again.
    Since `since_ms` the space has been measured without a gap of more than a day after a measure was due.
    """

    unsealed_bytes: int = 0
    unsealed_objects: int = 0
    stored_bytes: int = 0
    refused: bool = False
    since_ms: int = 0
    at_ms: int = 0
    next_at_ms: int = 0


class MeasureTable(Protocol):
    """Table of the measures of the objects of spaces, and of the spaces that are to be measured, with the time of
    each.
    """

    async def schedule(self, spaces: Collection[SpaceId], now_ms: int) -> None:
        """Have these measured: now, or when their last measure says. What is to be measured already stays so."""

    async def due(self, now_ms: int, limit: int) -> Sequence[tuple[SpaceId, int]]:
        """Spaces that are to be measured by now, the longest first, each with since when; may lag by seconds."""

    async def claim(self, space: SpaceId, *, since_ms: int, until_ms: int) -> bool:
        """Put a space off from `since_ms` to `until_ms`; False if somebody else has done so."""

    async def save(self, space: SpaceId, measure: Measure, *, lease_ms: int, due_ms: int | None) -> bool:
        """Keep a measure of a space that is put off to `lease_ms`; False, and nothing is kept, if it no longer is.

        The space is then to be measured again at `due_ms`, or is not for None.
        """

    async def measure(self, space: SpaceId) -> Measure:
        """The last measure; all zero for a space that was never measured."""


class Topic(Protocol):
    """The topic on which changes are announced."""

    async def publish(self, space: SpaceId, event: str) -> None:
        """Deliver `event` (JSON, at most 200,000 bytes) to all subscribers at least once."""
