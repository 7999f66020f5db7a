"""Access to the doorbells of a space: the right is asked of auth, and remembered for a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from cachetools import TTLCache

from runtime.interruption import REMEMBERED_SECONDS
from services.notify.ports import MemberDirectory
from syncline.model.identifiers import DeviceId, SpaceId, UserId

_CACHED: Final = 100_000


class GrantCache:
    """A grant that was there is taken to be there for `seconds` more. That there was none is not remembered.

    Auth is asked with this service's own token about a user whose token was verified when the call began. When that
    token expires the server ends the watch, see `runtime.interceptors.StreamsEnd`.
    """

    def __init__(self, directory: MemberDirectory, *, seconds: float = REMEMBERED_SECONDS) -> None:
        self._directory = directory
        self._granted: TTLCache[tuple[SpaceId, UserId, DeviceId], bool] = TTLCache(_CACHED, seconds)

    async def require(self, *spaces: SpaceId, user: UserId, device: DeviceId) -> None:
        """Nothing if the user may hear of all these spaces; else NoSuchSpace, DeviceRevoked or Unavailable."""
        unknown = [space for space in spaces if (space, user, device) not in self._granted]
        if len(unknown) == 1:
            await self._ask(unknown[0], user=user, device=device)
        elif unknown:
            await self._ask_all(unknown, user=user, device=device)

    async def _ask(self, space: SpaceId, *, user: UserId, device: DeviceId) -> None:
        await self._directory.check(space, user=user, device=device)
        self._granted[space, user, device] = True

    async def _ask_all(self, spaces: Collection[SpaceId], *, user: UserId, device: DeviceId) -> None:
        asking = [asyncio.ensure_future(self._ask(space, user=user, device=device)) for space in spaces]
        try:
            await asyncio.gather(*asking)
        finally:
            for task in asking:
                task.cancel()
