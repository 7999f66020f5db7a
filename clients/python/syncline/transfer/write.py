"""Writing of contents to temporary files, block by block in any order, with verification of the whole."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncline.model.blocks import BlockRef, Digest
from syncline.model.chunking import digest_of
from syncline.transfer import holes
from syncline.transfer.jobs import DownloadJob, LocalBlock, Signature, Suspect, Trouble
from syncline.transfer.safe_open import open_below, unlink_below

_FLAGS = os.O_NOCTTY
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class NotWritten(Exception):
    """The content could not be written, or the written bytes are not the content."""

    def __init__(self, trouble: Trouble, reason: str, suspect: Suspect | None = None) -> None:
        super().__init__(reason)
        self.trouble = trouble
        self.reason = reason
        self.suspect = suspect


def contradiction() -> NotWritten:
    """Return the error for a content whose digest, size and blocks contradict each other, whatever storage has."""
    return NotWritten(
        Trouble.CORRUPT,
        "is not what its blocks add up to; it cannot be downloaded until it has another version (`syncline restore` "
        "brings back an earlier one)",
    )


def write_small(job: DownloadJob, data: bytes | memoryview) -> Signature:
    """Write the content of `job`, which has one block or none. `data` has the bytes of the block, which must have been
    verified. Return the file's signature. Raise NotWritten if the file cannot be written.
    """
    with _errors(), _open(job, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, job.mode) as descriptor:
        holes.write(descriptor, data, 0, blank=True)
        if len(data) >= holes.MIN_HOLE_BYTES:
            os.ftruncate(descriptor, len(data))
        return _finished(descriptor, job)


class DownloadTarget:
    """Writes the temporary file of a content that has several blocks, and verifies the whole content. Usable from any
    thread.
    """

    def __init__(self, job: DownloadJob, refs: list[BlockRef]) -> None:
        self.job = job
        self.refs = refs
        self.failed = False
        """True once a failure was reported, after which nothing more is written."""
        self._offsets: list[int] = []
        end = 0
        for ref in refs:
            self._offsets.append(end)
            end += ref.length
        self._lock = threading.Lock()
        self._present = bytearray(len(refs))
        self._whole = hashlib.sha256(usedforsecurity=False)
        self._hashed = 0
        """Number of blocks that are hashed into `_whole`."""
        self._hashing = False
        self._blank = True
        """True if the file was empty, so that unwritten parts read as zeros."""

    def prepare(self) -> tuple[list[int], Signature | None]:
        """Create the file, and write the correct blocks that are found on this device; those that an interrupted run
        left are kept. Return the indices of the blocks that are still missing, and the file's signature if the content
        is complete, otherwise None. Raise NotWritten if the file cannot be written.
        """
        wanted = []
        complete = None
        with _errors(), _open(self.job, os.O_RDWR | os.O_CREAT) as descriptor:
            there = os.fstat(descriptor).st_size
            self._blank = not there
            os.ftruncate(descriptor, self.job.content.size)
            if not any(map(holes.is_zeros, self.refs)):
                _reserve(descriptor, self.job.content.size)
            with _Local() as local:
                for index, ref in enumerate(self.refs):
                    at = self._offsets[index]
                    data = _verified(os.pread(descriptor, ref.length, at), ref.digest) if at < there else None
                    if data is None:
                        data = self._had(ref, local)
                        if data is not None:
                            holes.write(descriptor, data, at, blank=self._blank)
                    if data is None:
                        wanted.append(index)
                    else:
                        complete = self._arrived(index, data)
        return wanted, complete

    def _had(self, ref: BlockRef, local: _Local) -> bytes | None:
        """Return the bytes of the block if they need not be fetched: it has zeros only, or another file on this device
        has it. Otherwise return None. `local` reads such files.
        """
        if holes.is_zeros(ref):
            return holes.zeros()
        known = self.job.known.get(ref.digest)
        return local.read(known, ref) if known is not None else None

    def put(self, index: int, data: memoryview) -> Signature | None:
        """Write the verified bytes of the block with the number `index` of the content. Return the file's signature if
        the block completes the content, otherwise None. Raise NotWritten if the file cannot be written, or if the
        complete file is not the content.
        """
        with _errors():
            with _open(self.job, os.O_WRONLY) as descriptor:
                holes.write(descriptor, data, self._offsets[index], blank=self._blank)
            return self._arrived(index, data)

    def _arrived(self, index: int, data: bytes | memoryview) -> Signature | None:
        """Hash the blocks that are there without a gap from the beginning of the file on. One thread does this at a
        time, while the others continue to fetch. Return the file's signature if this completes the content, otherwise
        None.
        """
        with self._lock:
            self._present[index] = 1
            if self._hashing or index != self._hashed:
                return None
            self._hashing = True
        while True:
            self._whole.update(data)
            with self._lock:
                self._hashed += 1
                if self._hashed == len(self.refs):
                    break
                if not self._present[self._hashed]:
                    self._hashing = False
                    return None
            with _open(self.job, os.O_RDONLY) as descriptor:
                data = os.pread(descriptor, self.refs[self._hashed].length, self._offsets[self._hashed])
        if self._whole.digest() != self.job.content.digest:
            raise contradiction()
        with _open(self.job, os.O_RDONLY) as descriptor:
            return _finished(descriptor, self.job)


class _Local:
    """Reads blocks from files of this device, which may have changed or disappeared."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._descriptor = -1

    def __enter__(self) -> _Local:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def read(self, known: LocalBlock, ref: BlockRef) -> bytes | None:
        """Return the bytes of the block `ref`, read from the file and offset `known`; None if the file has changed or
        disappeared.
        """
        try:
            if known.path != self._path:
                self._close()
                self._descriptor = open_below(known.root, known.path, _FLAGS | os.O_RDONLY | os.O_NONBLOCK)
                self._path = known.path
            return _verified(os.pread(self._descriptor, ref.length, known.offset), ref.digest)
        except OSError:
            return None

    def _close(self) -> None:
        if self._path is not None:
            os.close(self._descriptor)
            self._path = None


def _verified(data: bytes, digest: Digest) -> bytes | None:
    return data if digest_of(data) == digest else None


def _finished(descriptor: int, job: DownloadJob) -> Signature:
    """Set the mode and time of a complete file; return its signature."""
    try:
        os.utime(descriptor, ns=(job.content.mtime_ns, job.content.mtime_ns))
    except OverflowError:
        pass  # a filesystem may not support such a time: the file matters more
    except OSError as error:
        if error.errno in {*_NO_ROOM, errno.EIO}:
            raise
    found = os.fstat(descriptor)
    if stat.S_IMODE(found.st_mode) != job.mode:
        os.fchmod(descriptor, job.mode)
        found = os.fstat(descriptor)
    return Signature.of(found)


def _reserve(descriptor: int, size: int) -> None:
    """Reserve disk space for the whole file if the filesystem can, so that a full disk is detected before the download.

    Only for files that do not look sparse, because it would fill their holes.
    """
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise


@contextmanager
def _open(job: DownloadJob, flags: int, mode: int = 0o600) -> Iterator[int]:
    try:
        descriptor = open_below(job.root, job.destination, _FLAGS | flags, mode)
    except PermissionError:
        if not flags & os.O_CREAT:
            raise
        # a killed run had completed it for a read-only file, whose mode would prevent writing
        unlink_below(job.root, job.destination)
        descriptor = open_below(job.root, job.destination, _FLAGS | flags, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise NotWritten(Trouble.NO_ROOM, "does not fit on the disk; free some space and sync again") from None
        why = os.strerror(error.errno or 0)
        raise NotWritten(Trouble.UNREADABLE, f"cannot be written ({why}); fix that and sync again") from None
