"""The projection of the journal as a tree, and the sequence numbers up to which it is projected and announced, in the
metadata table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
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
from runtime.turns import SLICE_ITEMS, slices
from services.metadata.adapters.layout import (
    DAY_SECONDS,
    TOMBSTONE_SECONDS,
    directory_pk,
    name_at,
    node_at,
    ordered,
    request_at,
    space_of,
    state_key,
    trash_key,
    trash_pk,
    version_key,
    versions_pk,
)
from services.metadata.entry import NameKey, Projection
from services.metadata.ports import MAX_PROJECTION_WRITES, ProjectionState, Rows
from services.metadata.tree.view import version_of
from syncline.metadata.v1 import journal_pb2
from syncline.model.errors import Unavailable
from syncline.model.identifiers import NodeId, RequestId, SpaceId
from syncline.model.limits import ANSWER_DAYS
from syncline.model.tree import Node, Version
from syncline.wire.tree import node_from_wire, node_to_wire

if TYPE_CHECKING:
    from typing import Unpack

    from types_aiobotocore_dynamodb.client import DynamoDBClient


class _Update(TypedDict):
    """An update of a DynamoDB item: its expression, its condition, and the names and values that both refer to."""

    update: str
    condition: str
    values: Item
    names: Mapping[str, str]


_REQUEST_SECONDS: Final = ANSWER_DAYS * DAY_SECONDS
_DIRTY: Final = {"S": "DIRTY"}
_NEWER: Final = f"{NEW} OR seq < :seq"


class DynamoTable:
    """Implements TreeTable on the metadata table."""

    def __init__(
        self,
        client: DynamoDBClient,
        *,
        table: str,
        projection_writes: int = MAX_PROJECTION_WRITES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`projection_writes` is the maximum number of concurrent writes of projections, over all spaces; one space may
        have half of them. `clock` returns seconds since 1970; the expiry times of items are computed from it.
        """
        self._items = Table(client, table, called="the metadata table")
        self._writes = Pool("projection_writes", projection_writes, counted=True)
        self._clock = clock

    # ---- reads

    async def state(self, space: SpaceId) -> ProjectionState:
        return _state(await self._items.get(state_key(space)))

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
            **{node_at(space, node): partial(_take_node, rows, node) for node in nodes},
            **{name_at(space, name): partial(_take_name, rows, name) for name in names},
            **{request_at(space, request): partial(_take_request, rows, request) for request in requests},
        }
        account = space if len(takers) > SLICE_ITEMS else None
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
            ExpressionAttributeValues={":directory": attribute(directory_pk(space, parent)), **beyond},
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
                ":node": attribute(versions_pk(space, node)),
                ":before": attribute(ordered(before)),
            },
            ScanIndexForward=False,
        )
        return [version_of(_node(item)) async for item in query]

    async def trash(self, space: SpaceId, *, after: NodeId | None, limit: int) -> Sequence[tuple[NodeId, bool, int]]:
        beyond: Item = {":after": attribute(after.hex())} if after else {}
        query = self._items.query(
            limit,
            KeyConditionExpression="pk = :trash AND sk > :after" if after else "pk = :trash",
            ExpressionAttributeValues={":trash": attribute(trash_pk(space)), **beyond},
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
        # A large projection waits for turns, so that other coroutines run in between. A projection that fits into one
        # write needs no turn.
        is_bulk = changed + len(superseded) + len(projection.requests) > MAX_ITEMS_PER_WRITE
        written = partial(
            all_done,
            account=space if is_bulk else None,
            place=partial(self._writes.lent, 1, Share.alone(space), patience=None),
        )
        # The put has no condition, because a version never changes. Versions are written before nodes: until then, the
        # node's row may be the only place that holds the version.
        await written(self._items.puts(_version_item(space, node) for node in superseded))
        # Items are encoded while earlier ones are being written.
        items = chain(
            (_node_item(space, node) for node in projection.nodes.values()),
            (_name_item(space, name, *held, now=now) for name, held in projection.names.items()),
            (_trash_item(space, node, *held, now=now) for node, held in projection.trash.items()),
        )
        newer = ((item, {":seq": item["seq"]}) for item in items)
        answered = (_request_item(space, request, seq, now=now) for request, seq in projection.requests.items())
        await written(chain(self._items.puts_if(_NEWER, newer, changed, refused=None), self._items.puts(answered)))

    async def _superseded(self, space: SpaceId, projection: Projection) -> Collection[Node]:
        """Return the states of files whose versions `projection` supersedes: those that are in the table now, and those
        that occur only between two entries of the projection.
        """
        stored = (await self.rows(space, nodes=projection.updated)).nodes if projection.updated else {}
        replaced = [node for node in stored.values() if node.version < projection.nodes[node.id].version]
        # If the table is ahead of the start of the projection, it may hold a state that the projection itself
        # supersedes.
        return {(node.id, node.version): node for node in (*replaced, *projection.superseded)}.values()

    # ---- the space's state

    async def save_progress(
        self,
        space: SpaceId,
        *,
        projected_seq: int,
        announced_seq: int,
        used_bytes: int,
        unmark: Mapping[str, int],
        nodes: int | None = None,
    ) -> None:
        def progress(state: ProjectionState) -> ProjectionState:
            return ProjectionState(
                projected_seq=max(state.projected_seq, projected_seq),
                announced_seq=max(state.announced_seq, announced_seq),
                used_bytes=used_bytes if projected_seq >= state.projected_seq else state.used_bytes,
                marks={process: until for process, until in state.marks.items() if unmark.get(process) != until},
                nodes=state.nodes if (projected_seq, nodes is not None) < (state.projected_seq, True) else nodes,
            )

        # One write suffices if no other process is projecting; if the condition fails, the state is read and the change
        # is tried again.
        moves_on = f"({NEW} OR (projected_seq <= :projected AND announced_seq <= :announced))"
        setting = "SET projected_seq = :projected, announced_seq = :announced, used_bytes = :used"
        values = {
            ":projected": attribute(projected_seq),
            ":announced": attribute(announced_seq),
            ":used": attribute(used_bytes),
        }
        if nodes is not None:
            setting += ", nodes = :nodes, nodes_seq = :projected"
            values[":nodes"] = attribute(nodes)
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
        return [space_of(item) async for item in query]

    async def _change_state(
        self, space: SpaceId, change: Callable[[ProjectionState], ProjectionState], **usual: Unpack[_Update]
    ) -> None:
        """Apply the update `usual` to the STATE item of a space if its condition holds. Otherwise read the state, and
        replace it by the state that `change` returns for it; repeat this if a concurrent writer comes first. Raise
        Unavailable if that happens too often.
        """
        update = usual
        for pause in RETRIES.pauses():
            try:
                await self._items.update(state_key(space), **update)
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


def _node_item(space: SpaceId, node: Node) -> Item:
    return {**key_of(*node_at(space, node.id)), "node": _serialised(node), "seq": attribute(node.seq)}


def _version_item(space: SpaceId, node: Node) -> Item:
    return {**version_key(space, node.id, node.version), "node": _serialised(node)}


def _serialised(node: Node) -> Item:
    return attribute(node_to_wire(node).SerializeToString())


def _node(item: Item) -> Node:
    return node_from_wire(journal_pb2.Node.FromString(bytes_of(item, "node")))


def _take_node(rows: Rows, node: NodeId, item: Item) -> None:
    rows.nodes[node] = _node(item)


def _name_item(space: SpaceId, name: NameKey, holder: NodeId | None, seq: int, *, now: int) -> Item:
    held = {"expires_at": attribute(now + TOMBSTONE_SECONDS)} if holder is None else {"node": attribute(holder)}
    return {**key_of(*name_at(space, name)), "seq": attribute(seq), **held}


def _take_name(rows: Rows, name: NameKey, item: Item) -> None:
    rows.names[name] = (NodeId(bytes_of(item, "node")) if "node" in item else None, number_of(item, "seq"))


def _trash_item(space: SpaceId, node: NodeId, deleted: bool, seq: int, *, now: int) -> Item:
    item = {**trash_key(space, node), "deleted": attribute(deleted), "seq": attribute(seq)}
    return item if deleted else item | {"expires_at": attribute(now + TOMBSTONE_SECONDS)}


def _request_item(space: SpaceId, request: RequestId, seq: int, *, now: int) -> Item:
    return {
        **key_of(*request_at(space, request)),
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
        number_of(item, "projected_seq"),
        number_of(item, "announced_seq"),
        number_of(item, "used_bytes"),
        marks,
        # A process older than the node count advances `projected_seq` and leaves the number unchanged, so that the
        # number is stale.
        number_of(item, "nodes") if item.get("nodes_seq") == item["projected_seq"] else None,
    )


def _replacing(before: ProjectionState | None, after: ProjectionState) -> _Update:
    """Return the update that replaces the state `before` (None: no state) by `after`, on the condition that `before` is
    still stored.
    """
    update = "SET projected_seq = :projected, announced_seq = :announced, used_bytes = :used, marks = :marks"
    values = {
        ":projected": attribute(after.projected_seq),
        ":announced": attribute(after.announced_seq),
        ":used": attribute(after.used_bytes),
        ":marks": _marks(after),
    }
    if after.nodes is not None:
        update += ", nodes = :nodes, nodes_seq = :projected"
        values[":nodes"] = attribute(after.nodes)
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
