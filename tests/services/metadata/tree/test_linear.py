"""The cost of one request grows as its size does: twice the size takes twice the work, not four times."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import pytest

from services.metadata.journal.commit import Request
from services.metadata.journal.open_spaces import LiveSpace
from services.metadata.ports import Rows
from syncline.model.blocks import BlockRef, Digest, Manifest
from syncline.model.identifiers import ROOT, NodeId, new_request_id
from syncline.model.tree import (
    Change,
    Content,
    CreateNode,
    DeleteNode,
    MoveNode,
    Mutation,
    NodeKind,
    RestoreNode,
    Result,
    UpdateContent,
)
from syncline.model.verdicts import Verdict
from tests.services.metadata.simulation import SPACE, Process, World
from tests.support.metadata import still_allowed

EMPTY = Content(Digest(hashlib.sha256().digest()), 0)
MANY = 240
RATIO = 2.3
"""The ratio that the work may reach for twice as many mutations."""


async def work_of(work: Awaitable[Any]) -> tuple[Any, int]:
    """The result of `work`, and how many instructions of Python it took, but for those of storage in memory."""
    count = 0

    def traced(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename.endswith("tests/support/metadata.py"):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return traced

    sys.settrace(traced)
    try:
        result = await work
    finally:
        sys.settrace(None)
    return result, count


async def committed(live: LiveSpace, mutations: Sequence[Mutation]) -> tuple[Result, ...]:
    return (
        await live.committer.commit(
            Request(new_request_id(), b"f", "ann", "d", tuple(mutations), 100), ask=still_allowed
        )
    ).results


async def made(
    live: LiveSpace, count: int, *, parent: NodeId = ROOT, kind: NodeKind = NodeKind.DIRECTORY
) -> list[NodeId]:
    content = None if kind is NodeKind.DIRECTORY else EMPTY
    results = await committed(live, [CreateNode(parent, f"n{n:05}", kind, content) for n in range(count)])
    return [result.node.id for result in results if result.node]


async def creations(live: LiveSpace, count: int) -> list[Mutation]:
    return [CreateNode(ROOT, f"n{n}", NodeKind.DIRECTORY) for n in range(count)]


async def creations_of_what_is_not_stored(live: LiveSpace, count: int) -> list[Mutation]:
    digests = [Digest(hashlib.sha256(str(n).encode()).digest()) for n in range(count)]
    contents = [Content(one, 9, manifest=Manifest.of([BlockRef(one, 9, one, 0)])) for one in digests]
    return [CreateNode(ROOT, f"n{n}", NodeKind.FILE, content) for n, content in enumerate(contents)]


async def updates_of_one_file(live: LiveSpace, count: int) -> list[Mutation]:
    (file,) = await made(live, 1, kind=NodeKind.FILE)
    return [UpdateContent(file, version, EMPTY) for version in range(1, count + 1)]


async def discards_of_files(live: LiveSpace, count: int) -> list[Mutation]:
    return [DeleteNode(one, 1, discard=True) for one in await made(live, count, kind=NodeKind.FILE)]


async def discards_of_siblings(live: LiveSpace, count: int) -> list[Mutation]:
    return [DeleteNode(one, 0, discard=True) for one in await made(live, count)]


async def discards_of_a_tree(live: LiveSpace, count: int) -> list[Mutation]:
    (top,) = await made(live, 1)
    return [DeleteNode(one, 0, discard=True) for one in [*await made(live, count - 1, parent=top), top]]


async def deletions_of_a_full_directory_again_and_again(live: LiveSpace, count: int) -> list[Mutation]:
    (top,) = await made(live, 1)
    await made(live, count, parent=top)
    return [DeleteNode(top, 0, discard=True), RestoreNode(top)] * (count // 2)


async def restorations(live: LiveSpace, count: int) -> list[Mutation]:
    gone = await made(live, count)
    await committed(live, [DeleteNode(one, 0) for one in gone])
    return [RestoreNode(one) for one in gone]


async def moves(live: LiveSpace, count: int) -> list[Mutation]:
    one, other = await made(live, 2)
    inner = await made(live, count, parent=one)
    return [MoveNode(node, one, f"n{n:05}", other, f"n{n}") for n, node in enumerate(inner)]


async def moves_each_from_where_the_one_before_it_leads(live: LiveSpace, count: int) -> list[Mutation]:
    (node,) = await made(live, 1)
    names = ["n00000", *(f"m{n}" for n in range(count))]
    return [MoveNode(node, ROOT, names[n], ROOT, names[n + 1]) for n in range(count)]


async def no_pause() -> None:
    pass


def process_in(world: World) -> Process:
    """A process with memory for everything, whose storage answers at once."""
    process = Process(world, capacity=1_000_000)
    process.journal._pause = process.table._pause = no_pause
    return process


@asynccontextmanager
async def opened(process: Process) -> AsyncIterator[LiveSpace]:
    """The space, whose projection is finished at the end."""
    async with process.spaces.use(SPACE) as live:
        await live.view.validate()
        yield live
    await process.spaces.stop()


async def cost(
    plan: Callable[[LiveSpace, int], Awaitable[list[Mutation]]], count: int, *, cold: bool
) -> tuple[int, tuple[Result, ...]]:
    """Return the cost of a commit in a process that knows all of its space, or, if `cold`, nothing; and its results."""
    process = process_in(World(random.Random(1)))
    async with opened(process) as live:
        mutations = await plan(live, count)
    async with opened(process_in(process.world) if cold else process) as live:
        results, work = await work_of(committed(live, mutations))
    return work, results


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize(
    ("plan", "change"),
    [
        (creations, Change.CREATED),
        (creations_of_what_is_not_stored, None),
        (updates_of_one_file, Change.UPDATED),
        (discards_of_files, Change.DISCARDED),
        (discards_of_siblings, Change.DISCARDED),
        (discards_of_a_tree, Change.DISCARDED),
        (deletions_of_a_full_directory_again_and_again, Change.DELETED),
        (restorations, Change.RESTORED),
        (moves, Change.MOVED),
        (moves_each_from_where_the_one_before_it_leads, Change.MOVED),
    ],
    ids=lambda one: one.__name__ if callable(one) else "",
)
async def test_a_commit_costs_as_much_as_it_has_mutations(plan: Any, change: Change | None, cold: bool) -> None:
    half, _ = await cost(plan, MANY // 2, cold=cold)
    whole, results = await cost(plan, MANY, cold=cold)
    assert len(results) == MANY
    assert {one.change for one in results} - {Change.RESTORED} <= {change}
    not_sealed = {Verdict.OBJECT_MISSING, Verdict.OBJECT_NOT_SEALED}  # a few are looked for, see MAX_UNSEALED_LOOKUPS
    assert {one.verdict for one in results} == ({Verdict.ACCEPTED} if change else not_sealed)
    assert whole < RATIO * half


async def test_to_know_that_full_directories_are_not_empty_few_of_their_names_are_listed() -> None:
    world = World(random.Random(1))
    async with opened(process_in(world)) as live:
        full = await made(live, 20)
        for one in full:
            await made(live, 100, parent=one)
    process = process_in(world)
    list_names, listed = process.table.list_names, 0

    async def counted(*args: Any, **kwargs: Any) -> Rows:
        nonlocal listed
        rows = await list_names(*args, **kwargs)
        listed += len(rows.names)
        return rows

    process.table.list_names = counted  # type: ignore[method-assign]  # the process has made its table itself
    async with opened(process) as live:
        results = await committed(live, [DeleteNode(one, 0, discard=True) for one in full])
    assert [one.change for one in results] == [Change.DELETED] * 20
    assert listed <= 20 * 33, "of 2,000"


async def test_a_directory_from_which_everything_was_taken_is_empty_however_much_that_was() -> None:
    """Earlier, which has left tombstones, or by mutations of the same request, in either direction."""
    world = World(random.Random(1))
    async with opened(process_in(world)) as live:
        early, late, target, kept = await made(live, 4)
        before = await made(live, 200, parent=early)
        await committed(live, [DeleteNode(one, 0) for one in before])
        inner = await made(live, 200, parent=late)
        (left, moved) = await made(live, 2, parent=kept)
    async with opened(process_in(world)) as live:
        results = await committed(
            live,
            [
                *(MoveNode(one, late, f"n{n:05}", target, f"n{n:05}") for n, one in enumerate(inner)),
                MoveNode(moved, kept, "n00001", late, "back"),
                DeleteNode(early, 0, discard=True),
                DeleteNode(kept, 0, discard=True),
                DeleteNode(target, 0, discard=True),
                MoveNode(moved, late, "back", early, "x"),
                DeleteNode(late, 0, discard=True),
            ],
        )
        assert left
    assert [one.change for one in results[:201]] == [Change.MOVED] * 201
    assert [one.change for one in results[201:204]] == [Change.DISCARDED, Change.DELETED, Change.DELETED]
    assert results[204].verdict is Verdict.PARENT_NOT_FOUND
    assert results[205].change is Change.DELETED, "what was moved into it is still there"
