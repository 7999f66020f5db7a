"""Search of nodes by words in their names: an index of the names of a space, which is one more projection of its
journal.

An index holds names in the order of paths. A page starts where the page before it stopped, and costs as much as it
passes over. An index is brought to the journal's head before it is searched, so no search is stale. The index says only
which nodes match and where they are; the nodes themselves are read through the view, at the same sequence number.

The indexes of all spaces together hold at most `most_names` names; the least recently searched ones are evicted first.
A space with more names is read from the beginning for each search, and its index is not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from sortedcontainers import SortedList

from runtime.pool import Pool, Share
from runtime.turns import turn
from services.metadata.entry import BEGINNING
from services.metadata.ports import Journal
from services.metadata.tree import reads
from services.metadata.tree.decide import PathLength
from services.metadata.tree.view import Missing, SpaceView
from syncline.model.errors import InvalidArgument, InvalidCursor
from syncline.model.identifiers import ID_BYTES, ROOT, NodeId, SpaceId
from syncline.model.limits import MAX_QUERY_CHARACTERS
from syncline.model.names import MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_PATH_NAMES, folded, most_archived_bytes
from syncline.model.tree import Node, NodeKind

T = TypeVar("T")

MAX_INDEXED_NAMES: Final = 500_000
"""Maximum number of names in memory for searches. A name takes about 400 bytes; a longer one counts as several."""
NAME_BYTES: Final = 400
"""Number of bytes of the texts of a name in memory that count as one more name."""
SPACE_WEIGHT: Final = 4
"""Memory overhead of the index of one space, expressed as the number of names that take as much memory."""
STREAMS_AT_ONCE: Final = 2
"""Maximum number of concurrent searches and measurements of spaces that are too large to be kept, each of which reads a
whole journal. One person, or the commits of one space, may have half.
"""
SLICE_NAMES: Final = 5_000
"""Number of names that one turn on the event loop visits when depths of directories are measured."""
MAX_LOOKED_AT_NAMES: Final = 100_000
"""Maximum number of names that are visited for one page of a search."""
_DIRECTORIES: Final = ("/",)
"""A word that no name contains. An index with `only` this word holds directories and no files."""
_NOTHING: Final = PathLength()
NODES_PER_TURN: Final = 1_000
"""Number of nodes that one turn on the event loop applies from the journal, or visits for a search."""
_SURELY_SHORT: Final = MAX_PATH_BYTES // 4
"""Maximum number of characters of a path that needs no measuring: a character has at most 4 bytes in UTF-8, so that
such a path is within MAX_PATH_BYTES.
"""
_AFTER_ALL: Final = NodeId(b"\xff" * (ID_BYTES + 1))
"""A value that is greater than every node id."""


def words_of(query: str) -> tuple[str, ...]:
    """Return the words that a name must contain to be found. Raise InvalidArgument if the query is too long or has no
    word.
    """
    if len(query) > MAX_QUERY_CHARACTERS:
        raise InvalidArgument(f"a query has at most {MAX_QUERY_CHARACTERS} characters")
    words = tuple(dict.fromkeys(folded(query).split()))
    if not words:
        raise InvalidArgument("a query has at least one word")
    return words


@dataclass(frozen=True, slots=True)
class TreeSize:
    """The number of paths in a tree, and the size in bytes of all these paths together. Each path has the names of all
    directories above.
    """

    paths: int = 0
    path_bytes: int = 0

    def __add__(self, other: TreeSize) -> TreeSize:
        return TreeSize(self.paths + other.paths, self.path_bytes + other.path_bytes)

    def fits_in(self, most: TreeSize) -> bool:
        """Return True if neither the number of paths nor the number of bytes is greater than in `most`."""
        return self.paths <= most.paths and self.path_bytes <= most.path_bytes


@dataclass(frozen=True, slots=True)
class MeasuredTop:
    """A directory whose contents are measured, and the size in bytes of its path with a '/' at its end."""

    directory: NodeId
    prefix_bytes: int


@dataclass(frozen=True, slots=True)
class _Name:
    """The values of a node that decide whether it matches and where it is."""

    id: NodeId
    parent: NodeId
    name: str
    folded: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """One page of the result of a search, as of sequence number `seq`. `nodes` has the nodes in the order of paths, and
    `end` is the path after which the next page begins; None on the last page.
    """

    seq: int
    nodes: list[NodeId]
    above: set[NodeId]
    """The directories on the paths of these nodes."""
    end: str | None


class NameIndex:
    """The names of one space after journal entry `position`, excluding nodes that are deleted themselves.

    With `only`, the index holds of the files only those whose names contain these words, which is enough for one
    search.
    """

    def __init__(self, only: Sequence[str] = (), *, is_ordered: bool = True) -> None:
        """`is_ordered` is True if pages will be read."""
        self.position = BEGINNING
        self._only = only
        self._is_ordered = is_ordered
        self._names: dict[NodeId, _Name] = {}
        self._children: dict[NodeId, SortedList[tuple[str, NodeId]]] = {}
        """The names in each directory in the order of paths: each node as `name`, and each directory as `name/`
        as well.
        """
        self._long = 0
        """The number of additional names as which the texts of long names count."""

    @property
    def size(self) -> int:
        """Memory of the index, expressed as the number of names of usual length that take as much memory."""
        return len(self._names) + self._long + max(0, len(self._children) - 1) + SPACE_WEIGHT

    def apply(self, nodes: Iterable[Node]) -> None:
        """Update the index by these states of nodes, which follow each other in the journal."""
        for node in nodes:
            key = folded(node.name)
            is_directory = node.kind is NodeKind.DIRECTORY
            unwanted = self._only and not is_directory and not _contains(key, self._only)
            before = self._names.pop(node.id, None)
            if before is not None:
                self._long -= _length(before, is_directory)
            if node.deleted_at_ms or unwanted:
                # If the node is restored, or matches later, the journal has its whole state again.
                self._reorder(before, None, is_directory)
            else:
                # One string object serves both if they are equal, as most are.
                now = _Name(node.id, node.parent, key if key == node.name else node.name, key)
                self._names[node.id] = now
                self._long += _length(now, is_directory)
                self._reorder(before, now, is_directory)

    def _reorder(self, before: _Name | None, now: _Name | None, is_directory: bool) -> None:
        """Change the position of a node in the order of paths: from that of `before` to that of `now`. None stands for
        a node that is not in the index.
        """
        if not self._is_ordered or before == now:
            return
        if before is not None:
            children = self._children[before.parent]
            for key in _keys(before.name, is_directory):
                children.remove((key, before.id))
            if not children:
                del self._children[before.parent]
        if now is not None:
            children = self._children.setdefault(now.parent, SortedList())
            children.update((key, now.id) for key in _keys(now.name, is_directory))

    def emptied(self) -> NameIndex:
        """Return a new index without names, made with the same `only` and `is_ordered` as this one."""
        return NameIndex(self._only, is_ordered=self._is_ordered)

    async def page(self, words: Sequence[str], *, after: str, limit: int, account: str) -> Candidates:
        """Return up to `limit` nodes that are not in the trash and whose names contain all `words`, in the order of
        paths, after the path `after`. The turns are charged to the person `account`.

        At most MAX_LOOKED_AT_NAMES names are visited, so a page may be short or empty although others follow; no name
        is visited for two pages. The index must not change during the call. Nodes whose path exceeds the maximum length
        are left out.
        """
        first, *others = sorted(words, key=len, reverse=True)  # the longest word occurs in the fewest names
        nodes: list[NodeId] = []
        above: set[NodeId] = set()
        end, looked = after, 0
        for steps, (path, held) in enumerate(self._by_path(after), 1):
            if steps % NODES_PER_TURN == 0:
                await turn(account)
            if held is None:
                continue
            if looked == MAX_LOOKED_AT_NAMES:
                return Candidates(self.position.seq, nodes, above, end)
            looked += 1
            if first in held.folded and _contains(held.folded, others):
                if len(nodes) == limit:
                    return Candidates(self.position.seq, nodes, above, end)
                nodes.append(held.id)
                above.update(self._above(held.id, above))
            end = path
        return Candidates(self.position.seq, nodes, above, None)

    def _by_path(self, after: str) -> Iterator[tuple[str, _Name | None]]:
        """Yield the paths greater than `after`, in order, each with its node, or with None if the path is too long.

        In this order, "a.txt" comes between "a" and "a/b", so a directory and its contents are separate items.
        """
        # Each level: the path of a directory with '/' at its end, and an iterator over its remaining entries.
        levels = [("", self._visits(ROOT, after))]
        while levels:
            prefix, visits = levels[-1]
            visit = next(visits, None)
            if visit is None:
                levels.pop()
                continue
            key, node = visit
            path = prefix + key
            if len(levels) > MAX_PATH_NAMES or (len(path) > _SURELY_SHORT and len(path.encode()) > MAX_PATH_BYTES):
                yield path, None
            elif not key.endswith("/"):
                yield path, self._names[node]
            elif node in self._children:
                levels.append((path, self._visits(node, after.removeprefix(path) if after.startswith(path) else "")))

    def _visits(self, directory: NodeId, after: str) -> Iterator[tuple[str, NodeId]]:
        """Yield the names in a directory, in the order of paths, each with its node. The first is the one that the path
        `after`, relative to this directory, leads to.
        """
        children = self._children.get(directory)
        if children is None:
            return iter(())
        name, slash, _ = after.partition("/")
        # Every entry in the directory `name` follows the entry `name/`, which is not greater than `after`.
        return children.irange((name + slash, NodeId(b"") if slash else _AFTER_ALL), inclusive=(True, True))

    async def depths_below(self, directories: Collection[NodeId], *, account: str) -> dict[NodeId, PathLength]:
        """Return for each directory the length of the longest path below it. The turns are charged to `account`, a
        person or a space.

        If the index was made with `only`, the lengths may be larger than the true ones, never smaller: files that the
        index leaves out count as having the longest possible name. All directories are measured in one pass, whatever
        their size. The index must not change during the call.
        """
        depths: dict[NodeId, PathLength] = {}
        for some in _slices(self._names.values()):
            for held in some:
                depths[held.parent] = depths.get(held.parent, _NOTHING).max_with(PathLength.of(held.name))
            await turn(account)
        # The non-empty directories, deepest first.
        above = {one: self._names[one].parent for one in depths if one in self._names}
        for directories_of_a_slice in _slices(_from_below(above)):
            for one in directories_of_a_slice:
                end = PathLength.of(self._names[one].name) + depths[one]
                depths[above[one]] = depths[above[one]].max_with(end)
            await turn(account)
        # Files that the index leaves out may be in any directory.
        least = PathLength(1, MAX_NAME_BYTES + 1) if self._only else _NOTHING
        return {one: depths.get(one, _NOTHING) + least for one in directories}

    async def size_below(self, tops: Iterable[MeasuredTop], *, most: TreeSize, account: str) -> TreeSize:
        """Return the number and the size of the paths below the directories `tops`, as far as the index has their
        names. Stop once one of them exceeds that in `most`; the result then exceeds `most`, and is a lower bound. The
        turns are charged to the person `account`. The index must not change during the call.
        """
        size, steps = TreeSize(), 0
        pending = [(top.directory, top.prefix_bytes) for top in tops]
        while pending and size.fits_in(most):
            at, above = pending.pop()
            paths = path_bytes = 0
            for key, node in self._children.get(at, ()):
                steps += 1
                if steps % SLICE_NAMES == 0:
                    await turn(account)
                if key.endswith("/"):  # a directory, whose name without '/' was counted as a path
                    path_bytes += 1
                    pending.append((node, above + most_archived_bytes(key[:-1]) + 1))
                else:
                    paths += 1
                    path_bytes += above + most_archived_bytes(key)
            size += TreeSize(paths, path_bytes)
        return size

    def directories_below(self, top: MeasuredTop) -> Iterator[tuple[NodeId, int]]:
        """Yield a directory and all directories below it, each with the size of its path in bytes, including a '/' at
        its end. The index must not change during the iteration.
        """
        pending = [(top.directory, top.prefix_bytes)]
        while pending:
            at, above = pending.pop()
            yield at, above
            for key, node in self._children.get(at, ()):
                if key.endswith("/"):
                    pending.append((node, above + most_archived_bytes(key[:-1]) + 1))

    def _above(self, node: NodeId, known: set[NodeId]) -> Iterator[NodeId]:
        while (node := self._names[node].parent) != ROOT and node not in known:
            yield node


def _length(held: _Name, is_directory: bool) -> int:
    """Return the number of additional names as which the texts of a long name count: each of up to three copies of the
    text may take four bytes per character.
    """
    size = sys.getsizeof(held.name) * (2 if is_directory else 1)
    if held.folded is not held.name:
        size += sys.getsizeof(held.folded)
    return size // NAME_BYTES


def _keys(name: str, is_directory: bool) -> tuple[str, ...]:
    """Return the names under which a node is in the order of paths: `name`, and for a directory `name/` as well."""
    return (name, f"{name}/") if is_directory else (name,)


@dataclass(slots=True)
class _Kept:
    """An index in memory. `lock` is taken by code that changes the index and by code that needs it unchanged."""

    index: NameIndex = field(default_factory=NameIndex)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    started: int = 0
    finished: int = 0


class _NotKept(Exception):
    """There is no memory for an index of this space."""


class NameSearch:
    """Searches of all spaces, with the indexes that this process keeps in memory."""

    def __init__(self, *, journal: Journal, most_names: int = MAX_INDEXED_NAMES) -> None:
        """`most_names` is the maximum of `size`, the number of names in memory."""
        self._journal = journal
        self._most = most_names
        self._kept: OrderedDict[SpaceId, _Kept] = OrderedDict()
        self._size = 0
        self._too_large: set[SpaceId] = set()
        self._streams = Pool("search_streams", STREAMS_AT_ONCE, counted=True)

    @property
    def size(self) -> int:
        """Memory of all indexes of this process, expressed as the number of names of usual length that take as much
        memory.
        """
        return self._size

    async def depths_below(
        self, view: SpaceView, directories: Collection[NodeId]
    ) -> tuple[int, dict[NodeId, PathLength]]:
        """Return the sequence number of the journal's head, and for each directory the length of the longest path below
        it. A length may be greater than the true one.

        The turns are charged to the space, because commits of several people are decided together.
        """
        account = view.space
        with contextlib.suppress(_NotKept):
            async with self._up_to_date(view, account) as index:
                return index.position.seq, await index.depths_below(directories, account=account)
        async with self._streams.lent(1, Share.alone(account), patience=None):
            index = await self._caught_up(NameIndex(only=_DIRECTORIES, is_ordered=False), view, account)
            return index.position.seq, await index.depths_below(directories, account=account)

    async def size_below(
        self, view: SpaceView, tops: Sequence[MeasuredTop], *, most: TreeSize, account: str
    ) -> TreeSize:
        """Return the number and the size of the paths below the directories `tops`. Stop once one of them exceeds that
        in `most`; the result then exceeds `most`, and is a lower bound. The turns are charged to the person `account`.

        The journal is read once for all directories: a space whose index is not kept is read from the beginning.
        """
        with contextlib.suppress(_NotKept):
            async with self._up_to_date(view, account) as index:
                return await index.size_below(tops, most=most, account=account)
        async with self._streams.lent(1, Share.alone(account), patience=None):
            index = await self._caught_up(NameIndex(only=_DIRECTORIES), view, account)
            return await _listed_size(view, index, tops, most=most, account=account)

    def keeps(self, space: SpaceId) -> bool:
        """Return True if the index of this space is in memory."""
        return space in self._kept

    async def search(
        self, view: SpaceView, words: Sequence[str], *, after: str, limit: int, account: str
    ) -> tuple[list[reads.Found], str | None]:
        """Return up to `limit` nodes that are not in the trash and whose names contain all of `words` (from
        `words_of`), in the order of paths, after the path `after`. Also return the path after which the next page
        begins; None on the last page. A page may be short or empty although others follow.

        The result is valid at one sequence number between start and end of the call. The turns are charged to the
        person `account`.
        """
        try:
            if view.space not in self._too_large:
                async with self._use(view.space) as kept:
                    return await self._of_kept(kept, view, words, after=after, limit=limit, account=account)
        except _NotKept:
            pass
        async with self._streams.lent(1, Share.alone(account), patience=None):
            index = NameIndex(only=words)
            while True:
                index = await self._caught_up(index, view, account)
                candidates = await index.page(words, after=after, limit=limit, account=account)
                if found := await _seen(view, candidates, account=account):
                    return found

    async def _of_kept(
        self, kept: _Kept, view: SpaceView, words: Sequence[str], *, after: str, limit: int, account: str
    ) -> tuple[list[reads.Found], str | None]:
        while True:
            wanted = kept.started + 1
            async with kept.lock:
                if self._kept.get(view.space) is not kept:
                    raise _NotKept  # The index proved too large while this search waited.
                # Concurrent searches share one read of the journal, which started after each of them was called.
                if kept.finished < wanted:
                    kept.started += 1
                    mine = kept.started
                    await self._refresh(kept, view, account)
                    kept.finished = mine
                candidates = await kept.index.page(words, after=after, limit=limit, account=account)
            if found := await _seen(view, candidates, account=account):
                return found

    @contextlib.asynccontextmanager
    async def _up_to_date(self, view: SpaceView, account: str) -> AsyncIterator[NameIndex]:
        """Context manager that yields the space's index from memory, with all entries of the journal applied. Nobody
        changes the index within the context. Raise _NotKept if the space has too many names for an index in memory. The
        turns are charged to `account`: a person, or a space.
        """
        if view.space in self._too_large:
            raise _NotKept
        async with self._use(view.space) as kept, kept.lock:
            if self._kept.get(view.space) is not kept:
                raise _NotKept
            await self._refresh(kept, view, account)
            yield kept.index

    async def _refresh(self, kept: _Kept, view: SpaceView, account: str) -> None:
        try:
            kept.index = await self._caught_up(kept.index, view, account, kept)
        except _NotKept:
            self._drop(view.space)
            raise

    async def _caught_up(self, index: NameIndex, view: SpaceView, account: str, kept: _Kept | None = None) -> NameIndex:
        """Apply the new entries of the journal to `index`, and return `index`. Return a new index if the history of the
        journal differs from that of `index`. `kept` is the cache entry with the index; None for an index that is not
        kept.
        """
        try:
            await self._apply_changes(index, view, account, kept)
        except InvalidCursor:
            # The table was restored from a backup.
            fresh = index.emptied()
            if kept:
                self._size += fresh.size - index.size
                kept.index = fresh
            await self._apply_changes(fresh, view, account, kept)
            return fresh
        return index

    async def _apply_changes(self, index: NameIndex, view: SpaceView, account: str, kept: _Kept | None) -> None:
        waiting = 0
        # Each entry is applied as a whole, so that an index whose search was cancelled can be continued by the next
        # search.
        async for nodes, position in reads.changes(view, self._journal, after=index.position):
            before = index.size
            index.apply(nodes)
            index.position = position
            if kept:
                self._size += index.size - before
                self._make_room(view.space, index)
            waiting += len(nodes)
            if waiting >= NODES_PER_TURN:
                waiting = 0
                await turn(account)

    # ---- what is kept

    @contextlib.asynccontextmanager
    async def _use(self, space: SpaceId) -> AsyncIterator[_Kept]:
        kept = self._kept.get(space)
        if kept is None:
            kept = self._kept[space] = _Kept()
            self._size += kept.index.size
        self._kept.move_to_end(space)
        kept.users += 1
        try:
            yield kept
        finally:
            kept.users -= 1

    def _make_room(self, space: SpaceId, index: NameIndex) -> None:
        """Drop the indexes that were searched longest ago, until the others fit into `most_names`. Raise _NotKept if
        `index`, the index of `space`, is too large by itself, or if no other index can be dropped now.
        """
        if self._size <= self._most:
            return
        if index.size > self._most:
            # The index will hardly shrink, and another attempt would evict all others.
            self._too_large.add(space)
            raise _NotKept
        for other, kept in list(self._kept.items()):
            if kept.users == 0:
                self._drop(other)
                if self._size <= self._most:
                    return
        raise _NotKept

    def _drop(self, space: SpaceId) -> None:
        self._size -= self._kept.pop(space).index.size


async def _listed_size(
    view: SpaceView, index: NameIndex, tops: Sequence[MeasuredTop], *, most: TreeSize, account: str
) -> TreeSize:
    """Return the size of the trees below directories, computed from the names in each directory of which `index` knows.
    Stop once the number or the size of the paths exceeds that in `most`; the result then exceeds `most`, and is a lower
    bound.
    """
    size = TreeSize()
    for top in tops:
        for directory, above in index.directories_below(top):
            if directory != top.directory:
                size += TreeSize(0, 1)  # the '/' after the name of a directory, which was listed without it
            after: str | None = ""
            while after is not None and size.fits_in(most):
                await turn(account)
                page, after = await view.list_names(directory, after=after, limit=NODES_PER_TURN)
                size += TreeSize(len(page), sum(above + most_archived_bytes(name) for name, _ in page))
            if not size.fits_in(most):
                return size
    return size


async def _seen(
    view: SpaceView, candidates: Candidates, *, account: str
) -> tuple[list[reads.Found], str | None] | None:
    """Return the nodes of `candidates` as the view has them, and the path after which the next page begins. Return None
    if the view has advanced since the candidates were found.
    """
    await view.load(Missing(nodes={*candidates.nodes, *candidates.above}))
    found = await reads.look(view, candidates.nodes, account=account)
    return (found, candidates.end) if view.seq == candidates.seq else None


def _from_below(above: Mapping[NodeId, NodeId]) -> Iterator[NodeId]:
    """Yield the keys of `above`, children before their parents. `above` has the parent of each key."""
    waiting = Counter(above.values())
    pending = [one for one in above if not waiting[one]]
    while pending:
        one = pending.pop()
        yield one
        parent = above[one]
        waiting[parent] -= 1
        if not waiting[parent] and parent in above:
            pending.append(parent)


def _contains(key: str, words: Iterable[str]) -> bool:
    return all(word in key for word in words)


def _slices(items: Iterable[T]) -> Iterator[list[T]]:
    waiting = iter(items)
    while some := list(islice(waiting, SLICE_NAMES)):
        yield some
