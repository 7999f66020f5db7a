"""Opening of files in a synced folder: only real directories are followed, even if the path is exchanged
concurrently.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_below(root: Path | None, path: Path, flags: int, mode: int = 0o600) -> int:
    """Open the file at `path`, and return its descriptor, which the caller must close. `flags` and `mode` (for a new
    file) are those of `os.open`. Raise OSError if the file cannot be opened.

    OSError is raised, too, if the file or a directory between `root` and the file is a symlink. If `root` is None, only
    the file is checked.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    if root is None:
        return os.open(path, flags, mode) if flags & os.O_CREAT else os.open(path, flags)
    *directories, name = path.relative_to(root).parts
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for directory in directories:
            below = os.open(directory, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        return os.open(name, flags, mode, dir_fd=at)
    finally:
        os.close(at)


def unlink_below(root: Path | None, path: Path) -> None:
    """Remove the file at `path`; do nothing if it does not exist. Raise OSError if the file cannot be removed, or if a
    directory between `root` and the file is a symlink. If `root` is None, the directories are not checked.
    """
    if root is None:
        path.unlink(missing_ok=True)
        return
    at = open_below(root, path.parent, _DIRECTORY) if path.parent != root else os.open(root, _DIRECTORY)
    try:
        os.unlink(path.name, dir_fd=at)
    except FileNotFoundError:
        pass
    finally:
        os.close(at)
