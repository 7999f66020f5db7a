"""The ports of the gateway. All methods raise Unavailable if the backend does not answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runtime.pool import Share
from syncline.model.blocks import Digest
from syncline.model.identifiers import SpaceId


class ObjectUnreadable(Exception):
    """An object that a manifest names is missing, too short, or has bytes with another SHA-256, which is a defect."""


class ObjectTooLarge(ObjectUnreadable):
    """An object in S3 has more bytes than the reader allows."""


class VerificationKeys(Protocol):
    """The keys that verify access tokens."""

    async def current(self) -> Mapping[str, bytes]:
        """Raw Ed25519 public keys by their id."""


class RequiredPeer(Protocol):
    """A service without which the gateway cannot serve."""

    async def serves(self) -> bool:
        """Return True if the peer reports within a second that it serves. Never raises."""


class ObjectSource(Protocol):
    """Source of the bytes of objects in S3."""

    async def read(
        self, space: SpaceId, digest: Digest, *, offset: int, length: int, share: Share
    ) -> Sequence[memoryview]:
        """Return exactly `length` bytes of the object from the byte `offset` on, in parts of at most SEGMENT_BYTES. The
        read waits for a turn of `share`. Raise ObjectUnreadable if the object is missing or too short.
        """

    async def read_all(self, space: SpaceId, digest: Digest, *, most: int, share: Share) -> bytes:
        """Return all bytes of the object, without checking their SHA-256. The read waits for a turn of `share`. Raise
        ObjectTooLarge if there are more than `most` bytes, and ObjectUnreadable if the object is missing.
        """


@dataclass(frozen=True, slots=True)
class WriteCredentials:
    """Temporary S3 credentials that may put objects into one space."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class UploadAddress:
    """The URL for uploading one object to S3 by a PUT with exactly these headers. It is valid until `expires_at_ms`, in
    milliseconds since 1970.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str]
    expires_at_ms: int


class ObjectSink(Protocol):
    """Stores objects of spaces in S3, with the credentials of a caller."""

    async def put(
        self, credentials: WriteCredentials, *, space: SpaceId, digest: Digest, data: bytes, share: Share
    ) -> None:
        """Store `data`, whose SHA-256 is `digest`, unless the object exists already. The request waits for a turn of
        `share`. Raise PermissionDenied if the S3 credentials do not allow that.
        """


class UploadAddresses(Protocol):
    """Makes signed URLs for uploads by browsers. Signing takes no request."""

    @property
    def origin(self) -> str:
        """Scheme, host and port of all URLs that `sign` returns."""

    def sign(
        self, credentials: WriteCredentials, *, space: SpaceId, digest: Digest, size: int, seconds: int
    ) -> UploadAddress:
        """Return a URL for an upload into a space, signed with `credentials`. It accepts a PUT of exactly `size` bytes
        with the SHA-256 `digest` within `seconds`, and never overwrites an object.
        """
