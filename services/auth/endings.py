"""The end of a device, and of what the device has made: whoever stole it must not go on with that.

The keys that a device has made end with it, since each opens all that the device did. Its public links end if the owner
of the device wants so: people may have them who are no thieves. None is missed. A store adds what a device makes only
as long as the device is not revoked, so that a list that is read afterwards has all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from runtime.logs import structlog
from services.auth.links import is_open
from services.auth.ports import DeviceStore, LinkStore, SpaceStore
from services.auth.records import Clock, DeviceRecord, Link
from syncline.model.errors import NoSuchDevice, Unavailable
from syncline.model.identifiers import DeviceId, UserId
from syncline.model.retry_policy import RetryPolicy

log = structlog.get_logger()

T = TypeVar("T")

_AT_ONCE: Final = 20
"""Keys and links that are ended at the same time."""
_RETRIES: Final = RetryPolicy(max_attempts=5, first_pause_seconds=0.05, max_pause_seconds=0.5, jitter=1)


@dataclass(frozen=True, slots=True)
class EndedDevice:
    """The fate of the things that a device had made: which keys and links have ended, and which links have not."""

    keys: Sequence[DeviceRecord]
    links: Sequence[Link]
    remaining_links: Sequence[Link]


class Endings:
    """Ends devices for good."""

    def __init__(self, devices: DeviceStore, links: LinkStore, spaces: SpaceStore, *, clock: Clock) -> None:
        self._devices = devices
        self._links = links
        self._spaces = spaces
        self._clock = clock
        self._under_way: set[asyncio.Task[EndedDevice]] = set()

    async def revoke(self, device: DeviceId, *, user: UserId, calling: DeviceId, end_links: bool) -> EndedDevice:
        """Sign out one of the user's devices, the `calling` one or another, and end the keys that it has made; with
        `end_links` also its public links.

        Signed out already, it stays so, and what it has made ends now. What was begun is done to its end even if nobody
        waits for that. Raise NoSuchDevice if the device is not theirs, Unavailable if something could not be ended; all
        the rest has ended then.
        """
        found = await self._devices.device(device)
        if found is None or found.user != user:
            raise NoSuchDevice
        ending = asyncio.create_task(self._end(found, last=device == calling, end_links=end_links))
        self._under_way.add(ending)
        ending.add_done_callback(self._under_way.discard)
        return await asyncio.shield(ending)

    async def copied(self, device: DeviceRecord) -> None:
        """Sign out a device of which somebody has a copy, and end the keys that it has made. Raise Unavailable."""
        await self._end(device, last=False, end_links=False)

    async def _end(self, device: DeviceRecord, *, last: bool, end_links: bool) -> EndedDevice:
        """End a device and what it has made. With `last` the device ends after all that: it could not ask again."""
        keys, links = list[DeviceRecord](), list[Link]()
        if last:
            keys += await self._end_keys(device)
            links += await self._end_links(device) if end_links else []
        await self._devices.revoke_device(device.device, at_ms=self._clock())
        keys += await self._end_keys(device)
        links += await self._end_links(device) if end_links else []
        remaining = [] if end_links else await self._open_links(device)
        log.info("device revoked", user=device.user, device=device.device, keys=len(keys), links=len(links))
        return EndedDevice(keys, links, remaining)

    async def _end_keys(self, maker: DeviceRecord) -> list[DeviceRecord]:
        """Revoke the good keys that a device has made, and return them. Raise Unavailable."""
        now = self._clock()
        made = await self._devices.keys_of(maker.device)
        good = [key for key in made if key.revoked_at_ms is None and key.expires_at_ms > now]
        await _each(good, lambda key: self._devices.revoke_device(key.device, at_ms=now))
        return good

    async def _end_links(self, maker: DeviceRecord) -> list[Link]:
        """Revoke the public links that a device has made, and return them. Raise Unavailable."""
        now = self._clock()
        made = await self._made_links(maker)
        await _each(made, lambda link: self._links.revoke_link(link, at_ms=now))
        return made

    async def _open_links(self, maker: DeviceRecord) -> list[Link]:
        made = await self._made_links(maker)
        roles = {one.space: one.role for one in await self._spaces.memberships(maker.user)} if made else {}
        now = self._clock()
        return [link for link in made if is_open(link, roles.get(link.space), now_ms=now)]

    async def _made_links(self, maker: DeviceRecord) -> list[Link]:
        return [link for link in await self._links.links_of(maker.user) if link.made_by == maker.device]


async def _each(items: Sequence[T], end: Callable[[T], Awaitable[None]]) -> None:
    """Do `end` with each of these, a few at a time. Raise Unavailable if it has failed for some again and again: none
    keeps the others from being ended.
    """
    left = list(items)
    for pause in _RETRIES.pauses():
        failed: list[T] = []
        for start in range(0, len(left), _AT_ONCE):
            some = left[start : start + _AT_ONCE]
            results = await asyncio.gather(*map(end, some), return_exceptions=True)
            failed += [one for one, result in zip(some, results, strict=True) if isinstance(result, Unavailable)]
            for result in results:
                if isinstance(result, BaseException) and not isinstance(result, Unavailable):
                    raise result
        if not failed:
            return
        left = failed
        await asyncio.sleep(pause)
    raise Unavailable("not all that the device has made could be ended; revoke it again")
