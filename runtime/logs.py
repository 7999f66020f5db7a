"""Log events, one line each on stderr, as JSON or for people.

    log = structlog.get_logger()
    log.info("commit", space=space, seq=7, files=48)

Each event includes the values that interceptors bind (request id, method, user) and the ids of trace and span. Values
whose names suggest a secret are blanked.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from runtime.imports import absent
from syncline.model.printable import harmless
from syncline.rpc import traces

with absent("rich", "colorama", "greenlet"):  # for terminals and for other event loops, which services do not have
    import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["LOG_FORMAT", "REDACTED", "configure_logs", "configured_format", "redact", "structlog", "take_uncaught"]

LOG_FORMAT = "SYNCLINE_LOG_FORMAT"
"""Environment variable of the log format, for events before the settings are loaded."""

Format = Literal["json", "console"]

REDACTED = "[redacted]"

_SECRET_KEY = re.compile(r"password|token|secret|authorization|credential|cookie|private_key", re.IGNORECASE)
_BEARER = re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]+")


def configured_format() -> Format:
    """Return the log format of the environment, for events before the settings are loaded; json if the value is
    invalid.
    """
    return "console" if os.environ.get(LOG_FORMAT) == "console" else "json"


def configure_logs(*, fmt: Format = "json", level: str = "info", service: str | None = None) -> None:
    """Configure structlog, and route log records of libraries from WARNING upwards to it. `fmt` is the format of an
    event: `json`, or `console` for people. Events below `level` are dropped. `service` is the name of the process,
    which each event includes; None leaves it out.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    if service is not None:
        shared.insert(0, _named(service))
    renderer: Processor
    if fmt == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        shared.append(show_harmless)
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    _bridge(shared, renderer)


def take_uncaught() -> None:
    """Log uncaught exceptions of Python and its threads as events instead of printing them."""
    log = structlog.get_logger()

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            log.warning("interrupted")
        else:
            log.critical("uncaught", exc_info=(kind, error, trace))

    def in_thread(told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None:
            log.error("uncaught in a thread", exc_info=(told.exc_type, told.exc_value, told.exc_traceback))

    def unraisable(told: sys.UnraisableHookArgs) -> None:
        exc_info = (told.exc_type, told.exc_value, told.exc_traceback) if told.exc_value is not None else None
        log.error("could not be raised", what=told.err_msg, object=repr(told.object), exc_info=exc_info)

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, in_thread, unraisable


def add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the current trace and span, if there are any, to a log event. For structlog."""
    event.update(traces.ids())
    return event


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace secrets in a log event by REDACTED: values, at any depth, whose keys look like those of secrets, and
    bearer tokens in texts. For structlog.
    """
    for key, value in event.items():
        event[key] = _redacted(key, value)
    return event


def show_harmless(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape the texts of a log event for a terminal, so that a text of a caller can neither start a line nor control
    the terminal. For structlog; JSON needs no escaping.

    A traceback keeps its lines, but each is indented. An error may repeat a text of a caller, and only a line without
    indentation begins an event.
    """
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _indented(value) if key == "exception" else harmless(value)
    return event


def _indented(text: str) -> str:
    return "\n".join(f"    {harmless(line)}" for line in text.split("\n"))


def _redacted(key: object, value: Any) -> Any:
    if isinstance(key, str) and value is not None and _SECRET_KEY.search(key):
        return REDACTED
    if isinstance(value, str):
        return _BEARER.sub(f"Bearer {REDACTED}", value) if "earer" in value.lower() else value
    if isinstance(value, dict):
        return {inner: _redacted(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(None, item) for item in value]
    return value


def _named(service: str) -> Processor:
    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add_service


def _bridge(shared: list[Processor], renderer: Processor) -> None:
    """Route the standard library's logging, which botocore, grpc and warnings use, to structlog."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
