"""Aliases: the names by which a user addresses spaces, in WebDAV and on the command line.

A space has one name, which other members can change; an alias is one user's own name for it. It is assigned together
with the grant and stays taken after the grant has ended: an alias of a user never refers to a different space later.
Two aliases of one user differ by more than case and Unicode form.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

from services.auth.ports import AliasTaken
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import SpaceId, new_text_id, parse_text_id

T = TypeVar("T")

PERSONAL: Final = "personal"
"""The name and the alias of every personal space, which no shared space may take."""

_MAX_ALIAS_BYTES: Final = 180
"""Maximum size in bytes of the space's name within an alias: a path component has at most 255 bytes, and an id may
follow.
"""
_SHOWN_CHARACTERS: Final = 6
_UNUSUAL: Final = str.maketrans({"/": "\N{DIVISION SLASH}", ":": "_", "\\": "_"})
"""Characters with a special meaning in an address, in `SPACE:PATH`, and on Windows, with their replacements."""


def fold_alias(alias: str) -> str:
    """Return the form in which aliases are compared: aliases with the same folded form look alike, or are the same name
    for some file systems.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", alias).casefold())


def candidates(name: str, space: SpaceId) -> Iterator[str]:
    """Yield candidates for the alias of a space of this name, without end and best first: the name, the name with a
    part of the space's id, the name with the whole id, and then the name with random characters.
    """
    base = _addressable(name) or f"space {space[:_SHOWN_CHARACTERS]}"
    yield base
    yield f"{base} ({space[:_SHOWN_CHARACTERS]})"
    yield f"{base} ({space})"
    while True:
        yield f"{base} ({new_text_id()[:_SHOWN_CHARACTERS]})"


async def with_alias(name: str, space: SpaceId, give: Callable[[str], Awaitable[T]]) -> T:
    """Call `give` with one candidate for the alias of a space after the other, until it does not raise AliasTaken, and
    return its result. `name` and `space` are the name and the id of the space.
    """
    for alias in candidates(name, space):
        try:
            return await give(alias)
        except AliasTaken:
            continue
    raise AssertionError("there is always another candidate")


def _addressable(name: str) -> str:
    """Return the space's name without the characters that an address may not contain; empty if nothing remains, or if
    the result has a special meaning.
    """
    shown = "".join(character if character.isprintable() else "_" for character in name)
    shown = unicodedata.normalize("NFC", shown.translate(_UNUSUAL))
    shown = shown.encode()[:_MAX_ALIAS_BYTES].decode("utf-8", "ignore").strip(" .")
    return "" if fold_alias(shown) == PERSONAL or _is_id(fold_alias(shown)) else shown


def _is_id(text: str) -> bool:
    try:
        parse_text_id(text, what="space_id")
    except InvalidArgument:
        return False
    return True
