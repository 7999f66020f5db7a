"""Detection of changes in a folder, with the best means that the system offers.

On Linux every directory of the folder has an inotify watch. A directory that cannot be watched (the system limits the
watches of a user, or the directory is unreadable) is polled every few seconds instead. On other systems, watchfiles
does this.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from syncline.sync.folder.files import PRIVATE

if TYPE_CHECKING:
    from typing import Self

SETTLE_SECONDS: Final = 0.4
"""Seconds for which the folder has to be quiet before a change is reported."""
MAX_SETTLE_SECONDS: Final = 1.6
"""Maximum delay in seconds before a change is reported, even if the folder is never quiet."""
LOOK_SECONDS: Final = 5.0
"""Minimum number of seconds between two polls of the directories that cannot be watched."""
_LOOKING_SHARE: Final = 20
"""Minimum pause between two polls of the directories that cannot be watched, as a multiple of the duration of a poll.

"""
_AGAIN_SECONDS: Final = 60.0
"""Seconds between two attempts to watch the directories that could not be watched."""

_NO_MORE: Final = {errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Lookout:
    """Watches the folder at `root` in a thread of its own: calls `ring` when something in the folder has changed, and
    once when the watch starts. Has to be closed.

    `say` is called once for each reason that directories cannot be watched, with a text that says what to do. Both
    functions are called in the thread of the Lookout. `renew` restarts the watch, for example after the folder was
    unavailable.
    """

    def __init__(self, root: Path, *, ring: Callable[[], None], say: Callable[[str], None]) -> None:
        self._root = str(root)
        self._ring = ring
        self._say = say
        self._said: str | None = None
        self._closed = threading.Event()
        self._renewed = threading.Event()
        self._look = self._look_by_inotify if sys.platform == "linux" else self._look_by_watchfiles
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def renew(self) -> None:
        self._renewed.set()

    def close(self) -> None:
        self._closed.set()
        self._renewed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._renewed.clear()
            if self._closed.is_set():  # The lookout may have been closed between the two events.
                return
            try:
                self._look()
            except Exception as error:
                self._remark(f"changes in {self._root} may be seen late, as it cannot be watched ({error})")
                self._ring()
                self._renewed.wait(LOOK_SECONDS)

    def _remark(self, text: str | None) -> None:
        if text is not None and text != self._said:
            self._say(text)
        self._said = text

    # ---- Linux ----

    def _look_by_inotify(self) -> None:
        with _Inotify() as inotify:
            cover = _Cover(self._root, inotify)
            self._remark(cover.remark())
            self._ring()
            looked = tried = time.monotonic()
            pause = LOOK_SECONDS
            while not self._renewed.is_set():
                if inotify.wait(0.5):
                    began = time.monotonic()
                    while True:
                        if inotify.read() & (_DIRECTORIES | _LOST):
                            cover.extend()
                        if time.monotonic() - began > MAX_SETTLE_SECONDS or not inotify.wait(SETTLE_SECONDS):
                            break
                    self._ring()
                now = time.monotonic()
                if cover.unwatched and now - looked > pause:
                    again = now - tried > _AGAIN_SECONDS
                    if again:
                        tried = now
                        inotify.reopen()
                    if cover.has_changed() or again:
                        cover.extend()
                        self._ring()
                    looked = time.monotonic()
                    pause = max(LOOK_SECONDS, _LOOKING_SHARE * (looked - now))
                self._remark(cover.remark())

    # ---- other systems ----

    def _look_by_watchfiles(self) -> None:
        import watchfiles  # noqa: PLC0415 - Linux does without

        private = f"{self._root}/{PRIVATE}/"
        begun = False
        for changes in watchfiles.watch(
            self._root,
            watch_filter=lambda _, path: not path.startswith(private),
            debounce=int(MAX_SETTLE_SECONDS * 1000),
            step=int(SETTLE_SECONDS * 1000),
            rust_timeout=500,
            yield_on_timeout=True,
            stop_event=self._renewed,
            ignore_permission_denied=True,
            raise_interrupt=False,
        ):
            if changes or not begun:
                begun = True
                self._ring()


class _Cover:
    """Watches the directories of a folder, and polls the directories that cannot be watched: keeps the watches, and for
    each other directory the value of `_appearance` at the last poll.
    """

    def __init__(self, root: str, inotify: _Inotify) -> None:
        self._root = root
        self._inotify = inotify
        self.unwatched: dict[str, object] = {}
        self.extend()

    def extend(self) -> None:
        """Watch all directories that exist now. A directory that has a watch keeps it."""
        self.unwatched.clear()
        pending = [self._root]
        while pending:
            path = pending.pop()
            # The watch is set before the directory is listed, so that a directory created in between is either listed
            # or reported.
            watched = self._inotify.add(path)
            try:
                pending.extend(self._directories(path))
            except (FileNotFoundError, NotADirectoryError):
                watched = watched or path != self._root  # the directory above reports it if it is created again
            except OSError:
                watched = False
            if not watched:
                self.unwatched[path] = self._appearance(path)

    def has_changed(self) -> bool:
        """Return True if anything in the directories without a watch has changed since the last call of this method."""
        changed = False
        for path, before in self.unwatched.items():
            now = self._appearance(path)
            if now != before:
                self.unwatched[path] = now
                changed = True
        return changed

    def remark(self) -> str | None:
        """Return a text about a system limit that prevents directories from being watched, for the user; None if all
        are watched.
        """
        if self._inotify.refused is None or not self.unwatched:
            return None
        limit, enough = ("max_user_watches", 524_288) if self._inotify.is_open else ("max_user_instances", 1024)
        with suppress(OSError, ValueError):
            enough = max(enough, 2 * int(Path(f"/proc/sys/fs/inotify/{limit}").read_text()))
        return (
            f"not all of {self._root} can be watched, since the system's limit for that is reached; the rest is looked "
            f"at every few seconds. `sudo sysctl fs.inotify.{limit}={enough}` raises the limit"
        )

    def _directories(self, path: str) -> list[str]:
        with os.scandir(path) as entries:
            return [
                entry.path
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not (path == self._root and entry.name == PRIVATE)
            ]

    def _appearance(self, path: str) -> object:
        """Return a value that stays equal for as long as nothing in a directory changes."""
        found = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if path == self._root and entry.name == PRIVATE:
                        continue
                    with suppress(FileNotFoundError):
                        seen = entry.stat(follow_symlinks=False)
                        # The times of a directory are those of its entries; each directory has a watch or a poll of its
                        # own.
                        times = () if stat.S_ISDIR(seen.st_mode) else (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size)
                        found.append((entry.name, seen.st_mode, seen.st_ino, times))
        except OSError as error:
            return error.errno
        return hash(tuple(sorted(found)))


# ---- what the standard library does not offer ----

_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED, _CREATE, _DELETE = 0x2, 0x4, 0x8, 0xC0, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IS_DIRECTORY = 0x400, 0x800, 0x2000, 0x4000, 0x40000000
_ONLY_DIRECTORY, _DONT_FOLLOW, _EXCLUDE_UNLINKED = 0x01000000, 0x02000000, 0x04000000
_WATCHED = (
    _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
    | _ONLY_DIRECTORY | _DONT_FOLLOW | _EXCLUDE_UNLINKED
)  # fmt: skip
_DIRECTORIES = _IS_DIRECTORY
_LOST = _UNMOUNT | _OVERFLOW | _DELETE_SELF | _MOVE_SELF
_EVENT = struct.Struct("iIII")
_READ_BYTES = 1 << 16


class _Inotify:
    """The kernel's watches of directories. `refused` is the errno if the kernel gave no inotify instance; then no
    directory can be watched.
    """

    def __init__(self) -> None:
        self.refused: int | None = None
        self._library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = -1
        self._poll = select.poll()
        self.reopen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_open:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def is_open(self) -> bool:
        return self._descriptor >= 0

    def reopen(self) -> None:
        """Open an inotify instance if the kernel refused one before; if it refuses again, record the errno."""
        self.refused = None
        if self.is_open:
            return
        self._descriptor = self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.is_open:
            self._poll.register(self._descriptor, select.POLLIN)
        else:
            self.refused = ctypes.get_errno()

    def add(self, path: str) -> bool:
        """Watch a directory, unless it is watched already. Return True if it is watched now."""
        if not self.is_open:
            return False
        if self._library.inotify_add_watch(self._descriptor, os.fsencode(path), _WATCHED) >= 0:
            return True
        code = ctypes.get_errno()
        if code in _NO_MORE:
            self.refused = code
        return False

    def wait(self, seconds: float) -> bool:
        """Return True if an event arrives within `seconds`."""
        if not self.is_open:
            time.sleep(seconds)
            return False
        return bool(self._poll.poll(seconds * 1000))

    def read(self) -> int:
        """Read all pending events; return the union of their masks."""
        kinds = 0
        with suppress(BlockingIOError):
            data = os.read(self._descriptor, _READ_BYTES)
            at = 0
            while at < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, at)
                kinds |= mask
                at += _EVENT.size + length
        return kinds
