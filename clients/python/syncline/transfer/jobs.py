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
    """The facts about a file that show without reading that it was changed: size in bytes, modification and change time
    in nanoseconds since 1970 (rounded to storable values), and inode.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Signature:
        return cls(stat.st_size, fitting_time_ns(stat.st_mtime_ns), fitting_time_ns(stat.st_ctime_ns), stat.st_ino)


class Trouble(Enum):
    """The cause of a failed job, for programs to branch on. `Failed.reason` is its text for people."""

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

    - `key` identifies the job for the caller and is returned with the result.
    - If `expected` is given and differs from the file's signature, nothing is uploaded, and the job fails.
    - If `root` is given, no symlink between it and the file is followed.
    """

    key: Hashable
    path: Path
    expected: Signature | None = None
    root: Path | None = None


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The result of an upload: all objects of `content` are sealed, so that a version can have this content.
    `signature` is that of the file that was read.
    """

    job: UploadJob
    content: Content
    signature: Signature


@dataclass(frozen=True, slots=True)
class LocalBlock:
    """A file on this device, and the offset in it, that may hold the bytes of a block. The bytes are verified before
    they are used. If `root` is given, no symlink between it and the file is followed.
    """

    path: Path
    offset: int
    root: Path | None = None


@dataclass(frozen=True, slots=True)
class Suspect:
    """The object in storage because of which a download failed. `tag` is its tag at that time, which changes if the
    object is replaced (`ObjectStore.tag`).
    """

    object: Digest
    tag: str


@dataclass(frozen=True, slots=True)
class DownloadJob:
    """One content to be written to `destination`, a temporary file chosen by the caller, with the permissions `mode`.

    - `key` identifies the job for the caller and is returned with the result.
    - An existing destination was left by an interrupted run: its correct blocks are kept.
    - `known` has copies of blocks in files of this device, by digest, which are used before storage.
    - If `root` is given, no symlink between it and the destination is followed.
    - `suspect` is the object because of which an earlier job for this content failed. While storage still has the same
      object, this job fails for the same reason, and nothing is written.
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
    """The result of a download: `job.destination` is a file with exactly the content, verified, with its time and mode.
    `signature` is that of the file.

    The file has not been flushed to the disk. The caller must flush it before it is renamed into place, best many files
    at once.
    """

    job: DownloadJob
    signature: Signature


@dataclass(frozen=True, slots=True)
class Failed:
    """The result of a job that failed and had no lasting effect; other jobs continue. `trouble` is the kind of failure.
    `reason` says, for people, what happened and what happens next.

    If `trouble` is CORRUPT, MISSING or WITHHELD, `suspect` is the object that caused the failure. CORRUPT without a
    suspect means that the content contradicts itself, whatever storage has.
    """

    job: UploadJob | DownloadJob
    reason: str
    trouble: Trouble
    suspect: Suspect | None = None
