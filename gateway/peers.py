"""What the gateway asks of the services, by gRPC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.errors import InvalidArgument
from core.identifiers import SpaceId
from core.tree import Node
from runtime.errors import error_from_rpc
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.metadata.v1 import metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from wire.tree import node_from_wire

if TYPE_CHECKING:
    import grpc.aio

AUTH: Final = auth_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name
METADATA: Final = metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"].full_name
IDEMPOTENT: Final = (f"{AUTH}/GetJwks", f"{METADATA}/GetNode")

_HEALTH_SECONDS: Final = 1.0
_HEALTH_OF: Final = "x-syncline-service"
"""Tells a balancer whose health is meant: the rpc has the same path for all services."""


class MetadataNodes:
    """Nodes, by metadata in the caller's name."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = MetadataServiceStub(channel)

    async def find(self, space: SpaceId, path: str, *, token: str) -> Node:
        """See Nodes."""
        request = metadata_pb2.GetNodeRequest(space_id=space, path=path)
        with _translated():
            answer = await self._stub.GetNode(request, metadata=(("authorization", f"Bearer {token}"),))
        try:
            return node_from_wire(answer.node)
        except InvalidArgument as error:
            raise ValueError(f"metadata sent a malformed node: {error}") from None  # not the caller's fault


class AuthKeys:
    """Keys, by auth."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = AuthServiceStub(channel)

    async def current(self) -> Mapping[str, bytes]:
        """See Keys."""
        with _translated():
            answer = await self._stub.GetJwks(auth_pb2.GetJwksRequest())
        return {key.kid: key.public_key for key in answer.keys}


class HealthyPeer:
    """Peer, by its gRPC health service."""

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        self._stub: Any = health_pb2_grpc.HealthStub(channel)  # the types of its methods are not published
        self._metadata = ((_HEALTH_OF, name),)

    async def serves(self) -> bool:
        """See Peer."""
        try:
            answer = await self._stub.Check(
                health_pb2.HealthCheckRequest(), timeout=_HEALTH_SECONDS, metadata=self._metadata
            )
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        known = error_from_rpc(error)
        if known is None:
            raise
        raise known from error
