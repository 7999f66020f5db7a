"""What a write-ahead log of SQLite holds beyond the place up to which SQLite can read it.

SQLite takes a log as far as its checksums hold and says nothing of the rest. The last transaction may rightly be torn:
it was being written when the machine stopped. One that another follows was on disk before, as the other began only
after it was; so if two or more lie beyond that place, the log was damaged. The format is at
sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MAGIC: Final = (0x377F0682, 0x377F0683)
_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")


def transactions_beyond(log: Path, database: sqlite3.Connection) -> int:
    """How many transactions, whole or not, lie in `log` beyond what SQLite reads of it; then begin the log anew.

    `database` is the log's, opened and not used yet.
    """
    # Which frames are whole is told by a checkpoint: their number, from the first one on.
    busy, whole, _ = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    beyond = 0 if busy else sum(1 for frame in _ends(log) if frame > whole)
    if beyond <= 1:
        # New transactions would be written over the torn one and leave its end in place: that would look like damage.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return beyond


def _ends(log: Path) -> Iterator[int]:
    """The numbers of the frames that end a transaction, from 1 on."""
    with log.open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return
        magic, _, page_bytes, _, salt1, salt2, _, _ = _HEADER.unpack(head)
        if magic not in _MAGIC:
            # The header is never torn, as it is smaller than a sector. Without it no frame can be read.
            frames = (log.stat().st_size - _HEADER.size) // _FRAME.size
            yield from range(1, frames)
            return
        number = 0
        while len(frame := file.read(_FRAME.size)) == _FRAME.size:
            number += 1
            _, pages_after, *salts, _, _ = _FRAME.unpack(frame)
            # Frames with other salts are left from before the log was last begun anew.
            if salts == [salt1, salt2] and pages_after:
                yield number
            file.seek(page_bytes, 1)
