"""The steps after the append of an entry: announce it, write it to the table, and record the progress of both.

Each process projects every entry that the table lacks, whichever process appended it. This is safe without a leader,
because each item is written only over one with a lower sequence number. A dirty mark guarantees that some process
projects an entry: a process marks the space, with a lease, before it appends, and removes the mark when the entry is
projected and announced. `sweep` looks for marks whose lease has expired.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import islice

from runtime.logs import structlog
from runtime.network import charge_to
from runtime.pool import Share
from services.metadata import metrics
from services.metadata.entry import JournalEntry, fold
from services.metadata.journal.announce import events
from services.metadata.ports import Journal, Topic, TreeTable
from services.metadata.tree.view import SpaceView
from services.metadata.wire import entry_from_bytes
from syncline.model.errors import SynclineError
from syncline.rpc import traces

MAX_PASS_ENTRIES = 16
MAX_PASS_CHANGES = 2000
"""Number of changes at which no further entry is added to those that are projected together."""
QUIET_INTERVALS = 5
"""Number of intervals (of `coalesce_seconds`) without a commit after which waiting entries are projected. They are also
projected when MAX_PASS_ENTRIES of them wait. An item that changes often is then written once, and many commits in a row
do not compete with their own projection.
"""
MAX_PAUSE_SECONDS = 5.0
MAX_CAUSES = 32
"""Maximum number of commits to whose traces the trace of a projection is linked."""

log = structlog.get_logger()


def _at_once(entries: Iterable[JournalEntry]) -> list[JournalEntry]:
    """Return the first of `entries`, as many as are projected together."""
    some: list[JournalEntry] = []
    changes = 0
    for entry in islice(entries, MAX_PASS_ENTRIES):
        some.append(entry)
        changes += sum(len(commit.results) for commit in entry.commits)
        if changes >= MAX_PASS_CHANGES:
            break
    return some


class Projector:
    """Announces and projects the entries of one space in this process. While entries wait, one task does so, which is
    called a run.
    """

    def __init__(
        self,
        view: SpaceView,
        *,
        journal: Journal,
        table: TreeTable,
        topic: Topic,
        process: str,
        now_ms: Callable[[], int],
        coalesce_seconds: float,
        lease_ms: int,
    ) -> None:
        """- `view` is the view of the space.
        - `process` is the name under which this process sets dirty marks, each a lease of `lease_ms` milliseconds.
        - `now_ms` returns milliseconds since 1970.
        - `coalesce_seconds` is the time for which an announcement waits for further commits, in order to include them.
        """
        self._view = view
        self._journal = journal
        self._table = table
        self._topic = topic
        self._process = process
        self._now_ms = now_ms
        self._coalesce_seconds = coalesce_seconds
        self._lease_ms = lease_ms
        self._announced: int | None = None
        """The highest sequence number that has certainly been published; None until the present run has read it from
        the table.
        """
        self._lease_until_ms = 0
        self._lease_lock = asyncio.Lock()
        self._appending = 0
        self._causes: list[traces.Cause] = []
        """The first few commits that caused this run."""
        self._busy_since_ms = 0
        self._progress = asyncio.Event()
        self._hurried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """True if no run is in progress and this process has no dirty mark on the space."""
        return self._lease_until_ms == 0 and (self._task is None or self._task.done())

    @contextlib.asynccontextmanager
    async def dirty(self) -> AsyncIterator[None]:
        """Context manager for appending an entry: set a dirty mark for the space before, and start a run that projects
        the entry afterwards.
        """
        async with self._lease_lock:
            now = self._now_ms()
            if self._lease_until_ms - now < self._lease_ms // 2:
                await self._table.mark_dirty(self._view.space, self._process, now + self._lease_ms)
                self._lease_until_ms = now + self._lease_ms
            self._appending += 1
        try:
            yield
        finally:
            # The projection also starts after a failed append, because the entry may have been stored.
            self._appending -= 1
            if (cause := traces.current()) is not None and len(self._causes) < MAX_CAUSES:
                self._causes.append(cause)
            self.wake()

    def wake(self) -> None:
        """Start a run that announces and projects all entries, unless one is in progress."""
        if self._task is None or self._task.done():
            self._busy_since_ms = self._now_ms()
            self._task = asyncio.create_task(self._run(), name=f"project {self._view.space}")

    def waiting(self) -> int:
        """Return the number of entries that this process has not announced or not projected yet."""
        return 0 if self._task is None or self._task.done() else len(self._view.tail)

    def waiting_since_ms(self) -> float:
        """Return the time since which the oldest entry of those that `waiting` counts has been waiting, in milliseconds
        since 1970; infinity if none waits.
        """
        tail = list(self._view.tail)
        if not tail or not self.waiting():
            return math.inf
        # Entries of other processes may have been projected long ago; this run finds that out when it reads the table.
        return max(tail[0].commits[0].at_ms, self._busy_since_ms)

    async def caught_up_to(self, seq: int) -> None:
        """Wait until all entries up to sequence number `seq` are projected. While a caller waits here, the projector
        does not wait for a time without commits, as it otherwise does before it projects.
        """
        while self._view.floor < seq:
            self._hurried.set()
            self.wake()
            self._progress.clear()
            await self._progress.wait()

    async def drain(self) -> None:
        """Wait until all entries are announced and projected."""
        self._hurried.set()
        self.wake()
        assert self._task is not None
        await self._task

    async def stop(self) -> None:
        """Announce and project the waiting entries as far as possible, and end the run."""
        self._hurried.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        charge_to(Share.alone(self._view.space))  # entries of all callers are projected
        pause = self._coalesce_seconds
        while True:
            await self._linger(pause)
            try:
                with self._span():
                    await self._announce()
                    await self._until_quiet()
                    done = await self._project_next()
                if done:
                    self._hurried.clear()
                    self._announced = None
                    return
                pause = 0.0
            except Exception as error:
                # The entry is in the journal, so the table must receive it, however long that takes.
                pause = min(max(pause, 0.05) * 2, MAX_PAUSE_SECONDS)
                unexpected = not isinstance(error, SynclineError)
                metrics.POSTPONED.inc()
                log.warning("projection_postponed", space=self._view.space, pause_seconds=pause, exc_info=unexpected)
                await asyncio.sleep(pause)

    def _span(self) -> traces.Span:
        """Return a span in the trace of the first waiting commit, linked to the traces of the other waiting commits; if
        no commit is known, a span of the current trace.
        """
        (cause, *others), self._causes = self._causes or [None], []
        return traces.span("project", parent=cause, links=others)

    async def _linger(self, seconds: float) -> None:
        """Wait for `seconds`, or until a caller waits for the projection."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    async def _until_quiet(self) -> None:
        """Wait until no commit has come for QUIET_INTERVALS intervals; entries are announced in the meantime."""
        quiet = 0
        while quiet < QUIET_INTERVALS and not self._hurried.is_set():
            seq = self._view.seq
            if seq - self._view.floor >= MAX_PASS_ENTRIES:
                return
            await self._linger(self._coalesce_seconds)
            quiet = quiet + 1 if self._view.seq == seq else 0
            await self._announce()

    async def _project_next(self) -> bool:
        """Project the next entries. Return True when nothing is left and the dirty mark is removed, otherwise False."""
        view = self._view
        await view.validate()
        state = await self._table.state(view.space)
        entries = _at_once(entry for entry in view.tail if entry.seq > state.projected_seq)
        head = view.seq
        announced = await self._announce(state.announced_seq)
        if entries:
            await self._table.project(view.space, await fold(entries, account=view.space))
            metrics.PROJECTED.inc(len(entries))
        projected = entries[-1].seq if entries else max(state.projected_seq, view.floor)
        used_bytes = entries[-1].used_bytes if entries else state.used_bytes
        nodes = entries[-1].nodes if entries else state.nodes
        if projected == view.seq:
            nodes = view.known_node_count
        is_counted = nodes is not None and state.nodes is None
        async with self._lease_lock:
            done = not self._appending and view.seq == projected == head == announced
            unmark = {self._process: self._lease_until_ms} if done and self._lease_until_ms else {}
            if done:
                # Clear the lease before the mark is removed, so that the next append sets a new mark in any case.
                self._lease_until_ms = 0
            if entries or unmark or announced > state.announced_seq or is_counted:
                await self._table.save_progress(
                    view.space,
                    projected_seq=projected,
                    announced_seq=announced,
                    used_bytes=used_bytes,
                    nodes=nodes,
                    unmark=unmark,
                )
        view.raise_floor(projected)
        self._progress.set()
        return done

    async def _announce(self, by_others: int = 0) -> int:
        """Announce the entries that this process knows and that have not been announced. Return the sequence number of
        the last entry that is announced. `by_others` is the sequence number up to which other processes have announced
        entries.
        """
        if self._announced is None:
            by_others = by_others or (await self._table.state(self._view.space)).announced_seq
        announced, head = max(self._announced or 0, by_others), self._view.seq
        if announced < head:
            entries = await self._entries(announced, head)
            for event in events(self._view.space, entries, traceparent=traces.header()):
                await self._topic.publish(self._view.space, event)
                metrics.ANNOUNCED.inc()
            announced = head
        self._announced = announced
        return announced

    async def _entries(self, after: int, head: int) -> list[JournalEntry]:
        """Return the entries above `after` up to `head`, in order. They come from memory where possible."""
        if after >= head:
            return []
        entries = [entry for entry in self._view.tail if after < entry.seq <= head]
        first = entries[0].seq if entries else head + 1
        if first > after + 1:
            older = await self._journal.read(self._view.space, after, first - after - 1)
            entries[:0] = [await entry_from_bytes(seq, blob, account=self._view.space) for seq, blob in older]
        return entries
