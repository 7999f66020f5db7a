"""Keeping optional parts of libraries out of a process that never uses them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """Within the context, let the import of each module in `names` fail as if it were not installed.

    Some libraries import a large optional dependency whenever it is installed. Within this context they do not, so that
    a server takes as much memory on a developer's machine as in production. Modules that are already loaded stay
    usable.
    """
    hidden = [name for name in names if name not in sys.modules]
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None means "not importable"
    for name in hidden:
        modules[name] = None
    try:
        yield
    finally:
        for name in hidden:
            modules.pop(name, None)
