"""Give back what starting up took and serving does not need."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

_M_ARENA_MAX = -8
_MADV_DONTNEED = 4


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
