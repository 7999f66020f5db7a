"""Parsing of bodies, which occupies the event loop: all parsing together gets a bounded part of its time, shared fairly
among callers.

Threads would not help: the decoders and validators of JSON and XML do not release the GIL. A body therefore waits until
several times the parse time of the preceding body has passed; that time is left to other work. A body is charged to its
sender before it is parsed, so that an invalid body costs as much as a valid one.
"""

from __future__ import annotations

import asyncio
from typing import Final

from runtime.pool import Pool, Share
from syncline.model.blocks import KIB

_FREE_BYTES: Final = 8 * KIB
"""Maximum size in bytes of bodies that never wait."""
_SMALL_BYTES: Final = 64 * KIB
"""Maximum size in bytes of bodies that do not wait for larger ones."""
_BYTES_PER_PART: Final = 20
"""Cost in bytes of each value in JSON, or each tag or attribute in XML, in addition to its size."""


class ParsingTime:
    """Makes each body that is about to be parsed wait, so that parsing takes a bounded part of the event loop's
    time.
    """

    def __init__(self, bytes_per_second: int) -> None:
        """`bytes_per_second` is the rate at which the small bodies of all callers together are parsed. Large bodies
        have another rate of the same size.
        """
        self._rate = bytes_per_second
        self._large = Pool("parsing", 1)
        self._small = Pool("small_parsing", 1)

    async def take(self, share: Share, *, size: int, parts: int) -> None:
        """Wait until a body of `size` bytes with `parts` values may be parsed, and charge it to `share`. Raise
        TooMuchAtOnce, with nothing charged, if that would take too long.
        """
        if size <= _FREE_BYTES:
            return
        pool = self._small if size <= _SMALL_BYTES else self._large
        await pool.take(1, share)
        seconds = (size + parts * _BYTES_PER_PART) / self._rate
        asyncio.get_running_loop().call_later(seconds, pool.give, 1, share)
