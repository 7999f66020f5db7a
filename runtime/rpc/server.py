"""The life of a gRPC service's process: from a composed application to a process that starts, serves, drains and ends.

    # bootstrap.py: the one place where constructors meet
    @asynccontextmanager
    async def bootstrap(settings: MetadataSettings, adapters: MetadataAdapters) -> AsyncIterator[App]:
        servicer = MetadataServicer(...)
        yield App(name="metadata", mounts=[partial(add_MetadataServiceServicer_to_server, servicer)], ...)

    # __main__.py
    serve(MetadataSettings, on_aws, bootstrap, run, name="metadata")

Tests serve the same application on a free port: `async with running(app) as target`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic import SecretStr
from typing_extensions import override

from runtime import memory, metrics, process
from runtime.connection_pool import ConnectionPool
from runtime.drain import Drain
from runtime.listening import split_address, with_port
from runtime.logs import structlog
from runtime.network_tokens import NetworkTokenVerifier
from runtime.permissions import MAX_SMALL_REQUEST_BYTES, REQUEST_BOUNDS, RPCS, WORK
from runtime.pool import Pool, Share
from runtime.rates import Rates
from runtime.refusals import DelayedRefusals, RefusalRate
from runtime.rpc.answers import Answers
from runtime.rpc.beginning import Beginning, Beginnings
from runtime.rpc.call_network import CallNetwork
from runtime.rpc.intake import FILES_PER_CONNECTION, HANDSHAKE_SECONDS, READ_BYTES, Intake
from runtime.rpc.interceptors import (
    Authentication,
    Decoding,
    DefaultDeadline,
    Errors,
    Metrics,
    RequestLog,
    StreamsEnd,
    Trace,
)
from runtime.rpc.pacing import Pacing
from runtime.rpc.reflection import Reflection
from runtime.rpc.refusals import Refusals
from runtime.rpc.requests import WINDOW_BYTES, Arriving, Taking
from runtime.rpc.strangers import Strangers
from runtime.settings import ServiceSettings
from syncline.model.errors import Draining
from syncline.model.retry_policy import RetryPolicy
from syncline.rpc import traces

if TYPE_CHECKING:
    from runtime.permissions import Callers, RequestBound, Work
    from runtime.tokens import TokenVerifier

Mount: TypeAlias = Callable[[grpc.aio.Server], None]
"""Function that adds a servicer to a server: `partial(add_XServicer_to_server, servicer)`."""

MAX_STREAMS_PER_CONNECTION: Final = 256
"""Maximum number of concurrent calls on one connection; further calls wait at the client."""
IDLE_SECONDS: Final = 300.0
"""Seconds after which an idle connection is closed."""
MAX_METADATA_BYTES: Final = 16_384
"""Maximum size of the metadata of a call, in bytes."""
RECEIVED_SIZE_FACTOR: Final = 4
"""Maximum size of a message that gRPC receives, as a multiple of the largest request that a method of the server
admits.
"""
MAX_HEALTH_WATCHES: Final = 256
"""Maximum number of open streams of the health service, which anybody may open. Each connection counts as a caller of
its own.
"""

_RESTARTS: Final = RetryPolicy(first_pause_seconds=0.5, max_pause_seconds=30)
"""The pauses before failed background work is restarted."""

log = structlog.get_logger()


def _concerns_the_service(record: logging.LogRecord) -> bool:
    """Return True if a log record of gRPC is worth logging. Return False for one that says only that a call ended
    before its answer could be sent.

    gRPC itself ends the call of a client that sends a message which is too large when it is decompressed. It then logs
    an error with two tracebacks for the answer of the handler. Anybody could fill the log so.
    """
    return record.exc_info is None or record.exc_info[0] is None or record.exc_info[0].__name__ != "ExecuteBatchError"


logging.getLogger("grpc._cython.cygrpc").addFilter(_concerns_the_service)


@dataclass(frozen=True, kw_only=True)
class App:
    """A composed service, ready to be served.

    - `name` is the name of the service.
    - `mounts` add the servicers of the service to the server.
    - `verifier` verifies tokens; if it is None, callers are not authenticated.
    - `operations` has the kinds of callers that each method admits, by the full name of the method
      (`pkg.Service/Method`). A missing method admits nobody.
    - `bounds` has the maximum size of a request of each method; SMALL_REQUEST applies to a missing method.
    - `work` has the kind of work of each method, which decides its rate limit.
    - `background` has context managers, which are entered in order before serving and left in reverse order after the
      last call has ended.
    - `drain` ends the streams when the process is about to stop.
    """

    name: str
    mounts: Sequence[Mount]
    verifier: TokenVerifier | None = None
    operations: Mapping[str, Callers] = field(default_factory=lambda: RPCS)
    bounds: Mapping[str, RequestBound] = field(default_factory=lambda: REQUEST_BOUNDS)
    work: Mapping[str, Work] = field(default_factory=lambda: WORK)
    background: Sequence[AbstractAsyncContextManager[Any]] = ()
    drain: Drain = field(default_factory=Drain)


class Health(health.aio.HealthServicer):
    """The standard health service, whose streams additionally end with Draining when the process drains."""

    def __init__(self, drain: Drain) -> None:
        super().__init__()
        self._drain = drain
        self._watches = Pool("health", MAX_HEALTH_WATCHES)

    @override
    async def Watch(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Send the status at once and after each change, as grpc.health.v1 specifies. Raise TooMuchAtOnce above
        MAX_HEALTH_WATCHES open streams.
        """
        share = Share.alone(context.peer())
        if not self._watches.try_take(1, share):
            raise self._watches.refused("too many clients watch the health; use Check instead of Watch")
        try:
            await self._until_draining(request, context)
        finally:
            self._watches.give(1, share)

    async def _until_draining(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        watching = asyncio.ensure_future(super().Watch(request, context))
        draining = asyncio.ensure_future(self._drain.wait())
        try:
            await asyncio.wait((watching, draining), return_when=asyncio.FIRST_COMPLETED)
            if not watching.done():
                raise Draining
            watching.result()
        finally:
            draining.cancel()
            watching.cancel()
            await asyncio.wait((watching, draining))


@dataclass(frozen=True, slots=True)
class BoundServer:
    """A server whose listening address is bound, and which does not accept calls yet."""

    server: grpc.aio.Server
    port: int
    health: Health
    services: Sequence[str]
    """Full names of the mounted services."""
    intake: Intake | None
    """The listener that accepts connections in front of gRPC; None behind a load balancer, whose connections gRPC
    accepts itself.
    """


def build(app: App, settings: ServiceSettings) -> BoundServer:
    """Return a server for `app` whose address is bound, with the interceptors, the health service, reflection and all
    limits. Raise OSError if the address is taken.
    """
    is_direct = not settings.trusted_proxies
    most = process.most_connections(settings.connections, files=FILES_PER_CONNECTION if is_direct else 1)
    intake = Intake(ConnectionPool(most, settings.trusted_networks)) if is_direct else None
    gateway_secret = settings.gateway_secret.get_secret_value()
    interceptors: list[grpc.aio.ServerInterceptor] = [
        Arriving(),
        CallNetwork(
            trusted_proxies=settings.trusted_proxies,
            trusted_networks=settings.trusted_networks,
            gateway=NetworkTokenVerifier(gateway_secret) if gateway_secret else None,
            peer=str if intake is None else intake.handed_in,
            proven=_nothing if intake is None else intake.proven,
        ),
        *([Trace()] if traces.on() else ()),
        RequestLog(),
        *([Metrics()] if settings.metrics_listen else ()),
        DefaultDeadline(settings.default_deadline_seconds),
        Errors(),
        Refusals(intake, DelayedRefusals(RefusalRate())),
    ]
    strangers = Strangers(intake)
    taking = Taking(
        settings.request_bytes,
        message_bytes=settings.max_message_bytes,
        bounds=app.bounds,
        seconds=settings.request_seconds,
    )
    if app.verifier is None:
        interceptors.append(taking)
    else:
        beginnings = Beginnings(begun=_nothing if intake is None else intake.begun)
        if intake is not None:
            intake.count_waiting(beginnings.waiting)
        interceptors += [
            Authentication(app.verifier, app.operations, refused=strangers.refused, accepted=strangers.accepted),
            taking,
            Beginning(beginnings),
            Pacing(Rates(settings.rates()), app.work, streams=settings.streams_open),
        ]
    answers = Answers(
        settings.unread_bytes, intake, seconds=settings.request_seconds, rate=settings.body_bytes_per_second
    )
    interceptors += [answers, StreamsEnd(app.drain.until), Decoding(app.bounds)]
    registrar = _Registrar()
    for mount in app.mounts:
        mount(cast("grpc.aio.Server", registrar))
    server = grpc.aio.server(
        interceptors=interceptors,
        options=[
            ("grpc.so_reuseport", 0),
            (
                "grpc.max_receive_message_length",
                received_bytes(registrar.services, app.bounds, settings.max_message_bytes),
            ),
            # These options bound the bytes of a call that arrive before its caller is known. Bandwidth probing would
            # let the window grow to megabytes.
            ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
            ("grpc.http2.bdp_probe", 0),
            # A limit per connection does not bound a client with many connections, but it keeps one connection from
            # filling the queue of unprocessed calls. Our channels and the balancer open further connections.
            ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
            ("grpc.max_allowed_incoming_connections", most),
            # By default, grpc reads ever larger pieces from a busy connection, and keeps such buffers.
            ("grpc.experimental.tcp_max_read_buffer_size", READ_BYTES),
            # A peer that connects and does not speak HTTP/2, sends no more calls, or does not acknowledge the settings
            # is disconnected soon: until the acknowledgement, metadata may have the 16 MiB of grpc's default.
            ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_SECONDS * 1000)),
            ("grpc.http2.settings_timeout", int(HANDSHAKE_SECONDS * 1000)),
            ("grpc.max_connection_idle_ms", int(IDLE_SECONDS * 1000)),
            # Between grpc's soft and hard limit it refuses at random, so both are equal.
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
            # Devices behind NAT may ping; with the defaults the server would answer 'Too many pings'.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            # Detect within minutes, not hours, that a device has disappeared.
            ("grpc.keepalive_time_ms", 120_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ],
    )
    checks = Health(app.drain)
    health_pb2_grpc.add_HealthServicer_to_server(checks, cast("grpc.aio.Server", registrar))
    registrar.register(server)
    server.add_generic_rpc_handlers((Reflection(registrar.services),))
    try:
        port = intake.bind(settings.listen) if intake is not None else 0
        bound = server.add_insecure_port(settings.listen if intake is None else intake.address)
    except (OSError, RuntimeError) as error:
        if intake is not None:
            intake.discard()
        raise OSError(f"cannot listen on {settings.listen}: {error}") from None
    return BoundServer(server, port or bound, checks, tuple(registrar.services), intake)


async def run(app: App, settings: ServiceSettings) -> None:
    """Serve `app` until SIGTERM or SIGINT, then drain:

    - For `drain_seconds` of the settings, the service still accepts calls, while its health status says that it stops.
    - Then streams end with Draining, and no new call is accepted.
    - Calls in flight have `grace_seconds` of the settings to end; those that take longer are cancelled.

    A second signal ends the process at once. Raise OSError if the address, or that of the metrics, is taken.
    """
    with process.told_to_stop() as stopping:
        async with _serving(app, settings) as listening, memory.returning():
            host, _ = split_address(settings.listen)
            memory.settle()
            log.info("serving", host=host, port=listening.port, services=sorted(listening.services))
            await stopping.wait()
    log.info("stopped")


@asynccontextmanager
async def running(app: App, settings: ServiceSettings | None = None) -> AsyncIterator[str]:
    """Serve `app` as `run` does until the context ends, and yield its address, host:port. For tests. By default it
    listens on a free port of 127.0.0.1, and drains without waiting for a balancer; `settings` replaces the defaults.
    """
    used = settings or ServiceSettings(
        listen="127.0.0.1:0", drain_seconds=0, grace_seconds=2, service_secret=SecretStr("for tests only " * 3)
    )
    async with _serving(app, used) as listening:
        yield with_port(used.listen, listening.port)


@asynccontextmanager
async def background(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Context manager within which the coroutine function `work` runs in a task; the task is cancelled at the end. If
    `work` fails, the error is logged and `work` is called again after a pause. If `work` returns, it is not called
    again. `name` names the task in the log.
    """

    async def persist() -> None:
        failures = 0
        while True:
            try:
                await work()
            except Exception:
                failures += 1
                pause = _RESTARTS.pause_seconds(failures)
                log.exception("background work failed", work=name, again_in=pause)
                await asyncio.sleep(pause)
            else:
                return

    task = asyncio.create_task(persist(), name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


@asynccontextmanager
async def _serving(app: App, settings: ServiceSettings) -> AsyncIterator[BoundServer]:
    async with AsyncExitStack() as stack:
        stack.enter_context(metrics.exposed(settings.metrics_listen))
        for work in app.background:
            await stack.enter_async_context(work)
        listening = build(app, settings)
        await listening.server.start()
        if listening.intake is not None:
            listening.intake.start()
            stack.push_async_callback(listening.intake.close)
        for service in listening.services:
            await listening.health.set(service, health_pb2.HealthCheckResponse.SERVING)
        try:
            yield listening
        finally:
            # The order decides what clients see: first the balancer stops sending new calls, then streams end and are
            # reopened on another server, then the remaining calls finish.
            await listening.health.enter_graceful_shutdown()
            await asyncio.sleep(settings.drain_seconds)
            app.drain.begin()
            if listening.intake is not None:
                listening.intake.stop()
            await listening.server.stop(settings.grace_seconds)


def received_bytes(services: Sequence[str], bounds: Mapping[str, RequestBound], most: int) -> int:
    """Return the maximum size of a message that gRPC receives for `services`, in bytes, and at most `most`: gRPC
    refuses a larger one when it knows the size. `bounds` has the bounds of methods by their full names.

    gRPC has one maximum for all methods of a server. It is RECEIVED_SIZE_FACTOR times the largest bound, so
    that the service itself refuses a message that exceeds its bound a little, and gives the reason.
    """
    large = [bound.max_bytes for method, bound in bounds.items() if method.rpartition("/")[0] in services]
    return min(most, RECEIVED_SIZE_FACTOR * max(large, default=MAX_SMALL_REQUEST_BYTES))


class _Registrar:
    """Stand-in for a server, which records the servicers that are added and the names of their services. The names are
    needed before there is a server.
    """

    def __init__(self) -> None:
        self.services: list[str] = []
        self._added: list[Callable[[grpc.aio.Server], None]] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        for handler in handlers:
            if isinstance(handler, grpc.ServiceRpcHandler):
                self.services.append(handler.service_name())
        self._added.append(lambda server: server.add_generic_rpc_handlers(handlers))

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self._added.append(lambda server: server.add_registered_method_handlers(service, handlers))

    def register(self, server: grpc.aio.Server) -> None:
        """Add all recorded servicers to `server`."""
        for add in self._added:
            add(server)


def _nothing(_name: str) -> None:
    """Ignore an event of a connection or a call: a service behind a load balancer has no intake to notify."""
