"""The items of the metadata table: journal, tree, proven objects and measurements are in one DynamoDB table.

| item | pk | sk | holds |
|---|---|---|---|
| JOURNAL | `S#{space}#J` | `{seq:020}` | `entry`: the serialised entry |
| STATE | `S#{space}` | `STATE` | `projected_seq`, `announced_seq`, `used_bytes`; `nodes`, the number of nodes after entry `nodes_seq`, valid only if that equals `projected_seq`; `marks` (process -> lease end); while there are marks also `dirty_pk` and `dirty_until`, the latest lease end, which put the item into the index `dirty` |
| NODE | `S#{space}#N#{first byte of id}` | `{node}` | `node`: the serialised state; `seq` |
| NAME | `S#{space}#D#{parent}` | `{name}` | `node`: the node that has the name, absent in a tombstone; `seq` |
| VERSION | `S#{space}#V#{node}` | `{version:020}` | `node`: the serialised state whose version it was |
| TRASH | `S#{space}#T` | `{node}` | `deleted`: false in a tombstone; `seq` |
| REQUEST | `S#{space}#R` | `{request}` | `seq` of the entry that answered it |
| OBJECT | `S#{space}#O` | `{sha256}` | `size`; of packs `blocks`, `offsets`, `lengths` (packed, integers as little-endian uint32); of a manifest `content_size`; `verified_at`, the time of the last proof; `revision`, the number of additions, absent for none; or, for an unsealed object that was removed, `removals`, the number of removals, and `removing_until`, the time at which the last one is certainly over |
| MEASURE | `S#{space}` | `MEASURE` | the last measurement of the objects of the space, and its time `at`; the time since which there was no gap between measurements (`since`; removals depend on it), and the earliest time of the next one (`next_at`); while a measurement is scheduled also `dirty_pk` and `dirty_until`, its time, which put the item into the index `dirty` |

Ids and digests in keys are hexadecimal. Times are milliseconds since 1970, except `expires_at`, DynamoDB's time to
live, which is in seconds. Tombstones, also those of removed objects, expire after a week, requests after 30 days. All
reads except those of the index are consistent.
"""  # noqa: E501 - a table

from __future__ import annotations

from typing import Final

from aws.dynamodb import Item, key_of, text_of
from services.metadata.entry import NameKey
from syncline.model.blocks import Digest
from syncline.model.identifiers import NodeId, RequestId, SpaceId

_SPACE: Final = "S#"

DAY_SECONDS: Final = 86_400
TOMBSTONE_SECONDS: Final = 7 * DAY_SECONDS
"""Seconds after which the item of a free name (a tombstone) expires: much longer than a process can stall while it
writes a projection. A late write of the old state therefore meets the tombstone's higher sequence number and is
refused.
"""


def ordered(number: int) -> str:
    """Return a number as text for a sort key: the order of the texts is that of the numbers."""
    return f"{number:020}"


# ---- partition keys


def space_pk(space: SpaceId) -> str:
    return f"{_SPACE}{space}"


def journal_pk(space: SpaceId) -> str:
    return f"{space_pk(space)}#J"


def directory_pk(space: SpaceId, parent: NodeId) -> str:
    return f"{space_pk(space)}#D#{parent.hex()}"


def versions_pk(space: SpaceId, node: NodeId) -> str:
    return f"{space_pk(space)}#V#{node.hex()}"


def trash_pk(space: SpaceId) -> str:
    return f"{space_pk(space)}#T"


# ---- keys of items


def entry_key(space: SpaceId, seq: int) -> Item:
    return key_of(journal_pk(space), ordered(seq))


def state_key(space: SpaceId) -> Item:
    return key_of(space_pk(space), "STATE")


def node_at(space: SpaceId, node: NodeId) -> tuple[str, str]:
    """Return the partition key and the sort key of a NODE item, as text."""
    return f"{space_pk(space)}#N#{node[:1].hex()}", node.hex()


def name_at(space: SpaceId, name: NameKey) -> tuple[str, str]:
    """Return the partition key and the sort key of a NAME item, as text."""
    return directory_pk(space, name[0]), name[1]


def request_at(space: SpaceId, request: RequestId) -> tuple[str, str]:
    """Return the partition key and the sort key of a REQUEST item, as text."""
    return f"{space_pk(space)}#R", request.hex()


def version_key(space: SpaceId, node: NodeId, version: int) -> Item:
    return key_of(versions_pk(space, node), ordered(version))


def trash_key(space: SpaceId, node: NodeId) -> Item:
    return key_of(trash_pk(space), node.hex())


def record_key(space: SpaceId, digest: Digest) -> Item:
    """Return the key of the record (OBJECT item) of an object; `syncline.model.blocks.object_key` returns the key of
    its bytes in S3.
    """
    return key_of(f"{space_pk(space)}#O", digest.hex())


def measure_key(space: SpaceId) -> Item:
    return key_of(space_pk(space), "MEASURE")


# ---- parts of keys, read back


def space_of(item: Item) -> SpaceId:
    """Return the space of a STATE or MEASURE item, whose partition key consists of the space alone."""
    return SpaceId(text_of(item, "pk").removeprefix(_SPACE))


def object_of(item: Item) -> Digest:
    """Return the digest of the object that an OBJECT item describes."""
    return Digest(bytes.fromhex(text_of(item, "sk")))
