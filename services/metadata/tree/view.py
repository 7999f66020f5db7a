"""The part of a space's tree that this process has in memory (the view), and the rules that keep it correct.

A view has nodes and names as of journal entry `seq`. Two rules make it correct although the table lags:

* Entries after `floor` are pinned: the nodes and names that they changed stay in memory. The table has all entries up
  to `floor`, so a key that is not in memory is in the table as of `seq`.
* A row that the table returns with a seq greater than the view's shows that other processes have advanced. The view
  then first applies the new entries of the journal, and the keys that these entries changed take precedence over the
  row.

Every answer from a view requires a `validate` before it, which asks the journal for entry `seq + 1`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import TypeVar

from sortedcontainers import SortedSet

from services.metadata import metrics
from services.metadata.entry import BEGINNING, JournalEntry, NameKey, Position, name_changes
from services.metadata.ports import Journal, Rows, TreeTable
from services.metadata.tree.children import Children
from services.metadata.tree.decide import NotLoaded
from services.metadata.wire import entry_from_bytes, journal_bytes_of_entry, nodes_of_entry, position_of_entry
from syncline.model.blocks import Digest
from syncline.model.identifiers import ROOT, NodeId, RequestId, SpaceId
from syncline.model.tree import Change, Content, Node, NodeKind, Result, Version

MAX_LAG_ENTRIES = 64
"""Maximum number of entries that wait for projection before writers are made to wait."""
TAIL_PAGE_ENTRIES = 32
"""Number of entries that are read at once: at most 12 MB."""

WEIGHED_BYTES = 1024
"""Number of bytes of a node's manifest and symlink target in memory that count as one more node."""
_BLOCK_BYTES = 3 * 36
"""Memory in bytes that the numbers of one block take in a manifest."""

RowsT = TypeVar("RowsT")


class JournalBroken(RuntimeError):
    """The journal has a gap. The space is unavailable until an operator has repaired it."""


@dataclass(slots=True)
class Missing:
    """Nodes, names and other values that a tree was asked for and that are not loaded."""

    nodes: set[NodeId] = field(default_factory=set)
    names: set[NameKey] = field(default_factory=set)
    versions: set[tuple[NodeId, int]] = field(default_factory=set)
    objects: set[Digest] = field(default_factory=set)
    directories: dict[NodeId, int] = field(default_factory=dict)
    """Directories whose names have to be counted, by id, each with the number up to which they have to be counted."""
    depths: set[NodeId] = field(default_factory=set)
    """Directories whose depth must be loaded."""

    def __bool__(self) -> bool:
        return any((self.nodes, self.names, self.versions, self.objects, self.directories, self.depths))


class SpaceView:
    """The nodes and names of one space that this process has loaded. The view loads further ones from the table, and
    follows the journal. Not thread-safe; all methods have to be called from one event loop.
    """

    def __init__(self, space: SpaceId, *, journal: Journal, table: TreeTable, capacity: int) -> None:
        """`capacity` is the number of nodes and names in memory above which the view drops those that the table has."""
        self.space = space
        self.seq = 0
        self.floor = 0
        self.used_bytes = 0
        self._nodes_made: int | None = None
        """The number of nodes at `seq`, including deleted ones; None until `count_nodes` is called, if the table does
        not hold the number.
        """
        self._counting = asyncio.Lock()
        self._journal_bytes: int | None = None
        """The size in bytes of the journal's entries up to `seq`; None until `weigh_journal` is called."""
        self.announced_seq = 0
        self.tail: deque[JournalEntry] = deque()
        """The entries after `floor`, in the order of the journal."""
        self._last = BEGINNING
        self._journal = journal
        self._table = table
        self._capacity = capacity
        self._nodes: dict[NodeId, Node | None] = {}
        self._children: dict[NodeId, Children] = {}
        self._complete: set[NodeId] = set()
        self._tail_results: dict[NodeId, deque[Result]] = {}
        """Results in `tail` by node, oldest first, so that a read of one node need not scan `tail`."""
        self._tail_trash: SortedSet[NodeId] = SortedSet()
        """Nodes whose last result in `tail` is a deletion, in the order of their ids."""
        self._size = 0
        self._requests: dict[RequestId, int] = {}
        self._requests_floor = 0
        self._opened = False
        self._lock = asyncio.Lock()
        self._started = 0
        self._finished = 0

    # -- what is known ------------------------------------------------------------------------------

    def node(self, node: NodeId, missing: Missing) -> Node | None:
        """Return the node's state at `seq`; None if there is no such node. If it is not loaded, add the id to `missing`
        and raise NotLoaded.
        """
        try:
            return self._nodes[node]
        except KeyError:
            missing.nodes.add(node)
            raise NotLoaded from None

    def child(self, parent: NodeId, name: str, missing: Missing) -> NodeId | None:
        """Return the node that has this name in this directory at `seq`; None if the name is free. If this is not
        loaded, add the name to `missing` and raise NotLoaded.
        """
        children = self._children.get(parent)
        if children is not None and name in children:
            return children[name]
        if parent in self._complete:
            return None
        missing.names.add((parent, name))
        raise NotLoaded

    @property
    def known_nodes(self) -> Mapping[NodeId, Node | None]:
        """Return all nodes in memory, by id; None stands for a node that does not exist. Reads of thousands of nodes
        use this, because one call per node would cost more than the lookup.
        """
        return self._nodes

    def tail_entry(self, seq: int) -> JournalEntry | None:
        """Return entry `seq`, which is at most the view's own, if the entry is in memory; otherwise None. All entries
        that the table may lack are in memory.
        """
        return self.tail[seq - self.floor - 1] if seq > self.floor else None

    async def entries_after(self, seq: int, *, account: str) -> AsyncIterator[JournalEntry]:
        """Yield the entries after `seq` up to the view's own, in order: those in memory, and the others from the
        journal, TAIL_PAGE_ENTRIES at once. Entries are parsed in turns that are charged to `account`. The view may
        advance meanwhile; the entries that the view has got by then are yielded as well. Raise JournalBroken for a gap.
        """
        while seq < self.seq:
            entry = self.tail_entry(seq + 1)
            if entry is not None:
                seq = entry.seq
                yield entry
                continue
            # All entries after the floor are in memory.
            page = await self._journal.read(self.space, seq, min(TAIL_PAGE_ENTRIES, self.floor - seq))
            if not page or page[0][0] != seq + 1:
                raise JournalBroken(f"the journal of space {self.space} has a gap before entry {seq + 1}")
            for seq, blob in page:
                yield await entry_from_bytes(seq, blob, account=account)

    @property
    def requests_floor(self) -> int:
        """The sequence number after which the requests of all entries are known to `known_request`."""
        return self._requests_floor

    def known_request(self, request: RequestId) -> int | None:
        """Return the sequence number of the entry that answered a request, if that is one of the entries after
        `requests_floor`; otherwise None.
        """
        return self._requests.get(request)

    @property
    def size(self) -> int:
        """Number of nodes and names in memory; WEIGHED_BYTES of a content count as one more."""
        return self._size

    # -- keeping up with the journal ------------------------------------------------------------------

    async def validate(self) -> None:
        """Apply the entries that other processes have appended, up to the head of the journal at some moment after this
        call began.

        Costs one consistent read if nothing has changed. Concurrent callers share a validation: each call waits for a
        validation that started after the call.
        """
        wanted = self._started + 1
        async with self._lock:
            if self._finished >= wanted:
                return
            self._started += 1
            mine = self._started
            if not self._opened:
                await self._open()
            await self._catch_up()
            self._finished = mine

    async def _open(self) -> None:
        state = await self._table.state(self.space)
        self.seq = self.floor = self._requests_floor = state.projected_seq
        self.announced_seq = state.announced_seq
        self.used_bytes = state.used_bytes
        self._nodes_made = state.nodes if self.seq else 0
        self._journal_bytes = None if self.seq else 0
        if self.seq == 0:
            self._complete.add(ROOT)
        self._opened = True

    async def _catch_up(self) -> None:
        limit = 1  # a validation that finds nothing costs the smallest possible read
        while True:
            entries = await self._journal.read(self.space, self.seq, limit)
            for seq, blob in entries:
                self.apply(await entry_from_bytes(seq, blob, account=self.space))
            if len(entries) < limit:
                break
            limit = TAIL_PAGE_ENTRIES
        if len(self.tail) > MAX_LAG_ENTRIES // 2:
            # Other processes project; without this read, a view that is only read would pin every entry for ever.
            self.raise_floor((await self._table.state(self.space)).projected_seq)
        elif self._size > self._capacity:
            self._forget()

    def apply(self, entry: JournalEntry) -> None:
        """Advance the view by one entry; an entry that was applied before is ignored. Raise JournalBroken for an entry
        that does not follow directly.
        """
        if entry.seq <= self.seq:
            return
        if entry.seq != self.seq + 1:
            raise JournalBroken(f"the journal of space {self.space} has a gap before entry {entry.seq}")
        for result in entry.accepted():
            node = result.node
            assert node is not None
            for key, holder in name_changes(result):
                self._know_name(key, holder)
            if node.kind is NodeKind.DIRECTORY and result.change is Change.CREATED:
                self._complete.add(node.id)  # a new directory is empty
            self._know_node(node.id, node)
            self._pin(node.id, result)
        for commit in entry.commits:
            self._requests[commit.request] = entry.seq
            self._size += 1
        self.tail.append(entry)
        self.seq = entry.seq
        self._last = entry.position
        self.used_bytes = entry.used_bytes
        if entry.nodes is not None:
            self._nodes_made = entry.nodes
        elif self._nodes_made is not None:
            self._nodes_made += entry.created()
        if entry.journal_bytes is not None:
            self._journal_bytes = entry.journal_bytes

    async def weigh_journal(self) -> int:
        """Return the total size of the entries of the journal up to the view's `seq`, in bytes. Entries that were
        written before their size was recorded count as 0. Validate the view before the call, which reads one entry if
        the view has applied none since it was opened.
        """
        while self._journal_bytes is None:
            seq = self.seq
            ((_, blob),) = await self._journal.read(self.space, seq - 1, 1)
            if self._journal_bytes is None and self.seq == seq:
                self._journal_bytes = journal_bytes_of_entry(blob)
        return self._journal_bytes

    @property
    def known_journal_bytes(self) -> int:
        """Return the total size of the entries of the journal up to the view's `seq`, in bytes, without reading the
        journal. `weigh_journal` must have been called before.
        """
        assert self._journal_bytes is not None, "the journal is weighed before"
        return self._journal_bytes

    async def count_nodes(self) -> int:
        """Return the number of nodes at the view's `seq`, including deleted ones. Validate the view before the call.

        If the table does not hold the number, the journal is read once, backwards, to the last entry that holds it.
        Entries that were written before nodes were counted do not hold it.
        """
        async with self._counting:
            counted, nodes = 0, 0
            while self._nodes_made is None:
                seq = self.seq
                nodes += await self._made_after(counted, seq)
                counted = seq
                if self.seq == seq and self._nodes_made is None:
                    self._nodes_made = nodes
        return self.counted_nodes()

    def counted_nodes(self) -> int:
        """Return the number of nodes at the view's `seq`, including deleted ones, without reading. `count_nodes` must
        have been called before.
        """
        assert self._nodes_made is not None, "the nodes are counted before"
        return self._nodes_made

    @property
    def known_node_count(self) -> int | None:
        """Return the number of nodes; None if it is not known without reading the journal."""
        return self._nodes_made

    async def _made_after(self, after: int, seq: int) -> int:
        """Return the number of nodes that the entries above `after` up to `seq` created. If `after` is 0, an entry that
        has the number of all nodes is used instead of those before it. Raise JournalBroken if one of the entries is
        missing.
        """
        nodes, before = 0, seq + 1
        while before > after + 1:
            page = await self._journal.before(self.space, before, min(TAIL_PAGE_ENTRIES, before - after - 1))
            if not page:
                raise JournalBroken(f"the journal of space {self.space} ends before entry {before}")
            for number, blob in page:
                made, said = await nodes_of_entry(blob, account=self.space)
                if said is not None and not after:
                    return nodes + said
                nodes, before = nodes + made, number
        return nodes

    async def position(self, seq: int) -> Position:
        """Return the position after entry `seq`, which is at most the view's; the entry is read from the journal if it
        is not in memory.
        """
        if seq == 0:
            return BEGINNING
        if self._last.seq != seq:
            known = next((entry.position for entry in self.tail if entry.seq == seq), None)
            if known is not None:
                return known
            ((_, blob),) = await self._journal.read(self.space, seq - 1, 1)
            found = await position_of_entry(seq, blob, account=self.space)
            if seq != self.seq:
                return found
            self._last = found
        return self._last

    def _pin(self, node: NodeId, result: Result) -> None:
        self._tail_results.setdefault(node, deque()).append(result)
        if result.change is Change.DELETED:
            self._tail_trash.add(node)
        else:
            self._tail_trash.discard(node)

    def _unpin(self, entry: JournalEntry) -> None:
        """Drop the results of the oldest entry of `tail` from memory, because the table has them now."""
        for result in entry.accepted():
            node = result.node
            assert node is not None
            said = self._tail_results[node.id]
            said.popleft()
            if not said:
                del self._tail_results[node.id]
                self._tail_trash.discard(node.id)

    def _know_node(self, key: NodeId, node: Node | None) -> None:
        if key in self._nodes:
            self._size -= _weight(self._nodes[key])
        self._size += _weight(node)
        self._nodes[key] = node

    def _know_name(self, key: NameKey, holder: NodeId | None) -> None:
        children = self._children.get(key[0])
        if children is None:
            children = self._children[key[0]] = Children()
        if key[1] not in children:
            self._size += 1
        children[key[1]] = holder

    def raise_floor(self, projected_seq: int) -> None:
        """Record that the table has all entries up to `projected_seq`, which need not stay in memory any more."""
        projected_seq = min(projected_seq, self.seq)
        if projected_seq <= self.floor:
            return
        self.floor = projected_seq
        while self.tail and self.tail[0].seq <= projected_seq:
            self._unpin(self.tail.popleft())
        if self._size > self._capacity:
            self._forget()

    def _forget(self) -> None:
        """Drop all nodes and names from memory but those that entries after `floor` changed. Dropping all at once needs
        no record of the order of use.
        """
        self._nodes = {}
        self._children = {}
        self._complete = set()
        self._tail_results = {}
        self._tail_trash = SortedSet()
        self._size = 0
        self._requests = {}
        self._requests_floor = self.floor
        entries, self.tail = self.tail, deque()
        seq, self.seq = self.seq, self.floor
        used, nodes, journal_bytes = self.used_bytes, self._nodes_made, self._journal_bytes
        for entry in entries:
            self.apply(entry)
        assert self.seq == seq
        self.used_bytes, self._nodes_made, self._journal_bytes = used, nodes, journal_bytes

    # -- reading through to the table -------------------------------------------------------------------

    async def covered(self, read: Callable[[], Awaitable[RowsT]], newest: Callable[[RowsT], int]) -> RowsT:
        """Call `read`, which reads rows from the table, and return its result. Together with the state in memory, the
        returned rows are valid at the view's `seq`. `newest` takes rows, and returns the highest sequence number among
        them. `read` is called again if the view has dropped entries from memory meanwhile.
        """
        while True:
            floor = self.floor
            rows = await read()
            if newest(rows) > self.seq:
                await self.validate()
            if self.floor == floor:
                return rows

    async def load(self, missing: Missing) -> None:
        """Load the nodes and names in `missing` from the table. Those that the table does not have are remembered as
        not existing.
        """
        nodes = [node for node in missing.nodes if node not in self._nodes]
        names = [key for key in missing.names if not self._knows_name(key)]
        if not nodes and not names:
            return
        rows = await self.covered(
            lambda: self._table.rows(self.space, nodes=nodes, names=names), lambda rows: rows.newest
        )
        self.learn(rows, nodes=nodes, names=names)
        metrics.VIEW_LOADED.inc(len(nodes) + len(names))

    def learn(self, rows: Rows, *, nodes: Iterable[NodeId] = (), names: Iterable[NameKey] = ()) -> None:
        """Keep `rows`, which `covered` has returned for these nodes and names, in memory, except where memory has a
        newer state.
        """
        for node in nodes:
            if node not in self._nodes:
                self._know_node(node, rows.nodes.get(node))
        for key in names:
            if not self._knows_name(key):
                self._know_name(key, rows.names.get(key, (None, 0))[0])

    def _knows_name(self, key: NameKey) -> bool:
        children = self._children.get(key[0])
        return children is not None and key[1] in children

    async def answered(self, requests: Iterable[RequestId]) -> dict[RequestId, int]:
        """Return those of `requests` that an entry has answered, each with the sequence number of the entry, as of the
        view's `seq` at the end of the call.
        """
        wanted = list(requests)
        while True:
            floor = self._requests_floor
            rows = await self._table.rows(self.space, requests=wanted)
            if rows.newest > self.seq:
                await self.validate()
            if self._requests_floor == floor:
                known = {request: seq for request in wanted if (seq := self._requests.get(request)) is not None}
                return {**rows.requests, **known}

    async def list_names(
        self, parent: NodeId, *, after: str, limit: int
    ) -> tuple[list[tuple[str, NodeId]], str | None]:
        """Return a page of the names that nodes have in the directory `parent`: up to `limit` names greater than
        `after`, in order, each with its node. Also return the name after which the next page begins; None on the last
        page.
        """
        if parent in self._complete:
            held = list(islice(self._held_after(parent, after), limit + 1))
            page = held[:limit]
            return page, page[-1][0] if len(held) > limit else None
        rows = await self.covered(
            lambda: self._table.list_names(self.space, parent, after=after, limit=limit), lambda rows: rows.newest
        )
        stored = {name: holder for (_, name), (holder, _) in rows.names.items()}
        end = max(stored, default=after) if rows.more else None
        known = self._children.get(parent, Children())
        found = {name: known.get(name, holder) for name, holder in stored.items()}
        within = takewhile(lambda item: end is None or item[0] <= end, self._held_after(parent, after))
        found.update(islice(within, limit + 1))
        held = sorted((name, node) for name, node in found.items() if node)
        # Names that are not in the table yet are added to the rows that the table returned.
        page = held[:limit]
        return page, page[-1][0] if len(held) > limit else end

    def _held_after(self, parent: NodeId, after: str) -> Iterator[tuple[str, NodeId]]:
        children = self._children.get(parent)
        return iter(()) if children is None else children.held_after(after)

    async def version(self, node: NodeId, number: int) -> Content | None:
        """Return the content of one version of a node, the current or a superseded one; None if there is no such
        version.
        """
        for version in await self.versions(node, before=number + 1, limit=1):
            if version.number == number:
                return version.content
        return None

    async def versions(self, node: NodeId, *, before: int, limit: int) -> list[Version]:
        """Return up to `limit` versions of a file with numbers below `before`, newest first, without the current one.

        A superseded version is a VERSION row, or still the NODE row of the table, or a state in an entry after `floor`.
        """

        async def read() -> tuple[Rows, list[Version]]:
            rows = await self._table.rows(self.space, nodes=[node])
            return rows, list(await self._table.versions(self.space, node, before=before, limit=limit))

        rows, stored = await self.covered(read, lambda read: read[0].newest)
        found = {version.number: version for version in stored}
        states = [result.node for result in self._tail_results.get(node, ())]
        for state in (*rows.nodes.values(), *states):
            if state is not None and state.content is not None and state.version < before:
                found.setdefault(state.version, version_of(state))
        return sorted(found.values(), key=lambda version: -version.number)[:limit]

    async def trash(self, *, after: NodeId | None, limit: int) -> tuple[list[NodeId], NodeId | None]:
        """Return a page of the trash: up to `limit` ids of deleted nodes, in ascending order, greater than `after`
        (None: from the first on). Also return the id that is `after` of the next page; None on the last page.
        """
        rows = await self.covered(
            lambda: self._table.trash(self.space, after=after, limit=limit),
            lambda rows: max((seq for _, _, seq in rows), default=0),
        )
        end = rows[-1][0] if len(rows) == limit else None
        found = {node for node, is_deleted, _ in rows if is_deleted and node not in self._tail_results}
        in_tail = self._tail_trash.irange(after, end, inclusive=(False, True))
        found.update(islice(in_tail, limit + 1))
        deleted = sorted(found)
        # Nodes that are not in the table yet are added to the rows that the table returned.
        page = deleted[:limit]
        return page, page[-1] if len(deleted) > limit else end


def _weight(node: Node | None) -> int:
    """Return the number of nodes as which a node counts for the limit of memory: more than 1 if its content is
    large.
    """
    content = node.content if node is not None else None
    if content is None:
        return 1
    manifest = content.manifest
    size = len(manifest.blocks) + len(manifest.objects) + _BLOCK_BYTES * len(manifest.lengths) + len(content.target)
    return 1 + size // WEIGHED_BYTES


def version_of(node: Node) -> Version:
    """Return the current version of a file, which is a part of the state of its node."""
    assert node.content is not None, "only files and symlinks have versions"
    return Version(node.version, node.content, node.user, node.device, node.committed_at_ms)
