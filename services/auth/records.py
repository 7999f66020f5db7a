"""The records of auth: accounts, devices, spaces and grants, as stores keep them and decisions see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from syncline.model.accounts import DeviceKind, Role
from syncline.model.identifiers import DeviceId, LinkId, NodeId, RequestId, SpaceId, UserId

Clock: TypeAlias = Callable[[], int]
"""The time now, milliseconds since 1970."""

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Account:
    """A person. `email` is normalised and never changes."""

    user: UserId
    email: str
    personal_space: SpaceId
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Login:
    """An account with what proves that somebody is its owner."""

    account: Account
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chain:
    """The chain of a device's refresh tokens, up to the current one. Only the SHA-256 of a token is kept.

    `family` is the digest of the part that all tokens of the device have in common: it tells a token that was issued
    once from one that somebody made up. `previous` was traded for `current`, and is None at the start.
    """

    family: bytes = field(repr=False)
    current: bytes = field(repr=False)
    previous: bytes | None = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Key:
    """The stored part of a key: its SHA-256, and the time until which it is good."""

    digest: bytes = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """One installed client, browser or program of one user. A client has a `chain`, the others have a `key`."""

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
    """The device by which a program's key was made; None for other devices, and for keys from before that was noted."""

    @property
    def expires_at_ms(self) -> int:
        """When it will be signed out, unless it is used before (a program: in any case)."""
        secret = self.key or self.chain
        assert secret is not None, "a device has a chain or a key"
        return secret.expires_at_ms

    @property
    def place(self) -> str:
        """The position of the device in a listing: a text that compares as the entries do, newest first."""
        return _newest_first(self.created_at_ms, self.device)


@dataclass(frozen=True, slots=True)
class SpaceRecord:
    """The unit of sharing. `owners` counts the grants with Role.OWNER and never reaches 0."""

    space: SpaceId
    name: str
    personal: bool
    owners: int
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """A user's role in a space. `alias` is None for one from the time before aliases that was not read since.

    `writes_since_ms` is when the right to write was given, in milliseconds since 1970: it stays through changes between
    roles that write. Zero without that right, and if it came with the space.
    """

    space: SpaceId
    user: UserId
    email: str
    role: Role
    alias: str | None
    writes_since_ms: int = 0

    @property
    def place(self) -> str:
        """The position of the member in a listing, by address: a text that compares as the entries do."""
        return f"{self.email} {self.user}"


@dataclass(frozen=True, slots=True)
class Membership:
    """A space as one of its members sees it. `alias` as in Grant.

    `by` is who gave the grant: the member, if they made the space. None for a grant from before that was noted.
    """

    space: SpaceId
    name: str
    personal: bool
    role: Role
    alias: str | None
    by: UserId | None = None

    @property
    def place(self) -> str:
        """The position of the space in a listing, personal spaces first, then by name: a text that compares as the
        entries do.
        """
        return f"{int(not self.personal)}{self.name.casefold()}\0{self.space}"


@dataclass(frozen=True, slots=True)
class Link:
    """A public link to a node of a space. `token` is the SHA-256 of what opens it.

    `expires_at_ms` is None for a link that does not expire; `max_downloads` is 0 for any number, which is then not
    counted. `user` made it.
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
    """The device by which the link was made; None for a link from before that was noted."""

    @property
    def place(self) -> str:
        """The position of the link in a listing: a text that compares as the entries do, newest first."""
        return _newest_first(self.created_at_ms, self.link)


@dataclass(frozen=True, slots=True)
class Gate:
    """The version of one limited list.

    Each addition raises it by one, on condition that it is still the version that was read.
    """

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Done:
    """A user's mutation request that was carried out. `fingerprint` tells it from another one that bears its id."""

    user: UserId
    request: RequestId
    fingerprint: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class SpaceUploads:
    """The last measure of the objects of a space, in bytes and objects, and whether further ones are refused.

    `measured_at_ms` is greater with each measure, in milliseconds since 1970.
    """

    refused: bool
    unsealed_bytes: int
    unsealed_objects: int
    stored_bytes: int
    quota_bytes: int
    measured_at_ms: int


@dataclass(frozen=True, slots=True)
class TemporaryCredentials:
    """Temporary credentials that open one space's objects in S3."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at_ms: int


def _newest_first(created_at_ms: int, ident: str) -> str:
    """Return the position in a listing that has the newest first: a text that compares as the entries do."""
    return f"{10**18 - created_at_ms:019}{ident}"
