"""The names of conflict copies: `report (conflict laptop 2026-11-03 142501).txt`."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from datetime import datetime
from itertools import count

from syncline.model.names import normalize, shortened, with_mark

_MAX_DEVICE_BYTES = 64
_WIDEST_NUMBER = 10**9
"""A number greater than that of any conflict copy. A name with this number has the shortest stem of all."""


def conflict_label(device: str, now: datetime) -> str:
    """Return the label that distinguishes the conflict copies of one sync: the name of the device, and `now`, the local
    time.
    """
    name = re.sub(r"[/\0\s]+", " ", normalize(device)).strip() or "device"
    return f"conflict {shortened(name, _MAX_DEVICE_BYTES)} {now:%Y-%m-%d %H%M%S}"


def conflict_name(name: str, label: str, taken: Container[str]) -> str:
    """Return a valid name for the conflict copy of `name`. The result contains `label`, and is not in `taken`."""
    return next(candidate for _, candidate in _candidates(name, label) if candidate not in taken)


class ConflictNames:
    """The names of the conflict copies in one directory.

    Names that are too long are shortened, so that several may get the same stem. For such a stem, numbering continues
    after the last number that was given, so that each of thousands of copies takes a few steps.
    """

    def __init__(self, label: str) -> None:
        """`label` goes into all names (`conflict_label`)."""
        self._label = label
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        """The number that was given last, by the name with _WIDEST_NUMBER, which all names that are shortened to one
        stem have in common.
        """

    def take(self, name: str) -> None:
        """Record that a file or directory of the directory has this name, so that no conflict copy gets it."""
        self._taken.add(name)

    def name(self, name: str) -> str:
        """Return a name for the conflict copy of `name` that no entry of the directory has, and record it as taken."""
        stem = with_mark(name, f"({self._label} {_WIDEST_NUMBER})")
        candidates = _candidates(name, self._label, after=self._numbers.get(stem, 0))
        number, free = next(one for one in candidates if one[1] not in self._taken)
        self._numbers[stem] = number
        self._taken.add(free)
        return free


def _candidates(name: str, label: str, after: int = 0) -> Iterator[tuple[int, str]]:
    """Yield the numbers after `after`, each with the name that a conflict copy with this number has."""
    for number in count(after + 1):
        yield number, with_mark(name, f"({label})" if number == 1 else f"({label} {number})")
