"""Return of memory to the operating system: memory that was used at startup or at a peak, and is not needed any
more.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import linecache
import re
import resource
import sys
import time
import typing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

_M_ARENA_MAX = -8
_MADV_DONTNEED = 4
_STATM: Final = Path("/proc/self/statm")

GROWTH_BYTES: Final = 32 * 1024 * 1024
"""Minimum growth of a process since it began to serve, in bytes, at which `returning` tries to return memory."""
_CHANGE_BYTES: Final = 4 * 1024 * 1024
"""Minimum change of the size of a process since the last attempt to return memory, in bytes; after a smaller change,
another attempt would return nothing.
"""
_LOOK_SECONDS: Final = 5.0
_REST: Final = 100
"""Minimum pause between two attempts to return memory, as a multiple of the duration of an attempt."""


def limit_arenas(count: int = 2) -> None:
    """Limit glibc to `count` malloc arenas. The default is eight per core, each with unused memory of its own."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, count)


def settle() -> None:
    """Return memory that only startup has used to the operating system: collect garbage, trim the heap, and unmap code
    that only startup has read. Freeze the remaining objects, which mostly live as long as the process, so that no
    garbage collection visits them again. Called once after startup.
    """
    _empty_caches()
    gc.collect()
    gc.freeze()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    if sys.platform == "linux":
        _let_go_of_code(libc)


def _empty_caches() -> None:
    """Empty the caches of the standard library that imports have filled: compiled expressions, parametrised types, and
    the names of files in the folders of packages. What is needed again is cached again.
    """
    re.purge()
    for empty in getattr(typing, "_cleanups", ()):
        empty()
    sys.path_importer_cache.clear()
    linecache.clearcache()


@asynccontextmanager
async def returning(growth_bytes: int = GROWTH_BYTES, look_seconds: float = _LOOK_SECONDS) -> AsyncIterator[None]:
    """Within this context, return memory to the operating system whenever the process has grown by `growth_bytes` since
    the context was entered. The size is checked every `look_seconds` seconds. Linux only; elsewhere nothing is done.

    gRPC leaves a reference cycle behind for each call that passes interceptors, and some cycles hold its buffers.
    Python collects cycles only after many allocations, which may take long after a peak. glibc by itself returns only
    the memory above the highest address that is in use.
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
    """Check the size of the process every `look_seconds`, for ever. Collect garbage and trim the heap whenever the
    process is larger than `large_bytes` and its size has changed by more than _CHANGE_BYTES since the last attempt.
    """
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
                await asyncio.to_thread(libc.malloc_trim, 0)  # ctypes releases the GIL during the call
            left = resident_bytes()


def resident_bytes() -> int:
    """Return the resident memory of this process, in bytes. Linux only."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()


def _let_go_of_code(libc: ctypes.CDLL) -> None:
    """Unmap code and constants that only startup has read; pages that are read again are loaded from the page cache.

    This is done only for file mappings in which this process has written no page, because written pages, such as
    addresses that the dynamic linker filled in, would be lost.
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
