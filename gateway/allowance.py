"""What is left of the downloads of a public link that allows only so many.

A download is counted at its first byte, and the count buys as many bytes as the content has. If the transfer breaks
off, the unspent bytes are stored in a record of the link and the content; the next request for the same content by the
same link uses them and is not counted. A request that continues may take the whole content, so at most two copies go
out for one count.

An archive has no ranges and no known size: one that broke off may be begun once more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from core.errors import LinkExhausted, Unavailable
from core.identifiers import SpaceId
from gateway.dav.ports import NOTHING, Record, RecordMoved, Records
from runtime.logs import structlog

_KEPT_SECONDS: Final = 30 * 86_400
"""How long what is left over can be used."""
_PATIENCE_SECONDS: Final = 3.0
"""How long a request waits for what another one, which seems to be under way, may leave over: a client that comes again
at once is often there before its first connection is known to be broken."""
_LOOK_SECONDS: Final = 0.2
_ROUNDS: Final = 10
_SETTLING_SECONDS: Final = 5.0
_REMEMBERED: Final = 10_000

Count = Callable[[], Awaitable[bool]]
"""Counts a download of the link; whether the link limits them. LinkExhausted."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """What is downloaded by which link: `what` is a content or a node."""

    space: SpaceId
    link: str
    what: str

    @property
    def record(self) -> str:
        """The name of the record of what is left over: bytes in decimal, 0 while a download is under way."""
        return f"link/{self.link}/{self.what}"


class Allowance:
    """The downloads of all links, whichever process serves them."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._unlimited: LRUCache[str, bool] = LRUCache(_REMEMBERED)
        """Links that do not limit downloads: that never changes."""
        self._settling: set[asyncio.Task[None]] = set()

    async def begin(self, place: Place, count: Count, *, size: int | None) -> Download | None:
        """Go on with a download that broke off, else count one; None if the link does not limit them. LinkExhausted.

        `size` in bytes is that of the content; None for an archive.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            record = NOTHING if place.link in self._unlimited else await self._read(place)
            left = int(record.data or b"0")
            if left:
                if await self._write(place, 0, over=record, under_way=True):
                    return Download(self, place, left=left, continued=True, by_bytes=size is not None)
                continue  # somebody else took it
            try:
                limited = await count()
            except LinkExhausted:
                if not record.data or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            if not limited:
                self._unlimited[place.link] = True
                return None
            if not record.data:
                await self._write(place, 0, over=record, under_way=True)  # if not, another one has written it
            worth = 1 if size is None else size
            return Download(self, place, left=worth, continued=False, by_bytes=size is not None)

    def put_back(self, place: Place, left: int) -> None:
        """Keep what a download leaves over, in the background: whoever ends it may be about to be cancelled."""
        task = asyncio.create_task(self._put_back(place, left))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def settled(self) -> None:
        """Return when everything is kept, or after a few seconds."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=_SETTLING_SECONDS)

    async def _put_back(self, place: Place, left: int) -> None:
        try:
            for _ in range(_ROUNDS):
                record = await self._read(place)
                if await self._write(place, int(record.data or b"0") + left, over=record):
                    return
            log.warning("unspent bytes are lost", link=place.link, reason="others wrote the record each time")
        except Unavailable as error:
            log.warning("unspent bytes are lost", link=place.link, reason=str(error))
        except Exception:  # nobody awaits this task
            log.exception("unspent bytes are lost", link=place.link)

    async def _read(self, place: Place) -> Record:
        return (await self._records.read(place.space, [place.record])).get(place.record, NOTHING)

    async def _write(self, place: Place, left: int, *, over: Record, under_way: bool = False) -> bool:
        """Whether it was written, and not by somebody else meanwhile."""
        data = b"%d" % left if left or under_way else b""
        if not data and not over.data:
            return True
        try:
            expires_at = time.time() + _KEPT_SECONDS
            await self._records.write(place.space, place.record, data, over=over, expires_at=expires_at)
        except RecordMoved:
            return False
        return True


class Download:
    """A download that counts, while its bytes go out."""

    def __init__(self, allowance: Allowance, place: Place, *, left: int, continued: bool, by_bytes: bool) -> None:
        self.continued = continued
        """Whether it goes on with one that was counted before."""
        self._allowance = allowance
        self._place = place
        self._left = left
        self._by_bytes = by_bytes

    def end(self, sent: int, *, complete: bool) -> None:
        """Nothing more goes out: `sent` bytes did, to the end of the response if `complete`."""
        spent = sent if self._by_bytes else int(complete or self.continued)
        self._allowance.put_back(self._place, max(self._left - spent, 0))
