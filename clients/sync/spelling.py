"""Names in one directory that differ in Unicode spelling only: of those a space can have one.

Where a person has made several, one is synced and the others are said. A sync itself makes no second one.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from clients.sync.trees import BaseNode, Problem, printable
from core.names import normalize

if TYPE_CHECKING:
    from clients.sync.scan import Scan

_SHARED = frozenset(";K`")
"""The ASCII that other characters become in NFC: the Greek question mark, the Kelvin sign, the Greek varia."""


def has_one_spelling(name: str) -> bool:
    """True only if no other name is the same in NFC. It may be False for such a name, too."""
    return name.isascii() and _SHARED.isdisjoint(name)


class Spellings:
    """The names in one directory by their NFC, read once for many questions.

    They hold as long as the directory shows no change but those that are told. What somebody makes there in the same
    tick of the filesystem's clock as one of these is not noticed.
    """

    def __init__(self, directory: int) -> None:
        """`directory` is a descriptor of it, here as in all methods."""
        self._stamp = _stamp(directory)
        self._names: dict[str, set[str]] = {}
        for name in os.listdir(directory):
            self._names.setdefault(normalize(name), set()).add(name)

    def hold(self, directory: int) -> bool:
        """Whether these are the names of this directory still."""
        return _stamp(directory) == self._stamp

    def others(self, name: str) -> frozenset[str]:
        """The names that differ from this one in spelling only."""
        return frozenset(self._names.get(normalize(name), ())) - {name}

    def changed(self, directory: int, *, come: str, gone: str | None = None) -> None:
        """Take over what was just done to the directory."""
        if gone is not None:
            self._names.get(normalize(gone), set()).discard(gone)
        self._names.setdefault(normalize(come), set()).add(come)
        self._stamp = _stamp(directory)


def _stamp(directory: int) -> tuple[int, int, int]:
    found = os.fstat(directory)
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def doubles(scan: Scan) -> dict[tuple[int, str], list[int]]:
    """Entries of one directory whose names are the same in NFC, by the directory and that name."""
    if all(entry.name is entry.local_name for entry in scan.entries):
        return {}
    groups: dict[tuple[int, str], list[int]] = {}
    for n, entry in enumerate(scan.entries):
        groups.setdefault((entry.parent, entry.name), []).append(n)
    return {place: group for place, group in groups.items() if len(group) > 1}


def closest(group: Iterable[int], scan: Scan, before: BaseNode | None, same_inode: Container[int]) -> list[int]:
    """Such entries, the one first that is kept: what was agreed on for their place (`before`), else the one in NFC.

    `same_inode` has those with the inode that was agreed on.
    """

    def strangeness(n: int) -> tuple[bool, bool, bool]:
        entry = scan.entries[n]
        return (
            before is None or n not in same_inode,
            before is None or before.local_name != entry.local_name,
            entry.local_name != entry.name,
        )

    return sorted(group, key=strangeness)


def double(scan: Scan, dropped: int, kept: int) -> Problem:
    """That an entry is not synced beside the one that is kept."""
    return Problem(
        printable(scan.path(dropped)),
        f"its name differs from {scan.path(kept)!r} in Unicode spelling only; rename one of them",
    )
