"""The DynamoDB kit of all adapters: attributes of items, batches, queries, conditions, transactions, back-off.

Calls are repeated here only if DynamoDB answers that part of a batch was not processed, or that a transaction
conflicted with another one. The SDK repeats single calls after faults (see `aws.session.config`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from botocore.exceptions import ClientError

from aws.errors import aws_errors, error_code
from runtime.network import current_share
from runtime.pool import Pool
from runtime.workers import results_of
from syncline.model.errors import Unavailable
from syncline.model.retry_policy import RetryPolicy

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

Item: TypeAlias = dict[str, Any]
"""Attributes in DynamoDB's form: `{"role": {"S": "owner"}}`."""
Call: TypeAlias = Callable[[], Awaitable[None]]

RETRIES = RetryPolicy(max_attempts=8, first_pause_seconds=0.02, max_pause_seconds=2.56)

# Condition expressions.
NEW: Final = "attribute_not_exists(pk)"
THERE: Final = "attribute_exists(pk)"

# Reasons for the cancellation of a transaction.
CONDITION_FAILED: Final = "ConditionalCheckFailed"
CONFLICT: Final = "TransactionConflict"
_NO_REASON: Final = "None"
_PASSING_REASONS: Final = frozenset({CONFLICT, "ThrottlingError", "ProvisionedThroughputExceeded"})

_MAX_KEYS_PER_READ: Final = 100
MAX_ITEMS_PER_WRITE: Final = 25
"""Maximum number of items in one batch write, with or without conditions. A transaction may have four times as many,
but they would take some 12 ms of the event loop.
"""
_MAX_BYTES_PER_CALL: Final = 700_000
"""Maximum size of the items in one write, in bytes: below 1 MiB as it is sent, above which sending would block the
event loop.
"""
_MAX_ITEMS_ONE_BY_ONE: Final = 4
"""Maximum number of items that are written one by one: for few items, single writes in parallel cost half as much as
one batch and are no slower.
"""
_MAX_PARALLEL_CALLS: Final = 4
MAX_FEW_KEYS: Final = 25
"""Maximum number of keys of a batch read that takes no place among the long ones."""
LONG_READS_AT_ONCE: Final = 8
"""Maximum number of concurrent batch reads with more than MAX_FEW_KEYS keys, by all callers of a table in one process.
Each takes some milliseconds of the event loop.
"""


class ConditionFailed(Exception):
    """The condition of a write did not hold, so nothing was written."""

    def __init__(self, found: Mapping[str, Any] | None) -> None:
        super().__init__("the condition of a write did not hold")
        self.found = found
        """The stored item; None if there is none."""


class MetTransaction(Unavailable):
    """Another transaction is writing the item, so this write was refused; the same write may be repeated."""


class Cancelled(Exception):
    """A transaction was cancelled, because a condition failed or another transaction was in progress on one of the
    items.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(", ".join(reasons))
        self.reasons = reasons
        """One reason for each write of the transaction, in order: CONDITION_FAILED, CONFLICT, or another one."""


# ---- attributes


def attribute(value: str | int | bytes | bool) -> Item:
    """Return a value in DynamoDB's form: `{"S": "owner"}`, `{"N": "7"}`, `{"B": b"raw"}` or `{"BOOL": True}`."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(value)}
    return {"S": value} if isinstance(value, str) else {"B": value}


def text_of(item: Mapping[str, Any], name: str) -> str:
    """Return the attribute `name` of an item, which is a string. Raise KeyError if the item lacks it."""
    return str(item[name]["S"])


def number_of(item: Mapping[str, Any], name: str) -> int:
    """Return the attribute `name` of an item, which is an integer. Raise KeyError if the item lacks it."""
    return int(item[name]["N"])


def bytes_of(item: Mapping[str, Any], name: str) -> bytes:
    """Return the attribute `name` of an item, which is binary. Raise KeyError if the item lacks it."""
    return bytes(item[name]["B"])


def flag_of(item: Mapping[str, Any], name: str) -> bool:
    """Return the attribute `name` of an item, which is a boolean. Raise KeyError if the item lacks it."""
    return bool(item[name]["BOOL"])


def key_of(pk: str, sk: str) -> Item:
    """Return the primary key in DynamoDB's form: `pk` is the partition key, and `sk` the sort key."""
    return {"pk": attribute(pk), "sk": attribute(sk)}


def expiry(at_ms: int) -> Item:
    """Return a time, in milliseconds since 1970, as the value of an item's time-to-live attribute."""
    return attribute(at_ms // 1000)


# ---- the table


class Table:
    """Reads and writes of items: batched, concurrent, and repeated if DynamoDB asks for it.

    Reads are consistent unless `consistent=False` is given. Transient faults are raised as Unavailable.
    """

    def __init__(self, client: DynamoDBClient, name: str, *, called: str) -> None:
        """`name` is the name of the table in AWS, and `called` its name in error texts: "the identity table"."""
        self._client: Any = client  # items are built by adapters, so precise types would add nothing
        self._name = name
        self._called = called
        self._long_reads = Pool("long_reads", LONG_READS_AT_ONCE, counted=True, refuses=False)

    # ---- reads

    async def get(self, key: Item) -> Item | None:
        """Return the item with this primary key; None if there is none."""
        with aws_errors(self._called):
            answer = await self._client.get_item(TableName=self._name, Key=key, ConsistentRead=True)
        item: Item | None = answer.get("Item")
        return item

    async def get_all(
        self, keys: Iterable[Item], *, only: Sequence[str] = (), account: str | None = None
    ) -> list[Item]:
        """Return the items that exist with the primary keys `keys`, which are distinct, in no particular order. If
        `only` is given, each item has just these attributes.

        If `account` is given, each call of DynamoDB waits for a turn on the event loop that is charged to this account.
        """
        found: list[Item] = []
        batches = _batches(keys, count=_MAX_KEYS_PER_READ)
        await all_done((partial(self._get_in_turn, batch, found, only) for batch in batches), account=account)
        return found

    async def _get_in_turn(self, keys: Sequence[Item], found: list[Item], only: Sequence[str]) -> None:
        """Add the items with these keys to `found`. Callers share the concurrent reads of many keys fairly: otherwise a
        person whose calls read a hundred items each would have all others wait for these reads.
        """
        is_long = len(keys) > MAX_FEW_KEYS
        async with self._long_reads.lent(1, current_share(), patience=None) if is_long else nullcontext():
            await self._get_batch(keys, found, only)

    async def _get_batch(self, keys: Sequence[Item], found: list[Item], only: Sequence[str]) -> None:
        attributes: Item = {}
        if only:  # by aliases, because some names are reserved words of DynamoDB
            attributes["ProjectionExpression"] = ", ".join(f"#{name}" for name in only)
            attributes["ExpressionAttributeNames"] = {f"#{name}": name for name in only}
        left: Mapping[str, Any] = {self._name: {"Keys": keys, "ConsistentRead": True, **attributes}}
        for pause in RETRIES.pauses():
            while True:
                with aws_errors(self._called):
                    answer = await self._client.batch_get_item(RequestItems=left)
                items = answer["Responses"].get(self._name, [])
                found += items
                left = answer.get("UnprocessedKeys") or {}
                if not left:
                    return
                if not items:
                    break  # throttled; an answer that was full continues at once
            await asyncio.sleep(pause)
        raise self._overloaded()

    async def query(
        self, limit: int | None = None, *, consistent: bool = True, after: Item | None = None, **query: Any
    ) -> AsyncGenerator[Item, None]:
        """Yield up to `limit` items, or all, over as many pages as necessary. `query` has the arguments of DynamoDB's
        Query. `after` is a primary key that fits the condition of the query: the items after it are yielded, whether an
        item with that key exists or not; None begins with the first item.
        """
        start: Mapping[str, Any] = {} if after is None else {"ExclusiveStartKey": after}
        while limit is None or limit > 0:
            most = {} if limit is None else {"Limit": limit}
            with aws_errors(self._called):
                page = await self._client.query(
                    TableName=self._name, ConsistentRead=consistent, **most, **query, **start
                )
            for item in page["Items"]:
                yield item
            if limit is not None:
                limit -= len(page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def scan(self, **scan: Any) -> AsyncGenerator[Sequence[Item], None]:
        """Yield the items of the whole table, page by page, in no particular order. `scan` has the arguments of
        DynamoDB's Scan. The cost is that of reading all items, whatever a filter leaves.
        """
        start: Mapping[str, Any] = {}
        while True:
            with aws_errors(self._called):
                page = await self._client.scan(TableName=self._name, ConsistentRead=True, **scan, **start)
            yield page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def first_page(self, **query: Any) -> tuple[Sequence[Item], bool]:
        """Return the items of a query that one call returns (1 MB at most), and True if there are more items. `query`
        has the arguments of DynamoDB's Query.
        """
        with aws_errors(self._called):
            page = await self._client.query(TableName=self._name, ConsistentRead=True, **query)
        return page["Items"], "LastEvaluatedKey" in page

    # ---- single writes

    async def put(self, item: Item, condition: str | None = None, values: Item | None = None) -> None:
        """Write an item, if the condition holds or none is given. `condition` is an expression of DynamoDB, and
        `values` has the values in it by their names. Raise ConditionFailed if the condition does not hold, and
        MetTransaction if a transaction is in progress on the item.
        """
        with self._conditional():
            await self._client.put_item(**self._put(item, condition, values), **_found_if(condition))

    async def update(
        self,
        key: Item,
        *,
        update: str,
        values: Item,
        condition: str | None = None,
        names: Mapping[str, str] | None = None,
        returned: bool = False,
    ) -> Item:
        """Update the item with the primary key `key`, if the condition holds or none is given. `update` and `condition`
        are expressions of DynamoDB; `values` and `names` have the values and the attribute names in them. Raise the
        errors of `put`.

        Return the new values of the updated attributes if `returned` is True; otherwise an empty item.
        """
        with self._conditional():
            answer = await self._client.update_item(
                **self._update(key, update, values, condition, names),
                ReturnValues="UPDATED_NEW" if returned else "NONE",
                **_found_if(condition),
            )
        attributes: Item = answer.get("Attributes", {})
        return attributes

    async def delete(self, key: Item, condition: str | None = None, values: Item | None = None) -> None:
        """Delete the item with the primary key `key`, if the condition holds or none is given. `condition` and `values`
        have the same meaning as for `put`. Raise the errors of `put`.
        """
        with self._conditional():
            await self._client.delete_item(
                TableName=self._name, Key=key, **_under(condition, values), **_found_if(condition)
            )

    @contextmanager
    def _conditional(self) -> Iterator[None]:
        try:
            with aws_errors(self._called):
                yield
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                raise ConditionFailed(found_item(error)) from None
            if error_code(error) == "TransactionConflictException":
                raise MetTransaction("a concurrent request is writing the same item; try again") from error
            raise

    # ---- transactions

    def putting(
        self,
        item: Item,
        condition: str | None = None,
        values: Item | None = None,
        names: Mapping[str, str] | None = None,
    ) -> Item:
        """Return the write of an item, for use in `transact`. The other arguments have the same meaning as for
        `update`.
        """
        return {"Put": self._put(item, condition, values, names)}

    def updating(
        self,
        key: Item,
        *,
        update: str,
        values: Item,
        condition: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> Item:
        """Return the update of an item, for use in `transact`. The arguments have the same meaning as for `update`."""
        return {"Update": self._update(key, update, values, condition, names)}

    def deleting(
        self,
        key: Item,
        condition: str | None = None,
        values: Item | None = None,
        names: Mapping[str, str] | None = None,
    ) -> Item:
        """Return the deletion of an item, for use in `transact`. The arguments have the same meaning as for
        `update`.
        """
        return {"Delete": {"TableName": self._name, "Key": key, **_under(condition, values, names)}}

    def checking(
        self, key: Item, condition: str, values: Item | None = None, names: Mapping[str, str] | None = None
    ) -> Item:
        """Return a condition on an item that a transaction does not write, for use in `transact`. The arguments have
        the same meaning as for `update`.
        """
        return {"ConditionCheck": {"TableName": self._name, "Key": key, **_under(condition, values, names)}}

    async def transact(self, *writes: Item) -> None:
        """Carry out all writes or none. Each is a result of `putting`, `updating`, `deleting` or `checking`. Raise
        Cancelled if a condition failed or another transaction was in progress on an item.
        """
        reasons = await self._cancelled(writes, once=True)
        if CONDITION_FAILED in reasons or CONFLICT in reasons:
            raise Cancelled(reasons)
        if reasons:
            raise self._overloaded()

    async def _cancelled(self, writes: Sequence[Item], *, once: bool) -> Sequence[str]:
        """Carry out a transaction. Return an empty sequence if it succeeded, otherwise the reasons of its cancellation,
        one for each write.

        The SDK repeats a request whose answer is lost. With `once`, an idempotency token gives the repetition the first
        answer; DynamoDB keeps the token for ten minutes, the embedded AWS also on disk.
        """
        token = {"ClientRequestToken": str(uuid.uuid4())} if once else {}
        try:
            with aws_errors(self._called):
                await self._client.transact_write_items(TransactItems=list(writes), **token)
        except ClientError as error:
            if error_code(error) != "TransactionCanceledException":
                raise
            answer: Mapping[str, Any] = error.response
            reasons = [reason.get("Code", _NO_REASON) for reason in answer.get("CancellationReasons", [])]
            if not reasons or not {_NO_REASON, CONDITION_FAILED, *_PASSING_REASONS}.issuperset(reasons):
                raise
            return reasons
        return []

    # ---- many writes that do not belong together

    def puts(self, items: Iterable[Item]) -> Iterator[Call]:
        """Yield functions to be passed to `all_done`, each of which writes a part of `items`, whatever the table holds.
        The keys of the items are distinct. A function raises Unavailable if DynamoDB does not accept all of its items;
        some may have been written.
        """
        return (partial(self._put_batch, batch) for batch in _batches(items, count=MAX_ITEMS_PER_WRITE))

    async def _put_batch(self, items: Sequence[Item]) -> None:
        left: Mapping[str, Any] = {self._name: [{"PutRequest": {"Item": item}} for item in items]}
        for pause in RETRIES.pauses():
            with aws_errors(self._called):
                answer = await self._client.batch_write_item(RequestItems=left)
            left = answer.get("UnprocessedItems") or {}
            if not left:
                return
            await asyncio.sleep(pause)
        raise self._overloaded()

    def puts_if(
        self, condition: str, items: Iterable[tuple[Item, Item | None]], count: int, *, refused: list[Item] | None
    ) -> Iterator[Call]:
        """Yield functions to be passed to `all_done`, each of which writes a part of `items`, each item only if
        `condition` holds for it. `items` yields pairs of an item and the values in `condition`; the keys of the items
        are distinct, and `count` is their number.

        The items are independent of each other. An item whose condition does not hold is added to `refused`. If
        `refused` is None, such items are not reported. The condition must then be false for an item that is written
        already: the SDK may repeat a call that was carried out.
        """
        puts = (self._put(item, condition, values) for item, values in items)
        if count <= _MAX_ITEMS_ONE_BY_ONE:
            return (partial(self._put_alone, put, refused) for put in puts)
        batches = _batches(puts, count=MAX_ITEMS_PER_WRITE, item_of=lambda put: put["Item"])
        return (partial(self._put_together, batch, refused) for batch in batches)

    async def put_new(self, items: Sequence[Item]) -> list[Item]:
        """Write the items, which have distinct keys, except those whose key exists in the table already; return the
        items that were not written.
        """
        held: list[Item] = []
        await all_done(self.puts_if(NEW, ((item, None) for item in items), len(items), refused=held))
        return held

    async def _put_alone(self, put: Item, refused: list[Item] | None) -> None:
        for pause in RETRIES.pauses():
            try:
                with self._conditional():
                    await self._client.put_item(**put)
            except ConditionFailed:
                if refused is not None:
                    refused.append(put["Item"])
                return
            except MetTransaction:
                await asyncio.sleep(pause)
            else:
                return
        raise self._overloaded()

    async def _put_together(self, puts: Sequence[Item], refused: list[Item] | None) -> None:
        """Write the items in one transaction, each with its condition; those whose condition does not hold are added to
        `refused`, and the others are written. A transaction is used because no other batch write has conditions.
        """
        left = puts
        for pause in RETRIES.pauses():
            reasons = await self._cancelled([{"Put": put} for put in left], once=refused is not None)
            if not reasons:
                return
            if refused is not None:
                failed = (put["Item"] for put, why in zip(left, reasons, strict=True) if why == CONDITION_FAILED)
                refused.extend(failed)
            left = [put for put, reason in zip(left, reasons, strict=True) if reason != CONDITION_FAILED]
            if not left:
                return
            if not _PASSING_REASONS.isdisjoint(reasons):
                await asyncio.sleep(pause)
        raise self._overloaded()

    # ---- arguments and errors

    def _put(
        self,
        item: Item,
        condition: str | None,
        values: Item | None,
        names: Mapping[str, str] | None = None,
    ) -> Item:
        return {"TableName": self._name, "Item": item, **_under(condition, values, names)}

    def _update(
        self, key: Item, update: str, values: Item, condition: str | None, names: Mapping[str, str] | None
    ) -> Item:
        return {
            "TableName": self._name,
            "Key": key,
            "UpdateExpression": update,
            **_under(condition, values, names),
        }

    def _overloaded(self) -> Unavailable:
        return Unavailable(f"{self._called} does not answer; try again")


async def all_done(
    calls: Iterable[Call],
    *,
    account: str | None = None,
    place: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> None:
    """Call each function in `calls` and await it, at most _MAX_PARALLEL_CALLS at the same time. The first error of a
    call is raised; calls in progress are then cancelled. `account` and `place` are those of
    `runtime.workers.results_of`.
    """
    await results_of(calls, at_once=_MAX_PARALLEL_CALLS, account=account, place=place)


def _under(condition: str | None, values: Item | None = None, names: Mapping[str, str] | None = None) -> Item:
    """Return the arguments of a DynamoDB call that state a condition, and the names and values in its expressions."""
    arguments: Item = {}
    if condition is not None:
        arguments["ConditionExpression"] = condition
    if values:
        arguments["ExpressionAttributeValues"] = values
    if names:
        arguments["ExpressionAttributeNames"] = names
    return arguments


def _found_if(condition: str | None) -> Item:
    """Return the argument that makes the error of a failed condition carry the stored item."""
    return {} if condition is None else {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def found_item(error: ClientError) -> Mapping[str, Any] | None:
    """Return the stored item that failed a condition, if the call that raised `error` requested it by
    ReturnValuesOnConditionCheckFailure. Return None if the call did not request the item, or if there is none.
    """
    answer: Mapping[str, Any] = error.response
    item: Mapping[str, Any] | None = answer.get("Item")
    return item


def _batches(
    items: Iterable[Item], *, count: int, item_of: Callable[[Item], Item] = lambda item: item
) -> Iterator[list[Item]]:
    """Yield groups of items that fit into one call; `item_of` is called with an item, and returns the part of it whose
    size counts.
    """
    batch: list[Item] = []
    total = 0
    for item in items:
        size = _size(item_of(item))
        if batch and (len(batch) == count or total + size > _MAX_BYTES_PER_CALL):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


def _size(item: Item) -> int:
    """Return the approximate size of an item in bytes."""
    values = ((name, raw) for name, value in item.items() for raw in value.values())
    return sum(len(name) + (len(raw) if isinstance(raw, str | bytes) else 1) for name, raw in values)
