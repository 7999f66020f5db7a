"""How people want to be mailed about a space."""

from __future__ import annotations

from typing import Final

from core.identifiers import DeviceId, SpaceId, UserId
from services.notify.access import Access
from services.notify.ports import PreferenceStore
from services.notify.records import MailMode

DEFAULT: Final = MailMode.INSTANT


class Preferences:
    """Preferences of members; each sees and changes their own. All methods raise as `Access.require`."""

    def __init__(self, store: PreferenceStore, access: Access) -> None:
        self._store = store
        self._access = access

    async def get(self, space: SpaceId, *, user: UserId, device: DeviceId) -> MailMode:
        """What holds for the user."""
        await self._access.require(space, user=user, device=device)
        return await self._store.mode(space, user) or DEFAULT

    async def set(self, space: SpaceId, mode: MailMode, *, user: UserId, device: DeviceId) -> MailMode:
        """Change it; returns what holds now."""
        await self._access.require(space, user=user, device=device)
        await self._store.set_mode(space, user, mode)
        return mode
