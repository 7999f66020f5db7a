"""Nodes by words of their names: an index of the names of a space, which is one more projection of its journal.

An index holds names in the order of paths. A page goes on where the page before it stopped, and costs what it passes.
An index is brought to the journal's head before it is searched, so no search is stale. What it tells is only which
nodes match and where they are; the nodes themselves are read through the view, at the same sequence number.

The indexes of all spaces together hold at most `most_names` names; those that were not searched for longest go first.
A space that has more is read from the beginning for each search, and nothing of it is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from sortedcontainers import SortedList

from runtime.turns import turn
from services.metadata.entry import BEGINNING
from services.metadata.ports import Journal
from services.metadata.tree import reads
from services.metadata.tree.decide import PathLength
from services.metadata.tree.view import Missing, SpaceView
from syncline.model.errors import InvalidArgument, InvalidCursor
from syncline.model.identifiers import ID_BYTES, ROOT, NodeId, SpaceId
from syncline.model.limits import MAX_QUERY_CHARACTERS
from syncline.model.names import MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_PATH_NAMES, normalize
from syncline.model.tree import Node, NodeKind

T = TypeVar("T")

MAX_NAMES: Final = 500_000
"""Maximum number of names in memory for searches; a name takes about 400 bytes."""
SPACE_WEIGHT: Final = 4
"""Memory that an index takes beside its names, expressed in names."""
STREAMS: Final = 2
"""Searches at once of spaces that are too large to be kept."""
SLICE: Final = 5_000
"""Names that are looked at in one turn to learn how deep directories are."""
LOOKED_AT: Final = 100_000
"""Names that are looked at for one page of a search."""
_DIRECTORIES: Final = ("/",)
"""A word that no name contains, so that an index with `only` this holds directories and no files."""
_NOTHING: Final = PathLength()
NODES_PER_TURN: Final = 1_000
"""Nodes that are taken from the journal, or looked at by a search, in one turn."""
_SURELY_SHORT: Final = MAX_PATH_BYTES // 4
"""Characters of a path that have no more than MAX_PATH_BYTES bytes."""
_AFTER_ALL: Final = NodeId(b"\xff" * (ID_BYTES + 1))
"""Greater than any id of a node."""


def folded(text: str) -> str:
    """The form in which names and words are compared: whatever the case."""
    return normalize(normalize(text).casefold())


def words_of(query: str) -> tuple[str, ...]:
    """Return the words that a name must contain to be found. Raise InvalidArgument."""
    if len(query) > MAX_QUERY_CHARACTERS:
        raise InvalidArgument(f"a query has at most {MAX_QUERY_CHARACTERS} characters")
    words = tuple(dict.fromkeys(folded(query).split()))
    if not words:
        raise InvalidArgument("a query has at least one word")
    return words


@dataclass(frozen=True, slots=True)
class _Name:
    """The values of a node that tell whether it matches and where it is."""

    id: NodeId
    parent: NodeId
    name: str
    folded: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """The nodes of a page by path, where the next one starts (None: nowhere), and as of which sequence number."""

    seq: int
    nodes: list[NodeId]
    above: set[NodeId]
    """The directories on their paths."""
    end: str | None


class NameIndex:
    """The names of one space after journal entry `position`, but for the nodes that are deleted themselves.

    With `only`, of files only those whose names contain these words: as much as one search needs.
    """

    def __init__(self, only: Sequence[str] = (), *, is_ordered: bool = True) -> None:
        """`is_ordered`: whether pages will be asked for."""
        self.position = BEGINNING
        self._only = only
        self._is_ordered = is_ordered
        self._names: dict[NodeId, _Name] = {}
        self._children: dict[NodeId, SortedList[tuple[str, NodeId]]] = {}
        """By directory, what is in it in the order of paths: each node as `name`, each directory as `name/` as well."""

    @property
    def size(self) -> int:
        return len(self._names) + max(0, len(self._children) - 1) + SPACE_WEIGHT

    def apply(self, nodes: Iterable[Node]) -> None:
        """Take states of nodes in, in the journal's order."""
        for node in nodes:
            key = folded(node.name)
            is_directory = node.kind is NodeKind.DIRECTORY
            unwanted = self._only and not is_directory and not _contains(key, self._only)
            before = self._names.pop(node.id, None)
            if node.deleted_at_ms or unwanted:
                # Should it come back, or match some day, its whole state will be told.
                self._reorder(before, None, is_directory)
            else:
                # One string where both are the same, as most are.
                now = _Name(node.id, node.parent, key if key == node.name else node.name, key)
                self._names[node.id] = now
                self._reorder(before, now, is_directory)

    def _reorder(self, before: _Name | None, now: _Name | None, is_directory: bool) -> None:
        """Move a node in the order of paths from where it was (None: nowhere) to where it is."""
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
        """One for the same names that begins anew."""
        return NameIndex(self._only, is_ordered=self._is_ordered)

    async def page(self, words: Sequence[str], *, after: str, limit: int, account: str) -> Candidates:
        """Up to `limit` live nodes whose names contain all words, by path, after the path `after`.

        At most LOOKED_AT names are looked at, so that a page may be short, or empty, and yet others follow; no name is
        looked at for two pages. The index must not change meanwhile. What has a path that is longer than a path can be
        is left out.
        """
        first, *others = sorted(words, key=len, reverse=True)  # the longest is in the fewest names
        nodes: list[NodeId] = []
        above: set[NodeId] = set()
        end, looked = after, 0
        for steps, (path, held) in enumerate(self._by_path(after), 1):
            if steps % NODES_PER_TURN == 0:
                await turn(account)
            if held is None:
                continue
            if looked == LOOKED_AT:
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
        """The live nodes whose path is greater than `after`, in the order of their paths; None for a path too long.

        In that order "a.txt" comes between "a" and "a/b", so a directory's place and that of what is below it differ.
        """
        # Each level: the path of a directory with '/' at its end, and what is left there to visit.
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
        """Yield the entries of a directory, in order, from the entry on to which `after` leads, a path in this
        directory.
        """
        children = self._children.get(directory)
        if children is None:
            return iter(())
        name, slash, _ = after.partition("/")
        # Every entry in the directory `name` comes after the entry `name/`, which is not greater than `after`.
        return children.irange((name + slash, NodeId(b"") if slash else _AFTER_ALL), inclusive=(True, True))

    async def depths_below(self, directories: Collection[NodeId], *, account: str) -> dict[NodeId, PathLength]:
        """The depth of each of these directories.

        With `only`, an upper bound: files that the index leaves out count as the longest name.

        One pass for all of them, whatever their size. The index must not change meanwhile.
        """
        depths: dict[NodeId, PathLength] = {}
        for some in _slices(self._names.values()):
            for held in some:
                depths[held.parent] = depths.get(held.parent, _NOTHING).max_with(PathLength.of(held.name))
            await turn(account)
        # The directories that hold something, those that are farther down first.
        above = {one: self._names[one].parent for one in depths if one in self._names}
        for directories_of_a_slice in _slices(_from_below(above)):
            for one in directories_of_a_slice:
                end = PathLength.of(self._names[one].name) + depths[one]
                depths[above[one]] = depths[above[one]].max_with(end)
            await turn(account)
        # Files that the index leaves out may be in any directory.
        least = PathLength(1, MAX_NAME_BYTES + 1) if self._only else _NOTHING
        return {one: depths.get(one, _NOTHING) + least for one in directories}

    def _above(self, node: NodeId, known: set[NodeId]) -> Iterator[NodeId]:
        while (node := self._names[node].parent) != ROOT and node not in known:
            yield node


def _keys(name: str, is_directory: bool) -> tuple[str, ...]:
    """The entries of a node in the order of paths."""
    return (name, f"{name}/") if is_directory else (name,)


@dataclass(slots=True)
class _Kept:
    """An index in memory. `lock` is held by who changes it and by who needs it not to change."""

    index: NameIndex = field(default_factory=NameIndex)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    started: int = 0
    finished: int = 0


class _NotKept(Exception):
    """There is no room for an index of this space."""


class NameSearch:
    """Searches of all spaces, with the indexes that this process has in memory."""

    def __init__(self, *, journal: Journal, most_names: int = MAX_NAMES) -> None:
        self._journal = journal
        self._most = most_names
        self._kept: OrderedDict[SpaceId, _Kept] = OrderedDict()
        self._size = 0
        self._too_large: set[SpaceId] = set()
        self._streams = asyncio.Semaphore(STREAMS)

    @property
    def size(self) -> int:
        """Names in memory."""
        return self._size

    async def depths_below(
        self, view: SpaceView, directories: Collection[NodeId]
    ) -> tuple[int, dict[NodeId, PathLength]]:
        """The sequence number of the journal's head, and the depths of these directories, or more.

        The space waits for its turns, since what several persons commit is decided together.
        """
        account = view.space
        try:
            if view.space not in self._too_large:
                async with self._use(view.space) as kept, kept.lock:
                    if self._kept.get(view.space) is not kept:
                        raise _NotKept
                    await self._refresh(kept, view, account)
                    return kept.index.position.seq, await kept.index.depths_below(directories, account=account)
        except _NotKept:
            pass
        async with self._streams:
            index = await self._caught_up(NameIndex(only=_DIRECTORIES, is_ordered=False), view, account)
            return index.position.seq, await index.depths_below(directories, account=account)

    def keeps(self, space: SpaceId) -> bool:
        """Return True if an index of this space is in memory."""
        return space in self._kept

    async def search(
        self, view: SpaceView, words: Sequence[str], *, after: str, limit: int, account: str
    ) -> tuple[list[reads.Found], str | None]:
        """Up to `limit` live nodes whose names contain all of `words` (from `words_of`), by path after `after`,
        and where the next page starts (None: nowhere). A page may be short, or empty, and yet others follow.

        The nodes, and which they are, are right at one sequence number between start and end of the call. `account` is
        the person who waits for the turns that it takes.
        """
        try:
            if view.space not in self._too_large:
                async with self._use(view.space) as kept:
                    return await self._of_kept(kept, view, words, after=after, limit=limit, account=account)
        except _NotKept:
            pass
        async with self._streams:
            index = NameIndex(only=words)
            while True:
                index = await self._caught_up(index, view, account)
                candidates = await index.page(words, after=after, limit=limit, account=account)
                if found := await _seen(view, candidates):
                    return found

    async def _of_kept(
        self, kept: _Kept, view: SpaceView, words: Sequence[str], *, after: str, limit: int, account: str
    ) -> tuple[list[reads.Found], str | None]:
        while True:
            wanted = kept.started + 1
            async with kept.lock:
                if self._kept.get(view.space) is not kept:
                    raise _NotKept  # The index turned out to be too large while this search waited.
                # Searches that come together share one look at the journal, which started after each of them asked.
                if kept.finished < wanted:
                    kept.started += 1
                    mine = kept.started
                    await self._refresh(kept, view, account)
                    kept.finished = mine
                candidates = await kept.index.page(words, after=after, limit=limit, account=account)
            if found := await _seen(view, candidates):
                return found

    async def _refresh(self, kept: _Kept, view: SpaceView, account: str) -> None:
        try:
            kept.index = await self._caught_up(kept.index, view, account, kept)
        except _NotKept:
            self._drop(view.space)
            raise

    async def _caught_up(self, index: NameIndex, view: SpaceView, account: str, kept: _Kept | None = None) -> NameIndex:
        """The index at the journal's head; another one if the journal has another history than the index."""
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
        # Each entry is taken in as a whole: who is cancelled leaves an index that the next one goes on with.
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
        """Drop what was not searched for longest, until all fits; _NotKept if nothing can go but this space."""
        if self._size <= self._most:
            return
        if index.size > self._most:
            # The index will hardly become smaller, and to try again would push out all others.
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


async def _seen(view: SpaceView, candidates: Candidates) -> tuple[list[reads.Found], str | None] | None:
    """The candidates as they are in the view; None if the view has moved on since they were."""
    await view.load(Missing(nodes={*candidates.nodes, *candidates.above}))
    found = await reads.look(view, candidates.nodes)
    return (found, candidates.end) if view.seq == candidates.seq else None


def _from_below(above: Mapping[NodeId, NodeId]) -> Iterator[NodeId]:
    """The keys of a forest, given what each is in, each before what it is in."""
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
    while some := list(islice(waiting, SLICE)):
        yield some
