"""How the metadata service judges what a client sends: changes, uploaded objects, and files that it compares.

The values of all three are those of the wire, where each is described.
"""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What became of one mutation."""

    ACCEPTED = 1
    NODE_NOT_FOUND = 2
    NODE_DELETED = 3
    WRONG_KIND = 4
    PARENT_NOT_FOUND = 5
    NAME_TAKEN = 6
    NAME_INVALID = 7
    VERSION_CONFLICT = 8
    MOVED = 9
    CYCLE = 10
    NOT_DELETED = 11
    VERSION_NOT_FOUND = 12
    QUOTA_EXCEEDED = 13
    OBJECT_MISSING = 14
    OBJECT_NOT_SEALED = 15
    BLOCK_OUT_OF_BOUNDS = 16
    BLOCK_NOT_IN_PACK = 17
    MANIFEST_INVALID = 18
    PATH_TOO_LONG = 19


class SealVerdict(Enum):
    """What became of sealing one object."""

    SEALED = 1
    OBJECT_MISSING = 2
    SIZE_MISMATCH = 3
    CHECKSUM_MISMATCH = 4
    ENTRY_DIGEST_MISMATCH = 5
    ENTRY_OUT_OF_BOUNDS = 6
    ENTRIES_OVERLAP = 7
    MANIFEST_INVALID = 8

    @property
    def put_again(self) -> bool:
        """True if the object is not there, or was removed because it is wrong: the right bytes can be put again."""
        return self in (SealVerdict.OBJECT_MISSING, SealVerdict.SIZE_MISMATCH, SealVerdict.CHECKSUM_MISMATCH)


class Difference(Enum):
    """How a local file differs from the space."""

    CONTENT = 1
    UNKNOWN = 2
    DELETED = 3
