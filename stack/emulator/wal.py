"""Examination of SQLite's write-ahead log: intact, torn at its end, or damaged before the end.

SQLite reads a log as far as its checksums hold and silently ignores the rest. The last transaction may be torn if the
machine stopped while it was being written. A transaction that is followed by another transaction was on disk before the
latter began. If two or more transactions lie beyond the last valid checksum, the log was therefore damaged. The format
is described at sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Final

_BIG_ENDIAN: Final = 1
_MAGIC: Final = 0x377F0682
"""Magic number of logs whose checksums are of little-endian words; `_BIG_ENDIAN` is added for the others."""
_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_SUMMED: Final = 8
"""Number of bytes of a frame header that the checksum covers."""
_WORD: Final = 0xFFFFFFFF


def unreadable_transactions(log: Path) -> int:
    """Return the number of transactions, complete or not, that lie in `log` beyond the part that SQLite can read."""
    if not log.exists():
        return 0
    with log.open("rb") as file:
        return _unreadable(file, log.stat().st_size)


def _unreadable(file: IO[bytes], size: int) -> int:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return 0
    magic, _, page_bytes, _, salt1, salt2, *expected = _HEADER.unpack(header)
    order = ">" if magic & _BIG_ENDIAN else "<"
    if magic & ~_BIG_ENDIAN != _MAGIC or list(sums := _checksum(header[:-8], (0, 0), order)) != expected:
        # The header is never torn, because it is smaller than a sector. Without it no frame can be read.
        return (size - _HEADER.size) // _FRAME.size
    readable, unreadable = True, 0
    while len(header := file.read(_FRAME.size)) == _FRAME.size:
        page = file.read(page_bytes)
        _, pages_after, *salts, _, _ = _FRAME.unpack(header)
        if readable:
            sums = _checksum(page, _checksum(header[:_SUMMED], sums, order), order)
            readable = salts == [salt1, salt2] and list(sums) == list(_FRAME.unpack(header)[4:])
        # Frames with other salts are left from before the last restart of the log.
        if not readable and pages_after and salts == [salt1, salt2]:
            unreadable += 1
    return unreadable


def _checksum(data: bytes, before: tuple[int, int], order: str) -> tuple[int, int]:
    """Return SQLite's checksum of pairs of words, continued from `before`."""
    first, second = before
    words = struct.unpack(f"{order}{len(data) // 8 * 2}I", data[: len(data) // 8 * 8])
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _WORD
        second = (second + odd + first) & _WORD
    return first, second
