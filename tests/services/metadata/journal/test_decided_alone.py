"""Requests that are decided alone: those with a condition, and those that take effect as a whole or not at all."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.metadata.entry import replay
from services.metadata.journal.commit import CommitOutcome, Overtaken, Request, Untouched
from services.metadata.tree.decide import decide
from syncline.model.identifiers import ROOT, NodeId, new_request_id
from syncline.model.tree import CreateNode, DeleteNode, Mutation, NodeKind
from syncline.model.verdicts import Verdict
from tests.services.metadata.simulation import SPACE, Process, World, run_virtually
from tests.support.journal import small_entry
from tests.support.metadata import still_allowed

OTHERS = 60


def directory(name: str, parent: NodeId = ROOT) -> CreateNode:
    return CreateNode(parent, name, NodeKind.DIRECTORY)


async def commit(
    process: Process, *mutations: Mutation, condition: Untouched | None = None, all_or_nothing: bool = False
) -> CommitOutcome:
    wanted = Request(
        new_request_id(), b"fingerprint", "ann", "laptop", mutations, 100, condition, all_or_nothing=all_or_nothing
    )
    async with process.spaces.use(SPACE) as live:
        return await live.committer.commit(wanted, ask=still_allowed)


@contextmanager
def decisions() -> Iterator[list[int]]:
    """Count the decisions on mutations."""
    count = [0]

    def called(frame: object, event: str, _arg: object) -> None:
        count[0] += event == "call" and getattr(frame, "f_code", None) is decide.__code__

    sys.setprofile(called)
    try:
        yield count
    finally:
        sys.setprofile(None)


def names(world: World) -> set[str]:
    nodes = replay(small_entry(seq, blob) for seq, blob in enumerate(world.journal.entries[SPACE], 1))
    return {node.name for node in nodes.values() if not node.deleted_at_ms}


@pytest.mark.parametrize("is_broken", [False, True], ids=["holds", "is broken"])
def test_a_condition_makes_no_other_request_be_decided_again(is_broken: bool) -> None:
    async def main() -> None:
        process = Process(World(random.Random(1)))
        (made,) = (await commit(process, directory("top"))).results
        assert made.node is not None
        top = made.node.id
        others = [directory(f"other {number}", top if is_broken else ROOT) for number in range(OTHERS)]
        with decisions() as count:
            *answers, conditional = await asyncio.gather(
                *(commit(process, other) for other in others),
                commit(process, directory("conditional"), condition=Untouched(1, {top})),
                return_exceptions=True,
            )
        assert isinstance(conditional, Overtaken) is is_broken
        assert not any(isinstance(answer, BaseException) for answer in answers)
        assert len(names(process.world)) == OTHERS + 1 + (not is_broken)
        # Trials of mutations, which find out what is to be loaded, count as well.
        assert count[0] <= 3 * OTHERS
        await process.spaces.stop()

    run_virtually(main())


def test_nothing_of_a_request_takes_effect_unless_all_of_it_is_accepted() -> None:
    async def main() -> None:
        process = Process(World(random.Random(1)))
        first, second = (await commit(process, directory("first"), directory("second"))).results
        assert first.node is not None
        assert second.node is not None
        mutations = DeleteNode(first.node.id, 0), directory("second")
        refused = await commit(process, *mutations, all_or_nothing=True)
        assert [result.verdict for result in refused.results] == [Verdict.NAME_TAKEN] * 2
        assert names(process.world) == {"first", "second"}
        assert len(process.world.journal.entries[SPACE]) == 1
        # Other requests at the same time see nothing of it.
        again, other = await asyncio.gather(
            commit(process, *mutations, all_or_nothing=True), commit(process, directory("below", first.node.id))
        )
        assert {result.verdict for result in again.results} == {Verdict.NAME_TAKEN}
        assert [result.verdict for result in other.results] == [Verdict.ACCEPTED]
        whole = await commit(process, DeleteNode(first.node.id, 0), directory("first"), all_or_nothing=True)
        assert [result.verdict for result in whole.results] == [Verdict.ACCEPTED] * 2
        # Without that, each mutation has its own verdict.
        parts = await commit(process, DeleteNode(second.node.id, 0), directory("first"))
        assert [result.verdict for result in parts.results] == [Verdict.ACCEPTED, Verdict.NAME_TAKEN]
        await process.spaces.stop()

    run_virtually(main())
