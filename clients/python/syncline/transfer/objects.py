"""Objects in storage: the port, and its adapter for S3 by obstore."""

from __future__ import annotations

import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

import obstore
from obstore import exceptions
from obstore.store import S3Store

from syncline.model.accounts import Access
from syncline.model.blocks import MAX_OBJECT_BYTES, Digest
from syncline.model.errors import Kind, PermissionDenied, SynclineError, Unavailable
from syncline.model.retry_policy import RetryPolicy
from syncline.rpc import traces
from syncline.s3.clock import ServerClock
from syncline.s3.errors import PASSING, S3Error, s3_error
from syncline.sdk.credentials import S3Credentials, SpaceCredentials
from syncline.sdk.discovery import StorageAddress
from syncline.sdk.errors import UnexpectedAnswer
from syncline.sdk.network import own_certificates, proxy_for
from syncline.sdk.requests import RequestCounts
from syncline.transfer.clock_skew import SignedRequests, StorageRefused
from syncline.transfer.rate_limit import Limit

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ClientConfig, S3Credential

    from syncline.sdk.space import Space

T = TypeVar("T")

RETRIES: Final = RetryPolicy(max_attempts=6, first_pause_seconds=0.1, max_pause_seconds=3.0)
CONNECT_TIMEOUT: Final = timedelta(seconds=10)
SILENCE_TIMEOUT: Final = timedelta(seconds=30)
"""Maximum time without a byte of the answer to a GET, after which the connection counts as dead."""
GET_TIMEOUT: Final = timedelta(minutes=30)
LIMITED_GET_TIMEOUT: Final = timedelta(days=1)
"""Timeout of a GET under a bandwidth limit: so long that it never ends a GET."""
_CHUNK_BYTES: Final = 64 * 1024
PUT_TIMEOUT: Final = timedelta(minutes=2)
"""Timeout of a PUT. A PUT that exceeds it is either dead or on a slow connection, which cannot be distinguished: later
PUTs get twice the time.
"""
MAX_PUT_TIMEOUT: Final = timedelta(minutes=32)


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


class ObjectStore(Protocol):
    """The objects of one space. Usable from any thread. Objects never change, so every call is safe to repeat.

    Reads raise ObjectWithheld if storage does not return this one object. All methods raise Unavailable when retries
    are exhausted, PermissionDenied if storage denies the request, and the errors of issuing credentials. A read that is
    denied with credentials that were just issued raises ObjectMissing: S3 denies a missing object to a caller who may
    not list the bucket, as no device may.
    """

    def put(self, digest: Digest, data: bytes) -> None:
        """Store `data`, whose SHA-256 is `digest`, unless the object exists already. Bytes damaged in transit are
        refused.
        """

    def get(self, digest: Digest) -> memoryview:
        """Return the whole object, unverified. Raise ObjectMissing if storage does not have it."""

    def get_range(self, digest: Digest, offset: int, length: int) -> memoryview:
        """Return `length` bytes of the object from `offset` on, fewer if the object ends before. Raise ObjectMissing if
        storage does not have the object. The bytes are not verified.
        """

    def tag(self, digest: Digest) -> str:
        """Return a text that changes if the object is replaced. Raise ObjectMissing if storage does not have the
        object.
        """


class _Stores(NamedTuple):
    """The obstore clients of the same storage, with different timeouts; and `signed`, our own requests, which are used
    once S3 has refused the time of this device's clock.
    """

    put: S3Store
    get: S3Store
    signed: SignedRequests
    affirmed_until_ms: int
    """Expiry time of the credentials if they were issued after a denied read; otherwise 0."""


class S3Objects:
    """Implements ObjectStore on S3: one conditional PUT per object, with its checksum.

    With a `limit`, a GET is read in small chunks at that rate. A PUT is charged as a whole before it is sent, since
    obstore takes the object in one piece: the average is right, but each object is sent at full speed.
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
        self._opened: _Stores | None = None
        self._are_affirmed = False
        """True if the present credentials were issued after a denied read."""
        self._put_timeout = PUT_TIMEOUT
        self._clock = ServerClock()

    def put(self, digest: Digest, data: bytes) -> None:
        def put(stores: _Stores, key: str) -> None:
            if self._limit is not None:
                self._limit.take(len(data))
            self.requests.add(s3_put=1)
            try:
                # obstore sends the SHA-256 of its argument; `bytes` cannot have changed since they were hashed.
                with _span("PutObject") as span:
                    span.note(http__request__body__size=len(data))
                    if not self._clock.is_corrected:
                        obstore.put(stores.put, key, data, mode="create", use_multipart=False)
                    elif not stores.signed.put(key, digest, data):
                        return
            except exceptions.AlreadyExistsError as error:
                # another client is putting it at this moment, and may fail: not stored yet
                if _meaning(error) is S3Error.CONFLICT:
                    raise
                return
            self.requests.add(bytes_up=len(data))

        self._retried(digest, put)

    def get(self, digest: Digest) -> memoryview:
        def get(stores: _Stores, key: str) -> memoryview:
            if self._clock.is_corrected:
                return stores.signed.get(key, most=MAX_OBJECT_BYTES, limit=self._limit)
            return _read(obstore.get(stores.get, key), MAX_OBJECT_BYTES, self._limit)

        return self._received(digest, get)

    def get_range(self, digest: Digest, offset: int, length: int) -> memoryview:
        def get_range(stores: _Stores, key: str) -> memoryview:
            try:
                if self._clock.is_corrected:
                    return stores.signed.get(key, span=(offset, offset + length), most=length, limit=self._limit)
                answer = obstore.get(stores.get, key, options={"range": (offset, offset + length)})
                return _read(answer, length, self._limit)
            except (exceptions.GenericError, StorageRefused) as error:
                if _meaning(error) is S3Error.BAD_RANGE:
                    return memoryview(b"")
                raise

        return self._received(digest, get_range)

    def tag(self, digest: Digest) -> str:
        def tag(stores: _Stores, key: str) -> str:
            self.requests.add(s3_get=1)
            try:
                with _reading(digest), _span("GetObject"):
                    # GET and not HEAD, whose errors have no code
                    if self._clock.is_corrected:
                        return stores.signed.tag(key)
                    return obstore.get(stores.get, key, options={"range": (0, 1)}).meta["e_tag"] or _UNTAGGED
            except (exceptions.GenericError, StorageRefused) as error:
                if _meaning(error) is S3Error.BAD_RANGE:  # an empty object
                    return _UNTAGGED
                raise

        return self._retried(digest, tag, reads=True)

    def _received(self, digest: Digest, get: Callable[[_Stores, str], memoryview]) -> memoryview:
        def counted(stores: _Stores, key: str) -> memoryview:
            self.requests.add(s3_get=1)
            with _reading(digest), _span("GetObject") as span:
                data = get(stores, key)
                span.note(http__response__body__size=len(data))
            self.requests.add(bytes_down=len(data))
            return data

        return self._retried(digest, counted, reads=True)

    def _retried(self, digest: Digest, request: Callable[[_Stores, str], T], *, reads: bool = False) -> T:
        """Send a request to storage, and retry it. This is the only place with retries: obstore's own are disabled."""
        renewed = corrected = False
        said = ""
        for pause in RETRIES.pauses():
            stores, prefix = self._stores()
            try:
                return request(stores, prefix + digest.hex())
            except (exceptions.BaseError, StorageRefused, OSError) as error:
                status, code = _answer(error)
                meaning = s3_error(code, status)
                said = _brief(error, status, code)
                if meaning is S3Error.CLOCK_SKEWED and not corrected:
                    corrected = True
                    if self._correct_clock(stores):
                        continue
                if meaning is S3Error.CREDENTIALS_STALE and not renewed:
                    renewed = True
                    self._renew(stores)
                    continue
                if meaning is S3Error.STORAGE_FULL:
                    raise StorageFull from None
                if reads and meaning is S3Error.DENIED and code == _DENIED:
                    if self._affirm(stores):
                        raise ObjectMissing(f"storage does not have object {digest.hex()}, or denies it") from None
                    continue
                if meaning not in PASSING:
                    raise _lasting(said, status, code) from None
                if not status and _TIMED_OUT in str(error):
                    self._have_patience(stores)
            time.sleep(pause)
        raise Unavailable(f"storage does not answer ({said}); try again later")

    def _stores(self) -> tuple[_Stores, str]:
        # Called first here, since errors of the provider reach us only as text.
        held = self._credentials.get()
        with self._lock:
            if self._opened is None:
                get_timeout = GET_TIMEOUT if self._limit is None else LIMITED_GET_TIMEOUT
                self._opened = _Stores(
                    put=_open(self._storage, self._provide, {"timeout": self._put_timeout}),
                    get=_open(self._storage, self._provide, {"timeout": get_timeout, "read_timeout": SILENCE_TIMEOUT}),
                    signed=SignedRequests(
                        _objects_url(self._storage),
                        region=self._storage.region,
                        provide=self._credentials.get,
                        clock=self._clock,
                        timeout=max(SILENCE_TIMEOUT, self._put_timeout).total_seconds(),
                    ),
                    affirmed_until_ms=_until_ms(held) if self._are_affirmed else 0,
                )
            return self._opened, held.key_prefix

    def _correct_clock(self, stores: _Stores) -> bool:
        """Sign by S3's time from now on; return False if S3 does not state its time."""
        try:
            stores.signed.correct_clock()
        except OSError:
            return False
        return True

    def _renew(self, refused: _Stores, *, affirm: bool = False) -> None:
        """Drop a store and its credentials, unless another thread has done so; a store keeps the credentials that it
        was given.

        With `affirm`, the new credentials also check the right to read, since storage has denied a read.
        """
        with self._lock:
            if self._opened is refused:
                self._opened = None
                self._are_affirmed = affirm
                self._credentials.forget()

    def _affirm(self, denied: _Stores) -> bool:
        """Return True if a denial is about the object; otherwise request new credentials, after which the caller tries
        again.

        A device that has lost its right gets an error when new credentials are issued. A denial is therefore about the
        object if it was met with credentials that were issued after an earlier denial, while these last. A denial with
        older credentials proves nothing about the object, whatever other threads have requested since. A bucket policy
        that denies everything in that time cannot be distinguished from missing objects; the next sync requests these
        again.
        """
        if denied.affirmed_until_ms > time.time() * 1000:
            return True
        self._renew(denied, affirm=True)
        return False

    def _have_patience(self, hasty: _Stores) -> None:
        with self._lock:
            if self._opened is hasty:
                self._opened = None
                self._put_timeout = min(2 * self._put_timeout, MAX_PUT_TIMEOUT)

    def _provide(self) -> S3Credential:
        held = self._credentials.get()
        return {
            "access_key_id": held.access_key_id,
            "secret_access_key": held.secret_access_key,
            "token": held.session_token,
            "expires_at": datetime.fromtimestamp(_until_ms(held) / 1000, UTC),
        }


def _until_ms(held: S3Credentials) -> int:
    """Return the expiry time of credentials, by the clock of this device if that is known."""
    return held.ours_until_ms or held.expires_at_ms


def _span(operation: str) -> traces.Span:
    return traces.span(f"S3.{operation}", kind=traces.Kind.CLIENT, rpc__system="aws-api", rpc__service="S3")


@contextmanager
def _reading(digest: Digest) -> Iterator[None]:
    """Convert an error of S3 about the one object that the block reads: raise ObjectMissing if it does not exist, and
    ObjectWithheld if it is archived or encrypted with another key.
    """
    try:
        yield
    except FileNotFoundError:
        raise ObjectMissing(f"storage does not have object {digest.hex()}") from None
    except (exceptions.BaseError, StorageRefused) as error:
        status, code = _answer(error)
        if code and s3_error(code, status) in _WITHHELD:
            raise ObjectWithheld(f"storage does not return object {digest.hex()} ({code})") from None
        raise


def _read(answer: GetResult, most: int, limit: Limit | None) -> memoryview:
    """Return the whole body of an answer, read no faster than the limit: unread bytes wait in the network.

    An answer may be longer than requested; `most` + 1 bytes of it suffice to detect that.
    """
    chunks: list[memoryview] = []
    size = 0
    for chunk in answer.stream(min_chunk_size=most + 1 if limit is None else _CHUNK_BYTES):
        if limit is not None:
            limit.take(len(chunk))
        chunks.append(memoryview(chunk))
        size += len(chunk)
        if size > most:
            break
    return chunks[0] if len(chunks) == 1 else memoryview(b"".join(chunks))


def open_objects(space: Space, access: Access, *, limit: Limit | None = None) -> S3Objects:
    """Return the objects of a space of a signed-in device, without any call yet."""
    session = space.session
    return S3Objects(session.deployment.s3, SpaceCredentials(session, space.id, access), session.requests, limit)


def _open(storage: StorageAddress, provide: Callable[[], S3Credential], patience: ClientConfig) -> S3Store:
    endpoint = _endpoint(storage)
    # All options are set explicitly, since obstore would take missing ones from the user's AWS_* variables, which are
    # for other purposes.
    config: dict[str, Any] = {
        "aws_endpoint_url_s3": endpoint,
        "checksum_algorithm": "SHA256",
        "conditional_put": "etag",
        "request_payer": False,
        "s3_express": False,
        "skip_signature": False,
        "unsigned_payload": False,
    }
    return S3Store(
        storage.bucket,
        endpoint=endpoint,
        region=storage.region,
        virtual_hosted_style_request=not storage.path_style,
        credential_provider=provide,
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": CONNECT_TIMEOUT,
            "user_agent": "syncline",
            **_on_the_way(endpoint),
            **patience,
        },
        retry_config={"max_retries": 0, "retry_timeout": timedelta()},
        **config,
    )


def _on_the_way(endpoint: str) -> ClientConfig:
    """Return the proxy and the trusted certificates for storage: obstore would read proxy variables by rules of its
    own.
    """
    proxy, own = proxy_for(endpoint), own_certificates()
    through: ClientConfig = {"proxy_url": proxy or _NO_PROXY}
    if proxy is None:
        through["proxy_excludes"] = urllib.parse.urlsplit(endpoint).hostname or ""
    return {**through, "root_certificate": own} if own else through


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


_NO_PROXY: Final = "http://none.invalid"
"""A proxy that is never used. If it is set, obstore does not read the proxy from environment variables."""
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")

_TIMED_OUT = "kind: Timeout"
_WITHHELD: Final = frozenset({S3Error.ARCHIVED, S3Error.BAD_REQUEST, S3Error.KEY_REFUSED})
_UNTAGGED: Final = "untagged"
_DENIED: Final = "AccessDenied"
"""The code of a denial by policies. Invalid credentials have other codes, with the same status."""


def _answer(error: Exception) -> tuple[int, str]:
    """Return the HTTP status and S3's error code, which obstore gives as text only; 0 and "" if there was no answer."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    return int(status[1]) if status else 0, code[1] if code else ""


def _meaning(error: Exception) -> S3Error:
    status, code = _answer(error)
    return s3_error(code, status)


def _lasting(said: str, status: int, code: str) -> SynclineError:
    """Return the error to raise for a failure that a retry does not resolve."""
    if s3_error(code, status) is S3Error.CLOCK_SKEWED:
        return ClockWrong()
    if status in {401, 403}:
        return PermissionDenied(
            f"storage refuses access to this space ({code or status}); your role or device may have changed, try again"
        )
    return UnexpectedAnswer(f"storage failed ({said}); report it if it persists")


def _brief(error: Exception, status: int, code: str) -> str:
    if status:
        return f"{status} {code}".strip()
    first_line = str(error).split("\n", 1)[0]
    return first_line.rpartition(" - ")[2] or type(error).__name__
