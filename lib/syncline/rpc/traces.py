"""Traces: who waited for what. Off unless OpenTelemetry's own variables ask for them; then nothing of it is imported.

    with traces.span("scan"):
        ...

A trace begins with what somebody waits for: a command, a request, a call (`root=True`), and `span` does nothing
outside of one. So what a process does by itself, such as polling a queue, makes no traces. Spans are told to the
collector in the background. Attributes are of bounded kinds: no path, name or address of a user's goes into one.

Needs nothing, since clients use it as well as servers; `syncline.rpc.otel` is the one module that sees OpenTelemetry.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from syncline.rpc.spans import HEADER, Attribute, Cause, Kind, Span, Tracer

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


__all__ = [
    "HEADER",
    "NOTHING",
    "Cause",
    "Kind",
    "Span",
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
    """The span of those who do not trace."""

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
    """Trace from now on, if the environment asks for it, as `service`; if that cannot be, why.

    Of a `command`, whose end somebody waits for, the collector gets little time, and no word if it does not answer.
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
    """Hand over what there is; call it last."""
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
    kind: Kind = Kind.INTERNAL,
    root: bool = False,
    parent: Cause = None,
    links: Iterable[Cause] = (),
    **attributes: Attribute,
) -> Span:
    """A span, which has begun: enter it, or `end` it yourself.

    It belongs to `parent`. Without one, a `root` begins a trace, and any other belongs to the current span; if there
    is none it is not made.
    """
    if _tracer is None or not (root or parent is not None or _tracer.current() is not None):
        return NOTHING
    return _tracer.begin(name, kind=kind, root=root, parent=parent, links=links, attributes=attributes)


def current() -> Cause:
    """The current span, for work that is done later or elsewhere."""
    return _tracer.current() if _tracer is not None else None


def header() -> str:
    """The current span as the value of `traceparent`; empty if there is none."""
    return _tracer.header() if _tracer is not None else ""


def cause(header: str | None) -> Cause:
    """The span in another process that a `traceparent` names."""
    return _tracer.cause(header) if _tracer is not None and header else None


def ids() -> Mapping[str, str]:
    """`trace_id` and `span_id` of the current span, for log lines; empty if there is none."""
    return _tracer.ids() if _tracer is not None else {}
