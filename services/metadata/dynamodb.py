"""Journal, tree and proven objects in one DynamoDB table.

| item | pk | sk | holds |
|---|---|---|---|
| JOURNAL | `S#{space}#J` | `{seq:020}` | `entry`: the serialised entry |
| STATE | `S#{space}` | `STATE` | `projected_seq`, `announced_seq`, `used_bytes`, `marks` (process -> lease end); while there are marks also `dirty_pk` and `dirty_until`, their latest, which put it into the index `dirty` |
| NODE | `S#{space}#N#{first byte of id}` | `{node}` | `node`: the serialised state; `seq` |
| NAME | `S#{space}#D#{parent}` | `{name}` | `node`: who has the name, absent in a tombstone; `seq` |
| VERSION | `S#{space}#V#{node}` | `{version:020}` | `node`: the serialised state whose version it was |
| TRASH | `S#{space}#T` | `{node}` | `deleted`: false in a tombstone; `seq` |
| REQUEST | `S#{space}#R` | `{request}` | `seq` of the entry that answered it |
| OBJECT | `S#{space}#O` | `{sha256}` | `size`; of packs `blocks`, `offsets`, `lengths` (packed, integers as little-endian uint32); of a manifest `content_size`; `verified_at`, when something was last proven; `revision`, how often something was added, absent for never; or, of what is not sealed and was removed, `removals`, how often, and `removing_until`, when that is over for sure |
| MEASURE | `S#{space}` | `MEASURE` | what the objects of the space were measured to be, at `at`, since when it has been measured without a gap (`since`; removals depend on it), and before what time not again (`next_at`); while it is to be measured also `dirty_pk` and `dirty_until`, when, which put it into the index `dirty` |

Ids and digests in keys are hexadecimal. Times are milliseconds since 1970, but `expires_at` is in seconds, since it
is DynamoDB's time to live: tombstones, of removed objects too, go after a week, requests after 30 days. All reads are consistent, except
those of the index.
"""  # noqa: E501 - a table

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict

from botocore.exceptions import ClientError

from aws.dynamodb import found_item
from aws.errors import error_code, translated
from core.blocks import Digest
from core.errors import Unavailable
from core.identifiers import NodeId, RequestId, SpaceId
from core.limits import ANSWER_DAYS
from core.tree import Node, Version
from services.metadata.journal import NameKey, Projection
from services.metadata.ports import (
    BYTES_READ_BACK,
    NO_REMOVALS,
    EntryTaken,
    Measure,
    ProjectionState,
    Recorded,
    Removal,
    Rows,
    Sealed,
)
from services.metadata.view import version_of
from services.metadata.workers import results_of
from syncline.metadata.v1 import journal_pb2
from wire.tree import node_from_wire, node_to_wire

if TYPE_CHECKING:
    from typing import Unpack

    from types_aiobotocore_dynamodb.client import DynamoDBClient

Item: TypeAlias = dict[str, Any]
"""Attributes as DynamoDB has them: `{"seq": {"N": "7"}}`."""
Call: TypeAlias = Callable[[], Awaitable[None]]


class _Update(TypedDict):
    """An update of an item: its expression, under which condition, and what the two refer to."""

    update: str
    condition: str
    values: Item
    names: Mapping[str, str]


_DAY_SECONDS: Final = 86_400
_TOMBSTONE_SECONDS: Final = 7 * _DAY_SECONDS
"""Much longer than a projector can stall: until then a late write of the old name finds the newer seq."""
_REQUEST_SECONDS: Final = ANSWER_DAYS * _DAY_SECONDS

_KEYS_PER_READ: Final = 100
_ITEMS_PER_WRITE: Final = 25
_ITEMS_PER_TRANSACTION: Final = 100
_BYTES_PER_CALL: Final = 700_000
"""Of items in one write: below 1 MiB in transit, beyond which sending would hold up the event loop."""
_FEW: Final = 4
"""Up to so many items are cheaper to write one by one: half the price, and in parallel no slower."""
_AT_ONCE: Final = 4
"""Calls under way for one call of a port."""
_ROUNDS: Final = 8
_FIRST_PAUSE_SECONDS: Final = 0.02

_DIRTY: Final = {"S": "DIRTY"}
_TO_MEASURE: Final = {"S": "MEASURE"}
_CONDITION_FAILED: Final = "ConditionalCheckFailed"
_CONFLICT: Final = "TransactionConflictException"
_PASSING_REASONS: Final = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})

_SIZE: Final = "#size"
"""Of an object: a word of DynamoDB's, so expressions call it by this."""

# Conditions.
_NEW: Final = "attribute_not_exists(pk)"
_NEWER: Final = f"{_NEW} OR seq < :seq"


class DynamoJournal:
    """Journal on the metadata table."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._items = _Items(client, table)

    async def append(self, space: SpaceId, seq: int, blob: bytes) -> None:
        """See Journal."""
        try:
            await self._items.put({**_entry_key(space, seq), "entry": _b(blob)}, _NEW, found=True)
        except ClientError as error:
            if not _is_condition(error):
                raise
            item = found_item(error)
            assert item is not None, "a failed condition was asked to return the item"
            raise EntryTaken(_bytes(item, "entry")) from None

    async def read(self, space: SpaceId, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """See Journal."""
        if limit == 1:  # asked before every answer, and mostly in vain: the cheapest read there is
            item = await self._items.get(_entry_key(space, after + 1))
            return [(after + 1, _bytes(item, "entry"))] if item else []
        query = self._items.query(
            limit,
            KeyConditionExpression="pk = :journal AND sk > :after",
            ExpressionAttributeValues={":journal": _s(_journal_pk(space)), ":after": _s(_number(after))},
        )
        return [(int(_text(item, "sk")), _bytes(item, "entry")) async for item in query]

    async def before(self, space: SpaceId, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """See Journal."""
        query = self._items.query(
            limit,
            KeyConditionExpression="pk = :journal AND sk < :before",
            ExpressionAttributeValues={":journal": _s(_journal_pk(space)), ":before": _s(_number(seq))},
            ScanIndexForward=False,
        )
        found: list[tuple[int, bytes]] = []
        size = 0
        async with aclosing(query) as items:
            async for item in items:
                found.append((int(_text(item, "sk")), _bytes(item, "entry")))
                size += len(found[-1][1])
                if size >= BYTES_READ_BACK:
                    break
        return found


class DynamoTable:
    """TreeTable on the metadata table."""

    def __init__(self, client: DynamoDBClient, *, table: str, clock: Callable[[], float] = time.time) -> None:
        """`clock` tells seconds since 1970; from it follows when items expire."""
        self._items = _Items(client, table)
        self._clock = clock

    # ---- reads

    async def state(self, space: SpaceId) -> ProjectionState:
        """See TreeTable."""
        return _state(await self._items.get(_state_key(space)))

    async def rows(
        self,
        space: SpaceId,
        *,
        nodes: Collection[NodeId] = (),
        names: Collection[NameKey] = (),
        requests: Collection[RequestId] = (),
    ) -> Rows:
        """See TreeTable."""
        rows = Rows()
        takers: dict[tuple[str, str], Callable[[Item], None]] = {
            **{_node_at(space, node): partial(_take_node, rows, node) for node in nodes},
            **{_name_at(space, name): partial(_take_name, rows, name) for name in names},
            **{_request_at(space, request): partial(_take_request, rows, request) for request in requests},
        }
        for item in await self._items.get_all(_key(*at) for at in takers):
            takers[_text(item, "pk"), _text(item, "sk")](item)
        return rows

    async def list_names(self, space: SpaceId, parent: NodeId, *, after: str, limit: int) -> Rows:
        """See TreeTable."""
        # DynamoDB orders strings by their UTF-8. A key is never empty, not even one to compare with.
        beyond: Item = {":after": _s(after)} if after else {}
        query = self._items.query(
            limit + 1,
            KeyConditionExpression="pk = :directory AND sk > :after" if after else "pk = :directory",
            ExpressionAttributeValues={":directory": _s(_directory_pk(space, parent)), **beyond},
        )
        found = [item async for item in query]
        rows = Rows(more=len(found) > limit)
        for item in found[:limit]:
            _take_name(rows, (parent, _text(item, "sk")), item)
        return rows

    async def versions(self, space: SpaceId, node: NodeId, *, before: int, limit: int) -> Sequence[Version]:
        """See TreeTable."""
        query = self._items.query(
            limit,
            KeyConditionExpression="pk = :node AND sk < :before",
            ExpressionAttributeValues={":node": _s(_versions_pk(space, node)), ":before": _s(_number(before))},
            ScanIndexForward=False,
        )
        return [version_of(_node(item)) async for item in query]

    async def trash(self, space: SpaceId, *, after: NodeId | None, limit: int) -> Sequence[tuple[NodeId, bool, int]]:
        """See TreeTable."""
        beyond: Item = {":after": _s(after.hex())} if after else {}
        query = self._items.query(
            limit,
            KeyConditionExpression="pk = :trash AND sk > :after" if after else "pk = :trash",
            ExpressionAttributeValues={":trash": _s(_trash_pk(space)), **beyond},
        )
        return [
            (NodeId(bytes.fromhex(_text(item, "sk"))), item["deleted"]["BOOL"], _int(item, "seq"))
            async for item in query
        ]

    # ---- projection

    async def project(self, space: SpaceId, projection: Projection) -> None:
        """See TreeTable."""
        now = int(self._clock())
        # Unconditional, since a version never changes; before the nodes, which may be all that tells of it now.
        await _all(self._items.writes(await self._superseded(space, projection)), account=space)
        # Made while they are written, and each written in its turn: others have the event loop in between.
        changed = chain(
            (_node_item(space, node) for node in projection.nodes.values()),
            (_name_item(space, name, *held, now=now) for name, held in projection.names.items()),
            (_trash_item(space, node, *held, now=now) for node, held in projection.trash.items()),
        )
        count = len(projection.nodes) + len(projection.names) + len(projection.trash)
        answered = (_request_item(space, request, seq, now=now) for request, seq in projection.requests.items())
        await _all(chain(self._items.writes_of_newer(changed, count), self._items.writes(answered)), account=space)

    async def _superseded(self, space: SpaceId, projection: Projection) -> list[Item]:
        """VERSION items for what the projection replaces, in the table and within itself."""
        stored = (await self.rows(space, nodes=projection.updated)).nodes if projection.updated else {}
        replaced = [node for node in stored.values() if node.version < projection.nodes[node.id].version]
        # A table that is ahead of the projection's start may hold a state that the projection supersedes itself.
        by_version = {(node.id, node.version): node for node in (*replaced, *projection.superseded)}
        return [_version_item(space, node) for node in by_version.values()]

    # ---- the space's state

    async def save_progress(
        self, space: SpaceId, *, projected_seq: int, announced_seq: int, used_bytes: int, unmark: Mapping[str, int]
    ) -> None:
        """See TreeTable."""

        def progress(state: ProjectionState) -> ProjectionState:
            return ProjectionState(
                projected_seq=max(state.projected_seq, projected_seq),
                announced_seq=max(state.announced_seq, announced_seq),
                used_bytes=used_bytes if projected_seq >= state.projected_seq else state.used_bytes,
                marks={process: until for process, until in state.marks.items() if unmark.get(process) != until},
            )

        # One write when nobody else is at work; who finds otherwise looks and tries again.
        moves_on = f"({_NEW} OR (projected_seq <= :projected AND announced_seq <= :announced))"
        setting = "SET projected_seq = :projected, announced_seq = :announced, used_bytes = :used"
        values = {":projected": _n(projected_seq), ":announced": _n(announced_seq), ":used": _n(used_bytes)}
        names = {}
        if unmark:
            same_leases = " AND ".join(f"marks.#p{i} = :p{i}" for i in range(len(unmark)))
            no_others = "size(marks) = :count"
            condition = f"{moves_on} AND {same_leases} AND {no_others}"
            update = f"{setting} REMOVE {', '.join(f'marks.#p{i}' for i in range(len(unmark)))}, dirty_pk, dirty_until"
            values |= {f":p{i}": _n(until) for i, until in enumerate(unmark.values())} | {":count": _n(len(unmark))}
            names = {f"#p{i}": process for i, process in enumerate(unmark)}
        else:
            condition, update = moves_on, f"{setting}, marks = if_not_exists(marks, :none)"
            values |= {":none": {"M": {}}}
        await self._change_state(space, progress, update=update, condition=condition, values=values, names=names)

    async def mark_dirty(self, space: SpaceId, process: str, lease_until_ms: int) -> None:
        """See TreeTable."""

        def marked(state: ProjectionState) -> ProjectionState:
            return replace(state, marks={**state.marks, process: lease_until_ms})

        latest_lease = "attribute_not_exists(dirty_until) OR dirty_until <= :until"
        await self._change_state(
            space,
            marked,
            update="SET marks.#process = :until, dirty_pk = :dirty, dirty_until = :until",
            condition=f"attribute_exists(marks) AND ({latest_lease})",
            values={":until": _n(lease_until_ms), ":dirty": _DIRTY},
            names={"#process": process},
        )

    async def stale(self, now_ms: int, limit: int) -> Sequence[SpaceId]:
        """See TreeTable."""
        query = self._items.query(
            limit,
            consistent=False,
            IndexName="dirty",
            KeyConditionExpression="dirty_pk = :dirty AND dirty_until < :now",
            ExpressionAttributeValues={":dirty": _DIRTY, ":now": _n(now_ms)},
        )
        return [SpaceId(_text(item, "pk").removeprefix("S#")) async for item in query]

    async def _change_state(
        self, space: SpaceId, change: Callable[[ProjectionState], ProjectionState], **usual: Unpack[_Update]
    ) -> None:
        """Carry out the `usual` update if its condition holds; else make `change` of what is there."""
        update = usual
        for pause in _pauses():
            try:
                await self._items.update(_state_key(space), **update)
            except ClientError as error:
                if not _is_condition(error):
                    raise
                found = found_item(error)
            else:
                return
            if update is not usual:
                await asyncio.sleep(pause)
            before = _state(found)
            after = change(before)
            if found and after == before:
                return
            update = _replacing(before if found else None, after)
        raise Unavailable("too many processes change the state of this space at this moment; try again")


class DynamoObjectIndex:
    """ObjectIndex on the metadata table."""

    def __init__(self, client: DynamoDBClient, *, table: str, clock: Callable[[], float] = time.time) -> None:
        """`clock` tells seconds since 1970."""
        self._items = _Items(client, table)
        self._clock = clock

    async def look(self, space: SpaceId, objects: Collection[Digest]) -> Recorded:
        """See ObjectIndex."""
        sealed: dict[Digest, Sealed] = {}
        removals: dict[Digest, Removal] = {}
        for item in await self._items.get_all(_object_key(space, digest) for digest in set(objects)):
            digest = Digest(bytes.fromhex(_text(item, "sk")))
            if _is_sealed(item):
                sealed[digest] = _sealed(item)
            else:
                removals[digest] = Removal(_int(item, "removals"), _int(item, "removing_until"))
        return Recorded(sealed, removals)

    async def sealed(self, space: SpaceId, objects: Collection[Digest]) -> Mapping[Digest, Sealed]:
        """See ObjectIndex."""
        return (await self.look(space, objects)).sealed

    async def known(self, space: SpaceId, objects: Collection[Digest]) -> set[Digest]:
        """See ObjectIndex."""
        keys = (_object_key(space, digest) for digest in set(objects))
        items = await self._items.get_all(keys, only=("sk", "size"))
        return {Digest(bytes.fromhex(_text(item, "sk"))) for item in items if _is_sealed(item)}

    async def seal(
        self, space: SpaceId, objects: Mapping[Digest, Sealed], *, after: Mapping[Digest, int] = NO_REMOVALS
    ) -> set[Digest]:
        """See ObjectIndex."""
        now_ms = int(self._clock() * 1000)
        new = [_object_item(space, digest, sealed, now_ms) for digest, sealed in objects.items() if digest not in after]
        held = {Digest(bytes.fromhex(_text(item, "sk"))) for item in await self._items.put_new(new)}
        lost: set[Digest] = set()

        async def add(digest: Digest) -> None:
            if not await self._add(space, digest, objects[digest], now_ms, removals=after.get(digest, 0)):
                lost.add(digest)

        await _all(partial(add, digest) for digest in held | (after.keys() & objects.keys()))
        return lost

    async def _add(self, space: SpaceId, digest: Digest, proven: Sealed, now_ms: int, *, removals: int) -> bool:
        """Add to a record that is there; if somebody else does so at this moment, then to theirs.

        Return False if the object is not sealed and its recorded number of removals is not `removals`.
        """
        found: Mapping[str, Any] | None = await self._items.get(_object_key(space, digest))
        for pause in _pauses():
            if found is not None and _is_sealed(found):
                before = _sealed(found)
                if before.proves(proven):
                    return True
                revision = _int(found, "revision") if "revision" in found else 0
                item = _object_item(space, digest, before.with_all_of(proven), now_ms, revision=revision + 1)
                condition = "revision = :number" if revision else "attribute_not_exists(revision)"
                values = {":number": _n(revision)} if revision else None
            elif found is not None and _int(found, "removals") == removals:
                item = _object_item(space, digest, proven, now_ms)
                condition, values = "removals = :number", {":number": _n(removals)}
            else:  # also where what was recorded of a removal has gone since, after a week
                return False
            try:
                await self._items.put(item, condition, values, found=True)
            except ClientError as error:
                if _is_condition(error):
                    found = found_item(error)
                elif error_code(error) != _CONFLICT:
                    raise
            else:
                return True
            await asyncio.sleep(pause)
        raise _overloaded()

    async def begin_removal(self, space: SpaceId, digest: Digest, *, now_ms: int, until_ms: int) -> int | None:
        """See ObjectIndex."""
        is_over = f"attribute_not_exists({_SIZE}) AND (attribute_not_exists(removing_until) OR removing_until < :now)"
        try:
            after = await self._items.update(
                _object_key(space, digest),
                update="SET removals = if_not_exists(removals, :none) + :one, removing_until = :until, "
                "expires_at = :expiry",
                condition=is_over,
                values={
                    ":none": _n(0),
                    ":one": _n(1),
                    ":now": _n(now_ms),
                    ":until": _n(until_ms),
                    ":expiry": _n(until_ms // 1000 + _TOMBSTONE_SECONDS),
                },
                names={_SIZE: "size"},
                returned=True,
            )
        except ClientError as error:
            if not _is_condition(error):
                raise
            return None
        return _int(after, "removals")

    async def end_removal(self, space: SpaceId, digest: Digest, number: int) -> None:
        """See ObjectIndex."""
        try:
            await self._items.update(
                _object_key(space, digest),
                update="SET removing_until = :over",
                condition="removals = :number",
                values={":over": _n(0), ":number": _n(number)},
                names={},
            )
        except ClientError as error:
            if not _is_condition(error):
                raise


class DynamoMeasures:
    """MeasureTable on the metadata table."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._items = _Items(client, table)

    async def schedule(self, spaces: Collection[SpaceId], now_ms: int) -> None:
        """See MeasureTable."""
        items = await self._items.get_all(_measure_key(space) for space in set(spaces))
        found = {SpaceId(_text(item, "pk").removeprefix("S#")): item for item in items}
        await _all(
            partial(self._schedule, space, max(now_ms, _measure(found.get(space)).next_at_ms))
            for space in set(spaces)
            if "dirty_pk" not in found.get(space, {})
        )

    async def _schedule(self, space: SpaceId, at_ms: int) -> None:
        try:
            await self._items.update(
                _measure_key(space),
                update="SET dirty_pk = :pk, dirty_until = :at",
                condition="attribute_not_exists(dirty_pk)",
                values={":pk": _TO_MEASURE, ":at": _n(at_ms)},
                names={},
            )
        except ClientError as error:
            if not _is_condition(error):
                raise

    async def due(self, now_ms: int, limit: int) -> Sequence[tuple[SpaceId, int]]:
        """See MeasureTable."""
        query = self._items.query(
            limit,
            consistent=False,
            IndexName="dirty",
            KeyConditionExpression="dirty_pk = :pk AND dirty_until <= :now",
            ExpressionAttributeValues={":pk": _TO_MEASURE, ":now": _n(now_ms)},
        )
        return [(SpaceId(_text(item, "pk").removeprefix("S#")), _int(item, "dirty_until")) async for item in query]

    async def claim(self, space: SpaceId, *, since_ms: int, until_ms: int) -> bool:
        """See MeasureTable."""
        try:
            await self._items.update(
                _measure_key(space),
                update="SET dirty_until = :until",
                condition="dirty_until = :since",
                values={":until": _n(until_ms), ":since": _n(since_ms)},
                names={},
            )
        except ClientError as error:
            if not _is_condition(error):
                raise
            return False
        return True

    async def save(self, space: SpaceId, measure: Measure, *, lease_ms: int, due_ms: int | None) -> bool:
        """See MeasureTable."""
        scheduled = {} if due_ms is None else {"dirty_pk": _TO_MEASURE, "dirty_until": _n(due_ms)}
        item = {**_measure_item(space, measure), **scheduled}
        try:
            await self._items.put(item, "dirty_until = :lease", {":lease": _n(lease_ms)})
        except ClientError as error:
            if not _is_condition(error):
                raise
            return False
        return True

    async def measure(self, space: SpaceId) -> Measure:
        """See MeasureTable."""
        return _measure(await self._items.get(_measure_key(space)))


# ---- the table, whatever is in it


class _Items:
    """Reads and writes of items: in few calls, several at once, repeated where DynamoDB asks for it."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client: Any = client  # items are built here, so their types say nothing that is not below
        self._table = table

    async def get(self, key: Item) -> Item | None:
        with _translated():
            answer = await self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        item: Item | None = answer.get("Item")
        return item

    async def get_all(self, keys: Iterable[Item], *, only: Sequence[str] = ()) -> list[Item]:
        """The items of distinct keys, in no order; with `only`, nothing but these attributes of each."""
        found: list[Item] = []
        await _all(partial(self._get_batch, batch, found, only) for batch in _batches(keys, count=_KEYS_PER_READ))
        return found

    async def _get_batch(self, keys: Sequence[Item], found: list[Item], only: Sequence[str]) -> None:
        attributes: Item = {}
        if only:  # by other names, since some are words of DynamoDB's
            attributes["ProjectionExpression"] = ", ".join(f"#{name}" for name in only)
            attributes["ExpressionAttributeNames"] = {f"#{name}": name for name in only}
        left: Mapping[str, Any] = {self._table: {"Keys": keys, "ConsistentRead": True, **attributes}}
        for pause in _pauses():
            while True:
                with _translated():
                    answer = await self._client.batch_get_item(RequestItems=left)
                items = answer["Responses"].get(self._table, [])
                found += items
                left = answer.get("UnprocessedKeys") or {}
                if not left:
                    return
                if not items:
                    break  # throttled; whereas an answer that was full goes on at once
            await asyncio.sleep(pause)
        raise _overloaded()

    async def query(self, limit: int, *, consistent: bool = True, **query: Any) -> AsyncGenerator[Item, None]:
        """Up to `limit` items, over as many pages as it takes."""
        start: Mapping[str, Any] = {}
        while limit > 0:
            with _translated():
                page = await self._client.query(
                    TableName=self._table, ConsistentRead=consistent, Limit=limit, **query, **start
                )
            for item in page["Items"]:
                yield item
            limit -= len(page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def put(self, item: Item, condition: str, values: Item | None = None, *, found: bool = False) -> None:
        """Write under a condition; with `found`, the error of a failed one carries the item that is there."""
        arguments: Item = {"ExpressionAttributeValues": values} if values else {}
        if found:
            arguments["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        with _translated():
            await self._client.put_item(TableName=self._table, Item=item, ConditionExpression=condition, **arguments)

    async def update(self, key: Item, *, returned: bool = False, **update: Unpack[_Update]) -> Item:
        """Update under a condition; the error of a failed one carries the item that is there.

        With `returned`, what was set; else nothing.
        """
        names: Item = {"ExpressionAttributeNames": update["names"]} if update["names"] else {}
        with _translated():
            answer = await self._client.update_item(
                TableName=self._table,
                Key=key,
                UpdateExpression=update["update"],
                ConditionExpression=update["condition"],
                ExpressionAttributeValues=update["values"],
                ReturnValues="UPDATED_NEW" if returned else "NONE",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **names,
            )
        attributes: Item = answer.get("Attributes", {})
        return attributes

    def writes(self, items: Iterable[Item]) -> Iterator[Call]:
        """Calls that write items of distinct keys, whatever is there."""
        return (partial(self._put_batch, batch) for batch in _batches(items, count=_ITEMS_PER_WRITE))

    async def _put_batch(self, items: Sequence[Item]) -> None:
        left: Mapping[str, Any] = {self._table: [{"PutRequest": {"Item": item}} for item in items]}
        for pause in _pauses():
            with _translated():
                answer = await self._client.batch_write_item(RequestItems=left)
            left = answer.get("UnprocessedItems") or {}
            if not left:
                return
            await asyncio.sleep(pause)
        raise _overloaded()

    def writes_of_newer(self, items: Iterable[Item], count: int) -> Iterator[Call]:
        """Calls that write `count` items of distinct keys that have a `seq`, each only over an older one."""
        puts = (self._put_if(item, _NEWER, {":seq": item["seq"]}) for item in items)
        return self._conditional_writes(puts, count, [])

    async def put_new(self, items: Sequence[Item]) -> list[Item]:
        """Write those items of distinct keys whose key the table does not hold yet; the others are returned."""
        held: list[Item] = []
        puts = (self._put_if(item, _NEW) for item in items)
        await _all(self._conditional_writes(puts, len(items), held))
        return held

    def _put_if(self, item: Item, condition: str, values: Item | None = None) -> Item:
        """A put as a transaction has it and as PutItem takes it."""
        arguments: Item = {"ExpressionAttributeValues": values} if values else {}
        return {"TableName": self._table, "Item": item, "ConditionExpression": condition, **arguments}

    def _conditional_writes(self, puts: Iterable[Item], count: int, refused: list[Item]) -> Iterator[Call]:
        """Calls that carry out `count` independent puts; items whose condition fails are added to `refused`."""
        if count <= _FEW:
            return (partial(self._put_conditionally, put, refused) for put in puts)
        batches = _batches(puts, count=_ITEMS_PER_TRANSACTION, item_of=lambda put: put["Item"])
        return (partial(self._put_together, batch, refused) for batch in batches)

    async def _put_conditionally(self, put: Item, refused: list[Item]) -> None:
        for pause in _pauses():
            try:
                with _translated():
                    await self._client.put_item(**put)
            except ClientError as error:
                if _is_condition(error):
                    refused.append(put["Item"])
                    return
                if error_code(error) != _CONFLICT:
                    raise
            else:
                return
            await asyncio.sleep(pause)
        raise _overloaded()

    async def _put_together(self, puts: Sequence[Item], refused: list[Item]) -> None:
        """In a transaction, not because they belong together, but because no other batch has conditions."""
        left = puts
        for pause in _pauses():
            reasons = await self._cancelled([{"Put": put} for put in left])
            if not reasons:
                return
            refused += [put["Item"] for put, reason in zip(left, reasons, strict=True) if reason == _CONDITION_FAILED]
            left = [put for put, reason in zip(left, reasons, strict=True) if reason != _CONDITION_FAILED]
            if not left:
                return
            if not _PASSING_REASONS.isdisjoint(reasons):
                await asyncio.sleep(pause)
        raise _overloaded()

    async def _cancelled(self, writes: Sequence[Item]) -> Sequence[str]:
        """Carry out a transaction; why it was cancelled, for each write, and nothing if it was not."""
        try:
            with _translated():
                await self._client.transact_write_items(TransactItems=writes)
        except ClientError as error:
            if error_code(error) != "TransactionCanceledException":
                raise
            answer: Mapping[str, Any] = error.response
            reasons = [reason.get("Code", "None") for reason in answer.get("CancellationReasons", [])]
            if not reasons or not {"None", _CONDITION_FAILED, *_PASSING_REASONS}.issuperset(reasons):
                raise
            return reasons
        return []


async def _all(calls: Iterable[Call], *, account: str | None = None) -> None:
    """Await all calls, some at once; see `results_of`."""
    await results_of(calls, at_once=_AT_ONCE, account=account)


def _batches(
    items: Iterable[Item], *, count: int, item_of: Callable[[Item], Item] = lambda item: item
) -> Iterator[list[Item]]:
    """Groups that one call may carry; `item_of` says which part of each counts as its size."""
    batch: list[Item] = []
    total = 0
    for item in items:
        size = _size(item_of(item))
        if batch and (len(batch) == count or total + size > _BYTES_PER_CALL):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


def _size(item: Item) -> int:
    """Roughly the bytes of an item."""
    return sum(len(name) + (len(raw) if isinstance(raw, str | bytes) else 1) for name, raw in _plain(item))


def _plain(item: Item) -> Iterator[tuple[str, Any]]:
    return ((name, raw) for name, value in item.items() for raw in value.values())


def _pauses() -> Iterator[float]:
    """Seconds to wait after each attempt: longer each time, never the same for two, none after the last."""
    for attempt in range(_ROUNDS - 1):
        yield _FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1)  # noqa: S311 - spreads writers, guards nothing
    yield 0


def _translated() -> AbstractContextManager[None]:
    return translated("the metadata table")


def _overloaded() -> Unavailable:
    return Unavailable("the metadata table does not answer; try again")


def _is_condition(error: ClientError) -> bool:
    return error_code(error) == "ConditionalCheckFailedException"


# ---- attributes


def _s(text: str) -> Item:
    return {"S": text}


def _n(number: int) -> Item:
    return {"N": str(number)}


def _b(raw: bytes) -> Item:
    return {"B": raw}


def _int(item: Mapping[str, Any], name: str) -> int:
    return int(item[name]["N"])


def _text(item: Mapping[str, Any], name: str) -> str:
    return str(item[name]["S"])


def _bytes(item: Mapping[str, Any], name: str) -> bytes:
    return bytes(item[name]["B"])


def _packed(numbers: Sequence[int]) -> Item:
    return _b(struct.pack(f"<{len(numbers)}I", *numbers))


def _numbers(item: Mapping[str, Any], name: str) -> tuple[int, ...]:
    raw = _bytes(item, name)
    return struct.unpack(f"<{len(raw) // 4}I", raw)


# ---- keys


def _key(pk: str, sk: str) -> Item:
    return {"pk": _s(pk), "sk": _s(sk)}


def _number(number: int) -> str:
    """A number as a key: in text order as in numeric order."""
    return f"{number:020}"


def _journal_pk(space: SpaceId) -> str:
    return f"S#{space}#J"


def _directory_pk(space: SpaceId, parent: NodeId) -> str:
    return f"S#{space}#D#{parent.hex()}"


def _versions_pk(space: SpaceId, node: NodeId) -> str:
    return f"S#{space}#V#{node.hex()}"


def _trash_pk(space: SpaceId) -> str:
    return f"S#{space}#T"


def _entry_key(space: SpaceId, seq: int) -> Item:
    return _key(_journal_pk(space), _number(seq))


def _state_key(space: SpaceId) -> Item:
    return _key(f"S#{space}", "STATE")


def _measure_key(space: SpaceId) -> Item:
    return _key(f"S#{space}", "MEASURE")


def _object_key(space: SpaceId, digest: Digest) -> Item:
    return _key(f"S#{space}#O", digest.hex())


def _node_at(space: SpaceId, node: NodeId) -> tuple[str, str]:
    return f"S#{space}#N#{node[:1].hex()}", node.hex()


def _name_at(space: SpaceId, name: NameKey) -> tuple[str, str]:
    return _directory_pk(space, name[0]), name[1]


def _request_at(space: SpaceId, request: RequestId) -> tuple[str, str]:
    return f"S#{space}#R", request.hex()


# ---- values to items and back


def _node_item(space: SpaceId, node: Node) -> Item:
    return {**_key(*_node_at(space, node.id)), "node": _serialised(node), "seq": _n(node.seq)}


def _version_item(space: SpaceId, node: Node) -> Item:
    return {**_key(_versions_pk(space, node.id), _number(node.version)), "node": _serialised(node)}


def _serialised(node: Node) -> Item:
    return _b(node_to_wire(node).SerializeToString())


def _node(item: Item) -> Node:
    return node_from_wire(journal_pb2.Node.FromString(_bytes(item, "node")))


def _take_node(rows: Rows, node: NodeId, item: Item) -> None:
    rows.nodes[node] = _node(item)


def _name_item(space: SpaceId, name: NameKey, holder: NodeId | None, seq: int, *, now: int) -> Item:
    held = {"expires_at": _n(now + _TOMBSTONE_SECONDS)} if holder is None else {"node": _b(holder)}
    return {**_key(*_name_at(space, name)), "seq": _n(seq), **held}


def _take_name(rows: Rows, name: NameKey, item: Item) -> None:
    rows.names[name] = (NodeId(_bytes(item, "node")) if "node" in item else None, _int(item, "seq"))


def _trash_item(space: SpaceId, node: NodeId, deleted: bool, seq: int, *, now: int) -> Item:
    item = {**_key(_trash_pk(space), node.hex()), "deleted": {"BOOL": deleted}, "seq": _n(seq)}
    return item if deleted else item | {"expires_at": _n(now + _TOMBSTONE_SECONDS)}


def _request_item(space: SpaceId, request: RequestId, seq: int, *, now: int) -> Item:
    return {**_key(*_request_at(space, request)), "seq": _n(seq), "expires_at": _n(now + _REQUEST_SECONDS)}


def _take_request(rows: Rows, request: RequestId, item: Item) -> None:
    rows.requests[request] = _int(item, "seq")


def _state(item: Mapping[str, Any] | None) -> ProjectionState:
    if item is None:
        return ProjectionState()
    marks = {process: int(until["N"]) for process, until in item["marks"]["M"].items()}
    return ProjectionState(_int(item, "projected_seq"), _int(item, "announced_seq"), _int(item, "used_bytes"), marks)


def _replacing(before: ProjectionState | None, after: ProjectionState) -> _Update:
    """What makes `after` of `before` (None: of nothing), as long as it is that."""
    update = "SET projected_seq = :projected, announced_seq = :announced, used_bytes = :used, marks = :marks"
    values = {
        ":projected": _n(after.projected_seq),
        ":announced": _n(after.announced_seq),
        ":used": _n(after.used_bytes),
        ":marks": _marks(after),
    }
    if after.marks:
        update += ", dirty_pk = :dirty, dirty_until = :until"
        values |= {":dirty": _DIRTY, ":until": _n(max(after.marks.values()))}
    else:
        update += " REMOVE dirty_pk, dirty_until"
    if before is None:
        return _Update(update=update, condition=_NEW, values=values, names={})
    not_moved = "projected_seq = :projected0 AND announced_seq = :announced0 AND used_bytes = :used0"
    same_marks = "marks = :marks0"
    values |= {
        ":projected0": _n(before.projected_seq),
        ":announced0": _n(before.announced_seq),
        ":used0": _n(before.used_bytes),
        ":marks0": _marks(before),
    }
    return _Update(update=update, condition=f"{not_moved} AND {same_marks}", values=values, names={})


def _marks(state: ProjectionState) -> Item:
    return {"M": {process: _n(until) for process, until in state.marks.items()}}


def _measure_item(space: SpaceId, measure: Measure) -> Item:
    return {
        **_measure_key(space),
        "unsealed_bytes": _n(measure.unsealed_bytes),
        "unsealed_objects": _n(measure.unsealed_objects),
        "stored_bytes": _n(measure.stored_bytes),
        "refused": {"BOOL": measure.refused},
        "since": _n(measure.since_ms),
        "at": _n(measure.at_ms),
        "next_at": _n(measure.next_at_ms),
    }


def _measure(item: Mapping[str, Any] | None) -> Measure:
    if item is None or "at" not in item:  # to be measured for the first time
        return Measure()
    return Measure(
        _int(item, "unsealed_bytes"),
        _int(item, "unsealed_objects"),
        _int(item, "stored_bytes"),
        item["refused"]["BOOL"],
        _int(item, "since"),
        _int(item, "at"),
        _int(item, "next_at"),
    )


def _object_item(space: SpaceId, digest: Digest, sealed: Sealed, now_ms: int, *, revision: int = 0) -> Item:
    item = {**_object_key(space, digest), "size": _n(sealed.size), "verified_at": _n(now_ms)}
    if revision:
        item["revision"] = _n(revision)
    if sealed.offsets:
        item |= {
            "blocks": _b(sealed.blocks),
            "offsets": _packed(sealed.offsets),
            "lengths": _packed(sealed.lengths),
        }
    if sealed.content_size is not None:
        item["content_size"] = _n(sealed.content_size)
    return item


def _is_sealed(item: Mapping[str, Any]) -> bool:
    """Return True for the record of a sealed object, False for the record of removals."""
    return "size" in item


def _sealed(item: Mapping[str, Any]) -> Sealed:
    content_size = _int(item, "content_size") if "content_size" in item else None
    if "offsets" not in item:
        return Sealed(_int(item, "size"), content_size=content_size)
    return Sealed(
        _int(item, "size"), _numbers(item, "offsets"), _numbers(item, "lengths"), _bytes(item, "blocks"), content_size
    )
