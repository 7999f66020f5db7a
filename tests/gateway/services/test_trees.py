"""Large trees are read and copied in turns: no round of the event loop has a whole page of them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from gateway.content.archive import walk
from gateway.services.calls import Services
from gateway.services.trees import children_of, copy_below, pages_of
from runtime.turns import SLICE_ITEMS
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.identifiers import ROOT, NodeId, SpaceId, new_request_id
from syncline.model.tree import Node, NodeKind
from syncline.wire.tree import node_to_wire
from tests.services.metadata.journal.test_turns import counted
from tests.support.tokens import unproven_token

SPACE = SpaceId("a" * 26)
PAGES, PAGE = 30, 1_000
CALLS = 100
"""Calls of functions that one node may take, at most."""


class OneLargeDirectory:
    """Metadata of a space whose top has PAGES times PAGE empty directories, and which takes all changes."""

    def __init__(self) -> None:
        self.committed = 0

    async def list(self, request, metadata):
        await asyncio.sleep(0)  # A call lets others run.
        if request.parent != ROOT:
            return metadata_pb2.ListNodesResponse()
        at = int(request.page_token or 0)
        numbers = range(at * PAGE + 1, (at + 1) * PAGE + 1)
        nodes = [Node(NodeId(number.to_bytes(16, "big")), ROOT, f"{number}", NodeKind.DIRECTORY) for number in numbers]
        following = str(at + 1) if at + 1 < PAGES else ""
        return metadata_pb2.ListNodesResponse(nodes=map(node_to_wire, nodes), next_page_token=following)

    async def commit(self, request, metadata):
        await asyncio.sleep(0)
        self.committed += len(request.mutations)
        accepted = journal_pb2.MutationResult(verdict=journal_pb2.VERDICT_ACCEPTED)
        return metadata_pb2.CommitChangesResponse(results=[accepted] * len(request.mutations))

    @property
    def services(self) -> Services:
        nobody: Any = None
        metadata: Any = SimpleNamespace(ListNodes=self.list, CommitChanges=self.commit)
        return Services(nobody, metadata, nobody, nobody)


async def token() -> str:
    return unproven_token()


async def test_the_tree_of_an_archive_is_read_in_turns() -> None:
    services = OneLargeDirectory().services
    tops = children_of(services, token, SPACE, ROOT)
    async with counted() as rounds:
        paths = [entry.path async for entry in walk(tops, lambda node: children_of(services, token, SPACE, node.id))]
    assert len(paths) == PAGES * PAGE
    _is_in_slices(rounds.longest, rounds.total)


async def test_a_copy_of_a_large_tree_is_made_in_turns() -> None:
    metadata = OneLargeDirectory()
    every = copy_below(
        metadata.services, token, space=SPACE, request=new_request_id(), source=ROOT, target=NodeId(b"t" * 16)
    )
    async with counted() as rounds:
        copied = sum([len(pairs) async for pairs in every])
    assert copied == metadata.committed == PAGES * PAGE
    _is_in_slices(rounds.longest, rounds.total)


async def test_pages_for_listings_are_read_in_turns_and_come_as_a_whole() -> None:
    async with counted() as rounds:
        pages = [len(page) async for page in pages_of(OneLargeDirectory().services, token, SPACE, ROOT)]
    assert pages == [PAGE] * PAGES
    _is_in_slices(rounds.longest, rounds.total)


def _is_in_slices(longest: int, total: int) -> None:
    """Beside a slice, a round has a page that the stand-in for metadata makes, which the loop of a gateway does not."""
    of_metadata = 40 * PAGE
    assert total > PAGES * PAGE
    assert longest < of_metadata + CALLS * SLICE_ITEMS
