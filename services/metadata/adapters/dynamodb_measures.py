"""The last measurement of the objects of each space (their number and bytes), and the time of the next one, in the
metadata table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aws.dynamodb import ConditionFailed, Item, Table, all_done, attribute, flag_of, number_of
from services.metadata.adapters.layout import measure_key, space_of
from services.metadata.ports import Measure
from syncline.model.identifiers import SpaceId

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient


_TO_MEASURE: Final = {"S": "MEASURE"}


class DynamoMeasures:
    """Implements MeasureTable on the metadata table."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._items = Table(client, table, called="the metadata table")

    async def schedule(self, spaces: Collection[SpaceId], now_ms: int) -> None:
        items = await self._items.get_all(measure_key(space) for space in set(spaces))
        found = {space_of(item): item for item in items}
        await all_done(
            partial(self._schedule, space, max(now_ms, _measure(found.get(space)).next_at_ms))
            for space in set(spaces)
            if "dirty_pk" not in found.get(space, {})
        )

    async def _schedule(self, space: SpaceId, at_ms: int) -> None:
        with suppress(ConditionFailed):
            await self._items.update(
                measure_key(space),
                update="SET dirty_pk = :pk, dirty_until = :at",
                condition="attribute_not_exists(dirty_pk)",
                values={":pk": _TO_MEASURE, ":at": attribute(at_ms)},
            )

    async def due(self, now_ms: int, limit: int) -> Sequence[tuple[SpaceId, int]]:
        query = self._items.query(
            limit,
            consistent=False,
            IndexName="dirty",
            KeyConditionExpression="dirty_pk = :pk AND dirty_until <= :now",
            ExpressionAttributeValues={":pk": _TO_MEASURE, ":now": attribute(now_ms)},
        )
        return [(space_of(item), number_of(item, "dirty_until")) async for item in query]

    async def claim(self, space: SpaceId, *, since_ms: int, until_ms: int) -> bool:
        try:
            await self._items.update(
                measure_key(space),
                update="SET dirty_until = :until",
                condition="dirty_until = :since",
                values={":until": attribute(until_ms), ":since": attribute(since_ms)},
            )
        except ConditionFailed:
            return False
        return True

    async def save(self, space: SpaceId, measure: Measure, *, lease_ms: int, due_ms: int | None) -> bool:
        scheduled = {} if due_ms is None else {"dirty_pk": _TO_MEASURE, "dirty_until": attribute(due_ms)}
        item = {**_measure_item(space, measure), **scheduled}
        try:
            await self._items.put(item, "dirty_until = :lease", {":lease": attribute(lease_ms)})
        except ConditionFailed:
            return False
        return True

    async def measure(self, space: SpaceId) -> Measure:
        return _measure(await self._items.get(measure_key(space)))


def _measure_item(space: SpaceId, measure: Measure) -> Item:
    return {
        **measure_key(space),
        "unsealed_bytes": attribute(measure.unsealed_bytes),
        "unsealed_objects": attribute(measure.unsealed_objects),
        "stored_bytes": attribute(measure.stored_bytes),
        "refused": attribute(measure.refused),
        "since": attribute(measure.since_ms),
        "at": attribute(measure.at_ms),
        "next_at": attribute(measure.next_at_ms),
    }


def _measure(item: Mapping[str, Any] | None) -> Measure:
    if item is None or "at" not in item:  # first measure of this space
        return Measure()
    return Measure(
        number_of(item, "unsealed_bytes"),
        number_of(item, "unsealed_objects"),
        number_of(item, "stored_bytes"),
        flag_of(item, "refused"),
        number_of(item, "since"),
        number_of(item, "at"),
        number_of(item, "next_at"),
    )
