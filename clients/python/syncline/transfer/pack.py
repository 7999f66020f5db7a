"""Packs: many small blocks in one object."""

from __future__ import annotations

from dataclasses import dataclass

from syncline.model.blocks import MAX_PACK_ENTRIES, PACK_BYTES, Digest
from syncline.model.chunking import Block, digest_of
from syncline.sdk.space import Declaration, Form, PackEntries


@dataclass(frozen=True, slots=True)
class ClosedPack:
    """A pack to which no block is added any more: its bytes, and the declaration by which it is sealed."""

    data: bytes
    declaration: Declaration

    @property
    def digest(self) -> Digest:
        return self.declaration.digest


class PackBuilder:
    """Collects small blocks, each of them once."""

    def __init__(self) -> None:
        self._offsets: dict[Digest, int] = {}
        self._parts: list[bytes] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def full(self) -> bool:
        return self.size >= PACK_BYTES or len(self._parts) >= MAX_PACK_ENTRIES

    def add(self, block: Block) -> int:
        """Add a block, unless the pack has one with its digest already. Return the offset of the block in the pack, in
        bytes. The pack must not be full.
        """
        offset = self._offsets.get(block.digest)
        if offset is None:
            offset = self._offsets[block.digest] = self.size
            self._parts.append(block.data)
            self.size += len(block.data)
        return offset

    def close(self) -> ClosedPack:
        """Return the pack of the added blocks, of which there is at least one. The builder must not be used
        afterwards.
        """
        data = b"".join(self._parts)
        lengths = tuple(map(len, self._parts))
        self._parts.clear()
        if len(lengths) == 1:
            # A single block is declared as such: it is proven by its checksum alone, whereas a pack has to be read.
            return ClosedPack(data, Declaration(next(iter(self._offsets)), len(data), Form.BLOCK))
        entries = PackEntries(b"".join(self._offsets), tuple(self._offsets.values()), lengths)
        return ClosedPack(data, Declaration(digest_of(data), len(data), entries))
