"""Values derived from a mutation request: done again, the request makes the same thing and is answered the same.

An id needs the request alone, so nobody can choose the id of what others make. A secret opens something, so it needs
the secret of the services as well; what is stored of it is its digest.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from syncline.model.identifiers import ID_BYTES, RequestId, UserId


def derived_id(kind: str, user: UserId, request: RequestId) -> str:
    """The id of what a user's request makes; `kind` keeps the things apart that one request could make."""
    digest = hashlib.sha256(_seed(kind, user, request)).digest()[:ID_BYTES]
    return base64.b32encode(digest).decode().rstrip("=").lower()


class DerivedSecrets:
    """Secrets that only who knows `key`, the secret of the services, can derive."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def secret(self, kind: str, user: UserId, request: RequestId, *, size: int) -> str:
        """`size` bytes, at most 32, as unpadded base64url."""
        raw = hmac.digest(self._key, _seed(f"{kind} secret", user, request), "sha256")[:size]
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _seed(kind: str, user: UserId, request: RequestId) -> bytes:
    return f"syncline {kind}\0{user}\0".encode() + request
