"""Objects in S3: the port `ObjectStore`, and its adapter for S3."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from syncline.model.accounts import Access
from syncline.model.blocks import MAX_OBJECT_BYTES, Digest
from syncline.model.errors import Kind, PermissionDenied, SynclineError, Unavailable
from syncline.model.retry_policy import RetryPolicy
from syncline.rpc import traces
from syncline.s3.clock import ServerClock
from syncline.s3.errors import PASSING, S3Error, s3_error
from syncline.sdk.bounded_http import NotConnected
from syncline.sdk.credentials import S3Credentials, SpaceCredentials
from syncline.sdk.discovery import StorageAddress
from syncline.sdk.errors import UnexpectedAnswer
from syncline.sdk.requests import RequestCounts
from syncline.transfer.rate_limit import Limit
from syncline.transfer.signed_requests import UNTAGGED, SignedRequests, StorageRefused

if TYPE_CHECKING:
    from syncline.sdk.space import Space

T = TypeVar("T")

RETRIES: Final = RetryPolicy(max_attempts=6, first_pause_seconds=0.1, max_pause_seconds=3.0)
PUT_SECONDS: Final = 2 * 60.0
"""Timeout of a PUT in seconds. A PUT that exceeds it is either dead or on a slow connection, which cannot be
distinguished: later PUTs get twice the time. A PUT whose connection is not accepted in time does not count.
"""
MAX_PUT_SECONDS: Final = 32 * 60.0


class ObjectMissing(SynclineError):
    """Storage does not have this object; upload the file again from a device that has it."""

    reason = "OBJECT_MISSING"
    kind = Kind.NOT_FOUND


class ObjectWithheld(SynclineError):
    """This object is archived, or encrypted with another key; ask whoever runs the system to make it readable."""

    reason = "OBJECT_WITHHELD"
    kind = Kind.PRECONDITION


class ClockWrong(SynclineError):
    """Storage refuses requests because this device's clock is wrong; set it and try again."""

    reason = "CLOCK_WRONG"
    kind = Kind.PRECONDITION


class StorageFull(SynclineError):
    """Storage is full; ask whoever runs the system to free some space, then try again."""

    reason = "STORAGE_FULL"
    kind = Kind.EXHAUSTED


class StorageRedirects(SynclineError):
    """Storage redirects to another address, which no device follows; tell whoever runs the system."""

    reason = "STORAGE_REDIRECTS"
    kind = Kind.PRECONDITION


class ObjectStore(Protocol):
    """The objects of one space. Usable from any thread. Objects never change, so every call is safe to repeat.

    Reads raise ObjectWithheld if storage does not return this one object. All methods raise Unavailable when retries
    are exhausted, PermissionDenied if storage denies the request, and the errors of issuing credentials. A read that is
    denied with credentials that were just issued raises ObjectMissing: S3 denies a missing object to a caller who may
    not list the bucket, and no device may list it.
    """

    def put(self, digest: Digest, data: bytes) -> None:
        """Store `data`, whose SHA-256 is `digest`, unless the object exists already. Bytes that were damaged in transit
        are not stored.
        """

    def get(self, digest: Digest) -> memoryview:
        """Return the whole object, unverified. Raise ObjectMissing if storage does not have the object."""

    def get_range(self, digest: Digest, offset: int, length: int) -> memoryview:
        """Return `length` bytes of the object from `offset` on, fewer if the object ends before. Raise ObjectMissing if
        storage does not have the object. The bytes are not verified.
        """

    def tag(self, digest: Digest) -> str:
        """Return the tag of an object: an opaque text that changes if the object is replaced. Raise ObjectMissing if
        storage does not have the object.
        """


class S3Objects:
    """Implements ObjectStore on S3: one conditional PUT per object, with its checksum.

    With `limit`, a limit of the bandwidth, a GET is read in small pieces, each as soon as the limit permits it. A PUT
    is charged to the limit as a whole before it is sent, so that the average is right, but each object is sent at full
    speed.
    """

    def __init__(
        self,
        storage: StorageAddress,
        credentials: SpaceCredentials,
        requests: RequestCounts,
        limit: Limit | None = None,
    ) -> None:
        self._limit = limit
        self._storage = storage
        self._credentials = credentials
        self.requests = requests
        self._lock = threading.Lock()
        self._affirmed: S3Credentials | None = None
        """The credentials that were issued after a denied read."""
        self._put_seconds = PUT_SECONDS
        self._clock = ServerClock()

    @cached_property
    def _signed(self) -> SignedRequests:
        return SignedRequests(_objects_url(self._storage), region=self._storage.region, clock=self._clock)

    def put(self, digest: Digest, data: bytes) -> None:
        def put(credentials: S3Credentials, key: str) -> None:
            if self._limit is not None:
                self._limit.take(len(data))
            self.requests.add(s3_put=1)
            seconds = self._put_seconds
            with _span("PutObject") as span:
                span.note(http__request__body__size=len(data))
                try:
                    is_new = self._signed.put(key, digest, data, credentials=credentials, seconds=seconds)
                except NotConnected:
                    raise  # a slow line is not the reason
                except TimeoutError:
                    self._have_patience(seconds)
                    raise
            if is_new:
                self.requests.add(bytes_up=len(data))

        self._retried(digest, put)

    def get(self, digest: Digest) -> memoryview:
        return self._received(digest, MAX_OBJECT_BYTES)

    def get_range(self, digest: Digest, offset: int, length: int) -> memoryview:
        return self._received(digest, length, span=(offset, offset + length))

    def tag(self, digest: Digest) -> str:
        def tag(credentials: S3Credentials, key: str) -> str:
            self.requests.add(s3_get=1)
            try:
                with _reading(digest), _span("GetObject"):
                    return self._signed.tag(key, credentials=credentials)
            except StorageRefused as error:
                if _meaning(error) is S3Error.BAD_RANGE:
                    return UNTAGGED  # an object without bytes, of which S3 refuses every range
                raise

        return self._retried(digest, tag, reads=True)

    def _received(self, digest: Digest, max_bytes: int, *, span: tuple[int, int] | None = None) -> memoryview:
        def counted(credentials: S3Credentials, key: str) -> memoryview:
            self.requests.add(s3_get=1)
            with _reading(digest), _span("GetObject") as trace:
                try:
                    data = self._signed.get(
                        key, credentials=credentials, max_bytes=max_bytes, span=span, limit=self._limit
                    )
                except StorageRefused as error:
                    if _meaning(error) is not S3Error.BAD_RANGE:
                        raise
                    data = memoryview(b"")
                trace.note(http__response__body__size=len(data))
            self.requests.add(bytes_down=len(data))
            return data

        return self._retried(digest, counted, reads=True)

    def _retried(self, digest: Digest, request: Callable[[S3Credentials, str], T], *, reads: bool = False) -> T:
        """Return the result of `request`, which sends one request for the object `digest` and is called with
        credentials and the key of the object. It is called again after failures that may pass; this is the only place
        with retries. `reads` is True if the request reads the object. Raise a SynclineError with the meaning of a
        failure that does not pass, and Unavailable when no attempt is left.
        """
        renewed = corrected = False
        said = ""
        for pause in RETRIES.pauses():
            held = self._credentials.get()
            try:
                return request(held, held.key_prefix + digest.hex())
            except StorageRefused as error:
                said = str(error)
                match _meaning(error):
                    case S3Error.CLOCK_SKEWED if not corrected:
                        corrected = True
                        if not self._correct_clock():
                            raise ClockWrong from None
                        continue
                    case S3Error.CREDENTIALS_STALE if not renewed:
                        renewed = True
                        self._credentials.forget(held)
                        continue
                    case S3Error.STORAGE_FULL:
                        raise StorageFull from None
                    case S3Error.DENIED if reads and error.code == _DENIED:
                        if self._affirm(held):
                            raise ObjectMissing(f"storage does not have object {digest.hex()}, or denies it") from None
                        continue
                    case meaning if meaning not in PASSING:
                        raise _lasting(error) from None
            except OSError as error:
                said = str(error).partition("\n")[0] or type(error).__name__
            time.sleep(pause)
        raise Unavailable(f"storage does not answer ({said}); try again later")

    def _correct_clock(self) -> bool:
        """Sign by S3's time from now on, and return True. Return False if S3 does not state its time."""
        try:
            self._signed.correct_clock()
        except OSError:
            return False
        return True

    def _affirm(self, denied: S3Credentials) -> bool:
        """Return True if a denial is about the object; otherwise request new credentials, after which the caller tries
        again.

        A device that has lost its right gets an error when new credentials are issued. A denial is therefore about the
        object if it was met with credentials that were issued after an earlier denial, while these last. A denial with
        older credentials proves nothing about the object, whatever other threads have requested in the meantime. A
        bucket policy that denies everything in that time cannot be distinguished from missing objects; the next sync
        requests these again.
        """
        with self._lock:
            if denied is self._affirmed and _until_ms(denied) > time.time() * 1000:
                return True
            if self._credentials.forget(denied):
                self._affirmed = self._credentials.get()
            return False

    def _have_patience(self, exceeded_seconds: float) -> None:
        """Double the timeout of PUTs after a PUT has exceeded `exceeded_seconds`, unless another thread has already
        raised the timeout above that. The timeout grows up to MAX_PUT_SECONDS.
        """
        with self._lock:
            if self._put_seconds == exceeded_seconds:
                self._put_seconds = min(2 * exceeded_seconds, MAX_PUT_SECONDS)


def _until_ms(held: S3Credentials) -> int:
    """Return the expiry time of credentials, by the clock of this device if that is known."""
    return held.ours_until_ms or held.expires_at_ms


def _span(operation: str) -> traces.Span:
    return traces.span(f"S3.{operation}", kind=traces.SpanKind.CLIENT, rpc__system="aws-api", rpc__service="S3")


@contextmanager
def _reading(digest: Digest) -> Iterator[None]:
    """Context whose body reads the object with this digest. Convert an error of S3 in the body to ObjectMissing if the
    object does not exist, and to ObjectWithheld if it is archived or encrypted with another key.
    """
    try:
        yield
    except StorageRefused as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise ObjectMissing(f"storage does not have object {digest.hex()}") from None
        if error.code and _meaning(error) in _WITHHELD:
            raise ObjectWithheld(f"storage does not return object {digest.hex()} ({error.code})") from None
        raise


def open_objects(space: Space, access: Access, *, limit: Limit | None = None) -> S3Objects:
    """Return a client for the objects of a space in S3. `access` says whether objects are read only, or written too:
    S3 credentials for that are requested at the first use, and this call requests nothing. `limit` limits the
    bandwidth; None means no limit.
    """
    session = space.session
    return S3Objects(session.deployment.s3, SpaceCredentials(session, space.id, access), session.requests, limit)


def _endpoint(storage: StorageAddress) -> str:
    """Return the address for requests. With path style the bucket is in the path, otherwise in the host name."""
    base = storage.endpoint
    if base is None:
        suffix = "amazonaws.com.cn" if storage.region.startswith("cn-") else "amazonaws.com"
        base = f"https://s3.{storage.region}.{suffix}"
    if storage.path_style:
        return base
    scheme, _, host = base.partition("://")
    return f"{scheme}://{storage.bucket}.{host}"


def _objects_url(storage: StorageAddress) -> str:
    """Return the common prefix of the URLs of all objects."""
    base = _endpoint(storage).rstrip("/")
    return f"{base}/{storage.bucket}/" if storage.path_style else f"{base}/"


_WITHHELD: Final = frozenset({S3Error.ARCHIVED, S3Error.BAD_REQUEST, S3Error.KEY_REFUSED})
_DENIED: Final = "AccessDenied"
"""The code of a denial by policies. Invalid credentials have other codes, with the same status."""


def _meaning(error: StorageRefused) -> S3Error:
    return s3_error(error.code, error.status)


def _lasting(error: StorageRefused) -> SynclineError:
    """Return the error to raise for a failure that a retry does not resolve."""
    if _meaning(error) is S3Error.CLOCK_SKEWED:
        return ClockWrong()
    if HTTPStatus.MULTIPLE_CHOICES <= error.status < HTTPStatus.BAD_REQUEST:
        place = f"the bucket is in the region {error.region}" if error.region else "the bucket is elsewhere"
        return StorageRedirects(
            f"storage redirects to another address ({error}), which is not followed: {place}; tell whoever runs the "
            "system that its storage address, region or bucket is wrong"
        )
    if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return PermissionDenied(
            f"storage refuses access to this space ({error.code or error.status}); your role or device may have "
            "changed, try again"
        )
    return UnexpectedAnswer(f"storage failed ({error}); report it if it persists")
