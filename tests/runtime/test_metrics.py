"""Calls are counted by what became of them, streams are not mixed with unary calls, and the listener serves."""

import asyncio
import re
import socket
import urllib.error
import urllib.request

import grpc
import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from pydantic import SecretStr

from runtime import metrics
from runtime.logs import structlog
from runtime.rpc.server import App, running
from runtime.settings import ServiceSettings
from syncline.model.errors import NoSuchNode
from tests.runtime import echo

METHOD = "test.Echo/{}".format


def settings(listen: str = "127.0.0.1:0") -> ServiceSettings:
    return ServiceSettings(drain_seconds=0, grace_seconds=2, service_secret=SecretStr("s" * 32), metrics_listen=listen)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def until(condition) -> None:
    """The client has its answer a moment before the server is done with the call."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def missing(_request, _context):
    raise NoSuchNode("there is none")


async def broken(_request, _context):
    raise ValueError("a defect")


@pytest.mark.parametrize(
    ("name", "handler", "code"),
    [("Fine", echo.same, "OK"), ("Gone", missing, "NOT_FOUND"), ("Bad", broken, "INTERNAL")],
)
async def test_a_unary_call_is_counted_by_its_code_and_timed(name, handler, code):
    app = App(name="test", mounts=[echo.mount(**{name: echo.unary(handler)})])
    counted = value("syncline_rpcs_total", method=METHOD(name), code=code)
    timed = value("syncline_rpc_seconds_count", method=METHOD(name))
    async with running(app, settings()) as target, echo.connect(target) as channel:
        for _ in range(3):
            answered = channel.unary_unary(echo.path(name))(b"x")
            assert (await answered.code()).name == code
        await until(lambda: value("syncline_rpcs_total", method=METHOD(name), code=code) == counted + 3)
    assert value("syncline_rpc_seconds_count", method=METHOD(name)) == timed + 3
    assert value("syncline_open_streams", method=METHOD(name)) == 0


async def test_a_call_that_is_given_up_is_cancelled():
    began = asyncio.Event()

    async def slow(_request, _context):
        began.set()
        await asyncio.sleep(60)

    app = App(name="test", mounts=[echo.mount(Slow=echo.unary(slow))])
    counted = value("syncline_rpcs_total", method=METHOD("Slow"), code="CANCELLED")
    async with running(app, settings()) as target, echo.connect(target) as channel:
        call = channel.unary_unary(echo.path("Slow"))(b"")
        await began.wait()
        call.cancel()
        await until(lambda: value("syncline_rpcs_total", method=METHOD("Slow"), code="CANCELLED") == counted + 1)


@pytest.mark.parametrize("kind", ["generator", "coroutine"])
async def test_a_stream_is_open_until_it_ends_and_its_time_is_not_taken(kind):
    go_on = asyncio.Event()
    name = f"Ticks{kind}"

    async def generator(_request, _context):
        yield b"1"
        await go_on.wait()
        yield b"2"

    async def coroutine(_request, context):
        await context.write(b"1")
        await go_on.wait()
        await context.write(b"2")

    handler = generator if kind == "generator" else coroutine
    app = App(name="test", mounts=[echo.mount(**{name: echo.stream(handler)})])
    async with running(app, settings()) as target, echo.connect(target) as channel:
        call = channel.unary_stream(echo.path(name))(b"")
        assert await call.read() == b"1"
        assert value("syncline_open_streams", method=METHOD(name)) == 1
        assert value("syncline_rpcs_total", method=METHOD(name), code="OK") == 0
        go_on.set()
        assert await call.read() == b"2"
        await until(lambda: value("syncline_rpcs_total", method=METHOD(name), code="OK") == 1)
    assert value("syncline_open_streams", method=METHOD(name)) == 0
    assert value("syncline_rpc_seconds_count", method=METHOD(name)) == 0


async def test_what_is_no_method_makes_no_series():
    app = App(name="test", mounts=[echo.mount(Fine=echo.unary(echo.same))])
    async with running(app, settings()) as target, echo.connect(target) as channel:
        for path in ("/test.Echo/ann@example.com", "/made.up/Method"):
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(path)(b"")
        await channel.unary_unary(echo.path("Fine"))(b"")
    methods = {
        sample.labels["method"]
        for family in REGISTRY.collect()
        for sample in family.samples
        if family.name == "syncline_rpcs"
    }
    assert not {method for method in methods if "@" in method or "made" in method}


def test_the_listener_serves_while_it_is_entered():
    with structlog.testing.capture_logs() as events, metrics.exposed("127.0.0.1:0"):
        (told,) = events
        url = f"http://{told['host']}:{told['port']}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            text = answer.read().decode()
    assert "# TYPE syncline_rpcs_total counter" in text
    assert not re.search(r"_created\b", text)
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(url, timeout=60)


def test_a_taken_port_is_said_and_none_is_none():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot serve metrics at {address}"), metrics.exposed(address):
            pass
    with metrics.exposed(""):
        pass


def test_labels_are_of_kinds_that_no_user_fills():
    import gateway.metrics
    import services.auth.metrics
    import services.metadata.metrics
    import services.notify.metrics

    modules = (metrics, gateway.metrics, services.auth.metrics, services.metadata.metrics, services.notify.metrics)
    found = {
        label
        for module in modules
        for instrument in vars(module).values()
        if isinstance(instrument, Counter | Gauge | Histogram)
        for label in instrument._labelnames
    }
    assert found == {
        "access", "code", "limit", "method", "operation", "outcome", "route", "service", "source", "status", "verdict",
    }  # fmt: skip
