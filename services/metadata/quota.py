"""Measurement of the objects of spaces in S3: unsealed bytes count against the quota of their space, and unsealed
objects are removed after a week.

Devices upload objects to S3 directly, without any service. Spaces for which auth has issued credentials to write are
therefore measured periodically, by listing their objects, each by one process, and again for as long as they have
unsealed objects. A space that nobody writes to costs nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Final, Protocol

from cachetools import TTLCache

from runtime.logs import structlog
from runtime.periodic_work import run_periodically
from services.metadata import metrics
from services.metadata.ports import ListedObject, Measure, MeasureTable, ObjectIndex, ObjectStorage, TreeTable
from services.metadata.removal import remove_unsealed
from services.metadata.reserving import Reserving
from services.metadata.sealing import Objects
from syncline.model.identifiers import SpaceId
from syncline.model.limits import MAX_STORED_QUOTAS, MIN_UNSEALED_BYTES

MEASURES_AT_ONCE: Final = 4
"""Number of workers, each of which measures one space at a time, in one process."""
SPACES_AT_ONCE: Final = 25
"""Number of spaces that a worker measures one after the other before it reads again which spaces are due."""
DUE_AT_ONCE: Final = 4 * SPACES_AT_ONCE
"""Number of due spaces that a worker reads at once. It chooses some of them at random, because the workers of all
processes read the same ones.
"""
_LEASE_MS: Final = 600_000
"""Milliseconds of the lease of a space, during which no other process measures the space; the measuring process renews
it until the measurement ends.
"""
_MAX_GAP_MS: Final = 86_400_000
"""Maximum delay of a measurement after it was due, in milliseconds. A longer delay counts as a gap: the table may lack
objects that were sealed in the meantime.
"""
_MAX_REMEMBERED_SPACES: Final = 1_000
_REMEMBERED_SECONDS: Final = 3_600
"""Seconds for which this process includes a measurement in its metrics; another process may measure the space the next
time.
"""
REST_FACTOR: Final = 20
"""Minimum pause between two measurements of a space, as a multiple of the duration of the last one."""

log = structlog.get_logger()


class Writers(Protocol):
    """Port to auth, which knows the spaces for which credentials to write were issued."""

    async def written(self, page_token: str) -> tuple[Sequence[SpaceId], str]:
        """Return a page of the spaces for which credentials to write were recently issued, and the token of the next
        page; the token is empty at the end.
        """

    async def set_uploads(self, space: SpaceId, measure: Measure, *, quota_bytes: int) -> None:
        """Report the result of a measurement to auth. `quota_bytes` is the quota of the space. If `measure.refused` is
        True, auth issues no credentials to write to the space from now on.

        Of two measurements, auth uses the one with the later `at_ms`, in whichever order they arrive.
        """


@dataclass(slots=True)
class _Sum:
    """The sums of a measurement so far, while the space is being listed."""

    stored_bytes: int = 0
    unsealed_bytes: int = 0
    unsealed_objects: int = 0
    counted_bytes: int = 0
    """The sum of unsealed bytes in which each object counts for at least MIN_UNSEALED_BYTES."""
    lease_ms: int = 0
    """The end of the lease during which no other process measures the space, in milliseconds since 1970."""


class Measuring:
    """Measures the spaces that are due, in every process, and removes objects that were never sealed."""

    def __init__(
        self,
        *,
        measures: MeasureTable,
        storage: ObjectStorage,
        index: ObjectIndex,
        objects: Objects,
        table: TreeTable,
        writers: Writers,
        reserving: Reserving,
        now_ms: Callable[[], int],
        interval_seconds: float,
        keep_days: float,
    ) -> None:
        """Each space is measured at most once in `interval_seconds` seconds, and unsealed objects are removed
        `keep_days` days after their upload. `reserving` tells the quotas of spaces, and `now_ms` returns milliseconds
        since 1970.
        """
        self._measures = measures
        self._storage = storage
        self._index = index
        self._objects = objects
        self._table = table
        self._writers = writers
        self._reserving = reserving
        self._now_ms = now_ms
        self._interval_seconds = interval_seconds
        self._keep_ms = int(keep_days * 86_400_000)
        self._unsealed_bytes: TTLCache[SpaceId, int] = TTLCache(_MAX_REMEMBERED_SPACES, _REMEMBERED_SECONDS)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Context manager within which spaces are measured periodically by MEASURES_AT_ONCE workers. A space that takes
        long occupies one worker only.
        """
        return run_periodically(
            self.schedule, *[self.measure] * MEASURES_AT_ONCE, interval_seconds=self._interval_seconds
        )

    async def schedule(self) -> None:
        """Schedule measurements of the spaces for which credentials to write were recently issued."""
        metrics.UNSEALED_BYTES.set(sum(self._unsealed_bytes.values()))
        page = ""
        while True:
            spaces, page = await self._writers.written(page)
            await self._measures.schedule(spaces, self._now_ms())
            if not page:
                return

    async def measure(self) -> int:
        """Measure spaces whose next measurement is due, one after the other, and return how many were measured.

        Up to SPACES_AT_ONCE spaces are chosen at random from those that are due, and measured, and so on again. The
        call ends after a choice that took in all spaces that were due, or of which other processes had all leases.
        """
        measured = 0
        while True:
            due = list(await self._measures.due(self._now_ms(), DUE_AT_ONCE))
            # A random choice makes it unlikely that two processes choose the same space.
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
        """Take the lease of a space whose measurement is scheduled for `since_ms`. Return its end, in milliseconds
        since 1970; None if another process has taken it.
        """
        until_ms = self._now_ms() + _LEASE_MS
        return until_ms if await self._measures.claim(space, since_ms=since_ms, until_ms=until_ms) else None

    async def _measure(self, space: SpaceId, lease: int) -> bool:
        """Measure a space, of which this process has the lease until `lease`, report the result to auth, and save it.
        Return False if another process has taken the lease over, otherwise True.
        """
        begun = time.monotonic()
        before = await self._measures.measure(space)
        since_ms = self._watched_since_ms(before)
        found = await self._listed(space, lease, remove_before_ms=self._remove_before_ms(since_ms))
        if found is None:
            return False
        used = (await self._table.state(space)).used_bytes
        quota = await self._reserving.reserve(space, used_bytes=used, wanted_bytes=0)
        with_versions = used + found.counted_bytes if found.counted_bytes else 0
        # Neither sum includes sealed objects that no version names; the limit on all objects bounds those.
        too_much_stored = found.stored_bytes > MAX_STORED_QUOTAS * quota.whole_quota_bytes
        refused = with_versions > quota.quota_bytes or too_much_stored
        took = time.monotonic() - begun
        # If the clock was set back, the new measure must still be later than the last one.
        now = max(self._now_ms(), before.at_ms + 1)
        measure = Measure(
            unsealed_bytes=found.unsealed_bytes,
            unsealed_objects=found.unsealed_objects,
            stored_bytes=found.stored_bytes,
            refused=refused,
            since_ms=since_ms,
            at_ms=now,
            next_at_ms=now + int(1000 * max(self._interval_seconds, REST_FACTOR * took)),
        )
        if not await self._tell(space, found.lease_ms, before, measure, quota_bytes=quota.quota_bytes):
            return False
        metrics.MEASURED.inc()
        if refused != before.refused:
            log.info("uploads_refused" if refused else "uploads_allowed", space=space)
        self._unsealed_bytes[space] = found.unsealed_bytes
        return True

    async def _tell(self, space: SpaceId, lease: int, before: Measure, measure: Measure, *, quota_bytes: int) -> bool:
        """Report `measure` and the quota of the space to auth, save the measurement, and return True. Return False if
        another process has taken over the lease, which ends at `lease`. `before` is the measurement that was saved
        last.

        First the table records that auth may refuse uploads to the space. Then the measurement is reported to auth, and
        last the measurement is saved. If this process stops in between, the next measurement finds that auth may be
        refusing uploads. The next measurement also has a later time, so that auth uses it even if this report arrives
        afterwards.
        """
        if measure.refused or before.refused:
            renewed = self._now_ms() + _LEASE_MS
            refused = replace(measure, refused=True)
            if not await self._measures.save(space, refused, lease_ms=lease, due_ms=renewed):
                return False
            await self._writers.set_uploads(space, measure, quota_bytes=quota_bytes)
            lease = renewed
        due_ms = measure.next_at_ms if measure.refused or measure.unsealed_objects else None
        return await self._measures.save(space, measure, lease_ms=lease, due_ms=due_ms)

    def _watched_since_ms(self, before: Measure) -> int:
        """Return the time since which this table has measured the space without a gap, in milliseconds since 1970. That
        is now if the last measurement `before` is long overdue.

        A table restored from a backup has such a gap, and does not know which objects were sealed in the meantime.
        """
        now_ms = self._now_ms()
        is_watched = before.since_ms and now_ms <= before.next_at_ms + _MAX_GAP_MS
        return before.since_ms if is_watched else now_ms

    def _remove_before_ms(self, since_ms: int) -> int:
        """Return the time, in milliseconds since 1970, before which an object must have been uploaded to be removed if
        it is not sealed; 0 if none may be removed. `since_ms` is the time since which the space is measured without a
        gap.

        A table removes nothing until it has measured the space for as long as unsealed objects are kept. Otherwise a
        table that does not belong to the bucket would remove sealed objects.
        """
        before_ms = self._now_ms() - self._keep_ms
        return before_ms if since_ms < before_ms else 0

    async def _listed(self, space: SpaceId, lease: int, *, remove_before_ms: int) -> _Sum | None:
        """List the objects of a space, compare each page with the index of sealed objects, and return the sums. Return
        None if another process has taken over the lease, which ends at `lease`.

        Unsealed objects that were uploaded before `remove_before_ms`, in milliseconds since 1970, are removed.
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
                    await self._remove(space, one)
            found.stored_bytes += sum(one.size for one in page.objects)
            found.unsealed_bytes += sum(one.size for one in unsealed)
            found.counted_bytes += sum(max(one.size, MIN_UNSEALED_BYTES) for one in unsealed)
            found.unsealed_objects += len(unsealed)
            after = page.after
            if not after:
                return found
            if not await self._keeps_lease(space, found):
                return None
            await asyncio.sleep(time.monotonic() - begun)  # leave the event loop to others

    async def _keeps_lease(self, space: SpaceId, found: _Sum) -> bool:
        """Renew the lease of a space if half of it has passed. Return False if another process has taken the lease
        over, otherwise True. `found` has the end of the lease, which is updated.
        """
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
        """Remove an object, unless it has been sealed. An object whose name is not a digest can never be sealed."""
        if one.digest is None:
            removed = (await self._storage.remove_once(space, one.name, etag=one.etag)).removed
        else:
            removed = await remove_unsealed(
                self._index, self._storage, space, one.digest, etag=one.etag, now_ms=self._now_ms
            )
        if removed:
            metrics.DISCARDED.inc()
