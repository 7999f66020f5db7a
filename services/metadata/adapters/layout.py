"""The items of the metadata table: journal, tree, proven objects and measures lie in one DynamoDB table.

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
| MEASURE | `S#{space}` | `MEASURE` | the last measure of the objects of the space, and its time `at`; the time since which there was no gap between measures (`since`; removals depend on it), and the earliest time of the next one (`next_at`); while a measure is scheduled also `dirty_pk` and `dirty_until`, its time, which put the item into the index `dirty` |

Ids and digests in keys are hexadecimal. Times are milliseconds since 1970, except `expires_at`, DynamoDB's time to
live, which is in seconds. Tombstones, also those of removed objects, expire after a week, requests after 30 days. All
reads except those of the index are consistent.
"""  # noqa: E501 - a table

from __future__ import annotations

from typing import Final

DAY_SECONDS: Final = 86_400
TOMBSTONE_SECONDS: Final = 7 * DAY_SECONDS
"""A tombstone lives much longer than a projector can stall. A late write under the old name therefore meets the
tombstone's newer seq and is refused.
"""


def ordered(number: int) -> str:
    """Return a number as a key whose text order equals the numeric order."""
    return f"{number:020}"
