"""A stand-in for auth, and ways to make what notify is given."""

# ruff: noqa: N802 # grpc names the methods

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from runtime.claims import AUDIENCE
from runtime.identity import LinkScope, current_service
from runtime.rpc.server import App, running
from runtime.tokens import ISSUER, AnyTokenVerifier, ServiceTokenVerifier, UserTokenVerifier
from services.notify.records import PersonAccess, Roster, RosterMember
from services.notify.settings import NotifySettings
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceServicer, add_AuthServiceServicer_to_server
from syncline.model.errors import NoSuchSpace, SpaceDeleted, Unavailable
from syncline.model.identifiers import DeviceId, SpaceId, UserId, new_text_id
from syncline.model.limits import MAX_CHECKED_RIGHTS

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
    suspended: set[UserId] = field(default_factory=set)
    revoked: set[DeviceId] = field(default_factory=set)
    expired: set[DeviceId] = field(default_factory=set)
    deleted: dict[SpaceId, SpaceDeleted] = field(default_factory=dict)
    down: bool = False
    asked: list[str] = field(default_factory=list)
    questions: list[tuple[list[str], list[str]]] = field(default_factory=list)
    """The spaces and devices of each question about rights."""
    slow_seconds: float = 0.0
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
            "Team",
            tuple(
                RosterMember(person.user, person.email, person.alias, person.user in self.suspended)
                for person in self.members_of[space]
            ),
        )

    async def check(self, spaces: Sequence[SpaceId], *, user: UserId, devices: Sequence[DeviceId]) -> PersonAccess:
        assert max(len(spaces), len(devices)) <= MAX_CHECKED_RIGHTS
        self._answer("check")
        self.questions.append((list(spaces), list(devices)))
        await asyncio.sleep(self.slow_seconds)
        granted = {space for space in spaces if any(person.user == user for person in self.members_of.get(space, []))}
        revoked, expired = self.revoked.intersection(devices), self.expired.intersection(devices)
        return PersonAccess(granted, revoked, expired, dict(self.deleted))

    # ---- AuthService

    async def ListMembers(self, request, context):
        assert current_service() == "notify"
        roster = await self.members(request.space_id)
        # In pages of one, as a service may which has many.
        start = int(request.page_token or 0)
        some = roster.members[start : start + 1]
        return auth_pb2.ListMembersResponse(
            members=[
                auth_pb2.Member(user_id=member.user, email=member.email, suspended=member.suspended) for member in some
            ],
            space_name=roster.space_name,
            next_page_token=str(start + 1) if start + 1 < len(roster.members) else "",
        )

    async def BatchCheckAccess(self, request, context):
        assert current_service() == "notify"
        found = await self.check(request.space_ids, user=request.user_id, devices=request.device_ids)
        return auth_pb2.BatchCheckAccessResponse(
            space_ids=found.spaces,
            revoked_device_ids=found.revoked,
            expired_device_ids=found.expired,
            deleted_spaces=[
                auth_pb2.DeletedSpace(
                    space_id=space,
                    deleted_at_ms=int(error.details["deleted_at_ms"]),
                    restorable_until_ms=int(error.details["restorable_until_ms"]),
                )
                for space, error in found.deleted.items()
            ],
        )

    async def GetJwks(self, request, context):
        self._answer("keys")
        raw = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return auth_pb2.GetJwksResponse(keys=[auth_pb2.Jwk(kid="k1", public_key=raw)])

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on a real port; yields the address."""

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


def settings(auth_target: str = "127.0.0.1:1", **more: Any) -> NotifySettings:
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
    return NotifySettings(**(fields | more))


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


def proof(person: Person, *, token: str | None = "t" * 43, expires_at_ms: int = 2_000_000, **more: Any) -> str:
    """The request of auth for the mail with a proof."""
    asked = {"v": 1, "kind": "proof", "id": new_text_id(), "user": person.user, "to": person.email, "token": token}
    return json.dumps({**asked, "expires_at_ms": expires_at_ms, **more})


def event(space: str, /, *commits: dict[str, Any], **more: Any) -> str:
    """An event as metadata announces it."""
    seqs = [each["seq"] for each in commits]
    body = {"v": 1, "space": space, "from_seq": min(seqs), "to_seq": max(seqs), "commits": list(commits)}
    return json.dumps(body | more)


async def eventually(condition: Callable[[], bool], *, within: float = 60.0) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)
