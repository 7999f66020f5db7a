"""A stream of events ends with a problem, whoever ends it and however."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import pytest

from runtime.rpc.server import App, running
from syncline.model.errors import DeviceRevoked, TokenExpired
from syncline.notify.v1 import notify_pb2
from syncline.notify.v1.notify_pb2_grpc import NotifyServiceServicer, add_NotifyServiceServicer_to_server
from tests.gateway.fakes import KEY, SPACE, TOKEN, World, gateway
from tests.support.tokens import unproven_token

NUMBERS = itertools.count()
HEARTBEAT = notify_pb2.WatchResponse(heartbeat=notify_pb2.Heartbeat())
BELL = notify_pb2.WatchResponse(doorbell=notify_pb2.Doorbell(space_id=SPACE, seq=7))


class Notify(NotifyServiceServicer):
    """Sends messages; then ends with OK, as servers of an older release do that stop, or fails, or goes on."""

    def __init__(self, *messages: notify_pb2.WatchResponse, error: Exception | None = None, lasting: bool = False):
        self.messages = messages
        self.error = error
        self.lasting = lasting

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[notify_pb2.WatchResponse]:  # noqa: N802
        for message in self.messages:
            yield message
        if self.error:
            raise self.error
        if self.lasting:
            await asyncio.Event().wait()


def notify(*messages: notify_pb2.WatchResponse, error: Exception | None = None, lasting: bool = False) -> Notify:
    return Notify(*messages, error=error, lasting=lasting)  # type: ignore[abstract]  # it has what a test needs


@asynccontextmanager
async def served(servicer: NotifyServiceServicer) -> AsyncIterator[tuple[World, App]]:
    app = App(name="notify", mounts=[partial(add_NotifyServiceServicer_to_server, servicer)])
    async with running(app) as target, gateway(notify_target=target) as world:
        yield world, app


async def events(world: World, token: str = TOKEN) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """Events until the body is complete as HTTP has it. Raise IncompleteReadError if it breaks off."""
    host, _, port = world.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"GET /v1/events?space={SPACE} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        while size := int(await reader.readline(), 16):
            name, data, *_ = (await reader.readexactly(size + 2)).decode().splitlines()
            yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("servicer", "reason"),
    [
        (notify(HEARTBEAT, BELL), "UNAVAILABLE"),
        (notify(HEARTBEAT, BELL, error=DeviceRevoked()), "DEVICE_REVOKED"),
    ],
    ids=["ended with OK", "failed"],
)
async def test_the_last_event_says_why_there_are_no_more(servicer: Notify, reason: str) -> None:
    async with served(servicer) as (world, _):
        found = [event async for event in events(world)]
    assert found[:2] == [("heartbeat", {}), ("doorbell", {"space_id": SPACE, "seq": 7})]
    ((name, told),) = found[2:]
    assert (name, told["reason"]) == ("problem", reason)


def notify_stops(_world: World, app: App) -> None:
    app.drain.begin()


def gateway_stops(world: World, _app: App) -> None:
    assert world.gateway
    world.gateway.drain.begin()


@pytest.mark.parametrize("stop", [notify_stops, gateway_stops])
async def test_who_stops_ends_events_with_a_problem(stop: Callable[[World, App], None]) -> None:
    async with served(notify(HEARTBEAT, lasting=True)) as (world, app):
        listening = events(world)
        assert await anext(listening) == ("heartbeat", {})
        stop(world, app)
        name, told = await anext(listening)
        assert (name, told["reason"]) == ("problem", "DRAINING")
        assert [event async for event in listening] == []


async def test_a_watch_that_never_began_is_no_stream_of_events() -> None:
    """The first event would promise that nothing goes unannounced."""
    async with served(notify()) as (world, _):
        answer = await world.ask(f"/v1/events?space={SPACE}", authorization=f"Bearer {TOKEN}")
    assert answer.status == 503
    assert json.loads(answer.body)["reason"] == "UNAVAILABLE"


# -- the token by which it was opened


def key_token(seconds: float) -> str:
    """An access token that expires so many seconds from now, as far as the gateway reads it."""
    return unproven_token(exp=int(time.time() + seconds), jti=next(NUMBERS))


class Successive(NotifyServiceServicer):
    """The first watch expires once the second has begun, and the second rings."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.second = asyncio.Event()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[notify_pb2.WatchResponse]:  # noqa: N802
        self.tokens.append(dict(context.invocation_metadata())["authorization"])
        yield HEARTBEAT
        if len(self.tokens) == 1:
            await self.second.wait()
            raise TokenExpired
        self.second.set()
        yield BELL
        await asyncio.Event().wait()


async def test_events_of_a_key_outlive_its_access_tokens() -> None:
    servicer = Successive()  # type: ignore[abstract]  # it has what a test needs
    async with served(servicer) as (world, _):
        # Renewed when less than half a minute is left, hence at once.
        world.auth.tokens = [key_token(29), key_token(900)]
        found = []
        async with asyncio.timeout(60), aclosing(events(world, KEY)) as told:
            async for event in told:
                found.append(event[0])
                if event[0] == "doorbell":
                    break
    assert found == ["heartbeat", "heartbeat", "doorbell"]
    assert len(set(servicer.tokens)) == 2


async def test_events_end_with_the_key() -> None:
    """There is no later token: what ends the watch ends the events."""
    async with served(notify(HEARTBEAT, error=TokenExpired())) as (world, _):
        token = key_token(20)
        world.auth.tokens = [token] * 3
        async with asyncio.timeout(60):
            found = [event async for event in events(world, KEY)]
    assert [name for name, _ in found] == ["heartbeat", "problem"]
    assert found[-1][1]["reason"] == "TOKEN_EXPIRED"
