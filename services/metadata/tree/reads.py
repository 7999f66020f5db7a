"""Reads of a space. Each is answered at one sequence number, which was the head at a moment during the call."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from runtime.rates import charge
from runtime.turns import turn
from services.metadata.entry import Position
from services.metadata.ports import Journal
from services.metadata.tree.decide import NotLoaded, is_live
from services.metadata.tree.view import TAIL_PAGE_ENTRIES, JournalBroken, Missing, SpaceView, version_of
from services.metadata.wire import entry_from_bytes
from syncline.model.blocks import DIGEST_BYTES, NO_DIGEST
from syncline.model.errors import InvalidCursor, NoSuchNode, NoSuchVersion
from syncline.model.identifiers import ID_BYTES, ROOT, NodeId
from syncline.model.names import MAX_PATH_BYTES, MAX_PATH_NAMES
from syncline.model.tree import Content, Node, NodeKind, Version
from syncline.model.verdicts import Difference
from syncline.wire.pages import PAGE_BYTES

T = TypeVar("T")

_SLICE_NODES = 100
"""Number of nodes or versions of a page that are read at once; each may hold a manifest of 80 KB."""
STEPS_PER_TURN = 2_000
"""Number of nodes and names that a read of many nodes visits in one turn."""
CHECKS_PER_TURN = 250
"""Number of paths or node ids of a version check that are examined in one turn, which takes half a millisecond."""
_RESTARTS = 3
"""Maximum number of times that a read of many nodes begins again because the space has changed between two of its
turns. After that, the read waits for no turns, so that it ends however often others commit.
"""
_ROWS_PER_THING = 4
"""Number of rows of the table that are usually loaded for each requested node or file; only further rows are
charged.
"""
ROWS_PER_CALL = 50
"""Number of further rows that are charged as one more call of the caller."""
_FIRST_ENTRIES = 4
"""Number of journal entries in the first read; later reads are sized by the size of these entries."""


class ViewReader:
    """Gives reads the methods of a `decide.Tree` on a view, and collects the keys (nodes and names) that the view has
    not loaded.
    """

    def __init__(self, view: SpaceView) -> None:
        self.view = view
        self.missing = Missing()
        self.known_live: set[NodeId] = set()
        self.steps = 0
        """The number of nodes and names that were visited since the last turn."""

    def node(self, node: NodeId) -> Node | None:
        self.steps += 1
        return self.view.node(node, self.missing)

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        self.steps += 1
        return self.view.child(parent, name, self.missing)

    def live(self, node: Node | None) -> bool:
        return is_live(self, node)  # type: ignore[arg-type]  # liveness asks for nodes only


async def settled(view: SpaceView, answer: Callable[[ViewReader], T]) -> T:
    """Validate the view, and return the result of `answer` once every node and name that it needs is loaded. `answer`
    is called again after each loading.

    If `answer` needs a value that is not loaded, it may raise NotLoaded. Alternatively, it may catch NotLoaded and
    return, with the value recorded in `missing`, so that the values for many questions are loaded together.
    """
    await view.validate()
    while True:
        reader = ViewReader(view)
        try:
            result = answer(reader)
        except NotLoaded:
            pass
        else:
            if not reader.missing:
                return result
        await view.load(reader.missing)


class _MovedOn(Exception):
    """The view has advanced to another entry between two turns of a read."""


class _ReaderInTurns(ViewReader):
    """Reader of many nodes, which waits for a turn on the event loop after each STEPS_PER_TURN nodes and names."""

    def __init__(self, view: SpaceView, account: str | None) -> None:
        """`account` is the person to whom the turns are charged; with None, the reader waits for no turns."""
        super().__init__(view)
        self._account = account
        self._seq = view.seq

    async def rest(self) -> None:
        """Wait for another turn if STEPS_PER_TURN nodes and names have been looked at in the present turn. Raise
        _MovedOn if the view has changed during the wait.
        """
        if self.steps >= STEPS_PER_TURN:
            await self.next_turn()

    async def next_turn(self) -> None:
        """Wait for another turn. Raise _MovedOn if the view has changed during the wait."""
        self.steps = 0
        if self._account is not None:
            await turn(self._account)
            if self.view.seq != self._seq:
                raise _MovedOn


async def _in_turns(
    view: SpaceView, things: int, answer: Callable[[_ReaderInTurns], Awaitable[T]], *, account: str
) -> T:
    """Return the result of `answer`, a read of `things` requested nodes or files, once every value that it needs is
    loaded. This function does not validate the view. The turns are charged to the person `account`.

    `answer` calls `rest` between two of these things, and keeps nothing from one call to the next, because it is called
    again after each loading. Rows beyond the number that so many things usually need are charged as further calls of
    the caller.
    """
    restarts = rows = 0
    while True:
        reader = _ReaderInTurns(view, account if restarts < _RESTARTS else None)
        try:
            result = await answer(reader)
        except _MovedOn:
            restarts += 1
            continue
        if not reader.missing:
            charge((rows - _ROWS_PER_THING * things) // ROWS_PER_CALL)
            return result
        rows += len(reader.missing.nodes) + len(reader.missing.names)
        await view.load(reader.missing)


@dataclass(frozen=True, slots=True)
class Found:
    """A node, its path relative to the start of the query, and the sequence number at which both were valid."""

    node: Node
    path: str
    seq: int


async def get_node(view: SpaceView, selector: NodeId | Sequence[str], *, within: NodeId = ROOT) -> Found:
    """Return the node with this id, or at this path, if it is the node `within` or below that node. Paths are relative
    to `within`. Raise NoSuchNode if there is no such node, or if the node or a directory above the node is deleted.
    """

    def answer(reader: ViewReader) -> Found:
        node = reader.node(selector) if isinstance(selector, bytes) else _resolve(reader, selector, within)
        if node is None or not reader.live(node):
            raise NoSuchNode
        return Found(node, _path(reader, node, within), view.seq)

    return await settled(view, answer)


async def look(view: SpaceView, nodes: Sequence[NodeId], *, account: str) -> list[Found]:
    """Return the states of those of `nodes` that are not in the trash, valid at the view's `seq` at the end of the
    call. Validate the view before the call. The turns are charged to the person `account`.
    """

    async def answer(reader: _ReaderInTurns) -> list[Found]:
        found = []
        for one in nodes:
            await reader.rest()
            try:
                node = reader.node(one)
                if node is not None and reader.live(node):
                    found.append(Found(node, _path(reader, node, ROOT), view.seq))
            except NotLoaded:
                continue
        return found

    return await _in_turns(view, len(nodes), answer, account=account)


def _resolve(reader: ViewReader, names: Sequence[str], start: NodeId) -> Node | None:
    at = _walk(reader, start, names)
    return reader.node(at) if at and at != ROOT else None


def _walk(reader: ViewReader, start: NodeId, names: Iterable[str]) -> NodeId | None:
    """Return the node, not deleted itself, at this path from `start`; None if there is none."""
    for name in names:
        held = reader.child(start, name)
        if held is None:
            return None
        start = held
    return start


def _path(reader: ViewReader, node: Node, start: NodeId) -> str:
    """Return the path of a node relative to `start`; empty for `start` itself. Raise NoSuchNode if the node is not
    below `start`.

    The result is also empty for a path that exceeds the maximum length: trees may be deeper than any valid path. The
    whole way up is walked only if `start` is not the root.
    """
    names: list[str] = []
    size = 0
    while node.id != start:
        size += len(node.name.encode()) + 1
        if size <= MAX_PATH_BYTES + 1 and len(names) < MAX_PATH_NAMES:
            names.append(node.name)
        elif start == ROOT:
            return ""
        else:
            size = MAX_PATH_BYTES + 2  # too long to return; continue only to find out whether the node is below start
        if node.parent == start:
            break
        parent = reader.node(node.parent) if node.parent != ROOT else None
        if parent is None:
            raise NoSuchNode
        node = parent
    return "/".join(reversed(names)) if size <= MAX_PATH_BYTES + 1 else ""


async def list_nodes(
    view: SpaceView, parent: NodeId, *, after: str, limit: int, within: NodeId = ROOT
) -> tuple[list[Node], str | None]:
    """Return a page of the nodes in a directory: up to `limit` nodes that are not deleted, by name, with names greater
    than `after`. Also return the name after which the next page begins; None on the last page.

    Raise NoSuchNode if `parent` is no directory, or is deleted, or is neither `within` nor below it.
    """

    def directory(reader: ViewReader) -> None:
        if parent != ROOT:
            node = reader.node(parent)
            if node is None or node.kind is not NodeKind.DIRECTORY or not reader.live(node):
                raise NoSuchNode
            if within != ROOT:
                _path(reader, node, within)
        elif within != ROOT:
            raise NoSuchNode

    await settled(view, directory)
    while True:
        page, end = await view.list_names(parent, after=after, limit=limit)
        if loaded := await _load_some(view, [node for _, node in page]):
            page, end = page[:loaded], page[loaded - 1][0]
        reader = ViewReader(view)
        nodes = []
        try:
            directory(reader)
            for name, holder in page:
                node = reader.node(holder)
                # A node that changed while the page was read is returned in its present state.
                if node and not node.deleted_at_ms and (node.parent, node.name) == (parent, name):
                    nodes.append(node)
        except NotLoaded:
            await view.load(reader.missing)
            continue
        return nodes, end


async def _load_some(view: SpaceView, nodes: Sequence[NodeId]) -> int:
    """Load `nodes`, in order, until they fill a page. Return the number of loaded nodes if some are left, and 0 if all
    were loaded.
    """
    weight = 0
    for at in range(0, len(nodes), _SLICE_NODES):
        some = nodes[at : at + _SLICE_NODES]
        await view.load(Missing(nodes=set(some)))
        weight += sum(_weight(node.content) for one in some if (node := view.known_nodes.get(one)))
        if weight > PAGE_BYTES and at + len(some) < len(nodes):
            return at + len(some)
    return 0


def _weight(content: Content | None) -> int:
    """Return the approximate size of a content on the wire, in bytes."""
    if content is None:
        return 0
    manifest = content.manifest
    return len(manifest.blocks) + len(manifest.objects) + 10 * len(manifest) + len(content.target)


async def list_versions(view: SpaceView, node: NodeId, *, before: int, limit: int) -> tuple[list[Version], int | None]:
    """Return up to `limit` versions of a file, deleted or not, with numbers below `before`, newest first. Also return
    the `before` of the next page; None on the last page. Raise NoSuchNode if no file has this id.
    """

    def current(reader: ViewReader) -> Node:
        found = reader.node(node)
        if found is None or found.content is None:
            raise NoSuchNode
        return found

    newest = version_of(await settled(view, current))
    versions: list[Version] = []
    weight = 0
    while len(versions) < limit and weight <= PAGE_BYTES:
        some = await view.versions(node, before=before, limit=min(_SLICE_NODES, limit - len(versions)))
        if newest.number < before and (not some or some[0].number < newest.number):
            some = [newest, *some][: limit - len(versions)]
        if not some:
            break
        versions += some
        weight += sum(_weight(version.content) for version in some)
        before = some[-1].number
    return versions, before if versions and before > 1 and (len(versions) == limit or weight > PAGE_BYTES) else None


async def get_version(view: SpaceView, node: NodeId, number: int) -> tuple[Version, Node]:
    """Return one version of a file (deleted or not), and the present state of the file. Raise NoSuchNode if no file has
    this id, and NoSuchVersion if the file has no version of that number.
    """

    def current(reader: ViewReader) -> Node:
        found = reader.node(node)
        if found is None or found.content is None:
            raise NoSuchNode
        return found

    file = await settled(view, current)
    if number == file.version:
        return version_of(file), file
    if 0 < number < file.version:
        # A superseded version never changes, so it is valid whatever has happened to the file since.
        for version in await view.versions(node, before=number + 1, limit=1):
            if version.number == number:
                return version, file
    raise NoSuchVersion


async def list_trash(
    view: SpaceView, *, after: NodeId | None, limit: int, at: Sequence[str] = (), account: str
) -> tuple[list[Found], NodeId | None]:
    """Return a page of up to `limit` deleted nodes, in the order of their ids, with ids greater than `after`. Also
    return the id after which the next page begins; None on the last page.

    Each node has its former path, with the present names of the directories above, deleted or not. With `at`, the names
    of a path, only the nodes formerly at that path and below are returned: the contents of a deleted directory. The
    turns are charged to the person `account`.
    """
    wanted = "/".join(at)
    await view.validate()
    ids, end = await view.trash(after=after, limit=limit)
    if loaded := await _load_some(view, ids):
        ids, end = ids[:loaded], ids[loaded - 1]

    async def answer(reader: _ReaderInTurns) -> list[Found]:
        found = []
        for one in ids:
            await reader.rest()
            try:
                node = reader.node(one)
                if node is None or not node.deleted_at_ms:
                    continue
                path = _path(reader, node, ROOT)
                if at and path != wanted:
                    if not path or not wanted.startswith(f"{path}/"):
                        continue
                    node, path = _resolve(reader, at[path.count("/") + 1 :], node.id), wanted
                if node is not None:
                    found.append(Found(node, path, view.seq))
            except NotLoaded:
                continue
        return found

    await view.validate()
    return await _in_turns(view, len(ids), answer, account=account), end


async def changes(view: SpaceView, journal: Journal, *, after: Position) -> AsyncIterator[tuple[list[Node], Position]]:
    """Yield the nodes that the entries after `after` changed, entry by entry, each time with the position after the
    entry, up to the head at the start of the call.

    At least one item is yielded, if necessary without nodes, so that the caller learns the head. Raise InvalidCursor if
    the journal has no such position: it is shorter, or it was restored from a backup and has another history since.
    """
    await view.validate()
    head = view.seq
    if after.seq > head or await view.position(after.seq) != after:
        raise InvalidCursor
    if after.seq == head:
        yield [], after
    # Few entries at once, so that a slow reader keeps no more than these in memory.
    blobs: deque[tuple[int, bytes]] = deque()
    seq, some = after.seq, _FIRST_ENTRIES
    while seq < head:
        entry = view.tail_entry(seq + 1)
        if entry is None:
            if not blobs:
                blobs.extend(await journal.read(view.space, seq, min(some, view.floor - seq)))
                if not blobs:
                    raise JournalBroken(f"the journal of space {view.space} ends before entry {seq + 1}")
                some = max(1, min(TAIL_PAGE_ENTRIES, PAGE_BYTES * len(blobs) // sum(len(blob) for _, blob in blobs)))
            number, blob = blobs.popleft()
            entry = await entry_from_bytes(number, blob, account=view.space)
        yield [result.node for result in entry.accepted() if result.node], entry.position
        seq = entry.seq


@dataclass(slots=True)
class Differences:
    """The files of a batch whose content differs from the local content, in columns: the same position in each list
    belongs to the same file.
    """

    seq: int = 0
    indexes: list[int] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    nodes: list[Node | None] = field(default_factory=list)

    def add(self, index: int, difference: Difference, node: Node | None) -> None:
        self.indexes.append(index)
        self.differences.append(difference)
        self.nodes.append(node)


async def check_paths(view: SpaceView, paths: Sequence[str], digests: bytes, *, account: str) -> Differences:
    """Compare local contents with the files at these paths, and return those that differ. `digests` has the digest of
    each local content, 32 bytes each, in the order of `paths`. The turns are charged to the person `account`.
    """

    async def answer(reader: _ReaderInTurns) -> Differences:
        found = Differences(view.seq)
        directories: dict[str, NodeId | None] = {"": ROOT}
        known = view.known_nodes
        for i, path in enumerate(paths):
            if reader.steps >= STEPS_PER_TURN or (i and not i % CHECKS_PER_TURN):
                await reader.next_turn()
            head, _, name = path.rpartition("/")
            try:
                if head not in directories:
                    directories[head] = _walk(reader, ROOT, head.split("/"))
                parent = directories[head]
                held = reader.child(parent, name) if parent is not None else None
                node = None if held is None else known[held] if held in known else reader.node(held)
            except NotLoaded:
                continue
            if node is None:
                found.add(i, Difference.UNKNOWN, None)
            elif not _same(node, digests, i):
                found.add(i, Difference.CONTENT, node)
        return found

    await view.validate()
    return await _in_turns(view, len(paths), answer, account=account)


async def check_nodes(view: SpaceView, node_ids: bytes, digests: bytes, *, account: str) -> Differences:
    """Compare local contents with the files that have these ids, and return those that differ. `node_ids` has the ids
    and `digests` the digests of the local contents, one after the other. The turns are charged to the person `account`.
    """

    ids = [NodeId(node_ids[at : at + ID_BYTES]) for at in range(0, len(node_ids), ID_BYTES)]

    async def answer(reader: _ReaderInTurns) -> Differences:
        found = Differences(view.seq)
        live = {ROOT: True}
        known = view.known_nodes
        for i, one in enumerate(ids):
            if reader.steps >= STEPS_PER_TURN or (i and not i % CHECKS_PER_TURN):
                await reader.next_turn()
            try:
                node = known[one] if one in known else reader.node(one)
                if node is None:
                    found.add(i, Difference.UNKNOWN, None)
                    continue
                parent = node.parent
                if parent not in live:
                    live[parent] = reader.live(reader.node(parent))
            except NotLoaded:
                continue
            if node.deleted_at_ms or not live[parent]:
                found.add(i, Difference.DELETED, node)
            elif not _same(node, digests, i):
                found.add(i, Difference.CONTENT, node)
        return found

    await view.validate()
    return await _in_turns(view, len(ids), answer, account=account)


def _same(node: Node, digests: bytes, i: int) -> bool:
    content = node.content
    return digests.startswith(content.digest if content else NO_DIGEST, i * DIGEST_BYTES)
