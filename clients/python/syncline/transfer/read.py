"""Reading of files that may be changed, replaced or removed concurrently."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from syncline.model.blocks import MIN_BLOCK_BYTES, Digest
from syncline.model.chunking import Block, Chunker, digest_of
from syncline.transfer.jobs import Signature, Trouble, UploadJob
from syncline.transfer.safe_open import open_below

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_NO_ATIME = getattr(os, "O_NOATIME", 0)

_VANISHED = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
_NOT_A_FILE = {errno.ELOOP, errno.ENXIO, errno.ENODEV}


class NotRead(Exception):
    """The file could not be read as one consistent content."""

    def __init__(self, trouble: Trouble, reason: str) -> None:
        super().__init__(reason)
        self.trouble = trouble
        self.reason = reason


class Read(NamedTuple):
    """The summary of a file that was read to its end, valid once all blocks have been passed on."""

    signature: Signature
    digest: Digest
    executable: bool


class FileReader:
    """Reads files one after the other, in one thread."""

    def __init__(self) -> None:
        self._chunker = Chunker()

    def read(self, job: UploadJob, take: Callable[[Block], None]) -> Read:
        """Pass each block of the file to `take`, in order, and return the summary of the file. Raise NotRead if the
        file cannot be read or changes; blocks that were passed on before are then invalid.
        """
        try:
            descriptor = _open(job)
        except OSError as error:
            raise _not_read(error) from None
        try:
            before = os.fstat(descriptor)
            signature = Signature.of(before)
            if not stat.S_ISREG(before.st_mode):
                raise NotRead(Trouble.NOT_A_FILE, "is not a regular file any more; will be scanned again")
            if job.expected is not None and signature != job.expected:
                raise _changed()
            size = before.st_size
            if size < MIN_BLOCK_BYTES:
                digest = _read_small(descriptor, size, take)
            else:
                digest = self._read_large(descriptor, size, take)
            if Signature.of(os.fstat(descriptor)) != signature:
                raise _changed()
            return Read(signature, digest, bool(before.st_mode & stat.S_IXUSR))
        except OSError as error:
            raise _not_read(error) from None
        finally:
            os.close(descriptor)

    def _read_large(self, descriptor: int, size: int, take: Callable[[Block], None]) -> Digest:
        cut = self._chunker.cut(lambda buffer: os.readv(descriptor, [buffer]))
        for block in cut:
            if cut.size > size:  # a growing file could keep the loop running for ever
                raise _changed()
            take(block)
        if cut.size != size:
            raise _changed()
        return cut.digest


def _read_small(descriptor: int, size: int, take: Callable[[Block], None]) -> Digest:
    """Pass the bytes of a file of at most one block to `take`, and return the digest of the file. One byte more than
    `size` is requested, to see that the file ends there. Raise NotRead if the file has another size.
    """
    data = os.read(descriptor, size + 1)
    while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
        data += more
    if len(data) != size:
        raise _changed()
    digest = digest_of(data)
    if data:
        take(Block(digest, data))
    return digest


def _open(job: UploadJob) -> int:
    try:
        return open_below(job.root, job.path, _FLAGS | _NO_ATIME)
    except PermissionError:
        # Only the owner of a file may open it without updating its access time.
        return open_below(job.root, job.path, _FLAGS)


def _changed() -> NotRead:
    return NotRead(Trouble.CHANGED, "changed while uploading; will be scanned again")


def _not_read(error: OSError) -> NotRead:
    if error.errno in _VANISHED:
        return NotRead(Trouble.VANISHED, "vanished while uploading; will be scanned again")
    if error.errno in _NOT_A_FILE:
        return NotRead(Trouble.NOT_A_FILE, "is not a regular file any more; will be scanned again")
    return NotRead(Trouble.UNREADABLE, f"cannot be read ({os.strerror(error.errno or 0)}); fix that and sync again")
