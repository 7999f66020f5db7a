"""Requests for objects to S3, signed by S3's time if the clock of this device is wrong.

S3 refuses requests whose time is more than a quarter of an hour off. Signing then goes by the time that S3 states, as
the AWS SDKs do.
"""

from __future__ import annotations

import base64
import re
import urllib.parse
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from syncline.model.blocks import KIB, Digest
from syncline.s3.clock import ServerClock
from syncline.s3.sigv4 import NO_BODY, Signer
from syncline.sdk.bounded_http import HttpAnswer, HttpOrigin
from syncline.sdk.credentials import S3Credentials
from syncline.transfer.rate_limit import Limit

SILENCE_SECONDS: Final = 30.0
"""Maximum time in seconds without a byte of the answer to a GET, after which the connection counts as dead."""
GET_SECONDS: Final = 60.0
"""Time in seconds that each GET may take, besides the time for its bytes."""
MIN_GET_BYTES_PER_SECOND: Final = KIB
"""Speed in bytes per second at which the body of a GET has to arrive on average. The minimum is low, because all
requests of a device share one line.
"""
MAX_GET_SECONDS: Final = 30 * 60.0
_CODE: Final = re.compile(rb"<Code>(\w{1,64})</Code>")
_REGION: Final = re.compile(r"[a-z0-9-]{1,32}")
UNTAGGED: Final = "untagged"
"""The tag of an object without an ETag."""


class StorageRefused(Exception):
    """S3 answered with an error or a redirect. `status` is the HTTP status. `code` is S3's own code, and empty if the
    answer has none. `region` is the region of the bucket, and empty if S3 does not state it.
    """

    def __init__(self, answer: HttpAnswer) -> None:
        self.status = answer.status
        code = _CODE.search(answer.body)
        self.code = code[1].decode(errors="replace") if code else ""
        region = _REGION.fullmatch(answer.headers.get("x-amz-bucket-region", ""))
        self.region = region[0] if region else ""
        super().__init__(f"{self.status} {self.code}".strip())


class _Signing(NamedTuple):
    access_key: str
    secret_key: str
    token: str


class SignedRequests:
    """Requests for objects below one URL. Usable from any thread. All methods raise StorageRefused for an answer of S3
    that is no success, and OSError if no complete answer arrives in time.
    """

    def __init__(self, base: str, *, region: str, clock: ServerClock) -> None:
        """`base` is the common prefix of the URLs of objects, `region` the region of their bucket, and `clock` the time
        by which requests are signed.
        """
        self._path = urllib.parse.urlsplit(base).path
        self._origin = HttpOrigin(base)
        self._signer = Signer(base, region=region)
        self._clock = clock

    def put(self, key: str, digest: Digest, data: bytes, *, credentials: S3Credentials, seconds: float) -> bool:
        """Store `data`, whose SHA-256 is `digest`, as the object with the key `key`, the percent-encoded rest of its
        URL. Return True if the object was stored, and False if it exists already. Raise TimeoutError if the request
        takes longer than `seconds`.
        """
        headers = {"if-none-match": "*", "x-amz-checksum-sha256": base64.b64encode(digest).decode()}
        target, signed = self._sign("PUT", key, headers, credentials, body_sha256=digest.hex())
        answer = self._origin.request("PUT", target, signed, data, max_bytes=0, seconds=seconds)
        if answer.status == HTTPStatus.PRECONDITION_FAILED:
            return False
        _check(answer)
        return True

    def get(
        self,
        key: str,
        *,
        credentials: S3Credentials,
        max_bytes: int,
        span: tuple[int, int] | None = None,
        limit: Limit | None = None,
    ) -> memoryview:
        """Return the bytes of the object with this key, or its bytes [start, stop) if `span` is given. If there are
        more than `max_bytes` bytes, return `max_bytes` + 1 of them. With `limit`, the bytes are read no faster than the
        limit permits.
        """
        return memoryview(self._get(key, credentials, max_bytes, span, limit).body)

    def tag(self, key: str, *, credentials: S3Credentials) -> str:
        """Return the ETag of the object with this key; UNTAGGED if S3 states none."""
        # GET and not HEAD, whose errors have no code
        return self._get(key, credentials, 1, (0, 1), None).headers.get("etag", UNTAGGED)

    def correct_clock(self) -> None:
        """Ask S3 for its time, and sign by that time from now on. Raise OSError if S3 does not state its time."""
        answer = self._origin.request("HEAD", self._path, {}, max_bytes=0, seconds=SILENCE_SECONDS)
        if not self._clock.hear(answer.headers.get("date", "")):
            raise OSError("S3 does not say what time it is")

    def _get(
        self,
        key: str,
        credentials: S3Credentials,
        max_bytes: int,
        span: tuple[int, int] | None,
        limit: Limit | None,
    ) -> HttpAnswer:
        headers = {"range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
        target, signed = self._sign("GET", key, headers, credentials)
        answer = self._origin.request(
            "GET",
            target,
            signed,
            max_bytes=max_bytes,
            seconds=min(GET_SECONDS + max_bytes / MIN_GET_BYTES_PER_SECOND, MAX_GET_SECONDS),
            silence_seconds=SILENCE_SECONDS,
            take=limit.take if limit else None,
        )
        _check(answer)
        return answer

    def _sign(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        credentials: S3Credentials,
        *,
        body_sha256: str = NO_BODY,
    ) -> tuple[str, dict[str, str]]:
        """Return the target of a request for an object, and its headers with the signature."""
        encoded = urllib.parse.quote(key)
        signed = self._signer.headers(
            encoded,
            headers,
            method=method,
            body_sha256=body_sha256,
            credentials=_Signing(credentials.access_key_id, credentials.secret_access_key, credentials.session_token),
            now=self._clock.now(),
        )
        return f"{self._path}{encoded}", signed


def _check(answer: HttpAnswer) -> None:
    if not answer.is_success:
        raise StorageRefused(answer)
