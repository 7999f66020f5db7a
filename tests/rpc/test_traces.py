"""Traces are off unless asked for, and then one tree: across calls, processes, threads and into the logs."""

import asyncio
import subprocess
import sys

import grpc
import pytest

from benchmarks.trace import CollectedSpan, Collector
from runtime import logs
from runtime.rpc.server import App, running
from syncline.model.errors import NoSuchNode
from syncline.rpc import traces
from tests.runtime import echo

VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_PROTOCOL")


@pytest.fixture(autouse=True)
def unasked(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def collector(unasked):
    """This process traces, and what it tells is taken here."""
    with Collector() as collector:
        for name, value in collector.variables.items():
            unasked.setenv(name, value)
        assert traces.configure_traces("syncline-test") is None
        yield collector
        traces.stop()


def told(collector: Collector, *names: str) -> dict[str, CollectedSpan]:
    """The spans by name, when those of all these names have come."""
    spans = collector.until(lambda spans: spans if {span.name for span in spans} >= set(names) else [])
    return {span.name: span for span in spans}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


# -- off


def test_off_means_that_nothing_of_it_is_imported():
    everything = "import sys, runtime.rpc.server, aws.session, gateway.serving, syncline.cli.sync_commands"
    off = "from syncline.rpc import traces; assert traces.configure_traces('x') is None"
    # FastAPI imports the interface, which records nothing.
    of_it = "[name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]"
    done = python(f"{everything}; {off}; print({of_it})")
    assert done.stdout == "[]\n", done.stderr


def test_a_command_imports_nothing_of_the_servers():
    done = python("import sys, syncline.cli.sync_commands; print([m for m in sys.modules if 'prometheus' in m])")
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    ],
)
def test_nobody_asked(unasked, variables):
    for name, value in variables.items():
        unasked.setenv(name, value)
    assert traces.configure_traces("syncline-test") is None
    assert not traces.on()
    with traces.span("command", root=True) as span:
        assert span is traces.NOTHING
        assert traces.current() is None
        assert traces.header() == ""


@pytest.mark.parametrize("variables", [{"OTEL_TRACES_EXPORTER": "zipkin"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}])
def test_what_cannot_be_is_said(unasked, variables):
    unasked.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    for name, value in variables.items():
        unasked.setenv(name, value)
    problem = traces.configure_traces("syncline-test")
    assert problem is not None
    assert "http/protobuf only" in problem
    assert not traces.on()


def test_what_is_not_installed_is_said():
    done = python(
        "import os, sys; sys.modules['opentelemetry'] = None; os.environ['OTEL_TRACES_EXPORTER'] = 'otlp'; "
        "from syncline.rpc import traces; print(traces.configure_traces('x'))"
    )
    assert done.stdout == (
        "traces are asked for (OTEL_*) but not installed (opentelemetry); pip install 'syncline[trace]'\n"
    ), done.stderr


# -- on


def test_spans_are_made_within_a_trace_only(collector):
    with traces.span("polling"):
        pass
    with traces.span("command", root=True):
        cause = traces.current()
        with traces.span("step", files=3):
            pass
        with traces.span("another", root=True):
            pass
    with traces.span("later", parent=cause, links=[cause]):
        pass
    spans = told(collector, "command", "step", "another", "later")
    assert spans["another"].parent == ""
    assert spans["another"].trace != spans["command"].trace
    assert "polling" not in spans
    assert spans["step"].parent == spans["later"].parent == spans["command"].id
    assert spans["step"].attributes == {"files": "3"}
    assert spans["later"].links == (spans["command"].id,)


def test_a_failure_says_its_kind_and_nothing_of_its_text(collector):
    with pytest.raises(FileNotFoundError), traces.span("command", root=True):
        raise FileNotFoundError("/home/ann/plan.txt")
    span = told(collector, "command")["command"]
    assert span.failed
    assert span.attributes == {"error.type": "FileNotFoundError"}


async def missing(_request, _context):
    raise NoSuchNode("there is none")


async def test_a_call_is_one_span_there_below_one_here(collector):
    async def outer(request, _context):
        async with echo.connect(target) as channel:
            return await channel.unary_unary(echo.path("Inner"))(request)

    app = App(name="test", mounts=[echo.mount(Outer=echo.unary(outer), Inner=echo.unary(echo.same))])
    async with running(app) as target, echo.connect(target) as channel:
        with traces.span("command", root=True):
            assert await channel.unary_unary(echo.path("Outer"))(b"x") == b"x"
        assert await channel.unary_unary(echo.path("Outer"))(b"outside of a trace") == b"outside of a trace"
    spans = collector.until(lambda spans: spans if len(spans) == 8 else [])
    by_id = {span.id: span for span in spans}
    (deepest,) = [
        span
        for span in spans
        if span.name == "test.Echo/Inner"
        and span.trace == next(s.trace for s in spans if s.name == "command")
        and by_id[span.parent].name == "test.Echo/Inner"
    ]
    names, above = [], deepest
    while above.parent:
        above = by_id[above.parent]
        names.append(above.name)
    assert names == ["test.Echo/Inner", "test.Echo/Outer", "test.Echo/Outer", "command"]
    assert all(span.attributes["rpc.grpc.status_code"] == "0" for span in spans if span.name != "command")


async def test_streams_and_refusals_end_their_spans(collector):
    async def ticks(_request, _context):
        yield b"1"
        yield b"2"

    app = App(name="test", mounts=[echo.mount(Ticks=echo.stream(ticks), Gone=echo.unary(missing))])
    async with running(app) as target, echo.connect(target) as channel:
        with traces.span("command", root=True):
            assert [item async for item in channel.unary_stream(echo.path("Ticks"))(b"")] == [b"1", b"2"]
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(echo.path("Gone"))(b"")
    spans = collector.until(lambda spans: spans if len(spans) == 5 else [])
    gone = [span for span in spans if span.name == "test.Echo/Gone"]
    assert {span.attributes["rpc.grpc.status_code"] for span in gone} == {"5"}
    assert sorted(span.failed for span in gone) == [False, True], "an answer for the server, a failure for the client"


async def test_threads_call_as_well(collector):
    async def ticks(_request, _context):
        yield b"1"

    app = App(
        name="test",
        mounts=[echo.mount(Same=echo.unary(echo.same), Ticks=echo.stream(ticks), Gone=echo.unary(missing))],
    )

    def command() -> None:
        with echo.connect_sync(target) as channel, traces.span("command", root=True):
            assert channel.unary_unary(echo.path("Same"))(b"x") == b"x"
            assert channel.unary_unary(echo.path("Same")).with_call(b"x")[0] == b"x"
            assert channel.unary_unary(echo.path("Same")).future(b"x").result() == b"x"
            assert list(channel.unary_stream(echo.path("Ticks"))(b"")) == [b"1"]
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(echo.path("Gone"))(b"")

    async with running(app) as target:
        await asyncio.to_thread(command)
    spans = collector.until(lambda spans: spans if len(spans) == 11 else [])
    codes = [span.attributes.get("rpc.grpc.status_code") for span in spans if span.name != "command"]
    assert sorted(codes) == ["0"] * 8 + ["5"] * 2


def test_log_lines_carry_the_ids(collector):
    before = logs.add_trace(None, "info", {"event": "before"})
    with traces.span("command", root=True):
        within = logs.add_trace(None, "info", {"event": "within"})
    span = told(collector, "command")["command"]
    assert before == {"event": "before"}
    assert within == {"event": "within", "trace_id": span.trace, "span_id": span.id}
