"""The service as callers meet it: a real server over memory."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from typing_extensions import override

from runtime.turns import REST_ITERATIONS
from services.metadata.entry import Position
from services.metadata.ports import Sealed, StoredObject
from services.metadata.tree import reads
from services.metadata.tree.view import SpaceView
from services.metadata.wire import cursor_to_wire
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.accounts import Role
from syncline.model.blocks import MIN_MEAN_BLOCK_BYTES, Digest
from syncline.model.identifiers import ROOT, SpaceId, created_node_id, new_request_id, new_text_id
from syncline.model.limits import MAX_FIND_DIGESTS, MAX_PAGE_ITEMS, MAX_SEAL_DECLARATIONS
from syncline.model.tree import MAX_CHECK_FILES
from syncline.rpc.errors import error_from_rpc
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
from tests.support.metadata import FixedQuotas, MemoryJournal, MemoryObjects

J, M = journal_pb2, metadata_pb2


async def read_all(call) -> None:
    async for _ in call:
        pass


async def reason(call) -> str:
    """The reason with which a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (read_all(call) if hasattr(call, "__aiter__") else call)
    error = error_from_rpc(caught.value)
    assert error is not None
    return error.reason


async def changes(caller: Caller, cursor: bytes = b"") -> list[M.ListChangesResponse]:
    return [page async for page in caller.stub.ListChanges(M.ListChangesRequest(space_id=caller.space, cursor=cursor))]


async def test_a_commit_is_seen_by_every_read(editor: Caller) -> None:
    docs = await editor.create("docs")
    file = await editor.create("a.txt", parent=docs.id)
    found = await editor.stub.GetNode(M.GetNodeRequest(space_id=editor.space, path="docs/a.txt"))
    assert (found.node, found.path, found.seq) == (file, "docs/a.txt", 2)
    by_id = await editor.stub.GetNode(M.GetNodeRequest(space_id=editor.space, node=file.id))
    assert by_id == found
    listed = await editor.stub.ListNodes(M.ListNodesRequest(space_id=editor.space, parent=ROOT))
    assert list(listed.nodes) == [docs]
    pages = await changes(editor)
    assert [node for page in pages for node in page.nodes] == [docs, file]
    assert [list(page.nodes) for page in await changes(editor, pages[-1].cursor)] == [[]]
    space = await editor.stub.GetSpace(M.GetSpaceRequest(space_id=editor.space))
    assert (space.head, space.used_bytes) == (2, 0)


async def test_directories_and_what_is_in_them_are_made_by_one_request(editor: Caller) -> None:
    request = new_request_id()
    parent = created_node_id(editor.space, request, 0)
    answer = await editor.commit(creating("docs"), creating("a.txt", parent=parent), request_id=request)
    assert [result.verdict for result in answer.results] == [J.VERDICT_ACCEPTED] * 2
    assert answer.results[1].node.parent == answer.results[0].node.id == parent


async def test_a_repeated_request_gets_the_first_answer(editor: Caller) -> None:
    request = new_request_id()
    first = await editor.commit(creating("docs"), creating("docs"), request_id=request)
    assert [r.verdict for r in first.results] == [J.VERDICT_ACCEPTED, J.VERDICT_NAME_TAKEN]
    await editor.create("other")
    assert await editor.commit(creating("docs"), creating("docs"), request_id=request) == first
    assert await reason(editor.commit(creating("another"), request_id=request)) == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("forgotten", [True, False], ids=["projected", "in the journal only"])
async def test_a_request_id_makes_each_node_once(forgotten: bool) -> None:
    """The ids of new nodes follow from the request's, whose answer is kept for a time; nodes are kept for ever."""
    async with service(coalesce_seconds=0 if forgotten else UNPROJECTED_SECONDS) as here, here.caller() as editor:
        request = new_request_id()
        first = await editor.commit(creating("docs"), creating("docs"), creating("a.txt"), request_id=request)
        docs, _, file = (one.node for one in first.results)
        await editor.commit(
            M.Mutation(move=M.MoveNode(node=docs.id, from_parent=ROOT, from_name="docs", parent=ROOT, name="b"))
        )
        if forgotten:
            await projected(here.backend, editor.space)
            here.backend.table.requests.clear()  # DynamoDB does so after 30 days
        async with service(here.backend) as there, there.caller(space=editor.space, user=editor.user) as later:
            for others in (
                (creating("c.txt"),),  # a file in the place of a directory
                (creating("docs"), creating("docs"), creating("a.txt")),  # the same, after a move by somebody
                (creating("c"), creating("d"), creating("e")),
                (creating("a.txt"), creating("a.txt"), creating("f.txt")),
            ):
                if others[0] == creating("docs") and not forgotten:
                    assert await later.commit(*others, request_id=request) == first
                else:
                    assert await reason(later.commit(*others, request_id=request)) == "REQUEST_ID_REUSED"
            listed = await later.stub.ListNodes(M.ListNodesRequest(space_id=later.space, parent=ROOT))
            assert {one.id: (one.name, one.kind) for one in listed.nodes} == {
                docs.id: ("b", docs.kind),
                file.id: ("a.txt", file.kind),
            }


async def test_a_node_cannot_be_made_in_itself(editor: Caller) -> None:
    """Such a mutation was decided on again and again, and its space took no other commit."""
    request = new_request_id()
    inside = creating("in itself", parent=created_node_id(editor.space, request, 0))
    async with asyncio.timeout(60):
        answer = await editor.commit(inside, request_id=request)
        assert [one.verdict for one in answer.results] == [J.VERDICT_PARENT_NOT_FOUND]
        await editor.create("docs")


async def test_a_refused_request_is_let_go_of_with_its_call(editor: Caller) -> None:
    """Not only when Python's collector comes to it: by then many large ones would fill the memory."""
    large = M.CheckVersionsBatch(paths=["a/" * 100_000 + "a"], digests=bytes(32))
    opening = M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=editor.space))
    search = M.SearchNodesRequest(space_id=editor.space, query="a " * 30_000)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            asked = iter([opening, M.CheckVersionsRequest(batch=large)])
            assert await reason(editor.stub.CheckVersions(asked)) == "INVALID_ARGUMENT"
            assert await reason(editor.stub.SearchNodes(search)) == "INVALID_ARGUMENT"
        await eventually(lambda: _held((M.CheckVersionsRequest, M.SearchNodesRequest)) <= 2)  # ours, and the last one
    finally:
        gc.enable()


def _held(kinds: tuple[type[Message], ...]) -> int:
    """Return how many large messages are in memory."""
    return sum(isinstance(one, kinds) and one.ByteSize() > 50_000 for one in gc.get_objects())


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.05)


async def test_roles_are_held(metadata: Service, editor: Caller) -> None:
    await editor.create("docs")
    async with metadata.caller(Role.VIEWER, space=editor.space) as viewer:
        assert len(await changes(viewer)) == 1
        assert await reason(viewer.commit(creating("x"))) == "PERMISSION_DENIED"
        seal = M.SealObjectsRequest(space_id=editor.space)
        assert await reason(viewer.stub.SealObjects(seal)) == "PERMISSION_DENIED"
        metadata.backend.auth.revoked.add(viewer.device)
        other = M.GetSpaceRequest(space_id=new_text_id())
        assert await reason(viewer.stub.GetSpace(other)) == "DEVICE_REVOKED"
    async with metadata.caller(None, space=editor.space) as stranger:
        assert await reason(stranger.stub.GetSpace(M.GetSpaceRequest(space_id=editor.space))) == "NO_SUCH_SPACE"
        assert await reason(stranger.commit(creating("x"))) == "NO_SUCH_SPACE"
        assert await reason(stranger.stub.ListChanges(M.ListChangesRequest(space_id=editor.space))) == "NO_SUCH_SPACE"
    assert (await editor.stub.GetSpace(M.GetSpaceRequest(space_id=editor.space))).head == 1


async def test_history_and_trash(editor: Caller) -> None:
    file = await editor.create("a.txt")
    content = J.Content(digest=EMPTY_DIGEST, mtime_ns=5)
    update = M.Mutation(update=M.UpdateContent(node=file.id, base_version=1, content=content))
    await editor.commit(update)
    versions = await editor.stub.ListVersions(M.ListVersionsRequest(space_id=editor.space, node=file.id, page_size=1))
    assert [v.version for v in versions.versions] == [2]
    older = await editor.stub.ListVersions(
        M.ListVersionsRequest(space_id=editor.space, node=file.id, page_token=versions.next_page_token)
    )
    assert [v.version for v in older.versions] == [1]
    restored = await editor.stub.RestoreVersion(
        M.RestoreVersionRequest(
            space_id=editor.space, request_id=new_request_id(), node=file.id, version=1, base_version=2
        )
    )
    assert (restored.result.node.version, restored.result.node.content.mtime_ns) == (3, 0)
    await editor.commit(M.Mutation(delete=M.DeleteNode(node=file.id, base_version=3)))
    assert await reason(editor.stub.GetNode(M.GetNodeRequest(space_id=editor.space, path="a.txt"))) == "NO_SUCH_NODE"
    trash = await editor.stub.ListTrash(M.ListTrashRequest(space_id=editor.space))
    assert [node.id for node in trash.nodes] == [file.id]
    back = await editor.stub.RestoreNode(
        M.RestoreNodeRequest(space_id=editor.space, request_id=new_request_id(), node=file.id, name="b.txt")
    )
    assert back.result.node.name == "b.txt"
    assert not (await editor.stub.ListTrash(M.ListTrashRequest(space_id=editor.space))).nodes


async def test_listings_are_paged_by_name(editor: Caller) -> None:
    names = [f"{n:02}" for n in range(25)]
    await editor.commit(*(creating(name) for name in reversed(names)))
    found: list[str] = []
    token = ""
    while True:
        page = await editor.stub.ListNodes(
            M.ListNodesRequest(space_id=editor.space, parent=ROOT, page_size=10, page_token=token)
        )
        found += [node.name for node in page.nodes]
        if not (token := page.next_page_token):
            break
    assert found == names


async def test_a_version_check_names_only_what_differs(editor: Caller) -> None:
    docs = await editor.create("docs")
    same = await editor.create("a.txt", parent=docs.id)
    differs = await editor.create("b.txt", parent=docs.id)
    gone = await editor.create("c.txt")
    await editor.commit(M.Mutation(delete=M.DeleteNode(node=gone.id, base_version=1)))
    unknown = bytes(15) + b"\x07"

    async def messages() -> AsyncIterator[M.CheckVersionsRequest]:
        yield M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=editor.space))
        digests = EMPTY_DIGEST + bytes(32) + EMPTY_DIGEST + EMPTY_DIGEST
        paths = ["docs/a.txt", "docs/b.txt", "c.txt", "docs/no/such"]
        yield M.CheckVersionsRequest(batch=M.CheckVersionsBatch(paths=paths, digests=digests))
        ids = same.id + differs.id + gone.id + unknown
        yield M.CheckVersionsRequest(batch=M.CheckVersionsBatch(node_ids=ids, digests=digests))

    by_path, by_id, end = [answer async for answer in editor.stub.CheckVersions(messages())]
    assert (by_path.complete, by_id.complete) == (False, False)
    assert end == M.CheckVersionsResponse(seq=by_id.seq, complete=True)
    assert list(by_path.indexes) == list(by_id.indexes) == [1, 2, 3]
    assert list(by_path.differences) == [M.DIFFERENCE_CONTENT, M.DIFFERENCE_UNKNOWN, M.DIFFERENCE_UNKNOWN]
    assert list(by_id.differences) == [M.DIFFERENCE_CONTENT, M.DIFFERENCE_DELETED, M.DIFFERENCE_UNKNOWN]
    assert by_path.node_ids == differs.id + bytes(32)
    assert by_path.digests == EMPTY_DIGEST + bytes(64)
    assert list(by_path.versions) == [1, 0, 0]


async def test_large_batches_of_version_checks_take_turns(editor: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many streams have one ready, so that others meet a single batch on their way."""
    rounds, checked, check = 0, [], reads.check_paths

    async def noted(view: SpaceView, paths: Sequence[str], digests: bytes, *, account: str) -> reads.Differences:
        checked.append(rounds)
        return await check(view, paths, digests, account=account)

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(reads, "check_paths", noted)
    opening = M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=editor.space))
    paths = [f"{number}" for number in range(MAX_CHECK_FILES)]
    batch = M.CheckVersionsRequest(batch=M.CheckVersionsBatch(paths=paths, digests=bytes(32 * len(paths))))
    counting = asyncio.create_task(count())
    await asyncio.gather(*(read_all(editor.stub.CheckVersions(iter([opening, batch, batch]))) for _ in range(10)))
    counting.cancel()
    assert len(checked) == 20
    assert all(later - earlier >= REST_ITERATIONS for earlier, later in pairwise(checked))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [M.CheckVersionsRequest(batch=M.CheckVersionsBatch())],
        [M.CheckVersionsRequest()],
        ["open", M.CheckVersionsRequest(open=M.CheckVersionsOpen())],
        ["open", M.CheckVersionsRequest(batch=M.CheckVersionsBatch(paths=["a"], digests=b"short"))],
        ["open", M.CheckVersionsRequest(batch=M.CheckVersionsBatch(node_ids=b"short", digests=b""))],
        ["open", M.CheckVersionsRequest(batch=M.CheckVersionsBatch(paths=["a"] * 1001, digests=bytes(32 * 1001)))],
        ["open", M.CheckVersionsRequest(batch=M.CheckVersionsBatch(paths=["a"], node_ids=ROOT, digests=bytes(32)))],
    ],
)
async def test_a_malformed_version_check_ends(editor: Caller, messages) -> None:
    opening = M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=editor.space))
    stream = iter([opening if message == "open" else message for message in messages])
    assert await reason(editor.stub.CheckVersions(stream)) == "INVALID_ARGUMENT"


async def test_hostile_arguments_are_refused(editor: Caller, metadata: Service) -> None:
    stub, space = editor.stub, editor.space
    invalid = "INVALID_ARGUMENT"
    assert await reason(stub.GetSpace(M.GetSpaceRequest(space_id="../../etc"))) == invalid
    assert await reason(stub.GetNode(M.GetNodeRequest(space_id=space))) == invalid
    assert await reason(stub.GetNode(M.GetNodeRequest(space_id=space, node=b"short"))) == invalid
    for path in ("a/../b", "a//b", "a/./b", "x\0", "y" * 256, "/".join(["long" * 60] * 20)):
        assert await reason(stub.GetNode(M.GetNodeRequest(space_id=space, path=path))) == invalid
    assert await reason(stub.FindMissingObjects(M.FindMissingObjectsRequest(space_id=space, objects=b"x"))) == invalid
    assert await reason(editor.commit(creating("a"), request_id=b"short")) == invalid
    assert await reason(editor.commit(M.Mutation())) == invalid
    assert await reason(editor.commit(*[creating("a")] * 2001)) == "REQUEST_TOO_LARGE"
    assert await reason(editor.commit(*[creating("a" * 250)] * 1500)) == "REQUEST_TOO_LARGE"
    await editor.create("docs")
    cursor = (await changes(editor))[-1].cursor
    for wrong in (b"x", cursor[:-1], cursor[:-1] + b"\0", b"\0" * len(cursor)):
        assert await reason(stub.ListChanges(M.ListChangesRequest(space_id=space, cursor=wrong))) == "INVALID_CURSOR"
    async with metadata.caller() as other:
        theirs = M.ListChangesRequest(space_id=other.space, cursor=cursor)
        assert await reason(other.stub.ListChanges(theirs)) == "INVALID_CURSOR"
    for token in ("x", "AAAA", "\u00e4", "!" * 50):
        listing = M.ListNodesRequest(space_id=space, parent=ROOT, page_token=token)
        assert await reason(stub.ListNodes(listing)) == "INVALID_PAGE_TOKEN"
        versions = M.ListVersionsRequest(space_id=space, node=bytes(16), page_token=token)
        assert await reason(stub.ListVersions(versions)) == "INVALID_PAGE_TOKEN"
        trash = M.ListTrashRequest(space_id=space, page_token=token)
        assert await reason(stub.ListTrash(trash)) == "INVALID_PAGE_TOKEN"


async def test_what_one_request_asks_for_is_bounded(editor: Caller) -> None:
    stub, space = editor.stub, editor.space

    def sealing(count: int):
        objects = [M.ObjectDeclaration(sha256=EMPTY_DIGEST, size=0)] * count
        return stub.SealObjects(M.SealObjectsRequest(space_id=space, objects=objects))

    def finding(count: int):
        return stub.FindMissingObjects(M.FindMissingObjectsRequest(space_id=space, objects=EMPTY_DIGEST * count))

    async def checking(count: int) -> None:
        batch = M.CheckVersionsBatch(paths=["a"] * count, digests=bytes(32 * count))
        opening = M.CheckVersionsOpen(space_id=space)
        call = stub.CheckVersions(iter([M.CheckVersionsRequest(open=opening), M.CheckVersionsRequest(batch=batch)]))
        await read_all(call)

    for asked, most in ((sealing, MAX_SEAL_DECLARATIONS), (finding, MAX_FIND_DIGESTS), (checking, MAX_CHECK_FILES)):
        await asked(most)
        assert await reason(asked(most + 1)) == "INVALID_ARGUMENT"


async def test_a_stream_of_changes_says_when_it_is_complete_and_to_which_head(editor: Caller) -> None:
    (nothing,) = await changes(editor)
    assert (nothing.complete, nothing.seq) == (True, 0)
    for number in range(12):
        await editor.commit(*(creating(f"{number}-{index}-{'n' * 200}") for index in range(1000)))
    pages = await changes(editor)
    assert len(pages) > 2
    assert [page.complete for page in pages] == [False] * (len(pages) - 1) + [True]
    assert pages[-1].seq == 12
    (last,) = await changes(editor, pages[-1].cursor)
    assert (last.complete, last.seq, last.cursor) == (True, 12, pages[-1].cursor)


async def test_changes_say_what_their_reader_may_do() -> None:
    async with service() as metadata, metadata.caller() as editor, metadata.caller(role=Role.VIEWER) as viewer:
        metadata.backend.auth.writes_since_ms = 1234
        (page,) = await changes(editor)
        assert (page.read_only, page.writes_since_ms) == (False, 1234)
        (page,) = await changes(viewer)
        assert page.read_only


async def test_draining_breaks_streams_off_with_an_error_and_they_go_on_elsewhere() -> None:
    async with service() as metadata, metadata.caller() as editor:
        await editor.create("docs")
        first = M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=editor.space))
        check = editor.stub.CheckVersions()
        await check.write(first)
        batch = M.CheckVersionsBatch(paths=["docs"], digests=bytes(32))
        await check.write(M.CheckVersionsRequest(batch=batch))
        answer = await check.read()
        assert isinstance(answer, M.CheckVersionsResponse)
        assert (list(answer.indexes), answer.complete) == ([], False)
        metadata.drain.begin()
        assert await reason(check.read()) == "DRAINING"
        assert await reason(editor.stub.ListChanges(M.ListChangesRequest(space_id=editor.space))) == "DRAINING"
        assert (await editor.stub.GetSpace(M.GetSpaceRequest(space_id=editor.space))).head == 1


async def test_a_message_over_the_limit_is_refused(editor: Caller) -> None:
    huge = M.FindMissingObjectsRequest(space_id=editor.space, objects=bytes(5 * 1024 * 1024))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await editor.stub.FindMissingObjects(huge)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await editor.create("docs")


async def test_a_cursor_ahead_of_the_journal_is_refused(editor: Caller) -> None:
    ahead = M.ListChangesRequest(space_id=editor.space, cursor=cursor_to_wire(editor.space, Position(99, bytes(8))))
    assert await reason(editor.stub.ListChanges(ahead)) == "INVALID_CURSOR"


async def test_a_cursor_of_another_history_is_refused(editor: Caller, metadata: Service) -> None:
    """After a restore of the table from a backup the numbers are there again, with other entries."""
    await editor.create("docs")
    (page,) = [page async for page in editor.stub.ListChanges(M.ListChangesRequest(space_id=editor.space))]
    again = M.ListChangesRequest(space_id=editor.space, cursor=page.cursor)
    assert [page.cursor async for page in editor.stub.ListChanges(again)] == [page.cursor]
    other = cursor_to_wire(editor.space, Position(page.seq, b"another!"))
    refused = M.ListChangesRequest(space_id=editor.space, cursor=other)
    assert await reason(editor.stub.ListChanges(refused)) == "INVALID_CURSOR"
    await editor.create("more")
    assert await reason(editor.stub.ListChanges(refused)) == "INVALID_CURSOR"


async def test_a_full_quota_refuses_content_and_says_so() -> None:
    async with service(Backend(quotas=FixedQuotas(1))) as metadata, metadata.caller() as editor:
        assert (await editor.stub.GetSpace(M.GetSpaceRequest(space_id=editor.space))).quota_bytes == 1
        manifest = J.Manifest(blocks=EMPTY_DIGEST, lengths=[10])
        content = J.Content(digest=EMPTY_DIGEST, size=10, manifest=manifest)
        metadata.backend.objects.index[editor.space, Digest(EMPTY_DIGEST)] = Sealed(10)
        big = M.CreateNode(parent=ROOT, name="a.txt", kind=J.NODE_KIND_FILE, content=content)
        answer = await editor.commit(M.Mutation(create=big), creating("docs"))
        assert [r.verdict for r in answer.results] == [J.VERDICT_QUOTA_EXCEEDED, J.VERDICT_ACCEPTED]


@pytest.mark.parametrize(
    "path", ["a.txt/", "/a.txt", "docs//b.txt", "docs/../a.txt", "./a.txt", "a\0", "R/" * 5000 + "R"]
)
async def test_every_rpc_refuses_the_same_paths(editor: Caller, path: str) -> None:
    await editor.create("a.txt")
    await editor.create("b.txt", parent=(await editor.create("docs")).id)
    assert await reason(editor.stub.GetNode(M.GetNodeRequest(space_id=editor.space, path=path))) == "INVALID_ARGUMENT"
    opening = M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=editor.space))
    batch = M.CheckVersionsBatch(paths=["a.txt", path], digests=EMPTY_DIGEST * 2)
    checking = editor.stub.CheckVersions(iter([opening, M.CheckVersionsRequest(batch=batch)]))
    assert await reason(checking) == "INVALID_ARGUMENT"


async def test_a_path_of_as_many_names_as_fit_is_looked_up(editor: Caller) -> None:
    await editor.create("a")
    path = "a/" * 127 + "a"
    assert await reason(editor.stub.GetNode(M.GetNodeRequest(space_id=editor.space, path=path))) == "NO_SUCH_NODE"
    opening = M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=editor.space))
    paths = [f"{n:04}" + path[4:] for n in range(999)] + [path]
    batch = M.CheckVersionsBatch(paths=paths, digests=EMPTY_DIGEST * 1000)
    checking = editor.stub.CheckVersions(iter([opening, M.CheckVersionsRequest(batch=batch)]))
    answer, *_ = [one async for one in checking]
    assert list(answer.differences) == [M.DIFFERENCE_UNKNOWN] * 1000


async def test_an_absent_parent_is_not_the_root(editor: Caller) -> None:
    docs = await editor.create("docs")
    file = await editor.create("a.txt", parent=docs.id)
    move = M.MoveNode(node=file.id, from_parent=docs.id, from_name="a.txt", name="b.txt")
    assert await reason(editor.commit(M.Mutation(move=move))) == "INVALID_ARGUMENT"
    create = M.CreateNode(name="c", kind=J.NODE_KIND_DIRECTORY)
    assert await reason(editor.commit(M.Mutation(create=create))) == "INVALID_ARGUMENT"
    assert await reason(editor.stub.ListNodes(M.ListNodesRequest(space_id=editor.space))) == "INVALID_ARGUMENT"
    found = await editor.stub.GetNode(M.GetNodeRequest(space_id=editor.space, node=file.id))
    assert found.path == "docs/a.txt"


BIG = 1024


async def _large_files(metadata: Service, editor: Caller, count: int) -> list[J.Node]:
    """Files with manifests of about 38 KB each, by name."""
    metadata.backend.objects.index[editor.space, Digest(EMPTY_DIGEST)] = Sealed(MIN_MEAN_BLOCK_BYTES)
    manifest = J.Manifest(blocks=EMPTY_DIGEST * BIG, lengths=[MIN_MEAN_BLOCK_BYTES] * BIG)
    content = J.Content(digest=bytes(32), size=BIG * MIN_MEAN_BLOCK_BYTES, manifest=manifest)
    made: list[J.Node] = []
    for start in range(0, count, 7):
        names = [f"{n:03}" for n in range(start, min(start + 7, count))]
        creates = [M.CreateNode(parent=ROOT, name=name, kind=J.NODE_KIND_FILE, content=content) for name in names]
        answer = await editor.commit(*(M.Mutation(create=create) for create in creates))
        assert {one.verdict for one in answer.results} == {J.VERDICT_ACCEPTED}
        made += [one.node for one in answer.results]
    return made


@pytest.mark.parametrize("lag", [0, UNPROJECTED_SECONDS])
async def test_pages_are_bounded_by_bytes_and_by_count(lag: float) -> None:
    """The table may hold the entries already or not."""
    async with service(coalesce_seconds=lag) as metadata, metadata.caller() as editor:
        made = await _large_files(metadata, editor, 130)
        stub, space = editor.stub, editor.space

        async def pages(method, request, entries: str) -> list[Any]:
            found, request.page_token = [], ""
            while True:
                page = await method(request)
                some = getattr(page, entries)
                assert page.ByteSize() < 1_100_000
                assert 0 < len(some) <= (request.page_size or 1000)
                found += some
                request.page_token = page.next_page_token
                if not request.page_token:
                    return found

        for size in (1000, 10):
            listing = M.ListNodesRequest(space_id=space, parent=ROOT, page_size=size)
            assert [node.name for node in await pages(stub.ListNodes, listing, "nodes")] == [one.name for one in made]
        digest = made[0].content.digest
        for version in range(1, 41):
            large = made[0].content
            content = J.Content(digest=digest, size=large.size, mtime_ns=version, manifest=large.manifest)
            update = M.UpdateContent(node=made[0].id, base_version=version, content=content)
            await editor.commit(M.Mutation(update=update))
        for size in (1000, 10):
            history = M.ListVersionsRequest(space_id=space, node=made[0].id, page_size=size)
            versions = await pages(stub.ListVersions, history, "versions")
            assert [one.version for one in versions] == list(range(41, 0, -1))
        activity = await pages(stub.ListActivity, M.ListActivityRequest(space_id=space, page_size=1000), "activities")
        assert [one.seq for one in activity] == sorted((one.seq for one in activity), reverse=True)
        assert len(activity) == 130 + 40
        for at in range(1, 130):
            await editor.commit(M.Mutation(delete=M.DeleteNode(node=made[at].id, base_version=1)))
        for size in (1000, 10):
            trash = await pages(stub.ListTrash, M.ListTrashRequest(space_id=space, page_size=size), "nodes")
            assert [node.id for node in trash] == sorted(one.id for one in made[1:])


async def test_a_page_has_a_thousand_entries_at_most_whatever_is_wished_for(editor: Caller) -> None:
    stub, space, wished = editor.stub, editor.space, 2**31 - 1
    made = (await editor.commit(*(creating(f"d{number}") for number in range(MAX_PAGE_ITEMS + 1)))).results
    nodes = await stub.ListNodes(M.ListNodesRequest(space_id=space, parent=ROOT, page_size=wished))
    found = await stub.SearchNodes(M.SearchNodesRequest(space_id=space, query="d", page_size=wished))
    activity = await stub.ListActivity(M.ListActivityRequest(space_id=space, page_size=wished))
    gone = [M.Mutation(delete=M.DeleteNode(node=one.node.id)) for one in made]
    await editor.commit(*gone)
    trash = await stub.ListTrash(M.ListTrashRequest(space_id=space, page_size=wished))
    sizes = [len(nodes.nodes), len(found.found), len(activity.activities), len(trash.nodes)]
    assert sizes == [MAX_PAGE_ITEMS] * 4


async def test_a_page_token_is_good_for_its_own_listing_only(editor: Caller) -> None:
    docs = await editor.create("docs")
    for name in ("a.txt", "b.txt"):
        await editor.create(name, parent=docs.id)
        await editor.create(name)
    token = (
        await editor.stub.ListNodes(M.ListNodesRequest(space_id=editor.space, parent=ROOT, page_size=1))
    ).next_page_token
    other = M.ListNodesRequest(space_id=editor.space, parent=docs.id, page_token=token)
    assert await reason(editor.stub.ListNodes(other)) == "INVALID_PAGE_TOKEN"


async def test_a_greater_role_holds_at_once(metadata: Service, editor: Caller) -> None:
    await editor.create("docs")
    async with metadata.caller(Role.VIEWER, space=editor.space) as viewer:
        assert await reason(viewer.commit(creating("x"))) == "PERMISSION_DENIED"
        metadata.backend.auth.roles[viewer.space, viewer.user] = Role.EDITOR
        await viewer.create("x")
        asked = metadata.backend.auth.asked
        await changes(viewer)
        await viewer.stub.FindMissingObjects(M.FindMissingObjectsRequest(space_id=viewer.space, objects=bytes(32)))
        assert metadata.backend.auth.asked == asked, "a grant that is enough is not asked for each time"


async def test_a_commit_asks_once_for_the_right_of_its_moment(metadata: Service, editor: Caller) -> None:
    await editor.create("docs")
    auth = metadata.backend.auth
    asked = auth.asked
    made = [await editor.create("x"), await editor.create("y")]
    assert auth.asked == asked + 2
    removing = M.Mutation(delete=M.DeleteNode(node=made[0].id))
    for role, refusal in ((Role.VIEWER, "PERMISSION_DENIED"), (None, "NO_SUCH_SPACE")):
        auth.roles[editor.space, editor.user] = Role.EDITOR
        await changes(editor)  # the right is remembered
        auth.roles[editor.space, editor.user] = role
        asked = auth.asked
        assert await reason(editor.commit(removing)) == refusal
        assert auth.asked == asked + 1
        for restore in (
            editor.stub.RestoreVersion(M.RestoreVersionRequest(**_named(editor), node=made[0].id, version=1)),
            editor.stub.RestoreNode(M.RestoreNodeRequest(**_named(editor), node=made[0].id)),
        ):
            assert await reason(restore) == refusal
    auth.roles[editor.space, editor.user] = Role.EDITOR
    await changes(editor)
    auth.revoked.add(editor.device)
    assert await reason(editor.commit(removing)) == "DEVICE_REVOKED"
    assert await reason(editor.stub.GetSpace(M.GetSpaceRequest(space_id=editor.space))) == "DEVICE_REVOKED"
    auth.revoked.clear()
    assert (await editor.commit(removing)).results[0].verdict == J.VERDICT_ACCEPTED


def _named(caller: Caller) -> dict[str, Any]:
    return {"space_id": caller.space, "request_id": new_request_id()}


async def test_what_was_decided_on_by_another_right_is_not_done(metadata: Service, editor: Caller) -> None:
    auth = metadata.backend.auth
    auth.writes_since_ms = 5
    node = await editor.create("docs")

    def removing(right: int | None, request_id: bytes) -> M.CommitChangesRequest:
        removal = M.Mutation(delete=M.DeleteNode(node=node.id))
        return M.CommitChangesRequest(
            space_id=editor.space, request_id=request_id, mutations=[removal], writes_since_ms=right
        )

    auth.writes_since_ms = 7
    request_id = new_request_id()
    for wrong in (5, 0, -1, 8):
        assert await reason(editor.stub.CommitChanges(removing(wrong, request_id))) == "RIGHT_CHANGED"
    assert (await editor.stub.GetSpace(M.GetSpaceRequest(space_id=editor.space))).head == 1
    done = await editor.stub.CommitChanges(removing(7, request_id))
    assert done.results[0].verdict == J.VERDICT_ACCEPTED
    # A change that was made is told again, whatever became of the right; no other request gets that.
    auth.writes_since_ms = 9
    assert await editor.stub.CommitChanges(removing(7, request_id)) == done
    assert await reason(editor.stub.CommitChanges(removing(5, request_id))) == "REQUEST_ID_REUSED"
    assert await reason(editor.stub.CommitChanges(removing(None, request_id))) == "REQUEST_ID_REUSED"


async def test_changes_tell_the_right_of_their_moment_if_they_are_asked_to(metadata: Service, editor: Caller) -> None:
    auth = metadata.backend.auth

    async def told(*, fresh: bool) -> tuple[bool, int]:
        request = M.ListChangesRequest(space_id=editor.space, fresh_right=fresh)
        (page,) = [page async for page in editor.stub.ListChanges(request)]
        return page.read_only, page.writes_since_ms

    auth.writes_since_ms = 5
    assert await told(fresh=True) == (False, 5)
    assert auth.asked == 1
    auth.writes_since_ms = 7
    assert await told(fresh=False) == (False, 5)
    assert auth.asked == 1
    assert await told(fresh=True) == (False, 7)
    assert await told(fresh=False) == (False, 7), "what was asked for is remembered"
    auth.roles[editor.space, editor.user] = Role.VIEWER
    assert await told(fresh=True) == (True, 0)
    auth.roles[editor.space, editor.user] = None
    assert await reason(editor.stub.ListChanges(M.ListChangesRequest(space_id=editor.space))) == "NO_SUCH_SPACE"


async def test_a_refusal_names_which_of_many(editor: Caller) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await editor.commit(creating("a"), creating("b", parent=b"short"))
    error = error_from_rpc(caught.value)
    assert error is not None
    assert error.details == {"field": "mutations[1].create.parent"}
    assert str(error) == "mutations[1]: create.parent must be 16 bytes, not 5"
    declared = [M.ObjectDeclaration(sha256=bytes(32)), M.ObjectDeclaration(sha256=b"short")]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await editor.stub.SealObjects(M.SealObjectsRequest(space_id=editor.space, objects=declared))
    error = error_from_rpc(caught.value)
    assert error is not None
    assert error.details == {"field": "objects[1]"}
    unknown = new_text_id()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await editor.stub.GetSpace(M.GetSpaceRequest(space_id=unknown))
    error = error_from_rpc(caught.value)
    assert error is not None
    assert (error.reason, error.details) == ("NO_SUCH_SPACE", {"space_id": unknown})


async def test_what_stands_in_the_way_fits_into_an_answer(metadata: Service, editor: Caller) -> None:
    made = await _large_files(metadata, editor, 60)
    stale = [M.Mutation(delete=M.DeleteNode(node=one.id, base_version=9)) for one in made]
    for answer in (await editor.commit(*stale), await editor.commit(*stale, creating("new.txt"))):
        assert {one.verdict for one in answer.results[:60]} == {J.VERDICT_VERSION_CONFLICT}
        for one, result in zip(made, answer.results, strict=False):
            # The answer tells one content from another, and holds nothing that weighs.
            told = result.node.content
            assert (result.node.id, told.digest, told.size) == (one.id, one.content.digest, one.content.size)
            assert not told.HasField("manifest")
        assert answer.ByteSize() < 60 * 200
    recorded = metadata.backend.journal.entries[editor.space][-1]
    assert len(recorded) < 60 * 200, "refusals weigh as little in the journal"


async def test_many_refusals_fit_into_an_answer(editor: Caller) -> None:
    """The longest names, of symlinks with the longest targets: an answer is bounded however many stand in the way."""
    target = "t" * 4096
    digest = hashlib.sha256(target.encode()).digest()
    link = J.Content(digest=digest, size=len(target), target=target)
    names = [f"{number:04}".ljust(255, "n") for number in range(60)]
    creates = [M.CreateNode(parent=ROOT, name=name, kind=J.NODE_KIND_SYMLINK, content=link) for name in names]
    made = await editor.commit(*(M.Mutation(create=create) for create in creates))
    assert {one.verdict for one in made.results} == {J.VERDICT_ACCEPTED}
    answer = await editor.commit(
        *(M.Mutation(delete=M.DeleteNode(node=made.results[n % 60].node.id, base_version=9)) for n in range(2000))
    )
    assert {one.verdict for one in answer.results} == {J.VERDICT_VERSION_CONFLICT}
    assert {one.node.content.target for one in answer.results} == {""}
    assert answer.ByteSize() < 1_000_000


async def test_messages_of_changes_are_bounded(metadata: Service, editor: Caller) -> None:
    made = await _large_files(metadata, editor, 60)
    pages = await changes(editor)
    assert [node.id for page in pages for node in page.nodes] == [one.id for one in made]
    assert len(pages) > 1
    assert max(page.ByteSize() for page in pages) < 1_100_000


async def test_who_is_removed_is_answered_no_more_in_an_open_check() -> None:
    async with service(ask_seconds=0.01) as metadata, metadata.caller(Role.VIEWER) as viewer:
        opening = M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=viewer.space))
        batch = M.CheckVersionsRequest(batch=M.CheckVersionsBatch(paths=["a"], digests=bytes(32)))

        async def messages() -> AsyncIterator[M.CheckVersionsRequest]:
            yield opening
            yield batch
            await asyncio.Event().wait()

        checking = viewer.stub.CheckVersions(messages())
        answers = aiter(checking)
        assert list((await anext(answers)).differences) == [M.DIFFERENCE_UNKNOWN]
        asked = metadata.backend.auth.asked
        async with asyncio.timeout(60):  # the remembered part would do for half of it
            while metadata.backend.auth.asked < asked + 5:
                await asyncio.sleep(0.01)
        metadata.backend.auth.roles.clear()
        async with asyncio.timeout(60):
            assert await reason(anext(answers)) == "NO_SUCH_SPACE"


class Gated(MemoryJournal):
    """Entries are not told before the gate is open; whether there is a next one is."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.waiting = 0

    @override
    async def read(self, space: SpaceId, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        if limit > 1:
            self.waiting += 1
            await self.gate.wait()
        return await super().read(space, after, limit)


async def test_who_is_removed_is_told_no_more_of_changes_under_way() -> None:
    journal = Gated()
    backend = Backend(journal=journal)
    async with service(backend, ask_seconds=0.01) as metadata, metadata.caller() as editor:
        for number in range(6):
            await editor.create(f"{number}.txt")
        await projected(backend, editor.space)
        told = asyncio.create_task(reason(editor.stub.ListChanges(M.ListChangesRequest(space_id=editor.space))))
        async with asyncio.timeout(60):
            while not journal.waiting:
                await asyncio.sleep(0.001)
            metadata.backend.auth.roles.clear()
            assert await told == "NO_SUCH_SPACE"


async def test_who_is_removed_is_not_answered_after_a_wait() -> None:
    """A call that takes longer than rights are asked about is answered only by a right that still stands."""
    journal = Gated()
    async with service(Backend(journal=journal), ask_seconds=0.01) as metadata, metadata.caller() as editor:
        for number in range(6):
            await editor.create(f"{number}.txt")
        wanted = M.SearchNodesRequest(space_id=editor.space, query="txt")
        asked = asyncio.create_task(reason(editor.stub.SearchNodes(wanted)))
        async with asyncio.timeout(60):
            while not journal.waiting:
                await asyncio.sleep(0.001)
        began = time.monotonic()
        metadata.backend.auth.roles.clear()
        while time.monotonic() < began + 0.02:
            await asyncio.sleep(0.001)
        journal.gate.set()
        assert await asked == "NO_SUCH_SPACE"


class Unhurried(MemoryObjects):
    """Storage that does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    @override
    async def describe(self, space: SpaceId, digest: Digest) -> StoredObject | None:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize(("role", "why"), [(None, "NO_SUCH_SPACE"), (Role.VIEWER, "PERMISSION_DENIED")])
async def test_a_seal_under_way_ends_with_the_right_to_write(role: Role | None, why: str) -> None:
    objects = Unhurried()
    async with service(Backend(objects=objects), ask_seconds=0.01) as metadata, metadata.caller() as editor:
        wanted = M.SealObjectsRequest(space_id=editor.space, objects=[M.ObjectDeclaration(sha256=bytes(32), size=1)])
        sealing = asyncio.create_task(reason(editor.stub.SealObjects(wanted)))
        await asyncio.wait_for(objects.asked.wait(), 60)
        metadata.backend.auth.roles[editor.space, editor.user] = role
        assert await asyncio.wait_for(sealing, 60) == why
