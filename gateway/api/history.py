"""The history of a space: versions, trash, activity."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Response

import syncline.model.tree
from gateway.api import conversions, models
from gateway.api.commits import answered, check_etag
from gateway.api.idempotency import Named, RequestName
from gateway.api.identifiers import Node, Space, node_id_of
from gateway.api.nodes import IfMatch, read_node
from gateway.api.paging import PageToken, ShortPage
from gateway.identity.caller import Caller, GatewayServices, Signed
from gateway.services.calls import Services, ask, known_node
from gateway.services.changes import accepted
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import NoSuchNode
from syncline.model.identifiers import NodeId, derived_request_id
from syncline.model.names import normalized_path

router: Final = APIRouter(tags=["history"])

Number = Annotated[models.Number, Path(description="The version's number.")]


@router.get("/spaces/{space}/nodes/{node}/versions")
async def list_versions(
    space: Space,
    node: Node,
    caller: Signed,
    services: GatewayServices,
    page_size: ShortPage,
    page_token: PageToken = "",
) -> models.Versions:
    """List the versions of a file, newest first; also of a deleted file."""
    request = metadata_pb2.ListVersionsRequest(
        space_id=space, node=node_id_of(node), page_size=page_size, page_token=page_token
    )
    answer = await ask(services.metadata.ListVersions, request, token=caller.token)
    return models.Versions(
        versions=await conversions.each(answer.versions, conversions.version, token=caller.token),
        next_page_token=answer.next_page_token or None,
    )


@router.post("/spaces/{space}/nodes/{node}/versions/{number}/restore")
async def restore_version(
    space: Space,
    node: Node,
    number: Number,
    name: Named,
    caller: Signed,
    services: GatewayServices,
    response: Response,
    if_match: IfMatch = None,
) -> models.Node:
    """Restore an older version's content as a new version. A file in the trash is restored first."""
    before = await answered(services, caller, space=space, name=name)
    if before is None:
        found = await _out_of_the_trash(services, caller, space, node_id_of(node), number, name=name, if_match=if_match)
        answer = await ask(
            services.metadata.RestoreVersion,
            metadata_pb2.RestoreVersionRequest(
                space_id=space, request_id=name.id, node=found.id, version=number, base_version=found.version
            ),
            token=caller.token,
        )
        restored = accepted(answer.result)
    else:
        restored = accepted(before.results[0])
    return conversions.with_etag(response, restored)


async def _out_of_the_trash(
    services: Services,
    caller: Caller,
    space: str,
    node: NodeId,
    number: int,
    *,
    name: RequestName,
    if_match: str | None,
) -> syncline.model.tree.Node:
    """Return the file of which a version is to be restored, after restoring the file itself if it is in the trash.
    Raise NodeChanged if `if_match` does not match the file.
    """
    try:
        found, _ = await read_node(services, caller, space, node)
    except NoSuchNode:
        wanted = metadata_pb2.GetVersionRequest(space_id=space, node=node, version=number)
        found = known_node((await ask(services.metadata.GetVersion, wanted, token=caller.token)).node)
        check_etag(found, if_match)
        request = metadata_pb2.RestoreNodeRequest(
            space_id=space, request_id=derived_request_id(name.id, 0), node=node, make_way=True
        )
        return accepted((await ask(services.metadata.RestoreNode, request, token=caller.token)).result)
    check_etag(found, if_match)
    return found


_AT: Final = (
    "Only what was at this path, also if it went with a directory above it. A page may then be empty and not the last."
)


@router.get("/spaces/{space}/trash")
async def list_trash(
    space: Space,
    caller: Signed,
    services: GatewayServices,
    page_size: ShortPage,
    path: Annotated[models.Path, Query(description=_AT)] = "",
    page_token: PageToken = "",
) -> models.FoundNodes:
    """List the nodes that were deleted and can be restored, with their former paths."""
    request = metadata_pb2.ListTrashRequest(
        space_id=space, path="/".join(normalized_path(path)), page_size=page_size, page_token=page_token
    )
    answer = await ask(services.metadata.ListTrash, request, token=caller.token)
    # A metadata service of the preceding release sends no paths.
    places = answer.paths or [node.name for node in answer.nodes]
    return models.FoundNodes(
        nodes=await conversions.each(
            list(zip(answer.nodes, places, strict=True)),
            lambda found: conversions.located(known_node(found[0]), found[1]),
            token=caller.token,
        ),
        next_page_token=answer.next_page_token or None,
    )


@router.post("/spaces/{space}/trash/{node}/restore")
async def restore_node(
    space: Space,
    node: Node,
    body: models.Restore,
    name: Named,
    caller: Signed,
    services: GatewayServices,
    response: Response,
) -> models.Located:
    """Restore a deleted node, with everything that was below it. The answer has its present path."""
    answer = await ask(
        services.metadata.RestoreNode,
        metadata_pb2.RestoreNodeRequest(
            space_id=space,
            request_id=name.id,
            node=node_id_of(node),
            parent=node_id_of(body.parent) if body.parent is not None else b"",
            name=body.name or "",
            path="/".join(normalized_path(body.path)) if body.path is not None else None,
            make_way=True,
        ),
        token=caller.token,
    )
    restored = accepted(answer.result)
    response.headers["etag"] = conversions.node_etag(restored)
    return conversions.located(restored, answer.path)


@router.get("/spaces/{space}/activity")
async def list_activity(
    space: Space, caller: Signed, services: GatewayServices, page_size: ShortPage, page_token: PageToken = ""
) -> models.Activities:
    """List the activity in a space, newest first."""
    request = metadata_pb2.ListActivityRequest(space_id=space, page_size=page_size, page_token=page_token)
    answer = await ask(services.metadata.ListActivity, request, token=caller.token)
    return models.Activities(
        activities=await conversions.each(answer.activities, conversions.activity, token=caller.token),
        next_page_token=answer.next_page_token or None,
    )
