"""Ids and secrets derived from a mutation request, so that a repeated request makes the same space, key or link and
gets the same answer.

An id depends on the user and the request alone, so that nobody can choose the id of a space, key or link that another
user makes. A secret also depends on the secret of the services; only its digest is stored.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from syncline.model.identifiers import ID_BYTES, RequestId, UserId


def derived_id(kind: str, user: UserId, request: RequestId) -> str:
    """Return the id of the space, device or link that a user's mutation request makes; `kind` distinguishes several ids
    of one request.
    """
    digest = hashlib.sha256(_seed(kind, user, request)).digest()[:ID_BYTES]
    return base64.b32encode(digest).decode().rstrip("=").lower()


class DerivedSecrets:
    """Derives the secrets of new keys and links from requests. Only a process with `key`, the secret of the services,
    can do so.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def secret(self, kind: str, user: UserId, request: RequestId, *, size: int) -> str:
        """Return the secret that a user's mutation request makes: `size` bytes, at most 32, as unpadded base64url.
        `kind` distinguishes several secrets of one request.
        """
        return base64.urlsafe_b64encode(self.raw(kind, user, request, size=size)).decode().rstrip("=")

    def raw(self, kind: str, user: UserId, salt: bytes, *, size: int) -> bytes:
        """Return a secret of a user as `size` bytes, at most 32. `salt` is what distinguishes the secrets of one kind:
        the id of a request, or random bytes.
        """
        return hmac.digest(self._key, _seed(f"{kind} secret", user, salt), "sha256")[:size]


def _seed(kind: str, user: UserId, salt: bytes) -> bytes:
    return f"syncline {kind}\0{user}\0".encode() + salt
