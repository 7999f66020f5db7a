"""The directory in which a device keeps its state. Each such home is one device."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from syncline.sdk.errors import HomeNotPrivate


def default_home() -> Path:
    """Return the directory that `SYNCLINE_HOME` names, or else the user's data directory for Syncline on this platform.
    The directory need not exist.
    """
    if configured := os.environ.get("SYNCLINE_HOME"):
        return Path(configured).absolute()
    import platformdirs  # noqa: PLC0415 - imported only where nothing else says it

    return Path(platformdirs.user_data_dir("syncline", appauthor=False))


def check_private(home: Path) -> None:
    """Raise HomeNotPrivate if `home` belongs to another user than this one or root, or if everybody may write to it.

    Do nothing if `home` does not exist. In a directory that everybody may write to, such as the one for temporary
    files, another user may have created `home`.
    """
    try:
        found = home.stat()
    except OSError:
        return  # The code that uses the home next says what is wrong.
    if found.st_uid not in {os.geteuid(), 0}:
        raise HomeNotPrivate(
            f"{home} belongs to another user of this machine, who could exchange what this device keeps there; "
            "name another directory in SYNCLINE_HOME"
        )
    if found.st_mode & stat.S_IWOTH:
        raise HomeNotPrivate(
            f"everybody on this machine may write to {home}, and could exchange what this device keeps there; "
            "name another directory in SYNCLINE_HOME, or take that right away (chmod o-w)"
        )
