"""Log events, one line each on stderr, as JSON or for people.

    log = structlog.get_logger()
    log.info("commit", space=space, seq=7, files=48)

What interceptors bind (request id, method, user) and the ids of trace and span go along. Values whose name tells of
a secret are blanked.
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

with absent("rich"):  # for pretty tracebacks, which no service prints
    import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["LOG_FORMAT", "REDACTED", "configure_logs", "configured_format", "redact", "structlog", "take_uncaught"]

LOG_FORMAT = "SYNCLINE_LOG_FORMAT"
"""The variable of that setting, for what is to be said before the settings are known."""

Format = Literal["json", "console"]

REDACTED = "[redacted]"

_SECRET_KEY = re.compile(r"password|token|secret|authorization|credential|cookie|private_key", re.IGNORECASE)
_BEARER = re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]+")


def configured_format() -> Format:
    """The format that the environment names, for what is logged before the settings are loaded; json if it is wrong."""
    return "console" if os.environ.get(LOG_FORMAT) == "console" else "json"


def configure_logs(*, fmt: Format = "json", level: str = "info", service: str | None = None) -> None:
    """Set up structlog, and send what libraries log from WARNING upwards the same way. `service` names the process."""
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
    """For a process of its own: what Python and its threads would print by themselves is an event."""
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
    """Say in which trace and span this was, if in any."""
    event.update(traces.ids())
    return event


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank the values of keys that look like secrets, however deep, and bearer tokens within texts."""
    for key, value in event.items():
        event[key] = _redacted(key, value)
    return event


def show_harmless(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """For a terminal: no value that came from others makes a line or steers it. In JSON nothing does."""
    for key, value in event.items():
        if key != "exception" and isinstance(value, str):
            event[key] = harmless(value)
    return event


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
    """botocore, grpc and the warnings module speak through the standard library's logging."""
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
