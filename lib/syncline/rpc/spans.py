"""The interface of spans: `syncline.rpc.traces` returns them to the code that is traced, and `syncline.rpc.otel`
implements them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

Cause: TypeAlias = Any
"""A span that later spans belong to, in this process or another one; opaque. None stands for no span."""
Attribute: TypeAlias = str | int | float | bool

SpanKind = Enum("SpanKind", "INTERNAL SERVER CLIENT")
"""The kind of a span: work inside the process, the answer to a call, or a call to another process."""

HEADER: Final = "traceparent"
"""The header and metadata key of W3C Trace Context, in lower case, as gRPC requires."""


class Span(AbstractContextManager["Span"], Protocol):
    """A named interval of time in a trace. With `with`, it is the current span during the body of the statement, and an
    exception marks it as failed.
    """

    def name(self, name: str, /) -> None:
        """Rename the span."""

    def note(self, **attributes: Attribute) -> None:
        """Add attributes to the span by keyword; `__` in a keyword stands for a dot."""

    def fail(self, reason: str, /) -> None:
        """Mark the span as failed. `reason` is a code for programs, such as a gRPC status or the name of a class."""

    def header(self) -> str:
        """Return the span as the value of the header `traceparent`."""

    def end(self) -> None:
        """End a span that was started without being entered as a context."""


class Tracer(Protocol):
    """Port that makes spans; `syncline.rpc.otel` implements it."""

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind,
        root: bool,
        parent: Cause,
        links: Iterable[Cause],
        attributes: Mapping[str, Attribute],
    ) -> Span:
        """Return a started span of the kind `kind`, with `attributes`. The span belongs to `parent`; without a parent,
        it begins a trace of its own if `root` is True, and otherwise belongs to the current span. `links` are further
        spans that caused it.
        """

    def current(self) -> Cause:
        """Return the current span of this task or thread, to be passed as a parent; None if there is none."""

    def header(self) -> str:
        """Return the current span as the value of the header `traceparent`, for a request to another process."""

    def cause(self, header: str) -> Cause:
        """Return the span of another process that the value of a header `traceparent` names, to be passed as a parent;
        None if the value is malformed.
        """

    def ids(self) -> Mapping[str, str]:
        """Return the ids of the current trace and span, by the keys under which they are added to log lines; empty if
        there is no span.
        """

    def stop(self) -> None:
        """Export the pending spans, and stop tracing."""
