"""Signs requests for objects in S3 with AWS's signature version 4.

The SDK can sign any request, which takes longer than transferring the bytes. A test compares these signatures with the
SDK's.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

NO_BODY: Final = hashlib.sha256(b"").hexdigest()


class SigningCredentials(Protocol):
    """The credentials that sign a request, in the form of the AWS SDK."""

    @property
    def access_key(self) -> str | None:
        """The access key id, which is sent with the request."""

    @property
    def secret_key(self) -> str | None:
        """The secret access key, which signs the request and is not sent."""

    @property
    def token(self) -> str | None:
        """The session token of temporary credentials; None for long-term ones."""


class Signer:
    """Signs requests below one base URL. Values that are constant for a day are computed once a day."""

    def __init__(self, base: str, *, region: str) -> None:
        """`base` is the common prefix of the URLs: `https://bucket.s3.eu-west-1.amazonaws.com/`."""
        parts = urlsplit(base)
        self._host = parts.netloc
        self._path = parts.path
        self._region = region
        self._key: tuple[str, str, bytes] = ("", "", b"")

    def headers(
        self,
        key: str,
        signed: Mapping[str, str],
        *,
        credentials: SigningCredentials,
        method: str = "GET",
        body_sha256: str = NO_BODY,
        now: float | None = None,
    ) -> dict[str, str]:
        """Return the headers of a request for `key` (percent-encoded) besides `host`: the headers `signed`, in lower
        case, and those of the signature.

        `now` is in seconds since 1970, by default those of the system's clock.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        headers = {**signed, "x-amz-content-sha256": body_sha256, "x-amz-date": moment}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        lines = sorted([("host", self._host), *headers.items()])
        names = ";".join([name for name, _ in lines])
        listed = "".join([f"{name}:{value}\n" for name, value in lines])
        request = f"{method}\n{self._path}{key}\n\n{listed}\n{names}\n{body_sha256}"
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signing_key = self._signing_key(credentials.secret_key or "", moment[:8])
        signature = hmac.digest(signing_key, text.encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return headers

    def _signing_key(self, secret: str, day: str) -> bytes:
        known_secret, known_day, key = self._key
        if (known_secret, known_day) != (secret, day):
            key = f"AWS4{secret}".encode()
            for step in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, step.encode(), "sha256")
            self._key = (secret, day, key)
        return key
