"""The size of a tree is the same however it is measured: by walking, by an index in memory, or by listing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence

import pytest
from typing_extensions import override

from services.metadata.journal.commit import Request
from services.metadata.tree import sizes
from services.metadata.tree.search import MAX_INDEXED_NAMES, MeasuredTop, NameSearch, TreeSize
from services.metadata.tree.sizes import TreeSizes
from syncline.metadata.v1 import metadata_pb2
from syncline.model.identifiers import ROOT, NodeId, SpaceId, created_node_id, new_request_id
from syncline.model.limits import MAX_MEASURED_NODES
from syncline.model.tree import CreateNode, DeleteNode, Mutation, NodeKind
from tests.services.metadata.simulation import SPACE, Process, World, run_virtually
from tests.services.metadata.support import UNPROJECTED_SECONDS, creating, reason_of, service
from tests.support.metadata import MemoryJournal, still_allowed

M = metadata_pb2
PLENTY = TreeSize(10**9, 10**9)
NAMES = ("a", "ü.txt", "name", "back\\slash", "back%5Cslash", "dot.", "a:b")


def grown(rng: random.Random, request: bytes, count: int) -> tuple[list[Mutation], dict[NodeId, tuple[NodeId, str]]]:
    """Directories in directories at random; and where each is."""
    mutations: list[Mutation] = []
    places: dict[NodeId, tuple[NodeId, str]] = {}
    for number in range(count):
        parent = rng.choice([ROOT, *places])
        name = f"{number} {rng.choice(NAMES)}"
        mutations.append(CreateNode(parent, name, NodeKind.DIRECTORY))
        places[created_node_id(SPACE, request, number)] = (parent, name)  # type: ignore[arg-type]
    return mutations, places


def archived(name: str) -> int:
    """The bytes that a name may have in an archive."""
    form = name.replace("\\", "%5C").replace(":", "%3A")
    form = f"{form[:-1]}%2E" if form.endswith(".") else form
    return len(form.encode()) + (10 if "%" in form else 0)


def paths_below(top: NodeId, places: dict[NodeId, tuple[NodeId, str]], prefix: int) -> Iterator[int]:
    for node, (parent, name) in places.items():
        if parent == top:
            length = prefix + archived(name) + 1
            yield length
            yield from paths_below(node, places, length)


@pytest.mark.parametrize("most_names", [MAX_INDEXED_NAMES, 0], ids=["in memory", "read each time"])
@pytest.mark.parametrize("seed", range(5))
def test_a_tree_has_one_size_however_it_is_measured(seed: int, most_names: int) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        process = Process(World(rng), most_names=most_names)
        async with process.spaces.use(SPACE) as live:
            request = new_request_id()
            mutations, places = grown(rng, request, 60)
            await live.committer.commit(
                Request(request, b"", "ann", "laptop", tuple(mutations), 100), ask=still_allowed
            )
            gone = rng.choice(list(places))
            await live.committer.commit(
                Request(new_request_id(), b"", "ann", "laptop", (DeleteNode(gone, 0),), 100), ask=still_allowed
            )
            del places[gone]  # Nodes below it are below nothing any more.
            top = rng.choice([ROOT, *(node for node, (parent, _) in places.items() if parent == ROOT)])
            lengths = list(paths_below(top, places, 7))
            expected = TreeSize(len(lengths), sum(lengths))
            assert await TreeSizes._walked(live.view, [MeasuredTop(top, 7)], "ann") == expected
            tops = [MeasuredTop(top, 7)]
            assert await process.search.size_below(live.view, tops, most=PLENTY, account="ann") == expected
            twice = await process.search.size_below(live.view, 2 * tops, most=PLENTY, account="ann")
            assert twice == expected + expected
            everything = [MeasuredTop(ROOT, 0)]
            few = await process.search.size_below(live.view, everything, most=TreeSize(3, 10**9), account="ann")
            assert few.paths > 3 or len(list(paths_below(ROOT, places, 0))) <= 3

    run_virtually(main())


class CountedReads(MemoryJournal):
    """A journal that counts how often it is read from its beginning."""

    from_the_beginning = 0

    @override
    async def read(self, space: SpaceId, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        self.from_the_beginning += after == 0
        return await super().read(space, after, limit)


@pytest.mark.parametrize("directories", [1, 20])
def test_a_very_large_space_is_read_once_for_many_directories(directories: int) -> None:
    """The index of such a space is not kept, so that each read of the journal begins at the first entry."""

    async def main() -> None:
        world = World(random.Random(1))
        process = Process(world, most_names=0)
        async with process.spaces.use(SPACE) as live:
            request = new_request_id()
            mutations = tuple(CreateNode(ROOT, f"{number}", NodeKind.DIRECTORY) for number in range(directories))
            await live.committer.commit(Request(request, b"", "ann", "laptop", mutations, 100), ask=still_allowed)
            while live.view.floor < live.view.seq:  # entries that are not projected are in memory
                await asyncio.sleep(0.01)
            journal = CountedReads()
            journal.entries = world.journal.entries
            search = NameSearch(journal=journal, most_names=0)
            tops = [MeasuredTop(created_node_id(SPACE, request, number), 2) for number in range(directories)]
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(sizes, "MAX_WALKED_NODES", 0)
                assert await TreeSizes(search).below(live.view, tops, most=PLENTY, account="ann") == TreeSize()
            assert journal.from_the_beginning == 2  # once to find out that the index is too large, and once to measure
            await TreeSizes(search)._search.size_below(live.view, tops, most=PLENTY, account="ann")
            assert journal.from_the_beginning == 3
        await process.spaces.stop()

    run_virtually(main())


async def test_what_is_measured_is_what_may_be_read() -> None:
    async with service() as metadata, metadata.caller() as editor:
        top = await editor.create("top")
        inner = await editor.create("inner", parent=top.id)
        file = await editor.create("a.txt", parent=inner.id)
        other = await editor.create("other")

        def measured(*nodes: bytes, **most: int) -> M.MeasureTreeRequest:
            limits = {"max_paths": 100, "max_path_bytes": 1000} | most
            return M.MeasureTreeRequest(space_id=editor.space, nodes=nodes, **limits)

        async def size(*nodes: bytes) -> tuple[int, int]:
            answer = await editor.stub.MeasureTree(measured(*nodes))
            return answer.paths, answer.path_bytes

        assert await size(file.id) == (1, len("a.txt"))
        assert await size(top.id) == (3, len("top/") + len("top/inner/") + len("top/inner/a.txt"))
        assert await size(inner.id, other.id) == (3, len("inner/") + len("inner/a.txt") + len("other/"))
        assert await size(ROOT) == (4, len("top/") + len("top/inner/") + len("top/inner/a.txt") + len("other/"))
        assert await size() == (0, 0)
        assert await reason_of(editor.stub.MeasureTree(measured(*[file.id] * 101))) == "INVALID_ARGUMENT"
        assert await reason_of(editor.stub.MeasureTree(measured(b"x" * 16))) == "NO_SUCH_NODE"
        async with metadata.link(editor.space, inner.id) as visitor:
            answer = await visitor.stub.MeasureTree(measured(inner.id))
            assert answer.paths == 2
            for beyond in (ROOT, top.id, other.id):
                assert await reason_of(visitor.stub.MeasureTree(measured(beyond))) == "NO_SUCH_NODE"


@pytest.mark.parametrize(("nodes", "answered"), [(1, 20), (MAX_MEASURED_NODES, 4)])
async def test_a_measurement_costs_as_much_as_the_nodes_that_are_looked_up(nodes: int, answered: int) -> None:
    """A call with a hundred nodes counts as five: the burst is twenty calls."""
    async with service(rate_searches=0.001, rate_burst_seconds=20_000) as metadata, metadata.caller() as editor:
        file = await editor.create("a.txt")
        request = M.MeasureTreeRequest(
            space_id=editor.space, nodes=[file.id] * nodes, max_paths=1000, max_path_bytes=10_000
        )
        for _ in range(answered):
            assert (await editor.stub.MeasureTree(request)).paths == nodes
        assert await reason_of(editor.stub.MeasureTree(request)) == "RATE_EXCEEDED"


async def test_a_large_tree_is_measured_up_to_what_is_asked_for() -> None:
    async with service(coalesce_seconds=UNPROJECTED_SECONDS) as metadata, metadata.caller() as editor:
        for number in range(4):
            directory = await editor.create(f"d{number}")
            await editor.commit(
                *(creating(f"{one}.txt", parent=directory.id) for one in range(sizes.MAX_WALKED_NODES // 2))
            )
        for most in (TreeSize(10, 10**9), TreeSize(10**9, 100)):
            request = M.MeasureTreeRequest(
                space_id=editor.space, nodes=[ROOT], max_paths=most.paths, max_path_bytes=most.path_bytes
            )
            answer = await editor.stub.MeasureTree(request)
            assert not TreeSize(answer.paths, answer.path_bytes).fits_in(most)
            assert answer.paths < 4 * sizes.MAX_WALKED_NODES // 2
