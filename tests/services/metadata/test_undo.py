"""A copy whose caller may not write any more is undone by metadata itself, and nothing else is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import grpc
import pytest
import structlog
from pydantic import SecretStr
from typing_extensions import override

from runtime.network import current_share
from runtime.network_tokens import NETWORK_KEY, NetworkTokens
from runtime.pool import Share, TooMuchAtOnce
from services.metadata.entry import replay
from services.metadata.journal.commit import AskAnew, CommitOutcome, Request
from services.metadata.undo import MAX_UNDO_SECONDS, UNDOS_AT_ONCE, CopyChanged, CopyUndos, undo_copy
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.accounts import Role
from syncline.model.errors import InvalidArgument, NoSuchRequest, PermissionDenied, RequestIdReused, Unavailable
from syncline.model.identifiers import ROOT, NodeId, RequestId, created_node_id, derived_request_id, new_request_id
from syncline.model.tree import Change, CreateNode, DeleteNode, MoveNode, Mutation, Node, NodeKind, RestoreNode
from syncline.model.verdicts import Verdict
from syncline.rpc.request_ids import request_id, take_request_id
from tests.services.metadata.simulation import SPACE, Process, World, run_virtually
from tests.services.metadata.support import GATEWAY_SECRET, Caller, Service, creating, reason_of, service
from tests.support.journal import small_entry
from tests.support.metadata import still_allowed

J, M = journal_pb2, metadata_pb2


def directory(name: str, parent: NodeId) -> CreateNode:
    return CreateNode(parent, name, NodeKind.DIRECTORY)


class Copy:
    """A copy by ben: a directory, two directories in it, and one in each of these."""

    def __init__(self) -> None:
        self.id = new_request_id()
        self.top = created_node_id(SPACE, self.id, 0)
        self.undo = new_request_id()
        first, second = (derived_request_id(self.id, number) for number in range(2))
        self.inner = [created_node_id(SPACE, first, index) for index in range(2)]
        self.commits: list[tuple[RequestId, tuple[Mutation, ...]]] = [
            (self.id, (directory("copy", ROOT),)),
            (first, tuple(directory(name, self.top) for name in "ab")),
            (second, tuple(directory("deep", parent) for parent in self.inner)),
        ]

    async def make(self, process: Process, commits: int = 3) -> None:
        for request, mutations in self.commits[:commits]:
            outcome = await commit(process, "ben", *mutations, request=request)
            assert {result.verdict for result in outcome.results} == {Verdict.ACCEPTED}

    async def undone(self, process: Process, *, device: str = "laptop", later_ms: int = 0) -> CommitOutcome:
        want = Request(self.undo, b"undo", "ben", device, (), 100)
        async with process.spaces.use(SPACE) as live:
            return await undo_copy(live, want, self.id, now_ms=process.world.clock_ms + later_ms, check=still_allowed)


async def commit(process: Process, user: str, *mutations: Mutation, request: RequestId | None = None) -> CommitOutcome:
    wanted = Request(request or new_request_id(), b"fingerprint", user, "laptop", mutations, 100)
    async with process.spaces.use(SPACE) as live:
        return await live.committer.commit(wanted, ask=still_allowed)


def state(world: World) -> dict[NodeId, Node]:
    return replay(small_entry(seq, blob) for seq, blob in enumerate(world.journal.entries[SPACE], 1))


def live_names(world: World) -> set[str]:
    """The paths of the live nodes, by the journal."""
    nodes = state(world)

    def path(node: Node) -> str | None:
        if node.deleted_at_ms:
            return None
        above = "" if node.parent == ROOT else path(nodes[node.parent])
        return None if above is None else f"{above}/{node.name}"

    return {found for node in nodes.values() if (found := path(node)) is not None}


WHOLE = {"/copy", "/copy/a", "/copy/b", "/copy/a/deep", "/copy/b/deep"}


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_a_copy_is_undone_after_whichever_of_its_commits(commits: int) -> None:
    async def main() -> None:
        process, copy = Process(World(random.Random(1))), Copy()
        await commit(process, "ann", directory("other", ROOT))
        await copy.make(process, commits)
        outcome = await copy.undone(process)
        assert [result.change for result in outcome.results] == [Change.DELETED]
        assert live_names(process.world) == {"/other"}
        assert await copy.undone(process) == outcome
        # A request of the copy that is still on its way comes too late.
        for request, mutations in copy.commits[commits:]:
            late = await commit(process, "ben", *mutations, request=request)
            assert Verdict.ACCEPTED not in {result.verdict for result in late.results}
        await process.spaces.stop()

    run_virtually(main())


def test_a_node_that_made_way_for_the_copy_is_back() -> None:
    async def main() -> None:
        process, copy = Process(World(random.Random(1))), Copy()
        before = await commit(process, "ann", directory("copy", ROOT))
        replaced = before.results[0].node
        assert replaced is not None
        copy.top = created_node_id(SPACE, copy.id, 1)
        await commit(process, "ben", DeleteNode(replaced.id, 0), directory("copy", ROOT), request=copy.id)
        await commit(process, "ben", directory("a", copy.top), request=derived_request_id(copy.id, 0))
        await copy.undone(process)
        assert live_names(process.world) == {"/copy"}
        assert not state(process.world)[replaced.id].deleted_at_ms
        await process.spaces.stop()

    run_virtually(main())


def changes_of_others(copy: Copy) -> dict[str, tuple[Mutation, ...]]:
    top, (one, _) = copy.top, copy.inner
    return {
        "a node at the top": (directory("mine", top),),
        "a node below": (directory("mine", one),),
        "a new name": (MoveNode(one, top, "a", top, "renamed"),),
        "a new name of the copy": (MoveNode(top, ROOT, "copy", ROOT, "renamed"),),
        "a node that is moved in": (
            directory("elsewhere", ROOT),
            MoveNode(NodeId(b""), ROOT, "elsewhere", top, "mine"),
        ),
    }


@pytest.mark.parametrize("what", list(changes_of_others(Copy())))
def test_a_copy_that_somebody_has_changed_stays_whole(what: str) -> None:
    async def main() -> None:
        process, copy = Process(World(random.Random(1))), Copy()
        await copy.make(process)
        await change(process, copy, what)
        before = live_names(process.world)
        with pytest.raises(CopyChanged):
            await copy.undone(process)
        assert live_names(process.world) == before
        await process.spaces.stop()

    run_virtually(main())


async def change(process: Process, copy: Copy, what: str) -> bool:
    """Make a change in the copy; return False if it is refused since the copy is in the trash."""
    accepted = True
    made: NodeId | None = None
    for planned in changes_of_others(copy)[what]:
        mutation = planned
        if isinstance(mutation, MoveNode) and not mutation.node:
            assert made is not None
            mutation = replace(mutation, node=made)
        (result,) = (await commit(process, "ann", mutation)).results
        accepted = result.verdict is Verdict.ACCEPTED
        made = result.node.id if result.node is not None else None
    return accepted


def test_a_change_in_the_very_entry_of_the_copy_is_a_change() -> None:
    async def main() -> None:
        process, copy = Process(World(random.Random(1))), Copy()
        await copy.make(process, 1)
        (first, mutations) = copy.commits[1]
        renamed = MoveNode(copy.inner[0], copy.top, "a", copy.top, "renamed")
        made, other = await asyncio.gather(
            commit(process, "ben", *mutations, request=first), commit(process, "ann", renamed)
        )
        assert made.seq == other.seq
        assert [result.verdict for result in other.results] == [Verdict.ACCEPTED]
        with pytest.raises(CopyChanged):
            await copy.undone(process)
        assert "/copy/renamed" in live_names(process.world)
        await process.spaces.stop()

    run_virtually(main())


async def copied_over(process: Process) -> tuple[Copy, NodeId, NodeId]:
    """Make a copy in the directory `above`, in the place of another directory; return it with the ids of both."""
    copy = Copy()
    (above,) = [one.node for one in (await commit(process, "ann", directory("above", ROOT))).results]
    assert above is not None
    (replaced,) = [one.node for one in (await commit(process, "ann", directory("copy", above.id))).results]
    assert replaced is not None
    copy.top = created_node_id(SPACE, copy.id, 1)
    await commit(process, "ben", DeleteNode(replaced.id, 0), directory("copy", above.id), request=copy.id)
    await commit(process, "ben", directory("a", copy.top), request=derived_request_id(copy.id, 0))
    return copy, above.id, replaced.id


def test_a_copy_is_undone_where_a_directory_above_it_was_moved_to() -> None:
    async def main() -> None:
        process = Process(World(random.Random(1)))
        copy, above, replaced = await copied_over(process)
        await commit(process, "ann", MoveNode(above, ROOT, "above", ROOT, "elsewhere"))
        await copy.undone(process)
        assert live_names(process.world) == {"/elsewhere", "/elsewhere/copy"}
        assert not state(process.world)[replaced].deleted_at_ms
        await process.spaces.stop()

    run_virtually(main())


def test_a_copy_that_is_in_the_trash_with_a_directory_above_it_is_not_said_to_be_undone() -> None:
    async def main() -> None:
        process = Process(World(random.Random(1)))
        copy, above, _ = await copied_over(process)
        await commit(process, "ann", DeleteNode(above, 0))
        with pytest.raises(CopyChanged):
            await copy.undone(process)
        await process.spaces.stop()

    run_virtually(main())


def test_a_node_that_somebody_has_restored_elsewhere_stays_there() -> None:
    async def main() -> None:
        process = Process(World(random.Random(1)))
        copy, _, replaced = await copied_over(process)
        await commit(process, "ann", RestoreNode(replaced, ROOT, "mine"))
        await copy.undone(process)
        assert live_names(process.world) == {"/above", "/mine"}
        await process.spaces.stop()

    run_virtually(main())


class CountedReads(Process):
    """A process that counts how often it reads and writes, and can stand still."""

    pauses = 0
    gate: asyncio.Event | None = None

    @override
    async def _pause(self) -> None:
        self.pauses += 1
        if self.gate is not None:
            await self.gate.wait()


def test_an_undo_goes_on_when_its_caller_is_gone_and_a_repetition_waits_for_it() -> None:
    async def main() -> None:
        world = World(random.Random(1))
        other, copy = Process(world), Copy()
        await copy.make(other)
        process = CountedReads(world)
        process.gate = asyncio.Event()
        undos = CopyUndos(process.spaces, now_ms=world.now_ms)
        want = Request(copy.undo, b"undo", "ben", "laptop", (), 100)

        async def call(user: str = "ben") -> CommitOutcome:
            wanted = replace(want, user=user)
            return await undos.undo(SPACE, wanted, copy.id, share=Share.alone(user), check=still_allowed)

        async with undos.running():
            first = asyncio.create_task(call())
            while not process.pauses:
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            again = asyncio.create_task(call())
            await asyncio.sleep(1)
            assert process.pauses == 1
            assert live_names(world) == WHOLE
            process.gate.set()
            outcome = await again
            assert [result.change for result in outcome.results] == [Change.DELETED]
            assert live_names(world) == set()
            with pytest.raises(RequestIdReused):
                await asyncio.gather(call(), call("ann"))
        for one in (process, other):
            await one.spaces.stop()

    run_virtually(main())


def test_an_undo_without_any_caller_left_is_completed() -> None:
    async def main() -> None:
        world = World(random.Random(1))
        process, copy = Process(world), Copy()
        await copy.make(process)
        undos = CopyUndos(process.spaces, now_ms=world.now_ms)
        want = Request(copy.undo, b"undo", "ben", "laptop", (), 100)
        async with undos.running():
            only = asyncio.create_task(undos.undo(SPACE, want, copy.id, share=Share.alone("ben"), check=still_allowed))
            await asyncio.sleep(0)
            only.cancel()
            await asyncio.gather(only, return_exceptions=True)
            while live_names(world):
                await asyncio.sleep(1)
        await process.spaces.stop()

    run_virtually(main())


def undo_at_a_gate(
    judge: Callable[[World, CopyUndos, Process, Callable[[AskAnew], asyncio.Task[CommitOutcome]]], Awaitable[None]],
) -> None:
    """Run `judge` with a copy whose undo stands still in its proof until the gate of the process is open. The last
    argument of `judge` begins the undo with a check of the right.
    """

    async def main() -> None:
        world = World(random.Random(1))
        other, copy = Process(world), Copy()
        await copy.make(other)
        process = CountedReads(world)
        process.gate = asyncio.Event()
        undos = CopyUndos(process.spaces, now_ms=world.now_ms)
        want = Request(copy.undo, b"undo", "ben", "laptop", (), 100)

        def begin(check: AskAnew) -> asyncio.Task[CommitOutcome]:
            return asyncio.create_task(undos.undo(SPACE, want, copy.id, share=Share("ben", "office"), check=check))

        await judge(world, undos, process, begin)
        process.gate.set()
        for one in (process, other):
            await one.spaces.stop()

    run_virtually(main())


def test_an_undo_whose_caller_loses_the_right_during_the_proof_changes_nothing() -> None:
    async def judge(
        world: World, undos: CopyUndos, process: Process, begin: Callable[[AskAnew], asyncio.Task[CommitOutcome]]
    ) -> None:
        assert isinstance(process, CountedReads)
        assert process.gate is not None
        allowed = True

        async def check() -> None:
            if not allowed:
                raise PermissionDenied

        async with undos.running():
            undoing = begin(check)
            while not process.pauses:
                await asyncio.sleep(0)
            allowed = False
            process.gate.set()
            with pytest.raises(PermissionDenied):
                await undoing
        assert live_names(world) == WHOLE

    undo_at_a_gate(judge)


def test_an_undo_that_the_end_of_its_process_ends_may_be_repeated() -> None:
    async def judge(
        world: World, undos: CopyUndos, process: Process, begin: Callable[[AskAnew], asyncio.Task[CommitOutcome]]
    ) -> None:
        assert isinstance(process, CountedReads)
        async with undos.running():
            undoing, given_up = begin(still_allowed), begin(still_allowed)
            while not process.pauses:
                await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await undoing
        assert given_up.cancelled()
        assert live_names(world) == WHOLE

    undo_at_a_gate(judge)


def test_an_undo_is_charged_to_its_caller_and_logs_the_request() -> None:
    async def judge(
        world: World, undos: CopyUndos, process: Process, begin: Callable[[AskAnew], asyncio.Task[CommitOutcome]]
    ) -> None:
        assert isinstance(process, CountedReads)
        assert process.gate is not None
        seen: list[tuple[Share, str | None, dict[str, object]]] = []

        async def check() -> None:
            seen.append((current_share(), request_id(), structlog.contextvars.get_contextvars()))

        take_request_id("r1")
        structlog.contextvars.bind_contextvars(user="ben")
        process.gate.set()
        async with undos.running():
            await begin(check)
        assert seen == [(Share("ben", "office"), "r1", {"user": "ben"})]
        assert live_names(world) == set()

    undo_at_a_gate(judge)


def test_an_undo_for_which_no_slot_is_free_is_not_logged_because_it_is_repeated() -> None:
    async def main() -> None:
        world = World(random.Random(1))
        process = CountedReads(world)
        process.gate = asyncio.Event()
        undos = CopyUndos(process.spaces, now_ms=world.now_ms)

        def begin() -> asyncio.Task[CommitOutcome]:
            want = Request(new_request_id(), b"undo", "ben", "laptop", (), 100)
            share = Share.alone("ben")
            return asyncio.create_task(undos.undo(SPACE, want, new_request_id(), share=share, check=still_allowed))

        with structlog.testing.capture_logs() as events:
            async with undos.running():
                begun = [begin() for _ in range(UNDOS_AT_ONCE)]
                done, _ = await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    with pytest.raises(TooMuchAtOnce):
                        await one
        await asyncio.gather(*begun, return_exceptions=True)
        assert "copy not undone" not in {event["event"] for event in events}
        process.gate.set()
        await process.spaces.stop()

    run_virtually(main())


def test_what_was_taken_out_of_the_copy_is_kept() -> None:
    async def main() -> None:
        process, copy = Process(World(random.Random(1))), Copy()
        await copy.make(process)
        await commit(process, "ann", MoveNode(copy.inner[0], copy.top, "a", ROOT, "kept"))
        await copy.undone(process)
        assert live_names(process.world) == {"/kept", "/kept/deep"}
        await process.spaces.stop()

    run_virtually(main())


class Interrupted(Process):
    """A process in which something happens at one of its reads and writes."""

    act: Callable[[], Awaitable[object]] | None = None
    pauses = 0

    @override
    async def _pause(self) -> None:
        self.pauses -= 1
        if self.pauses == 0 and self.act is not None:
            await self.act()


@pytest.mark.parametrize("what", list(changes_of_others(Copy())))
def test_no_change_at_any_moment_of_an_undo_is_lost(what: str) -> None:
    """Either the change is accepted and the whole copy stays, or the copy is in the trash and the change is refused."""

    async def once(pauses: int) -> bool:
        """Return True if the undo took as many reads and writes."""
        world = World(random.Random(1))
        # Neither process sleeps: virtual time stands still while the projector of the other one is busy.
        process, other, copy = Interrupted(world), Interrupted(world), Copy()
        await copy.make(process)
        accepted: bool | None = None

        async def act() -> None:
            nonlocal accepted
            accepted = await change(other, copy, what)

        process.act, process.pauses = act, pauses
        try:
            await copy.undone(process)
            undone = True
        except CopyChanged:
            undone = False
        process.pauses = 0
        assert accepted is None or undone is not accepted
        assert ("/copy/b/deep" in live_names(world) or "/renamed/b/deep" in live_names(world)) is not undone
        for one in (process, other):
            await one.spaces.stop()
        return accepted is not None

    async def main() -> None:
        pauses = 1
        while await once(pauses):
            pauses += 1
        assert pauses > 10

    run_virtually(main())


def test_at_whatever_write_a_process_is_killed_the_next_one_goes_on() -> None:
    async def once(pauses: int) -> bool:
        """Return True if the process was killed before the undo was complete."""
        world = World(random.Random(pauses))
        process, copy = Process(world), Copy()
        await copy.make(process)
        process.crash_after(pauses)
        undoing = asyncio.create_task(copy.undone(process))
        done, _ = await asyncio.wait([undoing], timeout=60)
        other = Process(world)
        outcome = await copy.undone(other)
        assert [result.change for result in outcome.results] == [Change.DELETED]
        assert live_names(world) == set()
        entries = [small_entry(seq, blob) for seq, blob in enumerate(world.journal.entries[SPACE], 1)]
        assert sum(one.request == copy.undo for entry in entries for one in entry.commits) == 1
        await other.spaces.stop()
        return not done

    async def main() -> None:
        pauses = 1
        while await once(pauses):
            pauses += 1
        assert pauses > 10

    run_virtually(main())


def test_nothing_but_a_new_copy_of_the_same_device_is_undone() -> None:
    async def main() -> None:
        process, copy = Process(World(random.Random(1))), Copy()
        with pytest.raises(NoSuchRequest):
            await copy.undone(process)
        await copy.make(process)
        with pytest.raises(PermissionDenied):
            await copy.undone(process, device="phone")
        with pytest.raises(PermissionDenied):
            await copy.undone(process, later_ms=MAX_UNDO_SECONDS * 1000 + 1)
        copy.id = new_request_id()
        await commit(process, "ben", directory("one", ROOT), directory("two", ROOT), request=copy.id)
        with pytest.raises(InvalidArgument):
            await copy.undone(process)
        assert live_names(process.world) == {*WHOLE, "/one", "/two"}
        await process.spaces.stop()

    run_virtually(main())


def by_gateway(secret: str = GATEWAY_SECRET) -> tuple[tuple[str, str], ...]:
    """The metadata of a call with a proof that it comes from the gateway, if the secret is the gateway's."""
    return ((NETWORK_KEY, NetworkTokens(secret).mint("192.0.2.1")),)


async def test_who_lost_the_right_to_write_has_a_copy_undone_by_the_gateway_and_nobody_else_has(
    editor: Caller, metadata: Service
) -> None:
    copy, undo = new_request_id(), new_request_id()
    made = (await editor.commit(creating("copy"), request_id=copy)).results[0].node
    await editor.commit(creating("a.txt", parent=made.id), request_id=derived_request_id(copy, 0))
    wanted = M.UndoCopyRequest(space_id=editor.space, request_id=undo, copy_request_id=copy)
    async with metadata.caller(space=editor.space) as other:
        assert await reason_of(other.stub.UndoCopy(wanted, metadata=by_gateway())) == "NO_SUCH_REQUEST"
    metadata.backend.auth.roles[editor.space, editor.user] = None
    assert await reason_of(editor.commit(M.Mutation(delete=M.DeleteNode(node=made.id)))) == "NO_SUCH_SPACE"
    # Without the proof of the gateway, the undo needs the right that any change needs.
    for proof in ((), by_gateway("a secret that is not the gateway's, but is as long")):
        assert await reason_of(editor.stub.UndoCopy(wanted, metadata=proof)) == "NO_SUCH_SPACE"
        metadata.backend.auth.roles[editor.space, editor.user] = Role.VIEWER
        assert await reason_of(editor.stub.UndoCopy(wanted, metadata=proof)) == "PERMISSION_DENIED"
        metadata.backend.auth.roles[editor.space, editor.user] = None
    answer = await editor.stub.UndoCopy(wanted, metadata=by_gateway())
    assert answer.seq == 3
    assert (await editor.stub.UndoCopy(wanted, metadata=by_gateway())).seq == 3
    async with metadata.caller(space=editor.space) as member:
        listed = await member.stub.ListNodes(M.ListNodesRequest(space_id=member.space, parent=ROOT))
        trash = await member.stub.ListTrash(M.ListTrashRequest(space_id=member.space))
    assert not listed.nodes
    assert [node.name for node in trash.nodes] == ["copy"]


async def test_a_rate_that_the_copy_has_exhausted_does_not_keep_the_gateway_from_undoing_it() -> None:
    async with service(rate_commits=0.1) as metadata, metadata.caller() as editor:
        copy = new_request_id()
        made = (await editor.commit(creating("copy"), request_id=copy)).results[0].node
        with suppress(grpc.aio.AioRpcError):
            for number in range(1000):
                await editor.commit(creating("a", parent=made.id), request_id=derived_request_id(copy, number))
        wanted = M.UndoCopyRequest(space_id=editor.space, request_id=new_request_id(), copy_request_id=copy)
        assert await reason_of(editor.stub.UndoCopy(wanted)) == "RATE_EXCEEDED"
        await editor.stub.UndoCopy(wanted, metadata=by_gateway())
        listed = await editor.stub.ListNodes(M.ListNodesRequest(space_id=editor.space, parent=ROOT))
        assert not listed.nodes


async def test_who_may_write_undoes_a_copy_without_the_gateway(editor: Caller) -> None:
    """A stack without a secret of the gateway undoes copies as long as their callers may write."""
    copy = new_request_id()
    old = (await editor.commit(creating("copy"))).results[0].node
    mutations = [M.Mutation(delete=M.DeleteNode(node=old.id)), creating("copy")]
    await editor.commit(*mutations, request_id=copy)
    wanted = M.UndoCopyRequest(space_id=editor.space, request_id=new_request_id(), copy_request_id=copy)
    assert (await editor.stub.UndoCopy(wanted)).seq == 3
    listed = await editor.stub.ListNodes(M.ListNodesRequest(space_id=editor.space, parent=ROOT))
    assert [node.id for node in listed.nodes] == [old.id]


@pytest.mark.parametrize("secret", ["", GATEWAY_SECRET], ids=["without", "with"])
async def test_a_start_without_the_secret_of_the_gateway_is_logged(secret: str) -> None:
    with structlog.testing.capture_logs() as events:
        async with service(gateway_secret=SecretStr(secret)):
            pass
    assert ("no gateway secret" in {event["event"] for event in events}) is (not secret)
