"""A person who opened a public link sees the linked node and what is below it, and nothing else of the space."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import grpc
import pytest
from google.protobuf.message import Message

from runtime.identity import Identity, LinkScope
from runtime.interruption import REMEMBERED_SECONDS
from runtime.permissions import READERS
from runtime.tokens import UserTokenVerifier, service_authorization
from services.metadata.access import RoleCache
from services.metadata.adapters.auth import AuthClient
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.accounts import Role
from syncline.model.errors import NoSuchNode, NoSuchSpace, PermissionDenied
from syncline.model.identifiers import ROOT, DeviceId, LinkId, NodeId, SpaceId, UserId, new_request_id, new_text_id
from syncline.rpc.channel import aio_channel
from syncline.rpc.errors import error_from_rpc
from tests.services.auth.support import SECRET, serving
from tests.services.metadata.support import Caller, FakeAuth, LinkReader, Service, service
from tests.services.metadata.test_servicer import reason
from tests.services.refusals import methods_open_to

J, M = journal_pb2, metadata_pb2
SERVICE = M.DESCRIPTOR.services_by_name["MetadataService"]


@dataclass
class Tree:
    """docs/{linked/{a.txt,deep/b.txt},sibling.txt} and other/, and somebody who opened a link to `linked`."""

    metadata: Service
    editor: Caller
    docs: J.Node
    linked: J.Node
    a: J.Node
    deep: J.Node
    b: J.Node
    sibling: J.Node
    other: J.Node
    guest: LinkReader

    async def move(self, node: J.Node, parent: bytes) -> None:
        move = M.MoveNode(node=node.id, from_parent=node.parent, from_name=node.name, parent=parent, name=node.name)
        await self._accepted(M.Mutation(move=move))

    async def delete(self, node: J.Node) -> None:
        await self._accepted(M.Mutation(delete=M.DeleteNode(node=node.id, base_version=node.version)))

    async def _accepted(self, mutation: M.Mutation) -> None:
        answer = await self.editor.commit(mutation)
        assert answer.results[0].verdict == J.VERDICT_ACCEPTED

    async def sees(self, *selectors: bytes | str) -> list[bool]:
        """Return for each of these nodes or paths True if it can be read, and False for NO_SUCH_NODE."""
        found = []
        for selector in selectors:
            try:
                await self.guest.get(selector)
                found.append(True)
            except grpc.aio.AioRpcError as error:
                if not isinstance(error_from_rpc(error), NoSuchNode):
                    raise
                found.append(False)
        return found


@pytest.fixture
async def tree() -> AsyncIterator[Tree]:
    async with service() as metadata, metadata.caller() as editor:
        docs = await editor.create("docs")
        linked = await editor.create("linked", parent=docs.id)
        a = await editor.create("a.txt", parent=linked.id)
        deep = await editor.create("deep", parent=linked.id)
        b = await editor.create("b.txt", parent=deep.id)
        sibling = await editor.create("sibling.txt", parent=docs.id)
        other = await editor.create("other")
        async with metadata.link(editor.space, linked.id) as guest:
            yield Tree(metadata, editor, docs, linked, a, deep, b, sibling, other, guest)


def without_who(node: J.Node, *, parent: bytes | None = None) -> J.Node:
    """A node as a link shows it."""
    found = J.Node()
    found.CopyFrom(node)
    found.ClearField("user_id")
    found.ClearField("device_id")
    if parent is not None:
        found.parent = parent
    return found


async def test_paths_begin_at_the_linked_node(tree: Tree) -> None:
    linked = without_who(tree.linked, parent=ROOT)
    for node, path in ((linked, ""), (without_who(tree.a), "a.txt"), (without_who(tree.b), "deep/b.txt")):
        for selector in (path, node.id):
            found = await tree.guest.get(selector)
            assert (found.node, found.path) == (node, path)
    assert await reason(tree.guest.get("/")) == "INVALID_ARGUMENT"


async def test_directories_are_listed(tree: Tree) -> None:
    for name in ("c.txt", "d.txt", "e.txt"):
        await tree.editor.create(name, parent=tree.linked.id)
    assert await tree.guest.names(tree.linked.id) == ["a.txt", "c.txt", "d.txt", "deep", "e.txt"]
    listed = await tree.guest.stub.ListNodes(M.ListNodesRequest(space_id=tree.editor.space, parent=tree.deep.id))
    assert list(listed.nodes) == [without_who(tree.b)]


async def test_nothing_else_is_there(tree: Tree) -> None:
    outside = (tree.docs.id, tree.sibling.id, tree.other.id, ROOT, b"n" * 16)
    assert not any(await tree.sees(*outside, "docs", "docs/linked", "linked", "sibling.txt", "a.txt/x", "nothing"))
    for parent in (*outside, tree.a.id):
        assert await reason(tree.guest.names(parent)) == "NO_SUCH_NODE"
    assert await reason(tree.guest.names(b"")) == "INVALID_ARGUMENT"
    for path in ("..", "../sibling.txt", "deep/../../sibling.txt", "."):
        assert await reason(tree.guest.get(path)) == "INVALID_ARGUMENT"


async def test_a_refusal_tells_nothing_of_what_is_there(tree: Tree) -> None:
    refusals = []
    for node in (tree.sibling.id, tree.docs.id, b"n" * 16):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await tree.guest.get(node)
        refusals.append((caught.value.code(), caught.value.details()))
    assert len(set(refusals)) == 1


async def test_another_space_is_not_there_and_auth_is_not_asked(tree: Tree) -> None:
    async with tree.metadata.caller() as elsewhere:
        file = await elsewhere.create("a.txt")
        asked = tree.metadata.backend.auth.asked
        for call in (
            tree.guest.stub.GetNode(M.GetNodeRequest(space_id=elsewhere.space, node=file.id)),
            tree.guest.stub.ListNodes(M.ListNodesRequest(space_id=elsewhere.space, parent=ROOT)),
        ):
            assert await reason(call) == "NO_SUCH_SPACE"
        assert tree.metadata.backend.auth.asked == asked


async def test_what_is_moved_out_is_gone_and_what_is_moved_in_is_there(tree: Tree) -> None:
    assert await tree.sees(tree.deep.id, tree.b.id, "deep/b.txt", tree.sibling.id) == [True, True, True, False]
    await tree.move(tree.deep, tree.docs.id)
    await tree.move(tree.sibling, tree.linked.id)
    assert await tree.sees(tree.deep.id, tree.b.id, "deep/b.txt", tree.sibling.id) == [False, False, False, True]
    assert await reason(tree.guest.names(tree.deep.id)) == "NO_SUCH_NODE"
    assert await tree.guest.names(tree.linked.id) == ["a.txt", "sibling.txt"]


async def test_a_link_follows_its_node(tree: Tree) -> None:
    await tree.move(tree.linked, tree.other.id)
    found = await tree.guest.get("")
    assert (found.path, found.node.parent, found.node.name) == ("", ROOT, "linked")
    assert (await tree.guest.get(tree.b.id)).path == "deep/b.txt"
    assert await tree.sees(tree.docs.id, tree.other.id) == [False, False]


async def test_a_deleted_node_is_gone(tree: Tree) -> None:
    await tree.delete(tree.b)
    assert await tree.sees(tree.b.id, "deep/b.txt", tree.deep.id) == [False, False, True]
    assert await tree.guest.names(tree.deep.id) == []


@pytest.mark.parametrize("which", ["linked", "docs"])
async def test_a_link_to_what_was_deleted_opens_nothing(tree: Tree, which: str) -> None:
    await tree.delete(getattr(tree, which))
    assert not any(await tree.sees("", tree.linked.id, "a.txt", tree.a.id, tree.b.id))
    for parent in (tree.linked, tree.deep):
        assert await reason(tree.guest.names(parent.id)) == "NO_SUCH_NODE"


async def test_a_link_to_a_file(tree: Tree) -> None:
    async with tree.metadata.link(tree.editor.space, tree.a.id) as guest:
        found = await guest.get("")
        assert (found.node, found.path) == (without_who(tree.a, parent=ROOT), "")
        assert found.node.parent == ROOT
        assert await guest.get(tree.a.id) == found
        for node in (tree.linked.id, tree.deep.id, tree.b.id):
            assert await reason(guest.get(node)) == "NO_SUCH_NODE"
        assert await reason(guest.names(tree.a.id)) == "NO_SUCH_NODE"
        assert await reason(guest.get("a.txt")) == "NO_SUCH_NODE"


async def test_a_link_to_the_root_opens_the_whole_space(tree: Tree) -> None:
    async with tree.metadata.link(tree.editor.space, ROOT) as guest:
        assert await guest.names(ROOT) == ["docs", "other"]
        found = await guest.get("docs/linked/deep/b.txt")
        assert (found.node, found.path) == (without_who(tree.b), "docs/linked/deep/b.txt")
        assert await guest.get(tree.b.id) == found
        assert await reason(guest.get("")) == "NO_SUCH_NODE"  # the root is no node, as for everybody
        assert await reason(guest.get(ROOT)) == "NO_SUCH_NODE"


async def test_a_process_that_knows_nothing_yet_answers_the_same(tree: Tree) -> None:
    await tree.move(tree.deep, tree.docs.id)
    selectors: list[bytes | str]
    selectors = ["", tree.linked.id, "a.txt", tree.a.id, "deep", tree.deep.id, tree.b.id, tree.docs.id, tree.sibling.id]
    here = await tree.sees(*selectors)
    assert here == [True] * 4 + [False] * 5
    for selector, seen in zip(selectors, here, strict=True):
        async with (
            service(backend=tree.metadata.backend) as metadata,
            metadata.opened(tree.guest.scope) as guest,
        ):
            assert await replace(tree, guest=guest).sees(selector) == [seen]
            assert await guest.names(tree.linked.id) == ["a.txt"]


# ---- what else an opened link is refused


async def test_every_other_method_refuses_an_opened_link(tree: Tree) -> None:
    found = await methods_open_to(tree.guest.channel, SERVICE, None)
    assert {name.rpartition("/")[2] for name in found} == {"GetNode", "ListNodes", "MeasureTree"}


async def test_the_methods_refuse_it_by_themselves_as_well(tree: Tree) -> None:
    """The methods are called as if nobody at the door knew what a link is."""
    space, request = tree.editor.space, new_request_id()
    requests: dict[str, Message] = {
        "GetSpace": M.GetSpaceRequest(space_id=space),
        "FindMissingObjects": M.FindMissingObjectsRequest(space_id=space),
        "SealObjects": M.SealObjectsRequest(space_id=space),
        "CommitChanges": M.CommitChangesRequest(space_id=space, request_id=request),
        "RestoreVersion": M.RestoreVersionRequest(space_id=space, request_id=request, node=tree.a.id, version=1),
        "RestoreNode": M.RestoreNodeRequest(space_id=space, request_id=request, node=tree.a.id),
        "ListChanges": M.ListChangesRequest(space_id=space),
        "ListVersions": M.ListVersionsRequest(space_id=space, node=tree.a.id),
        "ListTrash": M.ListTrashRequest(space_id=space),
        "GetVersion": M.GetVersionRequest(space_id=space, node=tree.a.id, version=1),
        "SearchNodes": M.SearchNodesRequest(space_id=space, query="a"),
        "ListActivity": M.ListActivityRequest(space_id=space),
        "GetAnswer": M.GetAnswerRequest(space_id=space, request_id=request),
        "UndoCopy": M.UndoCopyRequest(space_id=space, request_id=request, copy_request_id=request),
    }
    everything = dict.fromkeys((f"{SERVICE.full_name}/{method.name}" for method in SERVICE.methods), READERS)
    backend = tree.metadata.backend
    async with service(backend=backend, operations=everything) as metadata, metadata.opened(tree.guest.scope) as guest:
        for name, message in requests.items():
            assert await reason(getattr(guest.stub, name)(message)) == "PERMISSION_DENIED"
        opening = M.CheckVersionsRequest(open=M.CheckVersionsOpen(space_id=space))
        assert await reason(guest.stub.CheckVersions(iter([opening]))) == "PERMISSION_DENIED"


# ---- how long it is believed


def guest_of(scope: LinkScope) -> Identity:
    return Identity(UserId(""), DeviceId(""), link=scope)


async def test_a_link_that_ended_is_noticed_when_it_is_remembered_no_more() -> None:
    auth, now = FakeAuth(), [0.0]
    access = RoleCache(auth, monotonic=lambda: now[0])
    space = SpaceId(new_text_id())
    scopes = [LinkScope(LinkId(new_text_id()), space, NodeId(ROOT)) for _ in range(2)]
    auth.links.add(scopes[0])
    await access.require(space, guest_of(scopes[0]), Role.VIEWER)
    with pytest.raises(NoSuchSpace):  # an answer about one link is nothing to another
        await access.require(space, guest_of(scopes[1]), Role.VIEWER)
    with pytest.raises(NoSuchSpace):
        await access.require(SpaceId(new_text_id()), guest_of(scopes[0]), Role.VIEWER)
    with pytest.raises(PermissionDenied):
        await access.require(space, guest_of(scopes[0]), Role.EDITOR)
    asked = auth.asked
    auth.links.clear()
    now[0] = REMEMBERED_SECONDS - 0.1
    await access.require(space, guest_of(scopes[0]), Role.VIEWER)
    assert auth.asked == asked
    now[0] = REMEMBERED_SECONDS
    with pytest.raises(NoSuchSpace):
        await access.require(space, guest_of(scopes[0]), Role.VIEWER)


async def test_auth_is_asked_in_the_name_of_the_link(tmp_path) -> None:
    """The real auth, by the very client that metadata uses."""
    async with serving(tmp_path) as auth:

        def seconds() -> float:
            return auth.clock() / 1000

        ann = await auth.sign_up("ann@example.com")
        space = SpaceId(ann.account.personal_space_id)
        create = auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=space, node=ROOT)
        made = await auth.stub.CreateLink(create, metadata=ann.credentials)
        opened = await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=made.token))
        async with aio_channel(
            auth.target, authorization=service_authorization("metadata", SECRET, now=seconds)
        ) as channel:
            client = AuthClient(channel)
            verifier = UserTokenVerifier(client.keys, now=seconds)
            guest, member = [await verifier.verify(t) for t in (opened.access_token, ann.tokens.access_token)]
            assert (await client.right(space, guest)).role is Role.VIEWER
            assert (await client.right(space, member)).role is Role.OWNER
            assert (await client.right(SpaceId(new_text_id()), guest)).role is None
            revoke = auth_pb2.RevokeLinkRequest(request_id=new_request_id(), space_id=space, link_id=made.link.link_id)
            await auth.stub.RevokeLink(revoke, metadata=ann.credentials)
            assert (await client.right(space, guest)).role is None
