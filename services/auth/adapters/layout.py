"""The items of the identity table: their keys, and what they hold as records of auth.

| item | pk | sk | holds |
|---|---|---|---|
| LOGIN | `E#{email}` | `LOGIN` | the id and password hash of the proven account, whether it is an administrator's or a guest's, and how often the password was changed (absent: never); the existence of the item reserves the address |
| CLAIM | `E#{email}` | `CLAIM` | the id and password hash of the last account that was made for the address and is not proven |
| PROOF | `P#{SHA-256 of a proof's token, hex}` | `PROOF` | the account that the mailed proof is for, and the address |
| INVITATION | `I#{SHA-256 of an invitation's token, hex}` | `INVITATION` | the address that may make an account; absent for the first account. The space, if the address is invited to one |
| INVITED | `S#{space}#I` | `{email}` | an invitation to the space; in a partition of its own, as links are |
| OFFER | `E#{email}` | `I#{space}` | the same invitation as the address lists it; changes in one transaction with INVITED |
| INVITING | `U#{user}` | `I#{space}#{SHA-256 of the address, hex}` | the same invitation as the inviter lists it; changes in one transaction with INVITED |
| RESET | `R#{SHA-256 of a reset's token, hex}` | `RESET` | the account whose password the mailed reset changes, and how often that had been changed; without an account for an address that has none |
| ADMIN | `ADMIN` | `FIRST` | the first administrator, whose existence says that there was one, and the number of administrators who are not suspended (absent: 1) |
| ENTRY | `ACCOUNTS`, `ACCOUNTS#{state}` | `{email} {user}` | lists the account among all accounts, and among those with a state: `unproven`, `suspended`, `administrator` |
| SHARED | `SPACES` | `{place, newest first}` | lists a shared space among all of them |
| ENTERED | `ENTERED` | `ENTERED` | marks that accounts and spaces of earlier releases have ENTRY and SHARED items |
| ATTEMPTS | `E#{email}`, `E#{subject}` | `FROM#{peer}`, `FROM` for all peers | the number of attempts, and the time at which the counter ends |
| ACCOUNT | `U#{user}` | `ACCOUNT` | address, personal space, and whether the account is proven (absent: yes), an administrator or a guest (absent: no) and suspended (since when, by whom, why; absent: no); the quota that an administrator has set; the password hash until it is proven |
| FACTOR | `U#{user}` | `FACTOR` | the second factor: by which request and device it was added, the salt from which its secrets are derived, when it was added and confirmed (absent: not yet) and by which time step, the last time step and the recovery codes that were used, and the number of its changes |
| MEMBERSHIP | `U#{user}` | `S#{space}` | a grant as its holder lists it; changes in one transaction with the GRANT, and goes alone when a deleted space cannot be undeleted any more. The `name` is that of the time of the grant: the SPACE has the present one |
| ALIAS | `U#{user}` | `A#{SHA-256 of the folded alias, hex}` | the space that the alias means to this user, permanently |
| DONE | `U#{user}` | `R#{request, hex}` | the fingerprint of a mutation request that was carried out |
| DEVICE | `D#{device}` | `DEVICE` | a device and its refresh chain or key, the scopes and spaces of a program's key, and how often the password had been changed when it signed in (absent: never); the index `gsi1` lists the devices of a user |
| KEY | `D#{device}` | `K#{device of a program}` | marks that the key of the program was made from the device |
| SPACE | `S#{space}` | `SPACE` | name, `made_as` (the first name of a renamed space), and the number of owners; `deleted_at` and `deleted_until` if the space is deleted, which ends the right of each GRANT; the quota that an administrator has set |
| GRANT | `S#{space}` | `U#{user}` | role, address, alias, and the time since which the member may write |
| LINK | `S#{space}#L` | `{link}` | a public link; in a partition of its own, because the GRANTs are read as a whole |
| MADE | `U#{user}` | `L#{link}` | a link in the form in which it was made, until it is revoked |
| TOKEN | `L#{SHA-256 of a link's token, hex}` | `TOKEN` | the link that the token opens |
| COUNTED | `L#{link}` | `R#{request, hex}` | marks that a download was counted for this request |
| WRITTEN | `WRITTEN#{hour since 1970}` | `{space}` | marks that credentials to write were issued for the space in this hour |
| UPLOADS | `S#{space}#U` | `UPLOADS` | the last measurement of the objects of a space; in a partition of its own as well |
| RESERVED | `S#{space}#U` | `RESERVED` | the bytes of the quotas that are reserved for the space, and the owner for whom they count |
| TAKEN | `U#{user}` | `TAKEN` | the sum of the bytes in the RESERVED items that count for the user; changes in one transaction with them |
| GATE | `G#{name}` | `GATE` | the version of a limited list, which each addition increments |
| ENDING | `ENDINGS` | `{ending}` | a revocation of a device, with the keys and links made from it, that was begun and is not finished |
| PASSWORD_CHANGE | `PASSWORD_CHANGES` | `{change}` | a change of a password whose owner was not told, or whose former devices have not all ended |
| KNOWN | `E#{email}`, `E#{subject}` | `KNOWN#{peer}` | marks that a correct password came from this network |

Times are milliseconds since 1970, but `expires_at` is in seconds, because it is DynamoDB's time to live.
"""  # noqa: E501 - a table

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aws.dynamodb import Item, attribute, bytes_of, expiry, flag_of, key_of, number_of, text_of
from services.auth.aliases import fold_alias
from services.auth.records import (
    DAY_MS,
    USUAL_LIMITS,
    Account,
    Chain,
    DeviceEnding,
    DeviceRecord,
    Done,
    Gate,
    GrantRecord,
    Invitation,
    Key,
    KeyLimits,
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
    Suspension,
    UserState,
)
from syncline.model.accounts import DeviceKind, KeyScope, Role
from syncline.model.identifiers import DeviceId, LinkId, NodeId, RequestId, SpaceId, UserId
from syncline.model.limits import ANSWER_DAYS

_USER: Final = "U#"
_SPACE: Final = "S#"
_DEVICE: Final = "D#"
_GATE: Final = "G#"
_LINKS: Final = "#L"
_INVITED: Final = "#I"

MEMBERSHIP_PREFIX: Final = "S#"
"""The beginning of the sort keys of MEMBERSHIP items."""

MADE_PREFIX: Final = "L#"
"""The beginning of the sort keys of MADE items."""

INVITATION_PREFIX: Final = "I#"
"""The beginning of the sort keys of OFFER and INVITING items."""

KEY_PREFIX: Final = "K#"
"""The beginning of the sort keys of KEY items."""

ENDINGS_PK: Final = "ENDINGS"
"""The partition key of all ENDING items."""

SHARED_PK: Final = "SPACES"
"""The partition key of all SHARED items."""

NOT_SUSPENDED: Final = "attribute_not_exists(suspended_at)"
"""The condition on an ACCOUNT item that the account is not suspended."""

PASSWORD_CHANGES_PK: Final = "PASSWORD_CHANGES"  # noqa: S105 - a key of the table
"""The partition key of all PASSWORD_CHANGE items. They are not among the ENDING items, since a process of an earlier
release reads all of those.
"""

_UPLOADS: Final = "#U"
_KEPT_AFTER_EXPIRY_MS: Final = DAY_MS


# ---- attributes


def role_attribute(role: Role) -> Item:
    return attribute(role.name.lower())


def time_to_live(at_ms: int) -> Item:
    """Return the time-to-live attribute for an item that has a meaning until `at_ms`, in milliseconds since 1970. The
    store keeps it some time longer.
    """
    return expiry(at_ms + _KEPT_AFTER_EXPIRY_MS)


# ---- partition keys


def user_pk(user: UserId) -> str:
    return f"{_USER}{user}"


def space_pk(space: SpaceId) -> str:
    return f"{_SPACE}{space}"


def links_pk(space: SpaceId) -> str:
    return f"{space_pk(space)}{_LINKS}"


def _uploads_pk(space: SpaceId) -> str:
    return f"{space_pk(space)}{_UPLOADS}"


def invited_pk(space: SpaceId) -> str:
    return f"{space_pk(space)}{_INVITED}"


def address_pk(email: str) -> str:
    return f"E#{email}"


def device_pk(device: DeviceId) -> str:
    return f"{_DEVICE}{device}"


def written_pk(hour: int) -> str:
    return f"WRITTEN#{hour}"


def entries_pk(state: UserState | None) -> str:
    """Return the partition key of the ENTRY items of accounts with a state; None for those of all accounts."""
    return "ACCOUNTS" if state is None else f"ACCOUNTS#{state.name.lower()}"


# ---- keys of items


def login_key(email: str) -> Item:
    return key_of(f"E#{email}", "LOGIN")


def claim_key(email: str) -> Item:
    return key_of(f"E#{email}", "CLAIM")


def proof_key(token: bytes) -> Item:
    return key_of(f"P#{token.hex()}", "PROOF")


def reset_key(token: bytes) -> Item:
    return key_of(f"R#{token.hex()}", "RESET")


def invitation_key(token: bytes) -> Item:
    return key_of(f"I#{token.hex()}", "INVITATION")


def invited_key(space: SpaceId, email: str) -> Item:
    return key_of(invited_pk(space), email)


def offer_key(space: SpaceId, email: str) -> Item:
    return key_of(address_pk(email), f"{INVITATION_PREFIX}{space}")


def inviting_key(invitation: SpaceInvitation) -> Item:
    # An address can be nearly as long as the maximum length of a key.
    address = hashlib.sha256(invitation.email.encode()).hexdigest()
    return key_of(user_pk(invitation.by), f"{INVITATION_PREFIX}{invitation.space}#{address}")


def admin_key() -> Item:
    return key_of("ADMIN", "FIRST")


def account_entry_key(account: Account, state: UserState | None) -> Item:
    return key_of(entries_pk(state), account.place)


def shared_key(space: SpaceRecord) -> Item:
    return key_of(SHARED_PK, space.place)


def entered_key() -> Item:
    return key_of("ENTERED", "ENTERED")


def attempts_key(subject: str, peer: str | None) -> Item:
    return key_of(f"E#{subject}", "FROM" if peer is None else f"FROM#{peer}")


def known_key(subject: str, peer: str) -> Item:
    return key_of(f"E#{subject}", f"KNOWN#{peer}")


def gate_key(name: str) -> Item:
    return key_of(f"{_GATE}{name}", "GATE")


def account_key(user: UserId) -> Item:
    return key_of(user_pk(user), "ACCOUNT")


def factor_key(user: UserId) -> Item:
    return key_of(user_pk(user), "FACTOR")


def membership_key(space: SpaceId, user: UserId) -> Item:
    return key_of(user_pk(user), f"{MEMBERSHIP_PREFIX}{space}")


def alias_key(user: UserId, alias: str) -> Item:
    # A folded name can be longer than the maximum length of a key.
    return key_of(user_pk(user), f"A#{hashlib.sha256(fold_alias(alias).encode()).hexdigest()}")


def device_key(device: DeviceId) -> Item:
    return key_of(device_pk(device), "DEVICE")


def space_key(space: SpaceId) -> Item:
    return key_of(space_pk(space), "SPACE")


def grant_key(space: SpaceId, user: UserId) -> Item:
    return key_of(space_pk(space), f"{_USER}{user}")


def link_key(space: SpaceId, link: LinkId) -> Item:
    return key_of(links_pk(space), link)


def made_key(link: Link) -> Item:
    return key_of(user_pk(link.user), f"{MADE_PREFIX}{link.link}")


def done_key(user: UserId, request: RequestId) -> Item:
    return key_of(user_pk(user), f"R#{request.hex()}")


def counted_key(link: LinkId, request: RequestId) -> Item:
    return key_of(f"L#{link}", f"R#{request.hex()}")


def token_key(token: bytes) -> Item:
    return key_of(f"L#{token.hex()}", "TOKEN")


def ending_key(ending: DeviceEnding) -> Item:
    return key_of(ENDINGS_PK, ending.ident)


def change_key(change: PasswordChange) -> Item:
    return key_of(PASSWORD_CHANGES_PK, change.ident)


def written_key(hour: int, space: SpaceId) -> Item:
    return key_of(written_pk(hour), space)


def uploads_key(space: SpaceId) -> Item:
    return key_of(_uploads_pk(space), "UPLOADS")


def reserved_key(space: SpaceId) -> Item:
    return key_of(_uploads_pk(space), "RESERVED")


def taken_key(user: UserId) -> Item:
    return key_of(user_pk(user), "TAKEN")


# ---- records to items and back


def login_item(login: Login) -> Item:
    """Return the LOGIN item of a proven account, or the CLAIM item of one that is not."""
    account = login.account
    return {
        **(login_key(account.email) if account.proven else claim_key(account.email)),
        "user": attribute(account.user),
        "personal_space": attribute(account.personal_space),
        "created_at": attribute(account.created_at_ms),
        "admin": attribute(account.admin),
        "guest": attribute(account.guest),
        "password_hash": attribute(login.password_hash),
        "password_changes": attribute(login.password_changes),
    }


def login_from_item(email: str, item: Item, *, proven: bool) -> Login:
    account = Account(
        UserId(text_of(item, "user")),
        email,
        SpaceId(text_of(item, "personal_space")),
        number_of(item, "created_at"),
        proven,
        flag_of(item, "admin") if "admin" in item else False,
        flag_of(item, "guest") if "guest" in item else False,
    )
    return Login(account, text_of(item, "password_hash"), _password_changes(item))


def _password_changes(item: Mapping[str, Any]) -> int:
    return number_of(item, "password_changes") if "password_changes" in item else 0


def account_item(login: Login) -> Item:
    """Return the ACCOUNT item, which has the password hash of an account that is not proven: another account may take
    its CLAIM.
    """
    account = login.account
    item = {
        **account_key(account.user),
        "email": attribute(account.email),
        "personal_space": attribute(account.personal_space),
        "created_at": attribute(account.created_at_ms),
        "proven": attribute(account.proven),
        "admin": attribute(account.admin),
        "guest": attribute(account.guest),
    }
    return item if account.proven else {**item, "password_hash": attribute(login.password_hash)}


def account_in(item: Mapping[str, Any]) -> Account:
    """Return the account in an ACCOUNT item that was read with its key."""
    return account_from_item(UserId(text_of(item, "pk").removeprefix(_USER)), item)


def suspension_attributes(suspension: Suspension) -> Item:
    """Return the attributes of an ACCOUNT item that say that the account is suspended."""
    return {
        "suspended_at": attribute(suspension.since_ms),
        "suspended_by": attribute(suspension.by),
        "suspended_for": attribute(suspension.reason),
    }


def _suspension(item: Mapping[str, Any]) -> Suspension | None:
    if "suspended_at" not in item:
        return None
    return Suspension(
        number_of(item, "suspended_at"), UserId(text_of(item, "suspended_by")), text_of(item, "suspended_for")
    )


def account_from_item(user: UserId, item: Mapping[str, Any]) -> Account:
    return Account(
        user,
        text_of(item, "email"),
        SpaceId(text_of(item, "personal_space")),
        number_of(item, "created_at"),
        flag_of(item, "proven") if "proven" in item else True,  # written before addresses were proven
        flag_of(item, "admin") if "admin" in item else False,
        flag_of(item, "guest") if "guest" in item else False,
        _suspension(item),
        _quota_bytes(item),
    )


def _quota_bytes(item: Mapping[str, Any]) -> int | None:
    return number_of(item, "quota_bytes") if "quota_bytes" in item else None


def admin_item(account: Account) -> Item:
    return {**admin_key(), "user": attribute(account.user), "admins": attribute(1)}


def account_entry_item(account: Account, state: UserState | None) -> Item:
    """Return the ENTRY item of an account in the list of accounts with a state, or of all accounts for None."""
    return {**account_entry_key(account, state), "user": attribute(account.user)}


def entry_user(item: Mapping[str, Any]) -> UserId:
    """Return the id of the user that an ENTRY item lists."""
    return UserId(text_of(item, "user"))


def shared_item(space: SpaceRecord) -> Item:
    return {**shared_key(space), "space": attribute(space.space)}


def shared_space(item: Mapping[str, Any]) -> SpaceId:
    """Return the id of the space that a SHARED item lists."""
    return SpaceId(text_of(item, "space"))


def invitation_item(invitation: Invitation) -> Item:
    item = {
        **invitation_key(invitation.token),
        "until": attribute(invitation.expires_at_ms),
        "expires_at": time_to_live(invitation.expires_at_ms),
    }
    if invitation.email is not None:
        item["email"] = attribute(invitation.email)
    if invitation.space is not None:
        item["space"] = attribute(invitation.space)
    return item


def invitation_from_item(token: bytes, item: Item) -> Invitation:
    return Invitation(
        token,
        text_of(item, "email") if "email" in item else None,
        number_of(item, "until"),
        SpaceId(text_of(item, "space")) if "space" in item else None,
    )


def space_invitation_items(invitation: SpaceInvitation) -> tuple[Item, Item, Item]:
    """Return the INVITED, the OFFER and the INVITING item of an invitation."""
    told = {
        "space": attribute(invitation.space),
        "space_name": attribute(invitation.space_name),
        "email": attribute(invitation.email),
        "role": role_attribute(invitation.role),
        "by": attribute(invitation.by),
        "by_email": attribute(invitation.by_email),
        "created_at": attribute(invitation.created_at_ms),
        "until": attribute(invitation.expires_at_ms),
        "token_digest": attribute(invitation.token),
        "expires_at": time_to_live(invitation.expires_at_ms),
    }
    invited, offer = (key(invitation.space, invitation.email) for key in (invited_key, offer_key))
    return {**invited, **told}, {**offer, **told}, {**inviting_key(invitation), **told}


def space_invitation_from_item(item: Mapping[str, Any]) -> SpaceInvitation:
    return SpaceInvitation(
        SpaceId(text_of(item, "space")),
        text_of(item, "space_name"),
        text_of(item, "email"),
        Role[text_of(item, "role").upper()],
        UserId(text_of(item, "by")),
        text_of(item, "by_email"),
        number_of(item, "created_at"),
        number_of(item, "until"),
        bytes_of(item, "token_digest"),
    )


def proof_item(proof: Proof) -> Item:
    return {
        **proof_key(proof.token),
        "user": attribute(proof.user),
        "email": attribute(proof.email),
        "until": attribute(proof.expires_at_ms),
        "expires_at": time_to_live(proof.expires_at_ms),
    }


def proof_from_item(token: bytes, item: Item) -> Proof:
    return Proof(token, UserId(text_of(item, "user")), text_of(item, "email"), number_of(item, "until"))


def factor_item(factor: SecondFactor) -> Item:
    item = {
        **factor_key(factor.user),
        "request": attribute(factor.request),
        "device": attribute(factor.device),
        "password_changes": attribute(factor.password_changes),
        "salt": attribute(factor.salt),
        "added_at": attribute(factor.added_at_ms),
        "confirmed_step": attribute(factor.confirmed_step),
        "last_step": attribute(factor.last_step),
        "spent": {"L": [attribute(number) for number in sorted(factor.spent)]},
        "factor_version": attribute(factor.version),
    }
    return item if factor.confirmed_at_ms is None else {**item, "confirmed_at": attribute(factor.confirmed_at_ms)}


def factor_from_item(user: UserId, item: Item) -> SecondFactor:
    return SecondFactor(
        user,
        RequestId(bytes_of(item, "request")),
        DeviceId(text_of(item, "device")),
        number_of(item, "password_changes"),
        bytes_of(item, "salt"),
        number_of(item, "added_at"),
        number_of(item, "confirmed_at") if "confirmed_at" in item else None,
        number_of(item, "confirmed_step"),
        number_of(item, "last_step"),
        frozenset(int(number["N"]) for number in item["spent"]["L"]),
        number_of(item, "factor_version"),
    )


def reset_item(reset: Reset) -> Item:
    item = {
        **reset_key(reset.token),
        "email": attribute(reset.email),
        "password_changes": attribute(reset.password_changes),
        "until": attribute(reset.expires_at_ms),
        "expires_at": time_to_live(reset.expires_at_ms),
    }
    return item if reset.user is None else {**item, "user": attribute(reset.user)}


def reset_from_item(token: bytes, item: Item) -> Reset:
    return Reset(
        token,
        UserId(text_of(item, "user")) if "user" in item else None,
        text_of(item, "email"),
        _password_changes(item),
        number_of(item, "until"),
    )


def device_item(device: DeviceRecord) -> Item:
    chain = device.chain
    item = {
        **device_key(device.device),
        "gsi1pk": attribute(user_pk(device.user)),
        "gsi1sk": attribute(device_pk(device.device)),
        "user": attribute(device.user),
        "name": attribute(device.name),
        "created_at": attribute(device.created_at_ms),
        "last_seen_at": attribute(device.last_seen_at_ms),
        "kind": attribute(device.kind.name.lower()),
        "password_changes": attribute(device.password_changes),
        "expires_at": time_to_live(device.expires_at_ms),
    }
    if device.key is not None:
        item |= {"key_digest": attribute(device.key.digest), "key_until": attribute(device.key.expires_at_ms)}
    if chain is not None:
        item |= {
            "refresh_family": attribute(chain.family),
            "refresh_current": attribute(chain.current),
            "refresh_until": attribute(chain.expires_at_ms),
        }
        if chain.previous is not None:
            item["refresh_previous"] = attribute(chain.previous)
    if device.revoked_at_ms is not None:
        item["revoked_at"] = attribute(device.revoked_at_ms)
    if device.made_by is not None:
        item["made_by"] = attribute(device.made_by)
    if device.limits is not None:
        item["scopes"] = attribute(" ".join(sorted(scope.value for scope in device.limits.scopes)))
        if device.limits.spaces is not None:
            item["spaces"] = attribute(" ".join(sorted(device.limits.spaces)))
    return item


def made_key_item(maker: DeviceId, program: DeviceRecord) -> Item:
    """Return the KEY item of the device `program`, whose key was made from the device `maker`. The item lists the
    program for `maker`.
    """
    return {
        **key_of(device_pk(maker), f"{KEY_PREFIX}{program.device}"),
        "expires_at": time_to_live(program.expires_at_ms),
    }


def device_from_item(item: Mapping[str, Any]) -> DeviceRecord:
    chain, key = None, None
    if "refresh_family" in item:
        previous = bytes_of(item, "refresh_previous") if "refresh_previous" in item else None
        chain = Chain(
            bytes_of(item, "refresh_family"),
            bytes_of(item, "refresh_current"),
            previous,
            number_of(item, "refresh_until"),
        )
    if "key_digest" in item:
        key = Key(bytes_of(item, "key_digest"), number_of(item, "key_until"))
    # written before there were other kinds
    kind = DeviceKind[text_of(item, "kind").upper()] if "kind" in item else DeviceKind.CLIENT
    return DeviceRecord(
        DeviceId(text_of(item, "pk").removeprefix(_DEVICE)),
        UserId(text_of(item, "user")),
        text_of(item, "name"),
        number_of(item, "created_at"),
        number_of(item, "last_seen_at"),
        number_of(item, "revoked_at") if "revoked_at" in item else None,
        chain,
        kind,
        key,
        _made_by(item),
        _limits(item) if kind is DeviceKind.PROGRAM else None,
        _password_changes(item),
    )


def _limits(item: Mapping[str, Any]) -> KeyLimits:
    if "scopes" not in item:  # written before keys had limits
        return USUAL_LIMITS
    scopes = frozenset(map(KeyScope, text_of(item, "scopes").split(" ")))
    return KeyLimits(scopes, frozenset(map(SpaceId, text_of(item, "spaces").split(" "))) if "spaces" in item else None)


def program_of(item: Item) -> DeviceId:
    """Return the id of the program that a KEY item lists."""
    return DeviceId(text_of(item, "sk").removeprefix(KEY_PREFIX))


def _made_by(item: Mapping[str, Any]) -> DeviceId | None:
    return DeviceId(text_of(item, "made_by")) if "made_by" in item else None


def refresh_current(item: Mapping[str, Any]) -> bytes | None:
    """Return the digest of the current refresh token in a DEVICE item; None for a device without refresh tokens."""
    return bytes_of(item, "refresh_current") if "refresh_current" in item else None


def space_item(space: SpaceRecord) -> Item:
    item = {
        **space_key(space.space),
        "name": attribute(space.name),
        "personal": attribute(space.personal),
        "owners": attribute(space.owners),
        "created_at": attribute(space.created_at_ms),
    }
    if space.deletion is not None:
        item |= {"deleted_at": attribute(space.deletion.at_ms), "deleted_until": attribute(space.deletion.until_ms)}
    if space.made_as:
        item["made_as"] = attribute(space.made_as)
    return item


def space_with_grants(items: Iterable[Item]) -> tuple[SpaceRecord, list[GrantRecord]] | None:
    """Return the space and the grants in SPACE and GRANT items of one space; None if the SPACE item is not among
    them.
    """
    found: SpaceRecord | None = None
    grants = []
    for item in items:
        if text_of(item, "sk") == "SPACE":
            found = space_in(item)
        else:
            grants.append(grant_from_item(item))
    return (found, grants) if found else None


def space_in(item: Mapping[str, Any]) -> SpaceRecord:
    """Return the space in a SPACE item that was read with its key."""
    return SpaceRecord(
        SpaceId(text_of(item, "pk").removeprefix(_SPACE)),
        text_of(item, "name"),
        flag_of(item, "personal"),
        number_of(item, "owners"),
        number_of(item, "created_at"),
        SpaceDeletion(number_of(item, "deleted_at"), number_of(item, "deleted_until"))
        if "deleted_at" in item
        else None,
        text_of(item, "made_as") if "made_as" in item else "",
        _quota_bytes(item),
    )


def grant_item(grant: GrantRecord) -> Item:
    item = {**grant_key(grant.space, grant.user), "email": attribute(grant.email), "role": role_attribute(grant.role)}
    if grant.writes_since_ms:
        item["writes_since"] = attribute(grant.writes_since_ms)
    return item if grant.alias is None else {**item, "alias": attribute(grant.alias)}


def grant_from_item(item: Item) -> GrantRecord:
    return GrantRecord(
        SpaceId(text_of(item, "pk").removeprefix(_SPACE)),
        UserId(text_of(item, "sk").removeprefix(_USER)),
        text_of(item, "email"),
        Role[text_of(item, "role").upper()],
        _alias(item),
        number_of(item, "writes_since") if "writes_since" in item else 0,
    )


def membership_item(space: SpaceRecord, grant: GrantRecord, *, by: UserId) -> Item:
    item = {
        **membership_key(space.space, grant.user),
        "name": attribute(space.name),
        "personal": attribute(space.personal),
        "role": role_attribute(grant.role),
        "by": attribute(by),
    }
    return item if grant.alias is None else {**item, "alias": attribute(grant.alias)}


def membership_from_item(item: Item) -> Membership:
    return Membership(
        SpaceId(text_of(item, "sk").removeprefix(MEMBERSHIP_PREFIX)),
        text_of(item, "name"),
        flag_of(item, "personal"),
        Role[text_of(item, "role").upper()],
        _alias(item),
        UserId(text_of(item, "by")) if "by" in item else None,
    )


def _alias(item: Item) -> str | None:
    return text_of(item, "alias") if "alias" in item else None


def link_item(link: Link) -> Item:
    item = {
        **link_key(link.space, link.link),
        "node": attribute(link.node),
        "user": attribute(link.user),
        "created_at": attribute(link.created_at_ms),
        "token_digest": attribute(link.token),
        "max_downloads": attribute(link.max_downloads),
        "downloads": attribute(link.downloads),
        **_link_expiry(link),
    }
    if link.expires_at_ms is not None:
        item["until"] = attribute(link.expires_at_ms)
    if link.password_hash is not None:
        item["password_hash"] = attribute(link.password_hash)
    if link.revoked_at_ms is not None:
        item["revoked_at"] = attribute(link.revoked_at_ms)
    if link.made_by is not None:
        item["made_by"] = attribute(link.made_by)
    if link.writes_since_ms is not None:
        item["writes_since"] = attribute(link.writes_since_ms)
    return item


def made_item(link: Link) -> Item:
    """Return the MADE item of a link, which lists the link for the user who made it."""
    return {**link_item(link), **made_key(link), "space": attribute(link.space)}


def made_from_item(item: Mapping[str, Any]) -> Link:
    """Return the link of a MADE item, in the form in which it was made."""
    key = link_key(SpaceId(text_of(item, "space")), LinkId(text_of(item, "sk").removeprefix(MADE_PREFIX)))
    return link_from_item({**item, **key})


def ending_item(ending: DeviceEnding) -> Item:
    return {
        **ending_key(ending),
        "device": attribute(ending.device),
        "user": attribute(ending.user),
        "device_last": attribute(ending.device_last),
        "end_links": attribute(ending.end_links),
        "due_at": attribute(ending.due_at_ms),
        "attempts": attribute(ending.attempts),
        "copied": attribute(ending.copied),
    }


def ending_from_item(item: Mapping[str, Any]) -> DeviceEnding:
    return DeviceEnding(
        text_of(item, "sk"),
        DeviceId(text_of(item, "device")),
        UserId(text_of(item, "user")),
        flag_of(item, "device_last"),
        flag_of(item, "end_links"),
        number_of(item, "due_at"),
        number_of(item, "attempts"),
        flag_of(item, "copied") if "copied" in item else False,  # written before the audit log
    )


def change_item(change: PasswordChange) -> Item:
    item = {
        **change_key(change),
        "user": attribute(change.user),
        "email": attribute(change.email),
        "number": attribute(change.number),
        "changed_at": attribute(change.at_ms),
        "due_at": attribute(change.due_at_ms),
        "told": attribute(change.told),
        "attempts": attribute(change.attempts),
    }
    return item if change.keep is None else {**item, "keep": attribute(change.keep)}


def change_from_item(item: Mapping[str, Any]) -> PasswordChange:
    return PasswordChange(
        text_of(item, "sk"),
        UserId(text_of(item, "user")),
        text_of(item, "email"),
        number_of(item, "number"),
        DeviceId(text_of(item, "keep")) if "keep" in item else None,
        number_of(item, "changed_at"),
        number_of(item, "due_at"),
        flag_of(item, "told"),
        number_of(item, "attempts"),
    )


def done_item(done: Done) -> Item:
    kept_until = done.at_ms + ANSWER_DAYS * DAY_MS
    return {
        **done_key(done.user, done.request),
        "fingerprint": attribute(done.fingerprint),
        "expires_at": time_to_live(kept_until),
    }


def token_item(link: Link) -> Item:
    return {
        **token_key(link.token),
        "space": attribute(link.space),
        "link": attribute(link.link),
        **_link_expiry(link),
    }


def _link_expiry(link: Link) -> Item:
    return {} if link.expires_at_ms is None else {"expires_at": time_to_live(link.expires_at_ms)}


def link_from_item(item: Mapping[str, Any]) -> Link:
    return Link(
        LinkId(text_of(item, "sk")),
        SpaceId(text_of(item, "pk").removeprefix(_SPACE).removesuffix(_LINKS)),
        NodeId(bytes_of(item, "node")),
        UserId(text_of(item, "user")),
        number_of(item, "created_at"),
        bytes_of(item, "token_digest"),
        number_of(item, "until") if "until" in item else None,
        text_of(item, "password_hash") if "password_hash" in item else None,
        number_of(item, "max_downloads"),
        number_of(item, "downloads"),
        number_of(item, "revoked_at") if "revoked_at" in item else None,
        _made_by(item),
        number_of(item, "writes_since") if "writes_since" in item else None,
    )


def uploads_item(space: SpaceId, uploads: SpaceUploads) -> Item:
    return {
        **uploads_key(space),
        "refused": attribute(uploads.refused),
        "unsealed_bytes": attribute(uploads.unsealed_bytes),
        "unsealed_objects": attribute(uploads.unsealed_objects),
        "stored_bytes": attribute(uploads.stored_bytes),
        "quota_bytes": attribute(uploads.quota_bytes),
        "measured_at": attribute(uploads.measured_at_ms),
    }


def uploads_from_item(item: Mapping[str, Any]) -> SpaceUploads:
    return SpaceUploads(
        flag_of(item, "refused"),
        number_of(item, "unsealed_bytes"),
        number_of(item, "unsealed_objects"),
        number_of(item, "stored_bytes"),
        number_of(item, "quota_bytes"),
        number_of(item, "measured_at") if "measured_at" in item else 0,
    )


def reservation_from_item(item: Mapping[str, Any]) -> Reservation:
    """Return the reservation in a RESERVED item that was read with its key."""
    return Reservation(
        SpaceId(text_of(item, "pk").removeprefix(_SPACE).removesuffix(_UPLOADS)),
        UserId(text_of(item, "payer")) if "payer" in item else None,
        number_of(item, "bytes"),
    )


def taken_from_item(item: Mapping[str, Any]) -> tuple[UserId, int]:
    """Return the user and the bytes of a TAKEN item that was read with its key."""
    return UserId(text_of(item, "pk").removeprefix(_USER)), number_of(item, "bytes")


def gate_from_item(item: Item) -> Gate:
    return Gate(text_of(item, "pk").removeprefix(_GATE), number_of(item, "passed"))
