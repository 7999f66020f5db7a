"""Bulk work of one person yields to others: in slices, counted in calls of functions between two rounds of the loop."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from services.metadata.entry import Projection
from services.metadata.journal.commit import Request
from services.metadata.journal.project import MAX_PASS_CHANGES
from services.metadata.tree.reads import CHECKS_PER_TURN, STEPS_PER_TURN
from services.metadata.tree.search import SLICE_NAMES, NameIndex
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.identifiers import ROOT, NodeId, SpaceId, new_request_id
from syncline.model.tree import MAX_CHECK_FILES, CreateNode, Node, NodeKind
from tests.services.metadata.simulation import SPACE, Process, World, run_virtually
from tests.services.metadata.support import (
    EMPTY_DIGEST,
    UNPROJECTED_SECONDS,
    Backend,
    Caller,
    Service,
    creating,
    projected,
    service,
)
from tests.support.metadata import MemoryTable, still_allowed

T = TypeVar("T")
J, M = journal_pb2, metadata_pb2
MANY = 2000


@dataclass
class Rounds:
    """The number of functions that were called in each round of the event loop."""

    calls: list[int] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.calls)

    @property
    def longest(self) -> int:
        return max(self.calls)


@asynccontextmanager
async def counted() -> AsyncIterator[Rounds]:
    rounds, count, over = Rounds(), 0, False

    def called(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    async def tick() -> None:
        nonlocal count
        while not over:
            await asyncio.sleep(0)
            rounds.calls.append(count)
            count = 0

    with capture_logs():  # a line of the log is formatted in one round, for a terminal by hundreds of small functions
        sys.setprofile(called)
        ticking = asyncio.create_task(tick())
        try:
            yield rounds
        finally:
            over = True
            await ticking
            sys.setprofile(None)


@pytest.fixture
async def metadata() -> AsyncIterator[Service]:
    async with service(coalesce_seconds=UNPROJECTED_SECONDS) as running:
        yield running


async def test_a_large_commit_leaves_the_loop_to_others_many_times(metadata: Service) -> None:
    async with metadata.caller() as editor:
        await editor.create("docs")
        request = [creating(f"{number}.txt") for number in range(MANY)]
        async with counted() as rounds:
            answer = await editor.commit(*request)
        assert {one.verdict for one in answer.results} == {J.VERDICT_ACCEPTED}
        assert rounds.longest < rounds.total / 6


async def test_changes_and_searches_are_told_in_slices(metadata: Service) -> None:
    async with metadata.caller() as editor:
        for number in range(3):
            directory = await editor.create(f"d{number}")
            await editor.commit(*(creating(f"{number}.txt", parent=directory.id) for number in range(MANY)))
        async with counted() as rounds:
            request = M.ListChangesRequest(space_id=editor.space)
            pages = [page async for page in editor.stub.ListChanges(request)]
        assert sum(len(page.nodes) for page in pages) == 3 * MANY + 3
        assert rounds.longest < rounds.total / 6
        search = M.SearchNodesRequest(space_id=editor.space, query="txt", page_size=1)
        await editor.stub.SearchNodes(search)
        async with counted() as rounds:
            found = (await editor.stub.SearchNodes(search)).found
        assert [one.path for one in found] == ["d0/0.txt"]
        assert rounds.longest < rounds.total / 3


async def test_a_search_over_many_names_is_done_in_slices() -> None:
    """A slice does its work without calls of functions, so rounds of the loop are counted."""
    index, many = NameIndex(), 10 * SLICE_NAMES
    index.apply(
        Node(NodeId(number.to_bytes(16, "big")), ROOT, f"{number}", NodeKind.DIRECTORY) for number in range(1, many + 1)
    )
    for work in (
        index.page(["nowhere"], after="", limit=1, account="ann"),
        index.depths_below([ROOT], account="ann"),
    ):
        async with counted() as rounds:
            await work
        assert len(rounds.calls) >= 10


async def test_the_first_search_of_a_large_space_is_done_in_slices(metadata: Service) -> None:
    async with metadata.caller() as editor:
        for number in range(8):
            await editor.commit(*(creating(f"{number} {one}.txt") for one in range(1000)))
        async with counted() as rounds:
            found = await editor.stub.SearchNodes(M.SearchNodesRequest(space_id=editor.space, query="7 999"))
    assert [one.path for one in found.found] == ["7 999.txt"]
    assert rounds.longest < rounds.total / 4


async def deep(editor: Caller, *, chains: int, depth: int) -> list[str]:
    """Make as many chains of directories, one in the other, each with a file at its end; the paths of the files."""
    parents = [bytes(ROOT)] * chains
    for level in range(depth):
        names = [f"{number} {level}" if level < depth - 1 else f"{number}.txt" for number in range(chains)]
        answer = await editor.commit(*map(lambda name, parent: creating(name, parent=parent), names, parents))
        parents = [result.node.id for result in answer.results]
    return [
        "/".join([*(f"{number} {level}" for level in range(depth - 1)), f"{number}.txt"]) for number in range(chains)
    ]


@pytest.mark.parametrize("by", ["paths", "node_ids"])
async def test_a_check_of_many_files_is_done_in_turns(metadata: Service, by: str) -> None:
    async with metadata.caller() as editor:
        directory = await editor.create("crowd")
        names = [f"{number:06}" for number in range(MAX_CHECK_FILES)]
        made = await editor.commit(*(creating(name, parent=directory.id) for name in names))
        batch = M.CheckVersionsBatch(digests=b"x" * 32 * MAX_CHECK_FILES)
        if by == "paths":
            batch.paths.extend(f"crowd/{name}" for name in names)
        else:
            batch.node_ids = b"".join(one.node.id for one in made.results)
        opening = M.CheckVersionsOpen(space_id=editor.space)
        messages = [M.CheckVersionsRequest(open=opening), M.CheckVersionsRequest(batch=batch)]
        await _differences(editor, messages)  # loads what is not in memory
        async with counted() as rounds:
            assert await _differences(editor, messages) == list(range(MAX_CHECK_FILES))
        assert rounds.longest < 4 * MAX_CHECK_FILES


async def test_a_bad_path_of_a_later_turn_is_named_by_its_position(metadata: Service) -> None:
    async with metadata.caller() as editor:
        paths = ["a"] * (2 * CHECKS_PER_TURN + 5) + ["b/"]
        batch = M.CheckVersionsBatch(paths=paths, digests=EMPTY_DIGEST * len(paths))
        messages = [
            M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=editor.space)),
            M.CheckVersionsRequest(batch=batch),
        ]
        with pytest.raises(grpc.aio.AioRpcError, match=rf"paths\[{len(paths) - 1}\]"):
            await _differences(editor, messages)


async def _differences(editor: Caller, messages: list[metadata_pb2.CheckVersionsRequest]) -> list[int]:
    answers = [answer async for answer in editor.stub.CheckVersions(iter(messages))]
    return [index for answer in answers for index in answer.indexes]


async def test_a_check_of_many_deep_paths_is_done_in_turns(metadata: Service) -> None:
    """Each of its steps calls a function, so a turn has a bounded number of these, however deep the paths are."""
    async with metadata.caller() as editor:
        paths = await deep(editor, chains=400, depth=60)
        messages = [
            M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=editor.space)),
            M.CheckVersionsRequest(batch=M.CheckVersionsBatch(paths=paths, digests=EMPTY_DIGEST * len(paths))),
        ]
        async with counted() as rounds:
            answers = [answer async for answer in editor.stub.CheckVersions(iter(messages))]
        assert [list(answer.indexes) for answer in answers[:-1]] == [[]]
        assert rounds.total > 2 * 400 * 60
        assert rounds.longest < 9 * STEPS_PER_TURN


async def test_a_page_of_trash_in_deep_directories_is_done_in_turns(metadata: Service) -> None:
    async with metadata.caller() as editor:
        paths = await deep(editor, chains=400, depth=60)
        nodes = [(await editor.stub.GetNode(M.GetNodeRequest(space_id=editor.space, path=path))).node for path in paths]
        await editor.commit(*(M.Mutation(delete=M.DeleteNode(node=one.id, base_version=1)) for one in nodes))
        async with counted() as rounds:
            page = await editor.stub.ListTrash(M.ListTrashRequest(space_id=editor.space, page_size=1000))
        assert sorted(page.paths) == sorted(paths)
        assert rounds.longest < 9 * STEPS_PER_TURN


async def test_pages_and_answers_are_told_in_slices(metadata: Service) -> None:
    """One round never shapes a whole page, whatever it is a page of."""
    async with metadata.caller() as editor:
        request_id = new_request_id()
        await editor.commit(*(creating(f"{number}.txt") for number in range(MANY)), request_id=request_id)
        space = editor.space
        listing = M.ListNodesRequest(space_id=space, parent=ROOT, page_size=1000)
        await editor.stub.ListNodes(listing)  # the names are in order from now on
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "nodes": lambda: editor.stub.ListNodes(listing),
            "activity": lambda: editor.stub.ListActivity(M.ListActivityRequest(space_id=space, page_size=1000)),
            "found": lambda: editor.stub.SearchNodes(M.SearchNodesRequest(space_id=space, query="txt", page_size=1000)),
        }
        for name, call in calls.items():
            await call()  # The index of names and the order of names are in memory from now on.
            async with counted() as rounds:
                await call()
            assert rounds.longest < rounds.total / 2, name
        async with counted() as rounds:
            answer = await editor.stub.GetAnswer(M.GetAnswerRequest(space_id=space, request_id=request_id))
        assert len(answer.results) == MANY
        assert rounds.longest < rounds.total / 2


async def test_what_a_restore_brings_back_holds_up_nobody(metadata: Service) -> None:
    """A directory of tens of thousands of nodes, and a version, come back by a few steps, and depths by turns."""
    async with metadata.caller() as editor:
        top = await editor.create("top")
        for number in range(15):
            directory = await editor.create(f"d{number}", parent=top.id)
            await editor.commit(*(creating(f"{number}.txt", parent=directory.id) for number in range(MANY)))
        file = await editor.create("a.txt")
        update = M.UpdateContent(node=file.id, base_version=1, content=J.Content(digest=EMPTY_DIGEST, mtime_ns=1))
        await editor.commit(M.Mutation(update=update))
        await editor.commit(M.Mutation(delete=M.DeleteNode(node=top.id)))
        restore = M.RestoreNodeRequest(
            space_id=editor.space, request_id=new_request_id(), node=top.id, make_way=True, path="e/f/g"
        )
        async with counted() as rounds:
            answer = await editor.stub.RestoreNode(restore)
        assert (answer.result.verdict, answer.path) == (J.VERDICT_ACCEPTED, "e/f/g")
        assert rounds.longest < rounds.total / 6
        async with counted() as rounds:
            await editor.stub.RestoreVersion(
                M.RestoreVersionRequest(
                    space_id=editor.space, request_id=new_request_id(), node=file.id, version=1, base_version=2
                )
            )
        assert rounds.total < 30_000, "of the space nothing is looked at"


async def test_a_tree_of_tens_of_thousands_of_nodes_is_measured_in_turns(metadata: Service) -> None:
    async with metadata.caller() as editor:
        tops = [await editor.create(f"d{number}") for number in range(15)]
        for top in tops:
            await editor.commit(*(creating(f"{number}.txt", parent=top.id) for number in range(MANY)))
        request = M.MeasureTreeRequest(space_id=editor.space, nodes=[ROOT], max_paths=10**9, max_path_bytes=10**9)
        async with counted() as rounds:
            size = await editor.stub.MeasureTree(request)
        paths = [f"d{number}/" for number in range(15)]
        paths += [f"{top}{number}.txt" for top in paths for number in range(MANY)]
        assert (size.paths, size.path_bytes) == (len(paths), sum(map(len, paths)))
        assert rounds.longest < rounds.total / 6


class Projected(MemoryTable):
    """Tells how many nodes were written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once: list[int] = []

    @override
    async def project(self, space: SpaceId, projection: Projection) -> None:
        self.at_once.append(len(projection.nodes))
        await super().project(space, projection)


async def test_a_round_of_projection_ends_after_so_many_changes() -> None:
    table = Projected()
    backend = Backend(table=table)
    async with service(backend, coalesce_seconds=0.2) as metadata, metadata.caller() as editor:
        for number in range(6):
            await editor.commit(*(creating(f"{number} {one}.txt") for one in range(1500)))
        await projected(backend, editor.space)
    assert sum(table.at_once) == 9000
    assert max(table.at_once) < MAX_PASS_CHANGES + 1500


def test_the_requests_of_one_person_do_not_hold_up_those_of_another() -> None:
    def request(user: str, count: int) -> Request:
        made = new_request_id()
        names = (f"{made.hex()}-{number}" for number in range(count))
        creates = tuple(CreateNode(ROOT, name, NodeKind.DIRECTORY) for name in names)
        return Request(made, b"", user, "device", creates, 50 * count)

    async def main() -> tuple[list[int], int]:
        process = Process(World(random.Random(1)))
        async with process.spaces.use(SPACE) as live:
            many = [
                asyncio.create_task(live.committer.commit(request("mallory", 1500), ask=still_allowed))
                for _ in range(10)
            ]
            await asyncio.sleep(0)
            one = await live.committer.commit(request("ann", 1), ask=still_allowed)
            return [answer.seq for answer in await asyncio.gather(*many)], one.seq

    bulk, seq = run_virtually(main())
    assert bulk == list(range(1, 11)), "each person's own requests stay in order"
    assert seq <= 2
