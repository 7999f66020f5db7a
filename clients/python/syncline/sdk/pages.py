"""Pagination of listings, with bounds on pages, on items and on the memory of what is kept of them, so that a hostile
service can neither keep a client reading nor fill its memory.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from syncline.model.blocks import MIB
from syncline.sdk.errors import ListingTooLarge, UnexpectedAnswer

T = TypeVar("T")

MAX_EMPTY_PAGES: Final = 1000
"""Maximum number of empty pages of one listing, or of one pull of changes: a hostile service could send them for ever.
"""
MAX_LISTED_ITEMS: Final = 10_000_000
"""Maximum number of items of one listing, or of states of nodes in one pull of changes. A space may have a million
nodes, unless its operator has raised that limit.
"""
MAX_HELD_BYTES: Final = 2048 * MIB
"""Maximum memory in bytes of the items of one listing that are in memory together, or of the states of nodes that one
pull of changes brings. A million files whose blocks are in packs take about half of it.
"""
_PLAIN: Final = frozenset({bool, bytes, int, str, type(None)})
"""Types of values that have no parts. Most values are of these types."""


class Progress:
    """Counts the pages and items of one listing, or of one pull of changes, and raises an error when there are too
    many.
    """

    def __init__(self, what: str) -> None:
        """`what` names the listing in the text of an error."""
        self._what = what
        self._items = 0
        self._empty = 0

    def page(self, items: int) -> None:
        """Count a page with `items` items. Raise UnexpectedAnswer if there were too many pages or items."""
        self._items += items
        self._empty += not items
        if self._empty > MAX_EMPTY_PAGES or self._items > MAX_LISTED_ITEMS:
            raise self.stuck()

    def stuck(self) -> UnexpectedAnswer:
        """Return the UnexpectedAnswer to raise for a listing that does not end."""
        return UnexpectedAnswer(
            f"the service continues {self._what} without making progress; report this to whoever runs it"
        )


class HeldMemory:
    """Counts the memory of values that are in memory together."""

    def __init__(self, what: str, advice: str) -> None:
        """`what` names all the values in the text of an error, and `advice` says what to do if they are too large."""
        self._what = what
        self._advice = advice
        self._bytes = 0

    def add(self, value: object) -> None:
        """Count one more value. Raise ListingTooLarge if all values take more memory than MAX_HELD_BYTES."""
        self._bytes += memory_bytes(value)
        if self._bytes > MAX_HELD_BYTES:
            raise ListingTooLarge(
                f"{self._what} takes more than {MAX_HELD_BYTES // MIB:,} MiB of memory; {self._advice}"
            )


def memory_bytes(value: object) -> int:
    """Return the memory in bytes of a value that consists of dataclasses, tuples and plain values. A part that several
    values share counts for each of them.
    """
    size = sys.getsizeof(value)
    if type(value) in _PLAIN:
        return size
    if isinstance(value, tuple):
        return size + sum(map(memory_bytes, value))
    if dataclasses.is_dataclass(value):
        return size + sum(memory_bytes(getattr(value, field)) for field in value.__dataclass_fields__)
    return size


def gathered(items: Iterable[T], what: str, advice: str) -> list[T]:
    """Return all items of a listing. `what` names the items in the text of an error, and `advice` says what to do if
    they are too large. Raise ListingTooLarge if they take more memory than MAX_HELD_BYTES.
    """
    held = HeldMemory(what, advice)
    found = []
    for item in items:
        held.add(item)
        found.append(item)
    return found


def paged(page: Callable[[str], tuple[Iterable[T], str]]) -> Iterator[T]:
    """Yield the items of all pages. `page` is called with a page token, and returns the items of that page and the
    token of the next page.

    The token after the last page is empty. Raise UnexpectedAnswer for a listing that makes no progress.
    """
    progress = Progress("a listing")
    token = ""
    while True:
        before = token
        items, token = page(token)
        count = 0
        for item in items:
            count += 1
            yield item
        if not token:
            return
        progress.page(count)
        if token == before:
            raise progress.stuck()
