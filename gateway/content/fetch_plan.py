"""Planning of the reads of S3 objects for a part of a file. This module does no I/O.

Adjacent blocks of one object are fetched together. A partially requested block is fetched partially.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from syncline.model.blocks import KIB, MIB, BlockRef, Digest, Manifest

MAX_FETCH_BYTES: Final = 4 * MIB
"""Maximum number of bytes of one fetch; only a single block can be larger."""
MAX_GAP_BYTES: Final = 64 * KIB
"""Maximum size in bytes of a gap between two blocks that one request fetches together with the blocks, which is faster
than a second request.
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a fetch that belongs to one block: `length` bytes from the byte `at` of the fetched bytes on.
    `digest` is given if the part is the whole block, which can then be verified; otherwise it is None.
    """

    at: int
    length: int
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class ObjectRange:
    """One fetch: `length` bytes of an object from the byte `offset` on, and the pieces that these bytes consist of."""

    object: Digest
    offset: int
    length: int
    pieces: tuple[Piece, ...]


def plan_reads(manifest: Manifest, start: int, stop: int) -> Iterator[ObjectRange]:
    """Yield the fetches that make up the bytes of the content from `start` up to, and without, `stop`, in order. The
    manifest must have passed `check`.
    """
    gathered: list[BlockRef] = []  # consecutive requested parts of blocks
    whole: list[bool] = []
    for ref, is_whole in _wanted(manifest, start, stop):
        if gathered and not _joins(gathered, ref):
            yield _fetch(gathered, whole)
            gathered, whole = [], []
        gathered.append(ref)
        whole.append(is_whole)
    if gathered:
        yield _fetch(gathered, whole)


def gather(refs: Iterable[BlockRef]) -> list[ObjectRange]:
    """Return ranges of objects that together contain all blocks of `refs`, each block whole. The blocks may come in any
    order, and several times; ranges and their pieces are sorted by object and offset.

    Blocks of one object share a range if the gap between them has at most MAX_GAP_BYTES and the range at most
    MAX_FETCH_BYTES. Such a gap is a piece of the range whose digest is None.
    """
    fetches: list[ObjectRange] = []
    gathered: list[BlockRef] = []
    for ref in sorted(set(refs), key=lambda ref: (ref.object, ref.offset, ref.length)):
        if gathered and not (
            ref.object == gathered[0].object
            and 0 <= ref.offset - _end(gathered[-1]) <= MAX_GAP_BYTES
            and _end(ref) - gathered[0].offset <= MAX_FETCH_BYTES
        ):
            fetches.append(_with_gaps(gathered))
            gathered = []
        gathered.append(ref)
    if gathered:
        fetches.append(_with_gaps(gathered))
    return fetches


def _with_gaps(gathered: list[BlockRef]) -> ObjectRange:
    first = gathered[0]
    pieces: list[Piece] = []
    end = first.offset
    for ref in gathered:
        if ref.offset > end:
            pieces.append(Piece(end - first.offset, ref.offset - end, None))
        pieces.append(Piece(ref.offset - first.offset, ref.length, ref.digest))
        end = _end(ref)
    return ObjectRange(first.object, first.offset, end - first.offset, tuple(pieces))


def _end(ref: BlockRef) -> int:
    return ref.offset + ref.length


def _wanted(manifest: Manifest, start: int, stop: int) -> Iterator[tuple[BlockRef, bool]]:
    """Yield the parts of blocks between the bytes `start` and `stop` of the content, each with True if it is the whole
    block.
    """
    if start == stop:
        return
    begin = 0
    for index, length in enumerate(manifest.lengths):
        end = begin + length
        if begin >= stop:
            return
        if end > start:
            ref = manifest.ref(index)
            head, tail = max(start - begin, 0), max(end - stop, 0)
            yield BlockRef(ref.digest, ref.length - head - tail, ref.object, ref.offset + head), not head and not tail
        begin = end


def _joins(gathered: list[BlockRef], ref: BlockRef) -> bool:
    first, last = gathered[0], gathered[-1]
    return (
        ref.object == last.object
        and ref.offset == last.offset + last.length
        and ref.offset + ref.length - first.offset <= MAX_FETCH_BYTES
    )


def _fetch(gathered: list[BlockRef], whole: list[bool]) -> ObjectRange:
    first, last = gathered[0], gathered[-1]
    pieces = tuple(
        Piece(ref.offset - first.offset, ref.length, ref.digest if is_whole else None)
        for ref, is_whole in zip(gathered, whole, strict=True)
    )
    return ObjectRange(first.object, first.offset, last.offset + last.length - first.offset, pieces)
