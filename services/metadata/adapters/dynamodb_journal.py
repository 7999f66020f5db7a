"""The journal in the metadata table: one item per entry, which is written once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from aws.dynamodb import NEW, ConditionFailed, Table, attribute, bytes_of, text_of
from services.metadata.adapters.layout import entry_key, journal_pk, ordered
from services.metadata.ports import MAX_READ_BACK_BYTES, EntryTaken
from syncline.model.identifiers import SpaceId

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient


class DynamoJournal:
    """Implements Journal on the metadata table."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._items = Table(client, table, called="the metadata table")

    async def append(self, space: SpaceId, seq: int, blob: bytes) -> None:
        try:
            await self._items.put({**entry_key(space, seq), "entry": attribute(blob)}, NEW)
        except ConditionFailed as failed:
            taken = failed.found or {}  # the condition fails only if the item exists
            raise EntryTaken(bytes_of(taken, "entry")) from None

    async def read(self, space: SpaceId, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        if limit == 1:  # this read precedes every answer and usually finds nothing, so it has to be the cheapest read
            item = await self._items.get(entry_key(space, after + 1))
            return [(after + 1, bytes_of(item, "entry"))] if item else []
        query = self._items.query(
            limit,
            KeyConditionExpression="pk = :journal AND sk > :after",
            ExpressionAttributeValues={":journal": attribute(journal_pk(space)), ":after": attribute(ordered(after))},
        )
        return [(int(text_of(item, "sk")), bytes_of(item, "entry")) async for item in query]

    async def before(self, space: SpaceId, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        query = self._items.query(
            limit,
            KeyConditionExpression="pk = :journal AND sk < :before",
            ExpressionAttributeValues={":journal": attribute(journal_pk(space)), ":before": attribute(ordered(seq))},
            ScanIndexForward=False,
        )
        found: list[tuple[int, bytes]] = []
        size = 0
        async with aclosing(query) as items:
            async for item in items:
                found.append((int(text_of(item, "sk")), bytes_of(item, "entry")))
                size += len(found[-1][1])
                if size >= MAX_READ_BACK_BYTES:
                    break
        return found
