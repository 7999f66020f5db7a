"""Cutting content into blocks: FastCDC with the parameters of `core.blocks`, in bounded memory.

Both ends cut: a device what it reads from files, the gateway what programs send it that know only WebDAV. Where the
bytes come from is the caller's matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

from pyfastcdc import FastCDC

from core.blocks import AVG_BLOCK, MAX_BLOCK, MIN_BLOCK, NORMALIZATION, Digest

if TYPE_CHECKING:
    from hashlib import _Hash

    from pyfastcdc import NormalizedChunking


ReadInto = Callable[[memoryview], int]
"""Fills a buffer, not empty, from its beginning, and says with how many bytes: none at the end only."""


class Block(NamedTuple):
    """A block's bytes, in an object of their own that never changes, and their SHA-256."""

    digest: Digest
    data: bytes


def digest_of(data: bytes | memoryview) -> Digest:
    """SHA-256."""
    return Digest(hashlib.sha256(data, usedforsecurity=False).digest())


class Chunker:
    """Cuts one content after the other. It is for one thread, since its buffer (`MAX_BLOCK` bytes) is used again."""

    def __init__(self) -> None:
        self._cdc = FastCDC(
            AVG_BLOCK,
            min_size=MIN_BLOCK,
            max_size=MAX_BLOCK,
            normalized_chunking=cast("NormalizedChunking", NORMALIZATION),
        )
        self._buffer: memoryview | None = None

    def cut(self, read_into: ReadInto) -> Cut:
        """The blocks of what `read_into` gives until its end. Whatever it raises comes through."""
        if self._buffer is None:
            self._buffer = memoryview(bytearray(MAX_BLOCK))
        return Cut(self._cdc, self._buffer, read_into)


class Cut:
    """Blocks in order. When the last one has been given out, `digest` and `size` are those of the whole."""

    def __init__(self, cdc: FastCDC, buffer: memoryview, read_into: ReadInto) -> None:
        self._cdc = cdc
        self._buffer = buffer
        self._read_into = read_into
        self._whole: _Hash | None = None
        self.size = 0

    @property
    def digest(self) -> Digest:
        return Digest((self._whole or hashlib.sha256(usedforsecurity=False)).digest())

    def __iter__(self) -> Iterator[Block]:
        for data in self._pieces():
            self.size += len(data)
            own = hashlib.sha256(data, usedforsecurity=False)
            if self._whole is None:
                # The whole begins with the first block: a file of one block is hashed once.
                self._whole = own.copy()
            else:
                self._whole.update(data)
            yield Block(Digest(own.digest()), data)

    def _pieces(self) -> Iterator[bytes]:
        buffer, filled, ended = self._buffer, 0, False
        while not ended or filled:
            while filled < len(buffer) and not ended:
                count = self._read_into(buffer[filled:])
                filled += count
                ended = not count
            at = 0
            for chunk in self._cdc.cut_buf(buffer[:filled]):
                # Where a cut lies depends only on the bytes before it. So each one is final, except the end of what
                # was read so far, unless that is the end of the file or as far as a block may reach.
                if chunk.offset + chunk.length == filled and not ended and chunk.length < MAX_BLOCK:
                    break
                at = chunk.offset + chunk.length
                yield bytes(chunk.data)
            filled -= at
            buffer[:filled] = bytes(buffer[at : at + filled])
