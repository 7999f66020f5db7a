"""The client of auth that metadata uses, over gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from grpc import StatusCode
from grpc.aio import AioRpcError, Channel

from runtime.identity import Identity
from services.metadata.access import CallerRight
from services.metadata.ports import Measure
from services.metadata.reserving import ReservedBytes
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.model.accounts import Role
from syncline.model.errors import DeviceRevoked, SpaceDeleted, TokenExpired, Unavailable
from syncline.model.identifiers import SpaceId
from syncline.rpc.errors import error_from_rpc

IDEMPOTENT = [
    f"syncline.auth.v1.AuthService/{method}"
    for method in ("CheckAccess", "GetJwks", "ListWrittenSpaces", "SetUploads", "ReserveBytes")
]


class AuthClient:
    """Reads grants, keys and uploads from auth, and reserves bytes there, with this service's own token. A request
    about a public link carries the token of the link instead.
    """

    def __init__(self, channel: Channel) -> None:
        self._stub = AuthServiceStub(channel)

    async def keys(self) -> Mapping[str, Ed25519PublicKey]:
        """Return the public keys that verify access tokens, by key id."""
        response = await self._stub.GetJwks(auth_pb2.GetJwksRequest())
        return {key.kid: Ed25519PublicKey.from_public_bytes(key.public_key) for key in response.keys}

    async def right(self, space: SpaceId, caller: Identity) -> CallerRight:
        request = auth_pb2.CheckAccessRequest(space_id=space, user_id=caller.user, device_id=caller.device)
        own = (("authorization", f"Bearer {caller.token}"),) if caller.link is not None else None
        try:
            response = await self._stub.CheckAccess(request, metadata=own)
        except AioRpcError as error:
            raise error_from_rpc(error) or error from None
        if response.device_revoked:
            raise DeviceRevoked
        if response.device_expired:
            raise TokenExpired
        if response.deleted_at_ms:
            raise SpaceDeleted.since(space, at_ms=response.deleted_at_ms, until_ms=response.restorable_until_ms)
        return CallerRight(Role(response.role) if response.role else None, response.writes_since_ms)

    async def written(self, page_token: str) -> tuple[Sequence[SpaceId], str]:
        request = auth_pb2.ListWrittenSpacesRequest(page_token=page_token)
        try:
            page = await self._stub.ListWrittenSpaces(request)
        except AioRpcError as error:
            raise error_from_rpc(error) or error from None
        return [SpaceId(space) for space in page.space_ids], page.next_page_token

    async def set_uploads(self, space: SpaceId, measure: Measure, *, quota_bytes: int) -> None:
        request = auth_pb2.SetUploadsRequest(
            space_id=space,
            refused=measure.refused,
            unsealed_bytes=measure.unsealed_bytes,
            unsealed_objects=measure.unsealed_objects,
            stored_bytes=measure.stored_bytes,
            quota_bytes=quota_bytes,
            measured_at_ms=measure.at_ms,
        )
        try:
            await self._stub.SetUploads(request)
        except AioRpcError as error:
            raise error_from_rpc(error) or error from None

    async def reserve(self, space: SpaceId, *, used_bytes: int, wanted_bytes: int) -> ReservedBytes:
        request = auth_pb2.ReserveBytesRequest(space_id=space, used_bytes=used_bytes, wanted_bytes=wanted_bytes)
        try:
            response = await self._stub.ReserveBytes(request)
        except AioRpcError as error:
            if error.code() is StatusCode.UNIMPLEMENTED:
                # An earlier release of auth is still, or again, behind the balancer while the system is updated.
                raise Unavailable("the system is being updated; try again") from None
            raise error_from_rpc(error) or error from None
        return ReservedBytes(response.reserved_bytes, response.quota_bytes, response.whole_quota_bytes)
