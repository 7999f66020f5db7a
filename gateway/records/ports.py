"""Records that WebDAV keeps between requests, whichever process serves them: locks and dead properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from syncline.model.identifiers import SpaceId

MAX_RECORD_BYTES: Final = 256 * 1024
MAX_READ_BYTES: Final = 1_000_000
"""Maximum number of bytes of records that one request may hold without needing them all; as many as DynamoDB reads
at once.
"""


class RecordMoved(Exception):
    """Somebody else wrote this record meanwhile: read it again, decide anew."""


@dataclass(frozen=True, slots=True)
class Record:
    """A value, and the tag of the writing that made it. Where there is none, `data` and `tag` are empty."""

    data: bytes = b""
    tag: str = ""


NOTHING: Final = Record()


class Records(Protocol):
    """Small values of a space, each by a name of at most 100 characters. All methods raise Unavailable.

    What was written is read by every process from then on. A record whose time is over may be there or not.
    """

    async def read(self, space: SpaceId, names: Sequence[str]) -> Mapping[str, Record]:
        """Return those of the named records that exist, by name."""

    async def read_all(self, space: SpaceId, prefix: str) -> Mapping[str, Record] | None:
        """All records whose names begin with `prefix`; None if they are more than MAX_READ_BYTES."""

    async def write(
        self, space: SpaceId, name: str, data: bytes, *, over: Record, expires_at: float | None = None
    ) -> None:
        """Write at most MAX_RECORD_BYTES over what was read, or remove it if `data` is empty; else RecordMoved.

        `expires_at`, in seconds since 1970, is when it may be forgotten.
        """
