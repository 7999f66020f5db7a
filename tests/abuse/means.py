"""The means of an attacker: many connections, raw HTTP at any pace, raw gRPC, and patience."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import Message

from tests.abuse.target import SERVICES, Target

NETWORK: Final = "127.0.0.2"
"""The attackers' address; the innocent person has another."""
PATIENCE_SECONDS: Final = 20.0
BROKEN: Final = "broken off"
UNANSWERED: Final = "unanswered"


async def many(workers: int, until: float, act: Callable[[], Awaitable[str]]) -> Counter[str]:
    """Do something over and over, so many at once, until that time; how each was answered."""
    answers: Counter[str] = Counter()

    async def one() -> None:
        while (left := until - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left + 1):
                    answers[await act()] += 1
            except TimeoutError:  # an OSError too
                answers[UNANSWERED] += 1
            except (OSError, EOFError):
                answers[BROKEN] += 1
                await asyncio.sleep(0.05)

    await asyncio.gather(*(one() for _ in range(workers)))
    return answers


# ---- HTTP


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the gateway."""
    reader, writer = await asyncio.open_connection(*target.gateway, local_addr=(NETWORK, 0), limit=1 << 16)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """The beginning of a request, up to the empty line."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def ask(target: Target, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> str:
    """A request on a connection of its own, of which the answer is read at once; its status."""
    async with connected(target) as (reader, writer):
        length = {"Content-Length": str(len(body))} if body else {}
        writer.write(head(method, path, {"Connection": "close", **length, **headers}) + body)
        # A server that has heard enough may answer and close while this one still writes.
        with suppress(OSError):
            await writer.drain()
        answer = await status(reader)
        with suppress(OSError):
            while await reader.read(1 << 16):
                pass
        return answer


async def keep_asking(target: Target, requests: Sequence[bytes], *, connections: int, until: float) -> Counter[str]:
    """Send these requests one after the other, over and over, on connections that are kept as long as they are."""
    answers: Counter[str] = Counter()

    async def one() -> None:
        async with connected(target) as (reader, writer):
            for request in itertools.cycle(requests):
                if time.monotonic() > until:
                    return
                writer.write(request)
                told = (await reader.readuntil(b"\r\n\r\n")).lower()
                answers[told.split()[1].decode()] += 1
                length = re.search(rb"content-length: *(\d+)", told)
                if length is not None and not request.startswith(b"HEAD "):
                    await reader.readexactly(int(length[1]))
                if b"connection: close" in told:
                    return

    async def again() -> str:
        await one()
        return "a connection"

    return answers + await many(connections, until, again)


async def status(reader: asyncio.StreamReader) -> str:
    """The status of an answer that begins to come."""
    line = await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)
    return line.split()[1].decode() if line else BROKEN


async def sip(target: Target, method: str, path: str, headers: Mapping[str, str], until: float) -> str:
    """Ask, and read the answer by some bytes a second."""
    async with connected(target) as (reader, writer):
        writer.write(head(method, path, headers))
        answer = await status(reader)
        while time.monotonic() < until and await reader.read(1_000):
            await asyncio.sleep(0.3)
        return answer


async def drip(target: Target, request: bytes, until: float) -> str:
    """Send the beginning of a request, and then a byte now and then."""
    async with connected(target) as (reader, writer):
        writer.write(request)
        answer = asyncio.ensure_future(status(reader))
        while time.monotonic() < until and not answer.done():
            writer.write(b"x")
            await asyncio.wait({answer}, timeout=1.0)
        if answer.done():
            return answer.result()
        answer.cancel()
        return UNANSWERED


def bearer(target: Target) -> dict[str, str]:
    """The attacker's token, in a header."""
    return {"Authorization": f"Bearer {target.token}"}


def basic(target: Target) -> dict[str, str]:
    """The attacker's key for WebDAV, in a header."""
    return {"Authorization": "Basic " + base64.b64encode(f"{target.email}:{target.key}".encode()).decode()}


# ---- gRPC


class Calls:
    """gRPC by raw bytes, each call on the next one of some connections."""

    def __init__(self, target: Target, *, connections: int = 4) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]  # Without the option all channels would share one connection.
        self._target = target
        self._channels = {
            name: [
                grpc.aio.insecure_channel(f"{target.host}:{target.ports[name]}", options=options)
                for _ in range(connections)
            ]
            for name in SERVICES
        }
        self._next = 0

    async def __aenter__(self) -> Calls:
        return self

    async def __aexit__(self, *_: object) -> None:
        for channels in self._channels.values():
            for channel in channels:
                await channel.close(None)

    async def unary(self, service: str, method: str, request: Message | bytes, *, token: str | None = None) -> str:
        """The code of an answer."""
        call: Any = self._channel(service).unary_unary(_path(service, method))
        return await _code(call(_raw(request), metadata=self._metadata(token), timeout=PATIENCE_SECONDS))

    def stream(self, service: str, method: str, *requests: Message | bytes) -> Any:
        """A call of one request that is answered by a stream, of which nothing is read yet."""
        call: Any = self._channel(service).unary_stream(_path(service, method))
        return call(_raw(requests[0]), metadata=self._metadata(None))

    def both(self, service: str, method: str, messages: list[bytes] | None = None) -> Any:
        """A call in both directions: with these messages, or to be written to."""
        call: Any = self._channel(service).stream_stream(_path(service, method))
        return call(None if messages is None else iter(messages), metadata=self._metadata(None))

    def _channel(self, service: str) -> grpc.aio.Channel:
        self._next += 1
        channels = self._channels[service]
        return channels[self._next % len(channels)]

    def _metadata(self, token: str | None) -> list[tuple[str, str]]:
        token = self._target.token if token is None else token
        return [("authorization", f"Bearer {token}")] if token else []


def _path(service: str, method: str) -> str:
    return f"/syncline.{service}.v1.{service.capitalize()}Service/{method}"


def _raw(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


async def _code(call: Awaitable[object]) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def finished(call: Any) -> str:
    """Read all answers of a call; its code."""
    with suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    # grpc.aio says this of a call that was ended while it was sending, whatever the server's status is.
    if await call.details() == "Internal error from Core":
        return BROKEN
    code = await call.code()
    return str(code.name)


async def unread(calls: list[Any], until: float) -> Counter[str]:
    """Keep streams open without reading from them."""
    await asyncio.sleep(max(0.0, until - time.monotonic()))
    answers: Counter[str] = Counter()
    for call in calls:
        answers["still open" if not call.done() else (await call.code()).name] += 1
        call.cancel()
    return answers
