"""The metadata service over memory, served for real, and callers with tokens of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import SecretStr

from runtime.claims import AUDIENCE
from runtime.drain import Drain
from runtime.identity import Identity, LinkScope
from runtime.interruption import ASK_SECONDS
from runtime.permissions import Callers
from runtime.rpc.server import running
from runtime.tokens import ISSUER
from services.metadata.access import CallerRight
from services.metadata.bootstrap import MetadataAdapters, bootstrap
from services.metadata.ports import Measure
from services.metadata.settings import MetadataSettings
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.accounts import Role
from syncline.model.errors import DeviceRevoked
from syncline.model.identifiers import ROOT, LinkId, NodeId, SpaceId, new_request_id, new_text_id
from syncline.rpc.channel import aio_channel
from syncline.rpc.errors import error_from_rpc
from tests.support.metadata import FixedQuotas, MemoryJournal, MemoryMeasures, MemoryObjects, MemoryTable, MemoryTopic

if TYPE_CHECKING:
    from grpc.aio import Channel

    from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceAsyncStub

SECRET = "a secret that all services share"


class FakeAuth:
    """Auth as metadata asks it: one key, roles by user."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.roles: dict[tuple[SpaceId, str], Role | None] = {}
        self.revoked: set[str] = set()
        self.links: set[LinkScope] = set()
        self.asked = 0
        self.writes_since_ms = 0
        self.writing: set[SpaceId] = set()
        self.uploads: dict[SpaceId, Measure] = {}

    async def keys(self) -> Mapping[str, Ed25519PublicKey]:
        return {"k": self.key.public_key()}

    async def right(self, space: SpaceId, caller: Identity) -> CallerRight:
        self.asked += 1
        if caller.link is not None:
            assert (caller.user, caller.device) == ("", "")
            return CallerRight(Role.VIEWER if caller.link in self.links and caller.link.space == space else None)
        if caller.device in self.revoked:
            raise DeviceRevoked
        return CallerRight(self.roles.get((space, caller.user), None), self.writes_since_ms)

    async def written(self, page_token: str) -> tuple[Sequence[SpaceId], str]:
        """A page for each space."""
        spaces = sorted(self.writing)
        at = int(page_token or 0)
        return spaces[at : at + 1], str(at + 1) if at + 1 < len(spaces) else ""

    async def set_uploads(self, space: SpaceId, measure: Measure, *, quota_bytes: int) -> None:
        if space not in self.uploads or self.uploads[space].at_ms <= measure.at_ms:
            self.uploads[space] = measure

    def token(self, user: str, device: str) -> str:
        return self._sign({"sub": user, "dev": device})

    def link_token(self, link: LinkScope) -> str:
        return self._sign({"sub": link.link, "spc": link.space, "nod": link.node.hex()})

    def _sign(self, named: dict[str, str]) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, **named, "iat": now, "exp": now + 900}
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": "k"})


@dataclass
class Backend:
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    table: MemoryTable = field(default_factory=MemoryTable)
    objects: MemoryObjects = field(default_factory=MemoryObjects)
    measures: MemoryMeasures = field(default_factory=MemoryMeasures)
    topic: MemoryTopic = field(default_factory=MemoryTopic)
    auth: FakeAuth = field(default_factory=FakeAuth)
    quotas: FixedQuotas = field(default_factory=FixedQuotas)


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

    async def create(self, name: str, *, parent: bytes = ROOT) -> journal_pb2.Node:
        """An empty file (a name with a dot) or a directory."""
        response = await self.commit(creating(name, parent=parent))
        assert response.results[0].verdict == journal_pb2.VERDICT_ACCEPTED
        node: journal_pb2.Node = response.results[0].node
        return node


@dataclass
class LinkReader:
    """A visitor who opened a public link."""

    stub: MetadataServiceAsyncStub
    scope: LinkScope
    channel: Channel

    async def get(self, selector: bytes | str) -> metadata_pb2.GetNodeResponse:
        chosen: dict[str, Any] = {"path": selector} if isinstance(selector, str) else {"node": selector}
        return await self.stub.GetNode(metadata_pb2.GetNodeRequest(space_id=self.scope.space, **chosen))

    async def names(self, parent: bytes) -> list[str]:
        """The names in a directory, page by page."""
        found, token = [], ""
        while True:
            request = metadata_pb2.ListNodesRequest(
                space_id=self.scope.space, parent=parent, page_size=2, page_token=token
            )
            page = await self.stub.ListNodes(request)
            found += [node.name for node in page.nodes]
            if not (token := page.next_page_token):
                return found


EMPTY_DIGEST = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def creating(name: str, *, parent: bytes = ROOT) -> metadata_pb2.Mutation:
    if "." not in name:
        create = metadata_pb2.CreateNode(parent=parent, name=name, kind=journal_pb2.NODE_KIND_DIRECTORY)
    else:
        empty = journal_pb2.Content(digest=EMPTY_DIGEST)
        create = metadata_pb2.CreateNode(parent=parent, name=name, kind=journal_pb2.NODE_KIND_FILE, content=empty)
    return metadata_pb2.Mutation(create=create)


async def reason_of(call) -> str:
    """The reason with which a unary call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = error_from_rpc(caught.value)
    assert error is not None
    return error.reason


async def projected(backend: Backend, space: SpaceId) -> None:
    """Wait until the table holds all entries."""
    async with asyncio.timeout(60):
        while (await backend.table.state(space)).projected_seq < len(backend.journal.entries[space]):
            await asyncio.sleep(0.001)


@dataclass
class Service:
    """A served metadata service and what is behind it."""

    target: str
    backend: Backend
    drain: Drain

    @asynccontextmanager
    async def caller(
        self, role: Role | None = Role.EDITOR, *, space: SpaceId | None = None, user: str = ""
    ) -> AsyncIterator[Caller]:
        user, device = user or new_text_id(), new_text_id()
        space = space or SpaceId(new_text_id())
        self.backend.auth.roles[space, user] = role
        token = self.backend.auth.token(user, device)
        async with aio_channel(self.target, authorization=lambda: token) as channel:
            yield Caller(MetadataServiceStub(channel), user, device, space)

    @asynccontextmanager
    async def link(self, space: SpaceId, node: bytes) -> AsyncIterator[LinkReader]:
        """Somebody who has opened a new link to the node."""
        scope = LinkScope(LinkId(new_text_id()), space, NodeId(node))
        self.backend.auth.links.add(scope)
        async with self.opened(scope) as reader:
            yield reader

    @asynccontextmanager
    async def opened(self, scope: LinkScope) -> AsyncIterator[LinkReader]:
        """Somebody who opened that link."""
        token = self.backend.auth.link_token(scope)
        async with aio_channel(self.target, authorization=lambda: token) as channel:
            yield LinkReader(MetadataServiceStub(channel), scope, channel)


UNPROJECTED_SECONDS = 600.0
"""Commits are coalesced for longer than any test takes on a busy machine, so that none is projected meanwhile."""
GATEWAY_SECRET = "the secret of the gateway alone, and no other"
REMEMBERED_SECONDS = 600.0
"""A grant is remembered for longer than any test takes on a busy machine, so that what is asked for can be counted."""


@asynccontextmanager
async def service(
    backend: Backend | None = None,
    *,
    operations: Mapping[str, Callers] | None = None,
    ask_seconds: float = ASK_SECONDS,
    coalesce_seconds: float = 0.0,
    **overrides,
) -> AsyncIterator[Service]:
    """Served over `backend`, which several may share as processes share AWS.

    `operations` is the table of who gets where, if another one. With `UNPROJECTED_SECONDS` as `coalesce_seconds` the
    table stays empty until something waits for it.
    """
    backend = backend or Backend()
    given: dict[str, Any] = {
        "metadata_table": "metadata",
        "bucket": "content",
        "changes_topic_arn": "arn:aws:sns:us-east-1:000000000000:changes",
        "auth_target": "127.0.0.1:1",
        "service_secret": SecretStr(SECRET),
        "gateway_secret": SecretStr(GATEWAY_SECRET),
        "drain_seconds": 0,
        "grace_seconds": 2,
    }
    settings = MetadataSettings(**(given | overrides))
    # A copy, since a copy may have seconds that the settings do not allow.
    settings = settings.model_copy(update={"coalesce_seconds": coalesce_seconds})
    adapters = MetadataAdapters(
        journal=backend.journal,
        table=backend.table,
        index=backend.objects,
        measures=backend.measures,
        storage=backend.objects,
        topic=backend.topic,
        auth=backend.auth,
        writers=backend.auth,
        reserving=backend.quotas,
    )
    async with (
        bootstrap(settings, adapters, access_seconds=REMEMBERED_SECONDS, ask_seconds=ask_seconds) as app,
        running(app if operations is None else replace(app, operations=operations), settings) as target,
    ):
        yield Service(target, backend, app.drain)
