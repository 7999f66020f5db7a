"""Parsing of the headers of the HTTP/2 frames that a client sends (RFC 9113); their payloads are skipped.

A HEADERS frame on a new stream begins a gRPC call.
"""

from __future__ import annotations

from typing import Final

SMALL_FRAME_BYTES: Final = 1_024
"""A frame with a payload below this size, in bytes, counts as small. grpc has a cost per frame, whatever its size."""
_PREFACE_BYTES: Final = 24
FRAME_HEADER_BYTES: Final = 9
_DATA: Final = 0
_HEADERS: Final = 1
_SETTINGS: Final = 4
_ACK: Final = 1
_PREFACE_KIND: Final = -1


class FrameReader:
    """Follows the HTTP/2 frames that arrive on one connection, and counts them."""

    def __init__(self) -> None:
        self.acknowledged = False
        """True once the client has acknowledged the server's SETTINGS frame of HTTP/2, which includes the maximum size
        of headers.
        """
        self.unacknowledged_bytes = 0
        """Number of bytes that arrived before the client acknowledged the server's SETTINGS. Payloads of DATA frames do
        not count, because HTTP/2's flow control bounds them from the start.
        """
        self.small = 0
        """Number of small frames so far."""
        self.calls = 0
        """Number of calls that have begun on the connection."""
        self._kind = _PREFACE_KIND
        self._left = _PREFACE_BYTES
        """Bytes of the payload of the current frame that have not arrived yet."""
        self._last_call = 0
        """Stream identifier of the last call."""

    def feed(self, data: bytes, calls: float) -> int:
        """Parse `data`, which continues the bytes that were parsed before, and return the number of parsed bytes.
        `calls` is the number of gRPC calls that may begin in `data`; infinity sets no limit. Parsing stops before the
        frame that begins a further call, and before an incomplete frame header.

        The caller passes the remaining bytes again, in front of the bytes that arrive next.
        """
        at, end, small = self._left, len(data), 0
        if not self.acknowledged and self._kind != _DATA:
            self.unacknowledged_bytes += min(at, end)
        while at + FRAME_HEADER_BYTES <= end:
            kind = data[at + 3]
            if kind == _HEADERS and (call := int.from_bytes(data[at + 5 : at + 9], "big")) > self._last_call:
                if calls < 1:
                    break
                calls -= 1
                self.calls += 1
                self._last_call = call
            size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if size < SMALL_FRAME_BYTES:
                small += 1
            if not self.acknowledged:
                self._kind = kind
                self.acknowledged = kind == _SETTINGS and bool(data[at + 4] & _ACK)
                self.unacknowledged_bytes += FRAME_HEADER_BYTES
                if kind != _DATA:
                    self.unacknowledged_bytes += min(size, end - at - FRAME_HEADER_BYTES)
            at += FRAME_HEADER_BYTES + size
        self.small += small
        self._left = max(at - end, 0)
        return min(at, end)
