"""A file that one process at a time holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def hold_lock(path: Path, *, timeout_seconds: float) -> Iterator[None]:
    """Within the context, hold the lock of the file `path`, so that no other process can hold it. The file is created
    if it does not exist. Raise TimeoutError if another process holds the lock for longer than `timeout_seconds`.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - most commands need no lock

    with suppress(OSError):  # Earlier versions let other users of the machine open it, and so hold the lock.
        path.chmod(0o600)
    lock = FileLock(path, timeout=timeout_seconds, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise TimeoutError(f"another process holds {path}") from None
    try:
        yield
    finally:
        lock.release()
