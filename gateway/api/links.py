"""Public links: made by members, opened by anybody who has the address.

A visitor opens a link and gets a cookie for it, `__Host-link-{link id}`, which gives read access to the linked node and
everything below it, and to nothing else. A visitor cannot change anything, so these operations need no CSRF protection.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Request, Response

from gateway.api import conversions, models
from gateway.api.contents import RESPONSES, Disposition
from gateway.api.idempotency import Named
from gateway.api.identifiers import Node, Space, TextId, node_id_of, node_text
from gateway.api.nodes import children_page, look_at_node
from gateway.api.paging import LongPage, PageToken
from gateway.api.trees import ZIP, answer, below
from gateway.content.allowance import Allowance, LinkDownload
from gateway.content.assemble import Contents
from gateway.content.download import Begin, content_of, download
from gateway.identity.caller import Caller, GatewayServices, Signed, bearer, check_origin, check_route
from gateway.identity.rights import right_check
from gateway.identity.shares import share_of
from gateway.services.calls import Services, ask
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import Unauthenticated
from syncline.model.identifiers import ROOT, NodeId, SpaceId, new_request_id

router: Final = APIRouter(tags=["links"])

LinkId = Annotated[TextId, Path(description="The link.")]

_COOKIE: Final = "__Host-link-"


@router.get("/spaces/{space}/links")
async def list_links(
    space: Space, caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.Links:
    """List the public links of a space, newest first."""
    asked = auth_pb2.ListLinksRequest(space_id=space, page_size=page_size, page_token=page_token)
    answered = await ask(services.auth.ListLinks, asked, token=caller.token)
    return models.Links(
        links=[conversions.link(link) for link in answered.links], next_page_token=answered.next_page_token or None
    )


@router.post("/spaces/{space}/links", status_code=201)
async def create_link(
    space: Space, body: models.NewLink, request: Request, name: Named, caller: Signed, services: GatewayServices
) -> models.CreatedLink:
    """Make a public link to a file or directory, or with `root` to the whole space. Its address is shown only this
    once.
    """
    node = node_id_of(body.node)
    if node != ROOT:  # refuse a link to a node that does not exist
        await look_at_node(services, caller, space, node)
    made = await ask(
        services.auth.CreateLink,
        auth_pb2.CreateLinkRequest(
            request_id=name.id,
            space_id=space,
            node=node,
            password=body.password or "",
            expires_at_ms=body.expires_at_ms or 0,
            max_downloads=body.max_downloads or 0,
        ),
        token=caller.token,
    )
    base = request.app.state.own.of(request).url
    link = conversions.link(made.link)
    # Browsers send the fragment of an address to nobody, so that no log of a proxy or balancer has the token.
    return models.CreatedLink(**link.model_dump(), token=made.token, url=f"{base}/l#{made.token}")


@router.delete("/spaces/{space}/links/{link_id}", status_code=204)
async def revoke_link(space: Space, link_id: LinkId, name: Named, caller: Signed, services: GatewayServices) -> None:
    """End a public link."""
    await ask(
        services.auth.RevokeLink,
        auth_pb2.RevokeLinkRequest(request_id=name.id, space_id=space, link_id=link_id),
        token=caller.token,
    )


@router.post("/links/open")
async def open_link(
    body: models.OpenLink, request: Request, response: Response, services: GatewayServices
) -> models.OpenedLink:
    """Open a public link. The token in the answer gives read access to the linked node, and so does the cookie that
    the answer sets.
    """
    check_origin(request)
    opened = await ask(
        services.auth.OpenLink,
        auth_pb2.OpenLinkRequest(token=body.token, password=body.password),
    )
    link, node = opened.link, None
    if link.node != ROOT:
        found, _ = await look_at_node(services, Caller(opened.access_token), link.space_id, NodeId(link.node))
        node = conversions.node(found)
    response.headers["cache-control"] = "no-store"
    response.set_cookie(
        f"{_COOKIE}{link.link_id}", opened.access_token, path="/", secure=True, httponly=True, samesite="strict"
    )
    return models.OpenedLink(
        link_id=link.link_id,
        access_token=opened.access_token,
        access_expires_at_ms=opened.access_expires_at_ms,
        node=node,
        top=node_text(link.node),
        expires_at_ms=link.expires_at_ms or None,
        max_downloads=link.max_downloads or None,
        downloads=link.downloads,
    )


@dataclass(frozen=True, slots=True)
class Visitor:
    """A visitor of a public link: the caller, whose token gives read access to the linked node and everything below it,
    and the space of that node.
    """

    caller: Caller
    space: SpaceId


async def visitor(request: Request, link_id: LinkId) -> Visitor:
    """Return the visitor who opened the link `link_id`. Raise Unauthenticated if the request has no token of this link,
    and PermissionDenied if the operation does not admit visitors with such a token.
    """
    authorization = request.headers.get("authorization")
    token = bearer(authorization) if authorization is not None else request.cookies.get(f"{_COOKIE}{link_id}", "")
    caller = Caller(token)
    try:
        claims = caller.claims  # the services verify the claims of the token
    except Unauthenticated:  # there is no cookie, or its value is no token
        claims = None
    if claims is None or claims.subject != link_id:
        raise Unauthenticated("this link is not open: open it again")
    check_route(request, caller)
    assert claims.link is not None, "the route takes visitors alone"
    return Visitor(caller, claims.link.space)


Visiting = Annotated[Visitor, Depends(visitor)]


@router.get("/links/{link_id}/nodes/{node}")
async def get_linked_node(link_id: LinkId, node: Node, visitor: Visiting, services: GatewayServices) -> models.Located:  # noqa: ARG001
    """Get a node of a link; its path is relative to the linked node."""
    return conversions.located(*await look_at_node(services, visitor.caller, visitor.space, node_id_of(node)))


@router.get("/links/{link_id}/nodes/{node}/children")
async def list_linked_children(
    link_id: LinkId,  # noqa: ARG001
    node: Node,
    visitor: Visiting,
    services: GatewayServices,
    page_size: LongPage,
    page_token: PageToken = "",
) -> models.Nodes:
    """List the nodes in a directory of a link, by name."""
    return await children_page(
        services, visitor.caller, visitor.space, node_id_of(node), page_size=page_size, page_token=page_token
    )


@router.api_route(
    "/links/{link_id}/nodes/{node}/content", methods=["GET", "HEAD"], response_class=Response, responses=RESPONSES
)
async def linked_content(
    request: Request,
    link_id: LinkId,  # noqa: ARG001
    node: Node,
    visitor: Visiting,
    services: GatewayServices,
    disposition: Disposition = "attachment",
) -> Response:
    """Download the content of a file of a link.

    If the link limits downloads, a request counts when content is sent: HEAD, 304 and 416 do not count. Several ranges
    are one download, and so is a download that continues after it was interrupted.
    """
    found, _ = await look_at_node(services, visitor.caller, visitor.space, node_id_of(node))
    content = content_of(found)
    contents: Contents = request.app.state.contents
    return await download(
        request,
        visitor.space,
        found.name,
        content,
        contents,
        share=share_of(request, visitor.caller.token),
        check_right=right_check(services, visitor.caller.fresh, visitor.space),
        inline=disposition == "inline",
        begin=_begin(request, services, visitor, content.digest.hex(), size=content.size),
    )


@router.get("/links/{link_id}/nodes/{node}/archive", response_class=Response, responses=ZIP)
async def linked_archive(
    request: Request,
    link_id: LinkId,  # noqa: ARG001
    node: Node,
    visitor: Visiting,
    services: GatewayServices,
) -> Response:
    """Download a directory of a link as a ZIP file, which counts as one download.

    An interrupted download may be started once more.
    """
    top = node_id_of(node)
    tops, name = await below(services, visitor.caller, visitor.space, top)
    begin = _begin(request, services, visitor, f"archive/{node}", size=None)
    return await answer(request, visitor.space, tops, services, visitor.caller, measured=[top], name=name, begin=begin)


def _begin(request: Request, services: Services, visitor: Visitor, what: str, *, size: int | None) -> Begin:
    """Return a function that counts a download of `what` (a digest or a node id, as text) by this link, unless the
    download continues an interrupted one. The function raises LinkExhausted if the link allows no further download.

    `size` is the size of the content in bytes, None for an archive.
    """
    allowance: Allowance = request.app.state.allowance
    token = visitor.caller.token
    # one request id, so that repetitions count once
    counting = auth_pb2.CountLinkDownloadRequest(request_id=new_request_id())

    async def count() -> bool:
        counted = await ask(services.auth.CountLinkDownload, counting, token=token)
        return counted.limited

    place = LinkDownload(visitor.space, visitor.caller.claims.subject, what)
    return partial(allowance.begin, place, count, size=size)
