"""A page costs as much as it returns, however large the thing is that it is a page of."""

from __future__ import annotations

import dataclasses
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import pytest
from typing_extensions import override

from services.metadata.entry import Commit, JournalEntry
from services.metadata.ports import ProjectionState, Rows
from services.metadata.tree import reads
from services.metadata.tree.search import MAX_LOOKED_AT_NAMES, Candidates, NameIndex
from services.metadata.tree.view import Missing, SpaceView
from services.metadata.wire import entry_to_bytes
from syncline.model.blocks import BlockRef, Digest, Manifest
from syncline.model.identifiers import ROOT, NodeId, SpaceId, new_request_id, new_text_id
from syncline.model.tree import Change, Content, Node, NodeKind, Result
from syncline.model.verdicts import Verdict
from tests.services.metadata.support import EMPTY_DIGEST
from tests.support.metadata import MemoryJournal, MemoryTable

CALLS = 1000
"""Calls of functions, of Python and of C, and lines, that a page of one entry may take."""
BYTES = 100_000
"""The bytes that a page may have in memory: a list of all the names would be more."""


def file(name: str, *, parent: NodeId = ROOT, ident: NodeId | None = None, version: int = 1, seq: int = 1) -> Node:
    content = Content(Digest(EMPTY_DIGEST), 0, mtime_ns=version)
    return Node(ident or new_node_id(), parent, name, NodeKind.FILE, version, content, seq)


def new_node_id() -> NodeId:
    return NodeId(new_request_id())


def accepted(node: Node, change: Change) -> Result:
    return Result(Verdict.ACCEPTED, node, change)


async def view_of(*entries: Sequence[Result]) -> SpaceView:
    """A space with these entries, all in memory and none of them in the table."""
    space, journal = SpaceId(new_text_id()), MemoryJournal()
    view = SpaceView(space, journal=journal, table=MemoryTable(), capacity=10**9)
    for seq, results in enumerate(entries, 1):
        commit = Commit(new_request_id(), bytes(32), "ann", "laptop", 1, tuple(results))
        await journal.append(space, seq, await entry_to_bytes(JournalEntry(seq, bytes(16), (commit,), 0)))
    await view.validate()
    return view


async def calls_of(work: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> tuple[Any, int]:
    """Call `work`; return its result and the number of its function calls and lines.

    Memory is counted for the whole process. What threads of other tests take meanwhile is no fault of this work, so
    it is done again, up to three times in all, if too much was taken.
    """
    for _ in range(3):
        result, count, peak = await _measured(work(*arguments, **named))
        if peak < BYTES:
            return result, count
    raise AssertionError(f"{peak} bytes were taken, and {BYTES} are allowed")


async def _measured(work: Awaitable[Any]) -> tuple[Any, int, int]:
    """Run `work`; return its result, the number of its function calls and lines, and the peak of memory in bytes."""
    count = 0

    def called(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    def ran(frame: object, event: str, arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return ran

    tracemalloc.start()
    sys.setprofile(called)
    sys.settrace(ran)
    try:
        result = await work
    finally:
        sys.settrace(None)
        sys.setprofile(None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return result, count, peak


MANY = 20_000


@pytest.fixture(scope="module")
def names() -> list[str]:
    return [f"{number:05}.txt" for number in range(MANY)]


async def test_of_a_directory_that_memory_knows(names: list[str]) -> None:
    view = await view_of([accepted(file(name), Change.CREATED) for name in names])
    await reads.list_nodes(view, ROOT, after="", limit=1)
    for after, found in (("", "00000.txt"), ("10000.txt", "10001.txt"), (names[-2], names[-1])):
        (nodes, end), calls = await calls_of(reads.list_nodes, view, ROOT, after=after, limit=1)
        assert [node.name for node in nodes] == [found]
        assert end == (None if found == names[-1] else found)
        assert calls < CALLS
    # A change between two pages does not make the next one costly.
    view.apply(JournalEntry(2, bytes(16), (commit_of(accepted(file("00000a.txt"), Change.CREATED)),), 0))
    (page, end), calls = await calls_of(view.list_names, ROOT, after="00000.txt", limit=1)
    assert ([name for name, _ in page], end) == (["00000a.txt"], "00000a.txt")
    assert calls < CALLS


def commit_of(result: Result) -> Commit:
    return Commit(new_request_id(), bytes(32), "ann", "laptop", 1, (result,))


async def test_of_a_directory_of_which_memory_knows_many_names_but_not_all(names: list[str]) -> None:
    view = await view_of([])
    directory = new_node_id()
    await view.load(Missing(names={(directory, name) for name in names}))  # a version check by path does so
    held = file("10000.txt", parent=directory, seq=2)
    view.apply(JournalEntry(2, bytes(16), (commit_of(accepted(held, Change.CREATED)),), 0))
    await view.list_names(directory, after="", limit=1)
    (page, end), calls = await calls_of(view.list_names, directory, after="", limit=1)
    assert (page, end) == ([("10000.txt", held.id)], None)
    assert calls < CALLS


async def test_of_a_directory_of_which_memory_knows_more_than_the_table(names: list[str]) -> None:
    view = await view_of([])
    directory = new_node_id()
    made = [accepted(file(name, parent=directory, seq=2), Change.CREATED) for name in names]
    view.apply(JournalEntry(2, bytes(16), (Commit(new_request_id(), bytes(32), "ann", "laptop", 1, tuple(made)),), 0))
    await view.list_names(directory, after="", limit=1)
    for after, found in (("", names[0]), (names[9_999], names[10_000])):
        (page, end), calls = await calls_of(view.list_names, directory, after=after, limit=1)
        assert ([name for name, _ in page], end) == ([found], found)
        assert calls < CALLS


class CountingTable(MemoryTable):
    """Counts the nodes that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    @override
    async def rows(self, space: SpaceId, *, nodes: Collection[NodeId] = (), **more: Any) -> Rows:
        self.read += len(nodes)
        return await super().rows(space, nodes=nodes, **more)


async def test_a_page_of_large_manifests_loads_what_it_returns() -> None:
    table, journal, space = CountingTable(), MemoryJournal(), SpaceId(new_text_id())
    one = Digest(EMPTY_DIGEST)
    manifest = Manifest.of([BlockRef(one, 1, one, 0)] * 400)
    for number in range(1000):
        node = file(f"{number:04}.txt")
        assert node.content is not None
        large = dataclasses.replace(node, content=dataclasses.replace(node.content, size=400, manifest=manifest))
        table.nodes[space, node.id] = large
        table.names[space, (ROOT, node.name)] = node.id, 1
    commit = Commit(new_request_id(), bytes(32), "ann", "laptop", 1, ())
    await journal.append(space, 1, await entry_to_bytes(JournalEntry(1, bytes(16), (commit,), 0)))
    table.states[space] = ProjectionState(projected_seq=1)
    view = SpaceView(space, journal=journal, table=table, capacity=10**9)
    page, end = await reads.list_nodes(view, ROOT, after="", limit=1000)
    assert 0 < len(page) < 200
    assert end == page[-1].name
    assert table.read == len(page)


async def test_of_the_versions_of_a_file_while_the_table_lags(names: list[str]) -> None:
    busy = file("busy.txt")
    others = [accepted(file(name), Change.CREATED) for name in names]
    second = file("busy.txt", ident=busy.id, version=2, seq=2)
    view = await view_of([accepted(busy, Change.CREATED), *others], [accepted(second, Change.UPDATED)])
    (versions, end), calls = await calls_of(reads.list_versions, view, busy.id, before=3, limit=1)
    assert ([version.number for version in versions], end) == ([2], 2)
    assert calls < CALLS
    (versions, _), calls = await calls_of(reads.list_versions, view, busy.id, before=2, limit=1)
    assert [version.number for version in versions] == [1]
    assert calls < CALLS


async def test_of_the_trash_while_the_table_lags(names: list[str]) -> None:
    made = [file(name) for name in names]
    gone = sorted(
        (Node(one.id, ROOT, one.name, NodeKind.FILE, 1, one.content, 2, deleted_at_ms=9) for one in made[::2]),
        key=lambda node: node.id,
    )
    view = await view_of(
        [accepted(one, Change.CREATED) for one in made], [accepted(one, Change.DELETED) for one in gone]
    )
    for after, expected in ((None, gone[0]), (gone[5000].id, gone[5001])):
        (found, end), calls = await calls_of(reads.list_trash, view, after=after, limit=1, account="ann")
        assert ([one.node.id for one in found], end) == ([expected.id], expected.id)
        assert calls < CALLS
    back = Node(gone[0].id, ROOT, gone[0].name, NodeKind.FILE, 1, gone[0].content, 3)
    view.apply(JournalEntry(3, bytes(16), (commit_of(accepted(back, Change.RESTORED)),), 0))
    assert (await view.trash(after=None, limit=1))[0] == [gone[1].id]
    view.raise_floor(3)
    assert (await view.trash(after=None, limit=1))[0] == [], "the table, which is empty here, says it from now on"


# ---- searches


async def found(index: NameIndex, *words: str, after: str = "", limit: int = 1) -> Candidates:
    return await index.page(words, after=after, limit=limit, account="ann")


def index_of(nodes: Sequence[Node]) -> NameIndex:
    index = NameIndex()
    index.apply(nodes)
    return index


async def test_of_a_search(names: list[str]) -> None:
    made = [file(name) for name in names]
    index = index_of(made)
    for after, expected in (("", made[0]), ("10000.txt", made[10_001]), (names[-2], made[-1])):
        page, calls = await calls_of(found, index, "txt", after=after)
        assert page.nodes == [expected.id]
        assert page.end == (None if expected is made[-1] else expected.name)
        assert calls < CALLS


async def test_of_a_search_below_directories_in_the_middle(names: list[str]) -> None:
    top = Node(new_node_id(), ROOT, "docs", NodeKind.DIRECTORY, seq=1)
    inner = Node(new_node_id(), top.id, "more", NodeKind.DIRECTORY, seq=1)
    made = [file(name, parent=where.id) for where in (top, inner) for name in names]
    index = index_of([top, inner, *made])
    page, calls = await calls_of(found, index, "txt", after="docs/more/10000.txt")
    assert page.nodes == [made[MANY + 10_001].id]
    assert page.above == {top.id, inner.id}
    assert calls < CALLS


async def test_a_search_that_finds_little_looks_at_each_name_once_and_at_a_bounded_number_for_a_page() -> None:
    count = MAX_LOOKED_AT_NAMES + 60
    rare = {7: "a needle", 50: "another needle", MAX_LOOKED_AT_NAMES + 59: "needle"}
    index = index_of([file(f"{n:06} {rare.get(n, 'hay')}") for n in range(count)])
    once = await calls_of(found, index_of([file(f"{n:06} hay") for n in range(MANY)]), "needle")
    after: str | None = ""
    pages, total = [], 0
    while after is not None:
        page, calls = await calls_of(found, index, "needle", after=after)
        pages.append((len(page.nodes), page.end))
        total += calls
        assert page.end != after
        after = page.end
    # The first page passes what comes before the second needle, and thereby knows that others follow.
    assert pages == [(1, "000049 hay"), (1, f"{MAX_LOOKED_AT_NAMES + 49:06} hay"), (1, None)]
    assert total < 1.1 * once[1] * count / MANY
    page, calls = await calls_of(found, index, "nothing")
    assert (page.nodes, page.end) == ([], f"{MAX_LOOKED_AT_NAMES - 1:06} hay")
    assert calls < 1.1 * once[1] * MAX_LOOKED_AT_NAMES / MANY
