"""Objects in S3."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from botocore.credentials import ReadOnlyCredentials

from aws.session import measured
from gateway.ports import ObjectTooLarge, ObjectUnreadable, UploadAddress, WriteCredentials
from gateway.storage.http1 import BodyTooLarge, Origin, RawResponse
from gateway.storage.segments import Segments
from runtime.pool import Share
from syncline.model.blocks import MIB, Digest, object_key
from syncline.model.errors import PermissionDenied, Unavailable
from syncline.model.identifiers import SpaceId
from syncline.model.retry_policy import RetryPolicy
from syncline.s3.clock import ServerClock
from syncline.s3.errors import PASSING, S3Error, s3_error
from syncline.s3.sigv4 import Signer

_RETRIES = RetryPolicy(max_attempts=3, first_pause_seconds=0.1, max_pause_seconds=0.4)
_GET_SILENCE_SECONDS: Final = 20
_PUT_SECONDS: Final = 60
MAX_CONNECTIONS: Final = 64
"""Maximum number of concurrent requests to S3 of one gateway; further ones wait."""
_KEPT_MEMORY_BYTES: Final = 24 * MIB
"""Bytes of segments that are kept for reuse: about two downloads at full speed."""
_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")
_NOT_THERE: Final = frozenset({S3Error.DENIED, S3Error.BAD_RANGE, S3Error.MISSING})
"""Codes of S3's errors for a missing object. A role that may not list the bucket, such as the gateway's, gets the code
for a denied access in place of that for a missing key.
"""


@dataclass(frozen=True, slots=True)
class S3Place:
    """The location of the bucket: at AWS, or at another endpoint with the bucket's name in the path."""

    bucket: str
    region: str
    endpoint: str | None

    def url(self, key: str) -> str:
        """Return the URL of the object with this key."""
        if self.endpoint is not None:
            return f"{self.endpoint.rstrip('/')}/{self.bucket}/{key}"
        return f"https://{self.bucket}.s3.{self.region}.amazonaws.com/{key}"


Signers = Callable[[], Awaitable[ReadOnlyCredentials]]
"""Coroutine function without arguments that returns the S3 credentials for signing a request now."""


class S3ObjectSource:
    """Implements ObjectSource on the content bucket, in the gateway's own role.

    The SDK is used only to find credentials: for a GET it takes longer than the transfer of the content.
    """

    def __init__(self, origin: Origin, credentials: Signers, place: S3Place) -> None:
        self._origin = origin
        self._credentials = credentials
        self._place = place
        self._signer = Signer(place.url(""), region=place.region)
        self._clock = ServerClock()

    async def read(
        self, space: SpaceId, digest: Digest, *, offset: int, length: int, share: Share
    ) -> Sequence[memoryview]:
        parts = await self._get(space, digest, offset=offset, length=length, share=share)
        size = sum(map(len, parts))
        if size != length:
            raise ObjectUnreadable(f"object {digest.hex()} has {size} bytes from {offset}, not {length}")
        return parts

    async def read_all(self, space: SpaceId, digest: Digest, *, most: int, share: Share) -> bytes:
        # one extra byte reveals an object that is too large
        data = b"".join(await self._get(space, digest, offset=0, length=most + 1, share=share))
        if len(data) > most:
            raise ObjectTooLarge(f"object {digest.hex()} has more than {most} bytes")
        return data

    async def _get(
        self, space: SpaceId, digest: Digest, *, offset: int, length: int, share: Share
    ) -> Sequence[memoryview]:
        key = object_key(space, digest)
        url = self._place.url(key)

        async def send() -> RawResponse:
            part = f"bytes={offset}-{offset + length - 1}"
            headers = self._signer.headers(
                key, {"range": part}, credentials=await self._credentials(), now=self._clock.now()
            )
            return await self._origin.request(
                "GET", url, headers, share=share, most=length, silence=_GET_SILENCE_SECONDS
            )

        try:
            answer = await _asked("GetObject", send, self._clock)
        except BodyTooLarge as error:
            raise ObjectUnreadable(f"object {digest.hex()} comes as {error}") from None
        if answer.status < HTTPStatus.BAD_REQUEST:
            return answer.body
        code = _code(answer)
        if s3_error(code, answer.status) in _NOT_THERE or answer.status == HTTPStatus.NOT_FOUND:
            raise ObjectUnreadable(f"S3 says {code or answer.status} of object {digest.hex()}")
        raise RuntimeError(f"S3 answers {answer.status} {code} to a GET of object {digest.hex()}")


class S3UploadAddresses:
    """Implements UploadAddresses by presigned requests to the bucket.

    The SDK is not used, because it signs a hundred addresses in tens of milliseconds, in which the event loop does
    nothing else.
    """

    def __init__(self, place: S3Place, *, now: Callable[[], float] = time.time) -> None:
        self._place = place
        self._now = now
        self._signer = Signer(place.url(""), region=place.region)

    @property
    def origin(self) -> str:
        parts = urlsplit(self._place.url(""))
        return f"{parts.scheme}://{parts.netloc}"

    def sign(
        self, credentials: WriteCredentials, *, space: SpaceId, digest: Digest, size: int, seconds: int
    ) -> UploadAddress:
        headers = {"if-none-match": "*", "x-amz-checksum-sha256": base64.b64encode(digest).decode()}
        now = self._now()
        url = self._signer.address(
            object_key(space, digest),
            {**headers, "content-length": str(size)},  # browsers send the length by themselves
            credentials=_signing(credentials),
            method="PUT",
            seconds=seconds,
            now=now,
        )
        return UploadAddress(url, headers, min(int((now + seconds) * 1000), credentials.expires_at_ms))


class S3ObjectSink:
    """Implements ObjectSink on the content bucket: one conditional PUT per object, with its checksum.

    An SDK client for each caller's credentials would take more memory and time than signing the single request, so the
    request is signed and sent here.
    """

    def __init__(self, origin: Origin, place: S3Place) -> None:
        """`place` is the location of the bucket as the gateway reaches it."""
        self._origin = origin
        self._place = place
        self._signer = Signer(place.url(""), region=place.region)
        self._clock = ServerClock()

    async def put(
        self, credentials: WriteCredentials, *, space: SpaceId, digest: Digest, data: bytes, share: Share
    ) -> None:
        key = object_key(space, digest)
        signed = {"if-none-match": "*", "x-amz-checksum-sha256": base64.b64encode(digest).decode()}
        signing = _signing(credentials)

        async def send() -> RawResponse:
            headers = self._signer.headers(
                key, signed, method="PUT", body_sha256=digest.hex(), credentials=signing, now=self._clock.now()
            )
            async with asyncio.timeout(_PUT_SECONDS):
                return await self._origin.request(
                    "PUT", self._place.url(key), headers, share=share, body=data, most=0, silence=_PUT_SECONDS
                )

        answer = await _asked("PutObject", send, self._clock)
        if answer.status < HTTPStatus.BAD_REQUEST or answer.status == HTTPStatus.PRECONDITION_FAILED:
            return
        if answer.status == HTTPStatus.FORBIDDEN:
            raise PermissionDenied("storage refuses access to this space; your role may have changed, try again")
        raise RuntimeError(f"S3 answers {answer.status} {_code(answer)} to a PUT")


def _signing(credentials: WriteCredentials) -> ReadOnlyCredentials:
    """Return a caller's S3 credentials in the SDK's form."""
    return ReadOnlyCredentials(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)


async def _asked(operation: str, send: Callable[[], Awaitable[RawResponse]], clock: ServerClock) -> RawResponse:
    """Return S3's answer to the request that `send` sends; transient errors are retried. `operation` names the request
    in messages, and `clock` learns S3's time from the answers. Raise Unavailable if the errors persist.
    """
    for pause in _RETRIES.pauses():
        with measured("s3", operation) as call:
            try:
                answer = await send()
            except OSError:  # includes TimeoutError
                pass
            else:
                status = answer.status
                if status < HTTPStatus.BAD_REQUEST:
                    call.outcome = "ok"
                    return answer
                code = _code(answer)
                call.span.note(aws__error_code=code)
                meaning = s3_error(code, status)
                if meaning is S3Error.CLOCK_SKEWED and clock.hear(answer.date):
                    call.outcome = "refused"
                    continue
                if meaning is S3Error.THROTTLED:
                    call.outcome = "throttled"
                elif meaning not in PASSING:
                    call.outcome = "refused"
                    return answer
        await asyncio.sleep(pause)
    raise Unavailable("S3 does not answer; try again")


def _code(refusal: RawResponse) -> str:
    """Return the code in an error answer of S3."""
    found = _CODE.search(b"".join(refusal.body))
    return found[1].decode() if found else ""


def origin(place: S3Place) -> Origin:
    """Return the origin to which requests for the bucket go."""
    return Origin(place.url(""), connections=MAX_CONNECTIONS, memory=Segments(_KEPT_MEMORY_BYTES))
