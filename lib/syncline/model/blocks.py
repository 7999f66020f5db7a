"""Blocks, packs and manifests: the cutting of contents, the places of their parts, and the invariants.

A block is a content-defined chunk named by its SHA-256. An object is the unit that S3 stores: one block of at least
`MIN_BLOCK_BYTES` bytes alone, or a pack of smaller blocks one after the other. Its key is the SHA-256 of its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NewType

Digest = NewType("Digest", bytes)
"""A SHA-256, as 32 bytes."""

DIGEST_BYTES = 32
NO_DIGEST = Digest(bytes(DIGEST_BYTES))

KIB = 1024
MIB = 1024 * KIB

MIN_BLOCK_BYTES = 512 * KIB
AVG_BLOCK_BYTES = 2 * MIB
MAX_BLOCK_BYTES = 8 * MIB
NORMALIZATION = 2
"""Normalisation parameter of FastCDC. A change of any parameter changes every block of every file."""

PACK_BYTES = 8 * MIB
"""Size in bytes at which a pack is closed; no pack is larger than PACK_BYTES + MIN_BLOCK_BYTES."""
MAX_PACK_ENTRIES = 4096
MAX_OBJECT_BYTES = 16 * MIB
"""Maximum size of a sealed object, in bytes."""

MAX_INLINE_BLOCKS = 1024
"""Maximum number of blocks of an inline manifest. A longer manifest is a separate object, so that a journal entry stays
small.
"""


class MalformedManifest(ValueError):
    """The columns of a manifest do not fit together."""


@dataclass(frozen=True, slots=True)
class BlockRef:
    """One block of a content: its digest, and the bytes [offset, offset + length) of the object that contains it."""

    digest: Digest
    length: int
    object: Digest
    offset: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The ordered blocks of a content, in columns.

    `blocks` packs n digests; `lengths` has n; either `objects` is empty and each block is an object of its
    own, or `objects` packs m digests and `object_index` and `offsets` have n.
    """

    blocks: bytes = b""
    lengths: tuple[int, ...] = ()
    objects: bytes = b""
    object_index: tuple[int, ...] = ()
    offsets: tuple[int, ...] = ()

    @classmethod
    def of(cls, refs: Sequence[BlockRef]) -> Manifest:
        """Return the manifest of `refs` in their order, in its shortest form."""
        blocks = b"".join(ref.digest for ref in refs)
        lengths = tuple(ref.length for ref in refs)
        if all(ref.object == ref.digest and ref.offset == 0 for ref in refs):
            return cls(blocks, lengths)
        index: dict[bytes, int] = {}
        object_index = tuple(index.setdefault(ref.object, len(index)) for ref in refs)
        return cls(blocks, lengths, b"".join(index), object_index, tuple(ref.offset for ref in refs))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def size(self) -> int:
        """Size of the content in bytes."""
        return sum(self.lengths)

    def check(self) -> None:
        """Raise MalformedManifest unless the columns fit together and no block is empty or too long."""
        n = len(self.lengths)
        if len(self.blocks) != n * DIGEST_BYTES:
            raise MalformedManifest("`blocks` must hold one digest for each length")
        if any(not 0 < length <= MAX_BLOCK_BYTES for length in self.lengths):
            raise MalformedManifest(f"a block has 1 to {MAX_BLOCK_BYTES} bytes")
        if not self.objects:
            if self.object_index or self.offsets:
                raise MalformedManifest("`object_index` and `offsets` go with `objects`")
            return
        if len(self.objects) % DIGEST_BYTES or len(self.object_index) != n or len(self.offsets) != n:
            raise MalformedManifest("`objects`, `object_index` and `offsets` do not fit together")
        if any(index >= len(self.objects) // DIGEST_BYTES for index in self.object_index):
            raise MalformedManifest("`object_index` points beyond `objects`")

    def refs(self) -> Iterator[BlockRef]:
        """Yield the blocks in order. The manifest must have passed `check`."""
        return map(self.ref, range(len(self.lengths)))

    def ref(self, i: int) -> BlockRef:
        """Return block `i`. The manifest must have passed `check`."""
        digest, length = Digest(self.blocks[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES]), self.lengths[i]
        if not self.objects:
            return BlockRef(digest, length, digest, 0)
        at = self.object_index[i] * DIGEST_BYTES
        return BlockRef(digest, length, Digest(self.objects[at : at + DIGEST_BYTES]), self.offsets[i])

    def object_digests(self) -> Iterator[Digest]:
        """Yield the objects that contain the blocks; a block's own object may occur more than once."""
        packed = self.objects or self.blocks
        for at in range(0, len(packed), DIGEST_BYTES):
            yield Digest(packed[at : at + DIGEST_BYTES])


EMPTY_MANIFEST = Manifest()


def object_key(space: str, digest: bytes) -> str:
    """Return the S3 key of an object of a space."""
    return f"{key_prefix(space)}{digest.hex()}"


def key_prefix(space: str) -> str:
    """Return the prefix that the S3 keys of all objects of a space share, with a slash at its end."""
    return f"spaces/{space}/objects/"
