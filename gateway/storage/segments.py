"""Memory for contents on their way, used again and again: what is fresh, the kernel has to make and clear first."""

from __future__ import annotations

from collections import deque
from typing import Final

from syncline.model.blocks import KIB

SEGMENT_BYTES: Final = 512 * KIB


class Segments:
    """Segments of SEGMENT_BYTES each, of which up to `kept` bytes stay here.

    Nobody gives a segment back. It is free when nobody has a view of it any more, and a bytearray knows that: as long
    as somebody has one, it refuses to change its size. So no byte can change under somebody who still sends it.
    """

    def __init__(self, kept: int) -> None:
        self._most = kept // SEGMENT_BYTES
        self._kept: deque[bytearray] = deque()

    def take(self) -> memoryview:
        """A segment that nobody else sees. What is in it is left over."""
        for _ in range(len(self._kept)):  # the ones taken longest ago first
            segment = self._kept.popleft()
            self._kept.append(segment)
            if _is_free(segment):
                return memoryview(segment)
        segment = bytearray(SEGMENT_BYTES + 1)  # memory for a byte more, so that asking moves nothing
        segment.pop()
        if len(self._kept) < self._most:
            self._kept.append(segment)
        return memoryview(segment)


def _is_free(segment: bytearray) -> bool:
    try:
        segment.append(0)
    except BufferError:
        return False
    segment.pop()
    return True
