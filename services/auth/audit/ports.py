"""The ports of the audit log. Each docstring states the obligations of adapters; `tests/contract/auth` checks every
adapter against them.

All reads are consistent, and all methods raise Unavailable if the backend does not answer or throttles.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from services.auth.audit.events import AuditEvent
from services.auth.records import HOUR_MS

LAST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, since 1970: no event is later."""
ONCE_KEPT_MS: Final = 2 * HOUR_MS
"""Minimum number of milliseconds for which `AuditStore.append_once` stores no second event for the same text."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """The events that a reader asks for. An event matches if it matches all fields.

    - `since_ms` and `until_ms` are the first time and the time after the last one, in milliseconds since 1970.
    - `kind` is the kind of the event; empty for all kinds.
    - `actor` is the id of the user, device, service or link that acted; empty for all actors.
    - `subject` is the id or address of a subject; empty for all subjects.
    - `involving` has ids and addresses, one of which is that of the actor or of a subject; empty for all events.
    """

    since_ms: int = 0
    until_ms: int = LAST_MS
    kind: str = ""
    actor: str = ""
    subject: str = ""
    involving: tuple[str, ...] = ()

    def matches(self, event: AuditEvent) -> bool:
        """Return True if the event is asked for."""
        return (
            self.since_ms <= event.at_ms < self.until_ms
            and self.kind in {"", event.kind}
            and (not self.actor or self.actor in {event.actor.user, event.actor.device, event.actor.name})
            and (not self.subject or any(self.subject == subject.ident for subject in event.subjects))
            and (not self.involving or not event.parties.isdisjoint(self.involving))
        )


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A part of the log, newest event first. `before` is the place from which the next part continues; empty at the
    end. `read` is the number of events that were read, of which the filter may have left out some.
    """

    events: Sequence[AuditEvent]
    before: str
    read: int


class AuditStore(Protocol):
    """Store of events. Nothing changes or removes an event before its retention ends.

    The other stores of auth store the events of an act in the transaction of the act (their argument `events`); the
    methods here read these events as well.
    """

    async def append(self, events: Sequence[AuditEvent]) -> None:
        """Store events that belong to no transaction. If an error is raised, some of them may have been stored; the
        same call may be repeated, and stores each event once.
        """

    async def append_once(self, event: AuditEvent, *, once: str) -> bool:
        """Store an event and return True. Store nothing and return False if an event was stored with the same text
        `once` within ONCE_KEPT_MS.
        """

    async def page(self, wanted: AuditFilter, *, before: str, limit: int) -> AuditPage:
        """Return up to `limit` events that match, newest first: those whose place is less than `before`; an empty
        `before` begins with the newest. A page may have fewer events than match, even none, although there are more:
        the field `before` of the page is then not empty. The work of a call is bounded by `limit`, whatever the log
        holds.
        """

    def between(self, since_ms: int, until_ms: int) -> AsyncIterator[AuditEvent]:
        """Yield the events from `since_ms` until before `until_ms`, both in milliseconds since 1970, oldest first."""

    async def first_since(self, since_ms: int) -> int | None:
        """Return the time of the oldest event at or after `since_ms`, both in milliseconds since 1970; None if there is
        none.
        """

    async def exported_hour(self) -> int | None:
        """Return the last hour, counted since 1970, for which `note_exported` was called; None before the first."""

    async def note_exported(self, hour: int) -> None:
        """Record that all events of an hour, counted since 1970, are in the archive. Idempotent."""


class AuditArchive(Protocol):
    """Place outside of the system to which events are exported, each object once."""

    async def put(self, key: str, body: bytes) -> None:
        """Store an object. Do nothing if there is an object with this key: it was stored by an earlier attempt, with
        the same content.
        """
