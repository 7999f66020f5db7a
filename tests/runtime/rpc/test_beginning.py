"""The call that begins next: networks take turns, and so do the people of one, however many calls each makes."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network
from itertools import count, cycle, islice, pairwise
from statistics import median
from typing import Any

import grpc
from pydantic import SecretStr

from runtime.identity import Identity, current_identity, set_identity
from runtime.permissions import PEOPLE, RPCS
from runtime.pool import Share
from runtime.rpc.beginning import BEGUN_SECONDS, IDLE_SECONDS, MAX_BEGUN_CALLS, Beginning, Beginnings
from runtime.rpc.server import MAX_STREAMS_PER_CONNECTION, App, running
from runtime.settings import ServiceSettings
from syncline.model.errors import TokenExpired
from syncline.model.identifiers import DeviceId, UserId
from tests.runtime import echo
from tests.runtime.connections import connect
from tests.runtime.frames import BEGINNING, whole_calls
from tests.runtime.http2 import Http2, http2

MANY = 200
"""Fewer calls than one connection may have under way."""
ROUNDS = 10
"""Rounds of the loop that a call takes."""


class Doorkeeper:
    async def verify(self, token: str) -> Identity:
        return Identity(UserId(token), DeviceId("laptop"), token=token)


class Noted:
    """The calls in the order in which they began, and in that in which they ended."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    async def call(self, request: bytes, _context: Any) -> bytes:
        caller = current_identity()
        self.begun.append(caller.user)
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        self.ended.append(caller.user)
        return request


@asynccontextmanager
async def noting() -> AsyncIterator[tuple[Noted, str]]:
    noted = Noted()
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        drain_seconds=0,
        grace_seconds=0,
        trusted_networks=(IPv4Network("127.0.0.1/32"),),
        service_secret=SecretStr("s" * 32),
    )
    operations = dict(RPCS) | {"test.Echo/Call": PEOPLE}
    app = App(
        name="test", mounts=[echo.mount(Call=echo.unary(noted.call))], verifier=Doorkeeper(), operations=operations
    )
    async with running(app, settings) as target:
        yield noted, target


def calls(connection: Http2, user: str, count: int, *, network: str = "192.0.2.1") -> None:
    for _ in range(count):
        connection.begin(echo.path("Call"), token=user, message=b"x", forwarded=network)


@asynccontextmanager
async def busy(connection: Http2, noted: Noted, *users: str) -> AsyncIterator[None]:
    """Meanwhile MANY calls of these users wait: for each that ends another one comes."""

    async def keep_busy() -> None:
        for answered, user in zip(count(1), cycle(users), strict=False):
            await connection.until(partial(lambda most: len(connection.codes) >= most, answered))
            calls(connection, user, 1)

    for number in range(MANY):
        calls(connection, users[number % len(users)], 1)
    calling = asyncio.create_task(keep_busy())
    while len(noted.ended) < 4 * MANY:  # until gRPC has handed in all that came at once
        await asyncio.sleep(0)
    yield
    calling.cancel()


async def calls_begun_before(
    noted: Noted, connection: Http2, user: str, number: int, *, network: str = "192.0.2.1"
) -> int:
    """Make call `number` of a connection; the calls that began between its being sent and its beginning."""
    begun = len(noted.begun)
    calls(connection, user, 1, network=network)
    await ended(connection, number)
    return noted.begun.index(user, begun) - begun


@asynccontextmanager
async def begun(beginnings: Beginnings, share: Share) -> AsyncIterator[None]:
    end = await beginnings.begin(share)
    yield
    end()


async def ended(connection: Http2, count: int) -> None:
    await connection.until(lambda: len(connection.codes) == count)
    assert set(connection.codes.values()) == {"0"}


async def test_the_call_of_one_person_does_not_wait_for_many_calls_of_another() -> None:
    async with (
        noting() as (noted, target),
        http2(target) as many,
        http2(target) as one,
        busy(many, noted, "mallory"),
    ):
        before = [await calls_begun_before(noted, one, "ann", number) for number in range(1, 41)]
    assert median(before) < MANY / 4  # gRPC handed these in before.


async def test_many_accounts_of_one_network_have_no_more_turns_than_one_of_another() -> None:
    async with (
        noting() as (noted, target),
        http2(target) as many,
        http2(target) as one,
        busy(many, noted, *(f"mallory {number}" for number in range(20))),
    ):
        before = [await calls_begun_before(noted, one, "ann", number, network="192.0.2.2") for number in range(1, 41)]
    assert median(before) < MANY / 4  # gRPC handed these in before.


async def test_calls_on_many_connections_are_not_all_handed_in_before_one_of_another_network() -> None:
    connections, calls_of_each = 20, MAX_STREAMS_PER_CONNECTION - 1
    one_after_the_other = whole_calls(echo.path("Call").encode(), token=b"mallory", message=b"x")
    said = b"".join([BEGINNING, *islice(one_after_the_other, calls_of_each)])
    async with noting() as (noted, target), AsyncExitStack() as many, http2(target, source="127.0.0.3") as one:
        for _ in range(connections):
            _, writer = await connect(many, int(target.rpartition(":")[2]), "127.0.0.2")
            writer.write(said)
        async with asyncio.timeout(60):
            while not noted.begun:
                await asyncio.sleep(0)
        calls(one, "ann", 1)
        await ended(one, 1)
        before = noted.begun.index("ann")
    assert before < connections * calls_of_each / 20


async def test_one_call_of_a_network_begins_at_a_time_and_callers_take_turns() -> None:
    beginnings, over = Beginnings(), asyncio.Event()
    order: list[str] = []

    async def call(share: Share) -> None:
        async with begun(beginnings, share):
            order.append(share.caller)
            await over.wait()

    people = {"mallory": "office", "max": "office", "ann": "office", "ben": "home"}
    waiting = [asyncio.create_task(call(Share(one, people[one]))) for one in people for _ in range(20)]
    await asyncio.sleep(0)
    assert order == ["mallory", "ben"]
    over.set()
    await asyncio.gather(*waiting)
    assert Counter(order) == dict.fromkeys(people, 20)
    assert [one for one in order if one != "ben"][:7] == ["mallory", "mallory", "max", "ann", "mallory", "max", "ann"]


async def test_so_many_networks_begin_calls_at_a_time() -> None:
    beginnings, over = Beginnings(), asyncio.Event()
    number_begun = 0

    async def call(share: Share) -> None:
        nonlocal number_begun
        async with begun(beginnings, share):
            number_begun += 1
            await over.wait()

    waiting = [asyncio.create_task(call(Share.alone(f"{number}"))) for number in range(3 * MAX_BEGUN_CALLS)]
    await asyncio.sleep(0)
    assert number_begun == MAX_BEGUN_CALLS
    over.set()
    await asyncio.gather(*waiting)


async def test_a_call_that_takes_long_stops_no_other_of_its_caller() -> None:
    beginnings, share = Beginnings(), Share("ann", "home")
    async with AsyncExitStack() as under_way:
        async with asyncio.timeout(60):
            for _ in range(3 * MAX_BEGUN_CALLS):
                await under_way.enter_async_context(begun(beginnings, share))


async def test_calls_of_one_network_do_not_wait_for_each_other_while_the_loop_is_idle() -> None:
    """The clock stands, so that no time passes after which a call would count as over, and none comes to its end."""
    beginnings = Beginnings(clock=lambda: 0.0)
    async with AsyncExitStack() as under_way, asyncio.timeout(60):
        for number in range(3 * MAX_BEGUN_CALLS):
            await under_way.enter_async_context(begun(beginnings, Share(f"{number}", "office")))


async def test_calls_of_one_network_wait_for_each_other_while_the_loop_is_busy() -> None:
    """The clock makes each round as long as if the loop had much to do in it."""
    looks = count()
    beginnings = Beginnings(clock=lambda: next(looks) * IDLE_SECONDS)
    over, waiting = asyncio.Event(), 10
    told: list[int] = []

    async def call() -> None:
        async with begun(beginnings, Share("ann", "office")):
            told.append(next(looks))
            await over.wait()

    async with asyncio.timeout(60), asyncio.TaskGroup() as calls:
        for _ in range(waiting):
            calls.create_task(call())
        while len(told) < waiting:
            await asyncio.sleep(0)
        over.set()
    least = round(BEGUN_SECONDS / IDLE_SECONDS)
    assert all(later - earlier >= least for earlier, later in pairwise(told))


async def test_a_call_whose_token_expires_while_it_waits_for_its_turn_is_refused() -> None:
    expires_at = time.time() + 0.05
    called: list[str] = []

    async def call(request: str, _context: Any) -> None:
        called.append(request)
        await asyncio.sleep(0)  # The other call waits for its turn from here on.
        while time.time() <= expires_at:
            pass  # Nothing else runs, and so no turn is given, until the token has expired.

    wrapped = await Beginning(Beginnings()).intercept_service(handler_of(echo.unary(call)), Details("/test.Echo/Call"))
    begin: Any = wrapped.unary_unary if wrapped is not None else None

    async def called_by(user: str, until: float) -> None:
        set_identity(Identity(UserId(user), DeviceId("laptop"), expires_at=until))
        await begin(user, None)

    first, second = await asyncio.gather(
        called_by("ann", math.inf), called_by("ben", expires_at), return_exceptions=True
    )
    assert first is None
    assert isinstance(second, TokenExpired)
    assert called == ["ann"]


def handler_of(handler: Any) -> Callable[[grpc.HandlerCallDetails], Awaitable[Any]]:
    async def found(_details: grpc.HandlerCallDetails) -> Any:
        return handler

    return found


@dataclass
class Details:
    """A call as grpc describes it to an interceptor."""

    method: str
    invocation_metadata: Any = ()


async def test_who_gives_up_takes_no_turn() -> None:
    beginnings, mallory, ann = Beginnings(), Share("mallory", "office"), Share("ann", "office")

    async def call(share: Share) -> None:
        async with begun(beginnings, share):
            pass

    async with begun(beginnings, mallory):
        waiting = [asyncio.create_task(call(mallory)) for _ in range(50)]
        await asyncio.sleep(0)
        one = asyncio.create_task(call(ann))
        await asyncio.sleep(0)
        for given_up in waiting:
            given_up.cancel()
        await asyncio.sleep(0)
        assert not one.done()
    await one
    async with begun(beginnings, mallory):
        pass
