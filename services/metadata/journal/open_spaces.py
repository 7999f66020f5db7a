"""The spaces that this process keeps in memory, with a bound on their total size."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from services.metadata import metrics
from services.metadata.journal.commit import Committer
from services.metadata.journal.project import Projector
from services.metadata.ports import Journal, Topic, TreeTable
from services.metadata.reserving import Reserving, SpaceReservation
from services.metadata.sealing import Objects
from services.metadata.tree.depths import Depths
from services.metadata.tree.view import SpaceView
from syncline.model.identifiers import SpaceId


@dataclass(slots=True)
class LiveSpace:
    """A space that this process has in memory: its view, its committer and its projector, and what is reserved of
    quotas for it.
    """

    view: SpaceView
    committer: Committer
    projector: Projector
    reservation: SpaceReservation
    users: int = 0

    @property
    def idle(self) -> bool:
        return self.users == 0 and self.committer.idle and self.projector.idle


class OpenSpaces:
    """Opens spaces on demand, and drops the least recently used spaces when all spaces together hold more than
    `capacity` nodes and names.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        table: TreeTable,
        topic: Topic,
        objects: Objects,
        depths: Depths,
        process: str,
        reserving: Reserving,
        max_nodes: int,
        max_journal_bytes: int,
        now_ms: Callable[[], int],
        coalesce_seconds: float,
        lease_ms: int,
        capacity: int,
    ) -> None:
        """- `process` is the name under which this process sets dirty marks, each a lease of `lease_ms` milliseconds.
        - `reserving` reserves bytes of quotas for the spaces. `max_nodes` and `max_journal_bytes` are the limits of
          each space, with the same meaning as for `Committer`.
        - `now_ms` returns milliseconds since 1970.
        - `coalesce_seconds` is the time for which an announcement waits for further commits, in order to include them.
        """
        self._journal = journal
        self._table = table
        self._topic = topic
        self._objects = objects
        self._depths = depths
        self._process = process
        self._reserving = reserving
        self._max_nodes = max_nodes
        self._max_journal_bytes = max_journal_bytes
        self._now_ms = now_ms
        self._coalesce_seconds = coalesce_seconds
        self._lease_ms = lease_ms
        self._capacity = capacity
        self._live: OrderedDict[SpaceId, LiveSpace] = OrderedDict()

    @contextlib.asynccontextmanager
    async def use(self, space: SpaceId) -> AsyncIterator[LiveSpace]:
        """Context manager that yields a space, which stays in memory until the end of the context. Within the context,
        validate the view of the space before reading from the view.
        """
        live = self._live.get(space)
        metrics.VIEW_USES.labels("miss" if live is None else "hit").inc()
        if live is None:
            live = self._live[space] = self._open(space)
        self._live.move_to_end(space)
        live.users += 1
        try:
            yield live
        finally:
            live.users -= 1
            self._evict()

    def _open(self, space: SpaceId) -> LiveSpace:
        view = SpaceView(space, journal=self._journal, table=self._table, capacity=self._capacity)
        projector = Projector(
            view,
            journal=self._journal,
            table=self._table,
            topic=self._topic,
            process=self._process,
            now_ms=self._now_ms,
            coalesce_seconds=self._coalesce_seconds,
            lease_ms=self._lease_ms,
        )
        reservation = SpaceReservation(space, self._reserving)
        committer = Committer(
            view,
            journal=self._journal,
            objects=self._objects,
            projector=projector,
            depths=self._depths,
            reservation=reservation,
            max_nodes=self._max_nodes,
            max_journal_bytes=self._max_journal_bytes,
            now_ms=self._now_ms,
        )
        return LiveSpace(view, committer, projector, reservation)

    def _evict(self) -> None:
        size = sum(live.view.size for live in self._live.values())
        for space, live in list(self._live.items())[:-1]:
            if size <= self._capacity:
                return
            if live.idle:
                size -= live.view.size
                del self._live[space]

    # ---- for metrics, which another thread may ask for: it looks at copies

    def in_memory(self) -> int:
        """Return the number of spaces in memory."""
        return len(self._live)

    def size(self) -> int:
        """Return the number of nodes and names in memory."""
        return sum(live.view.size for live in list(self._live.values()))

    def waiting(self) -> int:
        """Return the number of entries, over all spaces, that this process has not announced or not projected yet."""
        return sum(live.projector.waiting() for live in list(self._live.values()))

    def oldest_waiting_seconds(self) -> float:
        """Return the seconds for which the oldest entry has been waiting to be announced or projected; 0 if none
        waits.
        """
        since = min((live.projector.waiting_since_ms() for live in list(self._live.values())), default=math.inf)
        return max(self._now_ms() - since, 0.0) / 1000

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Context manager that stops all spaces at its end."""
        try:
            yield
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Finish the commits in progress, then the projections. If a projection cannot be finished, its space keeps the
        dirty mark, by which another process finds the space and finishes the projection.
        """
        await asyncio.gather(*(live.committer.stop() for live in self._live.values()))
        await asyncio.gather(*(live.projector.stop() for live in self._live.values()))
