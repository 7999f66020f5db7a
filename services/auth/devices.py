"""Devices: who is calling, which devices a user has, and taking one away."""

from __future__ import annotations

from core.errors import DeviceRevoked, NoSuchDevice
from core.identifiers import DeviceId, UserId
from runtime.logs import structlog
from services.auth.ports import DeviceStore
from services.auth.records import Clock, Device

log = structlog.get_logger()


def is_signed_in(device: Device | None, *, user: UserId) -> bool:
    """Whether the device is there, belongs to the user, and was not revoked."""
    return device is not None and device.user == user and device.revoked_at_ms is None


class Devices:
    """The devices of users."""

    def __init__(self, store: DeviceStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def calling(self, *, user: UserId, device: DeviceId) -> Device:
        """The device that holds the presented access token; DeviceRevoked if it was signed out since."""
        found = await self._store.device(device)
        if found is None or not is_signed_in(found, user=user):
            raise DeviceRevoked
        return found

    async def of_user(self, user: UserId, *, calling: DeviceId) -> list[Device]:
        """All devices of a user that have not expired, newest first."""
        now = self._clock()
        found = await self._store.devices(user, including=calling)
        kept = [device for device in found if device.user == user and device.expires_at_ms > now]
        return sorted(kept, key=lambda device: device.place)

    async def revoke(self, device: DeviceId, *, user: UserId) -> None:
        """Sign out one of the user's devices; signed out already, it stays so. NoSuchDevice if it is not theirs."""
        found = await self._store.device(device)
        if found is None or found.user != user:
            raise NoSuchDevice
        await self._store.revoke_device(device, at_ms=self._clock())
        log.info("device revoked", user=user, device=device)
