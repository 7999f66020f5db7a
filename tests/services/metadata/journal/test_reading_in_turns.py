"""Large entries of a journal are parsed in turns, whatever they are read for, so that others are served meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from runtime.turns import REST_ITERATIONS, SLICE_ITEMS
from services.metadata.entry import Commit, JournalEntry
from services.metadata.tree.activity import list_activity
from services.metadata.wire import entry_from_bytes, entry_to_bytes
from syncline.model.blocks import Digest
from syncline.model.identifiers import ROOT, NodeId, SpaceId, new_request_id, new_text_id
from syncline.model.tree import MAX_MUTATIONS, Change, Content, Node, NodeKind, Result
from syncline.model.verdicts import Verdict
from tests.services.metadata.support import EMPTY_DIGEST
from tests.support.metadata import MemoryJournal

SLICES: Final = MAX_MUTATIONS // SLICE_ITEMS


def entry_of(commits: int) -> JournalEntry:
    """An entry of as many results as one may have, from so many commits."""
    parts = []
    for _ in range(commits):
        results = []
        for number in range(MAX_MUTATIONS // commits):
            content = Content(Digest(EMPTY_DIGEST), 0)
            node = Node(NodeId(new_request_id()), ROOT, f"{number}.txt", NodeKind.FILE, 1, content, 1)
            results.append(Result(Verdict.ACCEPTED, node, Change.CREATED))
        parts.append(Commit(new_request_id(), bytes(32), "ann", "laptop", 1, tuple(results)))
    return JournalEntry(1, bytes(16), tuple(parts), 0)


async def rounds_during(work: Awaitable[Any]) -> tuple[Any, int]:
    """Return the result of `work`, and the number of rounds that the event loop made meanwhile."""
    working = asyncio.ensure_future(work)
    rounds = 0
    while not working.done():
        await asyncio.sleep(0)
        rounds += 1
    return working.result(), rounds


@pytest.mark.parametrize("commits", [1, 80])
async def test_an_entry_is_parsed_in_turns(commits: int) -> None:
    entry = entry_of(commits)
    parsed, rounds = await rounds_during(entry_from_bytes(1, await entry_to_bytes(entry), account="ben"))
    assert [commit.request for commit in parsed.commits] == [commit.request for commit in entry.commits]
    assert parsed.created() == MAX_MUTATIONS
    assert rounds >= (SLICES - 1) * REST_ITERATIONS


async def _first_page(journal: MemoryJournal, space: SpaceId) -> Any:
    activities, after = await list_activity(journal, space, after=None, limit=10, account="ben")
    assert len(activities) == 10
    return after


async def _second_page(journal: MemoryJournal, space: SpaceId) -> None:
    after = await _first_page(journal, space)
    activities, _ = await list_activity(journal, space, after=after, limit=10, account="ben")
    assert activities


@pytest.mark.parametrize(("listing", "entries"), [(_first_page, 1), (_second_page, 2)])
async def test_activity_is_read_in_turns(
    listing: Callable[[MemoryJournal, SpaceId], Awaitable[Any]], entries: int
) -> None:
    journal, space = MemoryJournal(), SpaceId(new_text_id())
    await journal.append(space, 1, await entry_to_bytes(entry_of(1)))
    _, rounds = await rounds_during(listing(journal, space))
    assert rounds >= entries * (SLICES - 1) * REST_ITERATIONS
