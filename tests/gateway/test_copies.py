"""Copies of directories end with their caller, are bounded in number and time, and are undone as a whole."""

# ruff: noqa: N802 # grpc names the methods

import asyncio
import http.client
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import structlog
from typing_extensions import override

from gateway.services.copies import COPIES_AT_ONCE, UNDO_SECONDS, Copies, CopyTooLong, copy_tree
from gateway.services.trees import LISTED_AT_ONCE
from runtime.identity import Identity
from runtime.pool import Pool, Share
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.blocks import Digest
from syncline.model.errors import (
    DeviceRevoked,
    InvalidArgument,
    NoSuchNode,
    NoSuchRequest,
    NoSuchSpace,
    PermissionDenied,
    RateExceeded,
    SynclineError,
    Unavailable,
)
from syncline.model.identifiers import (
    ROOT,
    DeviceId,
    NodeId,
    RequestId,
    UserId,
    created_node_id,
    derived_request_id,
    new_request_id,
)
from syncline.model.tree import Content, CreateNode, Node, NodeKind
from syncline.wire.tree import node_to_wire
from tests.gateway.fakes import SPACE, TOKEN, Answer, FakeAuth, FakeMetadata, World, gateway
from tests.support.tokens import unproven_token

COPY = {"parent": "root", "name": "copy"}


class OneSpace(FakeAuth):
    """Everybody owns one space."""

    @override
    def _check(self, context: Any) -> None:
        pass

    @override
    async def ListSpaces(self, request: Any, _context: Any) -> Any:
        space = auth_pb2.Space(space_id=SPACE, name="Project", alias="Project", role=auth_pb2.ROLE_OWNER)
        return auth_pb2.ListSpacesResponse(spaces=[space])

    async def CheckAccess(self, _request: Any, _context: Any) -> Any:
        return auth_pb2.CheckAccessResponse(role=auth_pb2.ROLE_OWNER)


class Tree(FakeMetadata):
    """A space with directories. Its listings wait until `open` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.tree: dict[NodeId, Node] = {}
        self.deleted: set[NodeId] = set()
        self.made: set[NodeId] = set()
        """The nodes that commits have made."""
        self.answers: dict[bytes, Any] = {}
        """The answers of commits by the ids of their requests."""
        self.open = asyncio.Event()
        self.listing = self.most_listing = self.listed = 0
        """The listings under way, the most at the same time, and all."""
        self.fails = 0
        """The number of further deletions that are refused since the service is unavailable."""
        self.allowed = 1_000_000
        """The number of further commits until the caller loses the right to write."""
        self.lost: SynclineError = PermissionDenied()
        """The error with which commits are refused after that."""
        self.undone: list[RequestId] = []
        """The copies that were undone."""
        self.lost_answers = 0
        """The number of further commits that take effect and whose answers are lost."""
        self.lost_requests = 0
        """The number of further commits that are lost before they take effect."""
        self.undos = 0
        """The number of calls of UndoCopy."""
        self.knows_undo = True
        """False for a metadata service without UndoCopy."""
        self.refuses_moves = False
        self.refuses_listings = False
        self.replaced: dict[RequestId, NodeId] = {}
        """The nodes that commits have deleted, by request."""

    def directory(self, name: str, parent: NodeId = ROOT) -> NodeId:
        node = NodeId(new_request_id())
        self.tree[node] = Node(node, parent, name, NodeKind.DIRECTORY)
        return node

    def names(self, parent: NodeId = ROOT) -> list[str]:
        return sorted(child.name for child in self.children(parent))

    def children(self, parent: NodeId) -> list[Node]:
        return [one for one in self.tree.values() if one.parent == parent and one.id not in self.deleted]

    async def verify(self, token: str) -> Identity:
        return Identity(UserId("u" * 26), DeviceId("d" * 26), token=token)

    async def GetNode(self, request: Any, _context: Any) -> Any:
        for node in self.tree.values():
            if node.id not in self.deleted and (node.id == request.node or node.name == request.path):
                return metadata_pb2.GetNodeResponse(node=node_to_wire(node), path=node.name)
        raise NoSuchNode

    async def ListNodes(self, request: Any, _context: Any) -> Any:
        self.listed += 1
        if self.refuses_listings:
            raise InvalidArgument
        self.listing += 1
        self.most_listing = max(self.most_listing, self.listing)
        try:
            await self.open.wait()
        finally:
            self.listing -= 1
        found = self.children(NodeId(request.parent))
        return metadata_pb2.ListNodesResponse(nodes=[node_to_wire(child) for child in found])

    async def GetAnswer(self, request: Any, _context: Any) -> Any:
        if request.request_id not in self.answers:
            raise NoSuchRequest
        return metadata_pb2.GetAnswerResponse()

    async def CommitChanges(self, request: Any, _context: Any) -> Any:
        if self.lost_requests:
            self.lost_requests -= 1
            raise Unavailable
        if self.allowed == 0:
            raise self.lost
        if request.request_id not in self.answers:
            self.allowed -= 1
            if self.refuses_moves and any(one.HasField("move") for one in request.mutations):
                assert request.all_or_nothing or len(request.mutations) == 1
                refusal = journal_pb2.MutationResult(verdict=journal_pb2.VERDICT_PATH_TOO_LONG)
                return metadata_pb2.CommitChangesResponse(results=[refusal] * len(request.mutations))
            results = [self._apply(request, index) for index in range(len(request.mutations))]
            self.answers[request.request_id] = metadata_pb2.CommitChangesResponse(results=results)
        if self.lost_answers:
            self.lost_answers -= 1
            raise Unavailable
        return self.answers[request.request_id]

    async def UndoCopy(self, request: Any, context: Any) -> Any:
        """Move the nodes that the requests of the copy have made to the trash, as metadata does."""
        self.undos += 1
        if not self.knows_undo:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        if self.fails:
            self.fails -= 1
            raise Unavailable
        copy = RequestId(request.copy_request_id)
        if copy not in self.answers:
            raise NoSuchRequest
        made = {created_node_id(SPACE, copy, index) for index in range(2)} & self.tree.keys()
        number = 0
        while (below := derived_request_id(copy, number)) in self.answers:
            made |= {created_node_id(SPACE, below, index) for index in range(len(self.answers[below].results))}
            number += 1
        assert made == self.made, "all that was made is of the copy"
        self.deleted |= made
        self.deleted.discard(self.replaced.pop(copy, NodeId(b"")))
        self.undone.append(copy)
        self.answers[request.request_id] = metadata_pb2.CommitChangesResponse()
        return metadata_pb2.UndoCopyResponse()

    def _apply(self, request: Any, index: int) -> Any:
        mutation = request.mutations[index]
        if mutation.HasField("delete"):
            if self.fails:
                self.fails -= 1
                raise Unavailable
            node = self.tree[NodeId(mutation.delete.node)]
            self.deleted.add(node.id)
            self.replaced[RequestId(request.request_id)] = node.id
        else:
            made = created_node_id(SPACE, RequestId(request.request_id), index)
            node = Node(made, NodeId(mutation.create.parent), mutation.create.name, NodeKind.DIRECTORY)
            self.tree[made] = node
            self.made.add(made)
        return journal_pb2.MutationResult(verdict=journal_pb2.VERDICT_ACCEPTED, node=node_to_wire(node))


TREE: type[Any] = Tree
ONE_SPACE: type[Any] = OneSpace
"""For mypy they are abstract, since they have only the methods that are called."""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


class Asking:
    """Requests to copy a directory, by the API or by WebDAV."""

    def __init__(self, world: World, source: NodeId, *, dav: bool) -> None:
        self._address = world.address
        self._source = source
        self._dav = dav

    def send(self, *, token: str = TOKEN, name: str = "copy", key: str = "") -> http.client.HTTPConnection:
        """Send a request, and return its connection, which has no answer yet."""
        headers = {"authorization": f"Bearer {token}"}
        connection = http.client.HTTPConnection(self._address, timeout=60)
        if self._dav:
            headers |= {"destination": f"/dav/Project/{name}"}
            connection.request("COPY", "/dav/Project/source", headers=headers)
        else:
            headers |= {"content-type": "application/json"} | ({"idempotency-key": key} if key else {})
            path = f"/v1/spaces/{SPACE}/nodes/{self._source.hex()}/copy"
            connection.request("POST", path, json.dumps(COPY | {"name": name}), headers)
        return connection

    async def answer(self, connection: http.client.HTTPConnection) -> Answer:
        response = await asyncio.to_thread(connection.getresponse)
        body = response.read()
        connection.close()
        return Answer(response.status, response.headers, body)


def made(width: int = 1) -> tuple[Any, NodeId]:
    """A tree with a directory `source`."""
    tree = TREE()
    source = tree.directory("source")
    for index in range(width):
        tree.directory(f"{index:03}", source)
    return tree, source


DAV = pytest.mark.parametrize("dav", [False, True], ids=["api", "webdav"])


@DAV
async def test_a_copy_ends_with_its_caller_and_is_undone(dav: bool) -> None:
    tree, source = made()
    tree.fails = 1
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        asking = Asking(world, source, dav=dav)
        connection = await asyncio.to_thread(asking.send)
        await until(lambda: tree.listing == 1)
        assert tree.names() == ["copy", "source"]
        connection.close()
        await until(lambda: tree.names() == ["source"])
        await until(lambda: tree.listing == 0)
        tree.open.set()
        answer = await asking.answer(await asyncio.to_thread(asking.send))
        assert answer.status == 201, answer.body
        assert tree.names() == ["copy", "source"]


DEEP = 3
"""The levels of a tree; each is one commit of its copy."""


@DAV
@pytest.mark.parametrize("lost", [PermissionDenied(), NoSuchSpace(), DeviceRevoked()], ids=lambda lost: lost.reason)
@pytest.mark.parametrize("commits", range(1, DEEP + 2))
async def test_a_copy_whose_caller_loses_the_right_to_write_at_any_of_its_writes_is_undone(
    dav: bool, lost: SynclineError, commits: int
) -> None:
    tree, parent = made(width=0)
    for level in range(DEEP):
        parent = tree.directory(f"level {level}", parent)
    tree.open.set()
    tree.allowed, tree.lost, tree.fails = commits, lost, 1
    (source,) = [node.id for node in tree.children(ROOT)]
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        asking = Asking(world, source, dav=dav)
        answer = await asking.answer(await asyncio.to_thread(asking.send))
        complete = commits > DEEP
        assert (answer.status == 201) is complete, answer.body
        assert tree.names() == (["copy", "source"] if complete else ["source"])
        assert len(tree.undone) == (not complete)
        assert len(tree.made) == min(commits, DEEP + 1)


@pytest.mark.parametrize("commits", range(1, DEEP + 1))
async def test_what_a_copy_by_webdav_has_replaced_is_back_when_its_caller_loses_the_right(commits: int) -> None:
    tree, parent = made(width=0)
    for level in range(DEEP):
        parent = tree.directory(f"level {level}", parent)
    replaced = tree.directory("copy")
    tree.open.set()
    tree.allowed = commits
    (source,) = [node.id for node in tree.children(ROOT) if node.name == "source"]
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        asking = Asking(world, source, dav=True)
        answer = await asking.answer(await asyncio.to_thread(asking.send))
        assert answer.status == 403, answer.body
        assert {node.id for node in tree.children(ROOT)} == {source, replaced}
        assert len(tree.undone) == 1


async def test_what_a_copy_by_webdav_has_replaced_is_back_after_an_error_though_its_caller_may_commit_no_more() -> None:
    tree, source = made()
    replaced = tree.directory("copy")
    tree.refuses_listings, tree.allowed = True, 1
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        asking = Asking(world, source, dav=True)
        answer = await asking.answer(await asyncio.to_thread(asking.send))
        assert answer.status == 400, answer.body
        assert {node.id for node in tree.children(ROOT)} == {source, replaced}
        assert len(tree.undone) == 1


BEGUN = pytest.mark.parametrize(
    ("dav", "over"), [(False, False), (True, False), (True, True)], ids=["api", "webdav", "webdav over a node"]
)
"""Copies by the API, to a name that is free, and by WebDAV, to a free name and in the place of a node."""


@BEGUN
async def test_a_copy_whose_first_answer_is_lost_is_undone(dav: bool, over: bool) -> None:
    tree, source = made()
    tree.open.set()
    replaced = {tree.directory("copy")} if over else set()
    # A call is repeated a few times by itself.
    tree.lost_answers = 6
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        asking = Asking(world, source, dav=dav)
        answer = await asking.answer(await asyncio.to_thread(asking.send))
        assert answer.status == 503, answer.body
        assert len(tree.made) == 1
        assert {node.id for node in tree.children(ROOT)} == {source} | replaced


@BEGUN
@pytest.mark.parametrize("lost", [PermissionDenied(), RateExceeded()], ids=lambda lost: lost.reason)
async def test_a_copy_whose_first_answer_is_lost_is_undone_though_the_repetition_is_refused(
    dav: bool, over: bool, lost: SynclineError
) -> None:
    tree, source = made()
    tree.open.set()
    replaced = {tree.directory("copy")} if over else set()
    tree.lost_answers, tree.allowed, tree.lost = 1, 1, lost
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        asking = Asking(world, source, dav=dav)
        answer = await asking.answer(await asyncio.to_thread(asking.send))
        assert answer.status in {403, 429}, answer.body
        assert len(tree.made) == 1
        assert {node.id for node in tree.children(ROOT)} == {source} | replaced


@DAV
async def test_the_refusal_of_the_only_attempt_to_begin_a_copy_asks_for_no_undo(dav: bool) -> None:
    tree, source = made()
    tree.allowed = 0
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        asking = Asking(world, source, dav=dav)
        answer = await asking.answer(await asyncio.to_thread(asking.send))
        assert answer.status == 403, answer.body
        assert tree.undos == 0


@BEGUN
async def test_a_copy_whose_first_commit_never_arrives_changes_nothing(dav: bool, over: bool) -> None:
    tree, source = made()
    tree.open.set()
    replaced = {tree.directory("copy")} if over else set()
    # A call has four attempts.
    tree.lost_requests = 4
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        asking = Asking(world, source, dav=dav)
        answer = await asking.answer(await asyncio.to_thread(asking.send))
        assert answer.status == 503, answer.body
        assert tree.made == set()
        assert {node.id for node in tree.children(ROOT)} == {source} | replaced
        assert tree.undos > 0


async def test_an_undo_that_metadata_does_not_know_leaves_the_error_that_ended_the_copy() -> None:
    """A metadata service of the preceding release has no `UndoCopy`."""
    tree, source = made()
    tree.refuses_listings, tree.knows_undo = True, False
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        with structlog.testing.capture_logs() as events:
            asking = Asking(world, source, dav=False)
            answer = await asking.answer(await asyncio.to_thread(asking.send))
        assert answer.status == 400, answer.body
        assert [one["reason"] for one in events if one["event"] == "copy not undone"] == ["UNIMPLEMENTED"]


async def test_a_move_by_webdav_that_is_refused_leaves_what_it_would_replace() -> None:
    tree, source = made()
    tree.open.set()
    other = tree.directory("other")
    tree.tree[other] = replace(tree.tree[other], kind=NodeKind.FILE, version=1, content=Content(Digest(bytes(32)), 0))
    tree.refuses_moves = True
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        headers = {"authorization": f"Bearer {TOKEN}", "destination": "/dav/Project/other"}
        connection = http.client.HTTPConnection(world.address, timeout=60)
        await asyncio.to_thread(connection.request, "MOVE", "/dav/Project/source", headers=headers)
        answer = await Asking(world, source, dav=True).answer(connection)
        assert answer.status == 400, answer.body
        assert b"PATH_TOO_LONG" in answer.body
        assert {node.id for node in tree.children(ROOT)} == {source, other}


async def test_a_copy_that_was_undone_without_the_right_is_made_anew_once_the_right_is_back() -> None:
    tree, source = made()
    tree.open.set()
    tree.allowed = 1
    async with gateway(World(metadata=tree)) as world:
        asking = Asking(world, source, dav=False)
        refused = await asking.answer(await asyncio.to_thread(asking.send, key="once"))
        assert refused.status == 403
        assert tree.names() == ["source"]
        tree.allowed = 10
        first, again = [await asking.answer(await asyncio.to_thread(asking.send, key="once")) for _ in range(2)]
        assert first.status == again.status == 201
        assert tree.names() == ["copy", "source"]


@DAV
async def test_a_copy_that_outlasts_its_token_is_undone_while_the_token_holds(dav: bool) -> None:
    tree, source = made()
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        asking = Asking(world, source, dav=dav)
        short = unproven_token(sub="u" * 26, dev="d" * 26, exp=int(time.time() + UNDO_SECONDS + 3))
        answer = await asking.answer(await asyncio.to_thread(asking.send, token=short))
        assert answer.status == 401
        assert b"TOKEN_EXPIRED" in answer.body
        assert tree.names() == ["source"]
        assert len(tree.tree) == 3  # something had been made


@DAV
async def test_one_caller_has_half_of_the_copies_and_is_refused_further_ones_at_once(dav: bool) -> None:
    tree, source = made()
    async with gateway(World(metadata=tree, auth=ONE_SPACE())) as world:
        asking = Asking(world, source, dav=dav)
        most = COPIES_AT_ONCE // 2
        sent = [await asyncio.to_thread(asking.send, name=f"copy{number}") for number in range(most)]
        await until(lambda: tree.listing == most)
        answer = await asking.answer(await asyncio.to_thread(asking.send, name="another"))
        assert answer.status == 429
        assert b"TOO_MUCH_AT_ONCE" in answer.body
        assert "another" not in tree.names()
        tree.open.set()
        assert {(await asking.answer(one)).status for one in sent} == {201}


async def test_a_copy_that_was_undone_is_made_anew_when_its_request_is_repeated() -> None:
    tree, source = made()
    async with gateway(World(metadata=tree)) as world:
        asking = Asking(world, source, dav=False)
        connection = await asyncio.to_thread(asking.send, key="once")
        await until(lambda: tree.listing == 1)
        connection.close()
        await until(lambda: tree.names() == ["source"])
        tree.open.set()
        first, again = [await asking.answer(await asyncio.to_thread(asking.send, key="once")) for _ in range(2)]
        assert first.status == again.status == 201
        assert json.loads(first.body)["id"] == json.loads(again.body)["id"]
        assert tree.names(NodeId(bytes.fromhex(json.loads(first.body)["id"]))) == ["000"]


async def test_the_directories_of_a_tree_are_listed_several_at_a_time() -> None:
    tree, source = made(width=3 * LISTED_AT_ONCE)
    async with gateway(World(metadata=tree)) as world:
        asking = Asking(world, source, dav=False)
        connection = await asyncio.to_thread(asking.send)
        await until(lambda: tree.listing == 1)  # the source itself
        tree.open.set()
        tree.open.clear()
        await until(lambda: tree.listing == LISTED_AT_ONCE)
        tree.open.set()
        assert (await asking.answer(connection)).status == 201
        (copy,) = [node.id for node in tree.children(ROOT) if node.name == "copy"]
        assert tree.names(copy) == tree.names(source)
        assert tree.listed == 1 + 3 * LISTED_AT_ONCE


async def test_a_copy_lasts_no_longer_than_its_bound() -> None:
    tree, source = made()
    pool, stopped = Pool("copies", 4), asyncio.Event()

    async def call(answer: Callable[..., Any], request: Any, **_: Any) -> Any:
        return await answer(request, None)

    async def token() -> str:
        return TOKEN

    async def receive() -> dict[str, Any]:
        await stopped.wait()
        return {"type": "http.disconnect"}

    methods = {name: partial(call, getattr(tree, name)) for name in ("ListNodes", "CommitChanges", "UndoCopy")}
    services: Any = SimpleNamespace(metadata=SimpleNamespace(**methods))
    to = CreateNode(ROOT, "copy", NodeKind.DIRECTORY)
    with pytest.raises(CopyTooLong):
        async with Copies(pool, seconds=0.1).running(Share("ann", "network"), token, receive) as copy:
            await copy_tree(services, copy, space=SPACE, request=new_request_id(), source=tree.tree[source], to=to)
    assert tree.names() == ["source"]
    assert tree.listing == pool.taken() == 0
