"""Records in memory, for tests and for a gateway that is alone."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from gateway.records.ports import MAX_READ_BYTES, NOTHING, Record, RecordMoved
from syncline.model.identifiers import SpaceId


class InMemoryRecords:
    """Records in a dictionary."""

    def __init__(self) -> None:
        self._records: dict[tuple[SpaceId, str], Record] = {}

    async def read(self, space: SpaceId, names: Sequence[str]) -> Mapping[str, Record]:
        return {name: self._records[space, name] for name in names if (space, name) in self._records}

    async def read_all(self, space: SpaceId, prefix: str) -> Mapping[str, Record] | None:
        found = {
            name: record
            for (owner, name), record in self._records.items()
            if owner == space and name.startswith(prefix)
        }
        return found if sum(len(record.data) for record in found.values()) <= MAX_READ_BYTES else None

    async def write(
        self,
        space: SpaceId,
        name: str,
        data: bytes,
        *,
        over: Record,
        expires_at: float | None = None,
    ) -> None:
        if self._records.get((space, name), NOTHING).tag != over.tag:
            raise RecordMoved
        if data:
            self._records[space, name] = Record(data, secrets.token_hex(8))
        else:
            self._records.pop((space, name), None)
