"""Preferences of people for mail about a space."""

from __future__ import annotations

from typing import Final

from services.notify.access import GrantCache
from services.notify.ports import PreferenceStore
from services.notify.records import Choice, Clock
from syncline.model.accounts import MailMode
from syncline.model.errors import RequestIdReused
from syncline.model.identifiers import DeviceId, RequestId, SpaceId, UserId

DEFAULT: Final = MailMode.INSTANT


class Preferences:
    """Preferences of members; each member reads and changes their own. All methods raise the errors of
    `GrantCache.require`.
    """

    def __init__(self, store: PreferenceStore, access: GrantCache, *, clock: Clock) -> None:
        self._store = store
        self._access = access
        self._clock = clock

    async def get(self, space: SpaceId, *, user: UserId, device: DeviceId) -> MailMode:
        """Return the mail mode of the caller, `user` with `device`, for a space: the mode that the user has chosen, or
        the default. Raise the errors of `GrantCache.require`.
        """
        await self._access.require(space, user=user, device=device)
        return await self._store.mode(space, user) or DEFAULT

    async def set(
        self, space: SpaceId, mode: MailMode, *, request: RequestId, user: UserId, device: DeviceId
    ) -> MailMode:
        """Set the mail mode of the caller, `user` with `device`, for a space. Return the mode that the request with the
        id `request` has set; a repetition has no further effect. Raise RequestIdReused if the id was used for another
        choice, and the errors of `GrantCache.require`.
        """
        await self._access.require(space, user=user, device=device)
        chosen = await self._store.set_mode(space, user, mode, request=request, now=self._clock())
        if chosen != Choice(space, mode):
            raise RequestIdReused
        return mode
