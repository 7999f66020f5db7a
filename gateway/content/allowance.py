"""Downloads of a public link whose number is limited: which requests count as a download, and which continue one.

A download is counted before its first byte is sent. The count permits as many bytes as the content has:

- A request takes as many of the permitted bytes as it needs: all, or the length of its range. A download in several
  ranges therefore counts once.
- Permitted bytes that a request did not send are stored as unspent. Later requests for the same content by the same
  link use them, and are not counted.
- A client that cannot request ranges begins an interrupted download anew, and so needs bytes again that were already
  sent. Each count therefore also permits to repeat as many bytes as the content has, so that at most two copies are
  sent for one count.
- A request that needs more than the unspent bytes and the repeated bytes together is counted as a new download.

The record of the link and the content has the bytes that each request in progress has taken, as a lease. The gateway
renews the lease, with the bytes that are not sent yet, while it sends. The lease of a gateway that was killed expires,
and its bytes are unspent again.

An archive has no ranges and no known size: an interrupted one may be started once more.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import secrets
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cachetools import LRUCache

from gateway.records.ports import NOTHING, Record, RecordMoved, Records
from runtime.logs import structlog
from syncline.model.errors import LinkExhausted, Unavailable
from syncline.model.identifiers import SpaceId

LEASE_SECONDS: Final = 20.0
"""Duration of a lease in seconds, from its last renewal."""
_RENEWALS_PER_LEASE: Final = 4
"""Number of renewals of a lease within LEASE_SECONDS, because clocks may differ and a renewal may be late."""
_KEPT_SECONDS: Final = 30 * 86_400
"""Seconds for which unspent bytes can be used."""
PATIENCE_SECONDS: Final = 5.0
"""Maximum number of seconds for which a request waits for bytes that another request has taken and seems to be sending.
A client that reconnects at once often arrives before its first connection is known to be broken.
"""
_LOOK_SECONDS: Final = 0.2
"""Seconds between two reads of the record by a waiting request."""
_MAX_ATTEMPTS: Final = 20
"""Maximum number of attempts to write the lease of a new download while others write the record; after that, the
download goes on without a lease.
"""
_PAUSE_SECONDS: Final = 0.02
"""Upper bound of the random pause after an attempt to write a record that others wrote meanwhile, in seconds,
multiplied by the number of such attempts, _MAX_ATTEMPTS at most.
"""
_MAX_LEASES: Final = 100
"""Maximum number of leases in one record, because its size is limited; further concurrent downloads of the content have
no lease.
"""
_SETTLING_SECONDS: Final = 5.0
"""Maximum number of seconds for which a stopping process waits until the unspent bytes of all downloads are stored."""
_MAX_REMEMBERED_LINKS: Final = 10_000

Count = Callable[[], Awaitable[bool]]
"""Coroutine function that counts a download of the link, and returns True if the link limits downloads. It raises
LinkExhausted if the downloads of the link are used up.
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LinkDownload:
    """The content or the directory that is downloaded by the public link `link` in `space`. `what` names it as text."""

    space: SpaceId
    link: str
    what: str

    @property
    def record(self) -> str:
        """Name of the record that has the unspent bytes of this link for this content or node."""
        return f"link/{self.link}/{self.what}"


@dataclass(frozen=True, slots=True)
class _Amount:
    """A permitted amount that was not sent yet: in bytes, or in archives for an archive."""

    left: int
    """The part that counted downloads permit to send for the first time."""
    repeats: int
    """The part that counted downloads permit to send once more."""

    def __add__(self, other: _Amount) -> _Amount:
        return _Amount(self.left + other.left, self.repeats + other.repeats)

    def __sub__(self, other: _Amount) -> _Amount:
        return _Amount(self.left - other.left, self.repeats - other.repeats)

    def share(self, needed: int) -> _Amount | None:
        """Return the part of this amount that a request for `needed` (bytes or archives) takes: from `left` first, then
        from `repeats`. Return None if `left` is 0, or if both together are less than `needed`.
        """
        taken = _Amount(min(self.left, needed), max(needed - self.left, 0))
        return taken if taken.left and taken.repeats <= self.repeats else None

    def after(self, sent: int) -> _Amount:
        """Return the amount that remains after `sent` (bytes or archives) was sent: `left` is spent first, then
        `repeats`.
        """
        return _Amount(max(self.left - sent, 0), self.repeats - min(max(sent - self.left, 0), self.repeats))


_NONE: Final = _Amount(0, 0)


@dataclass(frozen=True, slots=True)
class _State:
    """The value of the record of one link and one content: the unspent amount, and the leases of requests in
    progress.
    """

    unspent: _Amount = _NONE
    leases: dict[str, tuple[_Amount, float]] = field(default_factory=dict)
    """By an id of each request in progress, the amount that it has taken and not sent yet, and the time when its lease
    expires, in seconds since 1970.
    """

    @classmethod
    def of(cls, record: Record) -> _State:
        """Decode the value of a record. The amounts of expired leases are added to the unspent amount."""
        if not record.data:
            return cls()
        now, found = time.time(), json.loads(record.data)
        if isinstance(found, int):  # earlier versions stored a number
            return cls(_Amount(found, found))
        # earlier versions stored no repeated bytes, and bounded these by what was unspent
        unspent = _Amount(found["left"], found.get("repeats", found["left"]))
        leases = {
            ident: (_Amount(left, repeats[0] if repeats else left), until)
            for ident, (left, until, *repeats) in found["leases"].items()
        }
        for ident in [ident for ident, (_, until) in leases.items() if until < now]:
            unspent += leases.pop(ident)[0]
        return cls(unspent, leases)

    def encoded(self) -> bytes:
        """Return the value for the record; empty, which removes the record, if nothing is unspent and no lease
        exists.
        """
        if not self.unspent.left and not self.leases:
            return b""  # repeated bytes are of use only together with unspent ones
        leases = {ident: (amount.left, until, amount.repeats) for ident, (amount, until) in self.leases.items()}
        return json.dumps({"left": self.unspent.left, "repeats": self.unspent.repeats, "leases": leases}).encode()

    def with_lease(self, ident: str, amount: _Amount, seconds: float) -> _State:
        return replace(self, leases=self.leases | {ident: (amount, round(time.time() + seconds, 3))})

    def without_lease(self, ident: str) -> _State:
        return replace(self, leases={other: lease for other, lease in self.leases.items() if other != ident})


class Allowance:
    """Decides which downloads of links are counted. The unspent bytes of counted downloads are in records that all
    processes share.
    """

    def __init__(
        self, records: Records, *, lease_seconds: float = LEASE_SECONDS, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """`lease_seconds` is the duration of a lease. `patience_seconds` is the maximum time for which a request waits
        for bytes that another request has taken.
        """
        self._records = records
        self._patience_seconds = patience_seconds
        self._lease_seconds = lease_seconds
        self._unlimited: LRUCache[str, bool] = LRUCache(_MAX_REMEMBERED_LINKS)
        """Cache of the ids of links that do not limit downloads; a link never changes in that."""
        self._renewing: set[asyncio.Task[Any]] = set()
        self._settling: set[asyncio.Task[Any]] = set()

    async def begin(
        self, place: LinkDownload, count: Count, *, size: int | None, part: int | None = None
    ) -> Download | None:
        """Return a download of `place`, which the caller must end: it continues an unfinished one, or is a new one that
        was counted by calling `count`. Return None if the link does not limit downloads.

        `size` is the size of the content in bytes, None for an archive. `part` is the length of the requested range in
        bytes, None for everything. Raise LinkExhausted if the link allows no further download.
        """
        deadline = time.monotonic() + self._patience_seconds
        worth = 1 if size is None else size
        attempt = 0
        while True:
            record = NOTHING if place.link in self._unlimited else await self._read(place)
            state = _State.of(record)
            if (taken := state.unspent.share(part or worth)) is not None:
                download = Download(taken, continued=True, by_bytes=size is not None)
                if await self._lease(place, record, replace(state, unspent=state.unspent - taken), download):
                    return download
                attempt += 1  # a concurrent request has written it
                await _pause(attempt)
                continue
            try:
                limited = await count()
            except LinkExhausted:
                if not state.leases or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            if not limited:
                self._unlimited[place.link] = True
                return None
            return await self._counted(place, worth, part, by_bytes=size is not None)

    async def _counted(self, place: LinkDownload, worth: int, part: int | None, *, by_bytes: bool) -> Download:
        """Return the download of `place` that was just counted. `worth` is the size of the content in bytes if
        `by_bytes` is True; for an archive it is 1. `part` is the length of the requested range in bytes, None for
        everything. The download takes this part, and the rest is stored as unspent.
        """
        paid = _Amount(worth, worth if by_bytes else 0)
        download = Download(_Amount(min(worth, part or worth), 0), continued=False, by_bytes=by_bytes)
        for attempt in range(_MAX_ATTEMPTS):
            record = await self._read(place)
            state = _State.of(record)
            unspent = state.unspent + paid - download.taken
            if await self._lease(place, record, replace(state, unspent=unspent), download):
                return download
            await _pause(attempt)
        log.warning("a download has no lease", link=place.link, reason="others wrote the record each time")
        download.taken = paid
        download.on_end = lambda unspent: self._put_back(place, None, unspent)
        return download

    async def _lease(self, place: LinkDownload, record: Record, state: _State, download: Download) -> bool:
        """Write `state`, and a lease for the download, over `record`, and return True; the lease is renewed until the
        download ends. Write nothing and return False if a concurrent request has written the record.
        """
        ident = secrets.token_hex(4) if len(state.leases) < _MAX_LEASES else None
        if ident is not None:
            state = state.with_lease(ident, download.taken, self._lease_seconds)
        if not await self._write(place, state, over=record):
            return False
        download.on_end = lambda unspent: self._put_back(place, ident, unspent)
        if ident is not None:
            download.renewing = asyncio.create_task(self._renew(place, ident, weakref.ref(download)))
            self._renewing.add(download.renewing)
            download.renewing.add_done_callback(self._renewing.discard)
        return True

    async def _renew(self, place: LinkDownload, ident: str, of: weakref.ref[Download]) -> None:
        """Renew the lease with the id `ident` periodically, until the download is not referenced any more or the record
        has no such lease.
        """
        while True:
            await asyncio.sleep(self._lease_seconds / _RENEWALS_PER_LEASE)
            try:
                record = await self._read(place)
                state = _State.of(record)
                if (download := of()) is None or ident not in state.leases:
                    return
                await self._write(place, state.with_lease(ident, download.unspent, self._lease_seconds), over=record)
            except Unavailable:  # the next renewal may be in time
                continue
            finally:
                # a reference in this task would keep the download alive, and its finaliser gives up the lease
                download = None

    def _put_back(self, place: LinkDownload, ident: str | None, unspent: _Amount) -> None:
        """Start a task that removes the lease `ident` and adds `unspent` to the unspent bytes of the record. The
        calling task does not wait for the started task, because the calling task may be about to be cancelled.
        """
        task = asyncio.create_task(self._give_up(place, ident, unspent))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def finished(self) -> None:
        """Wait until the unspent bytes of all ended downloads are stored, _SETTLING_SECONDS at most."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=_SETTLING_SECONDS)

    async def _give_up(self, place: LinkDownload, ident: str | None, unspent: _Amount) -> None:
        # A lease that stays would expire, and everything that it holds would be permitted to be sent once more.
        deadline = time.monotonic() + self._lease_seconds
        try:
            for attempt in itertools.count():
                try:
                    record = await self._read(place)
                    state = _State.of(record)
                    if ident is not None and ident not in state.leases:
                        return  # the lease expired, and another request may have taken the bytes
                    state = state if ident is None else state.without_lease(ident)
                    if await self._write(place, replace(state, unspent=state.unspent + unspent), over=record):
                        return
                    reason = "others wrote the record each time"
                except Unavailable as error:
                    reason = str(error)
                if time.monotonic() > deadline:
                    log.warning("an ended download is not settled", link=place.link, reason=reason)
                    return
                await _pause(attempt)
        except Exception:  # nothing awaits this task
            log.exception("an ended download is not settled", link=place.link)

    async def _read(self, place: LinkDownload) -> Record:
        return (await self._records.read(place.space, [place.record])).get(place.record, NOTHING)

    async def _write(self, place: LinkDownload, state: _State, *, over: Record) -> bool:
        """Write the state in place of `over`, the record that was read, and return True. Write nothing and return False
        if a concurrent request has written the record.
        """
        data = state.encoded()
        if not data and not over.data:
            return True
        try:
            expires_at = time.time() + _KEPT_SECONDS
            await self._records.write(place.space, place.record, data, over=over, expires_at=expires_at)
        except RecordMoved:
            return False
        return True


class Download:
    """A counted download in progress: it knows how many of its bytes have been sent, and passes the unspent amount to
    `on_end` at its end.
    """

    def __init__(self, taken: _Amount, *, continued: bool, by_bytes: bool) -> None:
        """`taken` is the permitted amount that the download has taken: in bytes if `by_bytes` is True, otherwise in
        archives.
        """
        self.continued = continued
        """True if the download continues one that was counted before."""
        self.taken = taken
        self.unspent = taken
        """The amount that the download has taken and not sent yet."""
        self.on_end: Callable[[_Amount], None] = lambda _unspent: None
        """Function that is called once at the end of the download, with the unspent amount."""
        self.renewing: asyncio.Task[None] | None = None
        self._by_bytes = by_bytes

    def spend(self, sent: int) -> None:
        """Record that `sent` bytes have been sent in total."""
        if self._by_bytes:
            self.unspent = self.taken.after(sent)

    def end(self, sent: int, *, complete: bool) -> None:
        """End the download: `sent` bytes were sent in total, and `complete` is True if that was the whole response."""
        self.spend(sent)
        if not self._by_bytes and (complete or self.continued):
            self.unspent = _NONE
        if self.renewing is not None:
            self.renewing.cancel()
        self.on_end(self.unspent)


async def _pause(attempt: int) -> None:
    await asyncio.sleep(random.random() * _PAUSE_SECONDS * min(attempt + 1, _MAX_ATTEMPTS))  # noqa: S311 - no secret
