"""Sparse writing: long runs of zeros take no space on the disk.

The holes of the original file are unknown here, because contents are bytes. Every long run of zeros becomes a hole, as
with `cp --sparse=always`. A sparse file therefore never takes more space than the original; a file with intentionally
written zeros takes less, and reads the same.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final, NamedTuple

from syncline.model.blocks import KIB, MAX_BLOCK_BYTES, BlockRef, Digest
from syncline.model.chunking import digest_of

_PAGE_BYTES: Final = 4 * KIB
_ZERO_PAGE: Final = bytes(_PAGE_BYTES)
MIN_HOLE_BYTES: Final = 32 * KIB
"""Minimum length in bytes of a run of zeros between data that becomes a hole; a shorter run is written, because a hole
costs an extent. Runs at an edge of the written range always become holes, because they may continue beyond it.
"""

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # FALLOC_FL_*


class _Run(NamedTuple):
    start: int
    end: int
    zeros: bool


def write(descriptor: int, data: bytes | memoryview, at: int, *, blank: bool) -> None:
    """Write `data` to the open file `descriptor` at the offset `at`, in bytes, and leave holes for runs of zeros.
    `blank` is True if the file reads as zeros there now. Raise OSError if writing fails.

    Zeros at the end of `data` do not extend the file: the caller must set its size.
    """
    view = memoryview(data)
    for run in _runs(view, at):
        if run.zeros and (_punch(descriptor, at + run.start, run.end - run.start) or blank):
            continue
        _write(descriptor, view[run.start : run.end], at + run.start)


def is_zeros(ref: BlockRef) -> bool:
    """Return True if `ref` is the block of zeros into which the chunker cuts a long run of zeros. Such a block need not
    be fetched.
    """
    return ref.length == MAX_BLOCK_BYTES and ref.digest == _zeros()[0]


def zeros() -> bytes:
    """Return the block of zeros for which `is_zeros` is True."""
    return _zeros()[1]


@cache
def _zeros() -> tuple[Digest, bytes]:
    data = bytes(MAX_BLOCK_BYTES)
    return digest_of(data), data


def _runs(view: memoryview, offset: int) -> Iterator[_Run]:
    """Yield data and long runs of zeros in turn, in whole pages of the file in which `view` is at `offset`."""
    size = len(view)
    if size < MIN_HOLE_BYTES:
        yield _Run(0, size, zeros=False)
        return
    begin = at = 0
    while at < size:
        start = at
        while at < size and _is_zero(view[at : (end := _page_end(at, offset, size))]):
            at = end
        if at - start >= MIN_HOLE_BYTES or (at > start and (start == 0 or at == size)):
            if start > begin:
                yield _Run(begin, start, zeros=False)
            yield _Run(start, at, zeros=True)
            begin = at
        if at < size:
            at = _page_end(at, offset, size)
    if begin < size:
        yield _Run(begin, size, zeros=False)


def _page_end(at: int, offset: int, size: int) -> int:
    return min(at + _PAGE_BYTES - (offset + at) % _PAGE_BYTES, size)


def _is_zero(page: memoryview) -> bool:
    # comparing two `bytes` uses memcmp; a view would be compared item by item
    return page.tobytes() == (_ZERO_PAGE if len(page) == _PAGE_BYTES else _ZERO_PAGE[: len(page)])


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
    """Punch a hole, which reads as zeros then, and return True. Return False if the system or the filesystem does not
    support holes.
    """
    return _fallocate is not None and _fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, at, length) == 0
