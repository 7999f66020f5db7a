"""Parsing of bodies, which holds the interpreter: together they have a part of the event loop's time, shared fairly.

Threads are no remedy: what decodes JSON or XML, and what validates it, lets nobody else run until it is done. So a body
waits until the one before is paid for by several times the time that it took, which is everybody else's. It pays before
it is parsed, so that one that is refused costs its sender as much as one that is accepted.
"""

from __future__ import annotations

import asyncio
from typing import Final

from runtime.pool import Pool, Share
from syncline.model.blocks import KIB

_FREE_BYTES: Final = 8 * KIB
"""Bodies of up to so many bytes wait for nothing."""
_SMALL_BYTES: Final = 64 * KIB
"""Bodies of up to so many bytes do not wait for larger ones."""
_BYTES_PER_PART: Final = 20
"""Bytes that each value of JSON, or tag or attribute of XML, counts for beside its own."""


class ParsingTime:
    """Admits bodies that are about to be parsed."""

    def __init__(self, bytes_per_second: int) -> None:
        """`bytes_per_second` are bytes of small bodies, and as many of large ones, of all callers together."""
        self._rate = bytes_per_second
        self._large = Pool("parsing", 1)
        self._small = Pool("small_parsing", 1)

    async def take(self, share: Share, *, size: int, parts: int) -> None:
        """Wait until a body of so many bytes and parts may be parsed. Raise TooMuchAtOnce."""
        if size <= _FREE_BYTES:
            return
        pool = self._small if size <= _SMALL_BYTES else self._large
        await pool.take(1, share)
        seconds = (size + parts * _BYTES_PER_PART) / self._rate
        asyncio.get_running_loop().call_later(seconds, pool.give, 1, share)
