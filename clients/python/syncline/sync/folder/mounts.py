"""Names of filesystems that survive a reboot, and the places of mounts.

Device numbers are assigned anew at each boot to disks, network mounts and FUSE, and are the same on both sides of a
bind mount. A filesystem is therefore identified by the UUID of its disk, by the source of a network or FUSE mount, or
else by the id that `statfs` returns; a directory is identified by its filesystem and its path in it.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from syncline.sync.trees import printable

UNKNOWN = "?"
"""The name of a filesystem that was mounted and of which nothing else is known."""

_BY_UUID = Path("/dev/disk/by-uuid")
_MOUNTINFO = "/proc/thread-self/mountinfo"
_WITHOUT_SOURCE = {"tmpfs", "ramfs", "overlay", "devtmpfs", "aufs"}
"""Types of filesystems whose source in the mount table identifies nothing."""
_WEAK = ("fsid=", "dev=")
"""Prefixes of names of filesystems that do not survive every reboot: with XFS and FUSE, the name changes when the
device gets another number.
"""


@dataclass(frozen=True, slots=True)
class OpenDirectory:
    """An open directory: the mount that shows it, its filesystem, and its path in the filesystem."""

    mount: str
    filesystem: str
    path: str

    def below(self, path: str) -> OpenDirectory:
        """Return the directory at a path below this one, provided that no mount is in between."""
        return OpenDirectory(self.mount, self.filesystem, f"{self.path.rstrip('/')}/{path}")

    @property
    def name(self) -> str:
        """Return the name under which the state database records the directory."""
        return printable(f"{self.filesystem} {self.path}")


class Mounts(Protocol):
    """The mounts in one folder."""

    def points(self) -> frozenset[str]:
        """Return the paths, relative to the folder, at which a filesystem is mounted now."""

    def look(self, path: str, descriptor: int) -> OpenDirectory:
        """Return the mount, the filesystem and the path of an open directory. `path` is its path below the folder, and
        `descriptor` its file descriptor.
        """


def may_be_same(before: str, now: str) -> bool:
    """Return True if `before` and `now`, two different names of open directories (`OpenDirectory.name`), may denote the
    same directory of the same filesystem.
    """
    (one, path), (other, other_path) = before.split(" ", 1), now.split(" ", 1)
    return path == other_path and (one.startswith(_WEAK) or other.startswith(_WEAK))


class SystemMounts:
    """The mounts of this system. If the system does not list its mounts, the device number of a directory stands for
    its mount.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self._mounts: dict[str, _Mount] = {}

    def points(self) -> frozenset[str]:
        self._mounts = _listed()
        below = f"{self._root.rstrip('/')}/"
        return frozenset(
            mount.point.removeprefix(below) for mount in self._mounts.values() if mount.point.startswith(below)
        )

    def look(self, path: str, descriptor: int) -> OpenDirectory:
        number = _mount_of(descriptor)
        if number not in self._mounts:
            self._mounts = _listed()
        mount = self._mounts.get(number)
        if mount is None:
            device = f"{os.fstat(descriptor).st_dev}"
            return OpenDirectory(device, _by_statfs(descriptor), f"/{path}")
        at = os.path.join(self._root, path) if path else self._root  # noqa: PTH118 - names of any bytes
        inside = "" if at == mount.point else at.removeprefix(mount.point.rstrip("/"))
        return OpenDirectory(number, mount.name(descriptor), f"{mount.root.rstrip('/')}{inside}" or "/")


@dataclass(frozen=True, slots=True)
class _Mount:
    """One mount of the system: the directory `root` of a filesystem (device number `device`, type `kind`) is mounted at
    the path `point`.
    """

    device: int
    root: str
    point: str
    kind: str
    source: str

    def name(self, descriptor: int) -> str:
        """Return the name of the filesystem of the open directory with this file descriptor."""
        if uuid := self._uuid():
            return f"uuid={uuid}"
        if not os.major(self.device) and self.kind not in _WITHOUT_SOURCE and re.search(r"[/:@]", self.source):
            return f"{self.kind}={self.source.replace(' ', '_')}"
        return _by_statfs(descriptor)

    def _uuid(self) -> str | None:
        device = self.device
        if not os.major(device) and self.source.startswith("/dev/"):  # btrfs assigns a device number to each subvolume
            try:
                device = os.stat(self.source).st_rdev  # noqa: PTH116 - names of any bytes
            except OSError:
                return None
        return _uuids().get(device) if os.major(device) else None


def _listed() -> dict[str, _Mount]:
    """Return all mounts by number; empty if the system does not list them."""
    if sys.platform != "linux":
        return {}
    mounts = {}
    try:
        with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as lines:  # noqa: PTH123 - not a file
            for line in lines:
                own, _, rest = line.rstrip("\n").partition(" - ")
                number, _, device, root, point, *_ = own.split(" ")
                kind, source, *_ = rest.split(" ")
                major, minor = map(int, device.split(":"))
                mounts[number] = _Mount(
                    os.makedev(major, minor), _unescaped(root), _unescaped(point), kind, _unescaped(source)
                )
    except OSError:
        return {}
    return mounts


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _mount_of(descriptor: int) -> str:
    """Return the number of the mount that shows an open directory; "" if the system does not tell."""
    try:
        text = Path(f"/proc/thread-self/fdinfo/{descriptor}").read_text(encoding="ascii")
    except OSError:
        return ""
    match = re.search(r"^mnt_id:\s*(\d+)$", text, re.MULTILINE)
    return match[1] if match else ""


def _uuids() -> dict[int, str]:
    """Return the UUIDs of the filesystems on disks, by device number."""
    found = {}
    try:
        for link in _BY_UUID.iterdir():
            found[link.stat().st_rdev] = link.name
    except OSError:
        pass
    return found


def _by_statfs(descriptor: int) -> str:
    identity = os.fstatvfs(descriptor).f_fsid
    return f"fsid={identity:x}" if identity else f"dev={os.fstat(descriptor).st_dev:x}"
