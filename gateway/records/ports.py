"""Records: small values that requests store for later requests, across all processes. WebDAV stores locks, dead
properties and the recent steps of clients; downloads by links store their unspent bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from syncline.model.identifiers import SpaceId

MAX_RECORD_BYTES: Final = 256 * 1024
MAX_READ_BYTES: Final = 1_000_000
"""Maximum number of bytes of records that one request may hold in memory ahead of use: the size of one DynamoDB page.
"""


class RecordMoved(Exception):
    """A concurrent request wrote this record: read it again, and decide anew."""


@dataclass(frozen=True, slots=True)
class Record:
    """A value, and the tag of the write that made it. For a missing record, `data` and `tag` are empty."""

    data: bytes = b""
    tag: str = ""


NOTHING: Final = Record()


class Records(Protocol):
    """Store of small values of a space, each under a name of at most 100 characters. All methods raise Unavailable if
    the store does not answer.

    Reads are consistent across processes. An expired record may still be returned.
    """

    async def read(self, space: SpaceId, names: Sequence[str]) -> Mapping[str, Record]:
        """Return those of the named records that exist, by name."""

    async def read_all(self, space: SpaceId, prefix: str) -> Mapping[str, Record] | None:
        """Return all records whose names begin with `prefix`; None if they exceed MAX_READ_BYTES."""

    async def write(
        self, space: SpaceId, name: str, data: bytes, *, over: Record, expires_at: float | None = None
    ) -> None:
        """Write at most MAX_RECORD_BYTES, or remove the record if `data` is empty, on the condition that the stored
        record is still `over`; otherwise raise RecordMoved.

        `expires_at`, in seconds since 1970, is the time from which on the record may be dropped.
        """
