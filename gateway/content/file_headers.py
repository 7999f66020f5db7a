"""Response headers that describe a file to browsers, which must neither guess its type nor execute it."""

from __future__ import annotations

import time
from email.utils import formatdate
from mimetypes import MimeTypes
from typing import Final
from urllib.parse import quote

from syncline.model.tree import Content

_TYPES: Final = MimeTypes()
"""Table of media types by file name extension: only Python's built-in table, because with the machine's own tables an
answer would depend on the machine.
"""
_COMPRESSED: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_UNKNOWN: Final = "application/octet-stream"

_PDF: Final = "application/pdf"
_IN_A_VIEWER: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; object-src 'self'; frame-ancestors 'self'"
)
_SHOWN: Final = frozenset(
    {
        *(f"audio/{name}" for name in ("aac", "flac", "mp4", "mpeg", "ogg", "opus", "wav", "webm", "x-wav", "x-aac")),
        *(f"image/{name}" for name in ("avif", "bmp", "gif", "jpeg", "png", "webp", "vnd.microsoft.icon")),
        *(f"video/{name}" for name in ("mp4", "ogg", "quicktime", "webm")),
        # in a sandbox, an image of this type runs no script
        "image/svg+xml",
        _PDF,
        "text/plain",
    }
)
"""Types that browsers display without executing anything in the file."""

_FALLBACK: Final = frozenset(map(chr, range(0x20, 0x7F))) - frozenset('"\\%/')
_ATTR_CHARS: Final = "!#$&+-.^_`|~"
_LAST_SECOND: Final = 253_402_300_799
"""The last second of the year 9999; later dates have no form in HTTP."""


def etag_of(content: Content) -> str:
    """Return a strong entity tag: the content's digest."""
    return f'"{content.digest.hex()}"'


def description(name: str, content: Content, *, inline: bool = False) -> dict[str, str]:
    """Return the headers that describe a file's content, and are the same in a whole answer, a partial one and a 304;
    the length and the range are not among them. `name` is the name of the file.

    Browsers are told to save the file. With `inline` they may display it, if its type is one that cannot run scripts.
    """
    kind = content_type(name)
    shown = inline and kind in _SHOWN
    headers = {
        "accept-ranges": "bytes",
        # the answer depends on the caller, and may change with every commit
        "cache-control": "private, no-cache",
        "vary": "authorization, cookie",
        "etag": etag_of(content),
        "content-type": kind if not shown or not kind.startswith("text/") else "text/plain; charset=utf-8",
        "content-disposition": disposition(name, inline=shown),
        # Nothing in the file is executed within our origin, whatever its type is. The browser's own PDF viewer displays
        # nothing in a sandbox, and executes nothing outside of its own.
        "content-security-policy": _IN_A_VIEWER if shown and kind == _PDF else "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
    }
    modified = content.mtime_ns // 1_000_000_000
    if 0 < modified <= _LAST_SECOND:
        headers["last-modified"] = formatdate(min(modified, time.time()), usegmt=True)
    return headers


def attachment(name: str, kind: str) -> dict[str, str]:
    """Return the headers of a generated file of the media type `kind`, which the client saves under `name`."""
    return {
        "cache-control": "no-store",
        "content-type": kind,
        "content-disposition": disposition(name),
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
    }


def content_type(name: str) -> str:
    """Return the media type that a file's name suggests."""
    kind, compression = _TYPES.guess_type(f"file:{quote(name)}")
    if compression is not None:  # the file is the compressed one, not its content
        return _COMPRESSED.get(compression, _UNKNOWN)
    return kind or _UNKNOWN


def disposition(name: str, *, inline: bool = False) -> str:
    """Return the value of the header Content-Disposition (RFC 6266), by which a client saves the file under `name`, or,
    if `inline`, displays it. The name is given in ASCII for old clients and in UTF-8 for all others.
    """
    how = "inline" if inline else "attachment"
    ascii_name = "".join(character if character in _FALLBACK else "_" for character in name)
    return f"{how}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"
