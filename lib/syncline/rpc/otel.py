"""The tracer on OpenTelemetry's SDK. Only `traces.py` imports it, if traces are configured."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from syncline.rpc.spans import HEADER, Attribute, Cause, SpanKind

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType
    from typing import Self

_W3C: Final = TraceContextTextMapPropagator()
_KINDS: Final = {
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
    SpanKind.SERVER: trace.SpanKind.SERVER,
    SpanKind.CLIENT: trace.SpanKind.CLIENT,
}
_COMMAND_SECONDS: Final = 2.0
_TIMEOUTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")


class OtelSpan:
    """A span that OpenTelemetry records."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token: Token[context.Context] | None = None

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._token is not None
        context.detach(self._token)
        if exc_type is not None:
            self.fail(exc_type.__name__)  # the text of the exception may name a file, so only the class is recorded
        self.end()

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, **attributes: Attribute) -> None:
        self._span.set_attributes(_dotted(attributes))

    def fail(self, reason: str) -> None:
        self._span.set_attribute("error.type", reason)
        self._span.set_status(trace.Status(trace.StatusCode.ERROR))

    def header(self) -> str:
        return _header(trace.set_span_in_context(self._span))

    def end(self) -> None:
        self._span.end()


class OtelTracer:
    """A tracer that exports through OpenTelemetry. The variables of its SDK set sampling, limits, headers and
    batches.
    """

    def __init__(self, service: str, *, command: bool) -> None:
        if command:
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        resource = Resource.create({"service.name": service, "service.version": version("syncline")})
        timeout = _COMMAND_SECONDS if command and not any(map(os.environ.get, _TIMEOUTS)) else None
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout)))
        self._tracer = self._provider.get_tracer("syncline")

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind,
        root: bool,
        parent: Cause,
        links: Iterable[Cause],
        attributes: Mapping[str, Attribute],
    ) -> OtelSpan:
        inherited = context.Context() if root else None  # None stands for the current context
        span = self._tracer.start_span(
            name,
            context=inherited if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(parent)),
            kind=_KINDS[kind],
            attributes=_dotted(attributes),
            links=[trace.Link(link) for link in links if link is not None],
        )
        return OtelSpan(span)

    def current(self) -> Cause:
        found = trace.get_current_span().get_span_context()
        return found if found.is_valid else None

    def header(self) -> str:
        return _header(context.get_current())

    def cause(self, header: str) -> Cause:
        found = trace.get_current_span(_W3C.extract({HEADER: header}, context.Context())).get_span_context()
        return found if found.is_valid else None

    def ids(self) -> Mapping[str, str]:
        found = trace.get_current_span().get_span_context()
        if not found.is_valid:
            return {}
        return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}

    def stop(self) -> None:
        self._provider.shutdown()


def _header(current: context.Context) -> str:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, current)
    return carrier.get(HEADER, "")


def _dotted(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {key.replace("__", "."): value for key, value in attributes.items()}
