"""Memory for contents on their way, used again and again: fresh memory has to be made and cleared by the kernel first."""

from __future__ import annotations

from collections import deque
from typing import Final

from core.blocks import KIB

SEGMENT: Final = 512 * KIB


class Segments:
    """Segments of SEGMENT bytes each, of which up to `kept` bytes stay with us.

    Nobody gives a segment back. It is free when nobody has a view of it any more, and that is what a bytearray knows:
    it refuses to change its size as long as somebody has one. So no byte can change under whoever still sends it.
    """

    def __init__(self, kept: int) -> None:
        self._most = kept // SEGMENT
        self._ours: deque[bytearray] = deque()

    def take(self) -> memoryview:
        """A segment that nobody else sees; what is in it is left from before."""
        for _ in range(len(self._ours)):
            segment = self._ours.popleft()
            self._ours.append(segment)
            if _is_free(segment):
                return memoryview(segment)
        segment = bytearray(SEGMENT + 1)  # a byte more than it has at the end, so that growing by one moves nothing
        segment.pop()
        if len(self._ours) < self._most:
            self._ours.append(segment)
        return memoryview(segment)


def _is_free(segment: bytearray) -> bool:
    try:
        segment.append(0)
    except BufferError:
        return False
    segment.pop()
    return True
