"""Blocks, packs and manifests: the sizes that the cutting of contents keeps to, and where the bytes of each block are.

A block is a part of a file's bytes, cut where the content itself says so (FastCDC), and named by its SHA-256. An object
is the unit that S3 stores: one block of at least `MIN_BLOCK_BYTES` bytes alone, or a pack of smaller blocks, one after
the other. An object's name is the SHA-256 of its bytes.
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

MIN_MEAN_BLOCK_BYTES = MIN_BLOCK_BYTES // 8
"""Minimum mean size, in bytes, of the blocks of a manifest; the last block is not counted. Each block may take a
request to S3, so that a content of finer blocks takes readers far longer than its size suggests. FastCDC cuts no block
but the last below MIN_BLOCK_BYTES; an eighth of that size leaves room for clients that cut contents differently.
"""
MAX_FINE_BLOCKS = 16
"""Number of blocks up to which the blocks of a manifest may have any size. For more blocks, MIN_MEAN_BLOCK_BYTES
applies.
"""


class MalformedManifest(ValueError):
    """The parts of a manifest contradict each other: its arrays have different lengths, or a block is empty or too
    long.
    """


@dataclass(frozen=True, slots=True)
class BlockRef:
    """One block of a content: its digest, and the bytes [offset, offset + length) of the object that contains it."""

    digest: Digest
    length: int
    object: Digest
    offset: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The ordered blocks of a content, stored as parallel arrays; element i of each array describes block i.

    With n blocks in m packs:

    - `blocks` is the concatenation of n digests of 32 bytes, and `lengths` has n lengths in bytes.
    - If each block is an object of its own, `objects`, `object_index` and `offsets` are empty.
    - Otherwise `objects` is the concatenation of m digests of objects. `object_index` has n positions in it, and
      `offsets` the n positions in bytes at which the blocks begin in their objects.
    """

    blocks: bytes = b""
    lengths: tuple[int, ...] = ()
    objects: bytes = b""
    object_index: tuple[int, ...] = ()
    offsets: tuple[int, ...] = ()

    @classmethod
    def of(cls, refs: Sequence[BlockRef]) -> Manifest:
        """Return the manifest of the blocks `refs`, in their order. If each block is an object of its own, the arrays
        about objects are left empty.
        """
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

    @property
    def is_too_fine(self) -> bool:
        """True if the manifest has too many blocks for its content: more than MAX_FINE_BLOCKS, with a
        mean size below MIN_MEAN_BLOCK_BYTES.
        """
        return len(self) > MAX_FINE_BLOCKS and self.size < (len(self) - 1) * MIN_MEAN_BLOCK_BYTES

    def check(self) -> None:
        """Raise MalformedManifest unless the arrays have matching lengths, each index refers to an object, and each
        block has 1 to MAX_BLOCK_BYTES bytes.
        """
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
        """Return block `i`, counted from 0. The manifest must have passed `check`."""
        digest, length = Digest(self.blocks[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES]), self.lengths[i]
        if not self.objects:
            return BlockRef(digest, length, digest, 0)
        at = self.object_index[i] * DIGEST_BYTES
        return BlockRef(digest, length, Digest(self.objects[at : at + DIGEST_BYTES]), self.offsets[i])

    def object_digests(self) -> Iterator[Digest]:
        """Yield the digests of the objects that contain the blocks, so that the objects can be fetched or checked. The
        same digest may occur more than once.
        """
        packed = self.objects or self.blocks
        for at in range(0, len(packed), DIGEST_BYTES):
            yield Digest(packed[at : at + DIGEST_BYTES])


EMPTY_MANIFEST = Manifest()


def object_key(space: str, digest: bytes) -> str:
    """Return the S3 key of the object of `space` whose SHA-256 is `digest` (32 bytes): `spaces/{space}/objects/` and
    the digest in hexadecimal.
    """
    return f"{key_prefix(space)}{digest.hex()}"


def key_prefix(space: str) -> str:
    """Return the prefix that the S3 keys of all objects of a space share, with a slash at its end."""
    return f"spaces/{space}/objects/"
