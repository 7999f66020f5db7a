"""The ports of the gateway. All methods raise Unavailable when what is behind them does not answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from syncline.model.blocks import Digest
from syncline.model.identifiers import SpaceId


class ObjectUnreadable(Exception):
    """An object that a manifest names is missing, shorter than it must be, or holds other bytes: a defect."""


class ObjectTooLarge(ObjectUnreadable):
    """An object has more bytes than were asked for."""


class VerificationKeys(Protocol):
    """The keys that verify access tokens."""

    async def current(self) -> Mapping[str, bytes]:
        """Raw Ed25519 public keys by their id."""


class RequiredPeer(Protocol):
    """A service that must be there for the gateway to be of use."""

    async def serves(self) -> bool:
        """Return True if the peer says within a second that it serves. Never raises."""


class ObjectSource(Protocol):
    """Objects of spaces."""

    async def read(self, space: SpaceId, digest: Digest, *, offset: int, length: int) -> Sequence[memoryview]:
        """Exactly these bytes of the object, in parts of at most SEGMENT_BYTES. Raise ObjectUnreadable."""

    async def read_all(self, space: SpaceId, digest: Digest, *, most: int) -> bytes:
        """The whole object, not verified. Raise ObjectTooLarge if it has more than `most` bytes, ObjectUnreadable."""


@dataclass(frozen=True, slots=True)
class WriteCredentials:
    """Temporary credentials that may put objects into one space."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class UploadAddress:
    """The address to put one object to, with exactly these headers, until `expires_at_ms`."""

    url: str = field(repr=False)
    headers: Mapping[str, str]
    expires_at_ms: int


class ObjectSink(Protocol):
    """Takes objects of spaces, in the name of whoever the credentials were issued to."""

    async def put(self, credentials: WriteCredentials, *, space: SpaceId, digest: Digest, data: bytes) -> None:
        """Store `data`, whose SHA-256 is `digest`, where nothing is yet; done if it is there. Raise
        PermissionDenied.
        """


class UploadAddresses(Protocol):
    """Makes addresses to which browsers upload. Nothing is asked: it only signs."""

    @property
    def origin(self) -> str:
        """Scheme, host and port of all addresses."""

    def sign(
        self, credentials: WriteCredentials, *, space: SpaceId, digest: Digest, size: int, seconds: int
    ) -> UploadAddress:
        """An address that takes only `size` bytes with this SHA-256, and only where nothing is yet."""
