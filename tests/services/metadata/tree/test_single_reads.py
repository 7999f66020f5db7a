"""One version of a file, and what a request was answered: projected or not, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.accounts import Role
from syncline.model.errors import SynclineError
from syncline.model.identifiers import new_request_id
from tests.services.metadata.support import (
    EMPTY_DIGEST,
    UNPROJECTED_SECONDS,
    Caller,
    Service,
    creating,
    projected,
    reason_of,
    service,
)

J, M = journal_pb2, metadata_pb2


@pytest.fixture(params=[0, UNPROJECTED_SECONDS], ids=["the table holds all", "the table lags"])
def coalesce_seconds(request):
    return request.param


@pytest.fixture
async def metadata(coalesce_seconds: int) -> AsyncIterator[Service]:
    async with service(coalesce_seconds=coalesce_seconds) as running:
        yield running


@pytest.fixture
def settle(metadata: Service, editor: Caller, coalesce_seconds: int):
    """Sees to it that the table is as the test's parameter says."""

    async def settle() -> None:
        if coalesce_seconds:
            assert not metadata.backend.table.nodes
        else:
            await projected(metadata.backend, editor.space)

    return settle


@pytest.fixture
async def editor(metadata: Service) -> AsyncIterator[Caller]:
    async with metadata.caller() as caller:
        yield caller


async def update(caller: Caller, file: J.Node, base_version: int, mtime_ns: int) -> None:
    content = J.Content(digest=EMPTY_DIGEST, mtime_ns=mtime_ns)
    update = M.UpdateContent(node=file.id, base_version=base_version, content=content)
    answer = await caller.commit(M.Mutation(update=update))
    assert answer.results[0].verdict == J.VERDICT_ACCEPTED


def version(caller: Caller, node: bytes, number: int):
    return caller.stub.GetVersion(M.GetVersionRequest(space_id=caller.space, node=node, version=number))


def answer(caller: Caller, request: bytes):
    return caller.stub.GetAnswer(M.GetAnswerRequest(space_id=caller.space, request_id=request))


# ---- GetVersion


async def test_each_version_of_a_file_is_found(editor: Caller, settle) -> None:
    file = await editor.create("a.txt")
    for number in (1, 2, 3):
        await update(editor, file, number, mtime_ns=number * 10)
    await settle()
    now = (await editor.stub.GetNode(M.GetNodeRequest(space_id=editor.space, node=file.id))).node
    listed = await editor.stub.ListVersions(M.ListVersionsRequest(space_id=editor.space, node=file.id))
    assert [one.version for one in listed.versions] == [4, 3, 2, 1]
    for one in listed.versions:
        assert await version(editor, file.id, one.version) == M.GetVersionResponse(version=one, node=now)
    assert [one.content.mtime_ns for one in listed.versions] == [30, 20, 10, 0]
    for number in (0, 5, 2**63, 2**64 - 1):
        assert await reason_of(version(editor, file.id, number)) == "NO_SUCH_VERSION"


async def test_versions_of_a_deleted_file_are_found(editor: Caller, settle) -> None:
    docs = await editor.create("docs")
    file = await editor.create("a.txt", parent=docs.id)
    await update(editor, file, 1, mtime_ns=10)
    await editor.commit(M.Mutation(delete=M.DeleteNode(node=docs.id)))
    assert (await version(editor, file.id, 1)).version.content.mtime_ns == 0
    await editor.stub.RestoreNode(
        M.RestoreNodeRequest(space_id=editor.space, request_id=new_request_id(), node=docs.id)
    )
    await editor.commit(M.Mutation(delete=M.DeleteNode(node=file.id, base_version=2)))
    await settle()
    for number, mtime_ns in ((1, 0), (2, 10)):
        found = await version(editor, file.id, number)
        assert (found.version.version, found.version.content.mtime_ns) == (number, mtime_ns)
        assert (found.node.id, found.node.version) == (file.id, 2)
        assert found.node.deleted_at_ms > 0


async def test_only_files_that_are_there_have_versions(editor: Caller, metadata: Service) -> None:
    docs = await editor.create("docs")
    file = await editor.create("a.txt")
    assert await reason_of(version(editor, docs.id, 1)) == "NO_SUCH_NODE"
    assert await reason_of(version(editor, bytes(16), 1)) == "NO_SUCH_NODE"
    assert await reason_of(version(editor, new_request_id(), 1)) == "NO_SUCH_NODE"
    assert await reason_of(version(editor, b"", 1)) == "INVALID_ARGUMENT"
    async with metadata.caller(Role.VIEWER, space=editor.space) as viewer:
        assert (await version(viewer, file.id, 1)).node == file
    async with metadata.caller(None, space=editor.space) as stranger:
        assert await reason_of(version(stranger, file.id, 1)) == "NO_SUCH_SPACE"
    async with metadata.caller() as other:
        assert await reason_of(version(other, file.id, 1)) == "NO_SUCH_NODE"


# ---- GetAnswer


async def test_an_answer_is_given_again_without_the_mutations(editor: Caller, settle) -> None:
    request, moved, restored = new_request_id(), new_request_id(), new_request_id()
    first = await editor.commit(creating("docs"), creating("docs"), creating("a.txt"), request_id=request)
    assert [one.verdict for one in first.results] == [J.VERDICT_ACCEPTED, J.VERDICT_NAME_TAKEN, J.VERDICT_ACCEPTED]
    docs, file = first.results[0].node, first.results[2].node
    move = M.MoveNode(node=file.id, from_name="a.txt", from_parent=bytes(16), parent=docs.id, name="b.txt")
    second = await editor.commit(M.Mutation(move=move), request_id=moved)
    await editor.commit(M.Mutation(delete=M.DeleteNode(node=docs.id)))
    back = await editor.stub.RestoreNode(M.RestoreNodeRequest(space_id=editor.space, request_id=restored, node=docs.id))
    await settle()
    assert await answer(editor, request) == M.GetAnswerResponse(seq=first.seq, results=first.results)
    assert await answer(editor, moved) == M.GetAnswerResponse(seq=second.seq, results=second.results)
    assert await answer(editor, restored) == M.GetAnswerResponse(seq=back.seq, results=[back.result])
    assert back.seq == 4


async def test_the_answer_belongs_to_who_asked_for_it(editor: Caller, metadata: Service) -> None:
    request = new_request_id()
    await editor.commit(creating("docs"), request_id=request)
    async with metadata.caller(Role.OWNER, space=editor.space) as owner:
        assert await reason_of(answer(owner, request)) == "NO_SUCH_REQUEST"
    async with metadata.caller(None, space=editor.space) as stranger:
        assert await reason_of(answer(stranger, request)) == "NO_SUCH_SPACE"
    # A person who may only look by now may still ask what became of their changes.
    metadata.backend.auth.roles[editor.space, editor.user] = Role.VIEWER
    async with metadata.caller(Role.VIEWER, space=editor.space, user=editor.user) as viewer:
        assert (await answer(viewer, request)).seq == 1
        other = M.GetAnswerRequest(space_id=(await space_of(metadata, editor.user)), request_id=request)
        assert await reason_of(viewer.stub.GetAnswer(other)) == "NO_SUCH_REQUEST"


async def space_of(metadata: Service, user: str) -> str:
    async with metadata.caller(user=user) as caller:
        return caller.space


async def test_what_was_not_recorded_has_no_answer(editor: Caller) -> None:
    await editor.create("docs")
    refused = new_request_id()
    answered = await editor.commit(creating("docs"), request_id=refused)
    assert [one.verdict for one in answered.results] == [J.VERDICT_NAME_TAKEN]
    assert await reason_of(answer(editor, refused)) == "NO_SUCH_REQUEST"
    assert await reason_of(answer(editor, new_request_id())) == "NO_SUCH_REQUEST"
    for hostile in (b"", b"short", bytes(17)):
        assert await reason_of(answer(editor, hostile)) == "INVALID_ARGUMENT"


async def test_what_another_process_has_just_recorded_has_its_answer() -> None:
    """This process has the space in memory, and the other's entry is in the journal only."""
    async with (
        service() as here,
        service(here.backend, coalesce_seconds=UNPROJECTED_SECONDS) as there,
        here.caller() as editor,
    ):
        await editor.create("docs")
        async with there.caller(space=editor.space, user=editor.user) as elsewhere:
            request = new_request_id()
            first = await elsewhere.commit(creating("more"), request_id=request)
            assert (await answer(editor, request)).results == first.results


def test_each_reason_has_a_class_of_its_own() -> None:
    reasons = [error.reason for error in SynclineError.__subclasses__()]
    assert "NO_SUCH_REQUEST" in reasons
    assert len(set(reasons)) == len(reasons)
