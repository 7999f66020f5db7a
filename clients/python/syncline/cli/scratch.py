"""Directories for what a command writes before it is whole, which nobody has to clean up by hand.

Each is locked for as long as its process lives. What a killed process left has no lock any more, and is removed by the
next command that works in the same place.
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
"""The name of the lock file until it is locked, so that no other process finds it without its lock."""
_UNBORN_SECONDS: Final = 3600.0
"""A directory without a lock file is left alone for this long, as its process may be about to make it."""


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """A new directory in `beside`, for the user alone, that is gone afterwards, however that comes about. OSError."""
    _remove_abandoned(beside)
    directory = beside / f"{SCRATCH_PREFIX}{secrets.token_hex(8)}"
    directory.mkdir(mode=0o700)
    lock = -1
    try:
        lock = os.open(directory / _NEW_LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a filesystem without locks, on which nobody will take it for abandoned either
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (directory / _NEW_LOCK).rename(directory / _LOCK)
        yield directory
    finally:
        _remove(directory)
        if lock >= 0:
            os.close(lock)


def _remove_abandoned(place: Path) -> None:
    """Remove what killed processes of this user left."""
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
    """Also while an interrupted transfer's threads still write into it: they cannot, once it is gone."""
    for _ in range(100):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
