"""Traces, which show where time is spent. They are off unless OpenTelemetry's own variables enable them; while off,
none of its modules is imported.

    with traces.span("scan"):
        ...

A trace starts with something that a person waits for: a command, a request, a call (`root=True`); outside of one,
`span` does nothing. Background work, such as polling a queue, therefore makes no traces. Spans are exported in the
background. Attributes come from bounded sets: a user's path, name or address is never one.

This module has no dependencies, because both clients and servers use it; only `syncline.rpc.otel` imports
OpenTelemetry.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from syncline.rpc.spans import HEADER, Attribute, Cause, Span, SpanKind, Tracer

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


__all__ = [
    "HEADER",
    "NOTHING",
    "Cause",
    "Span",
    "SpanKind",
    "cause",
    "configure_traces",
    "current",
    "header",
    "ids",
    "on",
    "span",
    "stop",
]


class _Nothing:
    """No-op span, used when tracing is off."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def name(self, _name: str, /) -> None:
        return

    def note(self, **_attributes: Attribute) -> None:
        return

    def fail(self, _reason: str, /) -> None:
        return

    def header(self) -> str:
        return ""

    def end(self) -> None:
        return


NOTHING: Final[Span] = _Nothing()

_tracer: Tracer | None = None


def configure_traces(service: str, *, command: bool = False) -> str | None:
    """Enable tracing as `service` if the environment asks for traces. Return None if tracing is enabled now or was not
    asked for; otherwise the reason, in words for people, that tracing is impossible.

    For a `command`, whose end a person waits for, the export has a short timeout and reports no failure.
    """
    global _tracer  # noqa: PLW0603 # a process traces as a whole or not at all, like its logs
    if not _asked_for():
        return None
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    protocol = (
        os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    if (exporter, protocol) != ("otlp", "http/protobuf"):
        return f"traces are sent as otlp by http/protobuf only, not as {exporter} by {protocol}; there will be none"
    try:
        from syncline.rpc.otel import OtelTracer  # noqa: PLC0415 # only here, and only if asked for
    except ModuleNotFoundError as missing:
        return f"traces are asked for (OTEL_*) but not installed ({missing.name}); pip install 'syncline[trace]'"
    _tracer = OtelTracer(service, command=command)
    return None


def _asked_for() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter:
        return exporter != "none"
    return any(os.environ.get(f"OTEL_EXPORTER_OTLP_{which}ENDPOINT") for which in ("", "TRACES_"))


def stop() -> None:
    """Export the spans that were not exported yet, and stop tracing. To be called last. Blocks until the export has
    ended or timed out.
    """
    global _tracer
    if _tracer is not None:
        tracer, _tracer = _tracer, None
        tracer.stop()


def on() -> bool:
    """Return True if this process traces."""
    return _tracer is not None


def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    root: bool = False,
    parent: Cause = None,
    links: Iterable[Cause] = (),
    **attributes: Attribute,
) -> Span:
    """Return a started span: enter it as a context, or call its `end`. `links` are further spans that caused it, and
    `attributes` are added to it; `__` in a keyword stands for a dot.

    The span belongs to `parent`. Without a parent, a `root` starts a trace, and any other span belongs to the current
    span. A no-op span is returned if there is no current span either, or if this process does not trace.
    """
    if _tracer is None or not (root or parent is not None or _tracer.current() is not None):
        return NOTHING
    return _tracer.begin(name, kind=kind, root=root, parent=parent, links=links, attributes=attributes)


def current() -> Cause:
    """Return the current span, to be passed as the parent of work that is done later or in another thread; None if
    there is none.
    """
    return _tracer.current() if _tracer is not None else None


def header() -> str:
    """Return the current span as the value of `traceparent`; empty if there is none."""
    return _tracer.header() if _tracer is not None else ""


def cause(header: str | None) -> Cause:
    """Return the span of another process that `header`, the value of a header `traceparent`, names; None if there is no
    header, or if the header is malformed.
    """
    return _tracer.cause(header) if _tracer is not None and header else None


def ids() -> Mapping[str, str]:
    """Return `trace_id` and `span_id` of the current span, for log lines; empty if there is none."""
    return _tracer.ids() if _tracer is not None else {}
