"""The journal of a space has a limit in bytes, and what makes or reads much of it counts for more than one call."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from services.metadata.journal.commit import CommitOutcome, Request
from services.metadata.ports import Sealed
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.blocks import MIN_MEAN_BLOCK_BYTES, BlockRef, Digest, Manifest
from syncline.model.identifiers import ROOT, SpaceId, new_request_id
from syncline.model.tree import Content, CreateNode, DeleteNode, MoveNode, Mutation, NodeKind
from syncline.model.verdicts import Verdict
from syncline.rpc.errors import error_from_rpc
from syncline.wire.tree import content_to_wire
from tests.services.metadata.simulation import SPACE, Process, World, run_virtually
from tests.services.metadata.support import UNPROJECTED_SECONDS, Service, creating, service
from tests.support.journal import small_entry
from tests.support.metadata import still_allowed

J, M = journal_pb2, metadata_pb2
MOST = 20_000


async def commit(process: Process, *mutations: Mutation) -> CommitOutcome:
    request = Request(new_request_id(), b"", "user", "device", mutations, 100)
    async with process.spaces.use(SPACE) as live:
        return await live.committer.commit(request, ask=still_allowed)


def test_a_space_is_full_when_its_journal_is_whatever_the_changes_are() -> None:
    """Renames back and forth, and directories that are made and deleted, take no bytes of content and no nodes."""

    async def main() -> None:
        world = World(random.Random(1))
        processes = [Process(world, max_journal_bytes=MOST) for _ in range(2)]
        node = (await commit(processes[0], CreateNode(ROOT, "a" * 200, NodeKind.DIRECTORY))).results[0].node
        assert node is not None
        names = ["a" * 200, "b" * 200]
        for number in range(1_000):
            outcome = await commit(processes[number % 2], MoveNode(node.id, ROOT, names[0], ROOT, names[1]))
            if outcome.results[0].verdict is not Verdict.ACCEPTED:
                break
            names.reverse()
        size = sum(map(len, world.journal.entries[SPACE]))
        assert MOST <= size < MOST + 1_000
        last = MoveNode(node.id, ROOT, names[0], ROOT, names[1])
        refused = (last, DeleteNode(node.id, 0), CreateNode(ROOT, "c", NodeKind.DIRECTORY))
        for process in (*processes, Process(world, max_journal_bytes=MOST)):  # a new one reads it from the journal
            outcome = await commit(process, *refused)
            assert {one.verdict for one in outcome.results} == {Verdict.QUOTA_EXCEEDED}
        larger = Process(world, max_journal_bytes=2 * MOST)
        assert (await commit(larger, last)).results[0].verdict is Verdict.ACCEPTED
        assert size <= sum(map(len, world.journal.entries[SPACE]))

    run_virtually(main())


def test_entries_say_how_large_the_journal_is_and_older_ones_do_not_count() -> None:
    async def main() -> None:
        world = World(random.Random(1))
        before = Process(world)
        await commit(before, CreateNode(ROOT, "a", NodeKind.DIRECTORY))
        await before.spaces.stop()
        entries = world.journal.entries[SPACE]
        old = journal_pb2.Entry.FromString(entries[0])
        assert abs(old.journal_bytes - len(entries[0])) <= 10
        old.ClearField("journal_bytes")
        entries[0] = old.SerializeToString()
        process = Process(world)
        for name in ("b", "c"):
            await commit(process, CreateNode(ROOT, name, NodeKind.DIRECTORY))
        said = [small_entry(seq, blob).journal_bytes for seq, blob in enumerate(entries, 1)]
        assert said[0] is None
        assert said[1:] == pytest.approx([len(entries[1]), len(entries[1]) + len(entries[2])], abs=20)

    run_virtually(main())


async def calls_until_refused(call: Callable[[], Awaitable[Any]], *, most: int = 30) -> int:
    """The number of calls that are admitted, of `most`."""
    for number in range(most):
        try:
            await call()
        except grpc.aio.AioRpcError as caught:
            error = error_from_rpc(caught)
            assert error is not None
            assert error.reason == "RATE_EXCEEDED"
            return number
    return most


def rated(*rates: str) -> Any:
    """A service with rates of one call in a hundred seconds, and thirty at once."""
    slow: dict[str, Any] = dict.fromkeys(rates, 0.01)
    return service(coalesce_seconds=UNPROJECTED_SECONDS, rate_burst_seconds=3_000, **slow)


def long_content(metadata: Service, space: SpaceId, blocks: int) -> Content:
    """A content of many blocks in one pack that is sealed."""
    pack, length = Digest(hashlib.sha256(b"%d" % blocks).digest()), MIN_MEAN_BLOCK_BYTES
    offsets = tuple(range(0, blocks * length, length))
    refs = [BlockRef(Digest(hashlib.sha256(b"%d" % at).digest()), length, pack, at) for at in offsets]
    sealed = Sealed(blocks * length, offsets, (length,) * blocks, b"".join(ref.digest for ref in refs))
    metadata.backend.objects.index[space, pack] = sealed
    return Content(pack, blocks * length, manifest=Manifest.of(refs))


async def test_a_move_of_a_node_with_a_long_manifest_costs_what_the_journal_keeps_of_it() -> None:
    async with rated("rate_commits") as metadata, metadata.caller() as editor:
        content = content_to_wire(long_content(metadata, editor.space, 1_000))
        create = M.CreateNode(parent=ROOT, name="a", kind=J.NODE_KIND_FILE, content=content)
        node = (await editor.commit(M.Mutation(create=create))).results[0].node
        names = ["a", "b"]

        async def move() -> None:
            moving = M.MoveNode(node=node.id, from_parent=ROOT, from_name=names[0], parent=ROOT, name=names[1])
            answer = await editor.commit(M.Mutation(move=moving))
            assert answer.results[0].verdict == J.VERDICT_ACCEPTED
            names.reverse()

        assert 0 < await calls_until_refused(move) <= 12


async def test_changes_of_small_things_cost_what_they_did() -> None:
    async with rated("rate_commits") as metadata, metadata.caller() as editor:
        made = iter(range(1_000_000))

        async def create() -> None:
            await editor.commit(*(creating(f"{next(made)}.txt") for _ in range(90)))

        assert await calls_until_refused(create) == 30


async def test_reading_a_little_of_a_large_entry_costs_what_is_read() -> None:
    async with rated("rate_reads", "rate_lists") as metadata, metadata.caller() as editor:
        request_id = new_request_id()
        await editor.commit(*(creating(f"{number}.txt") for number in range(2_000)), request_id=request_id)
        answer = M.GetAnswerRequest(space_id=editor.space, request_id=request_id)
        assert 0 < await calls_until_refused(lambda: editor.stub.GetAnswer(answer)) <= 5
        page = M.ListActivityRequest(space_id=editor.space, page_size=1)
        assert 0 < await calls_until_refused(lambda: editor.stub.ListActivity(page)) <= 5
