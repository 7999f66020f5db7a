"""The ports of the domain. Each docstring states the obligations of an adapter; `tests/contract` checks them."""

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

MAX_READ_BACK_BYTES: Final = 1_000_000
"""Number of bytes of entries after which one call that reads the journal backwards ends, which is the size of one
DynamoDB page.
"""
MAX_SEALED_ENTRIES: Final = 9000
"""Maximum number of proven blocks that are recorded for one object: the capacity of a DynamoDB item, more than two full
packs.
"""
MAX_PROJECTION_WRITES: Final = 2
"""Maximum number of concurrent projection writes of one process; the default of its setting."""
NO_REMOVALS: Final[Mapping[Digest, int]] = MappingProxyType({})
assert 2 * MAX_PACK_ENTRIES <= MAX_SEALED_ENTRIES


class EntryTaken(Exception):
    """The journal already has an entry with this sequence number. `blob` has the bytes of the stored entry."""

    def __init__(self, blob: bytes) -> None:
        super().__init__("entry taken")
        self.blob = blob


class Journal(Protocol):
    """The total order of all changes in a space: entries with consecutive sequence numbers, which are only appended.
    All other data of the space is derived from it.
    """

    async def append(self, space: SpaceId, seq: int, blob: bytes) -> None:
        """Store `blob`, of at most 390,000 bytes, as the entry with the sequence number `seq`, which must be one more
        than the head that the caller knows. Atomic and durable on return.

        Raise EntryTaken, with the stored bytes, if the entry exists already. After another error the entry may or may
        not be stored; if it is stored, a retry finds its own bytes in EntryTaken.
        """

    async def read(self, space: SpaceId, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Return up to `limit` entries of a space with sequence numbers above `after`, each with its sequence number,
        in ascending order without a gap. The result includes every entry that was appended before the call.
        """

    async def before(self, space: SpaceId, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Return up to `limit` entries of a space with sequence numbers below `seq`, each with its sequence number, in
        descending order without a gap. The result includes every entry that was appended before the call.

        The result is shorter if the entries are large: it ends with the entry at which the total reaches
        MAX_READ_BACK_BYTES.
        """


@dataclass(frozen=True, slots=True)
class ProjectionState:
    """The sequence numbers up to which the journal of a space is projected and announced, and totals of the projection.
    All values are zero for a space without changes.
    """

    projected_seq: int = 0
    announced_seq: int = 0
    used_bytes: int = 0
    """Bytes that the versions of the space use after entry `projected_seq`."""
    marks: Mapping[str, int] = field(default_factory=dict)
    """The end of the lease of each process that may have appended entries which are not projected or announced yet, in
    milliseconds since 1970, by the name of the process. Such a lease is called a dirty mark.
    """
    nodes: int | None = None
    """Number of nodes after entry `projected_seq`, including deleted ones; None if the table does not hold the number.
    """


@dataclass(slots=True)
class Rows:
    """The values that the table holds for some keys. Keys that the table does not hold are absent."""

    nodes: dict[NodeId, Node] = field(default_factory=dict)
    names: dict[NameKey, tuple[NodeId | None, int]] = field(default_factory=dict)
    """By the name in a directory, the node that has the name (None if the name was used and is free), and the sequence
    number of the entry that set this value.
    """
    requests: dict[RequestId, int] = field(default_factory=dict)
    more: bool = False
    """True if the directory has names after the last one of these rows."""

    @property
    def newest(self) -> int:
        """The highest sequence number of an entry that set one of these rows; 0 if there are no rows."""
        return max(
            max((node.seq for node in self.nodes.values()), default=0),
            max((seq for _, seq in self.names.values()), default=0),
            max(self.requests.values(), default=0),
        )


class TreeTable(Protocol):
    """The table of the projection: the tree of each space, derived from the journal. Reads are consistent: they include
    every write that ended before.
    """

    async def state(self, space: SpaceId) -> ProjectionState: ...

    async def rows(
        self,
        space: SpaceId,
        *,
        nodes: Collection[NodeId] = (),
        names: Collection[NameKey] = (),
        requests: Collection[RequestId] = (),
    ) -> Rows:
        """Return the values that are stored under these ids of nodes, names in directories, and request ids. They are
        read in batches, so that the result is not a snapshot: a concurrent `project` may show in some of the values
        only.
        """

    async def list_names(self, space: SpaceId, parent: NodeId, *, after: str, limit: int) -> Rows:
        """Return up to `limit` names of the directory `parent` that are greater than `after`, in UTF-8 order. Names
        that were used and are free are included.
        """

    async def versions(self, space: SpaceId, node: NodeId, *, before: int, limit: int) -> Sequence[Version]:
        """Return up to `limit` superseded versions of a file with a number below `before`, in descending order of their
        numbers.
        """

    async def trash(self, space: SpaceId, *, after: NodeId | None, limit: int) -> Sequence[tuple[NodeId, bool, int]]:
        """Return up to `limit` rows about nodes that are or were in the trash, in ascending order of their ids. Each
        row has the id of a node, True if the node is in the trash now, and the sequence number of the entry that set
        this value.

        The first row is the first after the id `after`; None begins with the first of all. The last id of a full page
        is `after` of the next page.
        """

    async def project(self, space: SpaceId, projection: Projection) -> None:
        """Write the items of the projection. An item replaces only an item of an older entry, and superseded versions
        are written before the nodes that supersede them.

        Idempotent; overlapping projections in any order leave each item as its latest entry set it.
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
        """Advance the stored sequence numbers to `projected_seq` and `announced_seq`, and remove the dirty marks
        `unmark`. A stored number that is greater already stays.

        `used_bytes` and `nodes` (None if not known) are the totals after entry `projected_seq`. `unmark` has the end of
        the lease of each mark by the name of its process; a mark that was renewed in the meantime stays. After the
        removal of the last mark, `stale` does not return the space any more.
        """

    async def mark_dirty(self, space: SpaceId, process: str, lease_until_ms: int) -> None:
        """Record that `process` is about to append entries to a space: set or renew its dirty mark, a lease until
        `lease_until_ms`, in milliseconds since 1970. Durable on return.
        """

    async def stale(self, now_ms: int, limit: int) -> Sequence[SpaceId]:
        """Return up to `limit` spaces that have dirty marks, all of which ended before `now_ms`, in milliseconds since
        1970. The processes that set these marks have stopped before they projected and announced all entries. The
        result may lag by seconds.
        """


@dataclass(frozen=True, slots=True)
class Sealed:
    """The facts that are proven about one object in S3. An object can be a block, a pack and a manifest at once.

    - `size` is the size of the object in bytes. The digest of its bytes is its name, so that the whole object is always
      a proven block.
    - `offsets`, `lengths` and `blocks` (digests of 32 bytes each, one after the other) are the proven blocks within the
      object, ascending by offset, then by length. Blocks of different packs over the same bytes may overlap.
    - `content_size` is the size in bytes of the described content if the object is proven to be a serialised manifest,
      otherwise None.
    """

    size: int
    offsets: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    blocks: bytes = b""
    content_size: int | None = None

    def block(self, offset: int, length: int) -> bytes | None:
        """Return the digest of the proven block at this offset with this length, both in bytes; None if no such block
        is proven.
        """
        first = bisect_left(self.offsets, offset)
        at = bisect_left(self.lengths, length, first, bisect_right(self.offsets, offset, first))
        if at == len(self.offsets) or (self.offsets[at], self.lengths[at]) != (offset, length):
            return None
        return self.blocks[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES]

    def proves(self, other: Sealed) -> bool:
        """Return True if these facts include all facts that `other` states about the object."""
        return (
            self.size == other.size
            and (other.content_size is None or other.content_size == self.content_size)
            and all(self.block(*where) == digest for where, digest in other._entries().items())
        )

    def with_all_of(self, other: Sealed) -> Sealed:
        """Return the union of the facts of this value and of `other`. If that is more than MAX_SEALED_ENTRIES blocks,
        the blocks of `other` take precedence.
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
    """The record of the last removal of an object that is not sealed.

    `number` counts the removals of this object, from 1. `until_ms` is the time at which the removal has certainly
    ended, in milliseconds since 1970; 0 once the removal is known to have ended.
    """

    number: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """The records of an index about some objects: the facts about each sealed object, and the last removal of each
    unsealed one, by digest.
    """

    sealed: Mapping[Digest, Sealed]
    removals: Mapping[Digest, Removal]


class ObjectIndex(Protocol):
    """Index of the proven objects of a space, with the facts proven about each.

    An object that is not sealed may be removed, and a removal must never hit a sealed object. A removal is therefore
    recorded here before it begins, and recording fails if the object is sealed. Sealing reads this index before it asks
    storage, and its result is recorded only if no removal was in progress or has begun since.
    """

    async def look(self, space: SpaceId, objects: Collection[Digest]) -> Recorded:
        """Return the records about `objects`: the facts about the sealed ones, and the last removal of the others.
        Objects without a record are missing. The read is consistent.
        """

    async def sealed(self, space: SpaceId, objects: Collection[Digest]) -> Mapping[Digest, Sealed]:
        """Return the proven facts about each of `objects` that is sealed, by digest. The read is consistent."""

    async def known(self, space: SpaceId, objects: Collection[Digest]) -> set[Digest]:
        """Return those of `objects` that are sealed, without the facts proven of them. The read is consistent."""

    async def seal(
        self, space: SpaceId, objects: Mapping[Digest, Sealed], *, after: Mapping[Digest, int] = NO_REMOVALS
    ) -> set[Digest]:
        """Record that objects are sealed, with the facts that are proven about each, in addition to the facts that are
        recorded already (`Sealed.with_all_of`). Idempotent and safe under concurrency.

        `after` has the number of the last removal of each object, as `look` returned it before the objects were proven;
        an object without a removal is missing there. If another removal of an object has begun since, nothing is
        recorded about this object. Return the set of these objects; it is empty if all were recorded.
        """

    async def begin_removal(self, space: SpaceId, digest: Digest, *, now_ms: int, until_ms: int) -> int | None:
        """Record that a removal of an object is about to begin, and return the number of the removal. The removal has
        certainly ended at `until_ms`; `now_ms` is the present time. Both are milliseconds since 1970.

        Record nothing and return None if the object is sealed, or if another removal may be in progress.
        """

    async def end_removal(self, space: SpaceId, digest: Digest, number: int) -> None:
        """Record that the removal with this number has ended: no request for it is in flight. Do nothing if another
        removal of the object has begun.
        """


class Barrier(Enum):
    """The reason that some readers cannot read a stored object."""

    KEY = auto()
    """The object is encrypted with a key that the services do not have. No readable object has the same etag."""
    ARCHIVE = auto()
    """The object is archived. A readable object with the same bytes has the same etag."""
    HEADERS = auto()
    """The object has headers that none of our clients sets, such as a content encoding, with which some clients could
    not read it. A readable object with the same bytes has the same etag.
    """


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The metadata of an object in S3.

    - `size` is its size in bytes.
    - `sha256` is the SHA-256 that S3 computed at upload; None if S3 has no checksum of the whole object.
    - `etag` distinguishes these bytes from any others that are stored under the same key. Two objects with the same
      bytes have different etags only if one of them has Barrier.KEY.
    - `barrier` is the reason that the object cannot be read; None if it can be read.
    """

    size: int
    sha256: Digest | None
    etag: str = field(default="", compare=False)
    barrier: Barrier | None = None


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing of S3.

    `name` is its key without the prefix of the space, and `digest` is the same as bytes; None if the name is not a
    digest in hexadecimal. `size` is in bytes, and `modified_at_ms` in milliseconds since 1970.
    """

    name: str
    digest: Digest | None
    size: int
    modified_at_ms: int
    etag: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of the listing of a space's objects in S3, in the order of their names. `after` is the name after which
    the next page begins; empty on the last page.
    """

    objects: Sequence[ListedObject]
    after: str


@dataclass(frozen=True, slots=True)
class Deletion:
    """The outcome of removing an object by one request. `removed` is True if the object was removed. `is_over` is True
    if one request was sent and S3 has answered it, so that no request can take effect later.
    """

    removed: bool
    is_over: bool


class ObjectStorage(Protocol):
    """The objects of spaces in S3: they are read to be proven, and removed if their bytes do not match their key."""

    async def list(self, space: SpaceId, *, after: str = "") -> Listing:
        """Return up to 1,000 objects of the space with names greater than `after`, in the order of their names. The
        listing is consistent.
        """

    async def describe(self, space: SpaceId, digest: Digest) -> StoredObject | None:
        """Return the metadata of an object; None if the object is not in this space."""

    async def read(self, space: SpaceId, digest: Digest) -> bytes | None:
        """Return all bytes of an object, at most MAX_OBJECT_BYTES; None if the object is not in this space, or is
        archived.
        """

    async def remove(self, space: SpaceId, digest: Digest, *, etag: str) -> bool:
        """Remove the object if it has this etag, and leave any other object in place. Return True if the object was
        removed.
        """

    async def remove_once(self, space: SpaceId, name: str, *, etag: str) -> Deletion:
        """Remove the object with this name, as a listing returned it, if it has this etag. The request is sent once and
        never repeated, so that the result tells the caller if the request can still take effect.
        """


@dataclass(frozen=True, slots=True)
class Measure:
    """The result of one measurement of the objects in S3 of a space.

    - `stored_bytes` is the size of all objects. `unsealed_bytes` and `unsealed_objects` count those that no version can
      name yet.
    - `refused` is True if further uploads were refused after this measurement.
    - `at_ms` is the time of the measurement, and the space is not measured again before `next_at_ms`.
    - `since_ms` is the beginning of the time in which each measurement was taken at most a day after it was due.

    Times are milliseconds since 1970.
    """

    unsealed_bytes: int = 0
    unsealed_objects: int = 0
    stored_bytes: int = 0
    refused: bool = False
    since_ms: int = 0
    at_ms: int = 0
    next_at_ms: int = 0


class MeasureTable(Protocol):
    """Table of the last measurement of the objects of each space, and of the time at which the space is to be measured
    next. All times are milliseconds since 1970.
    """

    async def schedule(self, spaces: Collection[SpaceId], now_ms: int) -> None:
        """Schedule a measurement of the objects in S3 of each of these spaces: at `now_ms`, or at the `next_at_ms` of
        the last measurement if that is later. A space that is already scheduled keeps its time.
        """

    async def due(self, now_ms: int, limit: int) -> Sequence[tuple[SpaceId, int]]:
        """Return up to `limit` spaces that are to be measured at `now_ms` or before, each with the time for which it is
        scheduled, the earliest first. The result may lag by seconds.
        """

    async def claim(self, space: SpaceId, *, since_ms: int, until_ms: int) -> bool:
        """Claim the measurement of a space that is scheduled for `since_ms`: postpone it to `until_ms`, and return
        True. If the measurement is scheduled for another time, or is not scheduled any more, another process has
        claimed it; change nothing and return False then.
        """

    async def save(self, space: SpaceId, measure: Measure, *, lease_ms: int, due_ms: int | None) -> bool:
        """Save a measurement of a space, which the caller has claimed until `lease_ms`, and return True. Save nothing
        and return False if another process has claimed the space since.

        The next measurement is scheduled for `due_ms`; None schedules no measurement.
        """

    async def measure(self, space: SpaceId) -> Measure:
        """Return the last measurement of a space; all values are zero for a space that was never measured."""


class Topic(Protocol):
    """The SNS topic on which changes are announced."""

    async def publish(self, space: SpaceId, event: str) -> None:
        """Deliver `event` (JSON, at most 200,000 bytes) to all subscribers at least once."""
