"""Reusable memory for contents in transfer: fresh memory would have to be mapped and cleared by the kernel first."""

from __future__ import annotations

from collections import deque
from typing import Final

from syncline.model.blocks import KIB

SEGMENT_BYTES: Final = 512 * KIB


class Segments:
    """Segments of SEGMENT_BYTES each, of which up to `kept` bytes are kept for reuse.

    Segments are not returned explicitly. A segment is free when no view of it exists any more, which its bytearray
    detects: it refuses to be resized while a view exists. No byte can therefore change under a reader.
    """

    def __init__(self, kept: int) -> None:
        self._most = kept // SEGMENT_BYTES
        self._kept: deque[bytearray] = deque()

    def take(self) -> memoryview:
        """Return a segment that has no other user. Its contents are undefined."""
        for _ in range(len(self._kept)):  # the least recently taken first
            segment = self._kept.popleft()
            self._kept.append(segment)
            if _is_free(segment):
                return memoryview(segment)
        segment = bytearray(SEGMENT_BYTES + 1)  # one byte of extra capacity, so that the resize check moves no memory
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
