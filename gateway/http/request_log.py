"""Request middleware: request id, trace, log event, metrics, and the handling of unexpected errors."""

from __future__ import annotations

import time
from http import HTTPStatus

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import metrics
from gateway.http.pace import TooSlow
from gateway.http.problems import internal, problem_response, too_slow
from gateway.http.reception import ACCEPTED, SENDER
from gateway.identity.address import OwnAddress
from gateway.readiness import Readiness
from gateway.services.calls import CallPatience, RequestOrigin, is_accepted, set_origin, set_patience
from runtime.http.connection import CLOSE_AFTER_SENDING
from runtime.interruption import ClientGone
from runtime.logs import structlog
from runtime.network import charge_to
from runtime.network_tokens import NetworkTokens
from runtime.pool import Share, TooMuchAtOnce
from syncline.model.errors import SynclineError
from syncline.rpc import traces
from syncline.rpc.request_ids import REQUEST_ID_KEY, take_request_id

_QUIET = frozenset({"healthz", "readyz"})

log = structlog.get_logger()


class RequestMiddleware:
    """ASGI middleware around each request.

    The log contains the route and not the path, because paths are private. If an error occurs after the response has
    begun, the middleware cuts the connection instead of completing it.
    """

    def __init__(
        self, app: ASGIApp, *, readiness: Readiness, own: OwnAddress, network_tokens: NetworkTokens | None
    ) -> None:
        """- `readiness` tells if the process is about to stop; answers then close their connection.
        - `own` determines the network of a request.
        - `network_tokens` prove to services that a call comes from the gateway; None if the gateway has no secret.
        """
        self._app = app
        self._readiness = readiness
        self._own = own
        self._prove = network_tokens.mint if network_tokens is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, sent, complete = time.monotonic(), 0, 0, False
        ident = take_request_id(_header(scope, REQUEST_ID_KEY))
        structlog.contextvars.bind_contextvars(request_id=ident)
        set_patience(CallPatience())
        network = self._own.network(Request(scope))
        set_origin(RequestOrigin(network, self._prove))
        charge_to(Share(scope.get(SENDER, lambda _: "")(scope) or network, network))

        async def sending(message: Message) -> None:
            nonlocal status, sent, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID_KEY.encode(), ident.encode())]
                if self._readiness.draining:  # the next request should go to another process
                    message["headers"].append((b"connection", b"close"))
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        with _span(scope) as span:
            try:
                await self._app(scope, receive, sending)
            except (TooSlow, TooMuchAtOnce) as error:
                log.info("too slow" if isinstance(error, TooSlow) else "too much at once", begun=status != 0)
                if status == 0:
                    await (too_slow() if isinstance(error, TooSlow) else problem_response(error))(
                        scope, receive, sending
                    )
            except ClientGone:
                log.info("client gone")
            except Exception as error:  # outermost boundary: any exception is logged and answered here
                # Starlette wraps an exception that has a handler if the response has begun.
                cause = error.__cause__ if isinstance(error, RuntimeError) else error
                if status != 0 and isinstance(cause, SynclineError):
                    log.info("response ended", reason=cause.reason)
                elif status == 0:
                    log.exception("request failed")
                    await internal()(scope, receive, sending)
                else:
                    log.exception("response broken off")
            finally:
                if status != 0 and not complete:
                    scope.get(CLOSE_AFTER_SENDING, lambda: None)()
                if is_accepted() and ACCEPTED in scope:
                    scope[ACCEPTED](scope)
                route = getattr(scope.get("endpoint"), "__name__", "none")
                seconds = time.monotonic() - began
                level = log.debug if route in _QUIET else log.info
                level(
                    "http",
                    verb=scope["method"],
                    route=route,
                    status=status,
                    bytes=sent,
                    complete=complete,
                    duration_ms=round(seconds * 1000, 1),
                )
                _count(route, status=status, sent=sent, complete=complete, seconds=seconds)
                _tell(span, route, status=status, sent=sent, complete=complete)


def _span(scope: Scope) -> traces.Span:
    if scope["path"].strip("/") in _QUIET:
        return traces.NOTHING
    parent = traces.cause(_header(scope, traces.HEADER))
    return traces.span("http", kind=traces.SpanKind.SERVER, root=True, parent=parent)


def _tell(span: traces.Span, route: str, *, status: int, sent: int, complete: bool) -> None:
    span.name(f"http {route}")
    span.note(http__route=route, http__response__status_code=status, http__response__body__size=sent)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or not complete:
        span.fail(str(status) if complete else "broken off")


def _count(route: str, *, status: int, sent: int, complete: bool, seconds: float) -> None:
    metrics.REQUESTS.labels(route, status).inc()
    metrics.REQUEST_SECONDS.labels(route).observe(seconds)
    metrics.BYTES.labels(route).inc(sent)
    if not complete:
        metrics.BROKEN.labels(route).inc()


def _header(scope: Scope, key: str) -> str | None:
    for name, value in scope["headers"]:
        if name == key.encode():
            return str(value, "latin-1")
    return None
