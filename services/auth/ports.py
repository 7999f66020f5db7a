"""The ports of auth. Each docstring states the obligations of adapters; `tests/contract` checks every adapter against
them.

All reads are consistent: they include every write that was acknowledged before they began. All methods raise
Unavailable if the backend does not answer or throttles, and writes also if concurrent writers change the same items; a
write may then have been carried out or not.

An argument `events` has events of the audit log, which are stored in the transaction of the change: both are stored, or
none. A call that changes nothing, such as a repetition, stores no event.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from services.auth.audit.events import AuditEvent
from services.auth.records import (
    Account,
    AccountMail,
    Chain,
    DeviceEnding,
    DeviceRecord,
    Done,
    Gate,
    GrantChange,
    GrantRecord,
    Invitation,
    Link,
    Login,
    Membership,
    PasswordChange,
    Proof,
    Reservation,
    Reset,
    SecondFactor,
    SpaceDeletion,
    SpaceInvitation,
    SpaceRecord,
    SpaceUploads,
    TemporaryCredentials,
    UserState,
)
from syncline.model.identifiers import DeviceId, LinkId, RequestId, SpaceId, UserId


class ChainMoved(Exception):
    """The device's chain of refresh tokens changed after it was read: a concurrent refresh succeeded."""


class GrantMoved(Exception):
    """A grant or its space changed after it was read, or no owner would remain: read again and decide anew."""


class AliasTaken(Exception):
    """The user has, or had, another space with this alias."""


class MakerEnded(Exception):
    """The device from which the key of a program or the link is made is revoked, or does not exist."""


class ProofSpent(Exception):
    """The proof does not exist any more, or the account is proven already."""


class ResetSpent(Exception):
    """The reset does not exist any more: a password was chosen by it."""


class PasswordMoved(Exception):
    """The password of the account was changed after it was read."""


class InvitationSpent(Exception):
    """The invitation does not exist any more: an account was made by it."""


class AdminExists(Exception):
    """There is an administrator already."""


class StandingMoved(Exception):
    """An account is not as the caller has read it, or the caller is no administrator any more: read again and decide
    anew.
    """


class NoAdministratorLeft(Exception):
    """No administrator who is not suspended would remain."""


class ReservationMoved(Exception):
    """A reservation is not as the caller has read it, or a concurrent transaction changes it: read again and decide
    anew.
    """


class QuotaReached(Exception):
    """More would be reserved for the spaces that count for a person than the person's quota."""


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

    async def create_account(
        self,
        login: Login,
        *,
        device: DeviceRecord,
        invitation: Invitation | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> None:
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

    async def has_admin(self) -> bool:
        """Return True if an account of an administrator was created."""

    async def suspended(self, users: Collection[UserId]) -> set[UserId]:
        """Return those of `users` whose accounts are suspended. One round trip reads a hundred accounts."""

    async def replace_password_hash(self, email: str, *, old: str, new: str) -> None:
        """Store the password hash `new` for the e-mail address if the stored hash is still `old`; otherwise do
        nothing.
        """


class ProofStore(Protocol):
    """Store of proofs of addresses, and of what they change."""

    async def add_proof(self, proof: Proof, *, events: Sequence[AuditEvent] = ()) -> None:
        """Store a proof whose token is new."""

    async def proof(self, token: bytes) -> Proof | None:
        """Return the proof whose token has the digest `token`. Return None if there is none, if it was spent, or if the
        store has dropped it, which happens some time after its expiry.
        """

    async def prove(self, login: Login, proof: Proof, *, events: Sequence[AuditEvent] = ()) -> None:
        """Make the account of `login`, which is not proven, the proven account of its address, spend the proof, and end
        the claim to the address if the account has it, atomically.

        Raise AddressTaken if another account of the address is proven, and ProofSpent if the proof was spent or the
        account is proven already. Nothing is changed then. Of concurrent calls for one address, at most one succeeds;
        another one may raise Unavailable.
        """


class PasswordStore(Protocol):
    """Store of resets, and of changes of passwords whose consequences are not complete, one record each."""

    async def add_reset(self, reset: Reset) -> None:
        """Store a reset whose token is new."""

    async def reset(self, token: bytes) -> Reset | None:
        """Return the reset whose token has the digest `token`. Return None if there is none, if it was spent, or if the
        store has dropped it, which happens some time after its expiry.
        """

    async def change_password(
        self,
        login: Login,
        password_hash: str,
        *,
        change: PasswordChange,
        reset: Reset | None = None,
        done: Done | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> None:
        """Replace the password hash of the proven account `login` by `password_hash`, set the number of times that its
        password was changed to `change.number`, store the record `change`, and spend `reset`, atomically. `done`
        records the request, so that a repetition is recognised. `change.keep` is the device that stays signed in.

        Change nothing and raise one of these errors:

        - PasswordMoved if the password was changed after `login` was read; also if `done` was recorded before, since
          this request has changed the password then;
        - ResetSpent if `reset` was spent;
        - MakerEnded if the device `change.keep` is revoked or does not exist.
        """

    async def password_changes(self) -> list[PasswordChange]:
        """Return all records of changes, in no particular order."""

    async def update_change(self, change: PasswordChange, to: PasswordChange) -> bool:
        """Replace the record `change` by `to`, which has the same id, and return True. Change nothing and return False
        if the stored record is due at another time than `change`, or was removed: another process works on it.
        """

    async def forget_change(self, change: PasswordChange) -> None:
        """Remove the record of a change that is complete. Do nothing if the record was removed before."""


class FactorStore(Protocol):
    """Store of second factors, at most one for each account."""

    async def factor(self, user: UserId) -> SecondFactor | None:
        """Return the second factor of a user, confirmed or not. Return None if there is none."""

    async def change_factor(
        self, before: SecondFactor | None, after: SecondFactor | None, *, events: Sequence[AuditEvent] = ()
    ) -> bool:
        """Replace the second factor `before` by `after`, which is of the same user, and return True. None stands for no
        factor; at least one of both is a factor. The stored version is the next one after that of `before`.

        Change nothing and return False if the stored factor is not `before` any more.
        """


class InvitationStore(Protocol):
    """Store of invitations, which `AccountStore.create_account` spends."""

    async def add_invitation(self, invitation: Invitation, *, events: Sequence[AuditEvent] = ()) -> None:
        """Store an invitation whose token is new."""

    async def invitation(self, token: bytes) -> Invitation | None:
        """Return the invitation whose token has the digest `token`. Return None if there is none, if it was spent, or
        if the store has dropped it, which happens some time after its expiry.
        """


class DirectoryStore(Protocol):
    """Store of the lists of all accounts and of all shared spaces, and of what administrators change in accounts.

    An account is in the lists from the transaction that creates it, and in the list of each of its states (`UserState`)
    as long as it has the state. `enter_earlier` adds accounts and spaces of earlier releases.
    """

    async def list_users(
        self, state: UserState | None, *, beginning: str, after: str, limit: int
    ) -> list[tuple[str, Account]]:
        """Return up to `limit` accounts whose addresses begin with the text `beginning`, in the order of their places
        (`Account.place`), each with its place; from the first one whose place is greater than `after`. An empty `after`
        begins with the first.

        `state` restricts the list to accounts with this state; None does not restrict it. The reads that are done grow
        with the number of accounts that are returned, and not with the number of accounts that exist.
        """

    async def list_spaces(self, *, after: str, limit: int) -> list[tuple[str, SpaceRecord]]:
        """Return up to `limit` shared spaces in the order of their places (`SpaceRecord.place`), each with its place,
        from the first one whose place is greater than `after`. An empty `after` begins with the first.
        """

    async def change_standing(
        self, before: Account, after: Account, *, by: UserId, done: Done, events: Sequence[AuditEvent] = ()
    ) -> None:
        """Replace the account `before` by `after`, which differs in `admin`, `suspension` and `quota_bytes` alone, and
        record the mutation request `done`, atomically. `by` is the administrator who makes the change.

        - Raise NoAdministratorLeft and change nothing if no administrator who is not suspended would remain.
        - Raise StandingMoved and change nothing if the stored account has another `admin`, `suspension` or
          `quota_bytes` than `before`, if `by` is no administrator or is suspended, if `done` was recorded before, or if
          a concurrent transaction changes one of the items. Of concurrent calls that would together leave no
          administrator, at most as many succeed as leave one.
        """

    async def enter_earlier(self) -> bool:
        """Add all accounts and shared spaces that earlier releases have made to the lists, and return True; return
        False if `finish_entering` was called. Idempotent. Lasts as long as reading the whole table takes.
        """

    async def finish_entering(self) -> None:
        """Record that all accounts and spaces of earlier releases are in the lists."""


class SpaceInvitationStore(Protocol):
    """Store of invitations to spaces. An address has at most one in each space.

    `SpaceStore.change_grants` ends an invitation that becomes a grant. The store drops an invitation some time after
    its expiry; until then the methods return it.
    """

    async def add_space_invitation(
        self,
        invitation: SpaceInvitation,
        *,
        replacing: SpaceInvitation | None,
        done: Done,
        gates: Sequence[Gate] = (),
        events: Sequence[AuditEvent] = (),
    ) -> None:
        """Store an invitation, and the right to make an account by its token (`InvitationStore`), and record the
        mutation request `done`, atomically. The invitation ends `replacing`, the present invitation of the address to
        the space; None if there is none. GateStore describes `gates`.

        Raise GrantMoved and change nothing in these cases:

        - the present invitation of the address to the space is not `replacing`;
        - the address has a proven account;
        - the inviter is not an owner of the space;
        - the space is deleted;
        - `done` was recorded before;
        - a concurrent transaction is changing one of the items.
        """

    async def space_invitation(self, space: SpaceId, email: str) -> SpaceInvitation | None:
        """Return the invitation of an address to a space; None if there is none."""

    async def invitations_to(self, space: SpaceId) -> list[SpaceInvitation]:
        """Return the invitations to a space, in no particular order."""

    async def invitations_for(self, email: str) -> list[SpaceInvitation]:
        """Return the invitations of an address to spaces, in no particular order."""

    async def invitations_by(self, user: UserId) -> list[SpaceInvitation]:
        """Return the invitations to spaces that a user has made, in no particular order."""

    async def end_space_invitation(
        self, invitation: SpaceInvitation, *, done: Done | None = None, events: Sequence[AuditEvent] = ()
    ) -> None:
        """Remove an invitation and its token, and record the mutation request `done`, if it is given, atomically.

        Raise GrantMoved and change nothing if the invitation has ended or was replaced, if `done` was recorded before,
        or if a concurrent transaction is changing one of the items.
        """


class DeviceStore(Protocol):
    """Store of devices. Each has the chain of its refresh tokens, or the digest of its key."""

    async def signed_in(self, user: UserId, device: DeviceId) -> tuple[Account | None, DeviceRecord | None]:
        """Return the account of a user and a device, in one round trip. Each is None if it does not exist. The account
        may be suspended; the device may be revoked or expired, or belong to another user.
        """

    async def add_device(
        self,
        device: DeviceRecord,
        *,
        gates: Sequence[Gate] = (),
        login: Login | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """Store a new device and return True. Change nothing and return False if the id exists already. GateStore
        describes `gates`.

        If `login`, a proven account, is given, raise PasswordMoved and store nothing if its password was changed after
        `login` was read.

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

    async def revoke_device(self, device: DeviceId, *, at_ms: int, events: Sequence[AuditEvent] = ()) -> None:
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

    async def create_space(
        self,
        space: SpaceRecord,
        *,
        owner: Account,
        alias: str,
        gates: Sequence[Gate] = (),
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """Store a space and the grant of its first owner, who calls it `alias`, and return True. Change nothing and
        return False if the id of the space exists already.

        Raise AliasTaken and store nothing if the alias is reserved for another space of the owner. GateStore describes
        `gates`.
        """

    async def memberships(self, user: UserId) -> list[Membership]:
        """Return the spaces in which a user has a grant, in no particular order. Deleted spaces are included, unless
        `forget_membership` has removed them from this list.
        """

    async def forget_membership(self, space: SpaceId, user: UserId) -> None:
        """Remove a space, which is deleted and cannot be undeleted any more, from the list that the method
        `memberships` returns for the user. The grant stays. Do nothing if the space is not in the list.
        """

    async def change_space(
        self,
        before: SpaceRecord,
        after: SpaceRecord,
        *,
        by: UserId,
        done: Done,
        as_admin: bool = False,
        events: Sequence[AuditEvent] = (),
    ) -> None:
        """Replace the name, the deletion and the quota of a space, which are those of `before`, by those of `after`;
        `made_as` is replaced as well. `by` is the user who asks for the change: an owner, or with `as_admin` an
        administrator who is not suspended. `done`, the mutation request, is recorded in the same transaction.

        Raise GrantMoved and change nothing in these cases:

        - the name, the deletion or the quota of the stored space differs from `before`;
        - `by` is no owner, or with `as_admin` no administrator;
        - `done` was recorded before;
        - a concurrent transaction is changing one of the items.
        """

    async def members(self, space: SpaceId) -> tuple[SpaceRecord, list[GrantRecord]] | None:
        """Return the space with all its grants, in no particular order; None if there is no such space."""

    async def space_with_grants(
        self, space: SpaceId, *users: UserId
    ) -> tuple[SpaceRecord, dict[UserId, GrantRecord]] | None:
        """Return the space, and by user id the grants of those of `users` that have one. Both come from one read.
        Return None if there is no such space.
        """

    async def change_grants(
        self,
        space: SpaceRecord,
        changes: Sequence[GrantChange],
        *,
        by: UserId,
        done: Done | None = None,
        gates: Sequence[Gate] = (),
        as_admin: bool = False,
        events: Sequence[AuditEvent] = (),
        ends: SpaceInvitation | None = None,
    ) -> None:
        """Make changes of grants in a space, of one or more people: all or none.

        - `by` is the user who asks for the changes. With `as_admin`, `by` needs no grant, but has to be an
          administrator who is not suspended.
        - `done`, the mutation request, is recorded in the same transaction.
        - `gates` are for a new grant; GateStore describes them.
        - `ends` is an invitation of the member's address to the space, which ends in the same transaction.

        Raise AliasTaken and change nothing if an alias is reserved for another space of its member. Raise GrantMoved
        and change nothing in these cases:

        - the role of a person is not the role before the change;
        - the space is deleted;
        - no owner would remain;
        - `by` is neither an owner nor among those whose grants change, or with `as_admin` no administrator;
        - `done` was recorded before;
        - the invitation `ends` has ended or was replaced;
        - a concurrent transaction is changing one of the items.
        """

    async def give_alias(self, space: SpaceId, user: UserId, alias: str) -> None:
        """Assign an alias to a user's grant that has none, because it was made before aliases existed. Do nothing if
        the grant has an alias, or does not exist.

        Raise AliasTaken if the alias is reserved for another space of the user, and Unavailable if a concurrent request
        is changing the grant. Nothing is changed in both cases.
        """


class AccessStore(Protocol):
    """Store from which a check of a caller's rights reads the grants and the devices together, to save round trips.

    A deleted space gives nobody a right: a grant in it counts as one that does not exist. Only `deletions` tells that
    the user has one.

    Grants and devices of a suspended person are missing in all results, so that whoever asks for a right refuses the
    person. They are there again as soon as the person is resumed.
    """

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
        exist are missing in the results; a device may be revoked or expired. One round trip reads a hundred items: a
        grant, its space, its user's account, or a device each; the accounts of owners of devices who are not among the
        users in `grants` take a second one.
        """

    async def deletions(self, spaces: Collection[SpaceId], *, user: UserId) -> Mapping[SpaceId, SpaceDeletion]:
        """Return the deletions of those of `spaces` that are deleted and in which the user has a grant."""


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

    async def take_back_attempt(self, *, subject: str, peer: str | None) -> None:
        """Decrement the counter of a subject and of the network `peer`, unless the counter is 0 or does not exist. None
        stands for all networks together.
        """

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

    async def add_link(self, link: Link, *, gates: Sequence[Gate] = (), events: Sequence[AuditEvent] = ()) -> bool:
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

    async def revoke_link(self, link: Link, *, at_ms: int, events: Sequence[AuditEvent] = ()) -> None:
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


class ReservationStore(Protocol):
    """Store of the reservations of spaces, and of what these add up to for each person for whom spaces count."""

    async def reservations(self, spaces: Collection[SpaceId]) -> Mapping[SpaceId, Reservation]:
        """Return the reservations of `spaces`; those for which nothing was ever reserved are missing."""

    async def reserved_for(self, users: Collection[UserId]) -> Mapping[UserId, int]:
        """Return the sum of the reservations, in bytes, that count for each of `users`; 0 is missing."""

    async def change_reservation(self, before: Reservation, after: Reservation, *, quota_bytes: int | None) -> None:
        """Replace the reservation `before` of a space by `after`, and adjust the sums of their payers, atomically. A
        reservation that was never stored has no payer and 0 bytes.

        Raise QuotaReached and change nothing if the sum of the payer of `after` would grow beyond `quota_bytes`; None
        stands for no quota, and a sum that shrinks is always allowed. Raise ReservationMoved and change nothing if the
        stored reservation is not `before`, or if a concurrent transaction changes it or one of the sums.
        """


class IdentityStore(
    AccountStore,
    DirectoryStore,
    ProofStore,
    PasswordStore,
    FactorStore,
    InvitationStore,
    SpaceInvitationStore,
    DeviceStore,
    SpaceStore,
    AccessStore,
    AttemptStore,
    LinkStore,
    EndingStore,
    RequestStore,
    UploadStore,
    ReservationStore,
    GateStore,
    Protocol,
):
    """All stores of auth in one, which is what an adapter implements."""


class MailRequests(Protocol):
    """Port by which auth asks notify to send mail."""

    async def send(self, mail: AccountMail) -> None:
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
