"""Parsing of the headers of the HTTP/2 frames that a client sends (RFC 9113); payloads are not parsed."""

from __future__ import annotations

from typing import Final

SMALL_BYTES: Final = 1_024
"""A frame with a payload below this size, in bytes, counts as small. grpc has a cost per frame, whatever its size."""
_PREFACE_BYTES: Final = 24
_HEAD_BYTES: Final = 9
_DATA: Final = 0
_SETTINGS: Final = 4
_ACK: Final = 1
_PREFACE_KIND: Final = -1


class FrameReader:
    """Tracks the frames of one connection, in whatever pieces its bytes arrive."""

    def __init__(self) -> None:
        self.acknowledged = False
        """True once the client has acknowledged the settings, which include the maximum size of headers."""
        self.unacknowledged_bytes = 0
        """Bytes received before the acknowledgement, without payloads of DATA frames, which flow control bounds from
        the start.
        """
        self._kind = _PREFACE_KIND
        self._left = _PREFACE_BYTES
        """Bytes of the payload of the current frame that have not arrived yet."""
        self._head = b""
        """The bytes of the next frame header that have arrived."""

    def feed(self, data: bytes) -> int:
        """Parse `data`, and return the number of small frames whose headers ended in it."""
        small, at, end = 0, 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                at += step
                self._left -= step
                if not self.acknowledged and self._kind != _DATA:
                    self.unacknowledged_bytes += step
                continue
            head = self._head + data[at : at + _HEAD_BYTES - len(self._head)]
            at += len(head) - len(self._head)
            if len(head) < _HEAD_BYTES:
                self._head = head
                break
            self._head = b""
            self._left = head[0] << 16 | head[1] << 8 | head[2]
            self._kind = head[3]
            if self._left < SMALL_BYTES:
                small += 1
            if not self.acknowledged:
                self.unacknowledged_bytes += _HEAD_BYTES
                self.acknowledged = self._kind == _SETTINGS and bool(head[4] & _ACK)
        return small
