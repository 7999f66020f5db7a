"""The items of the metadata table: journal, tree, proven objects and measures lie in one DynamoDB table.

| item | pk | sk | holds |
|---|---|---|---|
| JOURNAL | `S#{space}#J` | `{seq:020}` | `entry`: the serialised entry |
| STATE | `S#{space}` | `STATE` | `projected_seq`, `announced_seq`, `used_bytes`; `nodes`, the number of nodes after entry `nodes_seq`, right if that is `projected_seq`; `marks` (process -> lease end); while there are marks also `dirty_pk` and `dirty_until`, their latest, which put it into the index `dirty` |
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

from typing import Final

DAY_SECONDS: Final = 86_400
TOMBSTONE_SECONDS: Final = 7 * DAY_SECONDS
"""A tombstone lives much longer than a projector can stall. A late write under the old name therefore meets the
tombstone's newer seq and is refused.
"""


def ordered(number: int) -> str:
    """Return a number as a key whose text order equals the numeric order."""
    return f"{number:020}"
