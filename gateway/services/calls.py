"""Calls of the three services by gRPC, on behalf of the caller.

A service may refuse a call by a limit, such as a person's rate limit, and say how long to wait. The gateway passes the
refusal on to its client only if it is the first call for a request. A request of which a call was answered waits and
repeats the refused call, so that an archive of many directories becomes slower and does not break.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from runtime.claims import read_claims
from runtime.network_tokens import NETWORK_KEY
from runtime.turns import SLICE_ITEMS, slices
from syncline.admin.v1 import admin_pb2
from syncline.admin.v1.admin_pb2_grpc import AdminServiceStub
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

    from syncline.admin.v1.admin_pb2_grpc import AdminServiceAsyncStub
    from syncline.auth.v1.auth_pb2_grpc import AuthServiceAsyncStub
    from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceAsyncStub
    from syncline.notify.v1.notify_pb2_grpc import NotifyServiceAsyncStub

T = TypeVar("T")

AUTH: Final = auth_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name
METADATA: Final = metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"].full_name

_MAKES_ANEW: Final = (
    auth_pb2.SignUpRequest,
    auth_pb2.SignInRequest,
    auth_pb2.OpenLinkRequest,
    auth_pb2.RequestProofRequest,
    auth_pb2.ProveAddressRequest,
    auth_pb2.RefuseInvitationRequest,
    auth_pb2.RequestResetRequest,
    auth_pb2.ResetPasswordRequest,
    auth_pb2.RemoveFactorRequest,
)
"""Types of requests that are not idempotent: each call creates, mails or spends something. All other requests have a
request id, only read, or have the same answer again, as ConfirmTotp.
"""
IDEMPOTENT: Final = tuple(
    f"{service.full_name}/{method.name}"
    for service in (
        admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
        auth_pb2.DESCRIPTOR.services_by_name["AuthService"],
        metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"],
        notify_pb2.DESCRIPTOR.services_by_name["NotifyService"],
    )
    for method in service.methods
    if method.input_type.full_name not in {request.DESCRIPTOR.full_name for request in _MAKES_ANEW}
)


@dataclass(frozen=True, slots=True)
class Services:
    """gRPC stubs of the three services, of which auth has a second stub for administrators. They are called through
    `ask` or `stream`, which raise the services' errors.
    """

    auth: AuthServiceAsyncStub
    metadata: MetadataServiceAsyncStub
    notify: NotifyServiceAsyncStub
    admin: AdminServiceAsyncStub

    @classmethod
    def over(cls, *, auth: grpc.aio.Channel, metadata: grpc.aio.Channel, notify: grpc.aio.Channel) -> Services:
        """Return the stubs of the services to which these channels lead."""
        return cls(
            AuthServiceStub(auth), MetadataServiceStub(metadata), NotifyServiceStub(notify), AdminServiceStub(auth)
        )


PATIENCE_SECONDS: Final = 60.0
"""Maximum number of seconds that one call waits for limits in total."""


class CallPatience:
    """The waiting policy for the calls of one request: a call that a service's limit refuses waits and is repeated,
    once an earlier call of the request on behalf of the caller was answered.
    """

    def __init__(self, *, begun: bool = False) -> None:
        """`begun` is True if even the first call of the request waits for limits."""
        self.begun = begun
        self.accepted = False
        """True once a service has carried out a call on behalf of the caller."""

    async def pause(self, seconds: float, error: SynclineError) -> None:  # noqa: ARG002 - others may raise it
        """Wait `seconds` before a refused call is repeated. `error` is the refusal by the limit, which a subclass may
        raise instead of waiting.
        """
        await asyncio.sleep(seconds)


_patience: ContextVar[CallPatience | None] = ContextVar("patience", default=None)


def set_patience(patience: CallPatience) -> None:
    """Set the waiting policy of all further calls of services in this task and its child tasks. In a task without a
    policy, no call waits.
    """
    _patience.set(patience)


def is_accepted() -> bool:
    """Return True if a service has carried out a call on behalf of the caller in this task."""
    patience = _patience.get()
    return patience is not None and patience.accepted


@dataclass(frozen=True, slots=True)
class RequestOrigin:
    """The network that a request to the gateway came from. Services use it for limits per network."""

    network: str
    prove: Callable[[str], str] | None
    """Function that takes a network, and returns the gateway's network token for it; None if the gateway has no
    secret.
    """

    def metadata(self) -> Sequence[tuple[str, str]]:
        """Return the gRPC metadata that states the network to services."""
        # A service that does not know the secret uses this header if it trusts the gateway's network.
        told = [("x-forwarded-for", self.network)]
        return told if self.prove is None else [*told, (NETWORK_KEY, self.prove(self.network))]


_origin: ContextVar[RequestOrigin | None] = ContextVar("origin", default=None)


def set_origin(origin: RequestOrigin) -> None:
    """Set the network of the request for all further calls of services in this task and its child tasks."""
    _origin.set(origin)


async def ask(method: Callable[..., Awaitable[T]], request: Any, *, token: str = "") -> T:
    """Call a unary rpc of a service, and return the answer. Raise the SynclineError that the service reports.

    `token` is the caller's access token. If a limit refuses the call, and the waiting policy says that the request has
    begun, the call is repeated after the time in the refusal. There are two exceptions:

    - A call without a token is not repeated: a limit of attempts is reported at once.
    - A call that is not idempotent is repeated only after a rate limit, which refuses before anything is done.
    """
    patience = _patience.get()
    deadline = time.monotonic() + PATIENCE_SECONDS
    pauses = 0
    is_of_repetition = False
    while True:
        try:
            with rpc_errors():
                answer = await method(request, metadata=_metadata(token))
        except SynclineError as error:
            # An earlier attempt remains in doubt whatever the attempts after it are answered.
            error.is_of_repetition = is_of_repetition = is_of_repetition or error.is_of_repetition
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
    """Record in the waiting policy that a call of the request was answered, so that further calls wait for limits. A
    call without a token, such as an exchange of a key, is the gateway's own and is not recorded.
    """
    if patience is not None and token:
        patience.begun = True


async def ask_pages(method: Callable[..., Awaitable[T]], request: Any, *, token: str) -> AsyncGenerator[T, None]:
    """Yield the answers of the paginated rpc `method`, page by page, from the page on that `request` asks for. `token`
    is the caller's access token. Raise the SynclineError that the service reports.
    """
    while True:
        page: Any = await ask(method, request, token=token)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def stream(method: Callable[..., Any], request: Any, *, token: str) -> AsyncGenerator[Any, None]:
    """Yield the answers of an rpc whose stream never ends normally, so that its end is an error. Closing the generator
    ends the call. Raise the SynclineError that the service reports, and Unavailable at the end of the stream.
    """
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


async def in_turns(items: Sequence[T], token: str) -> AsyncIterator[Sequence[T]]:
    """Yield the items of a long answer or request in order, in slices, each in a turn on the event loop that is charged
    to the person or public link of an access token.
    """
    async for some in slices(items, read_claims(token).subject if len(items) > SLICE_ITEMS else ""):
        yield some


def known_node(pb: journal_pb2.Node) -> Node:
    """Return the node in a message of metadata. Raise ValueError if the message is malformed: that is a defect of a
    service, and must not become InvalidArgument, which blames the client.
    """
    try:
        return node_from_wire(pb)
    except InvalidArgument as error:
        raise ValueError(f"metadata sent a malformed node: {error}") from None
