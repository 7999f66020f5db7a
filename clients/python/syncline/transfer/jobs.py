"""The jobs of an upload and a download, and their results."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from syncline.model.blocks import Digest
from syncline.model.tree import Content, fitting_time_ns


@dataclass(frozen=True, slots=True)
class Signature:
    """The attributes that tell a file from its earlier state without reading it. Times are rounded to what can be
    stored.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Signature:
        return cls(stat.st_size, fitting_time_ns(stat.st_mtime_ns), fitting_time_ns(stat.st_ctime_ns), stat.st_ino)


class Trouble(Enum):
    """The cause of a failed job, for programs to branch on. The `reason` of Failed is its text for people."""

    VANISHED = "the file is gone"
    CHANGED = "the file is not, or no longer, what was to be uploaded"
    NOT_A_FILE = "something else than a regular file has taken its place"
    UNREADABLE = "the system does not let us read or write the file"
    REFUSED = "the service did not accept what was uploaded"
    CORRUPT = "storage did not give the bytes that the content names"
    MISSING = "storage does not have an object that the content names"
    WITHHELD = "storage has an object that the content names, and does not give it"
    NO_ROOM = "the disk is full, or a quota of it used up"


@dataclass(frozen=True, slots=True)
class UploadJob:
    """One file to upload.

    `key` is the caller's own; it comes back with the result. If the file's signature is not `expected` (where that is
    given), nothing is uploaded. Between `root`, where that is given, and the file no symlink is followed.
    """

    key: Hashable
    path: Path
    expected: Signature | None = None
    root: Path | None = None


@dataclass(frozen=True, slots=True)
class Uploaded:
    """All objects of `content` are sealed: it can be committed. `signature` is that of the file that was read."""

    job: UploadJob
    content: Content
    signature: Signature


@dataclass(frozen=True, slots=True)
class LocalBlock:
    """A place on this device that may hold the bytes of a block. The bytes are verified before they are used.

    Between `root`, where that is given, and the file no symlink is followed.
    """

    path: Path
    offset: int
    root: Path | None = None


@dataclass(frozen=True, slots=True)
class Suspect:
    """An object by which a content could not be had, and how storage had it then: `tag` as of `ObjectStore.tag`."""

    object: Digest
    tag: str


@dataclass(frozen=True, slots=True)
class DownloadJob:
    """One content to be written to `destination`, a temporary file of the caller's choosing, with these permissions.

    A destination that exists is what an interrupted run left: its blocks that are right are kept. `known` says where
    blocks may be had without asking storage. Between `root`, where that is given, and the destination no symlink is
    followed. With a `suspect` the job fails as it did before, and nothing is written, as long as storage has that
    object as it had it then.
    """

    key: Hashable
    content: Content
    destination: Path
    mode: int
    known: Mapping[Digest, LocalBlock] = field(default_factory=dict)
    root: Path | None = None
    suspect: Suspect | None = None


@dataclass(frozen=True, slots=True)
class Downloaded:
    """`job.destination` is a file with exactly the content, verified, its time and the mode.

    It is not flushed to the disk: the caller does that for many files at once, before any of them gets its name.
    """

    job: DownloadJob
    signature: Signature


@dataclass(frozen=True, slots=True)
class Failed:
    """The job did nothing that matters; the others go on. `reason` says what happened and what comes next.

    A content is CORRUPT, MISSING or WITHHELD by the `suspect`. CORRUPT without one, it contradicts itself, whatever
    storage has.
    """

    job: UploadJob | DownloadJob
    reason: str
    trouble: Trouble
    suspect: Suspect | None = None
