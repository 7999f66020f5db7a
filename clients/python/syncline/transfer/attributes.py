"""Attributes of a file other than its bytes: owner, group, permissions, access control list and extended attributes.

Downloaded contents are written to new files. The attributes of a replaced file are copied to the new one. A file
without a predecessor is given the attributes that it would have inherited in its directory, because it was created
elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

_ACCESS: Final = "system.posix_acl_access"
_DEFAULT: Final = "system.posix_acl_default"
PRIVILEGES: Final = frozenset({"security.capability", "security.ima", "security.evm"})
"""Attributes that vouch for the bytes of a file. They are not copied: the right to change the space is no right to
vouch for new bytes.
"""

_ABSENT: Final = {errno.ENODATA, errno.EOPNOTSUPP, errno.ENOTSUP, getattr(errno, "ENOATTR", errno.ENODATA)}
_HAS_ATTRIBUTES: Final = hasattr(os, "listxattr")
GROUP_OF_DIRECTORY: Final = sys.platform == "darwin"
"""True if a new file gets the group of its directory, setgid or not, instead of the group of the process."""


def with_executable(mode: int, *, executable: bool) -> int:
    """Return the permission bits of `mode`. The executable bit is set for all who may read if `executable` is True, and
    otherwise for nobody.
    """
    mode = stat.S_IMODE(mode)
    return mode | (mode & 0o444) >> 2 if executable else mode & ~0o111


@dataclass(frozen=True, slots=True)
class Inheritance:
    """The attributes that a new file inherits from its directory. `group` is the id of the group; None means the group
    of the process. `acl` is the default access control list as the kernel stores it, or None if there is none.
    """

    group: int | None = None
    acl: bytes | None = None

    @classmethod
    def of(cls, directory: int) -> Inheritance:
        """Return the inheritable attributes of an open directory; `directory` is its descriptor."""
        found = os.fstat(directory)
        gives_group = GROUP_OF_DIRECTORY or bool(found.st_mode & stat.S_ISGID)
        return cls(found.st_gid if gives_group else None, _attribute(directory, _DEFAULT))


def inherit(descriptor: int, directory: Inheritance, *, mode: int) -> Iterator[str]:
    """Give the open file `descriptor` the attributes that a new file with the permission bits `mode` inherits in this
    directory, while the caller iterates.

    Yield descriptions of the attributes that could not be set.
    """
    group = os.getegid() if directory.group is None else directory.group
    if os.fstat(descriptor).st_gid != group:
        try:
            os.fchown(descriptor, -1, group)
        except OSError:
            yield "the group of the directory"
    if directory.acl is None:
        if _attribute(descriptor, _ACCESS) is not None:
            with suppress(OSError):
                os.removexattr(descriptor, _ACCESS)
        os.fchmod(descriptor, mode)
        return
    try:
        # the list takes the place of the umask, as in the kernel
        os.setxattr(descriptor, _ACCESS, _masked(directory.acl, 0o777 if mode & 0o111 else 0o666))
    except OSError:
        yield "the access control list of the directory"


def carry_over(old: int, new: int, *, executable: bool) -> Iterator[str]:
    """Copy the attributes of a file other than its bytes to the file that replaces it, while the caller iterates. `old`
    and `new` are open descriptors of the two files. With `executable`, everybody who may read the new file may also
    execute it; otherwise nobody may.

    Yield a description, such as "the owner", of each attribute that the new file does not get; the others are copied.
    The new file gets no privileges (`PRIVILEGES`, setuid and setgid): they were granted to the old bytes, and the
    kernel, too, drops privileges when a file is written. Raise OSError if the permissions cannot be set.
    """
    before, now = os.fstat(old), os.fstat(new)
    mode = with_executable(before.st_mode, executable=executable)
    if now.st_gid != before.st_gid:
        try:
            os.fchown(new, -1, before.st_gid)
        except OSError:
            yield "the group"
            mode = mode & ~0o070 | (mode & 0o007) << 3  # a different group gets no more rights than everybody
    if now.st_uid != before.st_uid:
        try:
            os.fchown(new, before.st_uid, -1)
        except OSError:
            yield "the owner"
    yield from _carry_attributes(old, new)
    if mode & stat.S_ISUID:
        yield "the setuid bit"
    if mode & stat.S_ISGID and mode & stat.S_IXGRP:
        yield "the setgid bit"
        mode &= ~stat.S_ISGID
    os.fchmod(new, mode & ~stat.S_ISUID)


def _carry_attributes(old: int, new: int) -> Iterator[str]:
    if not _HAS_ATTRIBUTES:
        return
    try:
        names = os.listxattr(old)
    except OSError:
        names = []
    for name in names:
        value = _attribute(old, name)
        if value is None or value == _attribute(new, name):
            continue
        if name in PRIVILEGES:
            yield name
            continue
        try:
            os.setxattr(new, name, value)
        except OSError:
            yield "the access control list" if name == _ACCESS else name
    if _ACCESS not in names and _attribute(new, _ACCESS) is not None:
        with suppress(OSError):
            os.removexattr(new, _ACCESS)


def _attribute(descriptor: int, name: str) -> bytes | None:
    if not _HAS_ATTRIBUTES:
        return None
    try:
        return os.getxattr(descriptor, name)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


# ---- access control lists, as the kernel has them in an attribute ----

_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x04, 0x10, 0x20


def _masked(acl: bytes, mode: int) -> bytes:
    """Return the access control list of a file that is created with these permissions under the default list `acl`."""
    entries = list(_ENTRY.iter_unpack(acl[_HEADER.size :]))
    group = _MASK if any(tag == _MASK for tag, _, _ in entries) else _GROUP_OBJ
    allowed = {_USER_OBJ: mode >> 6, group: mode >> 3, _OTHER: mode}
    return acl[: _HEADER.size] + b"".join(
        _ENTRY.pack(tag, permissions & allowed.get(tag, 7) & 7, who) for tag, permissions, who in entries
    )
