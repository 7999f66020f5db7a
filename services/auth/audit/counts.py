"""Counts of refused attempts, such as wrong passwords: many attempts become one event.

Strangers cause refusals at no cost, so a refusal neither writes to the table nor waits for it. A process counts
refusals in memory, by kind, reason and network, and appends the counts about once a minute and at its end. A process
that is killed loses the counts since its last append, and nothing else. The number of counts is bounded: refusals of
further networks are counted together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from runtime.logs import structlog
from runtime.network import current_network
from runtime.periodic_work import run_periodically
from services.auth.audit.events import (
    ANONYMOUS,
    MAX_DETAIL_CHARACTERS,
    MAX_SUBJECTS,
    AuditEvent,
    AuditKind,
    AuditResult,
    Subject,
    SubjectKind,
)
from services.auth.audit.ports import AuditStore
from services.auth.records import MINUTE_MS, Clock
from syncline.model.errors import SynclineError, Unavailable
from syncline.model.identifiers import new_text_id

log = structlog.get_logger()

FLUSH_SECONDS: Final = 60.0
"""Mean number of seconds between two appends of counts by one process."""
MAX_COUNTED_NETWORKS: Final = 500
"""Maximum number of counts that one process keeps, and appends at once. Refusals of further networks count for the
network `others`.
"""
OTHERS: Final = "others"
"""The network of refusals that are counted together."""
_APPENDED_AT_ONCE: Final = 25
STALE_MS: Final = 5 * MINUTE_MS
"""Milliseconds after which counts that could not be appended get a new time: the export of their hour does not wait for
them. Counts of which the failed attempt has written a part are then in the log twice.
"""


@dataclass(frozen=True, slots=True)
class _Attempts:
    """The key of a count: refusals of one kind, for one reason, from one network."""

    kind: AuditKind
    reason: str
    network: str


@dataclass(slots=True)
class _Count:
    first_ms: int
    last_ms: int
    count: int = 0
    subjects: dict[Subject, None] = field(default_factory=dict)
    """The first subjects, in the order of their first refusal; at most MAX_SUBJECTS."""

    def add(self, other: _Count) -> None:
        """Add the refusals of `other`, another count of the same key."""
        self.first_ms = min(self.first_ms, other.first_ms)
        self.last_ms = max(self.last_ms, other.last_ms)
        self.count += other.count
        for subject in other.subjects:
            if len(self.subjects) < MAX_SUBJECTS:
                self.subjects[subject] = None


class RefusalCounts:
    """Counts refusals, and appends the counts to the audit log. One instance serves all calls of a process."""

    def __init__(self, store: AuditStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._counts: dict[_Attempts, _Count] = {}
        self._unwritten: list[AuditEvent] = []
        """Counts that an append has taken over and not yet written."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Context manager within which counts are appended about every FLUSH_SECONDS, and once more at the end."""
        async with run_periodically(self.append_counts, interval_seconds=FLUSH_SECONDS):
            yield
        try:
            await self.append_counts()
        except Unavailable as error:
            log.warning("refusals not recorded", counts=len(self._counts), reason=str(error))

    @contextmanager
    def counting(
        self,
        kind: AuditKind,
        *reasons: type[SynclineError],
        user: str | None = None,
        address: str | None = None,
        link: str | None = None,
    ) -> Iterator[None]:
        """Context manager that counts an error of its body if the error is one of `reasons`, and raises it again.
        `user`, `address` and `link` are the subjects of the refusal.
        """
        try:
            yield
        except reasons as error:
            self.count(kind, error.reason, user=user, address=address, link=link)
            raise

    def count(
        self,
        kind: AuditKind,
        reason: str,
        *,
        user: str | None = None,
        address: str | None = None,
        link: str | None = None,
    ) -> None:
        """Count one refusal of the current call. `reason` is the reason of the error that the caller gets."""
        now = self._clock()
        given = {SubjectKind.USER: user, SubjectKind.ADDRESS: address, SubjectKind.LINK: link}
        subjects = {Subject(what, ident[:MAX_DETAIL_CHARACTERS]): None for what, ident in given.items() if ident}
        self._add(_Attempts(kind, reason, current_network()), _Count(now, now, 1, subjects))

    def _add(self, key: _Attempts, more: _Count) -> None:
        if key not in self._counts and len(self._counts) >= MAX_COUNTED_NETWORKS:
            key = _Attempts(key.kind, key.reason, OTHERS)
        found = self._counts.get(key)
        if found is None:
            self._counts[key] = more
        else:
            found.add(more)

    async def append_counts(self) -> None:
        """Append all counts to the log, and count anew from 0. Raise Unavailable if the log cannot be written: the next
        call then appends the counts, and has no effect if the failed call has appended them.
        """
        now = self._clock()
        if not self._unwritten:
            self._unwritten = [_event(key, count, at_ms=now) for key, count in self._counts.items()]
            self._counts.clear()
        elif now - self._unwritten[0].at_ms > STALE_MS:
            self._unwritten = [replace(event, ident=new_text_id(), at_ms=now) for event in self._unwritten]
        while self._unwritten:
            await self._store.append(self._unwritten[:_APPENDED_AT_ONCE])
            del self._unwritten[:_APPENDED_AT_ONCE]


def _event(key: _Attempts, count: _Count, *, at_ms: int) -> AuditEvent:
    return AuditEvent(
        new_text_id(),
        at_ms,
        key.kind.value,
        ANONYMOUS,
        tuple(count.subjects),
        key.network,
        result=AuditResult.REFUSED,
        count=count.count,
        details={"reason": key.reason, "first_at_ms": str(count.first_ms), "last_at_ms": str(count.last_ms)},
    )
