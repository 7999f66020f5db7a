"""Keep optional parts of libraries out of a process that never uses them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """While in this block, importing one of `names` fails as if it were not installed.

    For libraries that pull in something large only because it happens to be installed: a server then
    takes as much memory on a developer's machine as in production. Modules already loaded stay usable.
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
def replaced(name: str, **members: object) -> Iterator[None]:
    """While in this block, importing the module `name` gives one that has nothing but `members`.

    For what a library imports and never needs in a server. A module that is loaded already is left as it is.
    """
    package = name.rpartition(".")[0]
    made = [each for each in (package, name) if each not in sys.modules]
    if package in made:  # without what its __init__.py imports; other modules of it are found
        spec = find_spec(package)
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = list(spec.submodule_search_locations or ()) if spec else []
    if name in made:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(members)
    try:
        yield
    finally:
        for each in made:
            del sys.modules[each]


def no_text(**_: object) -> str:
    """In place of what makes a text that nobody reads in a server: an empty one."""
    return ""
