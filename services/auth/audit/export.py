"""Export of the audit log to an archive that the system can only add to, such as a bucket with Object Lock.

Each hour with events becomes one object, or several numbered ones, of JSON lines with the oldest event first. An hour
is exported some time after its end, when no event of it can be appended any more. The content and the keys of its
objects follow from its events alone. So an export that was interrupted, or that two processes carry out at the same
time, writes the same objects again, and an object that exists stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final

from runtime.logs import structlog
from runtime.periodic_work import run_periodically
from services.auth.audit.events import AuditEvent, event_to_json
from services.auth.audit.ports import AuditArchive, AuditStore
from services.auth.records import HOUR_MS, SECOND_MS, Clock

log = structlog.get_logger()

EXPORT_SECONDS: Final = 300.0
"""Mean number of seconds between two searches of one process for hours that are not exported."""
SETTLED_SECONDS: Final = 15 * 60
"""Seconds after the end of an hour after which the hour is exported. An event is appended at most a few seconds
after its time, and the clocks of two machines differ by less than a second.
"""
MAX_OBJECT_EVENTS: Final = 2_000
"""Maximum number of events of one object of the export."""


class AuditExport:
    """Exports the hours of the log, one after the other."""

    def __init__(self, store: AuditStore, archive: AuditArchive, *, clock: Clock) -> None:
        self._store = store
        self._archive = archive
        self._clock = clock

    def running(self) -> AbstractAsyncContextManager[None]:
        """Context manager within which `export` runs about every EXPORT_SECONDS."""
        return run_periodically(self.export, interval_seconds=EXPORT_SECONDS)

    async def export(self) -> int:
        """Export all hours that ended SETTLED_SECONDS ago and are not exported; return their number. Raise Unavailable
        if the log or the archive does not answer: a later call continues with the hour that was not completed.
        """
        exported = 0
        while (hour := await self._next_hour()) is not None:
            events = await self._export(hour)
            await self._store.note_exported(hour)
            log.info("audit exported", hour=hour, events=events)
            exported += 1
        return exported

    async def _next_hour(self) -> int | None:
        """Return the oldest hour with events that is to be exported now, counted since 1970; None if there is none."""
        last = await self._store.exported_hour()
        first_ms = await self._store.first_since(0 if last is None else (last + 1) * HOUR_MS)
        if first_ms is None:
            return None
        hour = first_ms // HOUR_MS
        return hour if (hour + 1) * HOUR_MS + SETTLED_SECONDS * SECOND_MS <= self._clock() else None

    async def _export(self, hour: int) -> int:
        """Write the objects of an hour, and return the number of its events."""
        number = count = 0
        async for part in _parts(self._store.between(hour * HOUR_MS, (hour + 1) * HOUR_MS)):
            body = "".join(f"{event_to_json(event)}\n" for event in part)
            await self._archive.put(object_key_of_hour(hour, number), body.encode())
            number, count = number + 1, count + len(part)
        return count


def object_key_of_hour(hour: int, number: int) -> str:
    """Return the key of object `number`, from 0, of an hour since 1970: `audit/2026/11/30/19-0000.jsonl`."""
    at = time.gmtime(hour * HOUR_MS // SECOND_MS)
    return f"audit/{time.strftime('%Y/%m/%d/%H', at)}-{number:04}.jsonl"


async def _parts(events: AsyncIterator[AuditEvent]) -> AsyncIterator[list[AuditEvent]]:
    part: list[AuditEvent] = []
    async for event in events:
        part.append(event)
        if len(part) == MAX_OBJECT_EVENTS:
            yield part
            part = []
    if part:
        yield part
