"""Access tokens: short-lived Ed25519 JWTs, and the keys that sign and verify them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from runtime.claims import AUDIENCE, PROGRAM
from runtime.identity import LinkScope
from runtime.tokens import ISSUER
from services.auth.records import SECOND_MS, Clock
from syncline.model.accounts import KeyScope
from syncline.model.identifiers import DeviceId, UserId
from syncline.model.limits import ACCESS_TOKEN_SECONDS, LINK_TOKEN_SECONDS


class UnusableKey(OSError):
    """A key file cannot be read as an Ed25519 key, so the service cannot start."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token as text, and the time at which it expires, `expires_at_ms`, in milliseconds since 1970."""

    text: str = field(repr=False)
    expires_at_ms: int
    lifetime_ms: int
    """Lifetime in milliseconds, from the time of issue."""


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The key that signs access tokens, `current` with the id `kid`, and all public keys that verify them, by their
    ids.

    To rotate keys, start auth with the new key as `current` and the old one as `previous` (`from_files`). Remove
    `previous` a day later.
    """

    kid: str
    current: Ed25519PrivateKey = field(repr=False)
    public: Mapping[str, Ed25519PublicKey]

    @classmethod
    def of(cls, current: Ed25519PrivateKey, *previous: Ed25519PublicKey) -> SigningKeys:
        """Return keys that sign with `current`, and verify with `current` and with `previous`."""
        public = {key_id(key): key for key in (current.public_key(), *previous)}
        return cls(key_id(current.public_key()), current, public)

    @classmethod
    def from_files(cls, current: Path, previous: Path | None = None) -> SigningKeys:
        """Return the keys in PEM files: `current` holds the private key that signs. `previous` holds the preceding key,
        private or public, which only verifies; None for no such key. Raise UnusableKey if a file cannot be read as an
        Ed25519 key.
        """
        signer = _read_key(current)
        if not isinstance(signer, Ed25519PrivateKey):
            raise UnusableKey(f"{current} holds a public key; a private one is needed to sign")
        if previous is None:
            return cls.of(signer)
        old = _read_key(previous)
        return cls.of(signer, old.public_key() if isinstance(old, Ed25519PrivateKey) else old)

    async def fetch(self) -> Mapping[str, Ed25519PublicKey]:
        """Return the public keys by their ids, for a verifier in the same process."""
        return self.public


class AccessTokens:
    """Signs access tokens."""

    def __init__(self, keys: SigningKeys, *, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def issue(
        self, *, user: UserId, device: DeviceId, scopes: Collection[KeyScope] = (), until_ms: int | None = None
    ) -> AccessToken:
        """Return a token that authenticates the user's device for 15 minutes, or until `until_ms`, in milliseconds
        since 1970, if that is sooner.

        `scopes` are those of the key of a program, and empty for other devices. The token of a program is valid only
        for operations that are open to one of its scopes.
        """
        named = {"sub": user, "dev": device} | ({"knd": PROGRAM, "scp": _claim(scopes)} if scopes else {})
        return self._sign(named, ACCESS_TOKEN_SECONDS * SECOND_MS, until_ms)

    def issue_for_link(self, scope: LinkScope, *, peer: str, until_ms: int | None = None) -> AccessToken:
        """Return a token with the access of a public link, valid for 12 hours, or until `until_ms`, in milliseconds
        since 1970, if that is sooner.

        `peer` is the network from which the link was opened. Visitors from one network count as one caller.
        """
        visitor = hashlib.sha256(f"{scope.link} {peer}".encode()).hexdigest()[:16]
        claims = {"sub": scope.link, "spc": scope.space, "nod": scope.node.hex(), "vis": visitor}
        # The lifetime is long, because a visitor could renew the token only by entering the password again. That is
        # safe: each use checks whether the link is still valid.
        return self._sign(claims, LINK_TOKEN_SECONDS * SECOND_MS, until_ms)

    def _sign(self, named: Mapping[str, str], lifetime_ms: int, until_ms: int | None) -> AccessToken:
        issued = self._clock() // SECOND_MS
        expires = issued + lifetime_ms // SECOND_MS
        if until_ms is not None:
            expires = min(expires, until_ms // SECOND_MS)
        claims = {"iss": ISSUER, "aud": AUDIENCE, **named, "iat": issued, "exp": expires}
        text = jwt.encode(claims, self._keys.current, algorithm="EdDSA", headers={"kid": self._keys.kid})
        return AccessToken(text, expires * SECOND_MS, max(0, (expires - issued) * SECOND_MS))


def _claim(scopes: Collection[KeyScope]) -> str:
    return " ".join(scope.value for scope in KeyScope if scope in scopes)


def raw_public_key(key: Ed25519PublicKey) -> bytes:
    """Return the 32 bytes of a public key."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def key_id(key: Ed25519PublicKey) -> str:
    """Return the key's JWK thumbprint (RFC 7638 with RFC 8037)."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(raw_public_key(key))}
    return _base64url(hashlib.sha256(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()).digest())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read_key(path: Path) -> Ed25519PrivateKey | Ed25519PublicKey:
    pem = path.read_bytes()
    try:
        key = (
            serialization.load_pem_private_key(pem, password=None)
            if b"PRIVATE KEY" in pem
            else serialization.load_pem_public_key(pem)
        )
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        raise UnusableKey(f"{path} holds no Ed25519 key in PEM")
    return key
