"""A process serves, drains in the right order and ends; what surrounds each call does its part."""

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from pydantic import SecretStr

from runtime.drain import Drain
from runtime.identity import (
    Identity,
    LinkScope,
    current_identity,
    current_link,
    current_reader,
    current_user,
    forwarded_token,
)
from runtime.logs import structlog
from runtime.permissions import ANYBODY, PEOPLE, READERS, RPCS, CallerKind
from runtime.rpc import reflection
from runtime.rpc.server import MAX_HEALTH_WATCHES, MAX_STREAMS_PER_CONNECTION, App, background, build, running
from runtime.settings import ServiceSettings
from syncline.model.accounts import KeyScope
from syncline.model.errors import Draining, InvalidArgument, TokenExpired, Unauthenticated
from syncline.model.identifiers import DeviceId, LinkId, NodeId, SpaceId, UserId
from syncline.rpc import request_ids
from syncline.rpc.errors import DETAILS_KEY, error_from_rpc
from tests.runtime import echo
from tests.runtime.http2 import http2

SECRET = SecretStr("s" * 32)
ANN = Identity(user=UserId("ann"), device=DeviceId("laptop"), token="good")


GUEST = Identity(
    user=UserId(""),
    device=DeviceId(""),
    link=LinkScope(LinkId("link"), SpaceId("space"), NodeId(bytes(16))),
    token="link",
)


class Doorkeeper:
    async def verify(self, token: str) -> Identity:
        if token == "link":
            return GUEST
        if token != "good":
            raise Unauthenticated("the access token has expired; sign in again")
        return ANN


async def whoami(_request, _context):
    return current_user().user.encode()


async def ids(_request, _context):
    return (request_ids.request_id() or "").encode()


async def call(channel, method="Same", request=b"", **more):
    return await channel.unary_unary(echo.path(method))(request, **more)


# -- who is asking


async def link_of(_request, _context):
    return current_link().link.encode()


async def reader(_request, _context):
    return (current_reader().user or "guest").encode()


async def identity(_request, _context):
    return repr(current_identity().link is not None).encode()


ECHOES = ("Who", "Same", "Ask", "Repeat", "Count", "Double", "Write")
ECHO = dict(RPCS) | dict.fromkeys(map("test.Echo/{}".format, ECHOES), PEOPLE)
HANDLERS = {"Who": whoami, "Link": link_of, "Reader": reader, "Identity": identity}


async def answers(links: set[str], token: str) -> dict[str, str]:
    """Return what each handler says to the holder of this token, or the reason of its refusal."""
    mount = echo.mount(**{name: echo.unary(handler) for name, handler in HANDLERS.items()})
    table = {echo.path(name)[1:]: READERS if name in links else PEOPLE for name in HANDLERS}
    app = App(name="test", mounts=[mount], verifier=Doorkeeper(), operations=table)
    found = {}
    async with running(app) as target, echo.connect(target, authorization=lambda: token) as channel:
        for name in HANDLERS:
            try:
                found[name] = (await call(channel, name)).decode()
            except grpc.aio.AioRpcError as error:
                known = error_from_rpc(error)
                assert known is not None
                found[name] = known.reason
    return found


async def test_a_public_link_gets_only_where_it_may_go():
    denied = "PERMISSION_DENIED"
    assert await answers(set(), "link") == dict.fromkeys(HANDLERS, denied)
    assert await answers({"Identity"}, "link") == dict.fromkeys(HANDLERS, denied) | {"Identity": "True"}
    # Even where it got in, it is nobody for those who ask for a user.
    everywhere = {"Who": denied, "Link": "link", "Reader": "guest", "Identity": "True"}
    assert await answers(set(HANDLERS), "link") == everywhere
    assert await answers({"Link"}, "good") == {"Who": "ann", "Link": denied, "Reader": "ann", "Identity": "False"}


async def test_what_is_missing_in_the_table_is_open_to_nobody():
    mount = echo.mount(Who=echo.unary(whoami))
    app = App(name="test", mounts=[mount], verifier=Doorkeeper(), operations={})
    async with running(app) as target:
        for token, reason in (("good", "PERMISSION_DENIED"), ("link", "PERMISSION_DENIED"), ("bad", "UNAUTHENTICATED")):
            async with echo.connect(target, authorization=lambda token=token: token) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(channel, "Who")
            error = error_from_rpc(caught.value)
            assert error is not None
            assert error.reason == reason


def test_each_identity_is_of_one_kind():
    kinds = {ANN: "SESSION", GUEST: "VISITOR", replace(ANN, scopes=frozenset({KeyScope.READ})): "PROGRAM"}
    service = Identity(user=UserId(""), device=DeviceId(""), service="metadata")
    others = {"ANONYMOUS", "ADMINISTRATOR"}  # there is no identity, or auth asks for the account
    assert {one.kind.name for one in (*kinds, service)} == {kind.name for kind in CallerKind} - others
    assert {one: one.kind.name for one in kinds} == kinds


async def test_identity_reaches_the_handler():
    app = App(name="test", mounts=[echo.mount(Who=echo.unary(whoami))], verifier=Doorkeeper(), operations=ECHO)
    async with running(app) as target, echo.connect(target, authorization=lambda: "good") as channel:
        assert await call(channel, "Who") == b"ann"


@pytest.mark.parametrize("token", [None, "", "bad"])
async def test_without_a_valid_token_nobody_gets_in(token):
    app = App(name="test", mounts=[echo.mount(Who=echo.unary(whoami))], verifier=Doorkeeper(), operations=ECHO)
    async with running(app) as target, echo.connect(target, authorization=lambda: token) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "Who")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert isinstance(error_from_rpc(caught.value), Unauthenticated)


async def test_public_methods_need_no_token_and_have_no_identity():
    mount = echo.mount(Same=echo.unary(echo.same), Who=echo.unary(whoami))
    app = App(name="test", mounts=[mount], verifier=Doorkeeper(), operations=dict.fromkeys(ECHO, ANYBODY))
    async with running(app) as target, echo.connect(target) as channel:
        assert await call(channel, "Same", b"x") == b"x"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "Who")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_goes_on_in_the_callers_name():
    behind = App(name="behind", mounts=[echo.mount(Who=echo.unary(whoami))], verifier=Doorkeeper(), operations=ECHO)
    async with (
        running(behind) as peer,
        echo.connect(peer, authorization=forwarded_token) as channel,
    ):

        async def ask(request, _context):
            return await call(channel, "Who", request)

        front = App(name="front", mounts=[echo.mount(Ask=echo.unary(ask))], verifier=Doorkeeper(), operations=ECHO)
        async with running(front) as target, echo.connect(target, authorization=lambda: "good") as outer:
            assert await call(outer, "Ask") == b"ann"


def test_identity_hides_its_token():
    assert "good" not in repr(ANN)


# -- request ids and logs


async def test_request_id_travels_through_services():
    async with (
        running(App(name="behind", mounts=[echo.mount(Ids=echo.unary(ids))])) as peer,
        echo.connect(peer) as channel,
    ):

        async def ask(request, _context):
            return await call(channel, "Ids", request)

        front = App(name="front", mounts=[echo.mount(Ask=echo.unary(ask))])
        async with running(front) as target, echo.connect(target) as outer:
            assert await call(outer, "Ask", metadata=(("x-request-id", "abc-123"),)) == b"abc-123"
            made = await call(outer, "Ask", metadata=(("x-request-id", "not acceptable"),))
    assert len(made) == 16


async def test_each_call_is_logged_once():
    async def fail(_request, _context):
        raise ValueError

    async def refuse(_request, _context):
        raise Unauthenticated

    mount = echo.mount(Same=echo.unary(echo.same), Fail=echo.unary(fail), Refuse=echo.unary(refuse))
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as events:
        async with running(App(name="test", mounts=[mount])) as target, echo.connect(target) as channel:
            await call(channel, "Same", metadata=(("x-request-id", "abc"),))
            for method in ("Fail", "Refuse"):
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(channel, method)
    calls = [event for event in events if event["event"] == "rpc"]
    assert [(event["method"], event["code"]) for event in calls] == [
        ("/test.Echo/Same", "OK"),
        ("/test.Echo/Fail", "INTERNAL"),
        ("/test.Echo/Refuse", "UNAUTHENTICATED"),
    ]
    assert [event.get("reason") for event in calls] == [None, "INTERNAL", "UNAUTHENTICATED"]
    assert calls[0]["request_id"] == "abc"
    assert calls[0]["duration_ms"] >= 0


# -- deadlines


async def test_unary_calls_without_deadline_get_one():
    cancelled = asyncio.Event()

    async def hang(_request, _context):
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    settings = ServiceSettings(service_secret=SECRET, default_deadline_seconds=0.05, drain_seconds=0, grace_seconds=1)
    app = App(name="test", mounts=[echo.mount(Hang=echo.unary(hang))])
    async with running(app, settings) as target, grpc.aio.insecure_channel(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "Hang")
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.details() == "took longer than 0.05 seconds; ask for less at once, or repeat it"
    (detail,) = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())[DETAILS_KEY]).details
    assert error_details_pb2.ErrorInfo.FromString(detail.value).reason == "DEADLINE_EXCEEDED"
    assert cancelled.is_set()


async def test_a_clients_deadline_and_streams_are_left_alone():
    async def slow(_request, _context):
        await asyncio.sleep(0.2)
        return b"done"

    async def slowly(_request, _context):
        await asyncio.sleep(0.2)
        yield b"done"

    settings = ServiceSettings(service_secret=SECRET, default_deadline_seconds=0.05, drain_seconds=0, grace_seconds=1)
    mount = echo.mount(Slow=echo.unary(slow), Slowly=echo.stream(slowly))
    async with running(App(name="test", mounts=[mount]), settings) as target, echo.connect(target) as channel:
        assert await call(channel, "Slow", timeout=30) == b"done"
        assert [item async for item in channel.unary_stream(echo.path("Slowly"))(b"")] == [b"done"]


async def test_the_channel_gives_unary_calls_a_deadline():
    async def remaining(_request, context):
        return str(context.time_remaining() < 6).encode()

    async def hang(_request, _context):
        await asyncio.sleep(60)

    mount = echo.mount(Remaining=echo.unary(remaining), Hang=echo.unary(hang))
    async with running(App(name="test", mounts=[mount])) as target, echo.connect(target, timeout=5) as channel:
        assert await call(channel, "Remaining") == b"True"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "Hang", timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


# -- all four kinds, and both flavours of channel


async def test_all_kinds_of_calls():
    async def count(requests, _context):
        return str(len([item async for item in requests])).encode()

    async def repeat(request, _context):
        for _ in range(3):
            yield request

    async def double(requests, _context):
        async for item in requests:
            yield item * 2

    async def double_by_writing(requests, context):
        async for item in requests:
            await context.write(item * 2)

    mount = echo.mount(
        Same=echo.unary(echo.same),
        Repeat=echo.stream(repeat),
        Count=echo.upload(count),
        Double=echo.chat(double),
        Write=echo.chat(double_by_writing),
    )
    app = App(name="test", mounts=[mount], verifier=Doorkeeper(), operations=ECHO)

    def by_threads(target):
        with echo.connect_sync(target, authorization=lambda: "good") as channel:
            assert channel.unary_unary(echo.path("Same"))(b"x") == b"x"
            assert channel.unary_unary(echo.path("Same")).future(b"x").result() == b"x"
            assert channel.unary_unary(echo.path("Same")).with_call(b"x")[0] == b"x"
            assert list(channel.unary_stream(echo.path("Repeat"))(b"x")) == [b"x"] * 3
            assert channel.stream_unary(echo.path("Count"))(iter([b"", b""])) == b"2"
            assert list(channel.stream_stream(echo.path("Double"))(iter([b"a", b"b"]))) == [b"aa", b"bb"]

    async with running(app) as target:
        async with echo.connect(target, authorization=lambda: "good") as channel:
            assert await call(channel, "Same", b"x") == b"x"
            assert [item async for item in channel.unary_stream(echo.path("Repeat"))(b"x")] == [b"x"] * 3
            assert await channel.stream_unary(echo.path("Count"))(iter([b"", b""])) == b"2"
            for method in ("Double", "Write"):
                replies = channel.stream_stream(echo.path(method))(iter([b"a", b"b"]))
                assert [item async for item in replies] == [b"aa", b"bb"]
        await asyncio.to_thread(by_threads, target)


async def test_idempotent_calls_are_repeated_and_others_are_not():
    attempts = {"Get": 0, "Put": 0}

    def flaky(name):
        async def handle(_request, context):
            attempts[name] += 1
            if attempts[name] < 3:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
            return b"done"

        return echo.unary(handle)

    app = App(name="test", mounts=[echo.mount(Get=flaky("Get"), Put=flaky("Put"))])
    async with running(app) as target, echo.connect(target, idempotent=["test.Echo/Get"]) as channel:
        assert await call(channel, "Get") == b"done"
        with pytest.raises(grpc.aio.AioRpcError):
            await call(channel, "Put")
    assert attempts == {"Get": 3, "Put": 1}


async def test_a_stream_that_its_client_leaves_is_closed_at_once():
    closed = asyncio.Event()

    async def forever(_request, _context):
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.set()

    async with running(App(name="test", mounts=[echo.mount(Forever=echo.stream(forever))])) as target:
        async with echo.connect(target) as channel:
            async for _ in channel.unary_stream(echo.path("Forever"))(b""):
                break
        async with asyncio.timeout(60):
            await closed.wait()


# -- connections


async def test_one_channel_has_more_streams_than_a_connection_allows():
    async def open_ended(_request, _context):
        yield b"here"
        await asyncio.Event().wait()

    count = 2 * MAX_STREAMS_PER_CONNECTION + 10
    app = App(name="test", mounts=[echo.mount(Watch=echo.stream(open_ended), Same=echo.unary(echo.same))])
    async with running(app) as target, http2(target) as raw:
        await raw.until(lambda: raw.most_streams == MAX_STREAMS_PER_CONNECTION)
        async with echo.connect(target) as channel, asyncio.timeout(60):
            watches = [channel.unary_stream(echo.path("Watch"))(b"") for _ in range(count)]
            assert [await watch.read() for watch in watches] == [b"here"] * count
            assert await call(channel, "Same", b"x") == b"x"
            for watch in watches:
                watch.cancel()


async def test_connections_are_counted_and_silent_ones_end():
    settings = ServiceSettings(service_secret=SECRET, connections=16, drain_seconds=0, grace_seconds=0)
    app = App(name="test", mounts=[echo.mount(Same=echo.unary(echo.same))])
    async with running(app, settings) as target, contextlib.AsyncExitStack() as opened, asyncio.timeout(60):
        host, _, port = target.rpartition(":")
        silent = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection(host, int(port))
            opened.callback(writer.close)
            silent.append(asyncio.create_task(until_closed(reader)))
        while [task.done() for task in silent].count(True) < 12:
            await asyncio.sleep(0.01)
        await asyncio.wait(silent, timeout=1)
        assert [task.done() for task in silent].count(True) == 12, "one network has as many as it leaves free"
        await asyncio.gather(*silent)  # though none of them closed their end
        async with echo.connect(target) as channel:
            assert await call(channel, "Same", b"x") == b"x"


async def until_closed(reader):
    with contextlib.suppress(ConnectionError):
        await reader.read()


# -- health and reflection


async def test_reflection_and_health_that_is_watched_have_little_of_a_process():
    app = App(name="test", mounts=[echo.mount(Same=echo.unary(echo.same))], verifier=Doorkeeper(), operations=ECHO)
    busy = str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    async with running(app) as target, http2(target) as greedy, echo.connect(target) as channel:
        for _ in range(20):
            greedy.begin(f"/{reflection.V1}/ServerReflectionInfo")
        await greedy.until(lambda: len(greedy.codes) == 20 - reflection.STREAMS_AT_ONCE // 2)
        assert set(greedy.codes.values()) == {busy}
        for _ in range(MAX_HEALTH_WATCHES // 2 + 10):
            greedy.begin("/grpc.health.v1.Health/Watch", finished=True)
        await greedy.until(lambda: len(greedy.codes) == 20 - reflection.STREAMS_AT_ONCE // 2 + 10)
        assert set(greedy.codes.values()) == {busy}
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        assert (await health.Watch(health_pb2.HealthCheckRequest()).read()).status == 1


async def test_reflection_answers_at_a_rate():
    app = App(name="test", mounts=[echo.mount(Same=echo.unary(echo.same))])
    async with running(app) as target, echo.connect(target) as channel:
        stub = channel.stream_stream(f"/{reflection.V1}/ServerReflectionInfo")
        question = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
        began = asyncio.get_running_loop().time()
        asked = stub(iter([question] * 5000))
        answers = aiter(asked)
        await anext(answers)  # however long the first one takes
        answered = 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                async for _ in answers:
                    answered += 1
        seconds = asyncio.get_running_loop().time() - began
        asked.cancel()
        assert answered <= 201 + reflection.ANSWERS_PER_SECOND * seconds


async def test_health_and_reflection_need_no_token():
    app = App(name="test", mounts=[echo.mount(Same=echo.unary(echo.same))], verifier=Doorkeeper(), operations=ECHO)
    async with running(app) as target, echo.connect(target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", echo.SERVICE):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        for version in ("v1", "v1alpha"):
            name = f"grpc.reflection.{version}.ServerReflection"
            info = channel.stream_stream(
                f"/{name}/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            wanted = ["grpc.health.v1.Health", name]
            asked = [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                *(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in wanted),
            ]
            listed, *files = [item async for item in info(iter(asked))]
            names = {service.name for service in listed.list_services_response.service}
            assert names == {"grpc.health.v1.Health", *reflection.NAMES, "test.Echo"}
            pool = DescriptorPool()
            for answer in files:
                for file in answer.file_descriptor_response.file_descriptor_proto:
                    pool.AddSerializedFile(file)
            for symbol in wanted:
                assert pool.FindServiceByName(symbol).methods


async def test_an_address_in_use_is_said_plainly():
    async with running(App(name="test", mounts=[])) as target:
        settings = ServiceSettings(service_secret=SECRET, listen=target)
        with pytest.raises(OSError, match="cannot listen on"):
            build(App(name="test", mounts=[]), settings)


# -- background work


async def test_background_work_surrounds_serving():
    order = []

    @asynccontextmanager
    async def work(name: str) -> AsyncIterator[None]:
        order.append(f"{name} begins")
        yield
        order.append(f"{name} ends")

    async with running(App(name="test", mounts=[], background=[work("a"), work("b")])):
        order.append("serving")
    assert order == ["a begins", "b begins", "serving", "b ends", "a ends"]


async def test_failed_background_work_starts_again():
    runs = asyncio.Semaphore(0)

    async def work() -> None:
        runs.release()
        raise ValueError

    async with background("test", work), asyncio.timeout(60):
        await runs.acquire()
        await runs.acquire()


# -- draining


async def test_until_ends_with_the_items_and_fails_with_draining():
    async def items() -> AsyncIterator[int]:
        yield 1
        yield 2
        await asyncio.Event().wait()

    async def two() -> AsyncIterator[int]:
        yield 1
        yield 2

    drain = Drain()
    seen = []

    async def consume() -> None:
        async for item in drain.until(items()):
            seen.append(item)
            if item == 2:
                asyncio.get_running_loop().call_later(0.01, drain.begin)

    assert [item async for item in drain.until(two())] == [1, 2]
    async with asyncio.timeout(60):
        with pytest.raises(Draining):
            await consume()
    assert seen == [1, 2]
    with pytest.raises(Draining):
        await anext(aiter(drain.until(two())))
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_until_leaves_a_cancelled_call_cancelled():
    drain, waiting = Drain(), asyncio.Event()

    async def items() -> AsyncIterator[int]:
        waiting.set()
        await asyncio.Event().wait()
        yield 1

    async def consume() -> None:
        async for _ in drain.until(items()):
            pass

    consumer = asyncio.create_task(consume())
    await waiting.wait()
    drain.begin()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer


async def test_until_leaves_nothing_behind_when_items_end_as_it_is_cancelled():
    """The requests of a call that its client cancels do that."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, complaint: complaints.append(complaint))
    waiting = asyncio.Event()

    async def items() -> AsyncIterator[int]:
        waiting.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return
        yield

    async def consume() -> None:
        async for _ in Drain().until(items()):
            pass

    consumer = asyncio.create_task(consume())
    await waiting.wait()
    consumer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await consumer
    del consumer  # one step later, nobody knows of the task that waited for the items
    await asyncio.sleep(0)
    gc.collect()
    assert not complaints


@asynccontextmanager
async def process(**settings: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    variables = {f"SYNCLINE_{name.upper()}": value for name, value in settings.items()}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.runtime.process",
        env={**os.environ, "SYNCLINE_SERVICE_SECRET": "s" * 32, **variables},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert child.stderr is not None
        event = json.loads(await child.stderr.readline())
        assert event["event"] == "serving"
        yield child, f"{event['host']}:{event['port']}"
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def test_sigterm_lets_calls_finish_and_breaks_streams_off_with_an_error():
    async with process(drain_seconds="3", grace_seconds="30") as (child, target), echo.connect(target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = aiter(health.Watch(health_pb2.HealthCheckRequest()))
        assert (await anext(watch)).status == health_pb2.HealthCheckResponse.SERVING
        ticks = channel.unary_stream(echo.path("Ticks"))(b"")
        assert await ticks.read() == b"tick"
        chat = channel.stream_stream(echo.path("Chat"))()
        await chat.write(b"said")
        assert await chat.read() == b"said"
        slow = channel.unary_unary(echo.path("Slow"))
        in_flight = slow(b"4")
        await in_flight.wait_for_connection()

        child.send_signal(signal.SIGTERM)

        assert (await anext(watch)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not ticks.done()  # the streams outlast the news
        assert not chat.done()
        assert await slow(b"0") == b"done"  # new calls still succeed while the balancer has not noticed
        for reading in (ticks.read(), chat.read(), anext(watch)):
            with pytest.raises(grpc.aio.AioRpcError) as broken:
                await reading
            assert broken.value.code() is grpc.StatusCode.UNAVAILABLE
            assert isinstance(error_from_rpc(broken.value), Draining)
        assert await in_flight == b"done"
        assert await child.wait() == 0


async def test_a_second_signal_forces_the_end():
    async with process(drain_seconds="60") as (child, _):
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        assert json.loads(await child.stderr.readline())["event"] == "stopping"
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize("kind", ["unary", "stream", "chat"])
async def test_bytes_that_are_no_message_are_the_callers_error(kind: str):
    """No client of ours can send a string that is not UTF-8; any other client can."""

    async def answer(_request, _context):
        return b"done"

    async def answer_all(_request, _context):
        yield b"done"

    async def answer_each(requests, _context):
        async for _ in requests:
            yield b"done"

    decode = health_pb2.HealthCheckRequest.FromString
    kinds: dict[str, tuple[Any, Any]] = {
        "unary": (echo.unary(answer, decode), lambda channel: channel.unary_unary(echo.path("Any"))),
        "stream": (echo.stream(answer_all, decode), lambda channel: channel.unary_stream(echo.path("Any"))),
        "chat": (echo.chat(answer_each, decode), lambda channel: channel.stream_stream(echo.path("Any"))),
    }
    handler, open_ = kinds[kind]

    async def ask(channel, sent: bytes) -> list[bytes]:
        begun = open_(channel)(iter([sent]) if kind == "chat" else sent)
        return [await begun] if kind == "unary" else [answered async for answered in begun]

    async with running(App(name="test", mounts=[echo.mount(Any=handler)])) as target, echo.connect(target) as channel:
        assert await ask(channel, health_pb2.HealthCheckRequest(service="x").SerializeToString()) == [b"done"]
        for wrong in (b"\xff", b"\x0a\x02\xff\xfe", b"\x0a\x03\xed\xa0\x80"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(channel, wrong)
            assert isinstance(error_from_rpc(caught.value), InvalidArgument)


# -- the end of a token


async def silent(_request, _context):
    yield b"1"
    await asyncio.Event().wait()


async def talkative(_request, _context):
    while True:
        yield b"1"
        await asyncio.sleep(0.01)


async def answering(requests, _context):
    async for request in requests:
        yield request


async def read_to_the_end(call):
    async with asyncio.timeout(60):
        while await call.read() is not grpc.aio.EOF:
            pass


@pytest.mark.parametrize(
    ("handler", "of_messages"), [(silent, False), (talkative, False), (silent, True), (answering, True)]
)
async def test_a_stream_ends_with_the_token_that_opened_it(handler, of_messages):
    class Expiring:
        async def verify(self, token: str) -> Identity:
            return replace(ANN, token=token, expires_at=time.time() + 0.3)

    kind = echo.chat if of_messages else echo.stream
    app = App(name="test", mounts=[echo.mount(Count=kind(handler))], verifier=Expiring(), operations=ECHO, work={})
    async with running(app) as target, echo.connect(target, authorization=lambda: "good") as channel:
        if of_messages:
            call = channel.stream_stream(echo.path("Count"))()
            await call.write(b"1")
        else:
            call = channel.unary_stream(echo.path("Count"))(b"")
        assert await call.read() == b"1"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_to_the_end(call)
    assert isinstance(error_from_rpc(caught.value), TokenExpired)
