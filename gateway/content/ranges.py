"""Conditions and ranges of RFC 9110: the part of a file that a request asks for. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

_RANGE: Final = re.compile(r"bytes=[ \t]*(?:([0-9]{1,50})-([0-9]{1,50})?|-([0-9]{1,50}))[ \t]*", re.IGNORECASE)
_ETAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes of a file from `start` up to, and without, `stop`; at least one byte."""

    start: int
    stop: int


class RangeOutcome(Enum):
    """The outcome of a request to which no part of the file is the answer."""

    WHOLE = auto()
    CHANGED = auto()
    """The file has changed, so that the client's precondition fails."""
    NOT_MODIFIED = auto()
    """The client already has the current content."""
    UNSATISFIABLE = auto()
    """The range begins after the end."""


def wanted(headers: Mapping[str, str], *, method: str, etag: str, size: int) -> Part | RangeOutcome:
    """Return the part of the file to send for a request with these headers, or the outcome if none is to be sent.
    `method` is GET or HEAD, `etag` the present entity tag of the file, and `size` its size in bytes. The part is the
    whole file if the request asks for no range.
    """
    match = headers.get("if-match")
    if match is not None and not _matches(match, etag, weakly=False):
        return RangeOutcome.CHANGED
    none_match = headers.get("if-none-match")
    if none_match is not None and _matches(none_match, etag, weakly=True):
        return RangeOutcome.NOT_MODIFIED
    requested = headers.get("range")
    if requested is None or method != "GET":  # a range has a meaning only with GET
        return RangeOutcome.WHOLE
    # The author of a file sets its modification time, so a date is no strong validator: only the entity tag counts.
    if headers.get("if-range", etag) != etag:
        return RangeOutcome.WHOLE
    return _part(requested, size)


def _part(requested: str, size: int) -> Part | RangeOutcome:
    """Return the part of a file of `size` bytes that `requested`, the value of the header Range, asks for. Return
    UNSATISFIABLE if the range begins after the end of the file. Several ranges, other units and malformed ranges are
    ignored, which the RFC permits: the result is WHOLE.
    """
    found = _RANGE.fullmatch(requested)
    if found is None:
        return RangeOutcome.WHOLE
    first, last, suffix = found.groups()
    if suffix is not None:
        if int(suffix) == 0:
            return RangeOutcome.UNSATISFIABLE
        # A suffix of an empty file is the whole file, which no Content-Range can express.
        return Part(max(size - int(suffix), 0), size) if size else RangeOutcome.WHOLE
    start = int(first)
    if last is not None and int(last) < start:
        return RangeOutcome.WHOLE
    if start >= size:
        return RangeOutcome.UNSATISFIABLE
    return Part(start, size if last is None else min(int(last) + 1, size))


def _matches(tags: str, etag: str, *, weakly: bool) -> bool:
    return tags.strip() == "*" or any(tag == etag and (weakly or not weak) for weak, tag in _ETAG.findall(tags))
