"""Measures what is uploaded: bytes that are not sealed count against the quota of their space.

Devices put objects into S3 by themselves, and no service sees it. So spaces that auth has issued credentials to write
for are listed from time to time, by one process each, and again for as long as something unsealed lies there. A space
that nobody writes to costs nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from core.blocks import KIB
from core.errors import SynclineError
from core.identifiers import SpaceId
from runtime.logs import structlog
from services.metadata import metrics
from services.metadata.objects import Objects
from services.metadata.ports import Listed, Measure, MeasureTable, ObjectStorage, TreeTable

SPACES_AT_ONCE: Final = 25
"""Spaces that one round measures, one after the other."""
_LEASE_MS: Final = 600_000
"""How long a space that a process measures is left alone by the others; renewed while that lasts."""
LEAST_BYTES: Final = 64 * KIB
"""What an unsealed object counts for at least, since many small ones cost as much as few large ones."""
REST: Final = 20
"""A space is measured again after so many times what the last measure took, if that is longer than usual."""

log = structlog.get_logger()


class Writers(Protocol):
    """Who gets credentials to write."""

    async def written(self, page_token: str) -> tuple[Sequence[SpaceId], str]:
        """A page of the spaces that were written to of late, and the token of the next one, empty at the end."""

    async def set_uploads(self, space: SpaceId, measure: Measure, *, quota_bytes: int) -> None:
        """Tell what was measured; `refused` decides about credentials to write from now on."""


@dataclass(slots=True)
class _Sum:
    """What is known of a space while it is listed."""

    stored_bytes: int = 0
    unsealed_bytes: int = 0
    unsealed_objects: int = 0
    counted_bytes: int = 0
    """As unsealed_bytes, but each object counts for LEAST_BYTES at least."""


class Measuring:
    """Measures the spaces that are due, every `interval_seconds` with jitter, in every process."""

    def __init__(
        self,
        *,
        measures: MeasureTable,
        storage: ObjectStorage,
        objects: Objects,
        table: TreeTable,
        writers: Writers,
        quota_bytes: int,
        now_ms: Callable[[], int],
        interval_seconds: float,
    ) -> None:
        self._measures = measures
        self._storage = storage
        self._objects = objects
        self._table = table
        self._writers = writers
        self._quota_bytes = quota_bytes
        self._now_ms = now_ms
        self._interval_seconds = interval_seconds

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Measure from time to time."""
        task = asyncio.create_task(self._run(), name="measure")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_seconds * (0.5 + random.random()))  # noqa: S311 - not a secret
            try:
                await self.round()
            except Exception as error:
                log.warning("measuring_postponed", exc_info=not isinstance(error, SynclineError))

    async def round(self) -> int:
        """Measure the spaces that are due once; how many there were."""
        await self._schedule()
        unsealed = measured = 0
        for space, since_ms in await self._measures.due(self._now_ms(), SPACES_AT_ONCE):
            lease = await self._lease(space, since_ms)
            if lease is not None and (found := await self._measure(space, lease)) is not None:
                unsealed, measured = unsealed + found.unsealed_bytes, measured + 1
        metrics.UNSEALED_BYTES.set(unsealed)
        return measured

    async def _schedule(self) -> None:
        """Have the spaces measured that were written to of late."""
        page = ""
        while True:
            spaces, page = await self._writers.written(page)
            await self._measures.schedule(spaces, self._now_ms())
            if not page:
                return

    async def _lease(self, space: SpaceId, since_ms: int) -> int | None:
        """Until when no other process measures the space; None if another one does."""
        until_ms = self._now_ms() + _LEASE_MS
        return until_ms if await self._measures.claim(space, since_ms=since_ms, until_ms=until_ms) else None

    async def _measure(self, space: SpaceId, lease: int) -> Measure | None:
        """Measure, tell and keep; None if another process has taken over."""
        begun = time.monotonic()
        before = await self._measures.measure(space)
        found = await self._listed(space, lease)
        if found is None:
            return None
        used = (await self._table.state(space)).used_bytes
        # What is sealed and named by no version is in no quota either; hence the second sum.
        refused = max(found.counted_bytes and used + found.counted_bytes, found.stored_bytes) > self._quota_bytes
        took = time.monotonic() - begun
        now = self._now_ms()
        measure = Measure(
            unsealed_bytes=found.unsealed_bytes,
            unsealed_objects=found.unsealed_objects,
            stored_bytes=found.stored_bytes,
            refused=refused,
            at_ms=now,
            next_at_ms=now + int(1000 * max(self._interval_seconds, REST * took)),
        )
        # Whatever ends this process in between: what auth refuses is kept as refused until it is told otherwise.
        if refused:
            await self._measures.save(space, measure, again=True)
        if refused or before.refused:
            await self._writers.set_uploads(space, measure, quota_bytes=self._quota_bytes)
        if not refused:
            await self._measures.save(space, measure, again=measure.unsealed_objects > 0)
        metrics.MEASURED.inc()
        if refused != before.refused:
            log.info("uploads_refused" if refused else "uploads_allowed", space=space)
        return measure

    async def _listed(self, space: SpaceId, lease: int) -> _Sum | None:
        """List the space, and compare each page with what is sealed; None if another process has taken over."""
        found, after = _Sum(), ""
        while True:
            begun = time.monotonic()
            page = await self._storage.list(space, after=after)
            metrics.LISTED.inc(len(page.objects))
            unsealed = await self._unsealed(space, page.objects)
            found.stored_bytes += sum(one.size for one in page.objects)
            found.unsealed_bytes += sum(one.size for one in unsealed)
            found.counted_bytes += sum(max(one.size, LEAST_BYTES) for one in unsealed)
            found.unsealed_objects += len(unsealed)
            after = page.after
            if not after:
                return found
            if lease - self._now_ms() < _LEASE_MS / 2:
                renewed = await self._lease(space, lease)
                if renewed is None:
                    return None
                lease = renewed
            await asyncio.sleep(time.monotonic() - begun)  # others come first

    async def _unsealed(self, space: SpaceId, objects: Sequence[Listed]) -> list[Listed]:
        digests = {one.digest for one in objects if one.digest is not None}
        unknown = await self._objects.unsealed(space, digests)
        return [one for one in objects if one.digest is None or one.digest in unknown]
