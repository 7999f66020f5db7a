"""Names in one directory that differ only in Unicode spelling. A space can have only one of them; a sync never adds a
second.
"""

from __future__ import annotations

import os

from syncline.model.names import normalize

_SHARED = frozenset(";K`")
"""ASCII characters that are the NFC of other characters: the Greek question mark, the Kelvin sign, the Greek varia."""


def has_one_spelling(name: str) -> bool:
    """Return True if it is certain that no other name has the same NFC as this name, so that a look-up is unnecessary;
    False if another name may have it.
    """
    return name.isascii() and _SHARED.isdisjoint(name)


class Spellings:
    """The names in one directory by their NFC, read from the disk once for many questions.

    Each change that this process makes to the directory must be reported to `changed`. Any other change makes the names
    invalid: `hold` then returns False, and the caller has to make a new object. A change by another program within the
    same tick of the filesystem's clock is not detected.
    """

    def __init__(self, directory: int) -> None:
        """`directory` is a descriptor of the directory, here and in all other methods."""
        self._stamp = _stamp(directory)
        self._names: dict[str, set[str]] = {}
        for name in os.listdir(directory):
            self._names.setdefault(normalize(name), set()).add(name)

    def hold(self, directory: int) -> bool:
        """Return True if the names are still valid: the directory has not changed since its names were read, or since
        the last call of `changed`.
        """
        return _stamp(directory) == self._stamp

    def others(self, name: str) -> frozenset[str]:
        """Return the names in the directory that differ from `name` in Unicode spelling only."""
        return frozenset(self._names.get(normalize(name), ())) - {name}

    def changed(self, directory: int, *, come: str, gone: str | None = None) -> None:
        """Update the names after a change that this process has just made to the directory: the entry `come` was added,
        and the entry `gone` was removed. With None, no entry was removed.
        """
        if gone is not None:
            self._names.get(normalize(gone), set()).discard(gone)
        self._names.setdefault(normalize(come), set()).add(come)
        self._stamp = _stamp(directory)


def _stamp(directory: int) -> tuple[int, int, int]:
    found = os.fstat(directory)
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns
