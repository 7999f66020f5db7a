"""The audit log in DynamoDB. `audit_layout.py` describes the items."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aws.dynamodb import CONDITION_FAILED, NEW, RETRIES, Cancelled, Item, Table, all_done, attribute
from services.auth.adapters import audit_layout as layout
from services.auth.audit.events import AuditEvent, place_at
from services.auth.audit.ports import LAST_MS, ONCE_KEPT_MS, AuditFilter, AuditPage
from services.auth.records import DAY_MS, HOUR_MS
from syncline.model.errors import Unavailable

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

_MARGIN_EVENTS: Final = 8
"""Number of events that a page reads from each partition above the equal share of the partition."""


class DynamoAuditStore:
    """Implements AuditStore on the audit table, and gives the other stores the writes for their transactions.

    The role of auth may put and query items of the table, and neither change nor delete any.
    """

    def __init__(self, client: DynamoDBClient, *, table: str, days: int) -> None:
        """`table` is the name of the audit table, and `days` the number of days for which an event is kept."""
        self._table = Table(client, table, called="the audit log")
        self._kept_ms = days * DAY_MS

    def writes(self, events: Sequence[AuditEvent]) -> list[Item]:
        """Return the writes that store the events, as parts of a transaction (`Table.transact`)."""
        return [
            self._table.putting(item, NEW)
            for event in events
            for item in layout.event_items(event, kept_ms=self._kept_ms)
        ]

    async def append(self, events: Sequence[AuditEvent]) -> None:
        await all_done(partial(self._append, event) for event in events)

    async def _append(self, event: AuditEvent) -> None:
        try:
            await self._table.transact(*self.writes([event]))
        except Cancelled as cancelled:
            if CONDITION_FAILED not in cancelled.reasons:  # otherwise an earlier attempt has stored the event
                raise Unavailable("the same event is being recorded at this moment; try again") from None

    async def append_once(self, event: AuditEvent, *, once: str) -> bool:
        mark = self._table.putting(layout.once_item(once, until_ms=event.at_ms + ONCE_KEPT_MS), NEW)
        for pause in RETRIES.pauses():
            try:
                await self._table.transact(mark, *self.writes([event]))
            except Cancelled as cancelled:
                if cancelled.reasons[0] == CONDITION_FAILED:
                    return False
                await asyncio.sleep(pause)  # another process is recording the same act
            else:
                return True
        raise Unavailable("the same act is being recorded at this moment; try again")

    async def page(self, wanted: AuditFilter, *, before: str, limit: int) -> AuditPage:
        pks = _partitions(wanted)
        least, greatest = layout.place_bounds(wanted.since_ms, wanted.until_ms, before)
        if least >= greatest:
            return AuditPage([], "", 0)
        each = min(limit, -(-limit // len(pks)) + _MARGIN_EVENTS)
        parts = await asyncio.gather(*(self._newest(pk, least, greatest, each) for pk in pks))
        # Below the horizon, a partition has events that were not read.
        horizon = max((layout.place_of(items[-1]) for items in parts if len(items) == each), default="")
        found = {layout.place_of(item): item for items in parts for item in items}
        events: list[AuditEvent] = []
        last = horizon
        for place in sorted(found, reverse=True):
            if place < horizon:
                break
            if len(events) == limit:
                break
            event = layout.event_from_item(found[place])
            if wanted.matches(event):
                events.append(event)
            last = place
        is_complete = not horizon and last == min(found, default=last)
        return AuditPage(events, "" if is_complete else last, sum(map(len, parts)))

    async def _newest(self, pk: str, least: str, greatest: str, limit: int) -> list[Item]:
        """Return up to `limit` items of a partition between two sort keys, newest first."""
        return [item async for item in self._query(pk, least, greatest, limit, ScanIndexForward=False)]

    def _query(
        self, pk: str, least: str, greatest: str, limit: int | None = None, **more: Any
    ) -> AsyncGenerator[Item, None]:
        return self._table.query(
            limit,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :least AND :greatest",
            ExpressionAttributeValues={
                ":pk": attribute(pk),
                ":least": attribute(least),
                ":greatest": attribute(greatest),
            },
            **more,
        )

    async def between(self, since_ms: int, until_ms: int) -> AsyncIterator[AuditEvent]:
        queries = [self._query(pk, place_at(since_ms), place_at(until_ms)) for pk in layout.event_pks()]
        heads: list[tuple[str, int, Item]] = []
        try:
            for number, query in enumerate(queries):
                await _advance(query, number, heads)
            while heads:
                head = min(heads, key=lambda one: one[0])
                heads.remove(head)
                yield layout.event_from_item(head[2])
                await _advance(queries[head[1]], head[1], heads)
        finally:
            for query in queries:
                await query.aclose()

    async def first_since(self, since_ms: int) -> int | None:
        async def first(pk: str) -> int | None:
            async with aclosing(self._query(pk, place_at(since_ms), place_at(LAST_MS), 1)) as items:
                async for item in items:
                    return layout.event_from_item(item).at_ms
            return None

        found = await asyncio.gather(*map(first, layout.event_pks()))
        return min((at_ms for at_ms in found if at_ms is not None), default=None)

    async def exported_hour(self) -> int | None:
        query = self._table.query(
            1,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": attribute(layout.EXPORTED_PK)},
            ScanIndexForward=False,
        )
        async with aclosing(query) as items:
            async for item in items:
                return layout.exported_hour_of(item)
        return None

    async def note_exported(self, hour: int) -> None:
        # Kept longer than the events, which would otherwise be exported again.
        await self._table.put(layout.exported_item(hour, until_ms=(hour + 1) * HOUR_MS + self._kept_ms + DAY_MS))


def _partitions(wanted: AuditFilter) -> list[str]:
    """Return the keys of the partitions that hold all events that match, and as few others as possible."""
    party = wanted.actor or wanted.subject
    if party:
        return [layout.party_pk(party)]
    if wanted.involving:
        return [layout.party_pk(one) for one in wanted.involving]
    return layout.kind_pks(wanted.kind) if wanted.kind else layout.event_pks()


async def _advance(query: AsyncGenerator[Item, None], number: int, heads: list[tuple[str, int, Item]]) -> None:
    """Add the next item of the query `number`, with its place, to `heads`, unless the query is at its end."""
    item = await anext(query, None)
    if item is not None:
        heads.append((layout.place_of(item), number, item))
