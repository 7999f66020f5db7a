"""Entries of one directory whose names differ only in Unicode spelling: one is synced, the others are reported."""

from __future__ import annotations

from collections.abc import Container, Iterable

from syncline.sync.scan.walk import Scan
from syncline.sync.trees import BaseNode, Problem, printable


def doubles(scan: Scan) -> dict[tuple[int, str], list[int]]:
    """Return the groups of files in one directory whose names have the same NFC: their numbers in the scan, by the
    number of the directory and that NFC.
    """
    if all(entry.name is entry.local_name for entry in scan.entries):
        return {}
    groups: dict[tuple[int, str], list[int]] = {}
    for n, entry in enumerate(scan.entries):
        groups.setdefault((entry.parent, entry.name), []).append(n)
    return {place: group for place, group in groups.items() if len(group) > 1}


def closest(group: Iterable[int], scan: Scan, before: BaseNode | None, same_inode: Container[int]) -> list[int]:
    """Return the entries of `group`, sorted so that the entry to keep is first. That is the entry of the node `before`,
    which the base has at this place, or else the entry whose name is in NFC.

    `group` has the numbers, in the scan, of entries whose names have the same NFC, and `same_inode` the numbers of
    those with the inode of `before`.
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
    """Return the problem, for the user, that number `dropped` of the scan is not synced beside number `kept`, because
    both names are the same in NFC.
    """
    return Problem(
        printable(scan.path(dropped)),
        f"its name differs from {scan.path(kept)!r} in Unicode spelling only; rename one of them",
    )
