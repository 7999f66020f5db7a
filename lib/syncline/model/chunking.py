"""Cutting of content into blocks: FastCDC with the parameters of `syncline.model.blocks`, in bounded memory.

Both ends cut: a device cuts files, and the gateway cuts uploads of WebDAV clients. The caller supplies the bytes.
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
"""Function that takes a buffer, which is not empty, reads the next bytes into its beginning, and returns the number of
bytes; it returns 0 only at the end of the content.
"""


class Block(NamedTuple):
    """A block's bytes, as an immutable object of their own, and their SHA-256."""

    digest: Digest
    data: bytes


def digest_of(data: bytes | memoryview) -> Digest:
    """Return the SHA-256 of `data`."""
    return Digest(hashlib.sha256(data, usedforsecurity=False).digest())


class Chunker:
    """Cuts contents, one after the other. Not thread-safe, because its buffer of `MAX_BLOCK_BYTES` is reused."""

    def __init__(self) -> None:
        self._cdc = FastCDC(
            AVG_BLOCK_BYTES,
            min_size=MIN_BLOCK_BYTES,
            max_size=MAX_BLOCK_BYTES,
            normalized_chunking=cast("NormalizedChunking", NORMALIZATION),
        )
        self._buffer: memoryview | None = None

    def cut(self, read_into: ReadInto) -> Cut:
        """Return an iterator over the blocks of the bytes that `read_into` reads, up to their end. The iterator raises
        the errors of `read_into`.
        """
        return self.begin(read_into)

    def begin(self, read_into: ReadInto | None = None) -> Cut:
        """Start to cut a content, and return the Cut. With `read_into`, the caller iterates over the Cut; without it,
        the caller feeds the Cut as that class describes.
        """
        if self._buffer is None:
            # Pages of a mapping take memory only once they are written to; most contents are below MAX_BLOCK_BYTES.
            self._buffer = memoryview(mmap.mmap(-1, MAX_BLOCK_BYTES))
        return Cut(self._cdc, self._buffer, read_into)


class Cut:
    """Iterator over the blocks of a content, in order. After the last block, `digest` and `size` are those of the whole
    content.

    A caller without a `read_into` feeds the iterator: it writes bytes into `room`, reports their number to `fill`, and
    takes all `ready` blocks when there is no room or when the content has ended.
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
        """The free part of the buffer, into which the caller reads the next bytes of the content; empty when the caller
        has to take `ready` blocks first.
        """
        return self._buffer[self._filled :]

    @property
    def held(self) -> memoryview:
        """The bytes that were read into the buffer and belong to no returned block yet."""
        return self._buffer[: self._filled]

    def fill(self, count: int) -> None:
        """Record that the caller has read `count` bytes into `room`. A count of 0 means the end of the content."""
        self._filled += count
        self.ended = not count

    def __iter__(self) -> Iterator[Block]:
        assert self._read_into is not None
        while not self.ended or self._filled:
            while self._filled < len(self._buffer) and not self.ended:
                self.fill(self._read_into(self.room))
            yield from self.ready()

    def ready(self) -> Iterator[Block]:
        """Yield the blocks whose end is determined; the caller must take all of them."""
        at, filled = 0, self._filled
        for chunk in self._cdc.cut_buf(self._buffer[:filled]):
            # The position of a cut depends only on the bytes before it. Every cut is therefore final, except the one at
            # the end of the bytes so far, unless that is the end of the file or the block has its maximum size.
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
            # The hash of the whole starts as a copy of the first block's, so that a file of one block is hashed once.
            self._whole = own.copy()
        else:
            self._whole.update(data)
        return Block(Digest(own.digest()), data)
