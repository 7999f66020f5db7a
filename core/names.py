"""Names of nodes and paths: the rules that every node's name keeps, whoever sends it.

A name is NFC Unicode, 1 to 255 bytes of UTF-8, without '/' and NUL, and neither "." nor "..". A path is
names joined by '/', at most 4,096 bytes; the empty path is the root.
"""

from __future__ import annotations

import unicodedata

from core.errors import InvalidArgument

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096

RESERVED_AT_ROOT = ".syncline"
"""The directory in a synced folder that is the client's own; never synced."""


def name_problem(name: str) -> str | None:
    """Why `name` cannot be the name of a node, in words for people; None if it can."""
    if not name:
        return "a name cannot be empty"
    if name in {".", ".."}:
        return f"{name!r} cannot be a name"
    if "/" in name or "\0" in name:
        return "a name cannot contain '/' or NUL"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "the name is not valid Unicode"
    if size > MAX_NAME_BYTES:
        return f"the name has {size} bytes; {MAX_NAME_BYTES} are allowed"
    if not unicodedata.is_normalized("NFC", name):
        return "the name is not in Unicode normal form C"
    return None


def normalize(name: str) -> str:
    """The name as it travels: Unicode normal form C."""
    return unicodedata.normalize("NFC", name)


def split_path(path: str) -> tuple[str, ...]:
    """The names of a path from the root, empty for the root itself. InvalidArgument if one breaks a rule."""
    path = path.strip("/")
    if not path:
        return ()
    names = tuple(path.split("/"))
    for name in names:
        if problem := name_problem(name):
            raise InvalidArgument(f"path {path!r}: {problem}")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise InvalidArgument(f"the path has more than {MAX_PATH_BYTES} bytes")
    return names
