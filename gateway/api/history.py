"""What was: versions, trash, activity."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Response

from gateway.api import models, shapes
from gateway.api.caller import Behind, Signed
from gateway.api.commits import answered, check_etag
from gateway.api.idempotency import Named
from gateway.api.identifiers import Node, Space, node_of
from gateway.api.nodes import IfMatch, PageSize, PageToken, read
from gateway.changes import accepted
from gateway.services import ask
from syncline.metadata.v1 import metadata_pb2

router: Final = APIRouter(tags=["history"])

Number = Annotated[models.Number, Path(description="The version's number.")]


@router.get("/spaces/{space}/nodes/{node}/versions")
async def list_versions(
    space: Space, node: Node, caller: Signed, services: Behind, page_size: PageSize = 100, page_token: PageToken = ""
) -> models.Versions:
    """The versions of a file, newest first; also of a deleted file."""
    request = metadata_pb2.ListVersionsRequest(
        space_id=space, node=node_of(node), page_size=page_size, page_token=page_token
    )
    answer = await ask(services.metadata.ListVersions, request, token=caller.token)
    return models.Versions(
        versions=[shapes.version(version) for version in answer.versions],
        next_page_token=answer.next_page_token or None,
    )


@router.post("/spaces/{space}/nodes/{node}/versions/{number}/restore")
async def restore_version(
    space: Space,
    node: Node,
    number: Number,
    name: Named,
    caller: Signed,
    services: Behind,
    response: Response,
    if_match: IfMatch = None,
) -> models.Node:
    """Bring an older version's content back, as a new version."""
    before = await answered(services, caller, space=space, name=name)
    if before is None:
        found, _ = await read(services, caller, space, node_of(node))
        check_etag(found, if_match)
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
    return shapes.with_etag(response, restored)


@router.get("/spaces/{space}/trash")
async def list_trash(
    space: Space, caller: Signed, services: Behind, page_size: PageSize = 100, page_token: PageToken = ""
) -> models.Nodes:
    """What was deleted and can be restored."""
    request = metadata_pb2.ListTrashRequest(space_id=space, page_size=page_size, page_token=page_token)
    answer = await ask(services.metadata.ListTrash, request, token=caller.token)
    return shapes.page(answer)


@router.post("/spaces/{space}/trash/{node}/restore")
async def restore_node(
    space: Space,
    node: Node,
    body: models.Restore,
    name: Named,
    caller: Signed,
    services: Behind,
    response: Response,
) -> models.Node:
    """Bring a deleted node back, with all that was below it."""
    answer = await ask(
        services.metadata.RestoreNode,
        metadata_pb2.RestoreNodeRequest(
            space_id=space,
            request_id=name.id,
            node=node_of(node),
            parent=node_of(body.parent) if body.parent is not None else b"",
            name=body.name or "",
        ),
        token=caller.token,
    )
    restored = accepted(answer.result)
    return shapes.with_etag(response, restored)


@router.get("/spaces/{space}/activity")
async def list_activity(
    space: Space, caller: Signed, services: Behind, page_size: PageSize = 100, page_token: PageToken = ""
) -> models.Activities:
    """What happened in a space, newest first."""
    request = metadata_pb2.ListActivityRequest(space_id=space, page_size=page_size, page_token=page_token)
    answer = await ask(services.metadata.ListActivity, request, token=caller.token)
    return models.Activities(
        activities=[shapes.activity(one) for one in answer.activities],
        next_page_token=answer.next_page_token or None,
    )
