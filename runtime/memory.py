"""Give back to the system what starting up took, and what a peak took, once serving does not need it any more."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

_M_ARENA_MAX = -8
_MADV_DONTNEED = 4
_STATM: Final = Path("/proc/self/statm")

GROWTH_BYTES: Final = 32 * 1024 * 1024
"""By how much a process may grow from when it began to serve, until `returning` looks for what it can give back."""
_CHANGE_BYTES: Final = 4 * 1024 * 1024
"""A process whose size has changed by less since `returning` looked last has nothing new to give back."""
_LOOK_SECONDS: Final = 5.0
_REST: Final = 100
"""Factor of the time between two looks for memory to the time that one look takes, so that `returning` leaves the
process to its work.
"""


def limit_arenas(count: int = 2) -> None:
    """Let glibc keep at most `count` malloc arenas: by default it takes eight per core, each with its own slack."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, count)


def settle() -> None:
    """Call once when everything is built: what lives now lives on, so no collection need look at it again."""
    gc.collect()
    gc.freeze()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    if sys.platform == "linux":
        _let_go_of_code(libc)


@asynccontextmanager
async def returning(growth_bytes: int = GROWTH_BYTES, look_seconds: float = _LOOK_SECONDS) -> AsyncIterator[None]:
    """Give memory back, on Linux, while the block lasts, whenever the process has grown by `growth_bytes`.

    gRPC leaves a cycle of objects behind with each call that passes interceptors, and its buffers hang on some of
    them. Python looks for cycles once many objects have been made, which after a peak may take long. And glibc gives
    back by itself only what lies above everything that is in use.
    """
    if not _STATM.exists():
        yield
        return
    task = asyncio.create_task(_give_back(resident_bytes() + growth_bytes, look_seconds), name="memory")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _give_back(large_bytes: int, look_seconds: float) -> None:
    """Look whether the process is larger than `large_bytes`, and of another size than when that helped last."""
    libc = ctypes.CDLL(None)
    left, pause = 0, look_seconds
    while True:
        await asyncio.sleep(pause)
        now, pause = resident_bytes(), look_seconds
        if now > large_bytes and abs(now - left) > _CHANGE_BYTES:
            began = time.monotonic()
            gc.collect()
            pause = max(look_seconds, _REST * (time.monotonic() - began))
            if hasattr(libc, "malloc_trim"):
                await asyncio.to_thread(libc.malloc_trim, 0)  # ctypes lets go of the interpreter meanwhile
            left = resident_bytes()


def resident_bytes() -> int:
    """Return the resident memory of this process, in bytes. Linux only."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()


def _let_go_of_code(libc: ctypes.CDLL) -> None:
    """Unmap the code, and the constants beside it, that only starting up read; what is read again comes back from the
    page cache.

    Done only for mappings of files of which this process has no page of its own. Whatever it has written, such as the
    addresses that the dynamic linker fills in, would be lost.
    """
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    start = size = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *values = line.split()
        if not name.endswith(":"):  # the first line of a mapping
            permissions, _offset, _device, inode = values[:4]
            start, end = (int(address, 16) for address in name.split("-"))
            size = end - start if permissions in {"r-xp", "r--p"} and inode != "0" else 0
        elif name == "Anonymous:" and values[0] == "0" and size:
            libc.madvise(start, size, _MADV_DONTNEED)
