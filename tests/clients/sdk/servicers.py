"""Services of one process, on real servers, that do as they are told."""

# ruff: noqa: N802 - rpcs have the names of the contract

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc

from syncline.auth.v1 import auth_pb2, auth_pb2_grpc
from syncline.metadata.v1 import metadata_pb2_grpc
from syncline.model.errors import (
    AccountExists,
    DeviceRevoked,
    RefreshTokenReused,
    SynclineError,
    TokenExpired,
    WrongPassword,
)
from syncline.model.identifiers import new_text_id
from syncline.notify.v1 import notify_pb2_grpc
from syncline.rpc.errors import DETAILS_KEY, grpc_code, status_of
from syncline.sdk.discovery import WELL_KNOWN
from tests.support.http import serving

PASSWORD = "correct horse"
USER = new_text_id()
PERSONAL = new_text_id()


def refuse(context: grpc.ServicerContext, error: SynclineError) -> NoReturn:
    """End the call as our servers do."""
    context.set_trailing_metadata(((DETAILS_KEY, status_of(error).SerializeToString()),))
    context.abort(grpc_code(error), str(error))
    raise AssertionError("abort raises")


class Auth(auth_pb2_grpc.AuthServiceServicer):
    """Accounts and tokens: strict about spent refresh tokens, as the real service is."""

    def __init__(self) -> None:
        self.lifetime_ms = 900_000
        self.access: set[str] = set()
        self.current: str | None = None
        self.previous: str | None = None
        self.revoked = False
        self.refusal: SynclineError = TokenExpired()
        self.refreshes = 0
        self.issued = 0
        self.credentials_lifetime_ms = 3_600_000
        self.credentials: dict[str, Any] = {}
        """Fields of the answer of IssueCredentials that are to be otherwise."""
        self.refresh_seconds = 0.0
        self.refresh_refusals: list[SynclineError] = []
        self.methods: list[str] = []
        self.ahead_ms = 0
        """The number of milliseconds by which the clock of the service is ahead of the device's."""
        self.spaces = [auth_pb2.Space(space_id=PERSONAL, name="personal", role=auth_pb2.ROLE_OWNER, personal=True)]
        self.deleted: list[auth_pb2.Space] = []
        self.revocation = auth_pb2.RevokeDeviceResponse()
        """The answer of RevokeDevice."""
        self.requests: list[Any] = []
        self._lock = threading.Lock()

    def _tokens(self) -> auth_pb2.Tokens:
        self.previous, self.current = self.current, new_text_id()
        access = new_text_id()
        self.access.add(access)
        return auth_pb2.Tokens(
            access_token=access,
            access_expires_at_ms=int(time.time() * 1000) + self.ahead_ms + self.lifetime_ms,
            refresh_token=self.current,
            access_expires_in_ms=self.lifetime_ms,
        )

    def check(self, context: grpc.ServicerContext) -> None:
        """The caller's access token is good."""
        presented = dict(context.invocation_metadata()).get("authorization", "")
        token = presented.decode() if isinstance(presented, bytes) else presented
        if self.revoked:
            refuse(context, DeviceRevoked())
        if token.removeprefix("Bearer ") not in self.access:
            refuse(context, self.refusal)

    def _entered(self, email: str, device: str) -> dict[str, Any]:
        return {
            "account": auth_pb2.Account(user_id=USER, email=email, personal_space_id=PERSONAL),
            "device": auth_pb2.Device(device_id=new_text_id(), name=device),
            "tokens": self._tokens(),
        }

    def SignUp(self, request: auth_pb2.SignUpRequest, context: grpc.ServicerContext) -> auth_pb2.SignUpResponse:
        self.methods.append("SignUp")
        if request.email == "taken@example.com":
            refuse(context, AccountExists())
        return auth_pb2.SignUpResponse(**self._entered(request.email, request.device_name))

    def SignIn(self, request: auth_pb2.SignInRequest, context: grpc.ServicerContext) -> auth_pb2.SignInResponse:
        self.methods.append("SignIn")
        if request.password != PASSWORD:
            refuse(context, WrongPassword())
        self.revoked = False
        return auth_pb2.SignInResponse(**self._entered(request.email, request.device_name))

    def RefreshToken(
        self, request: auth_pb2.RefreshTokenRequest, context: grpc.ServicerContext
    ) -> auth_pb2.RefreshTokenResponse:
        assert "authorization" not in dict(context.invocation_metadata())
        time.sleep(self.refresh_seconds)
        with self._lock:
            self.methods.append("RefreshToken")
            if self.refresh_refusals:
                refuse(context, self.refresh_refusals.pop())
            self.refreshes += 1
            if self.revoked:
                refuse(context, DeviceRevoked())
            if request.refresh_token != self.current:
                self.revoked = True
                refuse(context, RefreshTokenReused())
            return auth_pb2.RefreshTokenResponse(tokens=self._tokens())

    def SignOut(self, request: auth_pb2.SignOutRequest, context: grpc.ServicerContext) -> auth_pb2.SignOutResponse:
        self.methods.append("SignOut")
        self.check(context)
        self.revoked = True
        return auth_pb2.SignOutResponse()

    def GetAccount(
        self, request: auth_pb2.GetAccountRequest, context: grpc.ServicerContext
    ) -> auth_pb2.GetAccountResponse:
        self.methods.append("GetAccount")
        self.check(context)
        return auth_pb2.GetAccountResponse(
            account=auth_pb2.Account(user_id=USER, email="ann@example.com", personal_space_id=PERSONAL),
            device=auth_pb2.Device(device_id="d" * 26, name="laptop"),
        )

    def ListSpaces(
        self, request: auth_pb2.ListSpacesRequest, context: grpc.ServicerContext
    ) -> auth_pb2.ListSpacesResponse:
        self.methods.append("ListSpaces")
        self.check(context)
        # In pages of two, as a service may which has many.
        start = int(request.page_token or 0)
        more = start + 2 < len(self.spaces)
        return auth_pb2.ListSpacesResponse(
            spaces=self.spaces[start : start + 2], next_page_token=str(start + 2) if more else ""
        )

    def CreateSpace(
        self, request: auth_pb2.CreateSpaceRequest, context: grpc.ServicerContext
    ) -> auth_pb2.CreateSpaceResponse:
        self.check(context)
        self.requests.append(request)
        space = auth_pb2.Space(space_id=new_text_id(), name=request.name, role=auth_pb2.ROLE_OWNER)
        self.spaces.append(space)
        return auth_pb2.CreateSpaceResponse(space=space)

    def ListDevices(
        self, request: auth_pb2.ListDevicesRequest, context: grpc.ServicerContext
    ) -> auth_pb2.ListDevicesResponse:
        self.check(context)
        return auth_pb2.ListDevicesResponse(
            devices=[
                auth_pb2.Device(device_id="d" * 26, name="laptop", created_at_ms=1, last_seen_at_ms=2, kind=kind)
                for kind in (auth_pb2.DEVICE_KIND_PROGRAM, auth_pb2.DEVICE_KIND_UNSPECIFIED)
            ]
        )

    def RevokeDevice(
        self, request: auth_pb2.RevokeDeviceRequest, context: grpc.ServicerContext
    ) -> auth_pb2.RevokeDeviceResponse:
        self.check(context)
        self.requests.append(request)
        return self.revocation

    def ListMembers(
        self, request: auth_pb2.ListMembersRequest, context: grpc.ServicerContext
    ) -> auth_pb2.ListMembersResponse:
        self.check(context)
        return auth_pb2.ListMembersResponse(
            members=[auth_pb2.Member(user_id=USER, email="ann@example.com", role=auth_pb2.ROLE_OWNER)]
        )

    def SetMember(
        self, request: auth_pb2.SetMemberRequest, context: grpc.ServicerContext
    ) -> auth_pb2.SetMemberResponse:
        self.check(context)
        self.requests.append(request)
        return auth_pb2.SetMemberResponse(
            member=auth_pb2.Member(user_id=new_text_id(), email=request.email, role=request.role)
        )

    def RemoveMember(
        self, request: auth_pb2.RemoveMemberRequest, context: grpc.ServicerContext
    ) -> auth_pb2.RemoveMemberResponse:
        self.check(context)
        self.requests.append(request)
        return auth_pb2.RemoveMemberResponse()

    def RenameSpace(
        self, request: auth_pb2.RenameSpaceRequest, context: grpc.ServicerContext
    ) -> auth_pb2.RenameSpaceResponse:
        self.check(context)
        self.requests.append(request)
        space = auth_pb2.Space(space_id=request.space_id, name=request.name, alias="Project", role=auth_pb2.ROLE_OWNER)
        return auth_pb2.RenameSpaceResponse(space=space)

    def DeleteSpace(
        self, request: auth_pb2.DeleteSpaceRequest, context: grpc.ServicerContext
    ) -> auth_pb2.DeleteSpaceResponse:
        self.check(context)
        self.requests.append(request)
        space = auth_pb2.Space(
            space_id=request.space_id,
            name="Project",
            role=auth_pb2.ROLE_OWNER,
            deleted_at_ms=1_000,
            restorable_until_ms=2_000,
        )
        self.deleted.append(space)
        return auth_pb2.DeleteSpaceResponse(space=space)

    def ListDeletedSpaces(
        self, request: auth_pb2.ListDeletedSpacesRequest, context: grpc.ServicerContext
    ) -> auth_pb2.ListDeletedSpacesResponse:
        self.check(context)
        return auth_pb2.ListDeletedSpacesResponse(spaces=self.deleted)

    def UndeleteSpace(
        self, request: auth_pb2.UndeleteSpaceRequest, context: grpc.ServicerContext
    ) -> auth_pb2.UndeleteSpaceResponse:
        self.check(context)
        self.requests.append(request)
        self.deleted.clear()
        space = auth_pb2.Space(space_id=request.space_id, name="Project", role=auth_pb2.ROLE_OWNER)
        return auth_pb2.UndeleteSpaceResponse(space=space)

    def TransferSpace(
        self, request: auth_pb2.TransferSpaceRequest, context: grpc.ServicerContext
    ) -> auth_pb2.TransferSpaceResponse:
        self.check(context)
        self.requests.append(request)
        owner = auth_pb2.Member(user_id=new_text_id(), email=request.email, role=auth_pb2.ROLE_OWNER)
        return auth_pb2.TransferSpaceResponse(owner=owner)

    def IssueCredentials(
        self, request: auth_pb2.IssueCredentialsRequest, context: grpc.ServicerContext
    ) -> auth_pb2.IssueCredentialsResponse:
        self.check(context)
        self.requests.append(request)
        self.issued += 1
        issued: dict[str, Any] = {
            "access_key_id": f"key {self.issued}",
            "secret_access_key": "secret",
            "session_token": "token",
            "expires_at_ms": int(time.time() * 1000) + self.ahead_ms + self.credentials_lifetime_ms,
            "expires_in_ms": self.credentials_lifetime_ms,
            "bucket": "bucket",
            "key_prefix": f"spaces/{request.space_id}/objects/",
        }
        return auth_pb2.IssueCredentialsResponse(**issued | self.credentials)


@dataclass
class Running:
    """A deployment and its endpoint. A metadata or notify servicer has only the methods that a test needs."""

    auth: Auth
    endpoint: str
    document: dict[str, Any]
    servers: list[grpc.Server] = field(default_factory=list)
    discoveries: int = 0

    def move(self, name: str, server: grpc.Server, port: int) -> None:
        """Tell clients from now on that the service is elsewhere."""
        self.servers.append(server)
        self.document[name] = {"target": f"127.0.0.1:{port}", "tls": False}


def serve(add: Callable[[Any, grpc.Server], None], servicer: Any) -> tuple[grpc.Server, int]:
    """A started server on a free port."""
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


@contextmanager
def running(
    *,
    auth: Auth | None = None,
    metadata: metadata_pb2_grpc.MetadataServiceServicer | None = None,
    notify: notify_pb2_grpc.NotifyServiceServicer | None = None,
) -> Iterator[Running]:
    """Services and an endpoint that tells where they are."""
    auth = auth or Auth()  # type: ignore[abstract]  # the generated stubs are stricter than the classes
    document: dict[str, Any] = {
        "syncline": 1,
        "s3": {"endpoint": None, "region": "us-east-1", "bucket": "bucket", "path_style": False},
    }
    services = Running(auth, "", document)
    for name, add, servicer in (
        ("auth", auth_pb2_grpc.add_AuthServiceServicer_to_server, auth),
        (
            "metadata",
            metadata_pb2_grpc.add_MetadataServiceServicer_to_server,
            metadata or metadata_pb2_grpc.MetadataServiceServicer(),  # type: ignore[abstract]
        ),
        (
            "notify",
            notify_pb2_grpc.add_NotifyServiceServicer_to_server,
            notify or notify_pb2_grpc.NotifyServiceServicer(),  # type: ignore[abstract]
        ),
    ):
        services.move(name, *serve(add, servicer))

    def answer(path: str) -> tuple[int, bytes]:
        services.discoveries += 1
        return (200, json.dumps(document).encode()) if path == WELL_KNOWN else (404, b"")

    with serving(answer) as endpoint:
        services.endpoint = endpoint
        try:
            yield services
        finally:
            for server in services.servers:
                server.stop(None).wait()
