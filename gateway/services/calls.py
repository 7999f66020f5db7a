"""The three services, by gRPC, in the caller's name.

A limit of a service that asks to wait, above all the rate of a person, is told to whoever asks for one thing, at once.
What has begun waits instead, so that an archive of many directories goes on more slowly and does not break off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from runtime.network import NETWORK_KEY
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.errors import InvalidArgument, RateExceeded, SynclineError, Unavailable, jittered_pause_seconds
from syncline.model.tree import Node
from syncline.notify.v1 import notify_pb2
from syncline.notify.v1.notify_pb2_grpc import NotifyServiceStub
from syncline.rpc.errors import rpc_errors
from syncline.wire.tree import node_from_wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc.aio

    from syncline.auth.v1.auth_pb2_grpc import AuthServiceAsyncStub
    from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceAsyncStub
    from syncline.notify.v1.notify_pb2_grpc import NotifyServiceAsyncStub

T = TypeVar("T")

AUTH: Final = auth_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name
METADATA: Final = metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"].full_name
NOTIFY: Final = notify_pb2.DESCRIPTOR.services_by_name["NotifyService"].full_name

_MAKES_ANEW: Final = (
    auth_pb2.SignUpRequest,
    auth_pb2.SignInRequest,
    auth_pb2.OpenLinkRequest,
)
"""Requests of what is not the same when it is done twice; all others carry a request id or only read."""
IDEMPOTENT: Final = tuple(
    f"{service.full_name}/{method.name}"
    for service in (
        auth_pb2.DESCRIPTOR.services_by_name["AuthService"],
        metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"],
        notify_pb2.DESCRIPTOR.services_by_name["NotifyService"],
    )
    for method in service.methods
    if method.input_type.full_name not in {request.DESCRIPTOR.full_name for request in _MAKES_ANEW}
)


@dataclass(frozen=True, slots=True)
class Services:
    """Typed stubs. What they are asked goes through `ask` or `stream`, which translate errors."""

    auth: AuthServiceAsyncStub
    metadata: MetadataServiceAsyncStub
    notify: NotifyServiceAsyncStub

    @classmethod
    def over(cls, *, auth: grpc.aio.Channel, metadata: grpc.aio.Channel, notify: grpc.aio.Channel) -> Services:
        """The services behind these channels."""
        return cls(AuthServiceStub(auth), MetadataServiceStub(metadata), NotifyServiceStub(notify))


PATIENCE_SECONDS: Final = 60.0
"""Maximum number of seconds that one call waits in all because a limit of the service asks it to, in a request that
has begun.
"""


class CallPatience:
    """The patience of the calls of one request: they wait when a limit asks them to, once a call in the caller's
    name was answered.
    """

    def __init__(self, *, begun: bool = False) -> None:
        """With `begun` the first call waits, too."""
        self.begun = begun
        self.accepted = False
        """True once a service has done what was asked in the caller's name."""

    async def pause(self, seconds: float, error: SynclineError) -> None:  # noqa: ARG002 - others may raise it
        """Wait so long; or raise `error`, which is what is waited for."""
        await asyncio.sleep(seconds)


_patience: ContextVar[CallPatience | None] = ContextVar("patience", default=None)


def set_patience(patience: CallPatience) -> None:
    """Bind the patience of all calls that are made from here on in this context; without one nothing waits."""
    _patience.set(patience)


def is_accepted() -> bool:
    """True once a service has done, in this context, what was asked in the caller's name."""
    patience = _patience.get()
    return patience is not None and patience.accepted


@dataclass(frozen=True, slots=True)
class RequestOrigin:
    """The network that a request came from. Services count by it what one network takes and tries."""

    network: str
    prove: Callable[[str], str] | None
    """Function that returns the gateway's token for a network; None if the gateway has no secret."""

    def metadata(self) -> Sequence[tuple[str, str]]:
        """Return the metadata by which services are told of the network."""
        # A service that does not know the secret believes the header if it trusts the gateway's network.
        told = [("x-forwarded-for", self.network)]
        return told if self.prove is None else [*told, (NETWORK_KEY, self.prove(self.network))]


_origin: ContextVar[RequestOrigin | None] = ContextVar("origin", default=None)


def set_origin(origin: RequestOrigin) -> None:
    """Bind where the caller is, for all calls that are made from here on in this context."""
    _origin.set(origin)


async def ask(method: Callable[..., Awaitable[T]], request: Any, *, token: str = "") -> T:
    """The answer of a unary rpc; a SynclineError if the service says one.

    `token` is the caller's access token. A call of a request that has begun is repeated as a limit asks it to, unless
    it has no token: a limit of attempts is told at once. What is not the same when it is done twice is repeated only if
    a rate refused it, before anything was done.
    """
    patience = _patience.get()
    deadline = time.monotonic() + PATIENCE_SECONDS
    pauses = 0
    while True:
        try:
            with rpc_errors():
                answer = await method(request, metadata=_metadata(token))
        except SynclineError as error:
            seconds = error.slow_down_seconds
            if seconds is None:
                _begun(patience, token)
                raise
            undone = isinstance(error, RateExceeded) or not isinstance(request, _MAKES_ANEW)
            if patience is None or not (patience.begun and token and undone) or time.monotonic() + seconds > deadline:
                raise
            pauses += 1
            await patience.pause(jittered_pause_seconds(seconds, pauses), error)
        else:
            _begun(patience, token)
            if patience is not None and token:
                patience.accepted = True
            return answer


def _begun(patience: CallPatience | None, token: str) -> None:
    """Without a token it was a call of the gateway's own, such as for a key: nothing was done for the caller yet."""
    if patience is not None and token:
        patience.begun = True


async def ask_pages(method: Callable[..., Awaitable[T]], request: Any, *, token: str) -> AsyncGenerator[T, None]:
    """The pages of a listing, to the last; errors as of `ask`."""
    while True:
        page: Any = await ask(method, request, token=token)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def stream(method: Callable[..., Any], request: Any, *, token: str) -> AsyncGenerator[Any, None]:
    """The answers of an rpc whose stream is never complete, so that its end is an error; closing ends the call."""
    call = method(request, metadata=_metadata(token), timeout=None)
    try:
        with rpc_errors():
            async for answer in call:
                yield answer
        raise Unavailable("the service ended the stream; open it again")
    finally:
        call.cancel()


def _metadata(token: str) -> Sequence[tuple[str, str]]:
    metadata = []
    if token:
        metadata.append(("authorization", f"Bearer {token}"))
    if (origin := _origin.get()) is not None:
        metadata += origin.metadata()
    return metadata


def known_node(pb: journal_pb2.Node) -> Node:
    """A node that metadata sent. A malformed one is a defect of ours, and not what InvalidArgument would say."""
    try:
        return node_from_wire(pb)
    except InvalidArgument as error:
        raise ValueError(f"metadata sent a malformed node: {error}") from None
