"""Adapter that asks auth by gRPC for members and rights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import grpc
from cachetools import TTLCache
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.notify.records import Roster, RosterMember
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.model.errors import DeviceRevoked, NoSuchSpace
from syncline.model.identifiers import DeviceId, SpaceId, UserId
from syncline.rpc.errors import rpc_errors

if TYPE_CHECKING:
    import grpc.aio

SERVICE: Final = auth_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name

_ROSTER_SECONDS: Final = 10.0
_ROSTERS: Final = 1_000


class AuthDirectory:
    """Directory, over a channel that carries this service's token. A roster may be ten seconds old."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = AuthServiceStub(channel)
        self._rosters: TTLCache[SpaceId, Roster] = TTLCache(_ROSTERS, _ROSTER_SECONDS)

    async def members(self, space: SpaceId) -> Roster:
        known = self._rosters.get(space)
        if known is not None:
            return known
        members: list[RosterMember] = []
        request = auth_pb2.ListMembersRequest(space_id=space)
        while True:
            with rpc_errors():
                answer = await self._stub.ListMembers(request)
            members += [RosterMember(UserId(member.user_id), member.email, member.alias) for member in answer.members]
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        roster = self._rosters[space] = Roster(answer.space_name, tuple(members))
        return roster

    async def check(self, space: SpaceId, *, user: UserId, device: DeviceId) -> None:
        request = auth_pb2.CheckAccessRequest(space_id=space, user_id=user, device_id=device)
        with rpc_errors():
            answer = await self._stub.CheckAccess(request)
        if answer.device_revoked:
            raise DeviceRevoked
        if answer.role == auth_pb2.ROLE_UNSPECIFIED:
            raise NoSuchSpace(f"there is no space {space}, or you are not a member of it", space_id=space)

    async def keys(self) -> Mapping[str, Ed25519PublicKey]:
        """The keys that verify access tokens, by their id."""
        with rpc_errors():
            answer = await self._stub.GetJwks(auth_pb2.GetJwksRequest())
        return {key.kid: Ed25519PublicKey.from_public_bytes(key.public_key) for key in answer.keys}
