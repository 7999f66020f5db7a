"""Cutting content into blocks: FastCDC with the parameters of `syncline.model.blocks`, in bounded memory.

Both ends cut: a device what it reads from files, the gateway what programs send it that know only WebDAV. Where the
bytes come from is the caller's matter.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

from pyfastcdc import FastCDC

from syncline.model.blocks import AVG_BLOCK_BYTES, MAX_BLOCK_BYTES, MIN_BLOCK_BYTES, NORMALIZATION, Digest

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
    """Return the SHA-256 of `data`."""
    return Digest(hashlib.sha256(data, usedforsecurity=False).digest())


class Chunker:
    """Cuts one content after the other. It is for one thread, since its buffer of `MAX_BLOCK_BYTES` is used again."""

    def __init__(self) -> None:
        self._cdc = FastCDC(
            AVG_BLOCK_BYTES,
            min_size=MIN_BLOCK_BYTES,
            max_size=MAX_BLOCK_BYTES,
            normalized_chunking=cast("NormalizedChunking", NORMALIZATION),
        )
        self._buffer: memoryview | None = None

    def cut(self, read_into: ReadInto) -> Cut:
        """The blocks of what `read_into` gives until its end. Whatever it raises comes through."""
        return self.begin(read_into)

    def begin(self, read_into: ReadInto | None = None) -> Cut:
        """A content to cut: iterated over if there is `read_into`, else fed as `Cut` says."""
        if self._buffer is None:
            # Pages of a mapping take memory only once they are written to; most contents are below MAX_BLOCK_BYTES.
            self._buffer = memoryview(mmap.mmap(-1, MAX_BLOCK_BYTES))
        return Cut(self._cdc, self._buffer, read_into)


class Cut:
    """Blocks in order. When the last one has been given out, `digest` and `size` are those of the whole.

    Whoever cannot read when asked to feeds it: puts bytes into `room`, says so by `fill`, and takes all that is `ready`
    when there is no room or when the content has ended.
    """

    def __init__(self, cdc: FastCDC, buffer: memoryview, read_into: ReadInto | None) -> None:
        self._cdc = cdc
        self._buffer = buffer
        self._read_into = read_into
        self._whole: _Hash | None = None
        self._filled = 0
        self.ended = False
        self.size = 0

    @property
    def digest(self) -> Digest:
        return Digest((self._whole or hashlib.sha256(usedforsecurity=False)).digest())

    @property
    def room(self) -> memoryview:
        """The free part of the buffer, into which the caller reads the next bytes of the file."""
        return self._buffer[self._filled :]

    @property
    def held(self) -> memoryview:
        """The bytes that were read and are not yet part of a block that was given out."""
        return self._buffer[: self._filled]

    def fill(self, count: int) -> None:
        """Note that the caller has read `count` bytes into `room`. A count of 0 means the end of the file."""
        self._filled += count
        self.ended = not count

    def __iter__(self) -> Iterator[Block]:
        assert self._read_into is not None
        while not self.ended or self._filled:
            while self._filled < len(self._buffer) and not self.ended:
                self.fill(self._read_into(self.room))
            yield from self.ready()

    def ready(self) -> Iterator[Block]:
        """The blocks that are final, of what there is: all of them must be taken."""
        at, filled = 0, self._filled
        for chunk in self._cdc.cut_buf(self._buffer[:filled]):
            # The position of a cut depends only on the bytes before the cut. So every cut is final, except the end of
            # what was read so far, unless that is the end of the file or as far as a block may reach.
            if chunk.offset + chunk.length == filled and not self.ended and chunk.length < MAX_BLOCK_BYTES:
                break
            at = chunk.offset + chunk.length
            yield self._block(bytes(chunk.data))
        self._filled = filled - at
        self._buffer[: self._filled] = bytes(self._buffer[at:filled])

    def _block(self, data: bytes) -> Block:
        self.size += len(data)
        own = hashlib.sha256(data, usedforsecurity=False)
        if self._whole is None:
            # The whole begins with the first block: a file of one block is hashed once.
            self._whole = own.copy()
        else:
            self._whole.update(data)
        return Block(Digest(own.digest()), data)
