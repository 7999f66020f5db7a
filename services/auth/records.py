"""The records of auth: accounts, devices, spaces and grants, as stores keep them and decisions use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final, TypeAlias

from syncline.model.accounts import DeviceKind, KeyScope, Role
from syncline.model.identifiers import DeviceId, LinkId, NodeId, RequestId, SpaceId, UserId

Clock: TypeAlias = Callable[[], int]
"""Function that returns the present time in milliseconds since 1970."""

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


UserState = Enum("UserState", "UNPROVEN SUSPENDED ADMINISTRATOR")
"""A state of an account by which accounts are listed. An account may have several of them, or none."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """The suspension of an account: since when, in milliseconds since 1970, by which administrator, and why."""

    since_ms: int
    by: UserId
    reason: str


@dataclass(frozen=True, slots=True)
class Account:
    """A person. `email` is normalised and never changes.

    `proven` is False until the person has shown that mail to the address reaches them. An address has at most one
    account that is proven, and any number that are not. `admin` is True for an administrator. `suspension` is None for
    an account that is not suspended.

    `guest` is True for a person whom the policy of sign-up would not have admitted, and who made the account by an
    invitation to a space: a guest owns no space, and makes neither links nor keys.
    """

    user: UserId
    email: str
    personal_space: SpaceId
    created_at_ms: int
    proven: bool = True
    admin: bool = False
    guest: bool = False
    suspension: Suspension | None = None
    quota_bytes: int | None = None
    """The quota that an administrator has given this person; None for the usual one."""

    @property
    def place(self) -> str:
        """The sort key of this account in a list of users, which is in the order of e-mail addresses. A page token
        contains a sort key.
        """
        return f"{self.email} {self.user}"

    @property
    def states(self) -> frozenset[UserState]:
        """The states of this account."""
        has = {
            UserState.UNPROVEN: not self.proven,
            UserState.SUSPENDED: self.suspension is not None,
            UserState.ADMINISTRATOR: self.admin,
        }
        return frozenset(state for state, holds in has.items() if holds)

    @property
    def administers(self) -> bool:
        """True for an administrator who is not suspended."""
        return self.admin and self.suspension is None


@dataclass(frozen=True, slots=True)
class Login:
    """An account with its password hash, which a sign-in verifies. `password_changes` is the number of times that the
    password was changed. A store that finds a login by the address of the account does not tell its suspension.
    """

    account: Account
    password_hash: str = field(repr=False)
    password_changes: int = 0


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """The second factor of an account: an authenticator app of the user that shows a code for each time step (TOTP, RFC
    6238). The secret of the app and the recovery codes are derived from `salt`, random bytes, and are not stored.

    - `request` is the mutation request that added the factor, `device` the device that made it, and `password_changes`
      how often the password had been changed by then.
    - `confirmed_at_ms` is None until the user has shown a code of the app; sign-ins need no code until then. Like
      `added_at_ms`, it is in milliseconds since 1970. `confirmed_step` is the time step of that code.
    - `last_step` is the greatest time step whose code was used; no code of it or of an earlier one works again.
    - `spent` has the numbers of the recovery codes that were used.
    - `version` counts the changes of the record.
    """

    user: UserId
    request: RequestId
    device: DeviceId
    password_changes: int
    salt: bytes = field(repr=False)
    added_at_ms: int
    confirmed_at_ms: int | None = None
    confirmed_step: int = 0
    last_step: int = 0
    spent: frozenset[int] = frozenset()
    version: int = 0


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that was mailed to the address of an account that is not proven. `token` is the SHA-256 of its token.

    It works once, until `expires_at_ms` (milliseconds since 1970), and for the account `user` alone.
    """

    token: bytes = field(repr=False)
    user: UserId
    email: str
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Invitation:
    """The right to make one account, whatever the policy of sign-up is. `token` is the SHA-256 of its token.

    It is for the address `email`, until `expires_at_ms` (milliseconds since 1970). If `email` is None, it is for the
    first account of the system, whose owner states the address.

    `space` is the space to which somebody has invited the address (`SpaceInvitation`); None for an invitation of the
    person who runs the system.
    """

    token: bytes = field(repr=False)
    email: str | None
    expires_at_ms: int
    space: SpaceId | None = None


@dataclass(frozen=True, slots=True)
class SpaceInvitation:
    """The offer of a role in a space to an address that had no proven account when the offer was made. The address has
    at most one in each space.

    - `space_name` is the name of the space when the invitation was made.
    - `by` is the owner who invites, and `by_email` the address of that owner.
    - `token` is the SHA-256 of the token by which the owner of the address may make an account, whatever the policy of
      sign-up is.
    - `expires_at_ms`, like `created_at_ms`, is in milliseconds since 1970.
    """

    space: SpaceId
    space_name: str
    email: str
    role: Role
    by: UserId
    by_email: str
    created_at_ms: int
    expires_at_ms: int
    token: bytes = field(repr=False)

    @property
    def place(self) -> str:
        """The sort key of this invitation in a list of invitations, which is in the order of addresses. A page token
        contains a sort key.
        """
        return f"{self.email} {self.space}"


@dataclass(frozen=True, slots=True)
class InvitationMail:
    """A request to mail an invitation to an address. `ident` is as in ProofMail."""

    ident: str
    to: str
    token: str = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class SpaceInvitationMail:
    """A request to mail an invitation to a space. `ident` is as in ProofMail; `token` is the token itself."""

    ident: str
    invitation: SpaceInvitation
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProofMail:
    """A request to mail a proof to an address.

    `ident` is unique, so that a request which is delivered twice is mailed once. `token` is None if another account of
    the address is proven: the mail then says so, and proves nothing.
    """

    ident: str
    user: UserId
    to: str
    token: str | None = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The right to choose a new password for an account, without the current one. `token` is the SHA-256 of its token.

    It works once, until `expires_at_ms` (milliseconds since 1970), and until the password is changed: as long as
    `password_changes` is that of the account. `user` is None if the address `email` had no proven account; the token of
    such a reset was told to nobody.
    """

    token: bytes = field(repr=False)
    user: UserId | None
    email: str
    password_changes: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class ResetMail:
    """A request to mail a reset to an address. `ident` is as in ProofMail. `token` is None if the address has no proven
    account: then nothing is mailed.
    """

    ident: str
    to: str
    token: str | None = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class PasswordMail:
    """A request to tell the owner of an account that its password was changed at `changed_at_ms`. `ident` is as in
    ProofMail. `by_reset` is True if it was changed by a reset, and False if it was changed on a signed-in device. What
    has not been mailed at `expires_at_ms` is not mailed any more. Times are milliseconds since 1970.
    """

    ident: str
    user: UserId
    to: str
    by_reset: bool
    changed_at_ms: int
    expires_at_ms: int


class FactorChange(StrEnum):
    """A change of an account's second factor, of which the owner is told."""

    ADDED = "added"
    REMOVED = "removed"
    RECOVERY_CODE_USED = "recovery code used"


@dataclass(frozen=True, slots=True)
class FactorMail:
    """A request to tell the owner of an account that its second factor was changed at `changed_at_ms`. The other fields
    are as in PasswordMail.
    """

    ident: str
    user: UserId
    to: str
    change: FactorChange
    changed_at_ms: int
    expires_at_ms: int


AccountMail: TypeAlias = "ProofMail | InvitationMail | SpaceInvitationMail | ResetMail | PasswordMail | FactorMail"
"""A request for a mail about an account."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The refresh tokens of a device, each of which was exchanged for the next one. Only digests (SHA-256) are kept.

    - `current` is the digest of the last token.
    - `previous` is the digest of the token that was exchanged for the last one; None if there is only one.
    - `family` is the digest of the part that all tokens of the device share. It distinguishes a token that was issued
      once from a forged one.
    - `expires_at_ms` is the time until which the last token is valid, in milliseconds since 1970.
    """

    family: bytes = field(repr=False)
    current: bytes = field(repr=False)
    previous: bytes | None = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Key:
    """The stored part of a key: its SHA-256, and the time until which it is valid, in milliseconds since 1970."""

    digest: bytes = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """The limits of a program's key: its scopes, and the only spaces that it opens; `spaces` is None for all spaces of
    its user.
    """

    scopes: frozenset[KeyScope]
    spaces: frozenset[SpaceId] | None = None

    def opens(self, space: SpaceId) -> bool:
        """Return True if the key opens the space, provided that its user has a grant there."""
        return self.spaces is None or space in self.spaces


USUAL_LIMITS: Final = KeyLimits(frozenset({KeyScope.READ, KeyScope.WRITE}))
"""The limits of keys that were made before keys had limits, and of those for which nothing else was asked."""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """One installed client, browser or program of one user. A client has a `chain`; a browser and a program have a
    `key`.
    """

    device: DeviceId
    user: UserId
    name: str
    created_at_ms: int
    last_seen_at_ms: int
    revoked_at_ms: int | None
    chain: Chain | None
    kind: DeviceKind = DeviceKind.CLIENT
    key: Key | None = None
    made_by: DeviceId | None = None
    """The device from which a program's key was made; None for other devices, and for keys that were made before this
    was recorded.
    """
    limits: KeyLimits | None = None
    """The limits of a program's key; None for other devices, which do whatever their user may do."""
    password_changes: int = 0
    """The number of times that the password of the account had been changed when the device signed in. A program has
    the number of the device from which its key was made.
    """

    @property
    def expires_at_ms(self) -> int:
        """The time at which the device expires, in milliseconds since 1970. A use of the device postpones this time,
        except for a program, whose key has a fixed expiry.
        """
        secret = self.key or self.chain
        assert secret is not None, "a device has a chain or a key"
        return secret.expires_at_ms

    @property
    def place(self) -> str:
        """The sort key of this device in a list of devices, which has the newest device first. A page token contains a
        sort key.
        """
        return _newest_first(self.created_at_ms, self.device)


@dataclass(frozen=True, slots=True)
class SpaceDeletion:
    """The deletion of a space: its time `at_ms`, and the time `until_ms` until which an owner may undelete the space.
    Both are milliseconds since 1970.
    """

    at_ms: int
    until_ms: int

    def is_reversible(self, now_ms: int) -> bool:
        """Return True if an owner may undelete the space at `now_ms`, in milliseconds since 1970."""
        return now_ms < self.until_ms


@dataclass(frozen=True, slots=True)
class SpaceRecord:
    """A space, in which its members share one tree of files.

    - `owners` counts the grants with Role.OWNER. It is 0 in the personal space of a guest, and never becomes 0.
    - `deletion` is None unless the space is deleted. The members of a deleted space keep their grants, which give no
      right until the space is undeleted.
    - `made_as` is the name of a renamed space when it was made, and empty for other spaces.
    """

    space: SpaceId
    name: str
    personal: bool
    owners: int
    created_at_ms: int
    deletion: SpaceDeletion | None = None
    made_as: str = ""
    quota_bytes: int | None = None
    """The quota that an administrator has given this space; None for the usual one."""

    @property
    def place(self) -> str:
        """The sort key of this space in the list of all spaces, which has the newest space first. A page token
        contains a sort key.
        """
        return _newest_first(self.created_at_ms, self.space)


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """A user's role in a space. `alias` is None for a grant from before aliases existed that was not read since.

    `writes_since_ms` is the time at which the right to write was granted, in milliseconds since 1970; changes between
    roles that may write keep it. It is 0 without that right, and for the maker of the space.
    """

    space: SpaceId
    user: UserId
    email: str
    role: Role
    alias: str | None
    writes_since_ms: int = 0

    @property
    def place(self) -> str:
        """The sort key of this grant in a list of members, which is in the order of e-mail addresses. A page token
        contains a sort key.
        """
        return f"{self.email} {self.user}"


@dataclass(frozen=True, slots=True)
class Membership:
    """A space in the form in which one of its members sees it. `alias` has the same meaning as in GrantRecord.

    `by` is the person who gave the grant: the member, if the member made the space; None for a grant from before that
    was recorded. `deletion` is None unless the space is deleted.
    """

    space: SpaceId
    name: str
    personal: bool
    role: Role
    alias: str | None
    by: UserId | None = None
    deletion: SpaceDeletion | None = None

    @property
    def place(self) -> str:
        """The sort key of this space in a list of spaces, which has personal spaces first, and is otherwise in the
        order of names. A page token contains a sort key.
        """
        return f"{int(not self.personal)}{self.name.casefold()}\0{self.space}"


@dataclass(frozen=True, slots=True)
class GrantChange:
    """A change of the role of one person in a space from `before` to `after`. None stands for no grant. `user` and
    `email` are the person.

    - If `before` is `after`, the role stays, and the person must have it when the roles of others change.
    - `alias` is the name by which the member refers to the space. It is given if `before` is None; an existing grant
      keeps its alias.
    - `writes_since_ms` is the stored value of the grant's field of this name after the change.
    """

    user: UserId
    email: str
    before: Role | None
    after: Role | None
    alias: str = ""
    writes_since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A public link to a node of a space. `token` is the SHA-256 of the link's token.

    `expires_at_ms` is None for a link that does not expire; `max_downloads` is 0 for any number, and downloads are then
    not counted. `user` made the link.
    """

    link: LinkId
    space: SpaceId
    node: NodeId
    user: UserId
    created_at_ms: int
    token: bytes = field(repr=False)
    expires_at_ms: int | None = None
    password_hash: str | None = field(default=None, repr=False)
    max_downloads: int = 0
    downloads: int = 0
    revoked_at_ms: int | None = None
    made_by: DeviceId | None = None
    """The device that made the link; None for a link from before that was recorded."""
    writes_since_ms: int | None = None
    """The value of GrantRecord.writes_since_ms of the maker when the link was made; None for a link from before that
    was recorded.
    """

    @property
    def place(self) -> str:
        """The sort key of this link in a list of links, which has the newest link first. A page token contains a sort
        key.
        """
        return _newest_first(self.created_at_ms, self.link)


@dataclass(frozen=True, slots=True)
class DeviceEnding:
    """The record of an unfinished revocation of a device and of the keys and links that were made from it. The record
    exists from before the revocation begins until all of them are revoked.

    - `ident` is the id of the record; the other fields are the arguments of the revocation.
    - A process that finds the record after `due_at_ms`, in milliseconds since 1970, may take the revocation over: the
      process that wrote the record has stopped, or could not revoke everything.
    - `attempts` is the number of attempts so far.
    """

    ident: str
    device: DeviceId
    user: UserId
    device_last: bool
    end_links: bool
    due_at_ms: int
    attempts: int = 0
    copied: bool = False
    """True if a copied refresh token of the device was presented, and nobody asked for the revocation."""


@dataclass(frozen=True, slots=True)
class PasswordChange:
    """The record of what a change of a password leaves to be done: to tell the owner, and to end the devices and keys
    from before. The record is stored together with the new password, and exists until all of that is done.

    - `ident` is the id of the record, and of the mail.
    - `number` is the number of times that the password was changed, this change included. Devices with a smaller number
      end, and their keys with them.
    - `keep` is the device that stays signed in, with its keys; None after a reset, which leaves none.
    - `at_ms` is the time of the change, and `due_at_ms` the time after which any process may go on with the work. Both
      are milliseconds since 1970.
    - `told` is True if the mail was asked for, and `attempts` is the number of attempts so far.
    """

    ident: str
    user: UserId
    email: str
    number: int
    keep: DeviceId | None
    at_ms: int
    due_at_ms: int
    told: bool = False
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Gate:
    """The name and the version of one list with a limited length. Each addition to the list increments the version, on
    the condition that the version has not changed since it was read.
    """

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Done:
    """A user's mutation request that was carried out. `fingerprint` distinguishes it from a different request with the
    same id.
    """

    user: UserId
    request: RequestId
    fingerprint: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class SpaceUploads:
    """The result of the last measurement of the objects of a space: the number and the size in bytes of unsealed
    objects, the size of all stored objects, the quota of the space, and True if further uploads are refused.

    `measured_at_ms`, in milliseconds since 1970, is later for each further measurement.
    """

    refused: bool
    unsealed_bytes: int
    unsealed_objects: int
    stored_bytes: int
    quota_bytes: int
    measured_at_ms: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """The bytes of the quotas that are reserved for a space: its versions never have more. They count for `payer`, an
    owner of the space; None for nobody, as long as nothing is reserved, and in a space without owners.
    """

    space: SpaceId
    payer: UserId | None = None
    reserved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TemporaryCredentials:
    """Temporary credentials that open one space's objects in S3."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at_ms: int


def _newest_first(created_at_ms: int, ident: str) -> str:
    """Return the sort key of an item in a list that has the newest item first. `created_at_ms` is the time of the
    item's creation, and `ident` its id, which orders items of the same time.
    """
    return f"{10**18 - created_at_ms:019}{ident}"
