"""Events that stand for all repetitions of an act within an hour, such as the issue of credentials, which a device asks
for again and again.
"""

from __future__ import annotations

from typing import Final

from cachetools import LRUCache

from services.auth.audit.events import AuditKind, audit_event
from services.auth.audit.ports import AuditStore
from services.auth.records import HOUR_MS, Clock

_MAX_REMEMBERED_ACTS: Final = 10_000


class HourlyEvents:
    """Appends the first of equal acts in each hour to the log. One instance serves all calls of a process."""

    def __init__(self, store: AuditStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._noted: LRUCache[str, int] = LRUCache(_MAX_REMEMBERED_ACTS)

    async def note(self, kind: AuditKind, *, device: str, space: str, access: str) -> None:
        """Append an act of the calling `device` in a space, unless an act of the same kind and access is in the log for
        this hour, whichever process has appended it. Raise Unavailable if the log cannot be written.
        """
        now = self._clock()
        hour = now // HOUR_MS
        act = f"{kind.value} {device} {space} {access}"
        if self._noted.get(act) == hour:
            return
        event = audit_event(kind, at_ms=now, space=space, access=access)
        await self._store.append_once(event, once=f"{act} {hour}")
        self._noted[act] = hour
