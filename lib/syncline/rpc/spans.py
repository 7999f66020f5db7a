"""Spans as those see them who make and use them: what `syncline.rpc.traces` hands out and `syncline.rpc.otel` makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

Cause: TypeAlias = Any
"""A span to which later ones belong, here or in another process; opaque. None stands for no span."""
Attribute: TypeAlias = str | int | float | bool

Kind = Enum("Kind", "INTERNAL SERVER CLIENT")
"""The kind of a span: work inside the process, the answer to a call, or a call to another process."""

HEADER: Final = "traceparent"
"""The header and metadata key of W3C Trace Context; lower case, as gRPC wants it."""


class Span(AbstractContextManager["Span"], Protocol):
    """One stretch of time. As a context manager it is current meanwhile, and an exception makes it a failed one."""

    def name(self, name: str, /) -> None:
        """Call it this from now on."""

    def note(self, **attributes: Attribute) -> None:
        """Add attributes; `__` in a key stands for a dot."""

    def fail(self, reason: str, /) -> None:
        """Mark the span as failed; `reason` is a code."""

    def header(self) -> str:
        """Return the span as the value of the header `traceparent`."""

    def end(self) -> None:
        """End a span that was begun and not entered as a context."""


class Tracer(Protocol):
    """Makes spans; `syncline.rpc.otel` has the one there is."""

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
        """A span that has begun, below `parent`; without one, in a trace of its own if `root`, else the current one."""

    def current(self) -> Cause:
        """The current span, or None."""

    def header(self) -> str:
        """The current span as the value of `traceparent`."""

    def cause(self, header: str) -> Cause:
        """The span that a `traceparent` names, None if it is malformed."""

    def ids(self) -> Mapping[str, str]:
        """Return the ids of trace and span that are added to log lines."""

    def stop(self) -> None:
        """Hand over what there is, and make no spans any more."""
