"""Trees of nodes: the children of a directory, and copies of whole trees."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

from gateway.services.calls import Services, ask, in_turns, known_node
from gateway.services.changes import commit_mutations, derived, refusal
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import NoSuchNode
from syncline.model.identifiers import NodeId, RequestId, SpaceId, created_node_id
from syncline.model.tree import MAX_MUTATIONS, CreateNode, Node, NodeKind
from syncline.wire.tree import mutation_to_wire

Token = Callable[[], Awaitable[str]]
"""Function that returns a valid access token; processing a large tree may outlast one."""

_BATCH_BYTES: Final = 200_000
"""Maximum size of the mutations of one commit, in bytes."""


async def pages_of(
    services: Services, token: Token, space: str, directory: NodeId, *, size: int = 0
) -> AsyncGenerator[list[Node], None]:
    """Yield the live children of a directory by name, in pages of `size`, or of metadata's default. Raise
    NoSuchNode.
    """
    async for slices_of_page in _pages(services, token, space, directory, size=size):
        yield [child async for some in slices_of_page for child in some]


async def _pages(
    services: Services, token: Token, space: str, directory: NodeId, *, size: int = 0
) -> AsyncGenerator[AsyncIterator[list[Node]], None]:
    """Yield the pages of a directory, each as slices of work that are charged to the caller. Raise NoSuchNode."""
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
    """Yield the live children of a directory; none if it has been deleted in the meantime. The consumer works on them
    in slices, too.
    """
    try:
        async for page in _pages(services, token, space, directory):
            async for some in page:
                for child in some:
                    yield child
    except NoSuchNode:
        return


async def copy_below(
    services: Services, token: Token, *, space: SpaceId, request: RequestId, source: NodeId, target: NodeId
) -> AsyncGenerator[list[tuple[NodeId, NodeId]], None]:
    """Copy everything below one directory to below another; yield the pairs of source and copy of each commit.

    Copies level by level, so that parents precede their children, with as many nodes per commit as possible. The ids of
    the commits are derived from `request`, so that a repetition over the same tree has no further effect. Raise
    MutationRefused.
    """
    number = 0
    batch = _Batch(space, derived(request, number))

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
        batch = _Batch(space, derived(request, number))
        return copied

    level = [(source, target)]
    while level:
        below: list[tuple[NodeId, NodeId]] = []
        for directory, copy in level:
            async for child in children_of(services, token, space, directory):
                if batch.full:
                    yield await send()
                made = batch.add(child, copy)
                if child.kind is NodeKind.DIRECTORY:
                    below.append((child.id, made))
        if batch.mutations:
            yield await send()
        level = below


class _Batch:
    """Mutations of one request, and the ids of the nodes that they create."""

    def __init__(self, space: SpaceId, request: RequestId) -> None:
        self.request = request
        self.mutations: list[CreateNode] = []
        self.copied: list[tuple[NodeId, NodeId]] = []
        self._space = space
        self._bytes = 0

    @property
    def full(self) -> bool:
        return len(self.mutations) >= MAX_MUTATIONS or self._bytes >= _BATCH_BYTES

    def add(self, node: Node, parent: NodeId) -> NodeId:
        mutation = CreateNode(parent, node.name, node.kind, node.content)
        made = created_node_id(self._space, self.request, len(self.mutations))
        self.mutations.append(mutation)
        self.copied.append((node.id, made))
        self._bytes += mutation_to_wire(mutation).ByteSize()
        return made
