"""What both ends say about people: their roles in spaces, their devices, their credentials and their mail."""

from __future__ import annotations

from enum import Enum, IntEnum


class Access(Enum):
    """What the S3 credentials of a space are for. The values are those of the wire."""

    READ = 1
    WRITE = 2


class Role(IntEnum):
    """What a member may do in a space. Each role includes the ones below it; no grant at all is None.

    The values are those of the wire.
    """

    VIEWER = 1
    EDITOR = 2
    OWNER = 3

    def allows(self, access: Access) -> bool:
        """Whether this role opens the space's objects for `access`."""
        return self >= (Role.EDITOR if access is Access.WRITE else Role.VIEWER)


class DeviceKind(Enum):
    """What a device is. The values are those of the wire."""

    CLIENT = 1
    BROWSER = 2
    PROGRAM = 3


class MailMode(Enum):
    """When mail about a space goes out to a member. The values are those of the wire."""

    INSTANT = 1
    OFF = 2
