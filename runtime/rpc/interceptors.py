"""Interceptors around every call, outermost first: trace, request id and log, metrics, deadline, errors,
authentication, draining.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from typing_extensions import override

from runtime import metrics
from runtime.identity import find_identity, set_identity
from runtime.interruption import expiring
from runtime.logs import structlog
from runtime.permissions import SMALL_REQUEST, CallerKind, check_caller
from syncline.model.errors import DeadlineExceeded, InvalidArgument, SynclineError, Unauthenticated
from syncline.rpc import traces
from syncline.rpc.errors import abort, error_from_rpc
from syncline.rpc.message_bounds import Malformed, check_fields, shape_of
from syncline.rpc.request_ids import REQUEST_ID_KEY, request_id, take_request_id

if TYPE_CHECKING:
    from typing import Never

    from prometheus_client import Counter, Gauge, Histogram

    from runtime.identity import Identity
    from runtime.permissions import Callers, RequestBound
    from runtime.tokens import TokenVerifier
    from syncline.rpc.message_bounds import Shape

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]

_QUIET = "/grpc.health.v1.Health/"
_NO_DEADLINE_SECONDS = 10 * 365 * 86_400
_OUR_FAULT = frozenset(
    {
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNKNOWN,
    }
)
"""The status codes that mark the span of a call as failed; any other code is a regular answer."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rpc:
    """The method of a call, and its kind."""

    method: str
    """Full name with a leading slash: `/syncline.auth.v1.AuthService/SignIn`."""
    is_unary: bool
    """True for one request and one response."""


class Wrapping(grpc.aio.ServerInterceptor):
    """Base of interceptors that replace the handler of each call by a function that runs code around it.

    Handlers are coroutine functions or, if they stream responses, possibly async generator functions.
    """

    def __init__(self) -> None:
        # Wrapping costs more than a call, so each handler is wrapped once.
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    @abstractmethod
    def _wrap(self, method: str, handler: Handler) -> Handler:
        """Return a handler of the same kind that runs `handler` with additional code around it."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        cached = self._wrapped.get(method)
        if cached is None or cached[0] is not handler:
            cached = self._wrapped[method] = (handler, self._wrap(method, handler))
        return cached[1]


def parts(handler: Handler) -> tuple[Any, Any]:
    """Return the function of a handler, and grpc's function that makes a handler of the same kind (unary or streaming)
    from a function.
    """
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return handler.unary_unary, grpc.unary_unary_rpc_method_handler
        case False, True:
            return handler.unary_stream, grpc.unary_stream_rpc_method_handler
        case True, False:
            return handler.stream_unary, grpc.stream_unary_rpc_method_handler
        case _:
            return handler.stream_stream, grpc.stream_stream_rpc_method_handler


class StreamsEnd(Wrapping):
    """Interceptor that ends streams from outside: with Draining when the server is about to stop, and with TokenExpired
    when the access token of the stream expires. A stream therefore never outlives its token, nor a program's key.
    """

    def __init__(self, until: Callable[[AsyncIterator[Any]], AsyncIterator[Any]]) -> None:
        """`until` takes the responses of a stream, and yields them until they end or the server is about to stop; it
        raises Draining then (`Drain.until`).
        """
        super().__init__()
        self._until = until

    @override
    def _wrap(self, method: str, handler: Handler) -> Handler:  # the same for all methods
        inner, make = parts(handler)
        if not inspect.isasyncgenfunction(inner):
            return handler

        async def until_ended(request: Any, context: Context) -> AsyncIterator[Any]:
            caller = find_identity()
            expires_at = math.inf if caller is None else caller.expires_at
            async with aclosing(inner(request, context)) as responses:
                with expiring(expires_at) as expiry:
                    async for response in self._until(expiry.until(responses)):
                        yield response

        wrapped: Handler = make(
            until_ended,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped


class Around(Wrapping):
    """Base of interceptors that run code before and after a call of any of gRPC's four kinds.

    The context manager `around` is entered before the handler and left after its last response, in the task of the
    call.
    """

    @abstractmethod
    def around(self, rpc: Rpc, context: Context) -> AbstractAsyncContextManager[None]:
        """Return the asynchronous context manager for one call of the method `rpc`. The context manager is entered
        before the handler of the call, and left after the last response of the handler. `context` is gRPC's context of
        the call.
        """

    @override
    def _wrap(self, method: str, handler: Handler) -> Handler:
        rpc = Rpc(method, is_unary=not (handler.request_streaming or handler.response_streaming))
        inner, make = parts(handler)

        async def plain(request: Any, context: Context) -> Any:
            async with self.around(rpc, context):
                return await inner(request, context)

        # Not an async generator: if a call is cancelled while grpc is sending, a suspended generator would be
        # closed later, by another task, in another context.
        async def generated(request: Any, context: Context) -> None:
            async with self.around(rpc, context), aclosing(inner(request, context)) as responses:
                async for response in responses:
                    await context.write(response)

        wrapped: Handler = make(
            generated if inspect.isasyncgenfunction(inner) else plain,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped


class Decoding(Wrapping):
    """Decodes requests, as the innermost interceptor, and refuses bytes that are no message of the method as
    InvalidArgument. A message with more fields than its method admits is refused as RequestTooLarge before that.

    gRPC itself would answer UNKNOWN and log a traceback, for example for a string that is not valid UTF-8.
    """

    def __init__(self, bounds: Mapping[str, RequestBound]) -> None:
        """`bounds` has the bounds of methods by their full names; SMALL_REQUEST applies to a missing method. Of a
        bound, only `max_fields` is checked here.
        """
        super().__init__()
        self._bounds = bounds

    @override
    def _wrap(self, method: str, handler: Handler) -> Handler:
        decode: Any = handler.request_deserializer
        if decode is None:
            return handler
        inner, make = parts(handler)
        bound = self._bounds.get(method.removeprefix("/"), SMALL_REQUEST)
        if bound.max_fields is not None:
            # The generated code decodes by `FromString`, a method of the class of the message.
            decode = partial(_bounded, decode, shape_of(decode.__self__.DESCRIPTOR), bound.max_fields)
        read: Any = partial(_each if handler.request_streaming else _decoded, decode)

        async def plain(request: Any, context: Context) -> Any:
            return await inner(read(request), context)

        async def generated(request: Any, context: Context) -> AsyncIterator[Any]:
            async with aclosing(inner(read(request), context)) as responses:
                async for response in responses:
                    yield response

        wrapped: Handler = make(
            generated if inspect.isasyncgenfunction(inner) else plain, response_serializer=handler.response_serializer
        )
        return wrapped


def _bounded(decode: Callable[[bytes], Any], shape: Shape, most: int, raw: bytes) -> Any:
    check_fields(raw, shape, most)
    return decode(raw)


def _decoded(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return decode(raw)
    except (DecodeError, Malformed):
        raise InvalidArgument("the request is not a message of this method, or a string in it is not UTF-8") from None


async def _each(decode: Callable[[bytes], Any], messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for raw in messages:
        yield _decoded(decode, raw)


class RequestLog(Around):
    """Interceptor that logs one `rpc` event per call, with the request id that the caller sent, or a new one."""

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Context) -> AsyncIterator[None]:
        structlog.contextvars.bind_contextvars(
            request_id=take_request_id(_metadata(context, REQUEST_ID_KEY)), method=rpc.method
        )
        began = time.monotonic()
        try:
            yield
        finally:
            code = _code(context)
            level = log.debug if rpc.method.startswith(_QUIET) else log.info
            level("rpc", code=code.name, duration_ms=round((time.monotonic() - began) * 1000, 1))


class Trace(Around):
    """Interceptor that makes each call a span, in the caller's trace if the caller sent one. It is used only if the
    process records traces.
    """

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Context) -> AsyncIterator[None]:
        if rpc.method.startswith(_QUIET):
            yield
            return
        name = rpc.method.removeprefix("/")
        service, _, method = name.rpartition("/")
        parent = traces.cause(_metadata(context, traces.HEADER))
        current = ExitStack()
        span = current.enter_context(traces.span(name, kind=traces.SpanKind.SERVER, root=True, parent=parent))
        span.note(rpc__system="grpc", rpc__service=service, rpc__method=method)
        try:
            yield
        finally:
            code = _code(context)
            span.note(rpc__grpc__status_code=code.value[0])
            if code in _OUR_FAULT:
                span.fail(code.name)
            current.close()  # The status code already carries the meaning of the exception.


@dataclass(slots=True)
class _Figures:
    """The metrics of one method, looked up once."""

    method: str
    seconds: Histogram
    open: Gauge
    codes: dict[grpc.StatusCode, Counter]

    def count(self, code: grpc.StatusCode) -> None:
        counter = self.codes.get(code)
        if counter is None:
            counter = self.codes[code] = metrics.RPCS.labels(self.method, code.name)
        counter.inc()


class Metrics(Around):
    """Interceptor that counts calls by status code, and measures the duration of unary calls and the number of open
    streams.
    """

    def __init__(self) -> None:
        super().__init__()
        self._figures: dict[str, _Figures] = {}

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Context) -> AsyncIterator[None]:
        if rpc.method.startswith(_QUIET):
            yield
            return
        figures = self._figures.get(rpc.method) or self._of(rpc)
        began = 0.0
        if rpc.is_unary:
            began = time.perf_counter()
        else:
            figures.open.inc()
        try:
            yield
        finally:
            if rpc.is_unary:
                figures.seconds.observe(time.perf_counter() - began)
            else:
                figures.open.dec()
            figures.count(_code(context))

    def _of(self, rpc: Rpc) -> _Figures:
        """Return the metrics of a method. Only names of existing methods may be passed, so that callers cannot make up
        label values.
        """
        method = rpc.method.removeprefix("/")
        figures = _Figures(method, metrics.RPC_SECONDS.labels(method), metrics.OPEN_STREAMS.labels(method), {})
        self._figures[rpc.method] = figures
        return figures


class DefaultDeadline(Around):
    """Interceptor that ends a unary call without a deadline with DeadlineExceeded after `seconds`, so that no call
    hangs for ever.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Context) -> AsyncIterator[None]:
        remaining = context.time_remaining()
        if not rpc.is_unary or (remaining is not None and remaining < _NO_DEADLINE_SECONDS):
            yield
            return
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            await _fail(
                context,
                DeadlineExceeded(f"took longer than {self._seconds:g} seconds; ask for less at once, or repeat it"),
            )


class Errors(Around):
    """Interceptor that answers a call whose handler has raised an exception with a gRPC status:

    - A SynclineError becomes the status of its kind, with its reason.
    - The error of a call to another service is passed on, if it is a SynclineError as well.
    - Any other exception is logged, and becomes INTERNAL with the request id, by which it is found in the log.

    The cancellation of a call passes through unchanged.
    """

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Context) -> AsyncIterator[None]:
        try:
            yield
        except (asyncio.CancelledError, grpc.aio.AbortError, GeneratorExit):
            raise
        except SynclineError as error:
            await _fail(context, error)
        except Exception as error:  # outermost boundary: any exception is logged and answered here
            passed_on = error_from_rpc(error) if isinstance(error, grpc.RpcError) else None
            if passed_on is not None:
                await _fail(context, passed_on)
            if context.done():  # the client has disconnected, and writing to it failed
                raise
            log.exception("rpc failed", method=rpc.method)
            ident = request_id() or ""
            defect = SynclineError(f"internal error; request id {ident}", request_id=ident)
            await _fail(context, defect)


class Authentication(Around):
    """Interceptor that verifies the token of each call, and refuses callers whose kind the table of operations does not
    admit. An operation that is missing in the table admits nobody.

    Only operations that are open to anybody need no token. The check is an interceptor because a method that forgets a
    check of its own must not be open to all.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        operations: Mapping[str, Callers],
        *,
        refused: Callable[[], None] = lambda: None,
        accepted: Callable[[], None] = lambda: None,
    ) -> None:
        """`verifier` verifies tokens. `operations` is the table: the admitted kinds of callers by full method name
        (`syncline.auth.v1.AuthService/SignIn`). `refused` is called for each call without a valid token, `accepted` for
        each call with one.
        """
        super().__init__()
        self._verifier = verifier
        self._operations = operations
        self._refused = refused
        self._accepted = accepted

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Context) -> AsyncIterator[None]:
        callers = self._operations.get(rpc.method.removeprefix("/"))
        if callers is None or CallerKind.ANONYMOUS not in callers:
            try:
                identity = await self._verified(context)
            except Unauthenticated:
                self._refused()
                raise
            self._accepted()
            set_identity(identity)
            if identity.service is not None:
                structlog.contextvars.bind_contextvars(caller=identity.service)
            elif identity.link is not None:
                structlog.contextvars.bind_contextvars(link=identity.link.link)
            else:
                structlog.contextvars.bind_contextvars(user=identity.user, device=identity.device)
            check_caller(identity.kind, callers, scopes=identity.scopes)
        yield

    async def _verified(self, context: Context) -> Identity:
        scheme, _, token = (_metadata(context, "authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("an access token is needed; sign in")
        return await self._verifier.verify(token.strip())


async def _fail(context: Context, error: SynclineError) -> Never:
    structlog.contextvars.bind_contextvars(reason=error.reason)  # for the log event of the call
    await abort(context, error, metadata=((REQUEST_ID_KEY, request_id() or ""),))


def _code(context: Context) -> grpc.StatusCode:
    """Return the status code with which a call ends, for use in a `finally` clause: OK after success and CANCELLED
    after a cancellation, for which the context has no code.
    """
    if isinstance(sys.exception(), asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED
    return context.code() or grpc.StatusCode.OK


def _metadata(context: Context, key: str) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == key and isinstance(value, str):
            return value
    return None
