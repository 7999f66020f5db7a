"""Verdicts of the metadata service on what clients send: changes, uploaded objects, and files to compare.

The values of all three enums are those of the wire, where each is described.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class Verdict(Enum):
    """The outcome of one mutation."""

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
    NODES_EXCEEDED = 20

    @property
    def text(self) -> str:
        """The meaning of the verdict for people: a clause without a capital and without a full stop.

        The command line, the sync engine, the HTTP API and WebDAV use this text for a refusal. The web app has a copy
        in `gateway/web/verdicts.js`, which a test compares. Only the command line adds hints, which name its commands.
        """
        return _TEXTS[self]


_TEXTS: Final[Mapping[Verdict, str]] = {
    Verdict.ACCEPTED: "the change was made",
    Verdict.NODE_NOT_FOUND: "there is no such file or directory any more",
    Verdict.NODE_DELETED: "the file or directory is in the trash",
    Verdict.WRONG_KIND: "the space has something of another kind in this place",
    Verdict.PARENT_NOT_FOUND: "the directory to put it into is no longer there",
    Verdict.NAME_TAKEN: "there is something of that name already",
    Verdict.NAME_INVALID: "the space does not accept the name; a name has no '/' and at most 255 bytes",
    Verdict.VERSION_CONFLICT: "the file has a newer version; look at that and decide again",
    Verdict.MOVED: "the file or directory was moved or renamed meanwhile; look at it and decide again",
    Verdict.CYCLE: "a directory cannot be put into itself",
    Verdict.NOT_DELETED: "the file or directory is not in the trash",
    Verdict.VERSION_NOT_FOUND: "the file has no such version",
    Verdict.QUOTA_EXCEEDED: "the space is full, or its owner has no room left; ask an administrator for a larger quota",
    Verdict.OBJECT_MISSING: "an object of the content was not uploaded",
    Verdict.OBJECT_NOT_SEALED: "an object of the content was not sealed",
    Verdict.BLOCK_OUT_OF_BOUNDS: "a block of the content reaches beyond its object",
    Verdict.BLOCK_NOT_IN_PACK: "a block of the content is not one of its pack's",
    Verdict.MANIFEST_INVALID: "the blocks of the content do not make up the file; update the client",
    Verdict.PATH_TOO_LONG: "a path would have more than 128 names or 4,096 bytes; choose another place",
    Verdict.NODES_EXCEEDED: "the space, with its trash, may hold no more files; ask whoever runs the system for more",
}


class SealVerdict(Enum):
    """The outcome of sealing one object."""

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
        """True if the object does not exist, or was removed because it was wrong: the right bytes can be uploaded
        again.
        """
        return self in (SealVerdict.OBJECT_MISSING, SealVerdict.SIZE_MISMATCH, SealVerdict.CHECKSUM_MISMATCH)


class Difference(Enum):
    """The result of the comparison of a local file with the current version in the space."""

    CONTENT = 1
    UNKNOWN = 2
    DELETED = 3
