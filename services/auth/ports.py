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
    Invitation,
    InvitationMail,
    Link,
    Login,
    Membership,
    Proof,
    ProofMail,
    SpaceRecord,
    SpaceUploads,
    TemporaryCredentials,
)
from syncline.model.accounts import Role
from syncline.model.identifiers import DeviceId, LinkId, RequestId, SpaceId, UserId


class ChainMoved(Exception):
    """The device's chain of refresh tokens changed after it was read: a concurrent refresh succeeded."""


class GrantMoved(Exception):
    """A grant changed after it was read, or the change would leave no owner: read again and decide anew."""


class AliasTaken(Exception):
    """The user has, or had, another space with this alias."""


class MakerEnded(Exception):
    """The device from which the key of a program or the link is made is revoked, or does not exist."""


class ProofSpent(Exception):
    """The proof does not exist any more, or the account is proven already."""


class InvitationSpent(Exception):
    """The invitation does not exist any more: an account was made by it."""


class AdminExists(Exception):
    """There is an administrator already."""


class GateMoved(Exception):
    """A gate was passed after the caller had read its version. The caller counts again and decides anew."""


class GateStore(Protocol):
    """Store of gates. A gate is a named version number that every addition to a limited list increments, so that no two
    additions rely on the same count of the list.

    A caller reads the gate, counts the entries of the list, and then calls a method with the argument `gates`. The
    method adds an item and increments the version of each gate in one transaction. The method raises GateMoved and
    changes nothing in two cases:

    - a gate has another version than the one in `gates`;
    - a concurrent transaction is changing a gate.
    """

    async def gates(self, *names: str) -> list[Gate]:
        """Return the gates of these names with their versions, in the order of `names`. The version is 0 if nothing was
        added with this gate yet.
        """


class AccountStore(Protocol):
    """Store of accounts, which are found by e-mail address and by id.

    An address is the login of its one proven account. An account that is not proven claims its address: the last
    account that was created so has the claim, and others are found by id alone.
    """

    async def create_account(self, login: Login, *, device: DeviceRecord, invitation: Invitation | None = None) -> None:
        """Store the account `login`, its personal space with the owner's grant, and `device`, its first device,
        atomically. The name of the personal space is its alias as well.

        If the account is proven, raise AccountExists and store nothing if another account has the e-mail address. Of
        concurrent calls for one address, at most one succeeds; another one may raise Unavailable. If the account is not
        proven, it takes the claim to the address, whoever has the claim or the address.

        If `invitation` is given, spend it in the same transaction; raise InvitationSpent and store nothing if it was
        spent. If the account is that of an administrator, raise AdminExists and store nothing if there is one.
        """

    async def login(self, email: str) -> Login | None:
        """Return the proven account with the e-mail address `email`, which is normalised, and its password hash. Return
        None if there is none.
        """

    async def claim(self, email: str) -> Login | None:
        """Return the account that has the claim to the e-mail address `email`, and its password hash; None if there is
        none. The account is not proven.
        """

    async def unproven(self, user: UserId) -> Login | None:
        """Return the account with this id, and its password hash, if the account is not proven; None if it is proven or
        does not exist.
        """

    async def account(self, user: UserId) -> Account | None:
        """Return the account with this id; None if there is none."""

    async def replace_password_hash(self, email: str, *, old: str, new: str) -> None:
        """Store the password hash `new` for the e-mail address if the stored hash is still `old`; otherwise do
        nothing.
        """


class ProofStore(Protocol):
    """Store of proofs of addresses, and of what they change."""

    async def add_proof(self, proof: Proof) -> None:
        """Store a proof whose token is new."""

    async def proof(self, token: bytes) -> Proof | None:
        """Return the proof whose token has the digest `token`. Return None if there is none, if it was spent, or if the
        store has dropped it, which happens some time after its expiry.
        """

    async def prove(self, login: Login, proof: Proof) -> None:
        """Make the account of `login`, which is not proven, the proven account of its address, spend the proof, and end
        the claim to the address if the account has it, atomically.

        Raise AddressTaken if another account of the address is proven, and ProofSpent if the proof was spent or the
        account is proven already. Nothing is changed then. Of concurrent calls for one address, at most one succeeds;
        another one may raise Unavailable.
        """


class InvitationStore(Protocol):
    """Store of invitations, which `AccountStore.create_account` spends."""

    async def add_invitation(self, invitation: Invitation) -> None:
        """Store an invitation whose token is new."""

    async def invitation(self, token: bytes) -> Invitation | None:
        """Return the invitation whose token has the digest `token`. Return None if there is none, if it was spent, or
        if the store has dropped it, which happens some time after its expiry.
        """

    async def has_admin(self) -> bool:
        """Return True if an account of an administrator was created."""


class DeviceStore(Protocol):
    """Store of devices. Each has the chain of its refresh tokens, or the digest of its key."""

    async def add_device(self, device: DeviceRecord, *, gates: Sequence[Gate] = ()) -> bool:
        """Store a new device and return True. Change nothing and return False if the id exists already. GateStore
        describes `gates`.

        Raise MakerEnded and store nothing if the field `made_by` of the device names a device that is revoked or does
        not exist.
        """

    async def device(self, device: DeviceId) -> DeviceRecord | None:
        """Return the device with this id, even if it is revoked or expired. Return None if it never existed, or if the
        store has dropped it, which happens some time after its expiry.
        """

    async def devices(self, user: UserId, *, including: DeviceId | None = None) -> list[DeviceRecord]:
        """Return the devices of a user in no particular order, without those that `forget_device` has removed from this
        list. Revoked and expired devices are included.

        The list may lag: a device that was added a moment ago may be missing, unless `including` is its id.
        """

    async def keys_of(self, maker: DeviceId) -> list[DeviceRecord]:
        """Return the programs with a key that was made from the device `maker` (their field `made_by`), in no
        particular order. Revoked ones are included.
        """

    async def advance_chain(self, device: DeviceId, *, expected: Chain, to: Chain, seen_at_ms: int) -> None:
        """Replace the device's chain of refresh tokens by `to`, and record `seen_at_ms`, in milliseconds since 1970, as
        its last use.

        Raise ChainMoved and change nothing if the current token of the stored chain is not that of `expected`, or if
        the device is revoked. A repeated call, which finds `to` stored already, succeeds.
        """

    async def key_used(self, device: DeviceId, *, seen_at_ms: int, expires_at_ms: int) -> None:
        """Record the time `seen_at_ms` at which a device's key was used, and the time `expires_at_ms` until which the
        key is valid from now on. Both are milliseconds since 1970.

        Do nothing in these cases:

        - the device does not exist or has no key;
        - the device is revoked;
        - a later use than `seen_at_ms` is recorded.
        """

    async def revoke_device(self, device: DeviceId, *, at_ms: int) -> None:
        """Revoke a device at the time `at_ms`, in milliseconds since 1970. Do nothing if the device does not exist or
        is revoked already: the time of the first revocation stays.
        """

    async def forget_device(self, device: DeviceId, *, until_ms: int) -> None:
        """Remove a device, which the caller knows to be revoked or expired, from the list that the method `devices`
        returns. The method `device` returns it until about `until_ms`, in milliseconds since 1970; the store then drops
        it. Do nothing if the device does not exist.
        """


class SpaceStore(Protocol):
    """Store of spaces and grants. A space's number of owners, its grants and its aliases change together, atomically.

    An alias is the name by which one user refers to a space. No two aliases of a user have the same folded form
    (`aliases.fold_alias`). An alias stays reserved for its space after the grant has ended: to assign it to the same
    space again succeeds, and to assign it to another space raises AliasTaken.
    """

    async def create_space(self, space: SpaceRecord, *, owner: Account, alias: str, gates: Sequence[Gate] = ()) -> bool:
        """Store a space and the grant of its first owner, who calls it `alias`, and return True. Change nothing and
        return False if the id of the space exists already.

        Raise AliasTaken and store nothing if the alias is reserved for another space of the owner. GateStore describes
        `gates`.
        """

    async def memberships(self, user: UserId) -> list[Membership]:
        """Return the spaces in which a user has a grant, in no particular order."""

    async def members(self, space: SpaceId) -> tuple[SpaceRecord, list[GrantRecord]] | None:
        """Return the space with all its grants, in no particular order; None if there is no such space."""

    async def space_with_grants(
        self, space: SpaceId, *users: UserId
    ) -> tuple[SpaceRecord, dict[UserId, GrantRecord]] | None:
        """Return the space, and by user id the grants of those of `users` that have one. Both come from one read.
        Return None if there is no such space.
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
        """Replace a member's role `before` by `after`. None stands for no grant; at most one of the two is None.

        - `by` is the user who asks for the change.
        - `alias` is the name by which the member refers to the space. The alias is given if `before` is None; an
          existing grant keeps its alias.
        - `writes_since_ms` is the stored value of the grant's field of this name after the change.
        - `done`, the mutation request, is recorded in the same transaction.
        - `gates` are for a new grant; GateStore describes them.

        Raise AliasTaken and change nothing if `alias` is reserved for another space of the member. Raise GrantMoved and
        change nothing in these cases:

        - the member's role is not `before`;
        - no owner would remain;
        - `by` is neither an owner nor the member;
        - `done` was recorded before;
        - a concurrent transaction is changing one of the items.
        """

    async def give_alias(self, space: SpaceId, user: UserId, alias: str) -> None:
        """Assign an alias to a user's grant that has none, because it was made before aliases existed. Do nothing if
        the grant has an alias, or does not exist.

        Raise AliasTaken if the alias is reserved for another space of the user, and Unavailable if a concurrent request
        is changing the grant. Nothing is changed in both cases.
        """


class AccessStore(Protocol):
    """Store from which a check of a caller's rights reads the grants and the devices together, to save round trips."""

    async def access(
        self, space: SpaceId, *, user: UserId, device: DeviceId | None
    ) -> tuple[GrantRecord | None, DeviceRecord | None]:
        """Return the user's grant in the space, and the device, in one round trip. Each is None if it does not exist.
        The device is also None if the argument `device` is None. The returned device may be revoked or expired, or
        belong to another user.
        """

    async def accesses(
        self, grants: Collection[tuple[SpaceId, UserId]], devices: Collection[DeviceId]
    ) -> tuple[Mapping[tuple[SpaceId, UserId], GrantRecord], Mapping[DeviceId, DeviceRecord]]:
        """Return the grants with these pairs of a space and a user, and the devices with these ids. Those that do not
        exist are missing in the results; a device may be revoked or expired. One round trip reads a hundred grants and
        devices.
        """


class AttemptStore(Protocol):
    """Store of counters of password attempts, shared by all processes.

    In all methods, `subject` is the target of an attempt (the e-mail address of an account, or another name that is no
    address), `peer` is the network that the attempt comes from, and times are milliseconds since 1970.
    """

    async def count_attempt(self, *, subject: str, peer: str | None, limit: int, window_ms: int, now_ms: int) -> int:
        """Count one attempt at a subject and return 0. If `limit` attempts are counted already, count nothing and
        return the milliseconds until the counter ends. The counter is that of the network `peer`, or, if `peer` is
        None, that of all networks together.

        A counter begins with its first attempt and lasts `window_ms`. `now_ms` is the present time. Of concurrent
        attempts, at most `limit` are counted.
        """

    async def forget_attempts(self, *, subject: str, peer: str) -> None:
        """Reset two counters of the subject to 0: that of the network `peer`, and that of all networks together."""

    async def take_back_attempt(self, *, subject: str, peer: str) -> None:
        """Decrement the counter of a subject and of the network `peer`, unless the counter is 0 or does not exist."""

    async def know_network(self, *, subject: str, peer: str, until_ms: int) -> None:
        """Record that a correct password of the subject came from the network `peer`. The record is valid until
        `until_ms`, in milliseconds since 1970, and replaces an earlier one.
        """

    async def knows_network(self, *, subject: str, peer: str, now_ms: int) -> bool:
        """Return True if a correct password of the subject came from the network `peer` and its record by
        `know_network` is valid until later than `now_ms`, the present time in milliseconds since 1970.
        """


class LinkStore(Protocol):
    """Store of public links."""

    async def add_link(self, link: Link, *, gates: Sequence[Gate] = ()) -> bool:
        """Store a new link and return True. Change nothing and return False if its id exists already in this space, or
        its token exists already in any space.

        GateStore describes `gates`. Raise MakerEnded and store nothing if the device from which the link is made is
        revoked or does not exist.
        """

    async def link(self, space: SpaceId, link: LinkId) -> Link | None:
        """Return the link with this id, even if it is revoked or expired. Return None if it never existed, or if the
        store has dropped it, which happens some time after its end.
        """

    async def link_with_token(self, token: bytes) -> Link | None:
        """Return the link whose token has the digest `token`; None if there is no such link or it is revoked. The link
        may be expired.
        """

    async def links(self, space: SpaceId) -> list[Link]:
        """Return the links of a space in no particular order, including expired and revoked ones."""

    async def links_of(self, user: UserId) -> list[Link]:
        """Return the links that a user has made in all spaces, in the form in which they were made: later changes, such
        as counted downloads, are missing.

        Revoked links are missing, except those whose revocation was interrupted (`without_ended`). Links that were made
        before the store kept this list are missing as well.
        """

    async def revoke_link(self, link: Link, *, at_ms: int) -> None:
        """Revoke a link at the time `at_ms`, in milliseconds since 1970, and remove its token and its entry in the list
        `links_of`, atomically. A link that is revoked already keeps the time of its first revocation. Do nothing if the
        link does not exist.
        """

    async def without_ended(self, made: Sequence[Link]) -> list[Link]:
        """Return those of the links `made`, which `links_of` returned, that exist and are not revoked. Remove the
        others from the list of their maker.

        A process that stopped while it revoked a link in several steps may have left such entries.
        """

    async def drop_link(self, link: Link) -> None:
        """Remove a link, its token and its entry in the list of its maker, as if the link had never existed. Do nothing
        if it does not exist.
        """

    async def count_download(self, space: SpaceId, link: LinkId, request: RequestId, *, now_ms: int) -> bool:
        """Count one download and return True if the link is not revoked and allows one more download; otherwise return
        False.

        If a request that was counted is repeated within ANSWER_DAYS, return True without counting it again, even if the
        link has been revoked or allows no more downloads. `request` is the id of the request, and `now_ms` the present
        time, in milliseconds since 1970. Of concurrent requests, at most as many as the link allows are counted. Raise
        Unavailable if too many downloads of the link begin at the same time.
        """


class EndingStore(Protocol):
    """Store of the revocations of devices that were begun and are not finished, one record each. To end a device means
    to revoke it together with the keys and links that were made from it. A process that finds a record that is due
    continues the revocation.
    """

    async def begin_ending(self, ending: DeviceEnding) -> None:
        """Store the record of a revocation that is about to begin."""

    async def endings(self) -> list[DeviceEnding]:
        """Return the records of all unfinished revocations, in no particular order."""

    async def take_ending(self, ending: DeviceEnding, *, due_at_ms: int) -> DeviceEnding | None:
        """Claim a revocation for one attempt: postpone its record to `due_at_ms`, in milliseconds since 1970, add one
        to its attempts, and return the changed record.

        Return None and change nothing if the stored record is due at another time than `ending`, or was removed:
        another process has claimed or finished the revocation.
        """

    async def forget_ending(self, ending: DeviceEnding) -> None:
        """Remove the record of a finished revocation: the device, its keys and its links have ended. Do nothing if the
        record was removed before.
        """


class RequestStore(Protocol):
    """Store of the mutation requests that were carried out, by user and request id, kept for ANSWER_DAYS."""

    async def done(self, user: UserId, request: RequestId) -> bytes | None:
        """Return the fingerprint, a digest of what was asked for, of a user's request that was carried out. Return None
        if the request was not carried out, or was carried out more than ANSWER_DAYS ago.
        """

    async def note(self, done: Done) -> None:
        """Record that a mutation request was carried out. Do nothing if a request of the user with the same id is
        recorded already.
        """


class UploadStore(Protocol):
    """Store of the spaces for which credentials to write were issued, by the hour, and of the last measurement of the
    uploads of each space.
    """

    async def note_writing(self, space: SpaceId, *, hour: int) -> None:
        """Record that credentials to write to a space were issued in `hour`, the number of full hours since 1970.
        Idempotent.
        """

    async def written(self, *, hour: int, after: str, limit: int) -> list[SpaceId]:
        """Return the spaces for which `note_writing` was called with this `hour`, the number of full hours since 1970:
        up to `limit` ids that are greater than `after`, in ascending order. An empty `after` begins with the first.
        """

    async def uploads(self, space: SpaceId) -> SpaceUploads | None:
        """Return the last stored measurement of the uploads of a space; None if there is none."""

    async def set_uploads(self, space: SpaceId, uploads: SpaceUploads) -> bool:
        """Replace the stored measurement of a space by `uploads` and return True. Change nothing and return False if
        the stored measurement was taken later.
        """


class IdentityStore(
    AccountStore,
    ProofStore,
    InvitationStore,
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
    """All stores of auth in one, which is what an adapter implements."""


class MailRequests(Protocol):
    """Port by which auth asks notify to send mail."""

    async def send(self, mail: ProofMail | InvitationMail) -> None:
        """Ask for a mail, which is sent once, some time later. Raise Unavailable if the request could not be left; it
        may have been left nevertheless.
        """


class CredentialSource(Protocol):
    """Source of temporary S3 credentials."""

    async def assume(self, *, session_name: str, policy: str, seconds: int) -> TemporaryCredentials:
        """Return S3 credentials of the role for transfers, restricted to the IAM policy `policy` (JSON) and valid for
        `seconds`.

        `session_name` has 2 to 64 characters of [A-Za-z0-9_+=,.@-] and appears in the audit log.
        """
