"""Names in one directory that differ in Unicode spelling only. Of those a space can have one; syncing adds none."""

from __future__ import annotations

import os

from syncline.model.names import normalize

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
        """Return True if the directory has not changed since its names were read."""
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
