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

Kind = Enum("Kind", "INTERNAL SERVER CLIENT")
"""The kind of a span: work inside the process, the answer to a call, or a call to another process."""

HEADER: Final = "traceparent"
"""The header and metadata key of W3C Trace Context, in lower case, as gRPC requires."""


class Span(AbstractContextManager["Span"], Protocol):
    """An interval of time. As a context manager it is the current span within the block, and an exception marks it as
    failed.
    """

    def name(self, name: str, /) -> None:
        """Rename the span."""

    def note(self, **attributes: Attribute) -> None:
        """Add attributes; `__` in a key stands for a dot."""

    def fail(self, reason: str, /) -> None:
        """Mark the span as failed; `reason` is a code."""

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
        kind: Kind,
        root: bool,
        parent: Cause,
        links: Iterable[Cause],
        attributes: Mapping[str, Attribute],
    ) -> Span:
        """Return a started span below `parent`; without a parent, in a trace of its own if `root`, otherwise below the
        current span.
        """

    def current(self) -> Cause:
        """Return the current span, or None."""

    def header(self) -> str:
        """Return the current span as the value of `traceparent`."""

    def cause(self, header: str) -> Cause:
        """Return the span in a `traceparent`; None if it is malformed."""

    def ids(self) -> Mapping[str, str]:
        """Return the ids of trace and span that are added to log lines."""

    def stop(self) -> None:
        """Export the pending spans, and stop tracing."""
