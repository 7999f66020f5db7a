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
import struct
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypedDict

from aws.dynamodb import (
    MAX_ITEMS_PER_WRITE,
    NEW,
    RETRIES,
    ConditionFailed,
    Item,
    MetTransaction,
    Table,
    all_done,
    attribute,
    bytes_of,
    flag_of,
    key_of,
    number_of,
    text_of,
)
from runtime.pool import Pool, Share
from runtime.turns import SLICE, slices
from services.metadata.entry import NameKey, Projection
from services.metadata.ports import (
    BYTES_READ_BACK,
    NO_REMOVALS,
    PROJECTION_WRITES,
    EntryTaken,
    Measure,
    ProjectionState,
    Recorded,
    Removal,
    Rows,
    Sealed,
)
from services.metadata.tree.view import version_of
from syncline.metadata.v1 import journal_pb2
from syncline.model.blocks import Digest
from syncline.model.errors import Unavailable
from syncline.model.identifiers import NodeId, RequestId, SpaceId
from syncline.model.limits import ANSWER_DAYS
from syncline.model.tree import Node, Version
from syncline.wire.tree import node_from_wire, node_to_wire

if TYPE_CHECKING:
    from typing import Unpack

    from types_aiobotocore_dynamodb.client import DynamoDBClient


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

_DIRTY: Final = {"S": "DIRTY"}
_TO_MEASURE: Final = {"S": "MEASURE"}
_SIZE: Final = "#size"
"""Expression name of the attribute `size`, which is a reserved word of DynamoDB."""

# Conditions.
_NEWER: Final = f"{NEW} OR seq < :seq"


class DynamoJournal:
    """Journal on the metadata table."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._items = Table(client, table, called="the metadata table")

    async def append(self, space: SpaceId, seq: int, blob: bytes) -> None:
        try:
            await self._items.put({**_entry_key(space, seq), "entry": attribute(blob)}, NEW)
        except ConditionFailed as failed:
            taken = failed.found or {}  # the condition fails only where there is an item
            raise EntryTaken(bytes_of(taken, "entry")) from None

    async def read(self, space: SpaceId, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        if limit == 1:  # asked before every answer, and mostly in vain: the cheapest read there is
            item = await self._items.get(_entry_key(space, after + 1))
            return [(after + 1, bytes_of(item, "entry"))] if item else []
        query = self._items.query(
            limit,
            KeyConditionExpression="pk = :journal AND sk > :after",
            ExpressionAttributeValues={":journal": attribute(_journal_pk(space)), ":after": attribute(_number(after))},
        )
        return [(int(text_of(item, "sk")), bytes_of(item, "entry")) async for item in query]

    async def before(self, space: SpaceId, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        query = self._items.query(
            limit,
            KeyConditionExpression="pk = :journal AND sk < :before",
            ExpressionAttributeValues={":journal": attribute(_journal_pk(space)), ":before": attribute(_number(seq))},
            ScanIndexForward=False,
        )
        found: list[tuple[int, bytes]] = []
        size = 0
        async with aclosing(query) as items:
            async for item in items:
                found.append((int(text_of(item, "sk")), bytes_of(item, "entry")))
                size += len(found[-1][1])
                if size >= BYTES_READ_BACK:
                    break
        return found


class DynamoTable:
    """TreeTable on the metadata table."""

    def __init__(
        self,
        client: DynamoDBClient,
        *,
        table: str,
        projection_writes: int = PROJECTION_WRITES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`projection_writes` is how many writes of projections are under way at once, of all spaces; one space alone
        has half of them. `clock` tells seconds since 1970; from it follows when items expire.
        """
        self._items = Table(client, table, called="the metadata table")
        self._writes = Pool("projection_writes", projection_writes, counted=True)
        self._clock = clock

    # ---- reads

    async def state(self, space: SpaceId) -> ProjectionState:
        return _state(await self._items.get(_state_key(space)))

    async def rows(
        self,
        space: SpaceId,
        *,
        nodes: Collection[NodeId] = (),
        names: Collection[NameKey] = (),
        requests: Collection[RequestId] = (),
    ) -> Rows:
        rows = Rows()
        takers: dict[tuple[str, str], Callable[[Item], None]] = {
            **{_node_at(space, node): partial(_take_node, rows, node) for node in nodes},
            **{_name_at(space, name): partial(_take_name, rows, name) for name in names},
            **{_request_at(space, request): partial(_take_request, rows, request) for request in requests},
        }
        account = space if len(takers) > SLICE else None
        items = await self._items.get_all((key_of(*at) for at in takers), account=account)
        async for some in slices(items, space):
            for item in some:
                takers[text_of(item, "pk"), text_of(item, "sk")](item)
        return rows

    async def list_names(self, space: SpaceId, parent: NodeId, *, after: str, limit: int) -> Rows:
        # DynamoDB orders strings by their UTF-8. A key is never empty, not even one to compare with.
        beyond: Item = {":after": attribute(after)} if after else {}
        query = self._items.query(
            limit + 1,
            KeyConditionExpression="pk = :directory AND sk > :after" if after else "pk = :directory",
            ExpressionAttributeValues={":directory": attribute(_directory_pk(space, parent)), **beyond},
        )
        found = [item async for item in query]
        rows = Rows(more=len(found) > limit)
        for item in found[:limit]:
            _take_name(rows, (parent, text_of(item, "sk")), item)
        return rows

    async def versions(self, space: SpaceId, node: NodeId, *, before: int, limit: int) -> Sequence[Version]:
        query = self._items.query(
            limit,
            KeyConditionExpression="pk = :node AND sk < :before",
            ExpressionAttributeValues={
                ":node": attribute(_versions_pk(space, node)),
                ":before": attribute(_number(before)),
            },
            ScanIndexForward=False,
        )
        return [version_of(_node(item)) async for item in query]

    async def trash(self, space: SpaceId, *, after: NodeId | None, limit: int) -> Sequence[tuple[NodeId, bool, int]]:
        beyond: Item = {":after": attribute(after.hex())} if after else {}
        query = self._items.query(
            limit,
            KeyConditionExpression="pk = :trash AND sk > :after" if after else "pk = :trash",
            ExpressionAttributeValues={":trash": attribute(_trash_pk(space)), **beyond},
        )
        return [
            (NodeId(bytes.fromhex(text_of(item, "sk"))), flag_of(item, "deleted"), number_of(item, "seq"))
            async for item in query
        ]

    # ---- projection

    async def project(self, space: SpaceId, projection: Projection) -> None:
        now = int(self._clock())
        superseded = await self._superseded(space, projection)
        changed = len(projection.nodes) + len(projection.names) + len(projection.trash)
        # Bulk is written in turns: others have the event loop in between. What is one write is written at once.
        is_bulk = changed + len(superseded) + len(projection.requests) > MAX_ITEMS_PER_WRITE
        written = partial(
            all_done,
            account=space if is_bulk else None,
            place=partial(self._writes.lent, 1, Share.alone(space), patience=None),
        )
        # Unconditional, since a version never changes; before the nodes, which may be all that tells of it now.
        await written(self._items.puts(_version_item(space, node) for node in superseded))
        # Items are made while others are written.
        items = chain(
            (_node_item(space, node) for node in projection.nodes.values()),
            (_name_item(space, name, *held, now=now) for name, held in projection.names.items()),
            (_trash_item(space, node, *held, now=now) for node, held in projection.trash.items()),
        )
        newer = ((item, {":seq": item["seq"]}) for item in items)
        answered = (_request_item(space, request, seq, now=now) for request, seq in projection.requests.items())
        await written(chain(self._items.puts_if(_NEWER, newer, changed, refused=None), self._items.puts(answered)))

    async def _superseded(self, space: SpaceId, projection: Projection) -> Collection[Node]:
        """The states whose versions the projection replaces, in the table and within itself."""
        stored = (await self.rows(space, nodes=projection.updated)).nodes if projection.updated else {}
        replaced = [node for node in stored.values() if node.version < projection.nodes[node.id].version]
        # A table that is ahead of the projection's start may hold a state that the projection supersedes itself.
        return {(node.id, node.version): node for node in (*replaced, *projection.superseded)}.values()

    # ---- the space's state

    async def save_progress(
        self, space: SpaceId, *, projected_seq: int, announced_seq: int, used_bytes: int, unmark: Mapping[str, int]
    ) -> None:
        def progress(state: ProjectionState) -> ProjectionState:
            return ProjectionState(
                projected_seq=max(state.projected_seq, projected_seq),
                announced_seq=max(state.announced_seq, announced_seq),
                used_bytes=used_bytes if projected_seq >= state.projected_seq else state.used_bytes,
                marks={process: until for process, until in state.marks.items() if unmark.get(process) != until},
            )

        # One write when nobody else is at work; who finds otherwise looks and tries again.
        moves_on = f"({NEW} OR (projected_seq <= :projected AND announced_seq <= :announced))"
        setting = "SET projected_seq = :projected, announced_seq = :announced, used_bytes = :used"
        values = {
            ":projected": attribute(projected_seq),
            ":announced": attribute(announced_seq),
            ":used": attribute(used_bytes),
        }
        names = {}
        if unmark:
            same_leases = " AND ".join(f"marks.#p{i} = :p{i}" for i in range(len(unmark)))
            no_others = "size(marks) = :count"
            condition = f"{moves_on} AND {same_leases} AND {no_others}"
            update = f"{setting} REMOVE {', '.join(f'marks.#p{i}' for i in range(len(unmark)))}, dirty_pk, dirty_until"
            values |= {f":p{i}": attribute(until) for i, until in enumerate(unmark.values())}
            values[":count"] = attribute(len(unmark))
            names = {f"#p{i}": process for i, process in enumerate(unmark)}
        else:
            condition, update = moves_on, f"{setting}, marks = if_not_exists(marks, :none)"
            values |= {":none": {"M": {}}}
        await self._change_state(space, progress, update=update, condition=condition, values=values, names=names)

    async def mark_dirty(self, space: SpaceId, process: str, lease_until_ms: int) -> None:
        def marked(state: ProjectionState) -> ProjectionState:
            return replace(state, marks={**state.marks, process: lease_until_ms})

        latest_lease = "attribute_not_exists(dirty_until) OR dirty_until <= :until"
        await self._change_state(
            space,
            marked,
            update="SET marks.#process = :until, dirty_pk = :dirty, dirty_until = :until",
            condition=f"attribute_exists(marks) AND ({latest_lease})",
            values={":until": attribute(lease_until_ms), ":dirty": _DIRTY},
            names={"#process": process},
        )

    async def stale(self, now_ms: int, limit: int) -> Sequence[SpaceId]:
        query = self._items.query(
            limit,
            consistent=False,
            IndexName="dirty",
            KeyConditionExpression="dirty_pk = :dirty AND dirty_until < :now",
            ExpressionAttributeValues={":dirty": _DIRTY, ":now": attribute(now_ms)},
        )
        return [SpaceId(text_of(item, "pk").removeprefix("S#")) async for item in query]

    async def _change_state(
        self, space: SpaceId, change: Callable[[ProjectionState], ProjectionState], **usual: Unpack[_Update]
    ) -> None:
        """Carry out the `usual` update if its condition holds; else make `change` of what is there."""
        update = usual
        for pause in RETRIES.pauses():
            try:
                await self._items.update(_state_key(space), **update)
            except ConditionFailed as failed:
                found = failed.found
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
        self._items = Table(client, table, called="the metadata table")
        self._clock = clock

    async def look(self, space: SpaceId, objects: Collection[Digest]) -> Recorded:
        sealed: dict[Digest, Sealed] = {}
        removals: dict[Digest, Removal] = {}
        for item in await self._items.get_all(_object_key(space, digest) for digest in set(objects)):
            digest = Digest(bytes.fromhex(text_of(item, "sk")))
            if _is_sealed(item):
                sealed[digest] = _sealed(item)
            else:
                removals[digest] = Removal(number_of(item, "removals"), number_of(item, "removing_until"))
        return Recorded(sealed, removals)

    async def sealed(self, space: SpaceId, objects: Collection[Digest]) -> Mapping[Digest, Sealed]:
        return (await self.look(space, objects)).sealed

    async def known(self, space: SpaceId, objects: Collection[Digest]) -> set[Digest]:
        keys = (_object_key(space, digest) for digest in set(objects))
        items = await self._items.get_all(keys, only=("sk", "size"))
        return {Digest(bytes.fromhex(text_of(item, "sk"))) for item in items if _is_sealed(item)}

    async def seal(
        self, space: SpaceId, objects: Mapping[Digest, Sealed], *, after: Mapping[Digest, int] = NO_REMOVALS
    ) -> set[Digest]:
        now_ms = int(self._clock() * 1000)
        new = [_object_item(space, digest, sealed, now_ms) for digest, sealed in objects.items() if digest not in after]
        held = {Digest(bytes.fromhex(text_of(item, "sk"))) for item in await self._items.put_new(new)}
        lost: set[Digest] = set()

        async def add(digest: Digest) -> None:
            if not await self._add(space, digest, objects[digest], now_ms, removals=after.get(digest, 0)):
                lost.add(digest)

        await all_done(partial(add, digest) for digest in held | (after.keys() & objects.keys()))
        return lost

    async def _add(self, space: SpaceId, digest: Digest, proven: Sealed, now_ms: int, *, removals: int) -> bool:
        """Add to a record that is there; if somebody else does so at this moment, then to theirs.

        Return False if the object is not sealed and its recorded number of removals is not `removals`.
        """
        found: Mapping[str, Any] | None = await self._items.get(_object_key(space, digest))
        for pause in RETRIES.pauses():
            if found is not None and _is_sealed(found):
                before = _sealed(found)
                if before.proves(proven):
                    return True
                revision = number_of(found, "revision") if "revision" in found else 0
                item = _object_item(space, digest, before.with_all_of(proven), now_ms, revision=revision + 1)
                condition = "revision = :number" if revision else "attribute_not_exists(revision)"
                values = {":number": attribute(revision)} if revision else None
            elif found is not None and number_of(found, "removals") == removals:
                item = _object_item(space, digest, proven, now_ms)
                condition, values = "removals = :number", {":number": attribute(removals)}
            else:  # also where what was recorded of a removal has gone since, after a week
                return False
            try:
                await self._items.put(item, condition, values)
            except ConditionFailed as failed:
                found = failed.found
                await asyncio.sleep(pause)
            except MetTransaction:
                await asyncio.sleep(pause)
            else:
                return True
        raise Unavailable("too many processes prove this object at this moment; try again")

    async def begin_removal(self, space: SpaceId, digest: Digest, *, now_ms: int, until_ms: int) -> int | None:
        is_over = f"attribute_not_exists({_SIZE}) AND (attribute_not_exists(removing_until) OR removing_until < :now)"
        try:
            after = await self._items.update(
                _object_key(space, digest),
                update="SET removals = if_not_exists(removals, :none) + :one, removing_until = :until, "
                "expires_at = :expiry",
                condition=is_over,
                values={
                    ":none": attribute(0),
                    ":one": attribute(1),
                    ":now": attribute(now_ms),
                    ":until": attribute(until_ms),
                    ":expiry": attribute(until_ms // 1000 + _TOMBSTONE_SECONDS),
                },
                names={_SIZE: "size"},
                returned=True,
            )
        except ConditionFailed:
            return None
        return number_of(after, "removals")

    async def end_removal(self, space: SpaceId, digest: Digest, number: int) -> None:
        with suppress(ConditionFailed):
            await self._items.update(
                _object_key(space, digest),
                update="SET removing_until = :over",
                condition="removals = :number",
                values={":over": attribute(0), ":number": attribute(number)},
            )


class DynamoMeasures:
    """MeasureTable on the metadata table."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._items = Table(client, table, called="the metadata table")

    async def schedule(self, spaces: Collection[SpaceId], now_ms: int) -> None:
        items = await self._items.get_all(_measure_key(space) for space in set(spaces))
        found = {SpaceId(text_of(item, "pk").removeprefix("S#")): item for item in items}
        await all_done(
            partial(self._schedule, space, max(now_ms, _measure(found.get(space)).next_at_ms))
            for space in set(spaces)
            if "dirty_pk" not in found.get(space, {})
        )

    async def _schedule(self, space: SpaceId, at_ms: int) -> None:
        with suppress(ConditionFailed):
            await self._items.update(
                _measure_key(space),
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
        return [
            (SpaceId(text_of(item, "pk").removeprefix("S#")), number_of(item, "dirty_until")) async for item in query
        ]

    async def claim(self, space: SpaceId, *, since_ms: int, until_ms: int) -> bool:
        try:
            await self._items.update(
                _measure_key(space),
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
        return _measure(await self._items.get(_measure_key(space)))


# ---- attributes


def _packed(numbers: Sequence[int]) -> Item:
    return attribute(struct.pack(f"<{len(numbers)}I", *numbers))


def _numbers(item: Mapping[str, Any], name: str) -> tuple[int, ...]:
    raw = bytes_of(item, name)
    return struct.unpack(f"<{len(raw) // 4}I", raw)


# ---- keys


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
    return key_of(_journal_pk(space), _number(seq))


def _state_key(space: SpaceId) -> Item:
    return key_of(f"S#{space}", "STATE")


def _measure_key(space: SpaceId) -> Item:
    return key_of(f"S#{space}", "MEASURE")


def _object_key(space: SpaceId, digest: Digest) -> Item:
    return key_of(f"S#{space}#O", digest.hex())


def _node_at(space: SpaceId, node: NodeId) -> tuple[str, str]:
    return f"S#{space}#N#{node[:1].hex()}", node.hex()


def _name_at(space: SpaceId, name: NameKey) -> tuple[str, str]:
    return _directory_pk(space, name[0]), name[1]


def _request_at(space: SpaceId, request: RequestId) -> tuple[str, str]:
    return f"S#{space}#R", request.hex()


# ---- values to items and back


def _node_item(space: SpaceId, node: Node) -> Item:
    return {**key_of(*_node_at(space, node.id)), "node": _serialised(node), "seq": attribute(node.seq)}


def _version_item(space: SpaceId, node: Node) -> Item:
    return {**key_of(_versions_pk(space, node.id), _number(node.version)), "node": _serialised(node)}


def _serialised(node: Node) -> Item:
    return attribute(node_to_wire(node).SerializeToString())


def _node(item: Item) -> Node:
    return node_from_wire(journal_pb2.Node.FromString(bytes_of(item, "node")))


def _take_node(rows: Rows, node: NodeId, item: Item) -> None:
    rows.nodes[node] = _node(item)


def _name_item(space: SpaceId, name: NameKey, holder: NodeId | None, seq: int, *, now: int) -> Item:
    held = {"expires_at": attribute(now + _TOMBSTONE_SECONDS)} if holder is None else {"node": attribute(holder)}
    return {**key_of(*_name_at(space, name)), "seq": attribute(seq), **held}


def _take_name(rows: Rows, name: NameKey, item: Item) -> None:
    rows.names[name] = (NodeId(bytes_of(item, "node")) if "node" in item else None, number_of(item, "seq"))


def _trash_item(space: SpaceId, node: NodeId, deleted: bool, seq: int, *, now: int) -> Item:
    item = {**key_of(_trash_pk(space), node.hex()), "deleted": attribute(deleted), "seq": attribute(seq)}
    return item if deleted else item | {"expires_at": attribute(now + _TOMBSTONE_SECONDS)}


def _request_item(space: SpaceId, request: RequestId, seq: int, *, now: int) -> Item:
    return {
        **key_of(*_request_at(space, request)),
        "seq": attribute(seq),
        "expires_at": attribute(now + _REQUEST_SECONDS),
    }


def _take_request(rows: Rows, request: RequestId, item: Item) -> None:
    rows.requests[request] = number_of(item, "seq")


def _state(item: Mapping[str, Any] | None) -> ProjectionState:
    if item is None:
        return ProjectionState()
    marks = {process: int(until["N"]) for process, until in item["marks"]["M"].items()}
    return ProjectionState(
        number_of(item, "projected_seq"), number_of(item, "announced_seq"), number_of(item, "used_bytes"), marks
    )


def _replacing(before: ProjectionState | None, after: ProjectionState) -> _Update:
    """Return the update that replaces the state `before` (None: no state) by `after`, on the condition that it is
    still stored.
    """
    update = "SET projected_seq = :projected, announced_seq = :announced, used_bytes = :used, marks = :marks"
    values = {
        ":projected": attribute(after.projected_seq),
        ":announced": attribute(after.announced_seq),
        ":used": attribute(after.used_bytes),
        ":marks": _marks(after),
    }
    if after.marks:
        update += ", dirty_pk = :dirty, dirty_until = :until"
        values |= {":dirty": _DIRTY, ":until": attribute(max(after.marks.values()))}
    else:
        update += " REMOVE dirty_pk, dirty_until"
    if before is None:
        return _Update(update=update, condition=NEW, values=values, names={})
    not_moved = "projected_seq = :projected0 AND announced_seq = :announced0 AND used_bytes = :used0"
    same_marks = "marks = :marks0"
    values |= {
        ":projected0": attribute(before.projected_seq),
        ":announced0": attribute(before.announced_seq),
        ":used0": attribute(before.used_bytes),
        ":marks0": _marks(before),
    }
    return _Update(update=update, condition=f"{not_moved} AND {same_marks}", values=values, names={})


def _marks(state: ProjectionState) -> Item:
    return {"M": {process: attribute(until) for process, until in state.marks.items()}}


def _measure_item(space: SpaceId, measure: Measure) -> Item:
    return {
        **_measure_key(space),
        "unsealed_bytes": attribute(measure.unsealed_bytes),
        "unsealed_objects": attribute(measure.unsealed_objects),
        "stored_bytes": attribute(measure.stored_bytes),
        "refused": attribute(measure.refused),
        "since": attribute(measure.since_ms),
        "at": attribute(measure.at_ms),
        "next_at": attribute(measure.next_at_ms),
    }


def _measure(item: Mapping[str, Any] | None) -> Measure:
    if item is None or "at" not in item:  # to be measured for the first time
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


def _object_item(space: SpaceId, digest: Digest, sealed: Sealed, now_ms: int, *, revision: int = 0) -> Item:
    item = {**_object_key(space, digest), "size": attribute(sealed.size), "verified_at": attribute(now_ms)}
    if revision:
        item["revision"] = attribute(revision)
    if sealed.offsets:
        item |= {
            "blocks": attribute(sealed.blocks),
            "offsets": _packed(sealed.offsets),
            "lengths": _packed(sealed.lengths),
        }
    if sealed.content_size is not None:
        item["content_size"] = attribute(sealed.content_size)
    return item


def _is_sealed(item: Mapping[str, Any]) -> bool:
    """Return True for the record of a sealed object, False for the record of removals."""
    return "size" in item


def _sealed(item: Mapping[str, Any]) -> Sealed:
    content_size = number_of(item, "content_size") if "content_size" in item else None
    if "offsets" not in item:
        return Sealed(number_of(item, "size"), content_size=content_size)
    return Sealed(
        number_of(item, "size"),
        _numbers(item, "offsets"),
        _numbers(item, "lengths"),
        bytes_of(item, "blocks"),
        content_size,
    )
