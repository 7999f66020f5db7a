"""Several things of one directory whose names differ in Unicode spelling only: one is synced, the others are said."""

from __future__ import annotations

from collections.abc import Container, Iterable

from syncline.sync.scan.walk import Scan
from syncline.sync.trees import BaseNode, Problem, printable


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
    """Return the problem that entry `dropped` is not synced beside the entry `kept`, whose name is the same in NFC."""
    return Problem(
        printable(scan.path(dropped)),
        f"its name differs from {scan.path(kept)!r} in Unicode spelling only; rename one of them",
    )
