"""The directory in which a device keeps its state. Each such home is one device."""

from __future__ import annotations

import os
from pathlib import Path


def default_home() -> Path:
    """Return `SYNCLINE_HOME`, else the user's data directory for Syncline on this platform. It need not exist."""
    if configured := os.environ.get("SYNCLINE_HOME"):
        return Path(configured).absolute()
    import platformdirs  # noqa: PLC0415 - imported only where nothing else says it

    return Path(platformdirs.user_data_dir("syncline", appauthor=False))
