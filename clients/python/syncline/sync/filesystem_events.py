"""Noticing that something in a folder has changed, whatever the system lets us watch.

On Linux every directory of the folder has a watch of inotify's. A directory that cannot have one (the system allows a
user only so many, or does not let us read it) is looked at every few seconds instead. Elsewhere watchfiles does this.
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
"""A change is told when the folder has been quiet for this long."""
LONGEST_SETTLE_SECONDS: Final = 1.6
"""A folder that is never quiet is told of after this long."""
LOOK_SECONDS: Final = 5.0
"""Minimum number of seconds between two looks at directories that cannot be watched."""
_LOOKING_SHARE: Final = 20
"""Looking takes no more than one part of this of the time."""
_AGAIN_SECONDS: Final = 60.0
"""Seconds between attempts to watch directories that could not be watched."""

_NO_MORE: Final = {errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Lookout:
    """Calls `ring` when something in the folder has changed, and once when it begins to look. Close it.

    `say` is told, once for each reason, what cannot be watched and what to do about it. Both are called in a thread of
    the lookout's. `renew` makes it begin anew, as after the folder was away.
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
                        if time.monotonic() - began > LONGEST_SETTLE_SECONDS or not inotify.wait(SETTLE_SECONDS):
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
            debounce=int(LONGEST_SETTLE_SECONDS * 1000),
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
    """The directories of a folder: which of them have a watch, and what those without looked like last."""

    def __init__(self, root: str, inotify: _Inotify) -> None:
        self._root = root
        self._inotify = inotify
        self.unwatched: dict[str, object] = {}
        self.extend()

    def extend(self) -> None:
        """Watch all directories that there are now. One that has a watch keeps it."""
        self.unwatched.clear()
        pending = [self._root]
        while pending:
            path = pending.pop()
            # First the watch, then what is in it: a directory that is made in between is found or told of.
            watched = self._inotify.add(path)
            try:
                pending.extend(self._directories(path))
            except (FileNotFoundError, NotADirectoryError):
                watched = watched or path != self._root  # The one above tells if it comes again.
            except OSError:
                watched = False
            if not watched:
                self.unwatched[path] = self._appearance(path)

    def has_changed(self) -> bool:
        """Return True if anything in the directories without a watch has changed since the last look."""
        changed = False
        for path, before in self.unwatched.items():
            now = self._appearance(path)
            if now != before:
                self.unwatched[path] = now
                changed = True
        return changed

    def remark(self) -> str | None:
        """Return a text that tells the user of a limit of the system which keeps directories from being watched; None
        if all are.
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
        """Return a value that stays equal as long as nothing in a directory changes."""
        found = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if path == self._root and entry.name == PRIVATE:
                        continue
                    with suppress(FileNotFoundError):
                        seen = entry.stat(follow_symlinks=False)
                        # The times of a directory are those of what is in it, which has its own look or watch.
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
    """The kernel's watches of directories. What it is not given is `refused`, an errno; no watch at all is possible."""

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
        """Be ready to watch, if that was refused before."""
        self.refused = None
        if self.is_open:
            return
        self._descriptor = self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.is_open:
            self._poll.register(self._descriptor, select.POLLIN)
        else:
            self.refused = ctypes.get_errno()

    def add(self, path: str) -> bool:
        """Watch a directory; one that is watched already is watched once. Whether that is so now."""
        if not self.is_open:
            return False
        if self._library.inotify_add_watch(self._descriptor, os.fsencode(path), _WATCHED) >= 0:
            return True
        code = ctypes.get_errno()
        if code in _NO_MORE:
            self.refused = code
        return False

    def wait(self, seconds: float) -> bool:
        """Return True if there is something to read within `seconds`."""
        if not self.is_open:
            time.sleep(seconds)
            return False
        return bool(self._poll.poll(seconds * 1000))

    def read(self) -> int:
        """All kinds of events that have happened, together."""
        kinds = 0
        with suppress(BlockingIOError):
            data = os.read(self._descriptor, _READ_BYTES)
            at = 0
            while at < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, at)
                kinds |= mask
                at += _EVENT.size + length
        return kinds
