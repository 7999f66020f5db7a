"""Measures what is uploaded: bytes that are not sealed count against the quota of their space, and go after a week.

Devices put objects into S3 by themselves, and no service sees it. So spaces that auth has issued credentials to write
for are listed from time to time, by one process each, and again for as long as something unsealed lies there. A space
that nobody writes to costs nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from cachetools import TTLCache

from runtime.logs import structlog
from services.metadata import metrics
from services.metadata.objects import Objects
from services.metadata.ports import ListedObject, Measure, MeasureTable, ObjectIndex, ObjectStorage, TreeTable
from services.metadata.rounds import rounds
from syncline.model.identifiers import SpaceId
from syncline.model.limits import LEAST_UNSEALED_BYTES, STORED_QUOTAS

HANDS: Final = 4
"""Spaces that one process measures at the same time."""
SPACES_AT_ONCE: Final = 25
"""Spaces that one hand measures one after the other before it looks again which are due."""
DUE_AT_ONCE: Final = 4 * SPACES_AT_ONCE
"""Spaces of which one hand takes some by chance, since all hands of all processes look for the same ones."""
_LEASE_MS: Final = 600_000
"""Milliseconds for which the other processes leave a space alone that one process measures; renewed while that
lasts.
"""
_REMOVAL_MS: Final = 86_400_000
"""After which a removal is over, whatever became of its process: S3 refuses what was signed fifteen minutes before."""
_STALLED_MS: Final = 3_600_000
"""A removal that was recorded longer ago, by a process that was suspended since, is given up before its request."""
_LONGEST_GAP_MS: Final = 86_400_000
"""Maximum delay after a measure was due, in milliseconds, with which a table still counts as having measured the
space all the time.
"""
_REMEMBERED: Final = 1_000
_REMEMBERED_SECONDS: Final = 3_600
"""For a figure: what this process measured; another process may measure a space the next time."""
REST: Final = 20
"""A space is measured again after so many times what the last measure took, if that is longer than usual."""

log = structlog.get_logger()


class Writers(Protocol):
    """Source of the spaces for which credentials to write were issued."""

    async def written(self, page_token: str) -> tuple[Sequence[SpaceId], str]:
        """A page of the spaces that were written to of late, and the token of the next one, empty at the end."""

    async def set_uploads(self, space: SpaceId, measure: Measure, *, quota_bytes: int) -> None:
        """Tell what was measured; `refused` decides about credentials to write from now on.

        Of two measures counts the one with the later `at_ms`, whichever is told last.
        """


@dataclass(slots=True)
class _Sum:
    """The sums over a space while it is listed."""

    stored_bytes: int = 0
    unsealed_bytes: int = 0
    unsealed_objects: int = 0
    counted_bytes: int = 0
    """The sum as in `unsealed_bytes`, but with at least LEAST_UNSEALED_BYTES for each object."""
    lease_ms: int = 0
    """The time until which no other process measures the space, in milliseconds since 1970."""


class Measuring:
    """Measures the spaces that are due, in every process, and removes what was never sealed."""

    def __init__(
        self,
        *,
        measures: MeasureTable,
        storage: ObjectStorage,
        index: ObjectIndex,
        objects: Objects,
        table: TreeTable,
        writers: Writers,
        quota_bytes: int,
        now_ms: Callable[[], int],
        interval_seconds: float,
        keep_days: float,
    ) -> None:
        """Each space is measured every `interval_seconds` at most; `keep_days` is when what is unsealed is removed."""
        self._measures = measures
        self._storage = storage
        self._index = index
        self._objects = objects
        self._table = table
        self._writers = writers
        self._quota_bytes = quota_bytes
        self._now_ms = now_ms
        self._interval_seconds = interval_seconds
        self._keep_ms = int(keep_days * 86_400_000)
        self._unsealed_bytes: TTLCache[SpaceId, int] = TTLCache(_REMEMBERED, _REMEMBERED_SECONDS)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Measure from time to time. A space that takes long keeps one of several hands busy, not all."""
        return rounds(self.schedule, *[self.measure] * HANDS, interval_seconds=self._interval_seconds)

    async def schedule(self) -> None:
        """Have the spaces measured that were written to of late."""
        metrics.UNSEALED_BYTES.set(sum(self._unsealed_bytes.values()))
        page = ""
        while True:
            spaces, page = await self._writers.written(page)
            await self._measures.schedule(spaces, self._now_ms())
            if not page:
                return

    async def measure(self) -> int:
        """Measure the spaces that are due, for as long as there are more than one hand takes; how many there were."""
        measured = 0
        while True:
            due = list(await self._measures.due(self._now_ms(), DUE_AT_ONCE))
            # A random choice makes processes seldom meet at one space.
            some = random.sample(due, min(len(due), SPACES_AT_ONCE))
            claimed = 0
            for space, since_ms in some:
                lease = await self._lease(space, since_ms)
                if lease is not None:
                    claimed += 1
                    measured += await self._measure(space, lease)
            if len(due) == len(some) or not claimed:
                return measured

    async def _lease(self, space: SpaceId, since_ms: int) -> int | None:
        """Return the time until which no other process measures the space, in ms since 1970; None if another one
        measures it.
        """
        until_ms = self._now_ms() + _LEASE_MS
        return until_ms if await self._measures.claim(space, since_ms=since_ms, until_ms=until_ms) else None

    async def _measure(self, space: SpaceId, lease: int) -> bool:
        """Measure, tell and keep; False if another process has taken over."""
        begun = time.monotonic()
        before = await self._measures.measure(space)
        since_ms = self._watched_since_ms(before)
        found = await self._listed(space, lease, remove_before_ms=self._remove_before_ms(since_ms))
        if found is None:
            return False
        used = (await self._table.state(space)).used_bytes
        with_versions = used + found.counted_bytes if found.counted_bytes else 0
        # Sealed objects that no version names are in neither sum; hence the limit of all objects.
        too_much_stored = found.stored_bytes > STORED_QUOTAS * self._quota_bytes
        refused = with_versions > self._quota_bytes or too_much_stored
        took = time.monotonic() - begun
        now = max(self._now_ms(), before.at_ms + 1)  # No clock may make a measure older than the one before it.
        measure = Measure(
            unsealed_bytes=found.unsealed_bytes,
            unsealed_objects=found.unsealed_objects,
            stored_bytes=found.stored_bytes,
            refused=refused,
            since_ms=since_ms,
            at_ms=now,
            next_at_ms=now + int(1000 * max(self._interval_seconds, REST * took)),
        )
        if not await self._tell(space, found.lease_ms, before, measure):
            return False
        metrics.MEASURED.inc()
        if refused != before.refused:
            log.info("uploads_refused" if refused else "uploads_allowed", space=space)
        self._unsealed_bytes[space] = found.unsealed_bytes
        return True

    async def _tell(self, space: SpaceId, lease: int, before: Measure, measure: Measure) -> bool:
        """Tell auth and keep the measure, as far as no other process has taken over; False if one has.

        The space is kept as refused before auth is told, and as it is afterwards. So whatever ends this process in
        between, the next measure knows that auth may refuse, and has a later time: auth goes by that one, also if it
        hears of this one only afterwards.
        """
        if measure.refused or before.refused:
            renewed = self._now_ms() + _LEASE_MS
            refused = replace(measure, refused=True)
            if not await self._measures.save(space, refused, lease_ms=lease, due_ms=renewed):
                return False
            await self._writers.set_uploads(space, measure, quota_bytes=self._quota_bytes)
            lease = renewed
        due_ms = measure.next_at_ms if measure.refused or measure.unsealed_objects else None
        return await self._measures.save(space, measure, lease_ms=lease, due_ms=due_ms)

    def _watched_since_ms(self, before: Measure) -> int:
        """Return since when this table has measured the space without a gap: now if its last measure is long overdue.

        A table from a backup has such a gap, and does not know what was sealed in it.
        """
        now_ms = self._now_ms()
        is_watched = before.since_ms and now_ms <= before.next_at_ms + _LONGEST_GAP_MS
        return before.since_ms if is_watched else now_ms

    def _remove_before_ms(self, since_ms: int) -> int:
        """Return the time before which an object must have been put to be removed if it is not sealed; 0 for none.

        A table removes nothing until it has measured the space for as long as unsealed objects are kept. Otherwise a
        table that does not belong to the bucket would remove sealed objects.
        """
        before_ms = self._now_ms() - self._keep_ms
        return before_ms if since_ms < before_ms else 0

    async def _listed(self, space: SpaceId, lease: int, *, remove_before_ms: int) -> _Sum | None:
        """List the space, and compare each page with what is sealed; None if another process has taken over.

        What was put before that time and is not sealed is removed.
        """
        found, after = _Sum(lease_ms=lease), ""
        while True:
            begun = time.monotonic()
            page = await self._storage.list(space, after=after)
            metrics.LISTED.inc(len(page.objects))
            unsealed = await self._unsealed(space, page.objects)
            for one in unsealed:
                if one.modified_at_ms < remove_before_ms:
                    if not await self._keeps_lease(space, found):
                        return None
                    await _to_its_end(self._remove(space, one))
            found.stored_bytes += sum(one.size for one in page.objects)
            found.unsealed_bytes += sum(one.size for one in unsealed)
            found.counted_bytes += sum(max(one.size, LEAST_UNSEALED_BYTES) for one in unsealed)
            found.unsealed_objects += len(unsealed)
            after = page.after
            if not after:
                return found
            if not await self._keeps_lease(space, found):
                return None
            await asyncio.sleep(time.monotonic() - begun)  # others come first

    async def _keeps_lease(self, space: SpaceId, found: _Sum) -> bool:
        """Renew the lease if half of it is over; False if another process has taken over."""
        if found.lease_ms - self._now_ms() < _LEASE_MS / 2:
            renewed = await self._lease(space, found.lease_ms)
            if renewed is None:
                return False
            found.lease_ms = renewed
        return True

    async def _unsealed(self, space: SpaceId, objects: Sequence[ListedObject]) -> list[ListedObject]:
        digests = {one.digest for one in objects if one.digest is not None}
        unknown = await self._objects.unsealed(space, digests)
        return [one for one in objects if one.digest is None or one.digest in unknown]

    async def _remove(self, space: SpaceId, one: ListedObject) -> None:
        """Remove an object, unless it is sealed by now. See ObjectIndex for what sealing does meanwhile.

        The removal is over when storage has answered the only request for it. Where that is not known, it counts as
        under way for a day, and the object cannot be sealed until then. What has another name than a digest can never
        be sealed, so nothing is recorded of its removal.
        """
        if one.digest is None:
            deletion = await self._storage.remove_once(space, one.name, etag=one.etag)
        else:
            now_ms = self._now_ms()
            number = await self._index.begin_removal(space, one.digest, now_ms=now_ms, until_ms=now_ms + _REMOVAL_MS)
            if number is None:
                return
            if self._now_ms() - now_ms > _STALLED_MS:  # a request sent now might be under way when the day is over
                await self._index.end_removal(space, one.digest, number)
                return
            deletion = await self._storage.remove_once(space, one.name, etag=one.etag)
            if deletion.is_over:
                await self._index.end_removal(space, one.digest, number)
        if deletion.removed:
            metrics.DISCARDED.inc()


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work that is not to be broken off."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
