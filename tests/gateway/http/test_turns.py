"""Networks take turns with their requests, and so do the people of one, whatever connections they have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.bootstrap import bootstrap
from gateway.serving import running_gateway
from tests.gateway.fakes import SPACE, TOKEN, World, adapters, services, settings

_SECONDS: Final = 60.0
_MALLORY: Final = "127.0.0.2"
_ANN: Final = "127.0.0.3"


class Begun:
    """An application that notes which requests are begun, in order, as client and value of the header `x-number`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.order: list[tuple[str, str]] = []
        self.read: list[str] = []
        """From whom a part of a body was read, in order."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = dict(scope["headers"]).get(b"x-number", b"").decode()
        self.order.append((scope["client"][0], number))

        async def reading() -> Message:
            message = await receive()
            self.read.append(scope["client"][0])
            return message

        await self._app(scope, reading, send)


@asynccontextmanager
async def noting() -> AsyncIterator[tuple[World, Begun]]:
    """A gateway, of which is noted what it begins."""
    world = World()
    async with services(world) as (auth, metadata):
        used = settings(auth_target=auth, metadata_target=metadata, trusted_networks="127.0.0.1/32")
        async with bootstrap(used, adapters(world.objects)) as made:
            begun = Begun(made.app)
            async with running_gateway(replace(made, app=begun), used) as world.address:
                yield world, begun


class Connection:
    """A kept connection from an address of this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def of(cls, opened: AsyncExitStack, world: World, source: str) -> Connection:
        host, _, port = world.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
        opened.callback(writer.close)
        return cls(reader, writer)

    def send(self, number: int, *, target: str = "/healthz", token: str = "") -> None:
        """A request, in one piece."""
        known = f"authorization: Bearer {token}\r\n" if token else ""
        self._writer.write(f"GET {target} HTTP/1.1\r\nhost: x\r\nx-number: {number}\r\n{known}\r\n".encode())

    def send_part(self, part: bytes) -> None:
        """A part of a request, in one piece."""
        self._writer.write(part)

    async def answer(self) -> int:
        """The status of the next answer, which is read whole."""
        async with asyncio.timeout(_SECONDS):
            head = await self._reader.readuntil(b"\r\n\r\n")
            (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await self._reader.readexactly(int(length.partition(b":")[2]))
        return int(head.split()[1])


async def test_many_connections_of_one_network_get_no_more_turns_than_one_of_another():
    async with noting() as (world, begun), AsyncExitStack() as opened:
        attackers = [await Connection.of(opened, world, _MALLORY) for _ in range(40)]
        ann = await Connection.of(opened, world, _ANN)
        for number in range(2):  # the first requests load modules, and are no measure
            ann.send(number)
            await ann.answer()
        begun.order.clear()
        # The server runs on this loop, so it finds all of them at once.
        for connection in attackers:
            for number in range(10):
                connection.send(number)
        ann.send(99)
        assert await ann.answer() == 200
        at = begun.order.index((_ANN, "99"))
        assert at <= 2, begun.order[:10]
        for connection in attackers:
            assert [await connection.answer() for _ in range(10)] == [200] * 10


async def test_one_request_begins_in_each_round_of_the_loop():
    async with noting() as (world, begun), AsyncExitStack() as opened:
        attackers = [await Connection.of(opened, world, _MALLORY) for _ in range(40)]
        for connection in attackers:
            for number in range(5):
                connection.send(number)
        most = 0
        async with asyncio.timeout(_SECONDS):
            while len(begun.order) < 200:
                before = len(begun.order)
                await asyncio.sleep(0)
                most = max(most, len(begun.order) - before)
        assert most == 1
        for connection in attackers:
            assert [await connection.answer() for _ in range(5)] == [200] * 5


async def test_who_is_known_does_not_wait_for_the_strangers_of_the_same_network():
    async with noting() as (world, begun), AsyncExitStack() as opened:
        world.file("a.txt", [b"some bytes"])
        strangers = [await Connection.of(opened, world, _ANN) for _ in range(40)]
        known, false = [await Connection.of(opened, world, _ANN) for _ in range(2)]
        target = f"/v1/spaces/{SPACE}/content/a.txt"
        known.send(1, target=target, token=TOKEN)
        assert await known.answer() == 200
        false.send(1, target=target, token="made.up-1")
        assert await false.answer() == 401
        begun.order.clear()
        for connection in strangers:
            connection.send(0)
        false.send(77, target=target, token="made.up-1")
        known.send(99, target=target, token=TOKEN)
        assert (await known.answer(), await false.answer()) == (200, 401)
        numbers = [number for _, number in begun.order]
        assert numbers.index("99") <= 2
        assert numbers.index("77") > numbers.index("99"), "who was refused counts as a stranger"
        for connection in strangers:
            assert await connection.answer() == 200


async def test_who_has_gone_takes_no_turn():
    async with noting() as (world, begun), AsyncExitStack() as opened:
        async with AsyncExitStack() as gone:
            for connection in [await Connection.of(gone, world, _MALLORY) for _ in range(40)]:
                connection.send(0)
        ann = await Connection.of(opened, world, _ANN)
        ann.send(99)
        assert await ann.answer() == 200
        ann.send(100)
        assert await ann.answer() == 200
        assert len(begun.order) < 2 + 30, "40 were sent, and nearly all had gone before their turn"


async def test_parts_of_bodies_are_read_in_turns_too():
    head = (
        b"POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    async with noting() as (world, begun), AsyncExitStack() as opened:
        attackers = [await Connection.of(opened, world, _MALLORY) for _ in range(40)]
        ann = await Connection.of(opened, world, _ANN)
        for connection in [*attackers, ann]:
            connection.send_part(head)
        async with asyncio.timeout(_SECONDS):
            while len(begun.order) < 41:
                await asyncio.sleep(0.01)
        for connection in [*attackers, ann]:
            connection.send_part(b"1\r\n \r\n")
        most = 0
        async with asyncio.timeout(_SECONDS):
            while len(begun.read) < 41:
                before = len(begun.read)
                await asyncio.sleep(0)
                most = max(most, len(begun.read) - before)
        assert begun.read.index(_ANN) <= 2, "one network has one piece read where another has one"
        assert most == 1
