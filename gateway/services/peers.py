"""Adapters that call the services by gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.rpc.errors import rpc_errors

if TYPE_CHECKING:
    import grpc.aio

_HEALTH_SECONDS: Final = 1.0
_HEALTH_OF: Final = "x-syncline-service"
"""Metadata key of a health check. Its value names the service for the load balancer, because the rpc has the same path
for all services.
"""


class AuthKeys:
    """Implements VerificationKeys with auth."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = AuthServiceStub(channel)

    async def current(self) -> Mapping[str, bytes]:
        with rpc_errors():
            answer = await self._stub.GetJwks(auth_pb2.GetJwksRequest())
        return {key.kid: key.public_key for key in answer.keys}


class HealthyPeer:
    """Implements RequiredPeer with the gRPC health service."""

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        self._stub: Any = health_pb2_grpc.HealthStub(channel)  # the types of its methods are not published
        self._metadata = ((_HEALTH_OF, name),)

    async def serves(self) -> bool:
        try:
            answer = await self._stub.Check(
                health_pb2.HealthCheckRequest(), timeout=_HEALTH_SECONDS, metadata=self._metadata
            )
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
