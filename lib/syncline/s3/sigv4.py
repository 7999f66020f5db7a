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
from urllib.parse import quote, urlsplit

NO_BODY: Final = hashlib.sha256(b"").hexdigest()
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


class SigningCredentials(Protocol):
    """The credentials with which a request is signed, with the attributes that credentials have in the AWS SDK."""

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
        """`base` is the common prefix of the URLs, such as `https://bucket.s3.eu-west-1.amazonaws.com/`, and `region`
        the region of the bucket.
        """
        parts = urlsplit(base)
        self._base = base
        self._host = parts.netloc
        port = _DEFAULT_PORTS.get(parts.scheme, "")
        self._sent_host = parts.netloc.removesuffix(port) if port else parts.netloc
        """The host as browsers send it: without the default port."""
        self._path = parts.path
        self._region = region
        self._key: tuple[str, str, bytes] = ("", "", b"")
        self._token: tuple[str, str] = ("", "")
        """The last session token that was percent-encoded, and its encoded form."""

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
        """Return all headers of a request except `host`: the headers `signed`, whose names must be in lower case, and
        the headers that carry the signature by `credentials`.

        `key` is the percent-encoded rest of the URL below the base. `body_sha256` is the SHA-256 of the body in
        hexadecimal, by default that of an empty body. `now` is in seconds since 1970; None means the system's clock.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        headers = {**signed, "x-amz-content-sha256": body_sha256, "x-amz-date": moment}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names, listed = _canonical({"host": self._host, **headers})
        request = f"{method}\n{self._path}{key}\n\n{listed}\n{names}\n{body_sha256}"
        scope = self._scope(moment)
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={self._signature(request, credentials, moment)}"
        )
        return headers

    def address(
        self,
        key: str,
        signed: Mapping[str, str],
        *,
        credentials: SigningCredentials,
        method: str,
        seconds: int,
        now: float | None = None,
    ) -> str:
        """Return a URL whose query contains the signature of a request by `credentials`. Anybody who has the URL may
        send the request for `seconds`, with the headers `signed`, whose names must be in lower case, and with any body.

        `key` is the percent-encoded rest of the URL below the base. `now` is in seconds since 1970; None means the
        system's clock.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        names, listed = _canonical({"host": self._sent_host, **signed})
        parameters = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": quote(f"{credentials.access_key}/{self._scope(moment)}", safe=""),
            "X-Amz-Date": moment,
            "X-Amz-Expires": f"{seconds}",
            **({"X-Amz-Security-Token": self._encoded(credentials.token)} if credentials.token else {}),
            "X-Amz-SignedHeaders": names.replace(";", "%3B"),
        }
        query = "&".join([f"{name}={value}" for name, value in parameters.items()])
        request = f"{method}\n{self._path}{key}\n{query}\n{listed}\n{names}\nUNSIGNED-PAYLOAD"
        return f"{self._base}{key}?{query}&X-Amz-Signature={self._signature(request, credentials, moment)}"

    def _scope(self, moment: str) -> str:
        return f"{moment[:8]}/{self._region}/s3/aws4_request"

    def _signature(self, request: str, credentials: SigningCredentials, moment: str) -> str:
        """Return the signature of a canonical request."""
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{self._scope(moment)}\n{digest}"
        return hmac.digest(self._signing_key(credentials.secret_key or "", moment[:8]), text.encode(), "sha256").hex()

    def _encoded(self, token: str) -> str:
        """Return a session token percent-encoded; encoding its thousand characters takes longer than signing."""
        known, encoded = self._token  # read once, because another thread may set it
        if known != token:
            encoded = quote(token, safe="")
            self._token = token, encoded
        return encoded

    def _signing_key(self, secret: str, day: str) -> bytes:
        known_secret, known_day, key = self._key
        if (known_secret, known_day) != (secret, day):
            key = f"AWS4{secret}".encode()
            for step in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, step.encode(), "sha256")
            self._key = (secret, day, key)
        return key


def _canonical(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the names of the signed headers, and the headers as lines, in the form that is signed."""
    lines = sorted(headers.items())
    return ";".join([name for name, _ in lines]), "".join([f"{name}:{value}\n" for name, value in lines])
