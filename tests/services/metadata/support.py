"""The metadata service over memory, served for real, and callers with tokens of their own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import SecretStr

from core.errors import DeviceRevoked
from core.identifiers import SpaceId, new_request_id, new_text_id
from runtime.channel import aio_channel
from runtime.context import Identity
from runtime.server import running
from runtime.tokens import AUDIENCE, ISSUER
from services.metadata.access import Role
from services.metadata.bootstrap import Adapters, bootstrap
from services.metadata.in_memory import MemoryJournal, MemoryObjects, MemoryTable, MemoryTopic
from services.metadata.settings import Settings
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub

if TYPE_CHECKING:
    from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceAsyncStub

SECRET = "a secret that all services share"


class FakeAuth:
    """Auth as metadata asks it: one key, roles by user."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.roles: dict[tuple[SpaceId, str], Role] = {}
        self.revoked: set[str] = set()

    async def keys(self) -> Mapping[str, Ed25519PublicKey]:
        return {"k": self.key.public_key()}

    async def role(self, space: SpaceId, caller: Identity) -> Role:
        if caller.device in self.revoked:
            raise DeviceRevoked
        return self.roles.get((space, caller.user), Role.NONE)

    def token(self, user: str, device: str) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "dev": device, "iat": now, "exp": now + 900}
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": "k"})


@dataclass
class Backend:
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    table: MemoryTable = field(default_factory=MemoryTable)
    objects: MemoryObjects = field(default_factory=MemoryObjects)
    topic: MemoryTopic = field(default_factory=MemoryTopic)
    auth: FakeAuth = field(default_factory=FakeAuth)


@dataclass
class Caller:
    """A signed-in device and a space."""

    stub: MetadataServiceAsyncStub
    user: str
    device: str
    space: SpaceId

    async def commit(self, *mutations: metadata_pb2.Mutation, request_id: bytes | None = None):
        return await self.stub.CommitChanges(
            metadata_pb2.CommitChangesRequest(
                space_id=self.space, request_id=request_id or new_request_id(), mutations=mutations
            )
        )

    async def create(self, name: str, *, parent: bytes = b"") -> journal_pb2.Node:
        """An empty file (a name with a dot) or a directory."""
        response = await self.commit(creating(name, parent=parent))
        assert response.results[0].verdict == journal_pb2.VERDICT_ACCEPTED
        node: journal_pb2.Node = response.results[0].node
        return node


EMPTY_DIGEST = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def creating(name: str, *, parent: bytes = b"") -> metadata_pb2.Mutation:
    if "." not in name:
        create = metadata_pb2.CreateNode(parent=parent, name=name, kind=journal_pb2.NODE_KIND_DIRECTORY)
    else:
        empty = journal_pb2.Content(digest=EMPTY_DIGEST)
        create = metadata_pb2.CreateNode(parent=parent, name=name, kind=journal_pb2.NODE_KIND_FILE, content=empty)
    return metadata_pb2.Mutation(create=create)


@dataclass
class Service:
    """A served metadata service and what is behind it."""

    target: str
    backend: Backend

    @asynccontextmanager
    async def caller(self, role: Role = Role.EDITOR, *, space: SpaceId | None = None) -> AsyncIterator[Caller]:
        user, device = new_text_id(), new_text_id()
        space = space or SpaceId(new_text_id())
        self.backend.auth.roles[space, user] = role
        token = self.backend.auth.token(user, device)
        async with aio_channel(self.target, authorization=lambda: token) as channel:
            yield Caller(MetadataServiceStub(channel), user, device, space)


@asynccontextmanager
async def service(**overrides) -> AsyncIterator[Service]:
    backend = Backend()
    given: dict[str, Any] = {
        "metadata_table": "metadata",
        "bucket": "content",
        "changes_topic_arn": "arn:aws:sns:us-east-1:000000000000:changes",
        "auth_target": "127.0.0.1:1",
        "service_secret": SecretStr(SECRET),
        "drain_seconds": 0,
        "grace_seconds": 2,
        "coalesce_seconds": 0,
    }
    settings = Settings(**(given | overrides))
    adapters = Adapters(
        journal=backend.journal,
        table=backend.table,
        index=backend.objects,
        storage=backend.objects,
        topic=backend.topic,
        auth=backend.auth,
    )
    async with bootstrap(settings, adapters) as app, running(app, settings) as target:
        yield Service(target, backend)
