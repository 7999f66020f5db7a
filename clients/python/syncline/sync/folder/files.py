"""Safe access to the synced folder: no entry is overwritten unless it is the expected one, and no symlink is followed.

Paths are relative to the folder, with '/' between names, and "" for the folder itself. Every path is walked from a
descriptor of the folder with O_NOFOLLOW, so that neither a symlink in the path nor a filesystem mounted over the folder
can redirect it. Errors are OSError. FileExistsError means that an entry which must not be replaced is in the way,
either under the same name or under one that differs only in Unicode spelling, because to a space both are the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from syncline.sync.filesystem_names import Naming
from syncline.sync.folder.mounts import Mounts, SystemMounts
from syncline.sync.folder.spelling import Spellings, has_one_spelling
from syncline.transfer.attributes import Inheritance, carry_over, inherit, with_executable
from syncline.transfer.jobs import Signature

PRIVATE = ".syncline"
"""The client's own directory in a synced folder."""
PRIVATE_MODE = 0o755
"""Maximum permissions of the private directory: only the owner of the folder may change it."""
TEMPORARY = f"{PRIVATE}/tmp"  # noqa: S108 - in the folder, not the system's
_INCOMING = "new-"
_OUTGOING = "old-"

_MAX_OPEN_DIRECTORIES = 64
"""Maximum number of directories that are kept open."""
_MAX_SINGLY_SYNCED_FILES = 16
"""Maximum number of files that are flushed to the disk one by one. For more files, the whole filesystem is flushed,
which is faster.
"""
_FLUSHERS = 8

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileChanged(OSError):
    """The file has changed since it was scanned. The file is left as it is, and will be scanned again."""


def same_file(now: os.stat_result, expected: Signature) -> bool:
    """Return True if the size, the modification time and the inode of a file are those of the signature `expected`. The
    ctime is not compared, because a rename changes it.
    """
    found = Signature.of(now)
    return (found.size, found.mtime_ns, found.inode) == (expected.size, expected.mtime_ns, expected.inode)


class Files:
    """Reads and changes the files and directories of one synced folder.

    - Paths are relative to the folder, with `/` between names; "" is the folder itself.
    - Symlinks in a path are never followed, so that no path leads out of the folder.
    - A new name must be free: FileExistsError is raised if it is taken, in any Unicode spelling.
    - A file is replaced or removed only if it is the expected one; otherwise FileChanged is raised.
    - All errors are OSError.

    Has to be closed, or used in `with`.
    """

    def __init__(self, root: Path, mounts: Mounts | None = None) -> None:
        self.root = root
        self.mounts = mounts or SystemMounts(root)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: OrderedDict[str, int] = OrderedDict()
        self._spellings: OrderedDict[str, Spellings] = OrderedDict()
        self._inheritances: dict[str, Inheritance] = {}
        self._umask = os.umask(0o077)
        os.umask(self._umask)

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.forget_directories()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    @cached_property
    def naming(self) -> Naming:
        """The filesystem's rules for names, determined by experiments in the client's own directory."""
        return Naming(
            folds_case=self._is_private(PRIVATE.upper()),
            like_windows=self._is_private(f"{PRIVATE}."),  # Such a filesystem ignores dots at the end of a name.
        )

    def _is_private(self, name: str) -> bool:
        try:
            return os.path.samestat(self.stat(name), self.stat(PRIVATE))
        except OSError:
            return False

    # ---- looking ----

    def open_directory(self, path: str) -> int:
        """Return a descriptor of a directory. The caller must close the descriptor."""
        parent, name = self._at(path)
        return os.open(name or ".", _DIRECTORY, dir_fd=parent)

    def open_file(self, path: str) -> int:
        """Return a descriptor for reading the entry at `path`, which need not be a regular file. The caller must close
        the descriptor.
        """
        parent, name = self._at(path)
        return os.open(name, _READ, dir_fd=parent)

    def stat(self, path: str) -> os.stat_result:
        """Return the status of the entry at `path`, without following a symlink at its end."""
        parent, name = self._at(path)
        return os.stat(name or ".", dir_fd=parent, follow_symlinks=False)

    def exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def is_taken(self, path: str) -> bool:
        """Return True if the name of `path` is taken, in any Unicode spelling."""
        return self.exists(path) or self._is_spelled_otherwise(path)

    def read_link(self, path: str) -> str:
        parent, name = self._at(path)
        return os.readlink(name, dir_fd=parent)

    # ---- acting ----

    def make_directory(self, path: str) -> None:
        """Make a directory. Raise FileExistsError if the name is taken."""
        self._expect_free(path)
        parent, name = self._at(path)
        os.mkdir(name, dir_fd=parent)
        self._note_name(path)

    def make_symlink(self, path: str, target: str) -> None:
        """Make a symlink at `path`, whose target is the text `target`. Raise FileExistsError if the name is taken."""
        self._expect_free(path)
        parent, name = self._at(path)
        os.symlink(target, name, dir_fd=parent)
        self._note_name(path)

    def move(self, path: str, to: str, *, directory: bool = False, back: bool = False) -> None:
        """Rename the entry at `path` to `to`. Raise FileExistsError if an entry is at `to`, in any Unicode spelling.

        `directory` has to be True for a directory, because cached descriptors of directories are closed then. With
        `back`, `to` is the former name of the entry, and only an entry with exactly that name is in the way: an entry
        that a person made in another spelling must not prevent the way back.
        """
        if not back:
            self._expect_free(to, but=path)
        with self._both(path, to) as (source, name, target, new_name):
            _rename_noreplace(source, name, target, new_name)
        if directory:
            self.forget_directories()
        elif back:
            self._forget_names(path, to)
        else:
            self._note_name(to, before=path)

    def _expect_free(self, path: str, *, but: str = "") -> None:
        """Raise FileExistsError if the name exists in another spelling; the entry at `but` does not count."""
        if self._is_spelled_otherwise(path, but=but):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)

    def _is_spelled_otherwise(self, path: str, *, but: str = "") -> bool:
        directory, name = _split(path)
        descriptor, _ = self._at(path)
        spellings = self._spellings.pop(directory, None)
        if spellings is None or not spellings.hold(descriptor):
            if has_one_spelling(name):
                return False
            spellings = Spellings(descriptor)
        self._spellings[directory] = spellings
        while len(self._spellings) > _MAX_OPEN_DIRECTORIES:
            self._spellings.popitem(last=False)
        return any((directory, other) != _split(but) for other in spellings.others(name))

    def _note_name(self, path: str, *, before: str | None = None) -> None:
        """Update the known spellings after this process has put an entry at `path`, moved from `before` unless that is
        None.
        """
        directory, name = _split(path)
        above, gone = (directory, None) if before is None else _split(before)
        if above != directory:
            self._spellings.pop(above, None)
            gone = None
        if (spellings := self._spellings.get(directory)) is not None:
            spellings.changed(self._at(path)[0], come=name, gone=gone)

    def _forget_names(self, *paths: str) -> None:
        """Drop the cached names (`Spellings`) of the parent directories of these paths."""
        for path in paths:
            self._spellings.pop(_split(path)[0], None)

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory. Raise OSError, and leave the directory in place, if it is not empty or cannot be
        removed.
        """
        parent, name = self._at(path)
        os.rmdir(name, dir_fd=parent)
        self.forget_directories()

    def remove(self, path: str, expected: Signature, *, token: str) -> None:
        """Unlink a file if its signature is `expected`; otherwise raise FileChanged, and leave the file in place.

        The file is first moved to the private directory, where nobody else writes, and compared there. `token` is a
        name in that directory, of the caller's choice, by which the next run recognises the file if this process dies
        in between.
        """
        if Signature.of(self.stat(path)) != expected:
            raise FileChanged(errno.ESTALE, "the file has changed; it will be scanned again")
        aside = f"{TEMPORARY}/{_OUTGOING}{token}"
        try:
            self.move(path, aside)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._unlink(path)
            return
        if not same_file(self.stat(aside), expected):
            self.move(aside, path, back=True)
            raise FileChanged(errno.ESTALE, "the file has changed; it will be scanned again")
        self._unlink(aside)

    def replace(self, temporary: str, path: str, expected: Signature, *, token: str) -> None:
        """Replace the file at `path` by the file `temporary` if its signature is `expected`; otherwise raise
        FileChanged, and leave both files as they are. The old file is moved to the private directory under the name
        `token` and removed from there.
        """
        if Signature.of(self.stat(path)) != expected:
            raise FileChanged(errno.ESTALE, "the file has changed; it will be scanned again")
        aside = f"{TEMPORARY}/{_OUTGOING}{token}"
        self.move(temporary, aside)
        try:
            exchanged = self._exchange(aside, path)
        except OSError:
            self.move(aside, temporary)
            raise
        if not exchanged:
            # Without an atomic exchange, the path has no file for a moment.
            self.move(aside, temporary)
            self.move(path, aside)
        replaced = same_file(self.stat(aside), expected)
        if exchanged and not replaced:
            self._exchange(aside, path)
            self.move(aside, temporary)
        elif not exchanged:
            self.move(temporary if replaced else aside, path, back=True)
        if not replaced:
            raise FileChanged(errno.ESTALE, "the file has changed; it will be scanned again")
        self._unlink(aside)

    def mode(self, *, executable: bool, like: str | None = None) -> int:
        """Return the permissions for a new file or, with `like`, for the file that replaces the one at the path `like`.
        `executable` is the executable bit of the file.
        """
        if like is not None:
            return with_executable(self.stat(like).st_mode, executable=executable) & 0o777
        return with_executable(0o666 & ~self._umask, executable=executable) & ~self._umask

    def carry_over(self, path: str, temporary: str, *, executable: bool) -> list[str]:
        """Copy the attributes other than the bytes from the file or symlink at `path` to `temporary`, which will
        replace that entry. `executable` is the executable bit of the replacement.

        Return descriptions of the attributes that could not be copied.
        """
        found = self.stat(path)
        if not stat.S_ISREG(found.st_mode):
            parent, name = self._at(temporary)
            try:
                os.chown(name, found.st_uid, found.st_gid, dir_fd=parent, follow_symlinks=False)
            except OSError:
                return ["the owner"]
            return []
        try:
            old = self.open_file(path)
        except PermissionError:
            return ["the owner", "the group", "extended attributes"]
        try:
            new = self.open_file(temporary)
            try:
                lost = list(carry_over(old, new, executable=executable))
            finally:
                os.close(new)
        finally:
            os.close(old)
        return [*lost, "a hard link"] if found.st_nlink > 1 else lost

    def inherit(self, temporary: str, directory: str, *, executable: bool) -> list[str]:
        """Give the new file `temporary` the attributes that files inherit in `directory`. `executable` is the
        executable bit of the file. Return descriptions of the attributes that could not be set.
        """
        inherited = self._inheritance(directory)
        if inherited == self._inheritance(TEMPORARY) and inherited.acl is None:
            return []
        parent, name = self._at(temporary)
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            group = os.getegid() if inherited.group is None else inherited.group
            try:
                os.chown(name, -1, group, dir_fd=parent, follow_symlinks=False)
            except OSError:
                return ["the group of the directory"]
            return []
        descriptor = self.open_file(temporary)
        try:
            return list(inherit(descriptor, inherited, mode=self.mode(executable=executable)))
        finally:
            os.close(descriptor)

    def _inheritance(self, directory: str) -> Inheritance:
        if directory not in self._inheritances:
            descriptor = self.open_directory(directory)
            try:
                self._inheritances[directory] = Inheritance.of(descriptor)
            finally:
                os.close(descriptor)
        return self._inheritances[directory]

    def set_executable(self, path: str, *, executable: bool) -> None:
        descriptor = self.open_file(path)
        try:
            now = os.fstat(descriptor)
            if not stat.S_ISREG(now.st_mode):
                raise FileChanged(errno.ESTALE, "it is not a regular file any more; it will be scanned again")
            os.fchmod(descriptor, with_executable(now.st_mode, executable=executable))
        finally:
            os.close(descriptor)

    # ---- temporary files ----

    def prepare(self) -> None:
        """Make the client's own directories. Raise NotADirectoryError if another entry has one of their names.

        Other users cannot enter these directories, because a file that is downloaded there may belong into a directory
        that other users cannot enter.
        """
        for path, permissions in ((PRIVATE, PRIVATE_MODE), (TEMPORARY, 0o700)):
            with contextlib.suppress(FileExistsError):
                self.make_directory(path)
            descriptor = self.open_directory(path)
            try:
                mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
                if mode & 0o777 & ~permissions:
                    with contextlib.suppress(OSError):  # a filesystem without permissions, or somebody else's
                        os.fchmod(descriptor, mode & (permissions | ~0o777))
            finally:
                os.close(descriptor)

    @staticmethod
    def incoming(token: str) -> str:
        """Return the path, relative to the folder, of the temporary file into which a download is written. `token` is a
        name of the caller's choice. Equal tokens give equal paths, so that a later run finds an interrupted download.
        """
        return f"{TEMPORARY}/{_INCOMING}{token}"

    def temporaries(self) -> tuple[list[str], list[str]]:
        """Return the tokens of the files that an interrupted run left in the private directory, as two sorted lists:
        the files that were being downloaded, and the files that were moved there in order to be removed. A token is the
        name of such a file.
        """
        try:
            descriptor = self.open_directory(TEMPORARY)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        try:
            names = sorted(os.listdir(descriptor))  # noqa: PTH208 - relative to a descriptor
        finally:
            os.close(descriptor)
        return tuple(  # type: ignore[return-value]
            [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
            for prefix in (_INCOMING, _OUTGOING)
        )

    @staticmethod
    def outgoing(token: str) -> str:
        return f"{TEMPORARY}/{_OUTGOING}{token}"

    def discard(self, path: str) -> None:
        """Remove a temporary file if there is one."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._unlink(path)

    # ---- durability ----

    def flush(self, files: Iterable[str], directories: Iterable[str]) -> None:
        """Make the data of these files and directories durable. Missing ones are skipped."""
        paths = [(path, self.open_file) for path in files]
        paths += [(path, self.open_directory) for path in directories]
        if len(paths) > _MAX_SINGLY_SYNCED_FILES and _syncfs is not None and _syncfs(self._root) == 0:
            return
        with ThreadPoolExecutor(_FLUSHERS) as flushers:
            for start in range(0, len(paths), _MAX_OPEN_DIRECTORIES):
                # Opening walks shared descriptors, so it is sequential; only the waiting is concurrent.
                descriptors = [
                    descriptor
                    for path, opened in paths[start : start + _MAX_OPEN_DIRECTORIES]
                    if (descriptor := _opened(path, opened)) is not None
                ]
                try:
                    list(flushers.map(os.fsync, descriptors))
                finally:
                    for descriptor in descriptors:
                        os.close(descriptor)

    # ---- the way to a path ----

    def forget_directories(self) -> None:
        """Close all cached directory descriptors, because paths may lead elsewhere from now on."""
        self._inheritances.clear()
        self._spellings.clear()
        while self._open:
            os.close(self._open.popitem()[1])

    def _at(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the parent directory of `path`, and the last name of the path. The descriptor is
        cached: it is valid until the next call of a method, and the caller must not close it.
        """
        directory, name = _split(path)
        return self._walk(directory), name

    @contextlib.contextmanager
    def _both(self, path: str, other: str) -> Iterator[tuple[int, str, int, str]]:
        """Context that provides, for each of two paths, the descriptor of the parent directory and the last name. Both
        descriptors are valid until the next call of a method.
        """
        source, name = self._at(path)
        # The second walk may evict descriptors that the first one opened, but only if it opens that many itself.
        deep = other.count("/") >= _MAX_OPEN_DIRECTORIES
        if deep:
            source = os.dup(source)
        try:
            yield source, name, *self._at(other)
        finally:
            if deep:
                os.close(source)

    def _walk(self, directory: str) -> int:
        if not directory:
            return self._root
        if (descriptor := self._open.get(directory)) is not None:
            self._open.move_to_end(directory)
            return descriptor
        above, _, name = directory.rpartition("/")
        chain = [name]
        while above and above not in self._open:
            above, _, name = above.rpartition("/")
            chain.append(name)
        descriptor = self._open[above] if above else self._root
        path = above
        for name in reversed(chain):
            path = f"{path}/{name}" if path else name
            descriptor = os.open(name, _DIRECTORY, dir_fd=descriptor)
            self._open[path] = descriptor
            while len(self._open) > _MAX_OPEN_DIRECTORIES:
                os.close(self._open.popitem(last=False)[1])
        return descriptor

    def _unlink(self, path: str) -> None:
        parent, name = self._at(path)
        os.unlink(name, dir_fd=parent)
        self._forget_names(path)

    def _exchange(self, path: str, other: str) -> bool:
        """Swap two files atomically; return False if the system cannot."""
        with self._both(path, other) as (source, name, target, other_name):
            return _rename(source, name, target, other_name, _EXCHANGE)


def _split(path: str) -> tuple[str, str]:
    """Return the parent directory and the last name of a path."""
    directory, _, name = path.rpartition("/")
    return directory, name


def _opened(path: str, opened: Callable[[str], int]) -> int | None:
    try:
        return opened(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a symlink, which its directory's listing describes completely
            return None
        raise


# ---- what the standard library does not offer ----

_NOREPLACE, _EXCHANGE = (1, 2) if sys.platform == "linux" else (4, 2)  # RENAME_*, on macOS RENAME_EXCL and RENAME_SWAP
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


def _library_function(name: str) -> Callable[..., int] | None:
    try:
        return getattr(ctypes.CDLL(None, use_errno=True), name)  # type: ignore[no-any-return]
    except (AttributeError, OSError):
        return None


_renameat2 = _library_function("renameat2" if sys.platform == "linux" else "renameatx_np")
_syncfs = _library_function("syncfs") if sys.platform == "linux" else None


def _rename(source: int, name: str, target: int, new_name: str, flag: int) -> bool:
    """Rename with the flag `flag`; return False if the system or the filesystem does not support the flag. Raise
    OSError if the rename fails.
    """
    if _renameat2 is None:
        return False
    if _renameat2(source, os.fsencode(name), target, os.fsencode(new_name), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), new_name)


def _rename_noreplace(source: int, name: str, target: int, new_name: str) -> None:
    if _rename(source, name, target, new_name, _NOREPLACE):
        return
    if stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
        # A directory never replaces anything but an empty directory.
        with contextlib.suppress(FileNotFoundError):
            os.stat(new_name, dir_fd=target, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name)
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
        return
    os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    os.unlink(name, dir_fd=source)
