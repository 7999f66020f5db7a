"""Devices: the calling device, the devices of a user, the sign-out of the calling device, and the maximum length of a
user's list of devices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum
from typing import Final

from runtime.logs import structlog
from services.auth import metrics
from services.auth.audit.events import Actor, ActorKind, AuditKind, audit_event
from services.auth.holdings import HoldingLimits
from services.auth.ports import DeviceStore
from services.auth.records import DAY_MS, Account, Clock, DeviceRecord
from syncline.model.accounts import DeviceKind
from syncline.model.errors import AccountSuspended, DeviceRevoked, NoSuchDevice, TokenExpired
from syncline.model.identifiers import DeviceId, UserId
from syncline.model.limits import ANSWER_DAYS

log = structlog.get_logger()

_DEVICES_AT_ONCE: Final = 20
"""Maximum number of revoked or expired devices that are removed from a user's list when a device is added. A list that
is too long is therefore shortened step by step.
"""


DeviceState = Enum("DeviceState", "SIGNED_IN REVOKED EXPIRED")
"""The state of a device with respect to a user, which decides if the device may act for the user. A device that does
not exist, or belongs to another user, counts as revoked.
"""


def device_state(device: DeviceRecord | None, *, user: UserId, now_ms: int) -> DeviceState:
    """Return the state of a device with respect to a user, at `now_ms` in milliseconds since 1970. `device` is None if
    there is no such device.
    """
    if device is None or device.user != user or device.revoked_at_ms is not None:
        return DeviceState.REVOKED
    return DeviceState.EXPIRED if device.expires_at_ms <= now_ms else DeviceState.SIGNED_IN


def check_signed_in(
    device: DeviceRecord | None, *, user: UserId, now_ms: int, account: Account | None = None
) -> DeviceRecord:
    """Return the device if it is signed in at `now_ms`, in milliseconds since 1970. Raise TokenExpired if it has
    expired. Raise DeviceRevoked if it was revoked, does not exist (None), or belongs to another user than `user`.

    Raise AccountSuspended if the device is signed in and `account`, the user's, is suspended. `account` is None if the
    caller has not read the account, or if there is none.
    """
    state = device_state(device, user=user, now_ms=now_ms)
    if state is DeviceState.EXPIRED:
        raise TokenExpired("the key of this device has expired; sign in again")
    if device is None or state is DeviceState.REVOKED:
        raise DeviceRevoked
    check_active(account)
    return device


def check_active(account: Account | None) -> None:
    """Raise AccountSuspended if an account is suspended. Do nothing for None, which stands for no account."""
    if account is not None and account.suspension is not None:
        raise AccountSuspended


class DeviceLists:
    """Keeps the list of each user's devices short: devices that were revoked or have expired are removed from a full
    list, those first that ended first.

    A new sign-in is never refused for a full list, because a user who cannot sign in could not remove a device either.
    Instead the least recently used device is signed out, browsers before clients. A program's key is made by a
    signed-in user, so no device is signed out for it.
    """

    def __init__(self, store: DeviceStore, holdings: HoldingLimits, *, clock: Clock) -> None:
        self._store = store
        self._holdings = holdings
        self._clock = clock

    async def after_signing_in(self, device: DeviceRecord) -> None:
        """Shorten the list of the user of `device`, a client or browser that has just signed in: sign out devices above
        the limit, and remove revoked and expired ones above it from the list.
        """
        most = self._holdings.devices
        listed = await self._store.devices(device.user, including=device.device)
        good, ended = self._told_apart([one for one in listed if one.kind is not DeviceKind.PROGRAM])
        unused = sorted(
            (one for one in good if one.device != device.device),
            key=lambda one: (one.kind is DeviceKind.CLIENT, one.last_seen_at_ms),
        )
        leaving = unused[: min(_DEVICES_AT_ONCE, max(0, len(good) - most))]
        now = self._clock()
        actor = Actor(ActorKind.SESSION, device.user, device.device)
        for one in leaving:
            event = audit_event(
                AuditKind.DEVICE_MADE_WAY, at_ms=now, actor=actor, user=one.user, device=one.device, name=one.name
            )
            await self._store.revoke_device(one.device, at_ms=now, events=[event])
            metrics.LIMITS_REACHED.labels("devices").inc()
            log.info("device made way", user=one.user, device=one.device)
        await self._forget([*ended, *leaving], beyond=most - (len(good) - len(leaving)))

    async def keys(self, user: UserId) -> int:
        """Return the number of a user's programs whose keys are valid. Before, remove revoked and expired programs from
        the user's list, as many as necessary for one more program.
        """
        listed = await self._store.devices(user)
        good, ended = self._told_apart([one for one in listed if one.kind is DeviceKind.PROGRAM])
        await self._forget(ended, beyond=self._holdings.keys - len(good) - 1)
        return len(good)

    def _told_apart(self, devices: Sequence[DeviceRecord]) -> tuple[list[DeviceRecord], list[DeviceRecord]]:
        """Return the devices that may be used, and separately those that were revoked or have expired, in the order in
        which they ended.
        """
        now = self._clock()
        ended = [one for one in devices if _ended_at_ms(one) <= now]
        return [one for one in devices if _ended_at_ms(one) > now], sorted(ended, key=_ended_at_ms)

    async def _forget(self, ended: Sequence[DeviceRecord], *, beyond: int) -> None:
        """Remove devices from the user's list, the first of `ended` first. `ended` has the user's revoked and expired
        devices in the order in which they ended. Remove as many as are necessary to leave `beyond` of them, but at most
        _DEVICES_AT_ONCE.
        """
        # A repeated request must still find the device that the request made.
        until = self._clock() + ANSWER_DAYS * DAY_MS
        forgotten = ended[: min(_DEVICES_AT_ONCE, max(0, len(ended) - max(0, beyond)))]
        await asyncio.gather(
            *(self._store.forget_device(one.device, until_ms=min(until, one.expires_at_ms)) for one in forgotten)
        )


def _ended_at_ms(device: DeviceRecord) -> int:
    return min(device.expires_at_ms, device.revoked_at_ms or device.expires_at_ms)


class Devices:
    """The devices of users: lists them, returns the calling one, and signs it out."""

    def __init__(self, store: DeviceStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def calling(self, *, user: UserId, device: DeviceId) -> DeviceRecord:
        """Return the record of the calling device. `user` and `device` are those of the presented access token. Raise
        DeviceRevoked or TokenExpired if the device was revoked or has expired since the token was issued, and
        AccountSuspended if the account of the user is suspended.
        """
        account, found = await self._store.signed_in(user, device)
        return check_signed_in(found, user=user, account=account, now_ms=self._clock())

    async def of_user(self, user: UserId, *, calling: DeviceId | None = None) -> list[DeviceRecord]:
        """Return the devices of a user that have not expired, newest first. Revoked ones are included. A device that
        was added a moment ago may be missing, unless it is `calling`, the calling device of the user; None if somebody
        else asks.
        """
        now = self._clock()
        found = await self._store.devices(user, including=calling)
        kept = [device for device in found if device.user == user and device.expires_at_ms > now]
        return sorted(kept, key=lambda device: device.place)

    async def sign_out(self, device: DeviceId, *, user: UserId) -> None:
        """Sign out `device`, the calling device of `user`. Idempotent. Raise NoSuchDevice if the device is not the
        user's.

        The keys of programs that were made from it stay valid: a user who signs out of a browser may still use
        programs.
        """
        found = await self._store.device(device)
        if found is None or found.user != user:
            raise NoSuchDevice
        now = self._clock()
        event = audit_event(AuditKind.DEVICE_SIGNED_OUT, at_ms=now, user=user, device=device, name=found.name)
        await self._store.revoke_device(device, at_ms=now, events=[event])
        log.info("device revoked", user=user, device=device)
