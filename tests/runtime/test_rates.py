"""Rates: nobody gets more than theirs, nobody takes of anybody else's, and who waits as they are told is admitted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from pydantic import SecretStr

from runtime.identity import Identity, LinkScope
from runtime.permissions import RPCS, WORK, CallerKind, RequestBound, Work
from runtime.rates import BYTES_PER_CALL, Rate, Rates, charge
from runtime.rpc.server import App, running
from runtime.settings import ServiceSettings
from syncline.model.errors import RateExceeded, SynclineError
from syncline.model.identifiers import DeviceId, LinkId, NodeId, SpaceId, UserId
from syncline.rpc.errors import error_from_rpc
from tests.runtime import echo


class Clock:
    """Time that goes on when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def admitted(rates: Rates, work: Work, caller: str, most: int = 1000) -> int:
    """Return how many calls are admitted at this moment, one after the other."""
    for count in range(most):
        try:
            rates.admit(work, caller)
        except RateExceeded:
            return count
    return most


# -- the arithmetic


def test_a_burst_and_then_the_rate():
    clock = Clock()
    rates = Rates({Work.READ: Rate(2, burst=10)}, clock=clock)
    assert admitted(rates, Work.READ, "ann") == 10
    clock.now += 3
    assert admitted(rates, Work.READ, "ann") == 6
    clock.now += 1000
    assert admitted(rates, Work.READ, "ann") == 10


def test_people_and_kinds_of_work_take_nothing_of_each_other():
    rates = Rates({Work.READ: Rate(1, burst=3), Work.LIST: Rate(1, burst=4)}, clock=Clock())
    assert admitted(rates, Work.READ, "ann") == 3
    assert admitted(rates, Work.READ, "bob") == 3
    assert admitted(rates, Work.LIST, "ann") == 4


def test_whoever_waits_as_told_is_admitted_and_a_moment_earlier_is_not():
    clock = Clock()
    rates = Rates({Work.COMMIT: Rate(4, burst=8)}, clock=clock)
    assert admitted(rates, Work.COMMIT, "ann") == 8
    with pytest.raises(RateExceeded, match="one person may") as refused:
        rates.admit(Work.COMMIT, "ann", 3)
    seconds = refused.value.retry_after_seconds
    assert seconds == 0.75
    assert refused.value.details["work"] == "commit"
    clock.now += seconds - 0.01
    with pytest.raises(RateExceeded):
        rates.admit(Work.COMMIT, "ann", 3)
    clock.now += 0.01
    rates.admit(Work.COMMIT, "ann", 3)


def test_what_is_larger_than_the_burst_needs_all_of_it_and_is_paid_for_afterwards():
    clock = Clock()
    rates = Rates({Work.COMMIT: Rate(1, burst=5)}, clock=clock)
    rates.admit(Work.COMMIT, "ann", 20)
    clock.now += 19.5
    with pytest.raises(RateExceeded):
        rates.admit(Work.COMMIT, "ann", 20)
    clock.now += 0.5
    rates.admit(Work.COMMIT, "ann", 20)


def test_refusals_cost_their_caller_nothing():
    clock = Clock()
    rates = Rates({Work.READ: Rate(1, burst=1)}, clock=clock)
    rates.admit(Work.READ, "ann")
    for _ in range(100):
        with pytest.raises(RateExceeded):
            rates.admit(Work.READ, "ann")
    clock.now += 1
    rates.admit(Work.READ, "ann")


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 12)), max_size=60), st.floats(0.5, 50), st.integers(1, 20))
def test_in_no_span_of_time_does_anybody_get_more_than_burst_and_rate(asked, per_second, burst):
    clock = Clock()
    rates = Rates({Work.READ: Rate(per_second, burst=burst)}, clock=clock)
    got: list[tuple[float, int]] = []
    for pause, calls in asked:
        clock.now += pause
        try:
            rates.admit(Work.READ, "ann", calls)
        except RateExceeded:
            continue
        got.append((clock.now, calls))
    for first, (begin, _) in enumerate(got):
        for last in range(first, len(got)):
            between = [calls for _, calls in got[first : last + 1]]
            assert sum(between) <= max(burst, *between) + (got[last][0] - begin) * per_second + 0.01


def told(rates: Rates, caller: str) -> float:
    """The seconds after which a call would be admitted."""
    with pytest.raises(RateExceeded) as refused:
        rates.admit(Work.READ, caller)
    return refused.value.retry_after_seconds or 0


async def test_a_wait_that_is_broken_off_costs_nothing():
    rates = Rates({Work.READ: Rate(1, burst=5)}, clock=Clock())
    assert admitted(rates, Work.READ, "ann") == 5
    for _ in range(20):
        waiting = asyncio.create_task(rates.take(Work.READ, "ann", 4))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert told(rates, "ann") == 1


async def test_those_who_wait_owe_no_more_than_a_burst_and_one_message():
    rates = Rates({Work.READ: Rate(1, burst=5)}, clock=Clock())
    waiting = [asyncio.create_task(rates.take(Work.READ, "ann", 4)) for _ in range(20)]
    await asyncio.sleep(0)
    assert 0 < told(rates, "ann") <= 5 + 4
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


def test_callers_whose_burst_is_whole_are_forgotten():
    clock = Clock()
    rates = Rates({Work.READ: Rate(1, burst=1)}, clock=clock)
    for number in range(50_000):
        clock.now += 0.01
        rates.admit(Work.READ, f"caller {number}")
    assert len(rates) < 9000


# -- around calls


def settings(**more: Any) -> ServiceSettings:
    return ServiceSettings(
        listen="127.0.0.1:0", drain_seconds=0, grace_seconds=0, service_secret=SecretStr("s" * 32), **more
    )


class Doors:
    """A token is the name of a person and a device, `link X@network` or `service X`."""

    async def verify(self, token: str) -> Identity:
        kind, _, name = token.rpartition(" ")
        if kind == "link":
            link, _, network = name.partition("@")
            scope = LinkScope(LinkId(link), SpaceId("space"), NodeId(bytes(16)))
            return Identity(user=UserId(""), device=DeviceId(""), link=scope, visitor=network, token=token)
        if kind == "service":
            return Identity(user=UserId(""), device=DeviceId(""), service=name, token=token)
        user, _, device = token.partition("@")
        return Identity(user=UserId(user), device=DeviceId(device), token=token)


class Echo:
    """A service whose methods count what gets to them."""

    def __init__(self) -> None:
        self.calls = 0
        self.messages = 0
        self.open = 0

    async def same(self, request: bytes, _context: Any) -> bytes:
        self.calls += 1
        return request

    async def dear(self, request: bytes, _context: Any) -> bytes:
        charge(int(request))
        return request

    async def dear_chat(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            charge(int(request))
            yield request

    async def stay(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            yield b"open"
            await asyncio.Event().wait()
        finally:
            self.open -= 1

    async def chat(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            self.messages += 1
            yield request


def refuse_to_decode(_: bytes) -> bytes:
    raise AssertionError("this was decoded")


@asynccontextmanager
async def served(**more: Any) -> AsyncIterator[tuple[str, Echo]]:
    """An Echo whose Same and Dear read, whose Make makes, and whose Stay, Chat and DearChat are streams."""
    service = Echo()
    mount = echo.mount(
        Same=echo.unary(service.same),
        Make=echo.unary(service.same),
        Dear=echo.unary(service.dear),
        DearChat=echo.chat(service.dear_chat),
        Stay=echo.stream(service.stay),
        Chat=echo.chat(service.chat),
    )
    work = {
        "Same": Work.READ,
        "Dear": Work.READ,
        "Make": Work.MAKE,
        "Stay": Work.STREAM,
        "Chat": Work.STREAM,
        "DearChat": Work.STREAM,
    }
    app = App(
        name="test",
        mounts=[mount],
        verifier=Doors(),
        operations={f"test.Echo/{name}": frozenset(CallerKind) - {CallerKind.ANONYMOUS} for name in work},
        bounds={f"test.Echo/{name}": RequestBound(4 * 1024 * 1024, parsed_bytes_per_byte=1) for name in work},
        work={f"test.Echo/{name}": kind for name, kind in work.items()},
    )
    async with running(app, settings(**more)) as target:
        yield target, service


def laptop(target: str) -> Any:
    """A channel of Ann's laptop."""
    return echo.connect(target, authorization=lambda: "ann@laptop")


async def ask(target: str, token: str, method: str = "Same", request: bytes = b"") -> SynclineError | None:
    """None, or what the service refused with."""
    async with echo.connect(target, authorization=lambda: token) as channel:
        call = channel.unary_unary(echo.path(method))(request)
        if await call.code() is grpc.StatusCode.OK:
            return None
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call
    return error_from_rpc(failed.value)


async def test_one_person_is_refused_whatever_the_device_and_others_are_not():
    counted = {"work": "read"}
    before = REGISTRY.get_sample_value("syncline_rate_refused_total", counted) or 0
    async with served(rate_reads=0.01, rate_burst_seconds=300) as (target, service):
        answers = [await ask(target, f"ann@{device}") for device in ("laptop", "phone", "tv", "laptop", "new")]
        assert [answer and answer.reason for answer in answers] == [None, None, None, "RATE_EXCEEDED", "RATE_EXCEEDED"]
        refused = answers[-1]
        assert refused is not None
        assert 0 < (refused.retry_after_seconds or 0) <= 100
        assert service.calls == 3
        assert await ask(target, "bob@laptop") is None
        assert await ask(target, "ann@laptop", "Make") is None
    assert REGISTRY.get_sample_value("syncline_rate_refused_total", counted) == before + 2


async def test_visitors_of_a_link_from_one_network_have_a_rate_of_their_own_and_services_have_none():
    async with served(rate_reads=0.01, rate_burst_seconds=100) as (target, _):
        links = [await ask(target, f"link {name}") for name in ("one@home", "one@home", "one@office", "two@home")]
        assert [link and link.reason for link in links] == [None, "RATE_EXCEEDED", None, None]
        assert [await ask(target, "service metadata") for _ in range(20)] == [None] * 20


async def test_a_large_request_counts_as_many():
    async with served(rate_reads=0.01, rate_burst_seconds=1000) as (target, service):
        assert await ask(target, "ann@laptop", request=bytes(8 * BYTES_PER_CALL)) is None  # counts as nine of ten
        assert await ask(target, "ann@laptop") is None
        refused = await ask(target, "ann@laptop")
        assert refused is not None
        assert service.calls == 2


async def test_what_a_call_took_beside_its_bytes_is_paid_for_by_the_next_ones():
    async with served(rate_reads=0.01, rate_burst_seconds=1000) as (target, service):
        assert await ask(target, "ann@laptop", "Dear", b"9") is None
        refused = await ask(target, "ann@laptop")
        assert refused is not None
        assert 0 < (refused.retry_after_seconds or 0) <= 100
        assert await ask(target, "bob@laptop", "Dear", b"8") is None
        assert await ask(target, "bob@laptop") is None
        assert await ask(target, "service metadata", "Dear", b"9") is None  # a service owes nothing
        assert await ask(target, "service metadata", "Dear", b"9") is None
        assert service.calls == 1


async def test_what_a_message_of_a_stream_took_slows_its_caller_down():
    async with served(rate_reads=20, rate_burst_seconds=1) as (target, _), laptop(target) as channel:
        call = channel.stream_stream(echo.path("DearChat"))(timeout=60)
        began = asyncio.get_running_loop().time()
        for _ in range(3):
            await call.write(b"20")
            assert await call.read() == b"20"
        await call.done_writing()
        assert asyncio.get_running_loop().time() - began >= 1.0


def test_what_nobody_pays_for_may_be_charged_too():
    charge(1000)


async def test_what_is_refused_is_not_decoded():
    service = Echo()
    app = App(
        name="test",
        mounts=[echo.mount(Same=echo.unary(service.same, request_deserializer=refuse_to_decode))],
        verifier=Doors(),
        operations={"test.Echo/Same": frozenset(CallerKind) - {CallerKind.ANONYMOUS}},
        work={"test.Echo/Same": Work.READ},
    )
    async with running(app, settings(rate_reads=0.01, rate_burst_seconds=1)) as target, laptop(target) as channel:
        call = channel.unary_unary(echo.path("Same"))
        codes = []
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call(b"")
            codes.append(failed.value.code())
    assert codes == [grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED]


async def test_streams_of_one_person_are_so_many_and_those_that_end_make_room():
    async with served(streams_open=3) as (target, service), laptop(target) as channel:
        stay = channel.unary_stream(echo.path("Stay"))
        streams = [stay(b"") for _ in range(3)]
        for stream in streams:
            assert await stream.read() == b"open"
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stay(b"").read()
        refused = error_from_rpc(failed.value)
        assert refused is not None
        assert (refused.reason, refused.retry_after_seconds) == ("RATE_EXCEEDED", 5)
        assert "close some" in str(refused)
        async with echo.connect(target, authorization=lambda: "bob@laptop") as other:
            assert await other.unary_stream(echo.path("Stay"))(b"").read() == b"open"
        streams[0].cancel()
        async with asyncio.timeout(60):
            while service.open > 2:
                await asyncio.sleep(0.01)
        assert await stay(b"").read() == b"open"


async def test_streams_are_opened_at_a_rate():
    async with served(rate_streams=0.01, rate_burst_seconds=200) as (target, _), laptop(target) as channel:
        for expected in (b"open", b"open", None):
            stream = channel.unary_stream(echo.path("Stay"))(b"")
            if expected is None:
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await stream.read()
                assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            else:
                assert await stream.read() == expected
                stream.cancel()


async def test_a_large_request_of_a_stream_counts_as_many():
    async with served(rate_streams=0.01, rate_burst_seconds=1000) as (target, _), laptop(target) as channel:
        stay = channel.unary_stream(echo.path("Stay"))
        assert await stay(bytes(8 * BYTES_PER_CALL)).read() == b"open"  # counts as nine of ten
        assert await stay(b"").read() == b"open"
        call = stay(b"")
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_messages_of_a_stream_are_slowed_down_but_none_is_refused():
    async with served(rate_reads=20, rate_burst_seconds=1) as (target, service), laptop(target) as channel:
        chat = channel.stream_stream(echo.path("Chat"))(iter([b"%d" % number for number in range(40)]))
        began = asyncio.get_running_loop().time()
        assert [answer async for answer in chat] == [b"%d" % number for number in range(40)]
        # Twenty at once, and twenty at twenty a second.
        assert asyncio.get_running_loop().time() - began >= 0.9
        assert service.messages == 40


async def test_a_stream_that_waits_for_its_rate_ends_when_its_reader_goes():
    async with served(rate_reads=0.01, rate_burst_seconds=100) as (target, service), laptop(target) as channel:
        chat = channel.stream_stream(echo.path("Chat"))(iter([b"1", b"2"]))
        assert await chat.read() == b"1"
        chat.cancel()
        async with asyncio.timeout(60):
            for _ in range(2):  # the place comes free each time
                stream = channel.unary_stream(echo.path("Stay"))(b"")
                assert await stream.read() == b"open"
                stream.cancel()
        assert service.messages == 1


# -- the table


def test_every_operation_of_people_has_a_rate_and_every_rate_an_operation():
    open_to_people = {name for name, callers in RPCS.items() if CallerKind.ANONYMOUS not in callers}
    only_services = {name for name, callers in RPCS.items() if callers == {CallerKind.SERVICE}}
    assert set(WORK) == open_to_people - only_services
    # Nobody knows before who trades a secret for a token: auth has rates for networks and secrets.
    assert set(settings().rates()) == set(WORK.values()) == set(Work) - {Work.ANONYMOUS}
