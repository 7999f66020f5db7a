"""Pages of auth's listings, and the charge for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import Message

from runtime.rates import charge
from syncline.model.errors import InvalidPageToken
from syncline.wire.pages import page_of, page_size_from_wire, page_token_to_wire, text_token_from_wire, that_fit

ITEMS_PER_CALL: Final = 50
"""Number of items, read for a listing, that are charged to the caller like one call."""


_MAX_PLACE_BYTES: Final = 1024
"""Maximum size of a place in a listing, in bytes: DynamoDB's of a sort key."""


class _Placed(Protocol):
    @property
    def place(self) -> str: ...


P = TypeVar("P", bound=_Placed)
T = TypeVar("T")
M = TypeVar("M", bound=Message)


def page_of_all(
    request: Any, items: Sequence[P], to_wire: Callable[[P], M], *, listing: str, read: int | None = None
) -> tuple[list[M], str]:
    """Return the page of `items` that the request asks for, as messages, and the token of the next page. Raise
    InvalidPageToken if the token in the request is not one of this listing.

    The table has the items in another order, so that all of them were read for the page. `read` is the number of items
    that were read, if `items` lacks some of them. The caller is charged for what was read, however small the page is.
    """
    charge((len(items) if read is None else read) // ITEMS_PER_CALL)
    return page_of(
        items,
        to_wire,
        place=lambda item: item.place,
        size=request.page_size,
        token=request.page_token,
        listing=listing,
    )


def page_wanted(request: Any, *, listing: str, beginning: str = "") -> tuple[str, int]:
    """Return the place after which the page begins that a request asks for, empty for the first page, and the number of
    items to read for it: one more than the page has, so that its end is known. All places of the listing begin with the
    text `beginning`. Raise InvalidPageToken if the token in the request is not one of this listing.
    """
    after = text_token_from_wire(request.page_token, listing=listing)
    # A caller who knows how tokens are made can make one of any text, which the table would refuse as a key.
    if after and not (after.startswith(beginning) and len(after.encode()) <= _MAX_PLACE_BYTES):
        raise InvalidPageToken
    return after, page_size_from_wire(request.page_size) + 1


def page_of_read(
    request: Any, items: Sequence[tuple[str, T]], to_wire: Callable[[T], M], *, listing: str
) -> tuple[list[M], str]:
    """Return the page that the request asks for, as messages, and the token of the next page; the token is empty for
    the last page. `items` are what was read for the page (`page_wanted`), each with its place. The caller is charged
    for what was read.
    """
    charge(len(items) // ITEMS_PER_CALL)
    page = that_fit(to_wire(item) for _, item in items[: page_size_from_wire(request.page_size)])
    if len(page) == len(items):
        return page, ""
    return page, page_token_to_wire(items[len(page) - 1][0].encode(), listing=listing)
