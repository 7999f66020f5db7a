"""The limits of programs' keys, at the place where the rights of a device are decided. Every service asks auth for
these rights, so that no other service knows the limits.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.permissions import without_scope
from services.auth.records import DeviceRecord, GrantRecord
from syncline.model.accounts import KeyScope, Role
from syncline.model.errors import NoSuchSpace, PermissionDenied
from syncline.model.identifiers import SpaceId


def limited_role(role: Role, device: DeviceRecord) -> Role:
    """Return the role that a user with `role` has by means of a device: for a program whose key only reads it is that
    of a viewer, and otherwise `role`. What a key with another scope may do with its role is in the table of operations
    (`runtime.permissions`).
    """
    if device.limits is None or device.limits.scopes & {KeyScope.WRITE, KeyScope.SHARE}:
        return role
    return min(role, Role.VIEWER)


def limited_grant(grant: GrantRecord | None, device: DeviceRecord | None) -> GrantRecord | None:
    """Return the grant that a user has by means of a device: `grant`, with the role of `limited_role`, or None for a
    space that the device's key does not open. `device` is None if the right does not depend on a device.
    """
    if grant is None or device is None or device.limits is None:
        return grant
    if not device.limits.opens(grant.space):
        return None
    role = limited_role(grant.role, device)
    return replace(grant, role=role, writes_since_ms=grant.writes_since_ms if role >= Role.EDITOR else 0)


def check_space(space: SpaceId, device: DeviceRecord) -> None:
    """Raise NoSuchSpace if the key of the calling device does not open the space."""
    if device.limits is not None and not device.limits.opens(space):
        raise NoSuchSpace(space_id=space)


def check_scope(scope: KeyScope, device: DeviceRecord) -> None:
    """Raise PermissionDenied if the calling device is a program whose key lacks a scope."""
    if device.limits is not None and scope not in device.limits.scopes:
        raise PermissionDenied(without_scope(scope))
