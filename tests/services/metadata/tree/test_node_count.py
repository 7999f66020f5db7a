"""The number of nodes of a space: it is exact, it has a limit, and it is found for spaces older than the count."""

from __future__ import annotations

import random
from dataclasses import replace

from services.metadata.adapters import dynamodb_tree
from services.metadata.journal.commit import CommitOutcome, Request
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.identifiers import ROOT, new_request_id
from syncline.model.tree import CreateNode, DeleteNode, NodeKind, RestoreNode
from syncline.model.verdicts import Verdict
from tests.services.metadata.simulation import SPACE, Process, World, run_virtually
from tests.services.metadata.support import creating, service
from tests.support.journal import small_entry
from tests.support.metadata import still_allowed

J, M = journal_pb2, metadata_pb2
MOST = 10


async def commit(process: Process, *mutations: CreateNode | DeleteNode | RestoreNode) -> CommitOutcome:
    request = Request(new_request_id(), b"", "user", "device", mutations, 100)
    async with process.spaces.use(SPACE) as live:
        return await live.committer.commit(request, ask=still_allowed)


def directories(*names: str) -> tuple[CreateNode, ...]:
    return tuple(CreateNode(ROOT, name, NodeKind.DIRECTORY) for name in names)


async def counted(process: Process) -> int:
    async with process.spaces.use(SPACE) as live:
        await live.view.validate()
        return await live.view.count_nodes()


def test_a_space_has_so_many_nodes_and_not_one_more_whichever_process_makes_them() -> None:
    async def main() -> None:
        world = World(random.Random(1))
        first, second = (Process(world, max_nodes=MOST) for _ in range(2))
        await commit(first, *directories("a", "b", "c", "d"))
        await commit(second, *directories("e", "f", "g", "h"))
        outcome = await commit(first, *directories("i", "j", "k", "l"))
        assert [one.verdict for one in outcome.results] == [Verdict.ACCEPTED] * 2 + [Verdict.NODES_EXCEEDED] * 2
        assert await counted(second) == await counted(first) == MOST

    run_virtually(main())


def test_what_is_in_the_trash_counts_and_can_be_restored_at_the_limit() -> None:
    async def main() -> None:
        process = Process(World(random.Random(1)), max_nodes=2)
        node = (await commit(process, *directories("a", "b"))).results[0].node
        assert node is not None
        await commit(process, DeleteNode(node.id, 0))
        (refused,) = (await commit(process, *directories("c"))).results
        assert refused.verdict is Verdict.NODES_EXCEEDED
        (restored,) = (await commit(process, RestoreNode(node.id))).results
        assert restored.verdict is Verdict.ACCEPTED
        assert await counted(process) == 2

    run_virtually(main())


def uncounted(world: World, upto: int) -> None:
    """Have the entries up to one, and the table, be as they were before nodes were counted."""
    entries = world.journal.entries[SPACE]
    for at in range(upto):
        pb = journal_pb2.Entry.FromString(entries[at])
        pb.ClearField("nodes")
        entries[at] = pb.SerializeToString()
    world.table.states[SPACE] = replace(world.table.states[SPACE], nodes=None)


def test_nodes_of_a_space_from_before_they_were_counted_are_counted_once() -> None:
    async def main() -> None:
        world = World(random.Random(1))
        before = Process(world)
        for number in range(50):
            await commit(before, *directories(f"a {number}", f"b {number}"))
        await before.spaces.stop()
        for upto in (50, 30):  # A process that counts may have written meanwhile.
            uncounted(world, upto)
            process = Process(world, max_nodes=101)
            assert await counted(process) == 100
        (made, refused) = (await commit(process, *directories("c", "d"))).results
        assert (made.verdict, refused.verdict) == (Verdict.ACCEPTED, Verdict.NODES_EXCEEDED)
        assert small_entry(51, world.journal.entries[SPACE][-1]).nodes == 101
        await process.spaces.stop()
        assert world.table.states[SPACE].nodes == 101
        world.journal.entries[SPACE][:-1] = []  # nobody reads the journal for it any more
        async with Process(world).spaces.use(SPACE) as live:
            await live.view._open()
            assert live.view.known_node_count == 101

    run_virtually(main())


async def test_a_space_says_how_many_nodes_it_has_and_may_have() -> None:
    async with service(max_nodes=3) as metadata, metadata.caller() as editor:
        empty = await editor.stub.GetSpace(M.GetSpaceRequest(space_id=editor.space))
        assert (empty.nodes, empty.max_nodes) == (0, 3)
        answer = await editor.commit(*(creating(f"{number}.txt") for number in range(4)))
        assert [one.verdict for one in answer.results] == [J.VERDICT_ACCEPTED] * 3 + [J.VERDICT_NODES_EXCEEDED]
        full = await editor.stub.GetSpace(M.GetSpaceRequest(space_id=editor.space))
        assert (full.nodes, full.max_nodes) == (3, 3)


def test_a_number_that_an_older_process_left_behind_is_not_taken() -> None:
    item = {
        "projected_seq": {"N": "7"},
        "announced_seq": {"N": "7"},
        "used_bytes": {"N": "0"},
        "marks": {"M": {}},
        "nodes": {"N": "5"},
        "nodes_seq": {"N": "6"},
    }
    assert dynamodb_tree._state(item).nodes is None
    assert dynamodb_tree._state(item | {"nodes_seq": {"N": "7"}}).nodes == 5
