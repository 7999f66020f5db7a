"""The index of the proven objects of a space, and of objects that are being removed, in the metadata table."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aws.dynamodb import (
    RETRIES,
    ConditionFailed,
    Item,
    MetTransaction,
    Table,
    all_done,
    attribute,
    bytes_of,
    number_of,
)
from services.metadata.adapters.layout import TOMBSTONE_SECONDS, object_of, record_key
from services.metadata.ports import NO_REMOVALS, Recorded, Removal, Sealed
from syncline.model.blocks import Digest
from syncline.model.errors import Unavailable
from syncline.model.identifiers import SpaceId

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient


_SIZE: Final = "#size"
"""Expression name of the attribute `size`, which is a reserved word of DynamoDB."""


class DynamoObjectIndex:
    """Implements ObjectIndex on the metadata table."""

    def __init__(self, client: DynamoDBClient, *, table: str, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns seconds since 1970."""
        self._items = Table(client, table, called="the metadata table")
        self._clock = clock

    async def look(self, space: SpaceId, objects: Collection[Digest]) -> Recorded:
        sealed: dict[Digest, Sealed] = {}
        removals: dict[Digest, Removal] = {}
        for item in await self._items.get_all(record_key(space, digest) for digest in set(objects)):
            digest = object_of(item)
            if _is_sealed(item):
                sealed[digest] = _sealed(item)
            else:
                removals[digest] = Removal(number_of(item, "removals"), number_of(item, "removing_until"))
        return Recorded(sealed, removals)

    async def sealed(self, space: SpaceId, objects: Collection[Digest]) -> Mapping[Digest, Sealed]:
        return (await self.look(space, objects)).sealed

    async def known(self, space: SpaceId, objects: Collection[Digest]) -> set[Digest]:
        keys = (record_key(space, digest) for digest in set(objects))
        items = await self._items.get_all(keys, only=("sk", "size"))
        return {object_of(item) for item in items if _is_sealed(item)}

    async def seal(
        self, space: SpaceId, objects: Mapping[Digest, Sealed], *, after: Mapping[Digest, int] = NO_REMOVALS
    ) -> set[Digest]:
        now_ms = int(self._clock() * 1000)
        new = [_object_item(space, digest, sealed, now_ms) for digest, sealed in objects.items() if digest not in after]
        held = {object_of(item) for item in await self._items.put_new(new)}
        lost: set[Digest] = set()

        async def add(digest: Digest) -> None:
            if not await self._add(space, digest, objects[digest], now_ms, removals=after.get(digest, 0)):
                lost.add(digest)

        await all_done(partial(add, digest) for digest in held | (after.keys() & objects.keys()))
        return lost

    async def _add(self, space: SpaceId, digest: Digest, proven: Sealed, now_ms: int, *, removals: int) -> bool:
        """Add proven facts to the record of an object that exists already, and return True. If a concurrent write
        changes the record first, the facts are added to the changed record. `removals` is the number of removals of the
        object that was read before the facts were proven.

        Change nothing and return False if the object is not sealed and another removal of it has begun since. Raise
        Unavailable if concurrent writers come first too often.
        """
        found: Mapping[str, Any] | None = await self._items.get(record_key(space, digest))
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
            else:  # also if the record of a removal has expired since, which takes a week
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
                record_key(space, digest),
                update="SET removals = if_not_exists(removals, :none) + :one, removing_until = :until, "
                "expires_at = :expiry",
                condition=is_over,
                values={
                    ":none": attribute(0),
                    ":one": attribute(1),
                    ":now": attribute(now_ms),
                    ":until": attribute(until_ms),
                    ":expiry": attribute(until_ms // 1000 + TOMBSTONE_SECONDS),
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
                record_key(space, digest),
                update="SET removing_until = :over",
                condition="removals = :number",
                values={":over": attribute(0), ":number": attribute(number)},
            )


def _packed(numbers: Sequence[int]) -> Item:
    return attribute(struct.pack(f"<{len(numbers)}I", *numbers))


def _numbers(item: Mapping[str, Any], name: str) -> tuple[int, ...]:
    raw = bytes_of(item, name)
    return struct.unpack(f"<{len(raw) // 4}I", raw)


def _object_item(space: SpaceId, digest: Digest, sealed: Sealed, now_ms: int, *, revision: int = 0) -> Item:
    item = {**record_key(space, digest), "size": attribute(sealed.size), "verified_at": attribute(now_ms)}
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
    """Return True if a stored record is that of a sealed object, and False if it is that of the removals of an unsealed
    one.
    """
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
