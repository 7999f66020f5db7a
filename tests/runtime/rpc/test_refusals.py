"""Calls that limits refuse again and again are answered late, and nobody else's are."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import grpc
import pytest
from pydantic import SecretStr

from runtime.identity import Identity, current_identity, set_identity
from runtime.network import bind_network
from runtime.permissions import PEOPLE
from runtime.pool import TooMuchAtOnce
from runtime.refusals import (
    MAX_DELAYED_REFUSALS,
    MAX_PAUSE_SECONDS,
    REFUSALS_AT_ONCE,
    REFUSALS_PER_SECOND,
    DelayedRefusals,
    RefusalRate,
)
from runtime.rpc.intake import Intake
from runtime.rpc.interceptors import Rpc
from runtime.rpc.refusals import Refusals
from runtime.rpc.server import App, running
from runtime.settings import ServiceSettings
from syncline.model.errors import NoSuchNode, RateExceeded, SynclineError
from syncline.model.identifiers import DeviceId, UserId
from tests.runtime import echo
from tests.runtime.http2 import Http2, http2

MALLORY, ANN = "127.0.0.2", "127.0.0.3"
AT_ONCE = 100
"""Calls that are under way at once, fewer than a connection may have."""
OK, EXHAUSTED = (str(code.value[0]) for code in (grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED))


class Doorkeeper:
    async def verify(self, token: str) -> Identity:
        return Identity(UserId(token), DeviceId("laptop"), token=token)


async def limited(request: bytes, _context: Any) -> bytes:
    """Refuse everybody but Ann."""
    if current_identity().user != "ann":
        raise TooMuchAtOnce
    return request


@asynccontextmanager
async def service() -> AsyncIterator[str]:
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        drain_seconds=0,
        grace_seconds=0,
        service_secret=SecretStr("s" * 32),
    )
    mount = echo.mount(Call=echo.unary(limited))
    app = App(name="test", mounts=[mount], verifier=Doorkeeper(), operations={"test.Echo/Call": PEOPLE})
    async with running(app, settings) as target:
        yield target


async def call(connection: Http2, user: str, count: int) -> set[str]:
    """Make so many calls, AT_ONCE at a time, each lot when the one before is answered; the codes of all."""
    codes: set[str] = set()
    while count > 0:
        some = [connection.begin(echo.path("Call"), token=user, message=b"x") for _ in range(min(count, AT_ONCE))]
        await connection.until(lambda some=some: all(one in connection.codes for one in some), seconds=60)  # type: ignore[misc]
        codes.update(connection.codes[one] for one in some)
        count -= AT_ONCE
    return codes


async def test_calls_that_are_refused_come_at_a_rate_and_others_at_once() -> None:
    """The lower bound holds however slow the machine is: only the delays make it."""
    beyond = 200
    async with service() as target, http2(target, source=MALLORY) as mallory, http2(target, source=ANN) as ann:
        began = time.monotonic()
        assert await call(mallory, "mallory", REFUSALS_AT_ONCE + beyond) == {EXHAUSTED}
        assert time.monotonic() - began > 0.9 * beyond / REFUSALS_PER_SECOND
        assert await call(ann, "ann", AT_ONCE) == {OK}


class Resting:
    """Notes which connections are not to be read for a while."""

    def __init__(self) -> None:
        self.peers: list[str] = []

    def rest(self, peer: str, _seconds: float) -> None:
        self.peers.append(peer)


class Request(bytes):
    """A request that is found among all objects in memory."""


async def refused(
    refusals: Refusals, error: SynclineError, *, connection: str | None = "ipv4:192.0.2.1:5000", by: str | None = None
) -> None:
    """Make a call that is refused after its request was read; `by` is the service that makes it."""
    is_gateway = by == "the gateway for somebody"
    bind_network("192.0.2.1", connection, from_gateway=is_gateway)
    set_identity(Identity(UserId("mallory"), DeviceId("laptop"), token="x", service=None if is_gateway else by))

    def refuse(_request: Request) -> None:
        raise error

    async with refusals.around(Rpc("/test.Echo/Call", is_unary=True), cast("Any", None)):
        refuse(Request(b"large"))


def above_the_rate() -> tuple[Refusals, Resting]:
    """Refusals, of which the next one of the network has the longest delay, and what they let rest."""
    resting, rate = Resting(), RefusalRate(clock=lambda: 0.0)
    while rate.pause("192.0.2.1") < MAX_PAUSE_SECONDS:
        pass
    return Refusals(cast("Intake", resting), DelayedRefusals(rate)), resting


@pytest.mark.parametrize(
    ("error", "by", "delayed"),
    [
        (TooMuchAtOnce, None, True),
        (partial(RateExceeded, retry_after_seconds="1"), None, True),
        (NoSuchNode, None, False),
        (TooMuchAtOnce, "auth", False),
        (TooMuchAtOnce, "the gateway for somebody", False),
    ],
)
async def test_refusals_by_limits_are_delayed(
    error: Callable[[], SynclineError], by: str | None, delayed: bool
) -> None:
    refusals, resting = above_the_rate()
    calling = asyncio.create_task(refused(refusals, error(), by=by))
    await asyncio.wait({calling}, timeout=0.1 if delayed else 60)
    assert calling.done() is not delayed
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    assert resting.peers == []


async def test_a_call_that_is_delayed_keeps_no_request() -> None:
    refusals, _ = above_the_rate()
    gc.collect()
    calling = asyncio.create_task(refused(refusals, TooMuchAtOnce()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not calling.done()
    assert not [one for one in gc.get_objects() if type(one) is Request]
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)


async def test_connections_rest_when_so_many_calls_are_delayed() -> None:
    refusals, resting = above_the_rate()
    calls = MAX_DELAYED_REFUSALS // 2  # one caller has half of the places
    calling = [asyncio.create_task(refused(refusals, TooMuchAtOnce())) for _ in range(calls)]
    await asyncio.sleep(0)
    assert resting.peers == []
    with pytest.raises(TooMuchAtOnce):
        await refused(refusals, TooMuchAtOnce())
    assert resting.peers == ["ipv4:192.0.2.1:5000"]
    with pytest.raises(TooMuchAtOnce):
        await refused(refusals, TooMuchAtOnce(), connection=None)
    assert len(resting.peers) == 1
    for task in calling:
        task.cancel()
    await asyncio.gather(*calling, return_exceptions=True)
