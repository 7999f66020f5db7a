"""A service keeps only so much of frames that are no calls, however many come."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psutil
import pytest

from runtime.rpc.frames import SMALL_FRAME_BYTES, FrameReader
from runtime.rpc.intake import HANDSHAKE_SECONDS, MAX_UNACKNOWLEDGED_BYTES, READ_BYTES
from tests.runtime import echo
from tests.runtime.frames import ACKNOWLEDGEMENT, BEGINNING, FLOODS, UNACKNOWLEDGED, flood, frame, whole_calls
from tests.runtime.rpc.test_server import process, until_closed

CONNECTIONS = 32
SECONDS = 2.0
MOST_GROWTH = 64_000_000
"""Beside what connections read ahead, what grpc and its allocator take for them, and for refusals of their calls."""
UNACKNOWLEDGED_GROWTH = 64_000_000
"""Bytes by which a process grows at most while eight connections send headers before they acknowledge the settings."""


@asynccontextmanager
async def growth(pid: int) -> AsyncIterator[list[int]]:
    """The most bytes by which a process has grown meanwhile, in a list."""
    one = psutil.Process(pid)
    before = one.memory_info().rss
    most = [0]

    async def watch() -> None:
        while True:
            most[0] = max(most[0], one.memory_info().rss - before)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield most
    finally:
        watching.cancel()


SMALL = [frame(6, 0, 0, bytes(8)), frame(0, 0, 1), frame(9, 0, 1, bytes(SMALL_FRAME_BYTES - 1))]
LARGE = [frame(0, 0, 1, bytes(SMALL_FRAME_BYTES)), frame(0, 0, 1, bytes(16_384))]


def read(reader: FrameReader, sent: bytes, size: int) -> None:
    """Have all of it read, in pieces of so many bytes, with what was not read of the ones before."""
    rest = b""
    for at in range(0, len(sent), size):
        piece = rest + sent[at : at + size]
        rest = piece[reader.feed(piece, math.inf) :]
    assert rest == b""


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 10, 64, 1_000, 100_000])
def test_frames_are_counted_in_whatever_pieces_they_come(size: int) -> None:
    beginning, _ = FLOODS["pings"]
    unacknowledged = beginning.index(ACKNOWLEDGEMENT) + len(ACKNOWLEDGEMENT)
    frames = [*SMALL, *LARGE] * 5 + SMALL
    sent = beginning + b"".join(frames)
    reader = FrameReader()
    read(reader, sent, size)
    assert reader.small == 2 + 6 * len(SMALL)  # Settings and their acknowledgement are small, too.
    assert reader.acknowledged
    assert reader.unacknowledged_bytes == unacknowledged


@pytest.mark.parametrize("size", [1, 9, 100, 100_000])
def test_payloads_of_data_are_no_bytes_before_the_acknowledgement(size: int) -> None:
    beginning, _ = UNACKNOWLEDGED
    data = frame(0, 0, 1, bytes(20_000))
    sent = beginning + data * 3
    reader = FrameReader()
    read(reader, sent, size)
    assert not reader.acknowledged
    assert reader.unacknowledged_bytes == len(beginning) + 3 * len(frame(0, 0, 1))


def test_no_more_calls_are_read_than_may_begin() -> None:
    """Frames that belong to calls that have begun are read on, whatever they are."""
    calls = [*itertools.islice(whole_calls(b"/x.Y/Z", token=b"x", message=b"y"), 10)]
    sent, reader = b"".join(calls), FrameReader()
    reader.feed(BEGINNING, 0)
    first = reader.feed(sent, 3)
    assert (first, reader.calls) == (len(b"".join(calls[:3])), 3)
    trailers = frame(1, 5, 5)
    assert reader.feed(trailers, 0) == len(trailers)
    assert reader.feed(sent[first:], 0) == 0
    assert reader.feed(sent[first:], 100) == len(sent) - first
    assert reader.calls == 10


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_frames_takes_little_memory(kind: str) -> None:
    async with process() as (child, target), echo.connect(target) as channel:
        host, _, port = target.rpartition(":")
        assert await channel.unary_unary(echo.path("Slow"))(b"0") == b"done"
        async with growth(child.pid) as most:
            until = time.monotonic() + SECONDS
            sent, ended = await flood(host, int(port), FLOODS[kind], until, connections=CONNECTIONS, source="127.0.0.2")
        assert sent > 0 or ended > 0
        assert most[0] < CONNECTIONS * READ_BYTES + MOST_GROWTH
        assert await channel.unary_unary(echo.path("Slow"))(b"0") == b"done"


async def test_whoever_does_not_acknowledge_the_settings_has_headers_of_some_size_and_is_gone_soon() -> None:
    async with process() as (child, target):
        host, _, port = target.rpartition(":")
        async with growth(child.pid) as most:
            until = time.monotonic() + SECONDS
            _, ended = await flood(host, int(port), UNACKNOWLEDGED, until, connections=8, source="127.0.0.2")
        assert ended >= 8
        assert most[0] < UNACKNOWLEDGED_GROWTH
        async with echo.connect(target) as channel:
            assert await channel.unary_unary(echo.path("Slow"))(b"0") == b"done"
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(3 * HANDSHAKE_SECONDS):
            writer.write(UNACKNOWLEDGED[0])
            await until_closed(reader)
        writer.close()


async def test_headers_before_the_settings_are_acknowledged_have_few_bytes() -> None:
    async with process() as (_, target):
        host, _, port = target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(UNACKNOWLEDGED[0])
        sent = 0
        with suppress(ConnectionError):
            while sent < 8 * MAX_UNACKNOWLEDGED_BYTES:
                writer.write(UNACKNOWLEDGED[1])
                await writer.drain()
                await asyncio.sleep(0)
                sent += len(UNACKNOWLEDGED[1])
        async with asyncio.timeout(HANDSHAKE_SECONDS / 2):  # before grpc gives it up
            await until_closed(reader)
        writer.close()
