"""Give back what starting up took and serving does not need."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_MIB = 1024 * 1024
_MADV_DONTNEED = 4


def limit_arenas(count: int = 2) -> None:
    """Let glibc keep at most `count` malloc arenas: by default it takes eight per core, each with its own slack."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, count)


def keep_for_traffic(size: int = 16 * _MIB) -> None:
    """Let glibc keep up to `size` bytes at the end of its heap that are free at the moment.

    By default it gives back more than 128 KiB at once, and whoever moves buffers of that size all the time has the
    kernel make the same pages again and again.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_TRIM_THRESHOLD, size)
        libc.mallopt(_M_TOP_PAD, size // 8)
        libc.mallopt(_M_MMAP_THRESHOLD, 4 * _MIB)


def settle() -> None:
    """Call once when everything is built: what lives now lives on, so no collection need look at it again."""
    gc.collect()
    gc.freeze()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    if sys.platform == "linux":
        _let_go_of_code(libc)


def _let_go_of_code(libc: ctypes.CDLL) -> None:
    """Unmap the machine code that only starting up ran; what is called again comes back from the page cache.

    Done only for executable file mappings, which are never written, so dropping their pages loses nothing.
    """
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, _offset, _device, inode, *_path = line.split(maxsplit=5)
        if permissions == "r-xp" and inode != "0":
            start, end = (int(address, 16) for address in addresses.split("-"))
            libc.madvise(start, end - start, _MADV_DONTNEED)
