"""Around every request: its id, its log event, and what becomes of errors that nobody expected."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.problems import internal
from gateway.readiness import Readiness
from runtime.context import REQUEST_ID_KEY, take_request_id
from runtime.logs import structlog

_QUIET = frozenset({"healthz", "readyz"})

log = structlog.get_logger()


class Requests:
    """ASGI middleware; outermost.

    The log tells the route and not the path, since paths are people's. A request whose response has begun when an
    error comes is broken off: returning without completing it makes the server close the connection.
    """

    def __init__(self, app: ASGIApp, *, readiness: Readiness) -> None:
        self._app = app
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, sent, complete = time.monotonic(), 0, 0, False
        ident = take_request_id(_offered_id(scope))
        structlog.contextvars.bind_contextvars(request_id=ident)

        async def sending(message: Message) -> None:
            nonlocal status, sent, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID_KEY.encode(), ident.encode())]
                if self._readiness.draining:  # so that the next request goes to somebody who stays
                    message["headers"].append((b"connection", b"close"))
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, sending)
        except Exception:  # the boundary: whatever it is, it is told and logged here
            if status == 0:
                log.exception("request failed")
                await internal()(scope, receive, sending)
            else:
                log.exception("response broken off")
        finally:
            route = getattr(scope.get("endpoint"), "__name__", "none")
            level = log.debug if route in _QUIET else log.info
            level(
                "http",
                verb=scope["method"],
                route=route,
                status=status,
                bytes=sent,
                complete=complete,
                duration_ms=round((time.monotonic() - began) * 1000, 1),
            )


def _offered_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == REQUEST_ID_KEY.encode():
            return str(value, "latin-1")
    return None
