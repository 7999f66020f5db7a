"""No path becomes longer than a path can be, wherever nodes are made, moved and brought back; what is longer works."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest

from runtime import turns
from services.metadata.entry import Commit, JournalEntry
from services.metadata.tree import depths
from services.metadata.wire import entry_to_bytes
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.identifiers import ROOT, NodeId, SpaceId, created_node_id, new_request_id
from syncline.model.names import MAX_PATH_BYTES, MAX_PATH_NAMES, path_problem
from syncline.model.tree import Change, Node, NodeKind, Result
from syncline.model.verdicts import Verdict
from syncline.rpc.errors import error_from_rpc
from tests.services.metadata.support import Backend, Caller, Service, creating, projected, reason_of

J, M = journal_pb2, metadata_pb2
OK, TOO_LONG = J.VERDICT_ACCEPTED, J.VERDICT_PATH_TOO_LONG


async def chain(caller: Caller, count: int, *, top: bytes = ROOT, name: str = "d") -> list[bytes]:
    """Directories, each in the one before it, by one request; all must be accepted."""
    request = new_request_id()
    made: list[bytes] = [created_node_id(caller.space, request, number) for number in range(count)]
    answer = await caller.commit(*(creating(name, parent=above) for above in [top, *made[:-1]]), request_id=request)
    assert {one.verdict for one in answer.results} == {OK}
    return made


async def verdicts(caller: Caller, *mutations: M.Mutation) -> list[int]:
    return [one.verdict for one in (await caller.commit(*mutations)).results]


async def moving(caller: Caller, node: bytes, *, parent: bytes, name: str = "") -> M.Mutation:
    found = (await caller.stub.GetNode(M.GetNodeRequest(space_id=caller.space, node=node))).node
    move = M.MoveNode(node=node, from_parent=found.parent, from_name=found.name, parent=parent, name=name or found.name)
    return M.Mutation(move=move)


async def test_what_is_made_has_no_longer_path_than_a_path_can_have(editor: Caller) -> None:
    made = await chain(editor, MAX_PATH_NAMES)
    assert await verdicts(editor, creating("a.txt", parent=made[-1]), creating("b", parent=made[-1])) == [TOO_LONG] * 2
    assert await verdicts(editor, creating("a.txt", parent=made[-2])) == [OK]
    # By one request, of which the first mutations make what the others are in.
    request = new_request_id()
    made = [created_node_id(editor.space, request, number) for number in range(MAX_PATH_NAMES + 2)]
    answer = await editor.commit(*(creating("e", parent=above) for above in [ROOT, *made[:-1]]), request_id=request)
    assert [one.verdict for one in answer.results][-3:] == [OK, TOO_LONG, J.VERDICT_PARENT_NOT_FOUND]


async def test_bytes_of_a_path_are_counted(editor: Caller) -> None:
    name = "n" * 255
    made = await chain(editor, MAX_PATH_BYTES // 256, name=name)  # the path has 4,096 bytes, without the '/' at its end
    assert await verdicts(editor, creating("b", parent=made[-1])) == [TOO_LONG]
    assert await verdicts(editor, creating("x" * 255, parent=made[-2])) == [OK]
    docs = await editor.create("docs")
    longer = await moving(editor, made[0], parent=ROOT, name="m" * 255)
    assert await verdicts(editor, longer) == [OK], "a name of the same length"
    assert await verdicts(editor, await moving(editor, made[0], parent=docs.id)) == [TOO_LONG]
    assert await verdicts(editor, await moving(editor, made[0], parent=ROOT, name="m")) == [OK]
    assert await verdicts(editor, await moving(editor, made[0], parent=ROOT, name="m" * 254)) == [OK]


@pytest.mark.parametrize("files", [1, depths.MAX_WALKED_NODES], ids=["walked through", "asked of the index"])
async def test_a_directory_moves_with_all_that_is_below_it(editor: Caller, files: int) -> None:
    upper = await chain(editor, 60, name="u")
    lower = await chain(editor, 60, name="l")
    made = await editor.commit(*(creating(f"{n}.txt", parent=lower[-1]) for n in range(files)))
    assert {one.verdict for one in made.results} == {OK}, "61 names from `lower` on"
    assert await verdicts(editor, await moving(editor, lower[0], parent=upper[-1])) == [OK]
    other = await chain(editor, 60, name="o")
    assert await verdicts(editor, await moving(editor, upper[0], parent=other[6])) == [OK], "7 + 121 names"
    assert await verdicts(editor, await moving(editor, upper[0], parent=other[7])) == [TOO_LONG]
    assert await verdicts(editor, await moving(editor, upper[0], parent=ROOT)) == [OK], "up is always possible"
    assert await verdicts(editor, await moving(editor, upper[0], parent=other[7])) == [TOO_LONG]
    # A part of it goes deeper than the whole could.
    assert await verdicts(editor, await moving(editor, lower[50], parent=other[-1])) == [OK]
    assert await verdicts(editor, await moving(editor, upper[0], parent=other[7])) == [OK]


async def test_the_space_waits_for_turns_that_a_move_takes_and_not_whoever_moved_something_before(
    metadata: Service, editor: Caller
) -> None:
    upper, lower = await chain(editor, 2, name="u"), await chain(editor, 2, name="l")
    await editor.commit(*(creating(f"{n}.txt", parent=lower[-1]) for n in range(depths.MAX_WALKED_NODES)))
    waited: set[str] = set()

    async def looking() -> None:
        while True:
            for waiting in list(turns._bulk.values()):
                waited.update(waiting._waiting._waiting)
            await asyncio.sleep(0)

    async with metadata.caller(space=editor.space) as ben:
        move = await moving(editor, lower[0], parent=upper[-1])
        looked = asyncio.create_task(looking())
        answers = await asyncio.gather(*(verdicts(one, move) for one in (editor, ben)))
        looked.cancel()
    assert [OK] in answers
    assert waited == {editor.space}


async def test_what_the_same_request_puts_into_a_directory_counts(editor: Caller) -> None:
    deep = await chain(editor, 100, name="p")
    small, long = await chain(editor, 1, name="s"), await chain(editor, 40, name="l")
    into_small = await moving(editor, long[0], parent=small[0])
    assert await verdicts(editor, into_small, await moving(editor, small[0], parent=deep[-1])) == [OK, TOO_LONG]
    request = new_request_id()
    made = [created_node_id(editor.space, request, number) for number in range(28)]
    creates = [creating("c", parent=above) for above in [ROOT, *made[:-1]]]
    move = M.MoveNode(node=made[0], from_parent=ROOT, from_name="c", parent=deep[-1], name="c")
    answer = await editor.commit(*creates, M.Mutation(move=move), request_id=request)
    assert answer.results[-1].verdict == OK, "100 + 28 names"
    more = M.MoveNode(node=made[0], from_parent=deep[-1], from_name="c", parent=deep[-1], name="cc")
    assert await verdicts(editor, creating("d.txt", parent=made[-1]), M.Mutation(move=more)) == [TOO_LONG, OK]


async def test_what_comes_back_from_the_trash_may_have_become_too_deep(editor: Caller) -> None:
    top = await chain(editor, 40, name="t")
    gone = await chain(editor, 60, top=top[-1], name="g")
    assert await verdicts(editor, M.Mutation(delete=M.DeleteNode(node=gone[0], base_version=0))) == [OK]
    other = await chain(editor, 60, name="o")
    assert await verdicts(editor, await moving(editor, top[0], parent=other[-1])) == [OK], "what is in the trash stays"

    async def restored(parent: bytes = b"") -> int:
        request = M.RestoreNodeRequest(space_id=editor.space, request_id=new_request_id(), node=gone[0], parent=parent)
        return (await editor.stub.RestoreNode(request)).result.verdict

    assert await restored() == TOO_LONG
    assert await restored(parent=other[-1]) == OK


async def old_tree(backend: Backend, space: SpaceId, depth: int) -> list[NodeId]:
    """A tree that is deeper than any path, as it could be made before: written as entries of the journal."""
    made = [NodeId(number.to_bytes(16, "big")) for number in range(1, depth + 1)]

    def results(some: Sequence[int], seq: int) -> tuple[Result, ...]:
        nodes = (Node(made[n], made[n - 1] if n else ROOT, "d", NodeKind.DIRECTORY, seq=seq) for n in some)
        return tuple(Result(Verdict.ACCEPTED, node, Change.CREATED) for node in nodes)

    for seq, start in enumerate(range(0, depth, 1500), 1):
        some = range(start, min(start + 1500, depth))
        commit = Commit(new_request_id(), bytes(32), "u", "d", 1, results(some, seq))
        await backend.journal.append(space, seq, await entry_to_bytes(JournalEntry(seq, bytes(16), (commit,), 0)))
    return made


async def test_a_tree_that_is_deeper_than_any_path_can_be_used_and_left(metadata: Service, editor: Caller) -> None:
    made = await old_tree(metadata.backend, editor.space, 5000)
    found = await editor.stub.GetNode(M.GetNodeRequest(space_id=editor.space, node=made[-1]))
    assert (found.node.name, found.path) == ("d", "")
    assert (await editor.stub.GetNode(M.GetNodeRequest(space_id=editor.space, node=made[127]))).path == "d/" * 127 + "d"
    assert (await editor.stub.GetNode(M.GetNodeRequest(space_id=editor.space, node=made[128]))).path == ""
    listed = await editor.stub.ListNodes(M.ListNodesRequest(space_id=editor.space, parent=made[-2]))
    assert [node.id for node in listed.nodes] == [made[-1]]
    searched = await editor.stub.SearchNodes(M.SearchNodesRequest(space_id=editor.space, query="d", page_size=1000))
    assert len(searched.found) == MAX_PATH_NAMES
    # Nothing is made there, and two thousand refusals cost no more than elsewhere; what is there can go up.
    names = [f"{n}.txt" for n in range(1999)]
    assert await verdicts(editor, *(creating(name, parent=made[-1]) for name in names)) == [TOO_LONG] * 1999
    assert await verdicts(editor, await moving(editor, made[3000], parent=made[1000], name="u")) == [OK]
    assert await verdicts(editor, await moving(editor, made[3000], parent=ROOT, name="up")) == [OK]
    assert await verdicts(editor, creating("a.txt", parent=made[3000])) == [OK]
    docs = await editor.create("docs")
    assert await verdicts(editor, await moving(editor, made[3000], parent=docs.id)) == [TOO_LONG]
    # A node below a deleted directory is deleted, whatever was found live before.
    high = made[100]
    deleting = M.Mutation(delete=M.DeleteNode(node=made[0], base_version=0))
    answers = await verdicts(editor, creating("1.txt", parent=high), deleting, creating("2.txt", parent=high))
    assert answers == [OK, OK, J.VERDICT_PARENT_NOT_FOUND]
    await projected(metadata.backend, editor.space)
    trash = await editor.stub.ListTrash(M.ListTrashRequest(space_id=editor.space))
    assert [node.id for node in trash.nodes] == [made[0]]


async def test_a_path_of_too_many_names_is_refused_before_it_is_followed(editor: Caller) -> None:
    await editor.create("a")
    longest = "a/" * (MAX_PATH_NAMES - 1) + "a"
    batch = M.CheckVersionsBatch(paths=[longest], digests=bytes(32))

    async def messages(batch: M.CheckVersionsBatch) -> AsyncIterator[M.CheckVersionsRequest]:
        yield M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=editor.space))
        yield M.CheckVersionsRequest(batch=batch)

    answers = [answer async for answer in editor.stub.CheckVersions(messages(batch))]
    assert list(answers[0].differences) == [M.DIFFERENCE_UNKNOWN]
    for path in (longest + "/a", "/".join("a" * 1_900_000), "/" * 2000):
        batch = M.CheckVersionsBatch(paths=[path], digests=bytes(32))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(editor.stub.CheckVersions(messages(batch))))
        refusal = error_from_rpc(caught.value)
        assert refusal is not None
        assert (refusal.reason, refusal.details) == ("INVALID_ARGUMENT", {"field": "paths[0]"})
        assert len(str(refusal)) < 500
        if len(path) < 1_000_000:
            asked = M.GetNodeRequest(space_id=editor.space, path=path)
            assert await reason_of(editor.stub.GetNode(asked)) == "INVALID_ARGUMENT"


def test_how_long_a_path_may_be_is_known_before_any_work_is_done_with_it() -> None:
    for path in ("/".join("a" * 1_900_000), "/" * 2000, "a/" * MAX_PATH_NAMES + "a", "a" * 1_900_000):
        calls = 0

        def called(frame: object, event: str, arg: object) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}

        tracemalloc.start()
        sys.setprofile(called)
        try:
            problem = path_problem(path)
        finally:
            sys.setprofile(None)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert problem is not None
        assert calls < 10
        assert peak < 10_000, "bytes, of a path of millions"
