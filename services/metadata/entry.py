"""The entries of a journal, and the projection that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from runtime.turns import slices
from syncline.model.identifiers import NodeId, RequestId
from syncline.model.tree import Change, Node, Result
from syncline.model.verdicts import Verdict

NameKey = tuple[NodeId, str]
"""A directory and the name of one of its children."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The outcome of one request of which at least one mutation was accepted: the caller, the time, and the result of
    each mutation in order.
    """

    request: RequestId
    fingerprint: bytes
    user: str
    device: str
    at_ms: int
    results: tuple[Result, ...]

    def accepted(self) -> Iterator[Result]:
        return (result for result in self.results if result.verdict is Verdict.ACCEPTED)


@dataclass(frozen=True, slots=True)
class Position:
    """A point in a journal: directly after entry `seq`. `mark` has 8 bytes, which distinguish this entry from any other
    entry with the same number. Two entries have the same number if the table was restored from a backup, and other
    changes were made after that.
    """

    seq: int
    mark: bytes


BEGINNING = Position(0, bytes(8))


def position_after(seq: int, append_id: bytes) -> Position:
    """Return the position directly after entry `seq`. `append_id` is that of the entry, has at least 8 bytes, and
    distinguishes the entry from any other.
    """
    return Position(seq, append_id[:8])


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One journal entry: the changes of one or many requests, at sequence number `seq`."""

    seq: int
    append_id: bytes
    commits: tuple[Commit, ...]
    used_bytes: int
    nodes: int | None = None
    """The number of the space's nodes after the entry, including deleted ones; None for entries written before nodes
    were counted.
    """
    journal_bytes: int | None = None
    """The size of the stored forms of this entry and of all entries before it, in bytes. Entries that were written
    before these bytes were counted are left out. None if this entry itself is such an entry.
    """

    @property
    def position(self) -> Position:
        """Position directly after this entry."""
        return position_after(self.seq, self.append_id)

    def accepted(self) -> Iterator[Result]:
        for commit in self.commits:
            yield from commit.accepted()

    def created(self) -> int:
        """Return the number of nodes that the entry creates."""
        return created(self.commits)


def created(commits: Iterable[Commit]) -> int:
    """Return the number of nodes that these commits create."""
    return sum(result.change is Change.CREATED for commit in commits for result in commit.accepted())


@dataclass(frozen=True, slots=True)
class ChangePlace:
    """The position of one change in a journal: the sequence number of its entry, and the index of the change in the
    entry, from 0.
    """

    seq: int
    index: int


@dataclass(frozen=True, slots=True)
class Activity:
    """One change to one node: the accepted result, the user and device that made the change, and its time (milliseconds
    since 1970).
    """

    place: ChangePlace
    result: Result
    user: str
    device: str
    at_ms: int


def name_changes(result: Result) -> Iterator[tuple[NameKey, NodeId | None]]:
    """Yield the changes of names in directories that an accepted result causes, in order: each name, and the node that
    has it now, or None if the name is free.
    """
    node = result.node
    assert node is not None, "an accepted result carries its node"
    if result.moved_from:
        yield result.moved_from, None
    yield (node.parent, node.name), None if node.deleted_at_ms else node.id


@dataclass(slots=True)
class Projection:
    """The net effect of consecutive entries on the table: the last state of each item that the entries change, with the
    sequence number of the entry that set it. Each item is written once, however often the entries change it.
    """

    used_bytes: int = 0
    nodes: dict[NodeId, Node] = field(default_factory=dict)
    names: dict[NameKey, tuple[NodeId | None, int]] = field(default_factory=dict)
    superseded: list[Node] = field(default_factory=list)
    """Node states whose version a later entry of the projected range superseded."""
    updated: set[NodeId] = field(default_factory=set)
    """Ids of the files whose current version in the table is superseded by the entries; the state that the table has of
    each becomes a VERSION item.
    """
    trash: dict[NodeId, tuple[bool, int]] = field(default_factory=dict)
    requests: dict[RequestId, int] = field(default_factory=dict)

    def add(self, result: Result, seq: int) -> None:
        """Add an accepted result of entry `seq`; results must be added in the order of the journal."""
        node = result.node
        assert node is not None, "an accepted result carries its node"
        for key, holder in name_changes(result):
            self.names[key] = (holder, seq)
        before = self.nodes.get(node.id)
        if result.change is Change.UPDATED:
            if before is None:
                self.updated.add(node.id)
            else:
                self.superseded.append(before)
        elif result.change in {Change.DELETED, Change.RESTORED}:
            self.trash[node.id] = (result.change is Change.DELETED, seq)
        self.nodes[node.id] = node


async def fold(entries: Sequence[JournalEntry], *, account: str) -> Projection:
    """Return the projection of consecutive entries. The work is done in slices, each in a turn that is charged to
    `account`, the name of a person or a space.
    """
    projection = Projection(entries[-1].used_bytes)
    for entry in entries:
        for commit in entry.commits:
            projection.requests[commit.request] = entry.seq
            async for some in slices(tuple(commit.accepted()), account):
                for result in some:
                    projection.add(result, entry.seq)
    return projection


def replay(entries: Iterable[JournalEntry]) -> dict[NodeId, Node]:
    """Return the states of all nodes after `entries`, by id; these entries which start at the beginning of the journal.
    The results of all other reads must agree with this result.
    """
    nodes: dict[NodeId, Node] = {}
    for entry in entries:
        for result in entry.accepted():
            assert result.node is not None
            nodes[result.node.id] = result.node
    return nodes
