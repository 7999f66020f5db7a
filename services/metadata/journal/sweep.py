"""The sweeper finishes projections and announcements that another process left unfinished."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from runtime.logs import structlog
from runtime.rounds import rounds
from services.metadata import metrics
from services.metadata.journal.open_spaces import OpenSpaces
from services.metadata.ports import TreeTable

SPACES_AT_ONCE = 25

log = structlog.get_logger()


class Sweeper:
    """Looks for spaces whose dirty lease has expired, every `interval_seconds` with jitter, in every process."""

    def __init__(
        self, *, spaces: OpenSpaces, table: TreeTable, now_ms: Callable[[], int], interval_seconds: float
    ) -> None:
        self._spaces = spaces
        self._table = table
        self._now_ms = now_ms
        self._interval_seconds = interval_seconds

    def running(self) -> AbstractAsyncContextManager[None]:
        """Sweep periodically within the context."""
        return rounds(self.sweep, interval_seconds=self._interval_seconds)

    async def sweep(self) -> int:
        """Take over, once, all spaces whose dirty lease has expired; return the number of these spaces."""
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
