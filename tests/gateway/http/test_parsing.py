"""Bodies that take long to parse: together they have a part of the event loop's time, and callers take turns."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.http.parsing import ParsingTime
from runtime.pool import Share
from tests.gateway.fakes import SPACE, TOKEN, gateway
from tests.gateway.http.test_connections import closed, connect

_SECONDS = 60.0
LARGE = 100_000


async def test_callers_take_turns_however_many_bodies_one_has():
    parsing, order = ParsingTime(10**9), list[str]()

    async def one(caller: str) -> None:
        await parsing.take(Share.alone(caller), size=LARGE, parts=10)
        order.append(caller)

    async with asyncio.timeout(_SECONDS):
        await asyncio.gather(*(one("mallory") for _ in range(30)), one("ann"))
    assert len(order) == 31
    assert "ann" in order[:3]


async def test_bodies_wait_until_the_one_before_is_paid_for():
    """By its bytes, and by 20 for each of its parts."""
    parsing, loop = ParsingTime(1_000_000), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(4):
        await parsing.take(Share.alone("mallory"), size=70_000, parts=1_500)
    assert loop.time() - began >= 3 * 0.1 - 0.01


def _post(path: str, body: Any, *, size: int = 0) -> bytes:
    raw = json.dumps(body).encode().ljust(size)
    lines = [
        f"POST {path} HTTP/1.1",
        "host: x",
        "content-type: application/json",
        f"authorization: Bearer {TOKEN}",
        f"content-length: {len(raw)}",
    ]
    return "\r\n".join([*lines, "\r\n"]).encode() + raw


async def test_a_body_that_is_refused_is_paid_for_and_keeps_nobody_else_waiting():
    # Minutes pay for the bytes that are parsed.
    async with gateway(parsed_bytes_per_second=1024) as world, AsyncExitStack() as opened:
        world.file("a.txt", [b"some bytes"])
        wrong = {"objects": [{"sha256": "x", "size": 1}]}

        async def sent(request: bytes) -> asyncio.StreamReader:
            reader, writer = await connect(world.address)
            opened.push_async_callback(closed, writer)
            writer.write(request)
            return reader

        async def status(reader: asyncio.StreamReader) -> bytes:
            async with asyncio.timeout(_SECONDS):
                return (await reader.readuntil(b"\r\n\r\n")).split()[1]

        first = await sent(_post(f"/v1/spaces/{SPACE}/objects", wrong, size=LARGE))
        assert await status(first) == b"400"
        second = asyncio.create_task(status(await sent(_post(f"/v1/spaces/{SPACE}/objects", wrong, size=LARGE))))
        # Everything else goes on: what has no body, and what has a small one.
        assert (await world.get("a.txt")).body == b"some bytes"
        assert await status(await sent(_post(f"/v1/spaces/{SPACE}/objects", wrong))) == b"400"
        assert await status(await sent(_post(f"/v1/spaces/{SPACE}/objects", wrong, size=20_000))) == b"400"
        assert not second.done()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second


async def test_who_waits_too_long_is_told_to_come_again(monkeypatch):
    monkeypatch.setattr("runtime.pool.MAX_WAITERS", 0)
    async with gateway(parsed_bytes_per_second=1024) as world, AsyncExitStack() as opened:
        for status in (b"400", b"429"):
            reader, writer = await connect(world.address)
            opened.push_async_callback(closed, writer)
            writer.write(_post(f"/v1/spaces/{SPACE}/objects", {}, size=LARGE))
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            assert head.split()[1] == status
            assert (b"retry-after: 5" in head) == (status == b"429")
