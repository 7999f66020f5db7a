"""Contents of files, by path and by id, in present and earlier versions."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote

from fastapi import APIRouter, Path, Query, Request, Response

from gateway.api.history import Number
from gateway.api.identifiers import Node, Space, node_id_of
from gateway.content.assemble import Contents
from gateway.content.download import content_of, download
from gateway.http import paths  # noqa: F401 # registers `any_path`
from gateway.identity.caller import Caller, GatewayServices, Signed
from gateway.identity.rights import right_check
from gateway.identity.shares import share_of
from gateway.services.calls import Services, ask, known_node
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import SpaceId
from syncline.model.names import normalized_path
from syncline.model.tree import Content
from syncline.wire.tree import content_from_wire

router: Final = APIRouter(tags=["contents"])

_BINARY: Final = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The content.", **_BINARY},
    206: {"description": "The part that `Range` names.", **_BINARY},
    304: {"description": "The caller has it already: `If-None-Match` names it."},
    416: {"description": "The range begins after the end.", "content": {"application/problem+json": {}}},
}
Disposition = Annotated[
    Literal["attachment", "inline"],
    Query(
        description="`inline` displays the file in the browser. Types that could execute scripts there are saved all "
        "the "
        "same."
    ),
]


@router.api_route(
    "/spaces/{space}/content/{path:any_path}", methods=["GET", "HEAD"], response_class=Response, responses=RESPONSES
)
async def content(
    request: Request,
    space: Space,
    caller: Signed,
    services: GatewayServices,
    path: Annotated[str, Path(description="From the top of the space, `/` between names.")],
    disposition: Disposition = "attachment",
) -> Response:
    """Download a file's content, by its path."""
    asked = metadata_pb2.GetNodeRequest(space_id=space, path=_path(request, path))
    return await _current(request, space, asked, caller, services, disposition)


@router.api_route(
    "/spaces/{space}/nodes/{node}/content", methods=["GET", "HEAD"], response_class=Response, responses=RESPONSES
)
async def node_content(
    request: Request,
    space: Space,
    node: Node,
    caller: Signed,
    services: GatewayServices,
    disposition: Disposition = "attachment",
) -> Response:
    """Download a file's content, by its id."""
    asked = metadata_pb2.GetNodeRequest(space_id=space, node=node_id_of(node))
    return await _current(request, space, asked, caller, services, disposition)


@router.api_route(
    "/spaces/{space}/nodes/{node}/versions/{number}/content",
    methods=["GET", "HEAD"],
    response_class=Response,
    responses=RESPONSES,
)
async def version_content(
    request: Request,
    space: Space,
    node: Node,
    number: Number,
    caller: Signed,
    services: GatewayServices,
    disposition: Disposition = "attachment",
) -> Response:
    """Download the content of a file's version."""
    asked = metadata_pb2.GetVersionRequest(space_id=space, node=node_id_of(node), version=number)
    answer = await ask(services.metadata.GetVersion, asked, token=caller.token)
    found = content_from_wire(answer.version.content)
    return await _answer(request, space, answer.node.name, found, caller, services, disposition)


async def _current(
    request: Request,
    space: str,
    asked: metadata_pb2.GetNodeRequest,
    caller: Caller,
    services: Services,
    disposition: str,
) -> Response:
    answer = await ask(services.metadata.GetNode, asked, token=caller.token)
    node = known_node(answer.node)
    return await _answer(request, space, node.name, content_of(node), caller, services, disposition)


async def _answer(
    request: Request,
    space: str,
    name: str,
    content: Content,
    caller: Caller,
    services: Services,
    disposition: str,
) -> Response:
    contents: Contents = request.app.state.contents
    share = share_of(request, caller.token)
    return await download(
        request,
        SpaceId(space),
        name,
        content,
        contents,
        share=share,
        check_right=right_check(services, caller.fresh, space),
        inline=disposition == "inline",
    )


def _path(request: Request, path: str) -> str:
    """Return the path in normal form; some systems send decomposed names. Raise InvalidArgument if it breaks a rule."""
    try:  # the server replaces bytes that are not UTF-8, which would address another file
        unquote(request.scope["raw_path"].decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        raise InvalidArgument("the path is not valid UTF-8") from None
    return "/".join(normalized_path(path))
