"""Aliases: the names by which a user addresses spaces, in WebDAV and on the command line.

A space has one name, which others choose; an alias is one user's own for it. It is given together with the grant and
kept with it, and it stays taken when the grant has gone: no alias of a user ever means another space than it did.
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
"""The name and the alias of everyone's personal space, which no shared space may take."""

_MAX_BYTES: Final = 180
"""Maximum number of bytes that an alias takes of the space's name: a name in a path has 255 bytes, and an id may
follow.
"""
_SHOWN: Final = 6
_UNUSUAL: Final = str.maketrans({"/": "\N{DIVISION SLASH}", ":": "_", "\\": "_"})
"""Characters that end a space's name in an address, in `SPACE:PATH`, and on Windows, with their replacements."""


def fold_alias(alias: str) -> str:
    """Return the form in which aliases are compared: two that fold alike look alike, or are one name to some file
    system.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", alias).casefold())


def candidates(name: str, space: SpaceId) -> Iterator[str]:
    """Aliases that a space of this name may get, best first, without end: at first its name, then with its id."""
    base = _addressable(name) or f"space {space[:_SHOWN]}"
    yield base
    yield f"{base} ({space[:_SHOWN]})"
    yield f"{base} ({space})"
    while True:
        yield f"{base} ({new_text_id()[:_SHOWN]})"


async def with_alias(name: str, space: SpaceId, give: Callable[[str], Awaitable[T]]) -> T:
    """Return the result of `give` for the first candidate for which it does not raise AliasTaken."""
    for alias in candidates(name, space):
        try:
            return await give(alias)
        except AliasTaken:
            continue
    raise AssertionError("there is always another candidate")


def _addressable(name: str) -> str:
    """The name as it can stand in an address; empty if nothing of it can, or if it would pass for something else."""
    shown = "".join(character if character.isprintable() else "_" for character in name)
    shown = unicodedata.normalize("NFC", shown.translate(_UNUSUAL))
    shown = shown.encode()[:_MAX_BYTES].decode("utf-8", "ignore").strip(" .")
    return "" if fold_alias(shown) == PERSONAL or _is_id(fold_alias(shown)) else shown


def _is_id(text: str) -> bool:
    try:
        parse_text_id(text, what="space_id")
    except InvalidArgument:
        return False
    return True
