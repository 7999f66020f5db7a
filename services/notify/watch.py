"""A watch: doorbells and heartbeats for as long as the watcher may hear them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import cycle

from core.errors import Unavailable
from core.identifiers import DeviceId, SpaceId, UserId
from services.notify.access import Access
from services.notify.doorbells import Doorbell, Doorbells


class Watches:
    """Opens watches. A heartbeat is None."""

    def __init__(self, doorbells: Doorbells, access: Access, *, heartbeat_seconds: float) -> None:
        self._doorbells = doorbells
        self._access = access
        self._heartbeat_seconds = heartbeat_seconds

    async def watch(
        self, spaces: Sequence[SpaceId], *, user: UserId, device: DeviceId
    ) -> AsyncGenerator[Doorbell | None, None]:
        """A heartbeat, from which on nothing goes unannounced, then doorbells and heartbeats without end.

        Raises NoSuchSpace, DeviceRevoked or Unavailable: at once about any of the spaces, later about the one that a
        doorbell is for and, with each heartbeat, about one of them in turn. Unavailable also when announcements may
        have been missed.
        """
        with self._doorbells.watching(spaces) as watcher:  # before asking: what happens meanwhile is not missed
            await self._access.require(*spaces, user=user, device=device)
            yield None
            clock, in_turn = asyncio.get_running_loop().time, cycle(spaces)
            beat_at = clock() + self._heartbeat_seconds
            while True:
                try:
                    async with asyncio.timeout_at(beat_at):  # a timer, not a task
                        doorbell = await watcher.next()
                except TimeoutError:
                    await self._still_a_member(next(in_turn), user=user, device=device)
                    yield None
                    beat_at = clock() + self._heartbeat_seconds
                else:
                    await self._access.require(doorbell.space, user=user, device=device)
                    yield doorbell

    async def _still_a_member(self, space: SpaceId, *, user: UserId, device: DeviceId) -> None:
        try:
            await self._access.require(space, user=user, device=device)
        except Unavailable:
            # A heartbeat tells nothing, and ending all watches because auth restarts would not help it to.
            return
