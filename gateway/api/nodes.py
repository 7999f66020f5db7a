"""Files and directories: read, create, move, copy, delete, search."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Response
from pydantic import StringConstraints

from gateway.api import conversions, models
from gateway.api.commits import answered, check_etag, commit_one
from gateway.api.idempotency import Named
from gateway.api.identifiers import Node, Space, node_id_of
from gateway.api.paging import LongPage, PageToken, ShortPage
from gateway.identity.caller import Caller, GatewayServices, Signed
from gateway.services.calls import Services, ask, known_node
from gateway.services.changes import accepted
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import NoSuchNode
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.names import normalized_path
from syncline.model.tree import CreateNode, DeleteNode, MoveNode, NodeKind
from syncline.model.tree import Node as CoreNode

router: Final = APIRouter(tags=["nodes"])

MAX_TAG_CHARACTERS: int = 256
IfMatch = Annotated[
    str | None,
    Header(
        max_length=MAX_TAG_CHARACTERS,
        description="The `etag` that the caller has seen; if the node has another one, nothing is changed.",
    ),
]
WholePath = Annotated[str, StringConstraints(max_length=4096)]


@router.get("/spaces/{space}/nodes")
async def find_node(
    space: Space,
    caller: Signed,
    services: GatewayServices,
    response: Response,
    path: Annotated[WholePath, Query(min_length=1, description="From the top of the space, `/` between names.")],
) -> models.Located:
    """Get a node by its path."""
    request = metadata_pb2.GetNodeRequest(space_id=space, path="/".join(normalized_path(path)))
    answer = await ask(services.metadata.GetNode, request, token=caller.token)
    found = known_node(answer.node)
    response.headers["etag"] = conversions.node_etag(found)
    return conversions.located(found, answer.path)


@router.get("/spaces/{space}/nodes/{node}")
async def get_node(
    space: Space, node: Node, caller: Signed, services: GatewayServices, response: Response
) -> models.Located:
    """Get a node by its id."""
    found, path = await read_node(services, caller, space, node_id_of(node))
    response.headers["etag"] = conversions.node_etag(found)
    return conversions.located(found, path)


@router.get("/spaces/{space}/nodes/{node}/children")
async def list_children(
    space: Space,
    node: Node,
    caller: Signed,
    services: GatewayServices,
    page_size: LongPage,
    page_token: PageToken = "",
) -> models.Nodes:
    """List the nodes in a directory, by name."""
    return await children_page(services, caller, space, node_id_of(node), page_size=page_size, page_token=page_token)


@router.get("/spaces/{space}/search")
async def search(
    space: Space,
    caller: Signed,
    services: GatewayServices,
    q: Annotated[str, Query(min_length=1, max_length=255, description="Words that the name must contain.")],
    page_size: ShortPage,
    page_token: PageToken = "",
) -> models.FoundNodes:
    """Search nodes by name. An empty page may be followed by others."""
    request = metadata_pb2.SearchNodesRequest(space_id=space, query=q, page_size=page_size, page_token=page_token)
    answer = await ask(services.metadata.SearchNodes, request, token=caller.token)
    return models.FoundNodes(
        nodes=await conversions.each(
            answer.found, lambda found: conversions.located(known_node(found.node), found.path), token=caller.token
        ),
        next_page_token=answer.next_page_token or None,
    )


@router.post("/spaces/{space}/folders", status_code=201)
async def create_folder(
    space: Space, body: models.NewFolder, name: Named, caller: Signed, services: GatewayServices, response: Response
) -> models.Node:
    """Make a directory."""
    mutation = CreateNode(node_id_of(body.parent), body.name, NodeKind.DIRECTORY)
    made = await commit_one(services, caller, space=space, request=name.id, mutation=mutation)
    return conversions.with_etag(response, made)


@router.patch("/spaces/{space}/nodes/{node}")
async def move_node(
    space: Space,
    node: Node,
    body: models.Move,
    name: Named,
    caller: Signed,
    services: GatewayServices,
    response: Response,
    if_match: IfMatch = None,
) -> models.Node:
    """Move or rename a node, with all that is below it."""
    before = await answered(services, caller, space=space, name=name)
    if before is None:
        found, _ = await read_node(services, caller, space, node_id_of(node))
        check_etag(found, if_match)
        mutation = MoveNode(
            found.id,
            found.parent,
            found.name,
            node_id_of(body.parent) if body.parent is not None else found.parent,
            body.name if body.name is not None else found.name,
        )
        moved = await commit_one(services, caller, space=space, request=name.id, mutation=mutation)
    else:
        moved = accepted(before.results[0])
    return conversions.with_etag(response, moved)


@router.delete("/spaces/{space}/nodes/{node}", status_code=204)
async def delete_node(
    space: Space, node: Node, name: Named, caller: Signed, services: GatewayServices, if_match: IfMatch = None
) -> None:
    """Put a node into the trash, with all that is below it."""
    if await answered(services, caller, space=space, name=name) is not None:
        return
    found, _ = await read_node(services, caller, space, node_id_of(node))
    check_etag(found, if_match)
    mutation = DeleteNode(found.id, found.version)
    await commit_one(services, caller, space=space, request=name.id, mutation=mutation)


async def read_node(services: Services, caller: Caller, space: str, node: NodeId) -> tuple[CoreNode, str]:
    """Return a node that is not in the trash, and its path. Raise NoSuchNode if there is no such node, or if it is the
    root of the space, which the API does not expose as a node.
    """
    if node == ROOT:
        raise NoSuchNode("the top of a space is no node of its own: list its children")
    return await look_at_node(services, caller, space, node)


async def look_at_node(services: Services, caller: Caller, space: str, node: NodeId) -> tuple[CoreNode, str]:
    """Return a node that is not in the trash, and its path, as the caller may see them. The root of the space is
    admitted. Raise NoSuchNode if there is no such node.
    """
    request = metadata_pb2.GetNodeRequest(space_id=space, node=node)
    answer = await ask(services.metadata.GetNode, request, token=caller.token)
    return known_node(answer.node), answer.path


async def children_page(
    services: Services, caller: Caller, space: str, parent: NodeId, *, page_size: int, page_token: str = ""
) -> models.Nodes:
    """Return one page of the children of a directory, by name."""
    request = metadata_pb2.ListNodesRequest(space_id=space, parent=parent, page_size=page_size, page_token=page_token)
    answer = await ask(services.metadata.ListNodes, request, token=caller.token)
    return await conversions.nodes_page(answer, token=caller.token)
