"""A commit that had to wait takes effect only if its caller has the right to it by then."""

from __future__ import annotations

import asyncio
import random

import pytest

from runtime.interruption import ASK_SECONDS
from services.metadata.journal.commit import Request
from syncline.model.errors import PermissionDenied
from syncline.model.identifiers import ROOT, NodeId, new_request_id
from syncline.model.tree import CreateNode, DeleteNode, Mutation, NodeKind
from syncline.model.verdicts import Verdict
from tests.services.metadata.simulation import SPACE, Process, World, run_virtually
from tests.support.journal import small_entry
from tests.support.metadata import still_allowed


def request(user: str, mutation: Mutation) -> Request:
    return Request(new_request_id(), b"fingerprint", user, "device", (mutation,), 100)


def creating(name: str) -> CreateNode:
    return CreateNode(ROOT, name, NodeKind.DIRECTORY)


REFUSED = DeleteNode(NodeId(bytes(16)), 1)
"""A mutation that is refused: there is no such node."""


@pytest.mark.parametrize("mutation", [creating("late"), REFUSED], ids=["accepted", "refused"])
def test_a_commit_that_waits_for_long_is_made_only_if_its_caller_still_may(mutation: Mutation) -> None:
    async def main() -> None:
        world = World(random.Random(1))
        process = Process(world)

        async def ended() -> None:
            raise PermissionDenied("you may only read in this space")

        async with process.spaces.use(SPACE) as live:
            at_once = await live.committer.commit(request("ben", creating("at once")), ask=ended)
            late = asyncio.create_task(live.committer.commit(request("ben", mutation), ask=ended))
            other = asyncio.create_task(live.committer.commit(request("ann", creating("other")), ask=still_allowed))
            await asyncio.sleep(0)  # both wait to be decided
            world.clock_ms += int(ASK_SECONDS * 1000) + 1
            with pytest.raises(PermissionDenied):
                await late
            made = await other
        assert [result.verdict for outcome in (at_once, made) for result in outcome.results] == [Verdict.ACCEPTED] * 2
        entries = [small_entry(seq, blob) for seq, blob in enumerate(world.journal.entries[SPACE], 1)]
        assert [commit.user for entry in entries for commit in entry.commits] == ["ben", "ann"]
        await process.spaces.stop()

    run_virtually(main())
