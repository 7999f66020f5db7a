"""A watch: doorbells and heartbeats for as long as the watcher may hear them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from services.notify.access import GrantCache
from services.notify.doorbells import Doorbells
from syncline.model.doorbell import Doorbell
from syncline.model.errors import Unavailable
from syncline.model.identifiers import DeviceId, SpaceId, UserId


class Watches:
    """Opens watches. A heartbeat is None."""

    def __init__(
        self, doorbells: Doorbells, access: GrantCache, *, heartbeat_seconds: float, ask_seconds: float
    ) -> None:
        self._doorbells = doorbells
        self._access = access
        self._heartbeat_seconds = heartbeat_seconds
        self._ask_seconds = ask_seconds

    async def watch(
        self, spaces: Sequence[SpaceId], *, user: UserId, device: DeviceId
    ) -> AsyncGenerator[Doorbell | None, None]:
        """A heartbeat, from which on nothing goes unannounced, then doorbells and heartbeats without end.

        Raises NoSuchSpace, DeviceRevoked or Unavailable: at once about any of the spaces, later about the one that a
        doorbell is for and, every few seconds, about all of them. Unavailable also when announcements may have been
        missed.
        """
        with self._doorbells.watching(spaces) as watcher:  # before asking: what happens meanwhile is not missed
            await self._access.require(*spaces, user=user, device=device)
            yield None
            clock = asyncio.get_running_loop().time
            beat_at, ask_at = clock() + self._heartbeat_seconds, clock() + self._ask_seconds
            while True:
                try:
                    async with asyncio.timeout_at(min(beat_at, ask_at)):  # a timer, not a task
                        doorbell = await watcher.next()
                except TimeoutError:
                    await self._still_a_member(spaces, user=user, device=device)
                    ask_at = clock() + self._ask_seconds
                    if clock() >= beat_at:
                        yield None
                        beat_at = clock() + self._heartbeat_seconds
                else:
                    await self._access.require(doorbell.space, user=user, device=device)
                    yield doorbell

    async def _still_a_member(self, spaces: Sequence[SpaceId], *, user: UserId, device: DeviceId) -> None:
        try:
            for space in spaces:
                await self._access.require(space, user=user, device=device)
        except Unavailable:
            # A heartbeat tells nothing, and ending all watches because auth restarts would not help it to.
            return
