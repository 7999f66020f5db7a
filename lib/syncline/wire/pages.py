"""Pages of listings: bounded by number of entries and by bytes, with tokens for the next page."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from google.protobuf.message import Message

from syncline.model.errors import InvalidPageToken
from syncline.model.limits import MAX_PAGE_ITEMS

PAGE_BYTES: Final = 1_000_000
"""Maximum size of a page in bytes, unless a single entry is larger. A gRPC client accepts 4 MiB by default."""

_MAX_TOKEN_CHARACTERS: Final = 8192
"""Maximum length of a page token, more than the token of the longest path has."""

M = TypeVar("M", bound=Message)
T = TypeVar("T")


def page_size_from_wire(wanted: int, *, usual: int = MAX_PAGE_ITEMS) -> int:
    """Return the number of entries of a page. `wanted` is the number that a request asks for: 0 means `usual`, and more
    than MAX_PAGE_ITEMS means MAX_PAGE_ITEMS.
    """
    return min(wanted or usual, MAX_PAGE_ITEMS)


def that_fit(messages: Iterable[M]) -> list[M]:
    """Return the longest beginning of `messages` whose serialised size is at most PAGE_BYTES in all. A first message
    that is larger is returned alone.
    """
    taken: list[M] = []
    size = 0
    for message in messages:
        size += message.ByteSize()
        if taken and size > PAGE_BYTES:
            break
        taken.append(message)
    return taken


def page_of(
    items: Iterable[T],
    to_wire: Callable[[T], M],
    *,
    place: Callable[[T], str],
    size: int,
    token: str,
    listing: str,
) -> tuple[list[M], str]:
    """Return one page of `items` as messages, and the token of the next page; the token is empty for the last page.

    - `items` must be sorted by `place`, a function that returns the text by which an item is sorted. No two items may
      have the same text.
    - `to_wire` converts an item to a message.
    - `size` and `token` are those of the request.
    - `listing` names the listing. Raise InvalidPageToken if the token was not made for this listing.
    """
    after = text_token_from_wire(token, listing=listing)
    rest = [item for item in items if place(item) > after]
    page = that_fit(map(to_wire, rest[: page_size_from_wire(size)]))
    if len(page) == len(rest):
        return page, ""
    return page, page_token_to_wire(place(rest[len(page) - 1]).encode(), listing=listing)


def page_token_to_wire(last: bytes, *, listing: str) -> str:
    """Return an opaque page token that continues after `last`. `listing` names the listing; the token is invalid for
    any other.
    """
    body = base64.urlsafe_b64encode(struct.pack(">I", _checksum(last, listing)) + last)
    return body.decode().rstrip("=")


def page_token_from_wire(token: str, *, listing: str) -> bytes:
    """Return the position in a token of `page_token_to_wire`. Raise InvalidPageToken if the token was not made for this
    listing.
    """
    if len(token) > _MAX_TOKEN_CHARACTERS:  # checked before the token is decoded
        raise InvalidPageToken
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, UnicodeEncodeError):
        raise InvalidPageToken from None
    if len(raw) < 4 or struct.unpack(">I", raw[:4])[0] != _checksum(raw[4:], listing):
        raise InvalidPageToken
    return raw[4:]


def text_token_from_wire(token: str, *, listing: str) -> str:
    """Return the text after which the listing continues, as `token` states it; empty for the first page. Raise
    InvalidPageToken if the token was not made for this listing.
    """
    try:
        return page_token_from_wire(token, listing=listing).decode() if token else ""
    except UnicodeDecodeError:
        raise InvalidPageToken from None


def _checksum(last: bytes, listing: str) -> int:
    return binascii.crc32(last, binascii.crc32(listing.encode()))
