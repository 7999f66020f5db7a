"""A deleted node comes back, whatever became of the directories that it was in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.identifiers import ROOT, new_request_id
from tests.services.metadata.support import UNPROJECTED_SECONDS, Caller, Service, reason_of, service

J, M = journal_pb2, metadata_pb2


@pytest.fixture(params=[0, UNPROJECTED_SECONDS], ids=["the table holds all", "the table lags"])
async def metadata(request) -> AsyncIterator[Service]:
    async with service(coalesce_seconds=request.param) as running:
        yield running


@pytest.fixture
async def editor(metadata: Service) -> AsyncIterator[Caller]:
    async with metadata.caller() as caller:
        yield caller


async def make(caller: Caller, path: str) -> J.Node:
    """A directory, or a file if its name has a dot, whose directories are there."""
    head, _, name = path.rpartition("/")
    return await caller.create(name, parent=(await get(caller, head)).id if head else ROOT)


async def get(caller: Caller, path: str) -> J.Node:
    return (await caller.stub.GetNode(M.GetNodeRequest(space_id=caller.space, path=path))).node


async def delete(caller: Caller, node: J.Node) -> None:
    answer = await caller.commit(M.Mutation(delete=M.DeleteNode(node=node.id, base_version=node.version)))
    assert answer.results[0].verdict == J.VERDICT_ACCEPTED


async def move(caller: Caller, node: J.Node, to: J.Node, name: str) -> None:
    wanted = M.MoveNode(node=node.id, from_parent=node.parent, from_name=node.name, parent=to.id, name=name)
    answer = await caller.commit(M.Mutation(move=wanted))
    assert answer.results[0].verdict == J.VERDICT_ACCEPTED


def bring_back(caller: Caller, node: J.Node, **how):
    request = M.RestoreNodeRequest(
        space_id=caller.space, request_id=how.pop("request_id", None) or new_request_id(), node=node.id, **how
    )
    return caller.stub.RestoreNode(request)


async def paths(caller: Caller, parent: bytes = ROOT, above: str = "") -> list[str]:
    """Return all that is live, by path."""
    found = []
    for node in (await caller.stub.ListNodes(M.ListNodesRequest(space_id=caller.space, parent=parent))).nodes:
        found.append(above + node.name)
        if node.kind == J.NODE_KIND_DIRECTORY:
            found += await paths(caller, node.id, f"{above}{node.name}/")
    return found


async def trash(caller: Caller) -> list[str]:
    answer = await caller.stub.ListTrash(M.ListTrashRequest(space_id=caller.space))
    assert len(answer.paths) == len(answer.nodes)
    return sorted(answer.paths)


@pytest.fixture
async def lost(editor: Caller) -> J.Node:
    """`p/q/f.txt`, deleted, and after it `p`, in which there was more."""
    for path in ("p", "p/q", "p/q/other.txt", "p/beside.txt"):
        await make(editor, path)
    file = await make(editor, "p/q/f.txt")
    await delete(editor, file)
    await delete(editor, await get(editor, "p"))
    return file


async def test_directories_that_were_deleted_too_come_anew_and_alone(editor: Caller, lost: J.Node) -> None:
    assert await trash(editor) == ["p", "p/q/f.txt"]
    assert (await bring_back(editor, lost)).result.verdict == J.VERDICT_PARENT_NOT_FOUND
    back = await bring_back(editor, lost, make_way=True)
    assert (back.result.verdict, back.result.node.id, back.path) == (J.VERDICT_ACCEPTED, lost.id, "p/q/f.txt")
    assert await paths(editor) == ["p", "p/q", "p/q/f.txt"]
    assert await trash(editor) == ["p"]
    # The other nodes come back with the directory that they were in.
    (old,) = (await editor.stub.ListTrash(M.ListTrashRequest(space_id=editor.space))).nodes
    assert (await bring_back(editor, old, make_way=True)).path == "p (2)"
    again = ["p (2)", "p (2)/beside.txt", "p (2)/q", "p (2)/q/other.txt"]
    assert await paths(editor) == ["p", "p/q", "p/q/f.txt", *again]


async def test_a_repeated_request_is_answered_as_the_first(editor: Caller, lost: J.Node) -> None:
    request_id = new_request_id()
    first = await bring_back(editor, lost, make_way=True, request_id=request_id)
    assert await bring_back(editor, lost, make_way=True, request_id=request_id) == first
    assert await reason_of(bring_back(editor, lost, request_id=request_id)) == "REQUEST_ID_REUSED"


async def test_directories_that_are_there_again_are_used(editor: Caller, lost: J.Node) -> None:
    await make(editor, "p")
    await make(editor, "p/new.txt")
    assert (await bring_back(editor, lost, make_way=True)).path == "p/q/f.txt"
    assert await paths(editor) == ["p", "p/new.txt", "p/q", "p/q/f.txt"]


async def test_what_is_no_directory_keeps_the_name_of_one(editor: Caller, lost: J.Node) -> None:
    content = J.Content(digest=lost.content.digest)
    wanted = M.CreateNode(parent=ROOT, name="p", kind=J.NODE_KIND_FILE, content=content)
    await editor.commit(M.Mutation(create=wanted))
    assert (await bring_back(editor, lost, make_way=True)).path == "p (2)/q/f.txt"
    assert await paths(editor) == ["p", "p (2)", "p (2)/q", "p (2)/q/f.txt"]


async def test_a_name_that_is_taken_gives_way_unless_it_is_asked_for(editor: Caller) -> None:
    for number in range(3):
        file = await make(editor, "f.txt")
        await delete(editor, file)
        await make(editor, "f.txt")
        assert (await bring_back(editor, file, make_way=True)).path == f"f ({number + 2}).txt"
        await delete(editor, await get(editor, "f.txt"))
    await make(editor, "f.txt")
    file = await make(editor, "g.txt")
    await delete(editor, file)
    assert (await bring_back(editor, file, make_way=True, name="f.txt")).result.verdict == J.VERDICT_NAME_TAKEN
    assert (await bring_back(editor, file, path="f.txt")).result.verdict == J.VERDICT_NAME_TAKEN
    assert (await bring_back(editor, file, make_way=True, name="a/b")).result.verdict == J.VERDICT_NAME_INVALID


async def test_a_directory_that_was_moved_takes_it_where_it_is(editor: Caller) -> None:
    for path in ("p", "p/q", "r"):
        await make(editor, path)
    file = await make(editor, "p/q/f.txt")
    await delete(editor, file)
    await move(editor, await get(editor, "p/q"), await get(editor, "r"), "s")
    assert await trash(editor) == ["r/s/f.txt"]
    assert (await bring_back(editor, file, make_way=True)).path == "r/s/f.txt"


async def test_what_went_with_its_directory_comes_back_alone(editor: Caller, lost: J.Node) -> None:
    await bring_back(editor, lost, make_way=True)
    (old,) = (await editor.stub.ListTrash(M.ListTrashRequest(space_id=editor.space))).nodes
    changes = [
        node
        async for page in editor.stub.ListChanges(M.ListChangesRequest(space_id=editor.space))
        for node in page.nodes
    ]
    other = next(node for node in changes if node.name == "other.txt")
    back = await bring_back(editor, other, make_way=True)
    assert (back.path, back.result.change) == ("p/q/other.txt", J.CHANGE_RESTORED)
    assert await paths(editor) == ["p", "p/q", "p/q/f.txt", "p/q/other.txt"]
    assert (await bring_back(editor, other, make_way=True)).result.verdict == J.VERDICT_NOT_DELETED
    await bring_back(editor, old, make_way=True)
    assert [path for path in await paths(editor) if "(2)" in path] == ["p (2)", "p (2)/beside.txt", "p (2)/q"]


async def test_a_path_is_made_and_a_directory_takes_it_in(editor: Caller, lost: J.Node) -> None:
    assert (await bring_back(editor, lost, path="new/er")).path == "new/er"
    await delete(editor, await get(editor, "new/er"))
    assert (await bring_back(editor, lost, path="new")).path == "new/er"
    await delete(editor, await get(editor, "new/er"))
    assert (await bring_back(editor, lost, path="")).path == "er"
    await delete(editor, await get(editor, "er"))
    for path in ("a/../b", "/a", "a/", "x" * 256, "/".join(["x"] * 3000)):
        assert await reason_of(bring_back(editor, lost, path=path)) == "INVALID_ARGUMENT"
    assert await reason_of(bring_back(editor, lost, path="x", name="y")) == "INVALID_ARGUMENT"
    assert (await bring_back(editor, lost, path=".syncline/x")).result.verdict == J.VERDICT_NAME_INVALID
    assert await paths(editor) == ["new"]


async def was_at(caller: Caller, path: str, page_size: int = 0) -> list[tuple[bytes, str]]:
    """Return all that the trash has of a path, page by page."""
    found: list[tuple[bytes, str]] = []
    token = ""
    while True:
        request = M.ListTrashRequest(space_id=caller.space, path=path, page_size=page_size, page_token=token)
        answer = await caller.stub.ListTrash(request)
        found += zip((node.id for node in answer.nodes), answer.paths, strict=True)
        if not (token := answer.next_page_token):
            return found


async def test_what_went_with_a_directory_is_found_by_its_path(editor: Caller) -> None:
    p, q = await make(editor, "p"), await make(editor, "p/q")
    first, second = await make(editor, "p/q/f.1"), await make(editor, "p/q/f.2")
    await make(editor, "p/other.x")
    await delete(editor, first)
    again = await make(editor, "p/q/f.1")
    await delete(editor, q)
    await delete(editor, p)
    for n in range(4):
        await delete(editor, await make(editor, f"{n}.x"))
    for page_size in (0, 1):
        assert await was_at(editor, "p/q/f.2", page_size) == [(second.id, "p/q/f.2")]
        assert sorted(await was_at(editor, "p/q/f.1", page_size)) == sorted(
            [(first.id, "p/q/f.1"), (again.id, "p/q/f.1")]
        )
        assert await was_at(editor, "p/q", page_size) == [(q.id, "p/q")]
        for nowhere in ("p/q/f.3", "p/q/f.2/x", "p/qq", "q/f.2", "f.2"):
            assert await was_at(editor, nowhere, page_size) == []
    ((found, path),) = await was_at(editor, "p/q/f.2")
    request = M.RestoreNodeRequest(space_id=editor.space, request_id=new_request_id(), node=found, make_way=True)
    assert (await editor.stub.RestoreNode(request)).path == path
    assert await paths(editor) == ["p", "p/q", "p/q/f.2"]
    assert await was_at(editor, "p/q/f.2") == []
    assert await reason_of(was_at(editor, "p//q")) == "INVALID_ARGUMENT"


async def test_a_path_that_is_asked_for_is_honoured_or_refused(editor: Caller, lost: J.Node) -> None:
    await make(editor, "file.x")
    before = await paths(editor)
    for path in ("file.x/below", "file.x/deep/below"):
        assert (await bring_back(editor, lost, path=path)).result.verdict == J.VERDICT_NAME_TAKEN
    assert await paths(editor) == before, "nothing was made on the way"
    assert (await bring_back(editor, lost, path="file/below")).path == "file/below"


async def test_many_at_once_share_the_way(editor: Caller) -> None:
    for path in ("p", "p/q"):
        await make(editor, path)
    files = [await make(editor, f"p/q/{number}.txt") for number in range(8)]
    for file in files:
        await delete(editor, file)
    await delete(editor, await get(editor, "p"))
    answers = await asyncio.gather(*(bring_back(editor, file, make_way=True) for file in files))
    assert {answer.path for answer in answers} == {f"p/q/{number}.txt" for number in range(8)}
    assert await paths(editor) == ["p", "p/q", *(f"p/q/{number}.txt" for number in range(8))]


async def test_what_is_not_in_the_trash_is_told(editor: Caller) -> None:
    file = await make(editor, "f.txt")
    assert (await bring_back(editor, file, make_way=True)).result.verdict == J.VERDICT_NOT_DELETED
    nobody = J.Node(id=bytes(15) + b"\x07")
    assert (await bring_back(editor, nobody, make_way=True)).result.verdict == J.VERDICT_NODE_NOT_FOUND
    await delete(editor, file)
    assert (
        await bring_back(editor, file, make_way=True, parent=nobody.id)
    ).result.verdict == J.VERDICT_PARENT_NOT_FOUND
