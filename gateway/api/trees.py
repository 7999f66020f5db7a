"""Whole trees: as a ZIP file, and copied."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from core.errors import NoSuchNode
from core.identifiers import ROOT, NodeId, RequestId, SpaceId, created_node_id
from core.names import normalize
from core.tree import MAX_MUTATIONS, CreateNode, DeleteNode, NodeKind, Verdict
from core.tree import Node as CoreNode
from gateway.api import models, shapes
from gateway.api.caller import Behind, Caller, Signed
from gateway.api.commits import accepted, commit, commit_one, refused
from gateway.api.idempotency import Named, derived
from gateway.api.identifiers import Node, NodeText, Space, node_of
from gateway.api.nodes import children, look, read
from gateway.archive import Archives, walk
from gateway.download import Streamed
from gateway.files import attachment
from gateway.services import Services, ask, known_node
from syncline.metadata.v1 import metadata_pb2
from wire.tree import mutation_to_wire

router: Final = APIRouter(tags=["nodes"])

_BATCH_BYTES: Final = 200_000
ZIP: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The archive. If something goes wrong on the way the connection breaks off.",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get("/spaces/{space}/nodes/{node}/archive", response_class=Response, responses=ZIP)
async def node_archive(request: Request, space: Space, node: Node, caller: Signed, services: Behind) -> Response:
    """A directory with all that is in it, as a ZIP file; `root` is the whole space."""
    tops, name = await below(services, caller, space, node_of(node))
    return await answer(request, space, tops, services, caller, name=name)


@router.get("/spaces/{space}/archive", response_class=Response, responses=ZIP)
async def archive(
    request: Request,
    space: Space,
    caller: Signed,
    services: Behind,
    node: Annotated[list[NodeText], Query(min_length=1, max_length=100, description="What to put into it.")],
) -> Response:
    """Several files and directories as one ZIP file."""
    found = [(await read(services, caller, space, node_of(one)))[0] for one in dict.fromkeys(node)]
    return await answer(request, space, _these(found), services, caller, name="files")


@router.post("/spaces/{space}/nodes/{node}/copy", status_code=201)
async def copy_node(
    space: Space,
    node: Node,
    body: models.Copy,
    name: Named,
    caller: Signed,
    services: Behind,
    response: Response,
) -> models.Node:
    """Copy a node with all that is below it. No content is moved: the copies name what is stored already."""
    source, path = await read(services, caller, space, node_of(node))
    parent = node_of(body.parent)
    if parent != ROOT and source.kind is NodeKind.DIRECTORY:
        _, target = await read(services, caller, space, parent)
        if f"{target}/".startswith(f"{path}/"):
            raise refused(Verdict.CYCLE)
    first = CreateNode(parent, normalize(body.name), source.kind, source.content)
    made = await commit_one(services, caller, space=space, request=name.id, mutation=first)
    try:
        await _copy_below(services, caller, SpaceId(space), name.id, source, made)
    except Exception:
        # A part of a copy is no copy. What was made of it is in the trash.
        undo = DeleteNode(made.id, made.version)
        await commit_one(services, caller, space=space, request=derived(name.id, 2**32 - 1), mutation=undo)
        raise
    return shapes.with_etag(response, made)


async def _copy_below(
    services: Services, caller: Caller, space: SpaceId, request: RequestId, source: CoreNode, made: CoreNode
) -> None:
    """Copy what is below `source` to below `made`: level by level, so that parents are there before their children."""
    level = [(source, made.id)] if source.kind is NodeKind.DIRECTORY else []
    batch, number = _Batch(space, derived(request, 0)), 0

    async def send() -> None:
        nonlocal batch, number
        if batch.mutations:
            answer = await commit(services, caller, space=space, request=batch.request, mutations=batch.mutations)
            for result in answer.results:
                accepted(result)
        number += 1
        batch = _Batch(space, derived(request, number))

    while level:
        below: list[tuple[CoreNode, NodeId]] = []
        for directory, copied in level:
            async for child in children_of(services, caller, space, directory.id):
                if batch.full:
                    await send()
                copy = batch.add(CreateNode(copied, child.name, child.kind, child.content))
                if child.kind is NodeKind.DIRECTORY:
                    below.append((child, copy))
        await send()
        level = below


class _Batch:
    """Mutations of one request, and the ids of what they make."""

    def __init__(self, space: SpaceId, request: RequestId) -> None:
        self.request = request
        self.mutations: list[CreateNode] = []
        self._space = space
        self._bytes = 0

    @property
    def full(self) -> bool:
        return len(self.mutations) >= MAX_MUTATIONS or self._bytes >= _BATCH_BYTES

    def add(self, mutation: CreateNode) -> NodeId:
        self.mutations.append(mutation)
        self._bytes += mutation_to_wire(mutation).ByteSize()
        return created_node_id(self._space, self.request, len(self.mutations) - 1)


async def answer(
    request: Request, space: str, tops: AsyncIterator[CoreNode], services: Services, caller: Caller, *, name: str
) -> Response:
    """An archive of these nodes as a response."""
    archives: Archives = request.app.state.archives
    entries = walk(tops, lambda directory: children_of(services, caller, space, directory.id))
    chunks = archives.stream(SpaceId(space), entries)
    first = await anext(chunks)  # what fails at once still has a status to say so
    return Streamed(first, chunks, status_code=200, headers=attachment(f"{name}.zip", "application/zip"))


async def below(services: Services, caller: Caller, space: str, node: NodeId) -> tuple[AsyncIterator[CoreNode], str]:
    """What an archive of a node begins with, and its name; NoSuchSpace or NoSuchNode before anything is sent."""
    if node == ROOT:
        await children(services, caller, space, ROOT, page_size=1)
        return children_of(services, caller, space, ROOT), "space"
    found, _ = await look(services, caller, space, node)
    return _these([found]), found.name


async def _these(nodes: Sequence[CoreNode]) -> AsyncGenerator[CoreNode, None]:
    for node in nodes:
        yield node


async def children_of(
    services: Services, caller: Caller, space: str, directory: NodeId
) -> AsyncGenerator[CoreNode, None]:
    """The live children of a directory; none if it is gone meanwhile."""
    page_token = ""
    while True:
        asked = metadata_pb2.ListNodesRequest(space_id=space, parent=directory, page_token=page_token)
        try:
            page = await ask(services.metadata.ListNodes, asked, token=await caller.fresh())
        except NoSuchNode:
            return
        for child in page.nodes:
            yield known_node(child)
        page_token = page.next_page_token
        if not page_token:
            return
