"""Computing the SHA-256 of files: small ones sequentially, large ones concurrently."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from syncline.model.blocks import MIB, Digest
from syncline.sync.folder.files import Files
from syncline.sync.scan.identify import Hashed
from syncline.transfer.jobs import Signature

_MAX_SMALL_FILE_BYTES = 256 * 1024
_READ_BYTES = MIB
_READERS = min(4, os.cpu_count() or 1)


def hash_files(files: Files, paths: Sequence[str]) -> dict[str, Hashed]:
    """Read the regular files at `paths`, relative to the folder, and return the digest and the other facts of Hashed by
    path. A file that cannot be read, or that changes while it is read, is missing in the result.
    """
    hashed: dict[str, Hashed] = {}
    pending: list[tuple[str, Future[Hashed | None]]] = []

    def collect(keep: int) -> None:
        while len(pending) > keep:
            path, future = pending.pop(0)
            if (result := future.result()) is not None:
                hashed[path] = result

    with ThreadPoolExecutor(_READERS, thread_name_prefix="hash") as readers:
        for path in paths:
            try:
                descriptor = files.open_file(path)
            except OSError:
                continue
            if os.fstat(descriptor).st_size > _MAX_SMALL_FILE_BYTES:
                pending.append((path, readers.submit(_hash, descriptor)))
                collect(2 * _READERS)
            elif (result := _hash(descriptor)) is not None:
                hashed[path] = result
        collect(0)
    return hashed


def hash_file(files: Files, path: str) -> Hashed | None:
    """Return the digest of the file at `path`, relative to the folder, with the other facts of Hashed. Return None if
    the file cannot be read, changes while it is read, or is no regular file.
    """
    return hash_files(files, [path]).get(path)


def _hash(descriptor: int) -> Hashed | None:
    try:
        read_at_ns = time.time_ns()
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            return None
        digest = hashlib.sha256()
        for chunk in _chunks(descriptor, before.st_size):
            digest.update(chunk)
        after = os.fstat(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    signature = Signature.of(after)
    if signature != Signature.of(before):
        return None
    return Hashed(Digest(digest.digest()), signature, bool(after.st_mode & stat.S_IXUSR), read_at_ns)


def _chunks(descriptor: int, size: int) -> Iterator[bytes | memoryview]:
    if size <= _MAX_SMALL_FILE_BYTES:
        while chunk := os.read(descriptor, _MAX_SMALL_FILE_BYTES + 1):
            yield chunk
        return
    buffer = memoryview(bytearray(_READ_BYTES))
    while count := os.readv(descriptor, [buffer]):
        yield buffer[:count]
