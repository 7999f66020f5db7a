"""Writing bytes so that long runs of zeros take no room on the disk.

Which zeros of the original were holes is not known here: contents are bytes. Every long run of zeros becomes a hole,
as with `cp --sparse=always`, so that a sparse file never takes more room than it did; a file that was written with
zeros on purpose takes less, and reads the same.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final, NamedTuple

from syncline.model.blocks import KIB, MAX_BLOCK_BYTES, BlockRef, Digest
from syncline.model.chunk import digest_of

_PAGE: Final = 4 * KIB
_ZERO_PAGE: Final = bytes(_PAGE)
LEAST_HOLE: Final = 32 * KIB
"""Zeros between data become a hole if there are at least so many bytes of them; fewer are not worth an extent. Those
at an edge of what is written always do, since they may go on beyond it."""

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # FALLOC_FL_*


class _Run(NamedTuple):
    start: int
    end: int
    zeros: bool


def write(descriptor: int, data: bytes | memoryview, at: int, *, blank: bool) -> None:
    """Write `data` at this offset, leaving holes. `blank`: the file reads as zeros there now. OSError.

    The file does not grow for zeros at the end of `data`: the caller gives it its size.
    """
    view = memoryview(data)
    for run in _runs(view, at):
        if run.zeros and (_punch(descriptor, at + run.start, run.end - run.start) or blank):
            continue
        _write(descriptor, view[run.start : run.end], at + run.start)


def is_zeros(ref: BlockRef) -> bool:
    """Return True if a block is one of those that a long run of zeros is cut into. Such a block need not be fetched."""
    return ref.length == MAX_BLOCK_BYTES and ref.digest == _zeros()[0]


def zeros() -> bytes:
    """The block that `is_zeros` means."""
    return _zeros()[1]


@cache
def _zeros() -> tuple[Digest, bytes]:
    data = bytes(MAX_BLOCK_BYTES)
    return digest_of(data), data


def _runs(view: memoryview, offset: int) -> Iterator[_Run]:
    """Data and long runs of zeros, one after the other, in whole pages of the file in which `view` is at `offset`."""
    size = len(view)
    if size < LEAST_HOLE:
        yield _Run(0, size, zeros=False)
        return
    begin = at = 0
    while at < size:
        start = at
        while at < size and _is_zero(view[at : (end := _page_end(at, offset, size))]):
            at = end
        if at - start >= LEAST_HOLE or (at > start and (start == 0 or at == size)):
            if start > begin:
                yield _Run(begin, start, zeros=False)
            yield _Run(start, at, zeros=True)
            begin = at
        if at < size:
            at = _page_end(at, offset, size)
    if begin < size:
        yield _Run(begin, size, zeros=False)


def _page_end(at: int, offset: int, size: int) -> int:
    return min(at + _PAGE - (offset + at) % _PAGE, size)


def _is_zero(page: memoryview) -> bool:
    # Two `bytes` are compared by memcmp, a view is compared item by item.
    return page.tobytes() == (_ZERO_PAGE if len(page) == _PAGE else _ZERO_PAGE[: len(page)])


def _write(descriptor: int, view: memoryview, at: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, at)
        view = view[written:]
        at += written


def _system_fallocate() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate64
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function


_fallocate = _system_fallocate()


def _punch(descriptor: int, at: int, length: int) -> bool:
    """Give back the room of a range, which reads as zeros then; False where the system or filesystem cannot."""
    return _fallocate is not None and _fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, at, length) == 0
