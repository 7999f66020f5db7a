"""Signs the one request of which there are many, a GET of a part of an object, with AWS's signature version 4.

The SDK signs any request, and takes longer for it than the network for the bytes. A test holds both to be equal.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Final, Protocol
from urllib.parse import urlsplit

_NO_BODY: Final = hashlib.sha256(b"").hexdigest()


class Credentials(Protocol):
    """As the SDK has them."""

    @property
    def access_key(self) -> str | None:
        """Its id."""

    @property
    def secret_key(self) -> str | None:
        """What is signed with."""

    @property
    def token(self) -> str | None:
        """Of temporary credentials."""


class GetSigner:
    """Headers for GETs below one address. What holds for a day is computed once a day."""

    def __init__(self, base: str, *, region: str) -> None:
        """`base` is what the addresses begin with, as S3 has it: `https://bucket.s3.eu-west-1.amazonaws.com/`."""
        parts = urlsplit(base)
        self._host = parts.netloc
        self._path = parts.path
        self._region = region
        self._key: tuple[str, str, bytes] = ("", "", b"")

    def headers(self, key: str, *, part: str, credentials: Credentials, now: float | None = None) -> dict[str, str]:
        """What a GET of `key`, encoded, and of the range `part` has besides `host`; `now` in seconds."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        headers = {"range": part, "x-amz-content-sha256": _NO_BODY, "x-amz-date": moment}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names = ";".join(["host", *headers])
        lines = "".join([f"{name}:{value}\n" for name, value in headers.items()])
        request = f"GET\n{self._path}{key}\n\nhost:{self._host}\n{lines}\n{names}\n{_NO_BODY}"
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
