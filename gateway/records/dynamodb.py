"""The gateway's table in DynamoDB.

| item | pk | sk | holds |
|---|---|---|---|
| RECORD | `S#{space}` | `{name}` | `data`, and the `tag` of the write that made it |

`expires_at` is in seconds since 1970: DynamoDB's time to live. An expired item may still exist for days.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from aws.dynamodb import NEW, ConditionFailed, Item, Table, attribute, bytes_of, key_of, text_of
from gateway.records.ports import MAX_READ_BYTES, MAX_RECORD_BYTES, Record, RecordMoved
from syncline.model.identifiers import SpaceId

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

_AS_READ: Final = "tag = :over"


class DynamoRecords:
    """Implements Records on the gateway's table."""

    def __init__(self, open_client: Callable[[], Awaitable[DynamoDBClient]], *, table: str) -> None:
        """`open_client` is called to open the client of DynamoDB at its first use, because the client takes more memory
        than all records.
        """
        self._open_client = open_client
        self._opened: asyncio.Task[Table] | None = None
        self._name = table

    async def read(self, space: SpaceId, names: Sequence[str]) -> Mapping[str, Record]:
        table = await self._table()
        if len(names) == 1:
            item = await table.get(_key(space, names[0]))
            return _records([item]) if item else {}
        return _records(await table.get_all(_key(space, name) for name in names))

    async def read_all(self, space: SpaceId, prefix: str) -> Mapping[str, Record] | None:
        """Return the records whose names begin with `prefix`, by their names. They are read with one query; None if
        they do not fit into one page of its answer.
        """
        table = await self._table()
        items, more = await table.first_page(
            KeyConditionExpression="pk = :space AND begins_with(sk, :prefix)",
            ExpressionAttributeValues={":space": attribute(f"S#{space}"), ":prefix": attribute(prefix)},
        )
        if more:
            return None
        found = _records(items)
        return found if sum(len(record.data) for record in found.values()) <= MAX_READ_BYTES else None

    async def write(
        self, space: SpaceId, name: str, data: bytes, *, over: Record, expires_at: float | None = None
    ) -> None:
        if len(data) > MAX_RECORD_BYTES:
            raise ValueError(f"a record has at most {MAX_RECORD_BYTES} bytes")
        table = await self._table()
        condition, values = (_AS_READ, {":over": attribute(over.tag)}) if over.tag else (NEW, None)
        tag = secrets.token_hex(8)
        try:
            if data:
                item = _key(space, name) | {"data": attribute(data), "tag": attribute(tag)}
                if expires_at is not None:
                    item["expires_at"] = attribute(int(expires_at) + 1)
                await table.put(item, condition, values)
            else:
                await table.delete(_key(space, name), condition, values)
        except ConditionFailed as failed:
            if failed.found is None or text_of(failed.found, "tag") != tag:
                raise RecordMoved from None
            # The SDK has repeated a write whose answer was lost: what it found is what it had written.

    async def _table(self) -> Table:
        """Return the table. The client is opened at the first call, and at the next call again if opening it has
        failed.
        """
        if self._opened is None or (self._opened.done() and (self._opened.cancelled() or self._opened.exception())):
            self._opened = asyncio.ensure_future(self._open())
        return await asyncio.shield(self._opened)

    async def _open(self) -> Table:
        return Table(await self._open_client(), self._name, called="DynamoDB")


def _key(space: SpaceId, name: str) -> Item:
    return key_of(f"S#{space}", name)


def _records(items: Sequence[Item]) -> dict[str, Record]:
    return {text_of(item, "sk"): Record(bytes_of(item, "data"), text_of(item, "tag")) for item in items}
