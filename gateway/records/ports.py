"""Records: small values that one request stores for later requests, in whatever process these run.

- WebDAV stores its locks, the properties that clients set and the server only keeps ("dead" properties in RFC 4918),
  and the recent requests that have changed nodes (`gateway.dav.steps`).
- Downloads by links store the bytes that were counted for a link and were not sent yet.
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
    """The value of a record, and `tag`, which is different after each write of the record. For a missing record, `data`
    and `tag` are empty.
    """

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
        """Return all records of a space whose names begin with `prefix`, by name; None if they have more than
        MAX_READ_BYTES together.
        """

    async def write(
        self, space: SpaceId, name: str, data: bytes, *, over: Record, expires_at: float | None = None
    ) -> None:
        """Write `data`, of at most MAX_RECORD_BYTES, as the record `name` of a space, or remove the record if `data` is
        empty.

        `over` is the record as the caller has read it. Raise RecordMoved and change nothing if another request has
        written the record since. `expires_at`, in seconds since 1970, is the time from which on the record may be
        dropped; None keeps it.
        """
