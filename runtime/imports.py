"""Imports of a server: without optional parts of libraries that it never uses, and without collections of garbage."""

from __future__ import annotations

import gc
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


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect garbage once at the end of the context instead of often within it, and freeze the objects that live then,
    so that no later collection visits them.

    This is for imports, whose objects live as long as the process: each collection would visit all of them, and find
    hardly any garbage.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        if was_enabled:
            gc.enable()
