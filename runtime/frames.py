"""Read the heads of the HTTP/2 frames that a client sends (RFC 9113), and nothing else of them."""

from __future__ import annotations

from typing import Final

SMALL_BYTES: Final = 1_024
"""Frames with a smaller payload count as small: grpc works for each frame, however little it brings."""
_PREFACE_BYTES: Final = 24
_HEAD_BYTES: Final = 9
_DATA: Final = 0
_SETTINGS: Final = 4
_ACK: Final = 1
_PREFACE_KIND: Final = -1


class FrameReader:
    """Follows the frames of one connection, in whatever pieces its bytes come."""

    def __init__(self) -> None:
        self.acknowledged = False
        """True once the client has acknowledged settings, among them the maximum size of headers."""
        self.unacknowledged_bytes = 0
        """Bytes that came before that, without payloads of DATA, which have windows from the beginning."""
        self._kind = _PREFACE_KIND
        self._left = _PREFACE_BYTES
        """Bytes of the payload of this frame that are still to come."""
        self._head = b""
        """The part of the next head that has come."""

    def feed(self, data: bytes) -> int:
        """Read on, and return the number of small frames whose heads ended in `data`."""
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
