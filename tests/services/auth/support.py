"""The things that auth's tests have in common: a clock, keys, settings, and the service over memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from runtime.rpc.server import running
from runtime.tokens import mint_service_token
from services.auth.admission import Admission
from services.auth.attempts import AttemptLimits, Attempts
from services.auth.bootstrap import AuthAdapters, bootstrap
from services.auth.derived import DerivedSecrets
from services.auth.grants import Grants
from services.auth.holdings import HoldingLimits
from services.auth.inviting import Inviting
from services.auth.opaque_tokens import token_digest
from services.auth.ports import IdentityStore, MailRequests
from services.auth.quotas import Quotas
from services.auth.records import (
    DAY_MS,
    USUAL_LIMITS,
    Account,
    Chain,
    DeviceRecord,
    Done,
    Gate,
    GrantChange,
    Key,
    Link,
    Login,
    SpaceInvitation,
    SpaceRecord,
)
from services.auth.records import Clock as AnyClock
from services.auth.sessions import RefreshToken
from services.auth.settings import AuthSettings
from services.auth.space_invitations import SpaceInvitations
from syncline.admin.v1 import admin_pb2_grpc
from syncline.auth.v1 import auth_pb2, auth_pb2_grpc
from syncline.model.accounts import DeviceKind, Role, SignUpPolicy
from syncline.model.identifiers import ROOT, DeviceId, LinkId, SpaceId, UserId, new_request_id, new_text_id
from syncline.rpc.channel import aio_channel
from syncline.rpc.errors import error_from_rpc
from tests.support.auth import InMemoryCredentialSource, InMemoryIdentityStore, InMemoryMailRequests
from tests.support.passwords import STRONG

SECRET = "a secret that all services share"
PASSWORD = STRONG


class Clock:
    """A clock that stands still until it is told to go on; milliseconds."""

    def __init__(self, now: int = 1_800_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, milliseconds: int) -> None:
        self.now += milliseconds


def write_key(path: Path, key: Ed25519PrivateKey | None = None) -> Path:
    key = key or Ed25519PrivateKey.generate()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def make_settings(directory: Path, **overrides) -> AuthSettings:
    key = directory / "signing-key.pem"
    if not key.exists():
        write_key(key)
    given: dict[str, Any] = {
        "audit_table": "audit",
        "identity_table": "identity",
        "bucket": "content",
        "transfer_role_arn": "arn:aws:iam::000000000000:role/transfer",
        "signing_key_file": key,
        "service_secret": SecretStr(SECRET),
        "sign_up_policy": SignUpPolicy.OPEN,
        "prove_addresses": False,
        "mail_queue_url": "http://127.0.0.1:9/mail",
        "drain_seconds": 0,
        "grace_seconds": 2,
    }
    return AuthSettings(**(given | overrides))


def new_account(email: str | None = None) -> Account:
    user = UserId(new_text_id())
    return Account(user, email or f"{user}@example.com", SpaceId(new_text_id()), 1_000)


def new_login(email: str | None = None) -> Login:
    return Login(new_account(email), "the hash")


def new_device(user: UserId, *, now: int = 1_000, name: str = "laptop") -> DeviceRecord:
    token = RefreshToken.first(DeviceId(new_text_id()))
    chain = Chain(token.family_digest(), token.digest(), None, now + 60 * DAY_MS)
    return DeviceRecord(token.device, user, name, now, now, None, chain)


def new_key_device(user: UserId, *, now: int = 1_000, kind: DeviceKind = DeviceKind.BROWSER) -> DeviceRecord:
    key = Key(token_digest(f"the key of {user}"), now + 30 * DAY_MS)
    limits = USUAL_LIMITS if kind is DeviceKind.PROGRAM else None
    return DeviceRecord(DeviceId(new_text_id()), user, "browser", now, now, None, None, kind, key, limits=limits)


def new_link(space: SpaceId, user: UserId, **given: Any) -> Link:
    return Link(LinkId(new_text_id()), space, ROOT, user, 1_000, token_digest(new_text_id()), **given)


async def change_grant(
    store: IdentityStore,
    space: SpaceRecord,
    *,
    member: Account,
    before: Role | None,
    after: Role | None,
    by: UserId,
    alias: str = "",
    writes_since_ms: int = 0,
    done: Done | None = None,
    gates: Sequence[Gate] = (),
    ends: SpaceInvitation | None = None,
    as_admin: bool = False,
) -> None:
    """Change the grant of one person."""
    change = GrantChange(member.user, member.email, before, after, alias, writes_since_ms)
    await store.change_grants(space, [change], by=by, done=done, gates=gates, ends=ends, as_admin=as_admin)


def new_quotas(store: IdentityStore, *, space_bytes: int = 1 << 40, user_bytes: int | None = None) -> Quotas:
    """The quotas over a store."""
    return Quotas(store, store, store, space_bytes=space_bytes, user_bytes=user_bytes)


def new_grants(
    store: IdentityStore,
    *,
    clock: AnyClock,
    holdings: HoldingLimits | None = None,
    mail: MailRequests | None = None,
    policy: SignUpPolicy = SignUpPolicy.OPEN,
) -> Grants:
    """The grants in the spaces of a store. Invitations are mailed by `mail`; None for a list of their own."""
    limits = holdings or HoldingLimits()
    inviting = Inviting(
        store,
        store,
        mail or InMemoryMailRequests(),
        admission=Admission(policy),
        attempts=Attempts(store, AttemptLimits(), clock=clock),
        holdings=limits,
        derived=DerivedSecrets("secret"),
        clock=clock,
    )
    return Grants(
        *(store, store, store, store, store),
        invitations=store,
        inviting=inviting,
        quotas=new_quotas(store),
        holdings=limits,
        clock=clock,
    )


def new_space_invitations(
    store: IdentityStore, *, clock: AnyClock, policy: SignUpPolicy = SignUpPolicy.OPEN
) -> SpaceInvitations:
    """The invitations to the spaces of a store."""
    grants = new_grants(store, clock=clock, policy=policy)
    return SpaceInvitations(store, store, store, store, store, grants=grants, admission=Admission(policy), clock=clock)


@dataclass(frozen=True)
class Person:
    """Somebody who is signed in on one device."""

    account: auth_pb2.Account
    device: auth_pb2.Device
    tokens: auth_pb2.Tokens
    key: str = ""

    @property
    def credentials(self):
        return bearer(self.tokens.access_token)


def bearer(token: str):
    return (("authorization", f"Bearer {token}"),)


@dataclass(frozen=True)
class Service:
    """The auth service over memory, and a stub of it."""

    stub: auth_pb2_grpc.AuthServiceAsyncStub
    store: InMemoryIdentityStore
    source: InMemoryCredentialSource
    clock: Clock
    target: str
    mail: InMemoryMailRequests
    admin: admin_pb2_grpc.AdminServiceAsyncStub

    async def sign_up(self, email: str, *, device: str = "laptop", kind=auth_pb2.DEVICE_KIND_UNSPECIFIED) -> Person:
        request = auth_pb2.SignUpRequest(email=email, password=PASSWORD, device_name=device, kind=kind)
        answer = await self.stub.SignUp(request)
        return Person(answer.account, answer.device, answer.tokens, answer.key)

    async def sign_in(
        self,
        email: str,
        *,
        password: str = PASSWORD,
        device: str = "phone",
        metadata=None,
        kind=auth_pb2.DEVICE_KIND_UNSPECIFIED,
    ) -> Person:
        request = auth_pb2.SignInRequest(email=email, password=password, device_name=device, kind=kind)
        answer = await self.stub.SignIn(request, metadata=metadata)
        return Person(answer.account, answer.device, answer.tokens, answer.key)

    async def create_space(self, owner: Person, name: str = "team") -> str:
        request = auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name=name)
        return (await self.stub.CreateSpace(request, metadata=owner.credentials)).space.space_id

    async def share(self, space: str, by: Person, email: str, role: auth_pb2.Role.ValueType) -> auth_pb2.Member:
        request = auth_pb2.SetMemberRequest(request_id=new_request_id(), space_id=space, email=email, role=role)
        return (await self.stub.SetMember(request, metadata=by.credentials)).member

    async def unshare(self, space: str, by: Person, email: str) -> None:
        request = auth_pb2.RemoveMemberRequest(request_id=new_request_id(), space_id=space, email=email)
        await self.stub.RemoveMember(request, metadata=by.credentials)

    async def credentials(self, space: str, by: Person, access: auth_pb2.Access.ValueType = auth_pb2.ACCESS_READ):
        request = auth_pb2.IssueCredentialsRequest(space_id=space, access=access)
        return await self.stub.IssueCredentials(request, metadata=by.credentials)

    def as_service(self, name: str = "metadata"):
        return bearer(mint_service_token(name, SECRET, now=self.clock() / 1000))


@asynccontextmanager
async def serving(
    directory: Path, *, operations: Any = None, archive: Any = None, store: Any = None, **overrides
) -> AsyncIterator[Service]:
    """The whole service on a free port, over memory. `operations` is the table of who gets where, and `store` the store
    in memory, if another one; `archive` is the place to which the audit log is exported.
    """
    clock = Clock()
    settings = make_settings(directory, **overrides)
    store = store or InMemoryIdentityStore()
    source, mail = InMemoryCredentialSource(clock), InMemoryMailRequests()
    async with (
        bootstrap(settings, AuthAdapters(store, source, mail, store.audit, archive), clock=clock) as app,
        running(app if operations is None else replace(app, operations=operations), settings) as target,
        aio_channel(target) as channel,
    ):
        stub, admin = auth_pb2_grpc.AuthServiceStub(channel), admin_pb2_grpc.AdminServiceStub(channel)
        yield Service(stub, store, source, clock, target, mail, admin)


async def reason_of(call: Awaitable[object]) -> str:
    """Return the reason of the refusal of a call; "OK" if it is carried out."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        known = error_from_rpc(error)
        return known.reason if known else error.code().name
    return "OK"


@contextmanager
def refused(code: str, reason: str, **details: str):
    """The call ends with this status and this reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield caught
    assert caught.value.code() is grpc.StatusCode[code], caught.value
    error = error_from_rpc(caught.value)
    assert error is not None
    assert error.reason == reason
    assert details.items() <= dict(error.details).items()
