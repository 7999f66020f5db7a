"""The ports of auth. Each obligation stands here once; every adapter passes the same suite.

All reads are consistent: they see every write that was acknowledged before they began. All methods raise Unavailable
when the backend does not answer or throttles; a write may then have happened or not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from services.auth.records import (
    Account,
    Chain,
    DeviceRecord,
    Done,
    Gate,
    GrantRecord,
    Link,
    Login,
    Membership,
    SpaceRecord,
    SpaceUploads,
    TemporaryCredentials,
)
from syncline.model.accounts import Role
from syncline.model.identifiers import DeviceId, LinkId, RequestId, SpaceId, UserId


class ChainMoved(Exception):
    """The device's chain is not the one that was read: another refresh won."""


class GrantMoved(Exception):
    """A grant is not the one that was read, or the change would leave no owner: read again and decide anew."""


class AliasTaken(Exception):
    """The user has, or had, another space of this alias."""


class MakerEnded(Exception):
    """The device by which something is made is revoked, or not there."""


class GateMoved(Exception):
    """Something else has passed a gate since it was read: count again and decide anew."""


class GateStore(Protocol):
    """Gates, by which no two additions are decided on the same count.

    What adds something takes `gates` that were read before counting. It passes all of them as it adds. It raises
    GateMoved, and nothing is changed, if one is not the version that was read or another writer is at it at the moment.
    """

    async def gates(self, *names: str) -> list[Gate]:
        """The gates of these names; one that nothing has passed has version 0."""


class AccountStore(Protocol):
    """People, found by address and by id."""

    async def create_account(self, login: Login, *, device: DeviceRecord) -> None:
        """Store the account, its personal space with the owner's grant, and its first device: all or nothing.

        The alias of the personal space is its name.

        Raises AccountExists if the address is taken. Of several at once for one address, one succeeds.
        """

    async def login(self, email: str) -> Login | None:
        """The account with this normalised address."""

    async def account(self, user: UserId) -> Account | None:
        """The account with this id."""

    async def replace_password_hash(self, email: str, *, old: str, new: str) -> None:
        """Store `new` if `old` is still the hash; else do nothing."""


class DeviceStore(Protocol):
    """Devices with their refresh chains and keys."""

    async def add_device(self, device: DeviceRecord, *, gates: Sequence[Gate] = ()) -> bool:
        """Store a new device; False, and nothing is changed, if the id is there already. `gates`: see GateStore.

        Raise MakerEnded if the device that is `made_by` another one is added after that one was revoked.
        """

    async def device(self, device: DeviceId) -> DeviceRecord | None:
        """The device, revoked or not; None for one that never was or was dropped long after it expired."""

    async def devices(self, user: UserId, *, including: DeviceId | None = None) -> list[DeviceRecord]:
        """The devices of a user in no order, but those that were forgotten.

        One added a moment ago may be missing, unless it is `including`.
        """

    async def keys_of(self, maker: DeviceId) -> list[DeviceRecord]:
        """The devices of programs that are `made_by` a device, revoked or not, in no order."""

    async def advance_chain(self, device: DeviceId, *, expected: Chain, to: Chain, seen_at_ms: int) -> None:
        """Make `to` the chain if its current token is still that of `expected` and the device is not revoked.

        Else raises ChainMoved. Done already (the chain is `to`), it succeeds again.
        """

    async def key_used(self, device: DeviceId, *, seen_at_ms: int, expires_at_ms: int) -> None:
        """Note when a device's key was used last, and until when it is good now.

        Does nothing for a device that has no key, is revoked, or was seen later than that.
        """

    async def revoke_device(self, device: DeviceId, *, at_ms: int) -> None:
        """Revoke; once revoked, a device stays so, with the first time. Does nothing for an unknown device."""

    async def forget_device(self, device: DeviceId, *, until_ms: int) -> None:
        """Leave a device that has ended out of the list of its user's. It is found by its id until `until_ms`."""


class SpaceStore(Protocol):
    """Spaces and grants. A space's `owners`, the grants and what is known of aliases change together or not at all.

    Of one user's aliases no two fold alike (`aliases.fold_alias`). One that was given stays that space's, also when the
    grant has gone: given again for the same space it is accepted, for another AliasTaken is raised.
    """

    async def create_space(self, space: SpaceRecord, *, owner: Account, alias: str, gates: Sequence[Gate] = ()) -> bool:
        """Store a space and its first grant; False, and nothing is changed, if the id is there already.

        Raises AliasTaken; `gates`: see GateStore.
        """

    async def memberships(self, user: UserId) -> list[Membership]:
        """The spaces that a user has a grant in, in no order."""

    async def members(self, space: SpaceId) -> tuple[SpaceRecord, list[GrantRecord]] | None:
        """The space with all its grants in no order; None if there is no such space."""

    async def standing(self, space: SpaceId, *users: UserId) -> tuple[SpaceRecord, dict[UserId, GrantRecord]] | None:
        """The space with the grants that these users have, in one read; None if there is no such space."""

    async def change_grant(
        self,
        space: SpaceRecord,
        *,
        member: Account,
        before: Role | None,
        after: Role | None,
        by: UserId,
        alias: str = "",
        writes_since_ms: int = 0,
        done: Done | None = None,
        gates: Sequence[Gate] = (),
    ) -> None:
        """Replace a member's role if it is `before`, an owner remains, and `by` is an owner or the member.

        One of `before` and `after` is a role; None is no grant.

        `done`, the request that asks for it, is noted along; the role stays as it is if it was noted before.

        `alias` comes with a new grant (`before` is None); a grant that is changed keeps the one that it has.
        `writes_since_ms` is that of the grant as it is afterwards. `gates`, of a new grant: see GateStore. Raises
        GrantMoved if one of these does not hold, or another writer is at it at this moment. Raise AliasTaken.
        """

    async def give_alias(self, space: SpaceId, user: UserId, alias: str) -> None:
        """Give a grant from the time before aliases one. Does nothing if it has one, or is not there.

        Raises AliasTaken. Raise Unavailable if another writer is at it at this moment.
        """


class AccessStore(Protocol):
    """The one read that stands behind every access."""

    async def access(
        self, space: SpaceId, *, user: UserId, device: DeviceId | None
    ) -> tuple[GrantRecord | None, DeviceRecord | None]:
        """The user's grant in the space and the device, in one round trip."""

    async def accesses(
        self, grants: Collection[tuple[SpaceId, UserId]], devices: Collection[DeviceId]
    ) -> tuple[Mapping[tuple[SpaceId, UserId], GrantRecord], Mapping[DeviceId, DeviceRecord]]:
        """Return those of the grants and devices that are there, in one round trip for each hundred."""


class AttemptStore(Protocol):
    """Counters of attempts with passwords, shared by all processes.

    `subject` is what a password is tried on: the address of an account, or a name that is no address.
    """

    async def count_attempt(self, *, subject: str, peer: str | None, limit: int, window_ms: int, now_ms: int) -> int:
        """Count one attempt at a subject from `peer`, or from anywhere if that is None.

        A counter lasts `window_ms` from its first attempt. Returns 0 if the attempt was counted; if `limit` are
        counted already, it is not counted and the milliseconds until the counter ends are returned. Of n attempts
        at once, no more than `limit` are counted.
        """

    async def forget_attempts(self, *, subject: str, peer: str) -> None:
        """Set the counter of this peer and that of the subject as a whole back to 0."""

    async def take_back_attempt(self, *, subject: str, peer: str) -> None:
        """Lower the counter of a subject and `peer` by one attempt, unless it is 0."""

    async def know_network(self, *, subject: str, peer: str, until_ms: int) -> None:
        """Note until `until_ms` that a right password of the subject came from `peer`."""

    async def knows_network(self, *, subject: str, peer: str, now_ms: int) -> bool:
        """True if that is noted for `peer` until later than now."""


class LinkStore(Protocol):
    """Store of public links."""

    async def add_link(self, link: Link, *, gates: Sequence[Gate] = ()) -> bool:
        """Store a new link; False, and nothing is changed, if its id in this space or its token is there already.

        `gates`: see GateStore. Raise MakerEnded as `add_device`.
        """

    async def link(self, space: SpaceId, link: LinkId) -> Link | None:
        """The link, revoked or not; None for one that never was or was dropped long after it ended."""

    async def link_with_token(self, token: bytes) -> Link | None:
        """The link whose token has this digest. None also for one that was revoked."""

    async def links(self, space: SpaceId) -> list[Link]:
        """The links of a space in no order. Some may have expired or be revoked."""

    async def links_of(self, user: UserId) -> list[Link]:
        """The links of all spaces that a user made, as they made them, but for those that were revoked.

        Those that were made before the store kept such a list are missing.
        """

    async def revoke_link(self, link: Link, *, at_ms: int) -> None:
        """Revoke; once revoked, a link stays so, with the first time. Does nothing for an unknown link.

        The link opens no more and counts no more among those of its maker, both or neither.
        """

    async def without_ended(self, made: Sequence[Link]) -> list[Link]:
        """Return those of the links from `links_of` that are there and not revoked. The others leave that list.

        A process that ended while it revoked a link in several steps has left such ones.
        """

    async def drop_link(self, link: Link) -> None:
        """Remove a link and what its token leads to, as if it had never been."""

    async def count_download(self, space: SpaceId, link: LinkId, request: RequestId, *, now_ms: int) -> bool:
        """Count one download if the link is not revoked and allows one more; whether it is counted.

        A request that was counted stays so, and is not counted again within ANSWER_DAYS from `now_ms`, milliseconds
        since 1970. Of n requests at once, no more than the link allows are counted.
        """


class RequestStore(Protocol):
    """Mutation requests that were carried out, for ANSWER_DAYS."""

    async def done(self, user: UserId, request: RequestId) -> bytes | None:
        """The fingerprint of a user's request; None if it was not carried out, or too long ago."""

    async def note(self, done: Done) -> None:
        """Note a request. Does nothing if one was noted under this id before."""


class UploadStore(Protocol):
    """Store of the spaces that are written to, hour by hour, and of what was measured of their uploads."""

    async def note_writing(self, space: SpaceId, *, hour: int) -> None:
        """Note that credentials to write were issued in this hour since 1970. Idempotent."""

    async def written(self, *, hour: int, after: str, limit: int) -> list[SpaceId]:
        """Up to `limit` spaces that were noted in an hour, in the order of their ids, greater than `after`."""

    async def uploads(self, space: SpaceId) -> SpaceUploads | None:
        """Return the last measure of the uploads of a space; None if there is none."""

    async def set_uploads(self, space: SpaceId, uploads: SpaceUploads) -> bool:
        """Keep this in place of what was said before; False if what was said before was measured later."""


class IdentityStore(
    AccountStore,
    DeviceStore,
    SpaceStore,
    AccessStore,
    AttemptStore,
    LinkStore,
    RequestStore,
    UploadStore,
    GateStore,
    Protocol,
):
    """Everything, as the adapters implement it."""


class CredentialSource(Protocol):
    """Source of temporary credentials."""

    async def assume(self, *, session_name: str, policy: str, seconds: int) -> TemporaryCredentials:
        """Credentials of the transfer role, narrowed to `policy`, for `seconds`.

        `session_name` has 2 to 64 characters of [A-Za-z0-9_+=,.@-] and appears in the audit log.
        """
