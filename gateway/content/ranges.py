"""The part of a file that a request wants: conditions and ranges of RFC 9110, without I/O."""

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
    """The bytes [start, stop) of a file, at least one."""

    start: int
    stop: int


class RangeOutcome(Enum):
    """The outcome of a request that does not want a part of the file."""

    WHOLE = auto()
    CHANGED = auto()
    """The file is not the one that the client means."""
    NOT_MODIFIED = auto()
    """The client has it already."""
    UNSATISFIABLE = auto()
    """The range begins after the end."""


def wanted(headers: Mapping[str, str], *, method: str, etag: str, size: int) -> Part | RangeOutcome:
    """Return the part or the outcome for a GET or HEAD with these headers, for a file of `size` bytes."""
    match = headers.get("if-match")
    if match is not None and not _matches(match, etag, weakly=False):
        return RangeOutcome.CHANGED
    none_match = headers.get("if-none-match")
    if none_match is not None and _matches(none_match, etag, weakly=True):
        return RangeOutcome.NOT_MODIFIED
    requested = headers.get("range")
    if requested is None or method != "GET":  # a range means nothing with any other method
        return RangeOutcome.WHOLE
    # A date is no strong validator of a file whose time of change its author sets: only the tag counts.
    if headers.get("if-range", etag) != etag:
        return RangeOutcome.WHOLE
    return _part(requested, size)


def _part(requested: str, size: int) -> Part | RangeOutcome:
    """A single range. Several ranges, other units and what is malformed are ignored, as the RFC permits."""
    found = _RANGE.fullmatch(requested)
    if found is None:
        return RangeOutcome.WHOLE
    first, last, suffix = found.groups()
    if suffix is not None:
        if int(suffix) == 0:
            return RangeOutcome.UNSATISFIABLE
        # The last bytes of an empty file are the whole, which no Content-Range can express.
        return Part(max(size - int(suffix), 0), size) if size else RangeOutcome.WHOLE
    start = int(first)
    if last is not None and int(last) < start:
        return RangeOutcome.WHOLE
    if start >= size:
        return RangeOutcome.UNSATISFIABLE
    return Part(start, size if last is None else min(int(last) + 1, size))


def _matches(tags: str, etag: str, *, weakly: bool) -> bool:
    return tags.strip() == "*" or any(tag == etag and (weakly or not weak) for weak, tag in _ETAG.findall(tags))
