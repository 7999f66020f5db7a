"""Temporary directories for incomplete output of commands, which are removed automatically.

A directory is locked while its process runs. If the process is killed, the lock ends, and the next command that works
in the same parent directory removes the directory.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from syncline.model.names import SCRATCH_PREFIX

_LOCK: Final = "lock"
_NEW_LOCK: Final = "lock.new"
"""The name of the lock file until it is locked, so that no other process sees it unlocked."""
_UNBORN_SECONDS: Final = 3600.0
"""Seconds for which a directory without a lock file is left alone, because its process may be about to create the file.
"""


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """Provide a new directory in `beside`, accessible to the user alone, which is removed at the end of the context,
    even after an error. Raise OSError if it cannot be made.
    """
    _remove_abandoned(beside)
    directory = beside / f"{SCRATCH_PREFIX}{secrets.token_hex(8)}"
    directory.mkdir(mode=0o700)
    lock = -1
    try:
        lock = os.open(directory / _NEW_LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # the filesystem does not support locks; then no other process takes the directory for abandoned either
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (directory / _NEW_LOCK).rename(directory / _LOCK)
        yield directory
    finally:
        _remove(directory)
        if lock >= 0:
            os.close(lock)


def _remove_abandoned(place: Path) -> None:
    """Remove the directories that killed processes of this user left."""
    with suppress(OSError):
        for path in place.glob(f"{SCRATCH_PREFIX}*"):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and _is_abandoned(path, found):
                _remove(path)


def _is_abandoned(directory: Path, found: os.stat_result) -> bool:
    try:
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return time.time() - found.st_mtime > _UNBORN_SECONDS
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _remove(directory: Path) -> None:
    """Remove a directory, even while threads of an interrupted transfer still write into it; once it is gone, they
    cannot.
    """
    for _ in range(100):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
