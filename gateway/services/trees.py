"""Trees of nodes: the children of a directory, and copies of whole trees."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final, TypeAlias

from gateway.services.calls import Services, ask, in_turns, known_node
from gateway.services.changes import commit_mutations, refusal
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import NoSuchNode
from syncline.model.identifiers import NodeId, RequestId, SpaceId, created_node_id, derived_request_id
from syncline.model.tree import MAX_MUTATIONS, CreateNode, Node, NodeKind
from syncline.wire.tree import mutation_to_wire

Token = Callable[[], Awaitable[str]]
"""Coroutine function without arguments that returns a valid access token: the processing of a large tree may take
longer than one token is valid.
"""

_Page: TypeAlias = AsyncIterator[list[Node]]
"""One page of the listing of a directory, as slices of nodes; each slice is processed in a turn that is charged to the
caller.
"""
_MAX_BATCH_BYTES: Final = 200_000
"""Maximum size of the mutations of one commit, in bytes."""
LISTED_AT_ONCE: Final = 8
"""Maximum number of directories that one copy lists at the same time."""


async def pages_of(
    services: Services, token: Token, space: str, directory: NodeId, *, size: int = 0
) -> AsyncGenerator[list[Node], None]:
    """Yield the nodes in a directory that are not in the trash, by name, in pages of `size` nodes; 0 stands for
    metadata's default size. `token` returns an access token for each call. Raise NoSuchNode if there is no such
    directory outside of the trash.
    """
    async for slices_of_page in _pages(services, token, space, directory, size=size):
        yield [child async for some in slices_of_page for child in some]


async def _pages(
    services: Services, token: Token, space: str, directory: NodeId, *, size: int = 0
) -> AsyncGenerator[_Page, None]:
    """Yield the pages of a directory, each as slices of nodes, by name, without those in the trash. Processing a slice
    is charged to the caller. Raise NoSuchNode if there is no such directory outside of the trash.
    """
    page_token = ""
    while True:
        asked = metadata_pb2.ListNodesRequest(space_id=space, parent=directory, page_size=size, page_token=page_token)
        with_token = await token()
        page = await ask(services.metadata.ListNodes, asked, token=with_token)
        yield _in_slices(page, with_token)
        page_token = page.next_page_token
        if not page_token:
            return


async def _in_slices(page: metadata_pb2.ListNodesResponse, token: str) -> AsyncIterator[list[Node]]:
    async for some in in_turns(page.nodes, token):
        yield [known_node(child) for child in some]


async def children_of(services: Services, token: Token, space: str, directory: NodeId) -> AsyncGenerator[Node, None]:
    """Yield the nodes in a directory that are not in the trash; none if the directory has been deleted since it was
    listed. The consumer's work on each node is part of a slice that is charged to the caller.
    """
    async for page in _pages_if_live(services, token, space, directory):
        async for some in page:
            for child in some:
                yield child


async def copy_below(
    services: Services, token: Token, *, space: SpaceId, request: RequestId, source: NodeId, target: NodeId
) -> AsyncGenerator[list[tuple[NodeId, NodeId]], None]:
    """Copy everything below the directory `source` to below the directory `target` of the same space. Yield, for each
    commit, the pairs of the ids of source and copy. `token` returns an access token for each call.

    Nodes are copied level by level, so that parents precede their children, with as many nodes per commit as possible.
    The ids of the commits are derived from `request`, so that a repetition over the same tree has no further effect,
    and so that metadata can tell what belongs to the copy. Raise MutationRefused if a node cannot be created; what was
    copied before stays.
    """
    number = 0
    batch = _Batch(space, derived_request_id(request, number))

    async def send() -> list[tuple[NodeId, NodeId]]:
        nonlocal batch, number
        with_token = await token()
        answer = await commit_mutations(
            services, with_token, space=space, request=batch.request, mutations=batch.mutations
        )
        async for some in in_turns(answer.results, with_token):
            for result in some:
                if (error := refusal(result)) is not None:
                    raise error
        number, copied = number + 1, batch.copied
        batch = _Batch(space, derived_request_id(request, number))
        return copied

    level = [(source, target)]
    while level:
        below: list[tuple[NodeId, NodeId]] = []
        listed = _listed(services, token, space, level)
        async with aclosing(listed):
            async for copy, children in listed:
                for child in children:
                    if batch.full:
                        yield await send()
                    made = batch.add(child, copy)
                    if child.kind is NodeKind.DIRECTORY:
                        below.append((child.id, made))
        if batch.mutations:
            yield await send()
        level = below


async def _listed(
    services: Services, token: Token, space: str, level: Sequence[tuple[NodeId, NodeId]]
) -> AsyncGenerator[tuple[NodeId, list[Node]], None]:
    """Yield the nodes in each source directory of `level`, in slices, together with the id of the directory's copy.
    `level` has the ids of source and copy, and its order is kept.

    The first pages of the next directories are read ahead, because a tree may consist of very many small directories.
    """
    rest = iter(level)
    ahead: deque[tuple[NodeId, AsyncGenerator[_Page, None], asyncio.Task[_Page | None]]] = deque()
    try:
        while True:
            while len(ahead) < LISTED_AT_ONCE and (pair := next(rest, None)) is not None:
                pages = _pages_if_live(services, token, space, pair[0])
                ahead.append((pair[1], pages, asyncio.create_task(_next_page(pages))))
            if not ahead:
                return
            copy, pages, first = ahead[0]
            page = await first
            while page is not None:
                async for some in page:
                    yield copy, some
                page = await _next_page(pages)
            ahead.popleft()
    finally:
        for _, _, reading in ahead:
            reading.cancel()
        await asyncio.gather(*(reading for _, _, reading in ahead), return_exceptions=True)
        for _, pages, _ in ahead:
            await pages.aclose()


async def _pages_if_live(
    services: Services, token: Token, space: str, directory: NodeId
) -> AsyncGenerator[_Page, None]:
    """Yield the pages of a directory; none if it has been deleted since it was listed."""
    try:
        async for page in _pages(services, token, space, directory):
            yield page
    except NoSuchNode:
        return


async def _next_page(pages: AsyncGenerator[_Page, None]) -> _Page | None:
    """Return the next page of a listing; None after the last page."""
    return await anext(pages, None)


class _Batch:
    """Collects the mutations of one request, with the ids of the nodes that they create."""

    def __init__(self, space: SpaceId, request: RequestId) -> None:
        self.request = request
        self.mutations: list[CreateNode] = []
        self.copied: list[tuple[NodeId, NodeId]] = []
        self._space = space
        self._bytes = 0

    @property
    def full(self) -> bool:
        return len(self.mutations) >= MAX_MUTATIONS or self._bytes >= _MAX_BATCH_BYTES

    def add(self, node: Node, parent: NodeId) -> NodeId:
        mutation = CreateNode(parent, node.name, node.kind, node.content)
        made = created_node_id(self._space, self.request, len(self.mutations))
        self.mutations.append(mutation)
        self.copied.append((node.id, made))
        self._bytes += mutation_to_wire(mutation).ByteSize()
        return made
