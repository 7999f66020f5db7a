"""The right to administer the system.

The account is read at each call, so that neither a token nor anything that a process remembers outlives the right.
"""

from __future__ import annotations

from runtime.permissions import ADMINISTRATORS_ONLY
from services.auth.devices import check_signed_in
from services.auth.ports import DeviceStore
from services.auth.records import Account, Clock
from syncline.model.errors import NoSuchAccount, PermissionDenied
from syncline.model.identifiers import DeviceId, UserId


class Administrators:
    """Finds out if a caller is an administrator."""

    def __init__(self, devices: DeviceStore, *, clock: Clock) -> None:
        self._devices = devices
        self._clock = clock

    async def calling(self, *, user: UserId, device: DeviceId) -> Account:
        """Return the account of the calling administrator. `user` and `device` are those of the presented access token.

        Raise the errors of `check_signed_in` if the device was revoked or has expired since the token was issued, or if
        the account is suspended. Raise PermissionDenied if the account is not an administrator's.
        """
        account, found = await self._devices.signed_in(user, device)
        check_signed_in(found, user=user, account=account, now_ms=self._clock())
        if account is None:
            raise NoSuchAccount
        if not account.admin:
            raise PermissionDenied(ADMINISTRATORS_ONLY)
        return account
