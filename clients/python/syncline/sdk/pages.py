"""Pagination of listings, with bounds on pages and items, so that a hostile service cannot keep a client reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from syncline.sdk.errors import UnexpectedAnswer

T = TypeVar("T")

MAX_EMPTY_PAGES: Final = 1000
"""Maximum number of empty pages of one listing, or of one pull of changes: a hostile service could send them for ever.
"""
MAX_LISTED_ITEMS: Final = 10_000_000
"""Maximum number of items of one listing, or of states of nodes in one pull of changes. A space may have a million
nodes, unless its operator has raised that limit.
"""


class Progress:
    """Counts the pages of one listing, or of one pull, and the items on them."""

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
