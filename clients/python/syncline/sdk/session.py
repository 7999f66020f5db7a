"""A signed-in device: its tokens, its channels, and the single way in which it makes calls.

Every call is counted and has a deadline. The channel repeats a call on transient faults; a call whose token was refused
is repeated once with a new token. Errors are SynclineErrors.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from syncline.auth.v1 import auth_pb2, auth_pb2_grpc
from syncline.metadata.v1 import metadata_pb2, metadata_pb2_grpc
from syncline.model.errors import RateExceeded, SynclineError, Unauthenticated, Unavailable, jittered_pause_seconds
from syncline.notify.v1 import notify_pb2, notify_pb2_grpc
from syncline.rpc.channel import sync_channel
from syncline.rpc.errors import error_from_rpc
from syncline.sdk.account_file import AccountFile, StoredAccount
from syncline.sdk.discovery import Deployment, Service, discover
from syncline.sdk.errors import NotSignedIn, UnexpectedAnswer, understood
from syncline.sdk.network import proxy_for, roots
from syncline.sdk.pages import paged
from syncline.sdk.requests import RequestCounts

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from syncline.admin.v1.admin_pb2_grpc import AdminServiceStub

Request = TypeVar("Request")
Response = TypeVar("Response")
Item = TypeVar("Item")

TOKEN_MARGIN_MS = 60_000
"""Milliseconds before its expiry from which on an access token is not used any more."""
PATIENCE_SECONDS = 60.0
"""Maximum total of seconds that one call waits for limits of the service."""
RATE_PATIENCE_SECONDS = 600.0
"""Maximum total of seconds that one call waits for a person's rate limit. All devices of the person share that limit,
and another device may be faster after each pause, so long-running work needs patience.
"""
_REDISCOVERY_SECONDS = 3.0
_REDISCOVERY_PAUSE_SECONDS = 10.0
"""Minimum number of seconds between two rediscoveries; services may move several times during a long watch."""

_ADMIN = "syncline.admin.v1.AdminService"
_AUTH = "syncline.auth.v1.AuthService"
# SignUp, SignIn and some others create, mail or spend something each time; all other calls may be repeated.
_IDEMPOTENT_AUTH = (
    _ADMIN,
    *(
        f"{_AUTH}/{method}"
        for method in (
            "RefreshToken",
            "SignOut",
            "GetAccount",
            "ListDevices",
            "RevokeDevice",
            "ChangePassword",
            "ListFactors",
            "AddTotp",
            "ConfirmTotp",
            "CreateSpace",
            "ListSpaces",
            "ListMembers",
            "SetMember",
            "RemoveMember",
            "RenameSpace",
            "DeleteSpace",
            "UndeleteSpace",
            "ListDeletedSpaces",
            "TransferSpace",
            "ListInvitations",
            "RevokeInvitation",
            "AcceptInvitation",
            "DeclineInvitation",
            "IssueCredentials",
        )
    ),
)


def _unary(service: ServiceDescriptor) -> tuple[str, ...]:
    """Return the unary methods of a service. Streams are excluded: their readers reopen them, and gRPC's own retry of a
    stream sometimes waits for ever if the server disappears meanwhile.
    """
    return tuple(f"{service.full_name}/{method.name}" for method in service.methods if not method.server_streaming)


_IDEMPOTENT_METADATA = _unary(metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"])
_IDEMPOTENT_NOTIFY = _unary(notify_pb2.DESCRIPTOR.services_by_name["NotifyService"])


class Stubs:
    """The gRPC stubs of the services of a deployment; each service is connected at its first use."""

    def __init__(self, deployment: Deployment, authorization: Callable[[], str] | None) -> None:
        self._deployment = deployment
        self._authorization = authorization
        self._channels: dict[str, grpc.Channel] = {}
        self._lock = threading.Lock()

    @property
    def auth(self) -> auth_pb2_grpc.AuthServiceStub:
        return auth_pb2_grpc.AuthServiceStub(self._channel("auth", self._deployment.auth, _IDEMPOTENT_AUTH))

    @property
    def admin(self) -> AdminServiceStub:
        # Only administrators need this, and each command pays for what is imported.
        from syncline.admin.v1.admin_pb2_grpc import AdminServiceStub  # noqa: PLC0415

        return AdminServiceStub(self._channel("auth", self._deployment.auth, _IDEMPOTENT_AUTH))

    @property
    def metadata(self) -> metadata_pb2_grpc.MetadataServiceStub:
        return metadata_pb2_grpc.MetadataServiceStub(
            self._channel("metadata", self._deployment.metadata, _IDEMPOTENT_METADATA)
        )

    @property
    def notify(self) -> notify_pb2_grpc.NotifyServiceStub:
        return notify_pb2_grpc.NotifyServiceStub(self._channel("notify", self._deployment.notify, _IDEMPOTENT_NOTIFY))

    def _channel(self, name: str, service: Service, idempotent: tuple[str, ...]) -> grpc.Channel:
        with self._lock:
            if name not in self._channels:
                self._channels[name] = sync_channel(
                    service.target,
                    tls=service.tls,
                    root_certificates=roots() if service.tls else None,
                    proxy=proxy_for(f"{'https' if service.tls else 'http'}://{service.target}"),
                    idempotent=idempotent,
                    authorization=self._authorization,
                )
            return self._channels[name]

    def close(self) -> None:
        """Cancel the calls in progress, and wait for their end.

        Must not be called when the process is about to exit, for example after Ctrl-C, because it may wait for ever
        then.
        """
        why = sys.exception()
        if why is not None and not isinstance(why, Exception):
            return
        with self._lock:
            for channel in self._channels.values():
                channel.close()
            self._channels.clear()


Unary: TypeAlias = Callable[[Stubs], "grpc.UnaryUnaryMultiCallable[Request, Response]"]
"""Function that returns a method of the stubs: `lambda stubs: stubs.metadata.GetSpace`."""


class Session:
    """A signed-in device, which makes calls to the services with its access token. Usable from any thread. Has to be
    closed, or used in `with`.
    """

    def __init__(self, file: AccountFile, account: StoredAccount) -> None:
        self.requests = RequestCounts()
        self._file = file
        self._account = account
        self._tokens = threading.Lock()
        self._connection = threading.Lock()
        self._stubs = Stubs(account.deployment, self.token)
        self._rediscovered_at: float | None = None
        self.on_wait: Callable[[SynclineError, float], None] = lambda error, seconds: None  # noqa: ARG005
        """Callback, from any thread, before a call waits for a limit of the service: the error, and the seconds."""

    @classmethod
    def open(cls, home: Path) -> Session:
        """Return the session of the device whose state is in `home`, without any call to the services. Raise
        NotSignedIn if the device is not signed in, and AccountUnreadable if its account file cannot be used.
        """
        file = AccountFile(home)
        account = file.load()
        if account is None:
            raise NotSignedIn
        return cls(file, account)

    @property
    def account(self) -> StoredAccount:
        return self._account

    @property
    def deployment(self) -> Deployment:
        return self._account.deployment

    @property
    def file(self) -> AccountFile:
        return self._file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stubs.close()

    def call(self, method: Unary[Request, Response], request: Request, *, timeout: float | None = None) -> Response:
        """Call a unary method with `request`, and return the answer. The call is repeated, and errors are raised, as
        `repeating` describes. `timeout` is in seconds and replaces the default deadline of each attempt.
        """
        return self.repeating(lambda stubs: method(stubs)(request, timeout=timeout))

    def listing(
        self, method: Callable[[Stubs], Any], request: Any, items: Callable[[Any], Iterable[Item]]
    ) -> Iterator[Item]:
        """Yield the items of all pages of a listing. `method` returns a method of the stubs, which is called as `call`
        does, with `request` and the token of the page, once for each page, and `items` returns the items of an answer.
        Raise UnexpectedAnswer for a listing that makes no progress, and for an item that this client does not
        understand.
        """

        def page(token: str) -> tuple[list[Item], str]:
            request.page_token = token
            answer = self.call(method, request)
            with understood():
                return list(items(answer)), answer.next_page_token

        return paged(page)

    def repeating(self, begin: Callable[[Stubs], Response], *, until: threading.Event | None = None) -> Response:
        """Return the result of `begin`, a function that makes one call with the stubs of the services. For a stream,
        `begin` opens the stream and reads its first message. `begin` is called again in these cases:

        - once with a new access token, if the token was refused;
        - with other stubs, if the services have other addresses now;
        - after a pause, if a limit of the service was exceeded. The pauses of one call last PATIENCE_SECONDS at most in
          total, those for rate limits RATE_PATIENCE_SECONDS. No pause begins once the event `until` is set, and a pause
          ends when it is set.

        In all other cases, raise the SynclineError with which the last call failed.
        """
        refreshed = False
        refused: str | None = None
        waited, pauses = defaultdict[type[SynclineError], float](float), 0
        until = until or threading.Event()
        while True:
            token = self._account.access_token
            stubs = self._stubs
            try:
                if refused is not None:
                    token, refused = self._refresh(refused=refused), None
                self.requests.add(grpc=1)
                return begin(stubs)
            except (grpc.RpcError, SynclineError) as failure:  # the latter if no token could be obtained
                error = failure if isinstance(failure, SynclineError) else error_of_call(failure)
            seconds = error.slow_down_seconds
            kind, patience = _patience(error)
            if isinstance(error, Unauthenticated) and not refreshed:
                refreshed, refused = True, token
            elif seconds is not None and waited[kind] + seconds <= patience and not until.is_set():
                pauses += 1
                pause = jittered_pause_seconds(seconds, pauses)
                waited[kind] += pause
                self.requests.add(waited_seconds=pause)
                self.on_wait(error, pause)
                until.wait(pause)
            elif type(error) is not Unavailable or not self._moved(stubs):
                raise error

    def token(self) -> str:
        """Return an access token that is valid for at least TOKEN_MARGIN_MS, after a refresh if necessary."""
        account = self._account
        return account.access_token if _good(account) else self._refresh(refused=account.access_token)

    def _refresh(self, *, refused: str) -> str:
        """Return an access token other than `refused`: the one in the account file if another process has renewed it,
        otherwise a new one, for which the refresh token is exchanged. Blocks during the call to the service. Raise
        NotSignedIn if the account file has no account or that of another user, or if the service refuses the refresh
        token.
        """
        with self._tokens:
            if self._account.access_token != refused and _good(self._account):
                return self._account.access_token
            with self._file.locked():
                account = self._file.load()
                if account is None or account.user != self._account.user:
                    raise NotSignedIn("this device has been signed out; run `syncline login`")
                if account.access_token == refused or not _good(account):
                    tokens = self._new_tokens(account)
                    account = dataclasses.replace(
                        account,
                        refresh_token=tokens.refresh_token,
                        access_token=tokens.access_token,
                        access_expires_at_ms=by_our_clock(tokens.access_expires_at_ms, tokens.access_expires_in_ms),
                    )
                    # Saved before anybody uses them: a token that is used and not saved signs the device out.
                    self._file.save(account)
            self._account = dataclasses.replace(account, deployment=self._account.deployment)
            return account.access_token

    def _new_tokens(self, account: StoredAccount) -> auth_pb2.Tokens:
        self.requests.add(grpc=1)
        stubs = Stubs(account.deployment, None)
        try:
            return stubs.auth.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=account.refresh_token)).tokens
        except grpc.RpcError as failure:
            error = error_of_call(failure)
            if isinstance(error, Unauthenticated):
                # The refresh token was refused: only a new sign-in helps.
                raise NotSignedIn(str(error)) from None
            raise error from None
        finally:
            stubs.close()

    def _moved(self, stubs: Stubs) -> bool:
        """Discover the addresses of the services again after a failed call that used `stubs`. Return True if they
        differ, or if another thread has already replaced `stubs`: the session then has new stubs, and the caller may
        try again. Return False if they are the same, if the endpoint does not answer, if the device was signed out
        meanwhile, or if the last discovery was less than _REDISCOVERY_PAUSE_SECONDS ago.
        """
        with self._connection:
            if self._stubs is not stubs:
                return True
            now = time.monotonic()
            if self._rediscovered_at is not None and now - self._rediscovered_at < _REDISCOVERY_PAUSE_SECONDS:
                return False
            self._rediscovered_at = now
            try:
                deployment = discover(self._account.endpoint, trust=self._account.trust, timeout=_REDISCOVERY_SECONDS)
            except SynclineError:
                return False
            if deployment == self._account.deployment:
                return False
            with self._tokens, self._file.locked():
                account = self._file.load()
                if account is None or account.user != self._account.user:
                    return False
                self._account = dataclasses.replace(account, deployment=deployment)
                self._file.save(self._account)
            # Not closed, because other threads may be using it; the sockets are closed at the end of the process.
            self._stubs = Stubs(deployment, self.token)
            return True


def error_of_call(failure: grpc.RpcError) -> SynclineError:
    """Return the SynclineError for `failure`, the error with which gRPC has ended a call. The result is
    UnexpectedAnswer if the service sent no reason.
    """
    error = error_from_rpc(failure)
    if error is not None:
        return error
    if isinstance(failure, grpc.Call):
        return UnexpectedAnswer(
            f"the service failed ({failure.code().name}: {failure.details()}); try again, and report it if it persists"
        )
    return UnexpectedAnswer(f"the call failed ({failure})")


def by_our_clock(expires_at_ms: int, expires_in_ms: int) -> int:
    """Return the expiry time of a token, which the service has just sent, by the clock of this device, in milliseconds
    since 1970. `expires_at_ms` is the time by the clock of the service, `expires_in_ms` the rest of the lifetime, or 0
    if the service does not send that.
    """
    return int(time.time() * 1000) + expires_in_ms if expires_in_ms else expires_at_ms


def _patience(error: SynclineError) -> tuple[type[SynclineError], float]:
    """Return the class of errors whose pauses are added up together with those for `error`, a refusal by a limit, and
    the maximum of their sum in seconds.
    """
    if isinstance(error, RateExceeded):
        return RateExceeded, RATE_PATIENCE_SECONDS
    return SynclineError, PATIENCE_SECONDS


def _good(account: StoredAccount) -> bool:
    return account.access_expires_at_ms - time.time() * 1000 > TOKEN_MARGIN_MS
