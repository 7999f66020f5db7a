"""The ports of auth. Each docstring states the obligations of adapters; `tests/contract` checks every adapter against
them.

All reads are consistent: they include every write that was acknowledged before they began. All methods raise
Unavailable if the backend does not answer or throttles, and writes also if concurrent writers change the same items; a
write may then have been carried out or not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from services.auth.records import (
    Account,
    Chain,
    DeviceEnding,
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
    """The device's chain changed after it was read: a concurrent refresh succeeded."""


class GrantMoved(Exception):
    """A grant changed after it was read, or the change would leave no owner: read again and decide anew."""


class AliasTaken(Exception):
    """The user has, or had, another space with this alias."""


class MakerEnded(Exception):
    """The device that makes the key or link is revoked, or does not exist."""


class GateMoved(Exception):
    """A concurrent addition has passed a gate since it was read: count again and decide anew."""


class GateStore(Protocol):
    """Gates, which ensure that no two additions rely on the same count.

    A method with the argument `gates` adds an item to a list and passes all gates in one transaction; the gates were
    read before counting. It raises GateMoved and changes nothing if one gate has another version than the one read, or
    a concurrent writer is changing it.
    """

    async def gates(self, *names: str) -> list[Gate]:
        """Return the gates of these names; a gate that nothing has passed has version 0."""


class AccountStore(Protocol):
    """Store of accounts, found by address and by id."""

    async def create_account(self, login: Login, *, device: DeviceRecord) -> None:
        """Store the account, its personal space with the owner's grant, and its first device, atomically.

        The alias of the personal space is its name.

        Raise AccountExists if the address is taken. Of concurrent calls for one address, one succeeds.
        """

    async def login(self, email: str) -> Login | None:
        """Return the account with this normalised address; None if there is none."""

    async def account(self, user: UserId) -> Account | None:
        """Return the account with this id; None if there is none."""

    async def replace_password_hash(self, email: str, *, old: str, new: str) -> None:
        """Store `new` if `old` is still the stored hash; otherwise do nothing."""


class DeviceStore(Protocol):
    """Store of devices with their refresh chains and keys."""

    async def add_device(self, device: DeviceRecord, *, gates: Sequence[Gate] = ()) -> bool:
        """Store a new device and return True. Change nothing and return False if the id exists already. GateStore
        describes `gates`.

        Raise MakerEnded if the field `made_by` of the device names a device that is revoked or does not exist.
        """

    async def device(self, device: DeviceId) -> DeviceRecord | None:
        """Return the device, revoked or not; None for a device that never existed or was dropped long after it
        expired.
        """

    async def devices(self, user: UserId, *, including: DeviceId | None = None) -> list[DeviceRecord]:
        """Return the devices of a user, except those that `forget_device` has removed, in no order. A device that was
        added a moment ago may be missing, unless `including` is its id.
        """

    async def keys_of(self, maker: DeviceId) -> list[DeviceRecord]:
        """Return the devices of programs that are `made_by` a device, revoked or not, in no order."""

    async def advance_chain(self, device: DeviceId, *, expected: Chain, to: Chain, seen_at_ms: int) -> None:
        """Replace the chain by `to` if its current token is still that of `expected` and the device is not revoked.

        Otherwise raise ChainMoved. Succeeds again if the chain is already `to`.
        """

    async def key_used(self, device: DeviceId, *, seen_at_ms: int, expires_at_ms: int) -> None:
        """Record the last use of a device's key, and the new time until which the key is valid.

        Do nothing for a device that has no key, is revoked, or has a later use recorded.
        """

    async def revoke_device(self, device: DeviceId, *, at_ms: int) -> None:
        """Revoke a device. A revoked device keeps the time of its first revocation. Do nothing for an unknown
        device.
        """

    async def forget_device(self, device: DeviceId, *, until_ms: int) -> None:
        """Remove a revoked or expired device from the list of its user. `device` still finds it by its id until
        `until_ms`, in milliseconds since 1970.
        """


class SpaceStore(Protocol):
    """Store of spaces and grants. A space's `owners`, its grants and its aliases change together, atomically.

    No two aliases of one user have the same folded form (`aliases.fold_alias`). An alias stays reserved for its space
    after the grant has ended: to assign it to the same space again succeeds, and to assign it to another space raises
    AliasTaken.
    """

    async def create_space(self, space: SpaceRecord, *, owner: Account, alias: str, gates: Sequence[Gate] = ()) -> bool:
        """Store a space and its first grant, and return True. Change nothing and return False if the id exists already.
        Raise AliasTaken if the alias is reserved for another space of the user. GateStore describes `gates`.
        """

    async def memberships(self, user: UserId) -> list[Membership]:
        """Return the spaces that a user has a grant in, in no order."""

    async def members(self, space: SpaceId) -> tuple[SpaceRecord, list[GrantRecord]] | None:
        """Return the space with all its grants in no order; None if there is no such space."""

    async def standing(self, space: SpaceId, *users: UserId) -> tuple[SpaceRecord, dict[UserId, GrantRecord]] | None:
        """Return the space, and by user id the grants of those of `users` that have one, in one read; None if there is
        no such space.
        """

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

        At least one of `before` and `after` is a role; None means no grant.

        `done`, the mutation request, is recorded in the same transaction. `alias` is for a new grant (`before` is
        None); an existing grant keeps its alias. `writes_since_ms` is the value after the change. GateStore describes
        `gates`, which are for a new grant.

        Raise GrantMoved and change nothing if a condition does not hold, `done` was recorded before, or a concurrent
        writer is changing one of the items. Raise AliasTaken if `alias` is reserved for another space of the member.
        """

    async def give_alias(self, space: SpaceId, user: UserId, alias: str) -> None:
        """Assign an alias to a grant from before aliases existed. Do nothing if the grant has an alias, or does not
        exist. Raise AliasTaken if the alias is reserved for another space of the user, and Unavailable if a concurrent
        writer is changing the grant.
        """


class AccessStore(Protocol):
    """Store from which every check of access reads the grant and the device of the caller."""

    async def access(
        self, space: SpaceId, *, user: UserId, device: DeviceId | None
    ) -> tuple[GrantRecord | None, DeviceRecord | None]:
        """Return the user's grant in the space and the device, in one round trip."""

    async def accesses(
        self, grants: Collection[tuple[SpaceId, UserId]], devices: Collection[DeviceId]
    ) -> tuple[Mapping[tuple[SpaceId, UserId], GrantRecord], Mapping[DeviceId, DeviceRecord]]:
        """Return the grants with these pairs of a space and a user, and the devices with these ids, as far as they
        exist, in one round trip for each hundred of both.
        """


class AttemptStore(Protocol):
    """Store of counters of password attempts, shared by all processes.

    `subject` is the target of an attempt: the address of an account, or a name that is no address.
    """

    async def count_attempt(self, *, subject: str, peer: str | None, limit: int, window_ms: int, now_ms: int) -> int:
        """Count one attempt at a subject in the counter of the network `peer`, or in the counter of all networks
        together if `peer` is None.

        A counter lasts `window_ms` from its first attempt. Return 0 if the attempt was counted. If `limit` attempts are
        counted already, do not count it, and return the milliseconds until the counter ends. Of n concurrent attempts,
        at most `limit` are counted.
        """

    async def forget_attempts(self, *, subject: str, peer: str) -> None:
        """Reset two counters of the subject to 0: that of the network `peer`, and that of all networks together."""

    async def take_back_attempt(self, *, subject: str, peer: str) -> None:
        """Decrement the counter of a subject and `peer`, unless it is 0."""

    async def know_network(self, *, subject: str, peer: str, until_ms: int) -> None:
        """Record, until `until_ms`, that a correct password of the subject came from `peer`."""

    async def knows_network(self, *, subject: str, peer: str, now_ms: int) -> bool:
        """Return True if `peer` is recorded for the subject until later than `now_ms`."""


class LinkStore(Protocol):
    """Store of public links."""

    async def add_link(self, link: Link, *, gates: Sequence[Gate] = ()) -> bool:
        """Store a new link and return True. Change nothing and return False if its id in this space or its token exists
        already.

        GateStore describes `gates`. Raise MakerEnded if the device that makes the link is revoked or does not exist.
        """

    async def link(self, space: SpaceId, link: LinkId) -> Link | None:
        """Return the link, revoked or not; None for a link that never existed or was dropped long after it ended."""

    async def link_with_token(self, token: bytes) -> Link | None:
        """Return the link whose token has this digest; None if there is none or it was revoked."""

    async def links(self, space: SpaceId) -> list[Link]:
        """Return the links of a space in no order, including expired and revoked ones."""

    async def links_of(self, user: UserId) -> list[Link]:
        """Return the links that a user made in all spaces, except revoked ones, in the form in which they were made:
        without later changes, such as counted downloads.

        Links from before the store kept this list are missing.
        """

    async def revoke_link(self, link: Link, *, at_ms: int) -> None:
        """Revoke a link. A revoked link keeps the time of its first revocation. Do nothing for an unknown link.

        The token of the link and its entry in the list of its maker are removed atomically.
        """

    async def without_ended(self, made: Sequence[Link]) -> list[Link]:
        """Return those of the links from `links_of` that exist and are not revoked. Remove the others from that list.

        A process that died while it revoked a link in several steps may have left such entries.
        """

    async def drop_link(self, link: Link) -> None:
        """Remove a link and its token, as if it had never existed."""

    async def count_download(self, space: SpaceId, link: LinkId, request: RequestId, *, now_ms: int) -> bool:
        """Count one download if the link is not revoked and allows one more; return True if it is counted.

        A counted request is not counted again within ANSWER_DAYS from `now_ms`, in milliseconds since 1970, and returns
        True again. Of n concurrent requests, at most as many as the link allows are counted.
        """


class EndingStore(Protocol):
    """Store of the records of device revocations ("ends") that were begun and are not finished. A process that finds a
    record that is due continues the revocation.
    """

    async def begin_ending(self, ending: DeviceEnding) -> None:
        """Store the record of an end that is about to begin."""

    async def endings(self) -> list[DeviceEnding]:
        """Return all records, in no order."""

    async def take_ending(self, ending: DeviceEnding, *, due_at_ms: int) -> DeviceEnding | None:
        """Postpone a record to `due_at_ms`, count one more attempt, and return the changed record.

        Return None, and change nothing, if the record is not as it was read: another process has taken it, or it was
        removed.
        """

    async def forget_ending(self, ending: DeviceEnding) -> None:
        """Remove a record, because the device, its keys and its links have ended. Do nothing if the record was removed
        before.
        """


class RequestStore(Protocol):
    """Store of the mutation requests that were carried out, kept for ANSWER_DAYS."""

    async def done(self, user: UserId, request: RequestId) -> bytes | None:
        """Return the fingerprint of a user's request; None if the request was not carried out, or was carried out more
        than ANSWER_DAYS ago.
        """

    async def note(self, done: Done) -> None:
        """Record that a mutation request was carried out. Do nothing if a request of the user is recorded under this
        id.
        """


class UploadStore(Protocol):
    """Store of the spaces that are written to, hour by hour, and of the measures of their uploads."""

    async def note_writing(self, space: SpaceId, *, hour: int) -> None:
        """Record that credentials to write to a space were issued in `hour`, the number of hours since 1970.
        Idempotent.
        """

    async def written(self, *, hour: int, after: str, limit: int) -> list[SpaceId]:
        """Return up to `limit` spaces that `note_writing` has recorded for `hour`, with ids greater than `after`, in
        the order of their ids.
        """

    async def uploads(self, space: SpaceId) -> SpaceUploads | None:
        """Return the last measure of the uploads of a space; None if there is none."""

    async def set_uploads(self, space: SpaceId, uploads: SpaceUploads) -> bool:
        """Replace the stored measure and return True; return False if the stored measure was taken later."""


class IdentityStore(
    AccountStore,
    DeviceStore,
    SpaceStore,
    AccessStore,
    AttemptStore,
    LinkStore,
    EndingStore,
    RequestStore,
    UploadStore,
    GateStore,
    Protocol,
):
    """All stores of auth in one, as the adapters implement them."""


class CredentialSource(Protocol):
    """Source of temporary credentials."""

    async def assume(self, *, session_name: str, policy: str, seconds: int) -> TemporaryCredentials:
        """Return credentials of the transfer role, restricted to `policy`, for `seconds`.

        `session_name` has 2 to 64 characters of [A-Za-z0-9_+=,.@-] and appears in the audit log.
        """
