"""Values about people that both ends share: roles in spaces, devices, credentials and mail."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum, StrEnum


class Access(Enum):
    """The purpose of S3 credentials of a space. The values are those of the wire."""

    READ = 1
    WRITE = 2


class Role(IntEnum):
    """The rights of a member in a space. Each role includes the rights of the roles below it; None in place of a role
    means that there is no grant.

    The values are those of the wire.
    """

    VIEWER = 1
    EDITOR = 2
    OWNER = 3

    def allows(self, access: Access) -> bool:
        """Return True if a member with this role may read or write the space's objects, as `access` says."""
        return self >= (Role.EDITOR if access is Access.WRITE else Role.VIEWER)


class DeviceKind(Enum):
    """The kind of program that signed in as a device. The values are those of the wire."""

    CLIENT = 1
    BROWSER = 2
    PROGRAM = 3


class KeyScope(StrEnum):
    """A kind of operations that a key opens to a program. A key that writes or shares also reads. The values are those
    of access tokens.
    """

    READ = "read"
    """Reads spaces, their members, files, and changes."""
    WRITE = "write"
    """Changes files, and makes spaces."""
    SHARE = "share"
    """Lists and changes public links, and changes members, but neither owners nor the role of its own user."""

    @classmethod
    def completed(cls, scopes: Iterable[KeyScope]) -> frozenset[KeyScope]:
        """Return the scopes of a key that is made for `scopes`: these, and READ with any of the others."""
        found = frozenset(scopes)
        return found | {cls.READ} if found else found


class SignUpPolicy(Enum):
    """The rule that decides who may make an account. The values are those of settings and of the discovery document."""

    INVITED = "invited"
    """Nobody makes an account unasked."""
    DOMAINS = "domains"
    """People with an e-mail address of a listed domain make accounts."""
    OPEN = "open"
    """Everybody makes accounts."""


class MailMode(Enum):
    """The rule that decides which mail about a space is sent to a member. The values are those of the wire."""

    INSTANT = 1
    OFF = 2
