"""The sweeper projects and announces the entries of processes that have stopped before they did so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from runtime.logs import structlog
from runtime.periodic_work import run_periodically
from services.metadata import metrics
from services.metadata.journal.open_spaces import OpenSpaces
from services.metadata.ports import TreeTable

SPACES_AT_ONCE = 25

log = structlog.get_logger()


class Sweeper:
    """Looks for spaces with an expired dirty mark, on average every `interval_seconds` seconds, in every process. A
    dirty mark is the lease of a process that has appended entries which are not projected or announced yet.
    """

    def __init__(
        self, *, spaces: OpenSpaces, table: TreeTable, now_ms: Callable[[], int], interval_seconds: float
    ) -> None:
        """`now_ms` returns milliseconds since 1970."""
        self._spaces = spaces
        self._table = table
        self._now_ms = now_ms
        self._interval_seconds = interval_seconds

    def running(self) -> AbstractAsyncContextManager[None]:
        """Context manager within which `sweep` runs periodically."""
        return run_periodically(self.sweep, interval_seconds=self._interval_seconds)

    async def sweep(self) -> int:
        """Announce and project, once, the entries of all spaces with an expired dirty mark; return the number of these
        spaces.
        """
        stale = await self._table.stale(self._now_ms(), SPACES_AT_ONCE)
        for space in stale:
            async with self._spaces.use(space) as live:
                await live.projector.drain()
                state = await self._table.state(space)
                now = self._now_ms()
                await self._table.save_progress(
                    space,
                    projected_seq=state.projected_seq,
                    announced_seq=state.announced_seq,
                    used_bytes=state.used_bytes,
                    nodes=state.nodes,
                    unmark={process: until for process, until in state.marks.items() if until < now},
                )
                metrics.TAKEN_OVER.inc()
                log.info("space_taken_over", space=space, seq=state.projected_seq)
        return len(stale)
