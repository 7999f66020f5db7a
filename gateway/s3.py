"""Objects in S3."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import ClientError as HttpError
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from yarl import URL

from core.blocks import KIB, MAX_OBJECT_BYTES, Digest, object_key
from core.errors import PermissionDenied, Unavailable
from core.identifiers import SpaceId
from gateway.ports import ObjectUnreadable, UploadAddress, WriteCredentials
from gateway.sigv4 import GetSigner
from runtime import aws

_ATTEMPTS: Final = 3
_GET_TIMEOUT: Final = ClientTimeout(sock_connect=5, sock_read=20)
_READ_AHEAD: Final = 4096 * KIB
"""Smaller, and reading stops and starts for each piece."""
_PUT_SECONDS: Final = 60
_CONNECTIONS: Final = 64
_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
"""Conflict: somebody is just putting the same object, and may fail."""
_DAMAGED: Final = frozenset({"BadDigest", "IncompleteBody", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"})
"""What S3 says of bytes that did not arrive as they were sent."""
_CODE: Final = re.compile(rb"<Code>(\w+)</Code>")
_THROTTLES: Final = frozenset({"SlowDown", "RequestLimitExceeded", "Throttling"})
_NOT_THERE: Final = frozenset({"AccessDenied", "InvalidRange", "NoSuchKey"})
"""AccessDenied is what S3 says of a missing key to a role that may not list the bucket, as the gateway's."""


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where a bucket is: at AWS, or at an endpoint with the bucket in the path."""

    bucket: str
    region: str
    endpoint: str | None

    def url(self, key: str) -> str:
        """The address of an object."""
        if self.endpoint is not None:
            return f"{self.endpoint.rstrip('/')}/{self.bucket}/{key}"
        return f"https://{self.bucket}.s3.{self.region}.amazonaws.com/{key}"


Signers = Callable[[], Awaitable[ReadOnlyCredentials]]
"""Gives the credentials to sign with now."""


class S3ObjectSource:
    """ObjectSource on the content bucket, in the gateway's own role.

    The SDK takes longer for the headers of a GET than the content takes to come, so it signs and does nothing else.
    """

    def __init__(self, http: ClientSession, credentials: Signers, place: S3Place) -> None:
        self._http = http
        self._credentials = credentials
        self._place = place
        self._signer = GetSigner(place.region)

    async def read(self, space: SpaceId, digest: Digest, *, offset: int, length: int) -> list[bytes]:
        """See ObjectSource."""
        parts = await self._get(object_key(space, digest), offset=offset, length=length)
        size = sum(map(len, parts))
        if size != length:
            raise ObjectUnreadable(f"object {digest.hex()} has {size} bytes from {offset}, not {length}")
        return parts

    async def read_all(self, space: SpaceId, digest: Digest) -> bytes:
        """See ObjectSource."""
        # One byte more than there may be tells of an object that is too large without reading it.
        data = b"".join(await self._get(object_key(space, digest), offset=0, length=MAX_OBJECT_BYTES + 1))
        if len(data) > MAX_OBJECT_BYTES:
            raise ObjectUnreadable(f"object {digest.hex()} is larger than any of ours")
        return data

    async def _get(self, key: str, *, offset: int, length: int) -> list[bytes]:
        url = self._place.url(key)

        async def send() -> tuple[int, list[bytes]]:
            part = f"bytes={offset}-{offset + length - 1}"
            headers = self._signer.headers(url, part=part, credentials=await self._credentials())
            async with self._http.get(
                URL(url, encoded=True), headers=headers, timeout=_GET_TIMEOUT, read_bufsize=_READ_AHEAD
            ) as answer:
                # As they come: joining them would hold and copy everything twice.
                return answer.status, [part async for part, _ in answer.content.iter_chunks()]

        status, parts = await _asked("GetObject", send)
        if status < HTTPStatus.BAD_REQUEST:
            return parts
        code = _code(parts)
        if code in _NOT_THERE or status == HTTPStatus.NOT_FOUND:
            raise ObjectUnreadable(f"S3 says {code or status} of {key}")
        raise RuntimeError(f"S3 answers {status} {code} to a GET of {key}")


class S3UploadAddresses:
    """UploadAddresses by presigned requests of the bucket."""

    def __init__(self, place: S3Place, *, now: Callable[[], float] = time.time) -> None:
        self._place = place
        self._now = now

    @property
    def origin(self) -> str:
        """See UploadAddresses."""
        parts = urlsplit(self._place.url(""))
        return f"{parts.scheme}://{parts.netloc}"

    def sign(
        self, credentials: WriteCredentials, *, space: SpaceId, digest: Digest, size: int, seconds: int
    ) -> UploadAddress:
        """See UploadAddresses."""
        headers = {"if-none-match": "*", "x-amz-checksum-sha256": base64.b64encode(digest).decode()}
        request = AWSRequest(
            method="PUT",
            url=self._place.url(object_key(space, digest)),
            # The length is signed too; browsers send it by themselves.
            headers={**headers, "content-length": str(size)},
        )
        signer = S3SigV4QueryAuth(
            Credentials(credentials.access_key_id, credentials.secret_access_key, credentials.session_token),
            "s3",
            self._place.region,
            expires=seconds,
        )
        signer.add_auth(request)
        expires_at_ms = min(int((self._now() + seconds) * 1000), credentials.expires_at_ms)
        return UploadAddress(str(request.url), headers, expires_at_ms)


class S3ObjectSink:
    """ObjectSink on the content bucket: one PUT for each object, with its checksum, only where there is none yet.

    A client of the SDK for each caller's credentials would take more memory and time than signing the one request that
    there is, so it is signed here and sent as it is.
    """

    def __init__(self, http: ClientSession, addresses: S3UploadAddresses) -> None:
        """`addresses` are those of S3 as we see it."""
        self._http = http
        self._addresses = addresses

    async def put(self, credentials: WriteCredentials, *, space: SpaceId, digest: Digest, data: bytes) -> None:
        """See ObjectSink."""

        async def send() -> tuple[int, list[bytes]]:
            address = self._addresses.sign(
                credentials, space=space, digest=digest, size=len(data), seconds=2 * _PUT_SECONDS
            )
            async with self._http.put(
                URL(address.url, encoded=True),
                data=data,
                headers=dict(address.headers),
                skip_auto_headers=["Content-Type"],
                timeout=ClientTimeout(total=_PUT_SECONDS),
            ) as answer:
                return answer.status, [await answer.read()]

        status, parts = await _asked("PutObject", send)
        if status < HTTPStatus.BAD_REQUEST or status == HTTPStatus.PRECONDITION_FAILED:
            return
        if status == HTTPStatus.FORBIDDEN:
            raise PermissionDenied("storage refuses access to this space; your role may have changed, try again")
        raise RuntimeError(f"S3 answers {status} {_code(parts)} to a PUT")


async def _asked(operation: str, send: Callable[[], Awaitable[tuple[int, list[bytes]]]]) -> tuple[int, list[bytes]]:
    """The status and body of S3's answer, asked again while what is wrong may pass; Unavailable if it does not."""
    for attempt in range(_ATTEMPTS):
        with aws.measured("s3", operation) as call:
            try:
                status, parts = await send()
            except (HttpError, TimeoutError, OSError):
                pass
            else:
                if status < HTTPStatus.BAD_REQUEST:
                    call.outcome = "ok"
                    return status, parts
                code = _code(parts)
                call.span.note(aws__error_code=code)
                if code in _THROTTLES:
                    call.outcome = "throttled"
                elif status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING and code not in _DAMAGED:
                    call.outcome = "refused"
                    return status, parts
        await asyncio.sleep(0.1 * 2**attempt)
    raise Unavailable("S3 does not answer; try again")


def _code(body: list[bytes]) -> str:
    """The code of an error of S3."""
    found = _CODE.search(b"".join(body))
    return found[1].decode() if found else ""


@asynccontextmanager
async def http() -> AsyncIterator[ClientSession]:
    """Connections to S3. What comes is taken as it is."""
    connector = TCPConnector(limit=_CONNECTIONS)
    async with ClientSession(connector=connector, auto_decompress=False, cookie_jar=DummyCookieJar()) as session:
        yield session
