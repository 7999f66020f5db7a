"""Adapter that reads members and rights from auth over gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import grpc
from cachetools import TTLCache
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.notify.records import PersonAccess, Roster, RosterMember
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.model.errors import SpaceDeleted
from syncline.model.identifiers import DeviceId, SpaceId, UserId
from syncline.rpc.errors import rpc_errors

if TYPE_CHECKING:
    import grpc.aio

SERVICE: Final = auth_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name

_ROSTER_SECONDS: Final = 10.0
_MAX_CACHED_ROSTERS: Final = 1_000


class AuthDirectory:
    """Implements MemberDirectory over a channel that carries this service's token. A roster may be ten seconds old."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = AuthServiceStub(channel)
        self._rosters: TTLCache[SpaceId, Roster] = TTLCache(_MAX_CACHED_ROSTERS, _ROSTER_SECONDS)

    async def members(self, space: SpaceId) -> Roster:
        known = self._rosters.get(space)
        if known is not None:
            return known
        members: list[RosterMember] = []
        request = auth_pb2.ListMembersRequest(space_id=space)
        while True:
            with rpc_errors():
                answer = await self._stub.ListMembers(request)
            members += [
                RosterMember(UserId(member.user_id), member.email, member.alias, member.suspended)
                for member in answer.members
            ]
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        roster = self._rosters[space] = Roster(answer.space_name, tuple(members))
        return roster

    async def check(self, spaces: Sequence[SpaceId], *, user: UserId, devices: Sequence[DeviceId]) -> PersonAccess:
        request = auth_pb2.BatchCheckAccessRequest(user_id=user, space_ids=spaces, device_ids=devices)
        with rpc_errors():
            answer = await self._stub.BatchCheckAccess(request)
        return PersonAccess(
            frozenset(map(SpaceId, answer.space_ids)),
            frozenset(map(DeviceId, answer.revoked_device_ids)),
            frozenset(map(DeviceId, answer.expired_device_ids)),
            {
                SpaceId(one.space_id): SpaceDeleted.since(
                    one.space_id, at_ms=one.deleted_at_ms, until_ms=one.restorable_until_ms
                )
                for one in answer.deleted_spaces
            },
            {DeviceId(one.device_id): frozenset(map(SpaceId, one.space_ids)) for one in answer.limited_devices},
        )

    async def keys(self) -> Mapping[str, Ed25519PublicKey]:
        """Return the public keys that verify access tokens, by their id."""
        with rpc_errors():
            answer = await self._stub.GetJwks(auth_pb2.GetJwksRequest())
        return {key.kid: Ed25519PublicKey.from_public_bytes(key.public_key) for key in answer.keys}
