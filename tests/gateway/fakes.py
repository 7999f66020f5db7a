"""Stand-ins for auth and metadata, a file system of contents, and a client that sends what it is told."""

# ruff: noqa: N802 # grpc names the methods

from __future__ import annotations

import asyncio
import hashlib
import http.client
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway.bootstrap import Gateway, GatewayAdapters, bootstrap
from gateway.ports import ObjectSource
from gateway.serving import running_gateway as serving
from gateway.settings import GatewaySettings
from gateway.storage.s3 import S3Place, S3UploadAddresses
from runtime.identity import Identity
from runtime.pool import Pool
from runtime.rpc.server import App, running
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceServicer, add_AuthServiceServicer_to_server
from syncline.metadata.v1 import metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceServicer, add_MetadataServiceServicer_to_server
from syncline.model.blocks import BlockRef, Digest, Manifest
from syncline.model.errors import NoSuchNode, NoSuchSpace, TokenExpired, Unauthenticated, Unavailable
from syncline.model.identifiers import ROOT, DeviceId, NodeId, SpaceId, UserId, new_request_id
from syncline.model.tree import Content, Node, NodeKind
from syncline.rpc import request_ids
from syncline.wire.tree import manifest_to_wire, node_to_wire
from tests.support.records import InMemoryRecords
from tests.support.storage import InMemoryObjectSink, InMemoryObjectSource
from tests.support.tokens import unproven_token

SPACE = SpaceId("a" * 26)
TOKEN = unproven_token(sub="u" * 26, dev="d" * 26)
"""The token that the fakes take."""
KEY = f"syk_{'d' * 26}{'s' * 43}"
MTIME = 1_764_000_000


class FakeAuth(AuthServiceServicer):
    """A stand-in for auth that gives keys."""

    def __init__(self) -> None:
        self.asked = 0
        self.down = False
        self.tokens: list[str] = []
        """The access tokens that KEY is traded for, one after the other."""
        self.role = auth_pb2.ROLE_VIEWER
        """The role that everybody has in every space."""

    async def GetJwks(self, request, _context):
        self.asked += 1
        if self.down:
            raise Unavailable
        return auth_pb2.GetJwksResponse(keys=[auth_pb2.Jwk(kid="k1", public_key=bytes(range(32)))])

    async def ExchangeKey(self, request, _context):
        if request.key != KEY or not self.tokens:
            raise Unauthenticated("there is no such key")
        expires_at_ms = int(time.time() * 1000)  # the gateway remembers none of these tokens
        return auth_pb2.ExchangeKeyResponse(
            tokens=auth_pb2.Tokens(access_token=self.tokens.pop(0), access_expires_at_ms=expires_at_ms)
        )

    async def GetAccount(self, _request, context):
        """The account of the holder of the token."""
        self._check(context)
        return auth_pb2.GetAccountResponse()

    async def ListSpaces(self, _request, context):
        """The spaces of the holder of the token."""
        self._check(context)
        return auth_pb2.ListSpacesResponse()

    def _check(self, context):
        if dict(context.invocation_metadata()).get("authorization") != f"Bearer {TOKEN}":
            raise TokenExpired("the access token has expired; sign in again")

    async def CheckAccess(self, _request, _context):
        """The right lasts, unless the test ends it: what is cut is cut for another reason."""
        return auth_pb2.CheckAccessResponse(role=self.role)


class FakeMetadata(MetadataServiceServicer):
    """Knows nodes by path, in one space, for whoever holds the token."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.request_ids: list[str | None] = []
        self.paths: list[str] = []

    def forget(self) -> None:
        """Forget all calls, as at first."""
        self.nodes.clear()
        self.request_ids.clear()
        self.paths.clear()

    async def verify(self, token: str) -> Identity:
        if token != TOKEN:
            raise TokenExpired("the access token has expired; sign in again")
        return Identity(UserId("u" * 26), DeviceId("d" * 26), token=token)

    async def GetNode(self, request, _context):
        self.request_ids.append(request_ids.request_id())
        self.paths.append(request.path)
        if request.space_id != SPACE:
            raise NoSuchSpace
        if request.path not in self.nodes:
            raise NoSuchNode
        return metadata_pb2.GetNodeResponse(node=node_to_wire(self.nodes[request.path]), path=request.path)

    async def MeasureTree(self, request, _context):
        size = sum(len(path.encode()) for path in self.nodes)
        return metadata_pb2.MeasureTreeResponse(paths=len(self.nodes), path_bytes=size)


@dataclass
class World:
    """A gateway and what is behind it."""

    auth: FakeAuth = field(default_factory=FakeAuth)
    metadata: FakeMetadata = field(default_factory=FakeMetadata)
    objects: InMemoryObjectSource = field(default_factory=InMemoryObjectSource)
    address: str = ""
    gateway: Gateway | None = None

    def add(self, path: str, content: Content | None, kind: NodeKind = NodeKind.FILE) -> Node:
        """A node at this path."""
        node = Node(NodeId(new_request_id()), ROOT, path.rpartition("/")[2], kind, version=1, content=content)
        self.metadata.nodes[path] = node
        return node

    def file(self, path: str, blocks: list[bytes], *, packed: bool = False, apart: bool = False) -> bytes:
        """A file of these blocks, each an object or all in one pack; its manifest may lie apart. Returns its bytes."""
        manifest = stored(self.objects, blocks, packed=packed)
        data = b"".join(blocks)
        content = Content(Digest(hashlib.sha256(data).digest()), len(data), MTIME * 10**9, manifest=manifest)
        if apart:
            raw = manifest_to_wire(manifest).SerializeToString()
            content = Content(
                content.digest, content.size, content.mtime_ns, manifest_object=self.objects.put(SPACE, raw)
            )
        self.add(path, content)
        return data

    async def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        """Request `/v1/spaces/SPACE/content/{path}` with the token."""
        return await self.ask(
            f"/v1/spaces/{SPACE}/content/{path}", method=method, authorization=f"Bearer {TOKEN}", **headers
        )

    async def ask(self, target: str, *, method: str = "GET", **headers: str) -> Answer:
        """Request `target` exactly as it is given; `_` in names of headers means `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await asyncio.to_thread(_ask, self.address, method, target, named)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def _ask(address: str, method: str, target: str, headers: Mapping[str, str]) -> Answer:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def stored(objects: InMemoryObjectSource, blocks: list[bytes], *, packed: bool = False) -> Manifest:
    """Store the blocks, each as an object or all in one pack."""
    refs, offset = [], 0
    pack = objects.put(SPACE, b"".join(blocks))
    for block in blocks:
        digest = Digest(hashlib.sha256(block).digest())
        if packed:
            refs.append(BlockRef(digest, len(block), pack, offset))
            offset += len(block)
        else:
            refs.append(BlockRef(digest, len(block), objects.put(SPACE, block), 0))
    return Manifest.of(refs)


def settings(**more: Any) -> GatewaySettings:
    """Settings for a gateway of tests."""
    fields: dict[str, Any] = {
        "auth_target": "127.0.0.1:1",
        "metadata_target": "127.0.0.1:1",
        "notify_target": "127.0.0.1:1",
        "bucket": "content",
        "gateway_table": "gateway",
        "public_auth": "127.0.0.1:8081",
        "public_metadata": "127.0.0.1:8082",
        "public_notify": "127.0.0.1:8083",
        "drain_seconds": 0.0,
        "grace_seconds": 2.0,
    }
    return GatewaySettings(**(fields | more))


def adapters(objects: ObjectSource) -> GatewayAdapters:
    """The outside of a gateway of tests."""
    addresses = S3UploadAddresses(S3Place("content", "eu-central-1", None))
    sink = InMemoryObjectSink(objects if isinstance(objects, InMemoryObjectSource) else InMemoryObjectSource())
    return GatewayAdapters(
        objects=objects, addresses=addresses, sink=sink, records=InMemoryRecords(), region="eu-central-1"
    )


@asynccontextmanager
async def services(world: World) -> AsyncIterator[tuple[str, str]]:
    """Auth and metadata on real ports; yields their addresses."""
    auth = App(name="auth", mounts=[partial(add_AuthServiceServicer_to_server, world.auth)])
    metadata = App(
        name="metadata",
        mounts=[partial(add_MetadataServiceServicer_to_server, world.metadata)],
        verifier=world.metadata,
    )
    async with running(auth) as auth_target, running(metadata) as metadata_target:
        yield auth_target, metadata_target


@asynccontextmanager
async def gateway(
    world: World | None = None, *, objects: Any = None, bodies: Pool | None = None, **more: Any
) -> AsyncIterator[World]:
    """A served gateway."""
    world = world or World()
    async with services(world) as (auth_target, metadata_target):
        used = settings(auth_target=auth_target, metadata_target=metadata_target, **more)
        outside = adapters(objects or world.objects)
        async with (
            bootstrap(used, outside, bodies=bodies) as world.gateway,
            serving(world.gateway, used) as world.address,
        ):
            yield world
