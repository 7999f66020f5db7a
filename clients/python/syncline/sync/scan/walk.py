"""One pass over the folder, which reads no file contents.

Entries that cannot be synced are reported, never dropped silently. In a directory that cannot be read, nothing counts
as deleted.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import marshal
import os
import stat
import time
from dataclasses import dataclass, field

from syncline.model.names import MAX_PATH_BYTES, MAX_PATH_NAMES, name_problem, normalize
from syncline.model.tree import NodeKind
from syncline.sync.errors import MountsChanging
from syncline.sync.folder.files import PRIVATE, Files
from syncline.sync.folder.mounts import OpenDirectory
from syncline.sync.trees import Problem, printable
from syncline.transfer.jobs import Signature

_KINDS = {stat.S_IFREG: NodeKind.FILE, stat.S_IFDIR: NodeKind.DIRECTORY, stat.S_IFLNK: NodeKind.SYMLINK}

_MAX_SCANS = 3
"""Maximum number of consecutive scans. A mount during a scan may have hidden entries, so the scan is repeated."""

TOP = -1
"""The value of `ScannedEntry.parent` for entries that are directly in the folder."""


@dataclass(frozen=True, slots=True)
class ScannedEntry:
    """A file, directory or symlink that a scan has found.

    - `parent` is the number of its directory in the scan; TOP if that is the folder itself.
    - `local_name` is the name of the entry in its directory, and `name` the same name in normal form (NFC).
    - `target` is the text to which a symlink points; empty for other entries.
    - `signature` has the size, times and inode of a file or symlink, and only the inode of a directory.
    - `hidden` is True for a directory that could not be read.
    - `filesystem` names the filesystem that is mounted at a directory, and the path in it that is visible there
      (`OpenDirectory.name`). It is empty for every entry at which nothing is mounted.
    """

    parent: int
    local_name: str
    name: str
    kind: NodeKind
    signature: Signature
    executable: bool = False
    target: str = ""
    filesystem: str = ""
    hidden: bool = False


@dataclass(slots=True)
class Scan:
    """The result of a scan.

    - `entries` has all files, directories and symlinks, parents before children. The position of an entry in this list
      is its number in the scan, by which other code names the entry.
    - `hidden` lists what exists but could not be examined, as the number of the directory and the local name.
    - `skipped` counts sockets, pipes and devices, which are never synced.
    - `started_ns` is the time before the first read, in nanoseconds since 1970.
    - `filesystem` names the filesystem of the folder, and the path of the folder in it (`OpenDirectory.name`).

    The `.syncline` of a nested synced folder is in `entries`, without its contents.
    """

    started_ns: int
    entries: list[ScannedEntry] = field(default_factory=list)
    hidden: list[tuple[int, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: int = 0
    unsettled: bool = False
    """True if an entry disappeared during the scan, so that another scan has to find out if it was moved."""
    filesystem: str = ""
    fingerprint: bytes = b""
    """The value that `fingerprint` returns for as long as nothing changes; empty if there were problems."""

    def path(self, number: int) -> str:
        """Return the path, relative to the folder, of number `number` of the scan, as it is spelled on this device; ""
        for the folder itself.
        """
        names: list[str] = []
        while number != TOP:
            names.append(self.entries[number].local_name)
            number = self.entries[number].parent
        return "/".join(reversed(names))


def scan(files: Files) -> Scan:
    """Scan the folder, and return the result. Raise OSError if the folder itself cannot be read, and MountsChanging if
    filesystems are mounted or unmounted in it during each of _MAX_SCANS scans.
    """
    for _ in range(_MAX_SCANS):
        found = _Scanner(files)
        if found.run():
            return found.found
    raise MountsChanging


def fingerprint(files: Files) -> bytes:
    """Return a digest of everything that a scan reads. The digest changes if anything in the folder changes that a scan
    would notice. The call takes a third of the time of a scan and keeps nothing in memory. Raise OSError if the folder
    itself cannot be read.
    """
    looked_at = _Fingerprint()
    pending = [""]
    while pending:
        path = pending.pop()
        prefix = f"{path}/" if path else ""
        directories = []
        descriptor = files.open_directory(path)
        try:
            for entry in _listed(descriptor, path):
                if entry.name == PRIVATE:
                    continue
                found = entry.stat(follow_symlinks=False)
                looked_at.add(entry, found, _target(entry, found, descriptor))
                if stat.S_ISDIR(found.st_mode):
                    directories.append(prefix + entry.name)
        finally:
            os.close(descriptor)
        looked_at.directory_ends()
        pending.extend(reversed(directories))
    return looked_at.value()


def _listed(descriptor: int, path: str) -> list[os.DirEntry[str]]:
    """Return the entries of a directory, sorted by name. `descriptor` is its open descriptor and `path` its path. The
    private directory of this client is left out; those of nested folders are included.
    """
    with os.scandir(descriptor) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    return entries if path else [entry for entry in entries if entry.name != PRIVATE]


def _target(entry: os.DirEntry[str], found: os.stat_result, directory: int) -> str:
    """Return the target of a symlink; an empty text for anything else."""
    return os.readlink(entry.name, dir_fd=directory) if stat.S_ISLNK(found.st_mode) else ""


class _Fingerprint:
    """Hashes every entry, directory by directory, in the order of a scan."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=32, usedforsecurity=False)
        self._rows: list[tuple[str | int, ...]] = []

    def add(self, entry: os.DirEntry[str], found: os.stat_result, target: str) -> None:
        self._rows.append((
            entry.name, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev,
            target,
        ))  # fmt: skip

    def directory_ends(self) -> None:
        # Later formats of marshal have several forms for equal values.
        self._hash.update(marshal.dumps(self._rows, 0))
        self._rows.clear()

    def value(self) -> bytes:
        return self._hash.digest()


@dataclass(frozen=True, slots=True)
class _Top:
    """The folder, or a directory at which another filesystem is mounted: its path and its open descriptor."""

    path: str
    device: int
    directory: OpenDirectory


class _Scanner:
    def __init__(self, files: Files) -> None:
        self.found = Scan(started_ns=time.time_ns())
        self._files = files
        self._points = files.mounts.points()
        self._fingerprint = _Fingerprint()
        self._pending: list[tuple[int, str, _Top | None]] = []

    def run(self) -> bool:
        """Scan the folder once. Return True if the result can be used, and False if something was mounted in the folder
        during the scan.
        """
        self._list(TOP, "", None)
        while self._pending:
            number, path, top = self._pending.pop()
            try:
                self._list(number, path, top)
            except OSError as error:
                self._hide(number, path, error)
        self.found.fingerprint = self._fingerprint.value()
        return self._files.mounts.points() <= self._points

    def _list(self, number: int, path: str, top: _Top | None) -> None:
        """Add the entries of a directory below `top`. Raise OSError before anything was added."""
        descriptor = self._files.open_directory(path)
        try:
            top = self._top(number, path, descriptor, top)
            entries = _listed(descriptor, path)
            prefix = f"{path}/" if path else ""
            first = len(self.found.entries)
            for entry in entries:
                self._add(entry, number, prefix, descriptor)
        finally:
            os.close(descriptor)
        self._fingerprint.directory_ends()
        directories = [
            (at, prefix + self.found.entries[at].local_name, top)
            for at in range(first, len(self.found.entries))
            if self.found.entries[at].kind is NodeKind.DIRECTORY and self.found.entries[at].local_name != PRIVATE
        ]
        self._pending.extend(reversed(directories))

    def _top(self, number: int, path: str, descriptor: int, above: _Top | None) -> _Top:
        """Return the directory at `path`, which is open as `descriptor`, as a new top if another filesystem is mounted
        there; otherwise return `above`, the top that it is below. `number` is the number of the directory in the scan.
        `above` is None for the folder itself.
        """
        device = os.fstat(descriptor).st_dev
        if above is None:
            directory = self._files.mounts.look(path, descriptor)
            self.found.filesystem = directory.name
            return _Top(path, device, directory)
        if device == above.device and path not in self._points:
            return above
        directory = self._files.mounts.look(path, descriptor)
        if directory.mount == above.directory.mount:
            return above
        if directory.name != above.directory.below(path[len(above.path) :].lstrip("/")).name:
            self.found.entries[number] = dataclasses.replace(self.found.entries[number], filesystem=directory.name)
        return _Top(path, device, directory)

    def _add(self, entry: os.DirEntry[str], parent: int, prefix: str, directory: int) -> None:
        path = prefix + entry.name
        name = normalize(entry.name)
        if problem := name_problem(name):
            self._problem(path, f"{problem}; rename it to have it synced")
            return
        if path.count("/") >= MAX_PATH_NAMES:
            self._problem(path, f"the path has more than {MAX_PATH_NAMES} names; move it up to have it synced")
            self.found.hidden.append((parent, entry.name))
            return
        if len(path.encode()) > MAX_PATH_BYTES:
            self._problem(path, f"the path has more than {MAX_PATH_BYTES} bytes; shorten it to have it synced")
            self.found.hidden.append((parent, entry.name))
            return
        try:
            found = entry.stat(follow_symlinks=False)
            target = _target(entry, found, directory)
        except FileNotFoundError:
            self.found.unsettled = True
            self.found.hidden.append((parent, entry.name))
            return
        except OSError as error:
            self._problem(path, f"it cannot be examined ({error.strerror}); fix that and sync again")
            self.found.hidden.append((parent, entry.name))
            return
        if entry.name != PRIVATE:  # The private directory changes with each sync of its folder.
            self._fingerprint.add(entry, found, target)
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            self.found.skipped += 1
            return
        if kind is not NodeKind.DIRECTORY and path in self._points:
            self._problem(
                path, "another file is mounted here, so what it covers is left as it is; unmount it to have this synced"
            )
            self.found.hidden.append((parent, entry.name))
            return
        if target and not _is_text(target):
            self._problem(path, "the target of the link is not valid UTF-8")
            return
        self.found.entries.append(
            ScannedEntry(
                parent=parent,
                local_name=entry.name,
                # the same object, so that an identity check tells that they are equal
                name=entry.name if name == entry.name else name,
                kind=kind,
                signature=directory_signature(found) if kind is NodeKind.DIRECTORY else Signature.of(found),
                executable=kind is NodeKind.FILE and bool(found.st_mode & stat.S_IXUSR),
                target=target,
            )
        )

    def _hide(self, number: int, path: str, error: OSError) -> None:
        entry = self.found.entries[number]
        self.found.entries[number] = dataclasses.replace(entry, hidden=True)
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            self.found.unsettled = True
        else:
            self._problem(
                path,
                f"the directory cannot be read ({error.strerror}); its contents were left unchanged; fix that "
                "and sync again",
            )

    def _problem(self, path: str, reason: str) -> None:
        self.found.problems.append(Problem(printable(path), reason))


def directory_signature(found: os.stat_result) -> Signature:
    """Return the signature of the directory with the status `found`: its inode only, because its times change with its
    entries.
    """
    return Signature(0, 0, 0, found.st_ino)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
