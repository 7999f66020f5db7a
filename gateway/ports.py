"""The ports of the gateway. All methods raise Unavailable if the backend does not answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from syncline.model.blocks import Digest
from syncline.model.identifiers import SpaceId


class ObjectUnreadable(Exception):
    """An object that a manifest names is missing, too short, or has other bytes, which is a defect."""


class ObjectTooLarge(ObjectUnreadable):
    """An object has more bytes than expected."""


class VerificationKeys(Protocol):
    """The keys that verify access tokens."""

    async def current(self) -> Mapping[str, bytes]:
        """Raw Ed25519 public keys by their id."""


class RequiredPeer(Protocol):
    """A service that the gateway needs in order to serve."""

    async def serves(self) -> bool:
        """Return True if the peer reports within a second that it serves. Never raises."""


class ObjectSource(Protocol):
    """Source of the objects of spaces."""

    async def read(self, space: SpaceId, digest: Digest, *, offset: int, length: int) -> Sequence[memoryview]:
        """Return exactly the requested bytes of the object, in parts of at most SEGMENT_BYTES. Raise ObjectUnreadable
        if the object is missing or too short.
        """

    async def read_all(self, space: SpaceId, digest: Digest, *, most: int) -> bytes:
        """Return the whole object, unverified. Raise ObjectTooLarge if it has more than `most` bytes, and
        ObjectUnreadable if it is missing.
        """


@dataclass(frozen=True, slots=True)
class WriteCredentials:
    """Temporary credentials that may put objects into one space."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class UploadAddress:
    """The address for uploading one object, with exactly these headers, valid until `expires_at_ms`."""

    url: str = field(repr=False)
    headers: Mapping[str, str]
    expires_at_ms: int


class ObjectSink(Protocol):
    """Stores objects of spaces, with the credentials of a caller."""

    async def put(self, credentials: WriteCredentials, *, space: SpaceId, digest: Digest, data: bytes) -> None:
        """Store `data`, whose SHA-256 is `digest`, unless the object exists already. Raise PermissionDenied if the
        credentials do not allow that.
        """


class UploadAddresses(Protocol):
    """Makes addresses for uploads by browsers. Signing is local, without I/O."""

    @property
    def origin(self) -> str:
        """Scheme, host and port of all addresses."""

    def sign(
        self, credentials: WriteCredentials, *, space: SpaceId, digest: Digest, size: int, seconds: int
    ) -> UploadAddress:
        """Return an address that accepts only `size` bytes with this SHA-256, and never overwrites an object."""
