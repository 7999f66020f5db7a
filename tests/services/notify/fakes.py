"""A stand-in for auth, and ways to make what notify is given."""

# ruff: noqa: N802 # grpc names the methods

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from core.errors import DeviceRevoked, NoSuchSpace, Unavailable
from core.identifiers import DeviceId, SpaceId, UserId, new_text_id
from runtime.context import LinkScope, current_service
from runtime.server import App, running
from runtime.tokens import AUDIENCE, ISSUER, AnyTokenVerifier, ServiceTokenVerifier, UserTokenVerifier
from services.notify.records import Member, Roster
from services.notify.settings import Settings
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceServicer, add_AuthServiceServicer_to_server

SECRET = "for tests only " * 3


@dataclass(frozen=True)
class Person:
    """Somebody with a device."""

    email: str
    user: UserId = field(default_factory=lambda: UserId(new_text_id()))
    device: DeviceId = field(default_factory=lambda: DeviceId(new_text_id()))
    alias: str = ""


@dataclass
class FakeAuth(AuthServiceServicer):
    """Auth, as far as notify asks it; over gRPC, and directly as a Directory."""

    members_of: dict[SpaceId, list[Person]] = field(default_factory=dict)
    revoked: set[DeviceId] = field(default_factory=set)
    down: bool = False
    asked: list[str] = field(default_factory=list)
    target: str = ""
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def space(self, *members: Person) -> SpaceId:
        """A new space."""
        space = SpaceId(new_text_id())
        self.members_of[space] = list(members)
        return space

    def token(self, person: Person) -> str:
        """An access token."""
        return self._sign({"sub": person.user, "dev": person.device})

    def link_token(self, link: LinkScope) -> str:
        """The access token of who opened a public link."""
        return self._sign({"sub": link.link, "spc": link.space, "nod": link.node.hex()})

    def _sign(self, named: dict[str, str]) -> str:
        claims = {"iss": ISSUER, "aud": AUDIENCE, **named, "exp": int(time.time()) + 900}
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": "k1"})

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise Unavailable

    # ---- Directory

    async def members(self, space: SpaceId) -> Roster:
        self._answer("members")
        if space not in self.members_of:
            raise NoSuchSpace
        return Roster(
            "Team", tuple(Member(person.user, person.email, person.alias) for person in self.members_of[space])
        )

    async def check(self, space: SpaceId, *, user: UserId, device: DeviceId) -> None:
        self._answer("check")
        if device in self.revoked:
            raise DeviceRevoked
        if all(person.user != user for person in self.members_of.get(space, [])):
            raise NoSuchSpace

    # ---- AuthService

    async def ListMembers(self, request, context):
        assert current_service() == "notify"
        roster = await self.members(request.space_id)
        # In pages of one, as a service may which has many.
        start = int(request.page_token or 0)
        some = roster.members[start : start + 1]
        return auth_pb2.ListMembersResponse(
            members=[auth_pb2.Member(user_id=member.user, email=member.email) for member in some],
            space_name=roster.space_name,
            next_page_token=str(start + 1) if start + 1 < len(roster.members) else "",
        )

    async def CheckAccess(self, request, context):
        assert current_service() == "notify"
        self._answer("check")
        member = any(person.user == request.user_id for person in self.members_of.get(request.space_id, []))
        return auth_pb2.CheckAccessResponse(
            role=auth_pb2.ROLE_VIEWER if member else auth_pb2.ROLE_UNSPECIFIED,
            device_revoked=request.device_id in self.revoked,
        )

    async def GetJwks(self, request, context):
        self._answer("keys")
        raw = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return auth_pb2.GetJwksResponse(keys=[auth_pb2.Jwk(kid="k1", public_key=raw)])

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """On a real port; yields the address."""

        async def keys():
            return {"k1": self.key.public_key()}

        app = App(
            name="auth",
            mounts=[partial(add_AuthServiceServicer_to_server, self)],
            verifier=AnyTokenVerifier(users=UserTokenVerifier(keys), services=ServiceTokenVerifier(SECRET)),
        )
        async with running(app) as target:
            yield target


fake_auth: Callable[[], FakeAuth] = FakeAuth
"""Makes one. The rpcs that nobody here calls stay abstract."""


def settings(auth_target: str = "127.0.0.1:1", **more: Any) -> Settings:
    """Settings for a notify of tests."""
    fields: dict[str, Any] = {
        "service_secret": SecretStr(SECRET),
        "auth_target": auth_target,
        "notify_table": "notify",
        "mail_queue_url": "http://127.0.0.1/mail",
        "changes_topic_arn": "arn:aws:sns:us-east-1:000000000000:changes",
        "doorbell_queue_prefix": "doorbell-",
        "mail_sender": "syncline@example.com",
        "public_url": "http://127.0.0.1:8080",
        "drain_seconds": 0.0,
        "grace_seconds": 2.0,
    }
    return Settings(**(fields | more))


def commit(seq: int, person: Person, *names: str, **counts: int) -> dict[str, Any]:
    """One commit of an event; creates `names` unless `counts` say otherwise."""
    nothing = dict.fromkeys(("created", "updated", "moved", "deleted", "restored"), 0)
    done = counts or {"created": len(names)}
    return {
        "seq": seq,
        "user": person.user,
        "device": person.device,
        "at_ms": 1_764_000_000_000,
        **nothing,
        **done,
        "names": list(names),
    }


def event(space: str, /, *commits: dict[str, Any], **more: Any) -> str:
    """An event as metadata announces it."""
    seqs = [each["seq"] for each in commits]
    body = {"v": 1, "space": space, "from_seq": min(seqs), "to_seq": max(seqs), "commits": list(commits)}
    return json.dumps(body | more)


async def eventually(condition: Callable[[], bool], *, within: float = 30.0) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)
