"""Channels to a service, which add deadlines, retries, authorization, request ids and traces to all calls.

This module depends only on grpc, because both clients and services use it. Both flavours of channel (for asyncio and
for threads) wrap grpc's channel instead of using grpc's client interceptors, which create a task per call (aio) and do
not cover every kind of call with one instance.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import grpc
import grpc.aio

from syncline.rpc import traces
from syncline.rpc.message_bounds import check_fields
from syncline.rpc.request_ids import REQUEST_ID_KEY, request_id

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Authorization: TypeAlias = Callable[[], str | None]
"""Function without arguments that returns the token for a call, or None for a call without a token. It must not block
for long.
"""

MAX_RECEIVE_BYTES: Final = 16 * 1024 * 1024
"""Maximum size in bytes of one message in the answer to the method LIST_CHANGES. Such a message is a page, and in
addition up to a hundred nodes with long manifests.
"""
MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
"""Maximum size of a message of any other method, in bytes: twice the size of a page."""
MAX_LARGE_MESSAGE_FIELDS: Final = 10_000
"""Maximum number of fields, such as nodes, of a message of more than MAX_ANSWER_BYTES. A service sends a message of
more than a page only for some hundred nodes with long manifests.
"""
LIST_CHANGES: Final = "syncline.metadata.v1.MetadataService/ListChanges"
DEFAULT_TIMEOUT_SECONDS: Final = 30.0

_MAX_CONNECTIONS: Final = 32
"""Maximum number of connections of one channel to one address. With a single connection, calls above a server's limit
per connection would wait until another call ends, which for a watch takes hours.
"""
_RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    # CANCELLED comes from a server whose grace period ended during its shutdown; a local cancellation is never retried.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}


def aio_channel(
    target: str,
    *,
    authorization: Authorization | None = None,
    idempotent: Iterable[str] = (),
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    tls: bool = False,
    root_certificates: bytes | None = None,
) -> grpc.aio.Channel:
    """Return a channel for asyncio to the service at `target` (host:port). The caller must use the channel in `async
    with`, or close it.

    - `authorization` returns the token of each call; None sends calls without a token.
    - `idempotent` has full names of methods (`pkg.Service/Method`) or of whole services (`pkg.Service`); their calls
      are repeated on transient faults.
    - `timeout`, in seconds, is the deadline of unary calls that have no deadline of their own.
    - With `tls`, the connection is encrypted. `root_certificates` are the trusted certificates in PEM; None means those
      that gRPC trusts by default.

    The channel uses no proxy, because the services are on the same network.
    """
    options = [*_options(idempotent), *_through(None)]
    channel = (
        grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(root_certificates), options)
        if tls
        else grpc.aio.insecure_channel(target, options)
    )
    return _AioChannel(channel, authorization, timeout)


def sync_channel(
    target: str,
    *,
    authorization: Authorization | None = None,
    idempotent: Iterable[str] = (),
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    tls: bool = False,
    root_certificates: bytes | None = None,
    proxy: str | None = None,
) -> grpc.Channel:
    """Return a channel for use in threads to the service at `target` (host:port). The caller must use the channel in
    `with`, or close it. `proxy` is the address of an HTTP proxy, `http://host:port`; None for no proxy. The other
    arguments are those of `aio_channel`.
    """
    options = [*_options(idempotent), *_through(proxy)]
    channel = (
        grpc.secure_channel(target, grpc.ssl_channel_credentials(root_certificates), options)
        if tls
        else grpc.insecure_channel(target, options)
    )
    return _SyncChannel(channel, authorization, timeout)


def service_config(idempotent: Iterable[str]) -> str:
    """Return a gRPC service config as JSON. By this configuration, gRPC

    - repeats failed calls of `idempotent`, full names of methods or of whole services,
    - refuses answers of more than MAX_ANSWER_BYTES from all methods except LIST_CHANGES, and
    - opens a further connection when a connection has as many calls as the server allows.
    """
    wanted = [name.strip("/") for name in idempotent]
    repeated = {"retryPolicy": _RETRY_POLICY, "maxResponseMessageBytes": MAX_ANSWER_BYTES}
    # The most specific name decides alone about a method, so each configuration has all its parts.
    changes: dict[str, Any] = {"name": [_config_name(LIST_CHANGES)]}
    if LIST_CHANGES in wanted or LIST_CHANGES.partition("/")[0] in wanted:
        changes["retryPolicy"] = _RETRY_POLICY
    names = [_config_name(name) for name in wanted if name != LIST_CHANGES]
    config = {
        "methodConfig": [
            *([{"name": names, **repeated}] if names else []),
            {"name": [{}], "maxResponseMessageBytes": MAX_ANSWER_BYTES},
            changes,
        ],
        # A service limits the calls on a connection; the gateway has the calls of all users on one channel.
        "connectionScaling": {"maxConnectionsPerSubchannel": _MAX_CONNECTIONS},
    }
    return json.dumps(config)


def _config_name(name: str) -> dict[str, str]:
    service, _, method = name.partition("/")
    return {"service": service, "method": method} if method else {"service": service}


def _options(idempotent: Iterable[str]) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
        ("grpc.service_config", service_config(idempotent)),
        ("grpc.enable_retries", 1),
        ("grpc.max_connections_per_subchannel_cap", _MAX_CONNECTIONS),
        # A server that does not expect pings answers 'Too many pings' to anything more frequent than every 5 minutes.
        ("grpc.keepalive_time_ms", 330_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        # The default grows to two minutes, which would delay calls long after a service has restarted.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]


def _through(proxy: str | None) -> list[tuple[str, Any]]:
    """Return the channel options for the HTTP proxy `proxy`; None means no proxy. Without them, gRPC would choose a
    proxy from environment variables by rules of its own.
    """
    return [("grpc.enable_http_proxy", 0)] if proxy is None else [("grpc.http_proxy", proxy)]


class _Calls:
    """A method of a stub (grpc's multi-callable) that adds deadline, authorization, request id and trace, and then
    calls `inner`. One class serves unary and streaming calls, of both flavours of channel.
    """

    def __init__(self, inner: Any, authorization: Authorization | None, timeout: float | None) -> None:
        self._inner = inner
        self._authorization = authorization
        self._timeout = timeout

    def __call__(self, request: Any = None, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
        return self._start(self._inner, request, timeout, metadata, more)

    def with_call(self, request: Any, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
        return self._start(self._inner.with_call, request, timeout, metadata, more)

    def future(self, request: Any, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
        return self._start(self._inner.future, request, timeout, metadata, more)

    def _start(
        self, start: Callable[..., Any], request: Any, timeout: float | None, metadata: Any, more: dict[str, Any]
    ) -> Any:
        return start(
            request,
            timeout=self._timeout if timeout is None else timeout,
            metadata=self._metadata(metadata),
            **more,
        )

    def traced(self, method: str) -> _Calls:
        """Return an equivalent method that makes a span for each call if this process traces; otherwise return this
        method.
        """
        return _TracedCalls(self, method) if traces.on() else self

    def _metadata(self, given: Any) -> Sequence[tuple[str, str | bytes]]:
        metadata = list(given or ())
        keys = {key for key, _ in metadata}
        current = request_id()
        if current is not None and REQUEST_ID_KEY not in keys:
            metadata.append((REQUEST_ID_KEY, current))
        if self._authorization is not None and "authorization" not in keys:
            token = self._authorization()
            if token:
                metadata.append(("authorization", f"Bearer {token}"))
        return tuple(metadata)


class _TracedCalls(_Calls):
    """A method of a stub, like `_Calls`, that also makes a span for each call. The span ends when the call ends, which
    for streams may be much later than the return of the method.
    """

    def __init__(self, calls: _Calls, method: str) -> None:
        super().__init__(calls._inner, calls._authorization, calls._timeout)  # another instance of the same class
        self._service, self._method = method.strip("/").rsplit("/", 1)

    def _start(
        self, start: Callable[..., Any], request: Any, timeout: float | None, metadata: Any, more: dict[str, Any]
    ) -> Any:
        span = traces.span(
            f"{self._service}/{self._method}",
            kind=traces.SpanKind.CLIENT,
            rpc__system="grpc",
            rpc__service=self._service,
            rpc__method=self._method,
        )
        if span is traces.NOTHING:
            return super()._start(start, request, timeout, metadata, more)
        sent = [*(metadata or ()), (traces.HEADER, span.header())]
        try:
            answer = super()._start(start, request, timeout, sent, more)
        except grpc.RpcError as error:
            _end(span, error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN)
            raise
        except BaseException as error:
            span.fail(type(error).__name__)
            span.end()
            raise
        _end_with(answer, span)
        return answer


def _end_with(answer: Any, span: traces.Span) -> None:
    """End the span of a call when the call ends. `answer` is what grpc returned: a call, a response with its call, or
    only the response, whose call has ended.
    """
    call: Any = answer[1] if isinstance(answer, tuple) else answer
    if isinstance(call, grpc.aio.Call):
        call.add_done_callback(lambda call: _end_soon(call, span))
    elif isinstance(call, grpc.Future):
        ended: Any = call  # also a Call, which has a code
        call.add_done_callback(lambda _: _end(span, ended.code()))
    else:
        _end(span, grpc.StatusCode.OK)


_ending: set[asyncio.Task[None]] = set()
"""The tasks that end the spans of calls. They are kept here because the event loop keeps no strong reference to a task.

"""


def _end_soon(call: grpc.aio.Call, span: traces.Span) -> None:
    """End the span in a task, because only a coroutine can read the code, even of a call that has ended."""

    async def end() -> None:
        _end(span, await call.code())

    task = asyncio.ensure_future(end())
    _ending.add(task)
    task.add_done_callback(_ending.discard)


def _end(span: traces.Span, code: grpc.StatusCode) -> None:
    span.note(rpc__grpc__status_code=code.value[0])
    if code is not grpc.StatusCode.OK:
        span.fail(code.name)
    span.end()


def _decoded(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    """Return the message that `decode` makes of the bytes `raw`. Raise RequestTooLarge, which ends the call, if the
    message is larger than MAX_ANSWER_BYTES and has more than MAX_LARGE_MESSAGE_FIELDS fields; raise Malformed if the
    bytes are no message.
    """
    if len(raw) > MAX_ANSWER_BYTES:
        check_fields(raw, {}, MAX_LARGE_MESSAGE_FIELDS)
    return decode(raw)


class _Wrapped:
    """The common part of both flavours of channel, which returns the methods for stubs: unary calls get the default
    deadline, streams get none.
    """

    def __init__(self, inner: Any, authorization: Authorization | None, timeout: float) -> None:
        self._inner = inner
        self._authorization = authorization
        self._timeout = timeout

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        calls = _Calls(self._inner.unary_unary(method, *args, **kwargs), self._authorization, self._timeout)
        return calls.traced(method)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if method.strip("/") == LIST_CHANGES and kwargs.get("response_deserializer") is not None:
            kwargs["response_deserializer"] = partial(_decoded, kwargs["response_deserializer"])
        calls = _Calls(self._inner.unary_stream(method, *args, **kwargs), self._authorization, None)
        return calls.traced(method)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        calls = _Calls(self._inner.stream_unary(method, *args, **kwargs), self._authorization, None)
        return calls.traced(method)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        calls = _Calls(self._inner.stream_stream(method, *args, **kwargs), self._authorization, None)
        return calls.traced(method)


class _AioChannel(_Wrapped, grpc.aio.Channel):
    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(exc_type, exc, traceback)

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return cast("grpc.ChannelConnectivity", self._inner.get_state(try_to_connect))

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()


class _SyncChannel(_Wrapped, grpc.Channel):
    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inner.__exit__(exc_type, exc, traceback)

    def close(self) -> None:
        self._inner.close()

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = False
    ) -> None:
        self._inner.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        self._inner.unsubscribe(callback)
