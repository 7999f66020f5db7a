"""The gateway's table in DynamoDB.

| item | pk | sk | holds |
|---|---|---|---|
| RECORD | `S#{space}` | `{name}` | `data`, and the `tag` of the writing that made it |

`expires_at` is in seconds since 1970: DynamoDB's time to live. An item whose time is over may be there for days yet.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from aws.errors import error_code, translated
from core.errors import Unavailable
from core.identifiers import SpaceId
from gateway.dav.ports import MAX_READ_BYTES, MAX_RECORD_BYTES, Record, RecordMoved

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

_KEYS_PER_BATCH: Final = 100
_BATCH_ROUNDS: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.05

# Conditions.
_NEW: Final = "attribute_not_exists(pk)"
_AS_READ: Final = "tag = :over"


class DynamoRecords:
    """Records on the gateway's table."""

    def __init__(self, open_client: Callable[[], Awaitable[DynamoDBClient]], *, table: str) -> None:
        """The client is opened when it is first needed: it takes more memory than all else that is here."""
        self._open_client = open_client
        self._opened: asyncio.Task[Any] | None = None
        self._table = table

    async def read(self, space: SpaceId, names: Sequence[str]) -> Mapping[str, Record]:
        """See Records."""
        client = await self._client()
        if len(names) == 1:
            with translated("DynamoDB"):
                answer = await client.get_item(TableName=self._table, Key=_key(space, names[0]), ConsistentRead=True)
            return _records([answer["Item"]]) if "Item" in answer else {}
        batches = [names[at : at + _KEYS_PER_BATCH] for at in range(0, len(names), _KEYS_PER_BATCH)]
        found: dict[str, Record] = {}
        for records in await asyncio.gather(*(self._read_batch(client, space, batch) for batch in batches)):
            found |= records
        return found

    async def read_all(self, space: SpaceId, prefix: str) -> Mapping[str, Record] | None:
        """See Records. One page of a query."""
        client = await self._client()
        with translated("DynamoDB"):
            page = await client.query(
                TableName=self._table,
                KeyConditionExpression="pk = :space AND begins_with(sk, :prefix)",
                ExpressionAttributeValues={":space": {"S": f"S#{space}"}, ":prefix": {"S": prefix}},
                ConsistentRead=True,
            )
        if "LastEvaluatedKey" in page:
            return None
        found = _records(page["Items"])
        return found if sum(len(record.data) for record in found.values()) <= MAX_READ_BYTES else None

    async def write(
        self, space: SpaceId, name: str, data: bytes, *, over: Record, expires_at: float | None = None
    ) -> None:
        """See Records."""
        if len(data) > MAX_RECORD_BYTES:
            raise ValueError(f"a record has at most {MAX_RECORD_BYTES} bytes")
        client = await self._client()
        condition: dict[str, Any] = {"ConditionExpression": _AS_READ if over.tag else _NEW}
        if over.tag:
            condition["ExpressionAttributeValues"] = {":over": {"S": over.tag}}
        try:
            with translated("DynamoDB"):
                if data:
                    item = _key(space, name) | {"data": {"B": data}, "tag": {"S": secrets.token_hex(8)}}
                    if expires_at is not None:
                        item["expires_at"] = {"N": str(int(expires_at) + 1)}
                    await client.put_item(TableName=self._table, Item=item, **condition)
                else:
                    await client.delete_item(TableName=self._table, Key=_key(space, name), **condition)
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                raise RecordMoved from None
            raise

    async def _read_batch(self, client: Any, space: SpaceId, names: Sequence[str]) -> dict[str, Record]:
        wanted = {self._table: {"Keys": [_key(space, name) for name in names], "ConsistentRead": True}}
        found: dict[str, Record] = {}
        for attempt in range(_BATCH_ROUNDS):
            with translated("DynamoDB"):
                answer = await client.batch_get_item(RequestItems=wanted)
            found |= _records(answer["Responses"].get(self._table, []))
            wanted = answer.get("UnprocessedKeys") or {}
            if not wanted:
                return found
            await asyncio.sleep(_FIRST_PAUSE_SECONDS * 2**attempt)
        raise Unavailable("DynamoDB is overloaded; try again")

    async def _client(self) -> Any:
        """The client: opened once, and again if that failed."""
        if self._opened is None or (self._opened.done() and (self._opened.cancelled() or self._opened.exception())):
            self._opened = asyncio.ensure_future(self._open_client())
        return await asyncio.shield(self._opened)


def _key(space: SpaceId, name: str) -> dict[str, Any]:
    return {"pk": {"S": f"S#{space}"}, "sk": {"S": name}}


def _records(items: Sequence[Mapping[str, Any]]) -> dict[str, Record]:
    return {item["sk"]["S"]: Record(bytes(item["data"]["B"]), item["tag"]["S"]) for item in items}
