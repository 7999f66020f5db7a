"""Names of nodes and paths: the rules that apply to every name, whoever sends it.

A name is NFC Unicode, 1 to 255 bytes of UTF-8, without '/' and NUL, and neither "." nor "..". A path is at most 128
names joined by '/', at most 4,096 bytes; the empty path is the root.
"""

from __future__ import annotations

import re
import unicodedata

from syncline.model.errors import InvalidArgument

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096
MAX_PATH_NAMES = 128
"""Maximum number of names in a path. Operations on a node take as many steps as there are directories above it."""

_PLAIN = re.compile(r"(?!\.{1,2}(?:/|\Z))[^/\0]{1,255}(?:/(?!\.{1,2}(?:/|\Z))[^/\0]{1,255})*")
"""Pattern of an ASCII path that keeps all rules except the maximum length: one match checks all names of most paths."""

_MAX_SUFFIX_BYTES = 32
"""Maximum size of a file name extension in bytes; a longer suffix is part of the name."""

RESERVED_AT_ROOT = ".syncline"
"""The client's private directory in a synced folder; never synced."""
SCRATCH_PREFIX = ".syncline-tmp-"
"""Prefix of the names of temporary directories of commands; never synced."""


_UNARCHIVABLE = re.compile(
    r"""[\x01-\x1f"*:<>?\\|]"""  # characters that Windows refuses, or takes for a separator or a stream of a file
    r"""|[ .]\Z"""  # Windows drops them at the end of a name
    r"""|(?<![^.]{7})~(?=[0-9]{1,6}(?:\.[^.]{0,3})?\Z)"""  # the form of short names, such as PROGRA~1
    r"""|\A(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$|clock\$)(?=[ ]*(?:[.:]|\Z))""",  # devices
    re.IGNORECASE | re.ASCII,
)
"""Pattern of the parts of a name that an archive cannot have, because an archive is extracted on every system."""
_PERCENT_ENCODED = re.compile("%[0-9A-F]{2}")
ARCHIVED_NUMBER_BYTES = 10
"""Maximum size in bytes of the number that distinguishes names which become the same in an archive."""

_TOO_LONG = f"the path has more than {MAX_PATH_BYTES} bytes"
_TOO_DEEP = f"the path has more than {MAX_PATH_NAMES} names"
_MAX_DECOMPOSED_CHARACTERS = 4
"""Maximum number of characters that normalisation composes into one character."""
_MAX_SHOWN_CHARACTERS = 200
"""Maximum number of characters of a path that an error repeats."""


def name_problem(name: str) -> str | None:
    """Return the reason that `name` cannot be the name of a node, in words for people; None if it can."""
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
    """Return `name` in Unicode normal form C (NFC), the form in which names are sent and stored."""
    return unicodedata.normalize("NFC", name)


def folded(text: str) -> str:
    """Return the form in which names and words are compared without regard to case: case-folded, in NFC."""
    return normalize(normalize(text).casefold())


def path_problem(path: str) -> str | None:
    """Return the reason that `path`, names joined by '/', breaks a rule for paths, in words for people; None if it
    breaks none. The empty path is the root.
    """
    if len(path) > MAX_PATH_BYTES:  # checked first; no character has less than a byte
        return _TOO_LONG
    if path.count("/") >= MAX_PATH_NAMES:
        return _TOO_DEEP
    if not path or (path.isascii() and _PLAIN.fullmatch(path)):
        return None
    try:
        if len(path.encode()) > MAX_PATH_BYTES:
            return _TOO_LONG
    except UnicodeEncodeError:
        return "the path is not valid Unicode"
    if path.startswith("/") or path.endswith("/") or "//" in path:
        return "a path has no '/' at its beginning or end, and none after another"
    return next(filter(None, map(name_problem, path.split("/"))), None)


def parse_path(path: str, *, what: str = "path") -> tuple[str, ...]:
    """Return the names of a path from the root; an empty sequence for the root. Raise InvalidArgument, whose text names
    the path as `what`, if the path breaks a rule.
    """
    if problem := path_problem(path):
        raise InvalidArgument(f"{what} {path[:_MAX_SHOWN_CHARACTERS]!r}: {problem}", field=what)
    return tuple(path.split("/")) if path else ()


def with_mark(name: str, mark: str) -> str:
    """Return the name of a copy of `name`: with a space and the text `mark` before the extension (`a (copy).txt` for
    the mark `(copy)`), and shortened so that it is a valid name. The caller must check that no other node has this
    name.
    """
    stem, suffix = _parted(name)
    tail = f" {mark}{suffix}"
    return normalize(shortened(stem, MAX_NAME_BYTES - len(tail.encode())) + tail)


def clipped(name: str, size: int) -> str:
    """Return a name of at most `size` bytes: `name`, shortened before its extension, and without dots and spaces at its
    end. `size` must be greater than the maximum size of an extension.
    """
    stem, suffix = _parted(name)
    return normalize((shortened(stem, size - len(suffix.encode())) + suffix).rstrip(" ."))


def _parted(name: str) -> tuple[str, str]:
    """Return the two parts of a name: the name without its extension, and the extension with its dot. The second part
    is empty for a name without an extension.
    """
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) > _MAX_SUFFIX_BYTES:
        return name, ""
    return stem, dot + suffix


def shortened(text: str, size: int) -> str:
    """Return the longest prefix of `text` that has at most `size` bytes of UTF-8 and ends between two characters."""
    return text.encode()[:size].decode(errors="ignore")


def archived_name(name: str) -> str:
    """Return the form of a name in archives, in which every system can hold it: what Windows cannot hold is
    percent-encoded, such as `a%3Ab` for `a:b`, `NU%4C.txt` for `NUL.txt`, `a%2E` for `a.` and `PROGRA%7E1` for
    `PROGRA~1`, which Windows may take for the short name of another file.

    Decoding gives the name again. The form may have more than MAX_NAME_BYTES, and may be the name of another node.
    """
    return _UNARCHIVABLE.sub(_with_last_encoded, name)


def _with_last_encoded(found: re.Match[str]) -> str:
    text = found[0]
    return text[:-1] + "".join(f"%{byte:02X}" for byte in text[-1].encode())


def most_archived_bytes(name: str) -> int:
    """Return the maximum size in bytes of the form of a name in an archive, including the number that is added if
    another node has the same form. The result does not hold if another name in the directory differs from this one in
    case only.
    """
    form = archived_name(name)
    size = len(form.encode())
    if form == name and not _PERCENT_ENCODED.search(name):
        return size
    return min(size + ARCHIVED_NUMBER_BYTES, MAX_NAME_BYTES)


def split_path(path: str) -> tuple[str, ...]:
    """Return the names of a path that a person typed or that an address contains. Slashes at the beginning and the end
    are ignored. Raise InvalidArgument if the path breaks a rule.
    """
    return parse_path(path.strip("/"))


def normalized_path(path: str) -> tuple[str, ...]:
    """Return the names of a path after Unicode normalisation to NFC, because some systems send names decomposed.
    Slashes at the beginning and the end are ignored. Raise InvalidArgument if the path breaks a rule.

    Normalisation takes quadratic time on a run of combining marks, so the length of each name is checked first.
    """
    names = path.strip("/").split("/")
    most = _MAX_DECOMPOSED_CHARACTERS
    if len(path) > most * MAX_PATH_BYTES or any(len(name) > most * MAX_NAME_BYTES for name in names):
        shown = path[:_MAX_SHOWN_CHARACTERS]
        raise InvalidArgument(f"path {shown!r}: {_TOO_LONG} or a name more than {MAX_NAME_BYTES}", field="path")
    return parse_path("/".join(map(normalize, names)))
