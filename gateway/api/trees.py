"""Operations on whole trees: download as a ZIP file, and copy."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from gateway.api import conversions, models
from gateway.api.commits import answered, commit_one
from gateway.api.idempotency import Named, RequestName
from gateway.api.identifiers import Node, NodeText, Space, node_id_of
from gateway.api.nodes import children_page, look_at_node, read_node
from gateway.content.archive import Archives, ArchiveSize, walk
from gateway.content.download import Begin, Streamed, first_of
from gateway.content.file_headers import attachment
from gateway.identity.caller import Caller, GatewayServices, Signed
from gateway.identity.rights import right_check
from gateway.identity.shares import share_of
from gateway.services.calls import Services, ask
from gateway.services.changes import refused
from gateway.services.copies import Copies, copy_tree, undo_of
from gateway.services.trees import children_of
from syncline.metadata.v1 import metadata_pb2
from syncline.model.identifiers import ROOT, NodeId, SpaceId, derived_request_id
from syncline.model.tree import CreateNode, NodeKind
from syncline.model.tree import Node as CoreNode
from syncline.model.verdicts import Verdict

router: Final = APIRouter(tags=["nodes"])

_AGAIN: Final = 2**32 - 2
"""Index of the derived request id under which a copy is made again, after the copy under the original id was undone."""

ZIP: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The archive. If something goes wrong on the way the connection breaks off.",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get("/spaces/{space}/nodes/{node}/archive", response_class=Response, responses=ZIP)
async def node_archive(
    request: Request, space: Space, node: Node, caller: Signed, services: GatewayServices
) -> Response:
    """Download a directory with everything in it, as a ZIP file; `root` is the whole space. A directory of more paths
    than one ZIP file can list is refused before anything is sent.

    What Windows cannot hold in a name is percent-encoded: `a:b` becomes `a%3Ab`, `NUL.txt` becomes `NU%4C.txt`. Of
    names that differ only in case, all but the first get a number.
    """
    top = node_id_of(node)
    tops, name = await below(services, caller, space, top)
    return await answer(request, space, tops, services, caller, measured=[top], name=name)


@router.get("/spaces/{space}/archive", response_class=Response, responses=ZIP)
async def archive(
    request: Request,
    space: Space,
    caller: Signed,
    services: GatewayServices,
    node: Annotated[
        list[NodeText],
        Query(
            min_length=1,
            max_length=models.MAX_ARCHIVE_NODES,
            description="The files and directories to put into the archive.",
        ),
    ],
) -> Response:
    """Download several files and directories as one ZIP file. If several have the same name, all but the first get a
    number. What lies in another of the directories is in the archive once, where it lies in that directory. Names are
    as in the archive of one directory.
    """
    found = _topmost([await read_node(services, caller, space, node_id_of(one)) for one in dict.fromkeys(node)])
    measured = [one.id for one in found]
    return await answer(request, space, _these(found), services, caller, measured=measured, name="files")


@router.post("/spaces/{space}/nodes/{node}/copy", status_code=201)
async def copy_node(
    space: Space,
    node: Node,
    body: models.Copy,
    name: Named,
    caller: Signed,
    services: GatewayServices,
    request: Request,
    response: Response,
) -> models.Node:
    """Copy a node with everything below it. No content is transferred: the copies refer to the stored objects. If the
    client disconnects, or a directory takes more than ten minutes, the copy goes to the trash.
    """
    source, path = await read_node(services, caller, space, node_id_of(node))
    parent = node_id_of(body.parent)
    if parent != ROOT and source.kind is NodeKind.DIRECTORY:
        _, target = await read_node(services, caller, space, parent)
        if f"{target}/".startswith(f"{path}/"):
            raise refused(Verdict.CYCLE)
    to = CreateNode(parent, body.name, source.kind, source.content)
    if source.kind is not NodeKind.DIRECTORY:
        made = await commit_one(services, caller, space=space, request=name.id, mutation=to)
        return conversions.with_etag(response, made)
    copies: Copies = request.app.state.copies
    share = share_of(request, caller.token)
    async with copies.running(share, caller.fresh, request.receive) as copy:
        ident = name.id
        # A copy that was undone is made anew when the request is repeated.
        while await _was_undone(services, caller, space, RequestName(ident, given=name.given)):
            ident = derived_request_id(ident, _AGAIN)
        made = await copy_tree(services, copy, space=SpaceId(space), request=ident, source=source, to=to)
    return conversions.with_etag(response, made)


async def _was_undone(services: Services, caller: Caller, space: str, name: RequestName) -> bool:
    undo = RequestName(undo_of(name.id), given=name.given)
    return await answered(services, caller, space=space, name=undo) is not None


async def answer(
    request: Request,
    space: str,
    tops: AsyncIterator[CoreNode],
    services: Services,
    caller: Caller,
    *,
    measured: Sequence[NodeId],
    name: str,
    begin: Begin | None = None,
) -> Response:
    """Return a response that streams an archive of the nodes `tops`, called `name`. `measured` are the ids of these
    nodes, or the id of the root for a whole space. `begin` counts a download by a public link before bytes are sent;
    None counts nothing.
    """

    async def measure(most: ArchiveSize) -> ArchiveSize:
        asked = metadata_pb2.MeasureTreeRequest(
            space_id=space, nodes=measured, max_paths=most.paths, max_path_bytes=most.path_bytes
        )
        size = await ask(services.metadata.MeasureTree, asked, token=caller.token)
        return ArchiveSize(size.paths, size.path_bytes)

    archives: Archives = request.app.state.archives
    entries = walk(tops, lambda directory: children_of(services, caller.fresh, space, directory.id))
    chunks = archives.stream(SpaceId(space), entries, measure=measure, share=share_of(request, caller.token))
    check_right = right_check(services, caller.fresh, space)
    first = await first_of(chunks, check_right)
    try:
        counted = await begin() if begin is not None else None
    except BaseException:
        await chunks.aclose()
        raise
    headers = attachment(f"{name}.zip", "application/zip")
    return Streamed(
        first,
        chunks,
        status_code=200,
        headers=headers,
        check_right=check_right,
        counted=counted,
    )


async def below(services: Services, caller: Caller, space: str, node: NodeId) -> tuple[AsyncIterator[CoreNode], str]:
    """Return the nodes for the top of an archive (the children of a directory, or a node itself), and a name for the
    archive. Raise NoSuchSpace if the caller has no grant, and NoSuchNode if there is no such node, before anything is
    sent.
    """
    if node == ROOT:
        await children_page(services, caller, space, ROOT, page_size=1)
        return children_of(services, caller.fresh, space, ROOT), "space"
    found, _ = await look_at_node(services, caller, space, node)
    return _these([found]), found.name


def _topmost(found: Sequence[tuple[CoreNode, str]]) -> list[CoreNode]:
    """Return those of the nodes that lie in no other of them, in the order of `found`, which has each node with its
    path. Without this, an archive of a hundred nested directories would list the innermost one a hundred times.
    """
    paths = {path for _, path in found}
    return [node for node, path in found if paths.isdisjoint(map(str, PurePosixPath(path).parents))]


async def _these(nodes: Sequence[CoreNode]) -> AsyncGenerator[CoreNode, None]:
    for node in nodes:
        yield node
