"""Opaque tokens: random texts that stand for a right of whoever presents them. Only their digests are stored."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

TOKEN_BYTES: Final = 32
"""Number of random bytes of a token."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """Return a new token for a mail or a link: 43 characters of base64url that stand for 256 random bits. It does not
    begin with '-', with which the options of a command begin.
    """
    while (token := secrets.token_urlsafe(TOKEN_BYTES)).startswith("-"):
        pass
    return token


def is_token(text: str) -> bool:
    """Return True if a presented text has the form of a result of `new_token`."""
    return _TOKEN.fullmatch(text) is not None


def token_digest(text: str) -> bytes:
    """Return the digest that is stored instead of a token, a key, or the token of a public link: SHA-256. All of these
    have so many random bits that nobody finds them from their digests.
    """
    return hashlib.sha256(text.encode()).digest()
