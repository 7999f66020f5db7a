"""The items of the identity table: their keys, and what they hold as records of auth.

| item | pk | sk | holds |
|---|---|---|---|
| LOGIN | `E#{email}` | `LOGIN` | the id and password hash of the proven account, and whether it is an administrator's; the existence of the item reserves the address |
| CLAIM | `E#{email}` | `CLAIM` | the id and password hash of the last account that was made for the address and is not proven |
| PROOF | `P#{SHA-256 of a proof's token, hex}` | `PROOF` | the account that the mailed proof is for, and the address |
| INVITATION | `I#{SHA-256 of an invitation's token, hex}` | `INVITATION` | the address that may make an account; absent for the first account |
| ADMIN | `ADMIN` | `FIRST` | the first administrator; the existence of the item says that there is one |
| ATTEMPTS | `E#{email}`, `E#{subject}` | `FROM#{peer}`, `FROM` for all peers | the number of attempts, and the time at which the counter ends |
| ACCOUNT | `U#{user}` | `ACCOUNT` | address, personal space, and whether the account is proven (absent: yes) and an administrator (absent: no); the password hash until then |
| MEMBERSHIP | `U#{user}` | `S#{space}` | a grant as its holder lists it; changes in one transaction with the GRANT |
| ALIAS | `U#{user}` | `A#{SHA-256 of the folded alias, hex}` | the space that the alias means to this user, permanently |
| DONE | `U#{user}` | `R#{request, hex}` | the fingerprint of a mutation request that was carried out |
| DEVICE | `D#{device}` | `DEVICE` | a device and its refresh chain or key; the index `gsi1` lists the devices of a user |
| KEY | `D#{device}` | `K#{device of a program}` | marks that the key of the program was made from the device |
| SPACE | `S#{space}` | `SPACE` | name, and the number of owners |
| GRANT | `S#{space}` | `U#{user}` | role, address, alias, and the time since which the member may write |
| LINK | `S#{space}#L` | `{link}` | a public link; in a partition of its own, because the GRANTs are read as a whole |
| MADE | `U#{user}` | `L#{link}` | a link in the form in which it was made, until it is revoked |
| TOKEN | `L#{SHA-256 of a link's token, hex}` | `TOKEN` | the link that the token opens |
| COUNTED | `L#{link}` | `R#{request, hex}` | marks that a download was counted for this request |
| WRITTEN | `WRITTEN#{hour since 1970}` | `{space}` | marks that credentials to write were issued for the space in this hour |
| UPLOADS | `S#{space}#U` | `UPLOADS` | the last measurement of the objects of a space; in a partition of its own as well |
| GATE | `G#{name}` | `GATE` | the version of a limited list, which each addition increments |
| ENDING | `ENDINGS` | `{ending}` | a revocation of a device, with the keys and links made from it, that was begun and is not finished |
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
    Account,
    Chain,
    DeviceEnding,
    DeviceRecord,
    Done,
    Gate,
    GrantRecord,
    Invitation,
    Key,
    Link,
    Login,
    Membership,
    Proof,
    SpaceRecord,
    SpaceUploads,
)
from syncline.model.accounts import DeviceKind, Role
from syncline.model.identifiers import DeviceId, LinkId, NodeId, RequestId, SpaceId, UserId
from syncline.model.limits import ANSWER_DAYS

_USER: Final = "U#"
_SPACE: Final = "S#"
_DEVICE: Final = "D#"
_GATE: Final = "G#"
_LINKS: Final = "#L"

MEMBERSHIP_PREFIX: Final = "S#"
"""The beginning of the sort keys of MEMBERSHIP items."""

MADE_PREFIX: Final = "L#"
"""The beginning of the sort keys of MADE items."""

KEY_PREFIX: Final = "K#"
"""The beginning of the sort keys of KEY items."""

ENDINGS_PK: Final = "ENDINGS"
"""The partition key of all ENDING items."""

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


def device_pk(device: DeviceId) -> str:
    return f"{_DEVICE}{device}"


def written_pk(hour: int) -> str:
    return f"WRITTEN#{hour}"


# ---- keys of items


def login_key(email: str) -> Item:
    return key_of(f"E#{email}", "LOGIN")


def claim_key(email: str) -> Item:
    return key_of(f"E#{email}", "CLAIM")


def proof_key(token: bytes) -> Item:
    return key_of(f"P#{token.hex()}", "PROOF")


def invitation_key(token: bytes) -> Item:
    return key_of(f"I#{token.hex()}", "INVITATION")


def admin_key() -> Item:
    return key_of("ADMIN", "FIRST")


def attempts_key(subject: str, peer: str | None) -> Item:
    return key_of(f"E#{subject}", "FROM" if peer is None else f"FROM#{peer}")


def known_key(subject: str, peer: str) -> Item:
    return key_of(f"E#{subject}", f"KNOWN#{peer}")


def gate_key(name: str) -> Item:
    return key_of(f"{_GATE}{name}", "GATE")


def account_key(user: UserId) -> Item:
    return key_of(user_pk(user), "ACCOUNT")


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


def written_key(hour: int, space: SpaceId) -> Item:
    return key_of(written_pk(hour), space)


def uploads_key(space: SpaceId) -> Item:
    return key_of(f"{space_pk(space)}#U", "UPLOADS")


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
        "password_hash": attribute(login.password_hash),
    }


def login_from_item(email: str, item: Item, *, proven: bool) -> Login:
    account = Account(
        UserId(text_of(item, "user")),
        email,
        SpaceId(text_of(item, "personal_space")),
        number_of(item, "created_at"),
        proven,
        flag_of(item, "admin") if "admin" in item else False,
    )
    return Login(account, text_of(item, "password_hash"))


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
    }
    return item if account.proven else {**item, "password_hash": attribute(login.password_hash)}


def account_from_item(user: UserId, item: Item) -> Account:
    return Account(
        user,
        text_of(item, "email"),
        SpaceId(text_of(item, "personal_space")),
        number_of(item, "created_at"),
        flag_of(item, "proven") if "proven" in item else True,  # written before addresses were proven
        flag_of(item, "admin") if "admin" in item else False,
    )


def admin_item(account: Account) -> Item:
    return {**admin_key(), "user": attribute(account.user)}


def invitation_item(invitation: Invitation) -> Item:
    item = {
        **invitation_key(invitation.token),
        "until": attribute(invitation.expires_at_ms),
        "expires_at": time_to_live(invitation.expires_at_ms),
    }
    return item if invitation.email is None else {**item, "email": attribute(invitation.email)}


def invitation_from_item(token: bytes, item: Item) -> Invitation:
    return Invitation(token, text_of(item, "email") if "email" in item else None, number_of(item, "until"))


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
    return DeviceRecord(
        DeviceId(text_of(item, "pk").removeprefix(_DEVICE)),
        UserId(text_of(item, "user")),
        text_of(item, "name"),
        number_of(item, "created_at"),
        number_of(item, "last_seen_at"),
        number_of(item, "revoked_at") if "revoked_at" in item else None,
        chain,
        # written before there were other kinds
        DeviceKind[text_of(item, "kind").upper()] if "kind" in item else DeviceKind.CLIENT,
        key,
        _made_by(item),
    )


def program_of(item: Item) -> DeviceId:
    """Return the id of the program that a KEY item lists."""
    return DeviceId(text_of(item, "sk").removeprefix(KEY_PREFIX))


def _made_by(item: Mapping[str, Any]) -> DeviceId | None:
    return DeviceId(text_of(item, "made_by")) if "made_by" in item else None


def refresh_current(item: Mapping[str, Any]) -> bytes | None:
    """Return the digest of the current refresh token in a DEVICE item; None for a device without refresh tokens."""
    return bytes_of(item, "refresh_current") if "refresh_current" in item else None


def space_item(space: SpaceRecord) -> Item:
    return {
        **space_key(space.space),
        "name": attribute(space.name),
        "personal": attribute(space.personal),
        "owners": attribute(space.owners),
        "created_at": attribute(space.created_at_ms),
    }


def space_with_grants(space: SpaceId, items: Iterable[Item]) -> tuple[SpaceRecord, list[GrantRecord]] | None:
    """Return the space and the grants in SPACE and GRANT items of this space; None if the SPACE item is not
    among them.
    """
    found: SpaceRecord | None = None
    grants = []
    for item in items:
        if text_of(item, "sk") == "SPACE":
            found = SpaceRecord(
                space,
                text_of(item, "name"),
                flag_of(item, "personal"),
                number_of(item, "owners"),
                number_of(item, "created_at"),
            )
        else:
            grants.append(grant_from_item(item))
    return (found, grants) if found else None


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


def gate_from_item(item: Item) -> Gate:
    return Gate(text_of(item, "pk").removeprefix(_GATE), number_of(item, "passed"))
