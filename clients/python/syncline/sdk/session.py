"""A signed-in device at work: its tokens, its channels, and the one way in which it calls.

Every call is counted, has a deadline, is repeated by the channel on passing faults, and once more with a fresh token
if the one it had was refused. What it raises is a SynclineError.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

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
from syncline.sdk.errors import NotSignedIn, UnexpectedAnswer
from syncline.sdk.network import proxy_for, roots
from syncline.sdk.requests import RequestCounts

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Request = TypeVar("Request")
Response = TypeVar("Response")

TOKEN_MARGIN_MS = 60_000
"""An access token that is good for less than this is not used any more."""
PATIENCE_SECONDS = 60.0
"""Maximum number of seconds that one call waits in all because a limit of the service asks it to."""
RATE_PATIENCE_SECONDS = 600.0
"""The same of the rate of a person. All devices of the person share that, and whoever is told to come again may find
that another device was faster: so work that lasts waits for long."""
_REDISCOVERY_SECONDS = 3.0
_REDISCOVERY_PAUSE_SECONDS = 10.0
"""Rediscovery is tried at most once in so many seconds; a long watch may see services move several times."""

_AUTH = "syncline.auth.v1.AuthService"
# SignUp and SignIn make something each time; the others do not mind to be repeated.
_IDEMPOTENT_AUTH = tuple(
    f"{_AUTH}/{method}"
    for method in (
        "RefreshToken",
        "SignOut",
        "GetAccount",
        "ListDevices",
        "RevokeDevice",
        "CreateSpace",
        "ListSpaces",
        "ListMembers",
        "SetMember",
        "RemoveMember",
        "IssueCredentials",
    )
)


def _unary(service: ServiceDescriptor) -> tuple[str, ...]:
    """The methods of a service but its streams, which are opened again by who reads them: gRPC, which repeats them too,
    sometimes waits for ever when the server goes away meanwhile."""
    return tuple(f"{service.full_name}/{method.name}" for method in service.methods if not method.server_streaming)


_IDEMPOTENT_METADATA = _unary(metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"])
_IDEMPOTENT_NOTIFY = _unary(notify_pb2.DESCRIPTOR.services_by_name["NotifyService"])


class Stubs:
    """The services of a deployment, connected when first used."""

    def __init__(self, deployment: Deployment, authorization: Callable[[], str] | None) -> None:
        self._deployment = deployment
        self._authorization = authorization
        self._channels: dict[str, grpc.Channel] = {}
        self._lock = threading.Lock()

    @property
    def auth(self) -> auth_pb2_grpc.AuthServiceStub:
        return auth_pb2_grpc.AuthServiceStub(self._channel("auth", self._deployment.auth, _IDEMPOTENT_AUTH))

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
        """End the calls under way, and wait for that.

        Not when the process is about to end, as after Ctrl-C: gRPC would wait for ever for a call that was interrupted
        between its registration and the start of the thread that reads its events.
        """
        why = sys.exception()
        if why is not None and not isinstance(why, Exception):
            return
        with self._lock:
            for channel in self._channels.values():
                channel.close()
            self._channels.clear()


Unary: TypeAlias = Callable[[Stubs], "grpc.UnaryUnaryMultiCallable[Request, Response]"]
"""Picks a method: `lambda stubs: stubs.metadata.GetSpace`."""


class Session:
    """A signed-in device. It may be used from any thread; `with` it or close it."""

    def __init__(self, file: AccountFile, account: StoredAccount) -> None:
        self.requests = RequestCounts()
        self._file = file
        self._account = account
        self._tokens = threading.Lock()
        self._connection = threading.Lock()
        self._stubs = Stubs(account.deployment, self.token)
        self._rediscovered_at: float | None = None
        self.on_wait: Callable[[SynclineError, float], None] = lambda error, seconds: None  # noqa: ARG005
        """Called, from any thread, before a call waits for so many seconds because of a limit of the service."""

    @classmethod
    def open(cls, home: Path) -> Session:
        """The device whose state is in `home`. Raise NotSignedIn, AccountUnreadable. Calls nobody."""
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
        """Call a unary method; `timeout` (seconds) instead of the usual deadline."""
        return self.repeating(lambda stubs: method(stubs)(request, timeout=timeout))

    def repeating(self, begin: Callable[[Stubs], Response], *, until: threading.Event | None = None) -> Response:
        """Return the result of `begin`, which is called again if the token was refused or the services have moved, once
        for each reason.

        For streams, `begin` opens the stream and reads its first message. A limit that says when to come back is waited
        for, up to a minute in all, and a rate for longer, besides; not any more once `until` is set.
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
            except (grpc.RpcError, SynclineError) as failure:  # the latter if it is a token that was not to be had
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
        """An access token that is good for a while yet, refreshed if need be."""
        account = self._account
        return account.access_token if _good(account) else self._refresh(refused=account.access_token)

    def _refresh(self, *, refused: str) -> str:
        """Another access token than `refused`: from the file if there is one, else from the service."""
        with self._tokens:
            if self._account.access_token != refused and _good(self._account):
                return self._account.access_token
            with self._file.locked():
                account = self._file.load()
                if account is None or account.user != self._account.user:
                    raise NotSignedIn("this device was signed out meanwhile; run `syncline login`")
                if account.access_token == refused or not _good(account):
                    tokens = self._new_tokens(account)
                    account = dataclasses.replace(
                        account,
                        refresh_token=tokens.refresh_token,
                        access_token=tokens.access_token,
                        access_expires_at_ms=by_our_clock(tokens.access_expires_at_ms, tokens.access_expires_in_ms),
                    )
                    # Before anybody uses them: what is used and not saved signs the device out.
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
        """Return True if services are elsewhere than `stubs` has them. The new places are then saved and used."""
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
            # Not closed: other threads may be in the midst of calls. It goes with the process.
            self._stubs = Stubs(deployment, self.token)
            return True


def error_of_call(failure: grpc.RpcError) -> SynclineError:
    """Return the error that a failed call stands for. Raise UnexpectedAnswer if the service sent no reason."""
    error = error_from_rpc(failure)
    if error is not None:
        return error
    if isinstance(failure, grpc.Call):
        return UnexpectedAnswer(
            f"the service failed ({failure.code().name}: {failure.details()}); try again, and report it if it stays"
        )
    return UnexpectedAnswer(f"the call failed ({failure})")


def by_our_clock(expires_at_ms: int, expires_in_ms: int) -> int:
    """When that expires of which the service says so now, by the clock of this device, in milliseconds since 1970.

    `expires_in_ms` is 0 of a service that does not say.
    """
    return int(time.time() * 1000) + expires_in_ms if expires_in_ms else expires_at_ms


def _patience(error: SynclineError) -> tuple[type[SynclineError], float]:
    """The kind of limits that are waited for together, and for how many seconds in all."""
    if isinstance(error, RateExceeded):
        return RateExceeded, RATE_PATIENCE_SECONDS
    return SynclineError, PATIENCE_SECONDS


def _good(account: StoredAccount) -> bool:
    return account.access_expires_at_ms - time.time() * 1000 > TOKEN_MARGIN_MS
