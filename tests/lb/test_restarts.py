"""Fifty people at work while every process of the system is restarted: nobody notices, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from itertools import zip_longest
from pathlib import Path

import pytest

from services.metadata.adapters.dynamodb_journal import DynamoJournal
from services.metadata.entry import JournalEntry
from services.metadata.wire import entry_from_bytes
from stack.up import Stack
from syncline.model.identifiers import SpaceId
from tests.lb.conftest import BalancedStack
from tests.lb.load import Load, people

SERVICES = ("auth", "metadata", "notify", "gateway")


async def journal_of(stack: Stack, space: SpaceId) -> list[JournalEntry]:
    async with stack.aws.client("dynamodb") as dynamodb:
        journal = DynamoJournal(dynamodb, table=stack.resources.metadata_table_name)
        return [await entry_from_bytes(seq, blob, account=space) for seq, blob in await journal.read(space, 0, 1 << 30)]


async def every_commit_is_there_once(stack: Stack, load: Load) -> None:
    """Each acknowledged commit is in the journal once, with the sequence it was told; and nothing that nobody asked."""
    written: Counter[tuple[str, bytes, int]] = Counter()
    for space in load.spaces:
        entries = await journal_of(stack, space)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        written.update((space, commit.request, entry.seq) for entry in entries for commit in entry.commits)
        created = Counter(result.node.name for entry in entries for result in entry.accepted() if result.node)
        assert created
        assert max(created.values()) == 1
    acknowledged = {(one.space, one.request, one.seq) for one in load.notes.acknowledged}
    assert not acknowledged - written.keys(), "acknowledged and lost"
    assert max(written.values()) == 1, "written twice"
    unasked = {request for _, request, _ in written} - load.notes.attempted
    assert not unasked
    # The failed writes are those that were not acknowledged: none, if nothing failed.
    assert len(written) - len(acknowledged) <= sum(
        text.startswith(("commit", "upload")) for text in load.notes.failures
    )


def rounds(system: BalancedStack, *, one_by_one: bool) -> list[list[str]]:
    """Return the groups of processes to end together: one at a time, or, to be quicker, one of each service."""
    if one_by_one:
        return [[name] for name in system.balanced.names]
    by_service = [system.balanced.instances(service) for service in SERVICES]
    return [[name for name in together if name] for together in zip_longest(*by_service)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["rolling-restart", "kill-9"])
def test_every_process_restarts_under_load(
    system: BalancedStack, seconds: float | None, tmp_path: Path, number: signal.Signals
) -> None:
    system.settled()
    with people(system.stack.endpoint, tmp_path, seed=1) as load:
        began = time.monotonic()
        with load.running(seconds=seconds or 0.0):
            for names in rounds(system, one_by_one=seconds is not None):
                system.end(names, number)
                print(f"{time.monotonic() - began:.1f} s: {names}", load.notes.failures[:3])
        # Every process was restarted, so each watch lost its own, and found another.
        load.listening(connections=2)
        load.ring()
        notes = load.notes
        print(f"{time.monotonic() - began:.0f} s, {sum(notes.operations.values())} operations", dict(notes.operations))
        print(f"commits {len(notes.acknowledged)}, again {notes.downloads_begun_again}, slowest {notes.slowest}")
        assert not notes.failures
        assert notes.operations.keys() >= {"commit", "upload", "download", "check", "pull"}
        asyncio.run(every_commit_is_there_once(system.stack, load))
        if number is signal.SIGTERM:
            assert notes.downloads_begun_again == 0


@pytest.mark.timeout(900)
def test_a_process_that_hangs_is_left_and_does_no_harm_when_it_goes_on(system: BalancedStack, tmp_path: Path) -> None:
    """Calls to the process are repeated elsewhere when it answers no pings; later it finishes what it had begun."""
    system.settled()
    name = system.balanced.instances("metadata")[0]
    with people(system.stack.endpoint, tmp_path, seed=4, users=20) as load:
        with system.stopped(name) as stop, load.running(seconds=5):
            stop()
        # Another process has answered everybody who waited for the stopped one.
        print(f"{len(load.notes.acknowledged)} commits, slowest {load.notes.slowest}")
        assert not load.notes.failures
        system.settled()
        load.ring()
        asyncio.run(every_commit_is_there_once(system.stack, load))
