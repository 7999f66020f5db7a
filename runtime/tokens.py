"""Verification of access tokens of people and of public links (Ed25519), and of the tokens by which services
authenticate to each other (HS256).

| token | signed with | issuer | audience | subject | other |
|---|---|---|---|---|---|
| access | Ed25519, key named by `kid` | syncline | syncline | user id | `dev`: device id; program: `knd`, `scp` |
| link | Ed25519, key named by `kid` | syncline | syncline | link id | `spc`: space, `nod`: node, `vis`: network |
| service | HS256, the shared secret | syncline | syncline-internal | `service:<name>` | lives 5 minutes |

The claim `knd` of a program is "program", and `scp` has the scopes of its key.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

import jwt
from cachetools import LRUCache

from runtime.claims import AUDIENCE, INTERNAL_AUDIENCE, SERVICE_PREFIX, Claims, read_claims
from runtime.identity import Identity
from runtime.permissions import CallerKind
from syncline.model.errors import TokenExpired, TokenInvalid, TokenMalformed
from syncline.model.identifiers import UserId

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    FetchKeys = Callable[[], Awaitable[Mapping[str, Ed25519PublicKey]]]

ISSUER: Final = "syncline"
SERVICE_TOKEN_SECONDS: Final = 300

_REFETCH_SECONDS = 10.0
_KEYS_MAX_AGE_SECONDS = 3600.0
_MAX_CACHED_TOKENS = 10_000


class TokenVerifier(Protocol):
    """Port that verifies the token that a call or request presents: an access token of a person or of a visitor of a
    public link, or the token of another service.
    """

    async def verify(self, token: str) -> Identity:
        """Return the identity that `token` proves, including the token.

        Raise TokenExpired, TokenMalformed or TokenInvalid, with a text for people, if the token is not valid, and
        Unavailable if that cannot be determined now. Called for every request, so a repeated token must be cheap.
        """


class UserTokenVerifier:
    """Verifies access tokens of people and of public links against the public keys of auth.

    `fetch_keys` returns all current keys by their ids, which tokens name as `kid`. `fetch_keys` is called for an
    unknown `kid`, at most every ten seconds, and once an hour so that a withdrawn key becomes invalid. An error of
    `fetch_keys` is raised to the caller of `verify` if the token's key is not known yet. `now` returns seconds since
    1970, and `monotonic` seconds of a clock that is never set back.
    """

    def __init__(
        self,
        fetch_keys: FetchKeys,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch_keys = fetch_keys
        self._now = now
        self._monotonic = monotonic
        self._keys: Mapping[str, Ed25519PublicKey] = {}
        self._fetched_at: float | None = None
        self._fetching = asyncio.Lock()
        self._verified: LRUCache[bytes, tuple[Identity, float, str]] = LRUCache(maxsize=_MAX_CACHED_TOKENS)

    async def verify(self, token: str) -> Identity:
        name = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(name)
        if known is not None:
            identity, expires_at, signer = known
            if expires_at <= self._now():
                del self._verified[name]
                raise TokenExpired("the access token has expired; refresh it or sign in again")
            if signer in self._keys and not self._keys_are_old():
                return identity
        claims = read_claims(token)
        if not claims.key_id:
            raise TokenMalformed("the access token names no key; sign in again")
        _prove(token, claims, await self._key(claims.key_id), algorithm="EdDSA", audience=AUDIENCE, now=self._now())
        identity = _identity(claims, token)
        self._verified[name] = (identity, claims.expires_at, claims.key_id)
        return identity

    async def _key(self, kid: str) -> Ed25519PublicKey:
        if kid not in self._keys or self._keys_are_old():
            async with self._fetching:  # The fetch that this caller waited for may have brought the key.
                if self._keys_are_old() or (kid not in self._keys and self._may_refetch()):
                    await self._refetch(needed=kid not in self._keys)
        try:
            return self._keys[kid]
        except KeyError:
            raise TokenInvalid("the access token is signed with an unknown key; sign in again") from None

    async def _refetch(self, *, needed: bool) -> None:
        try:
            self._keys = dict(await self._fetch_keys())
            self._fetched_at = self._monotonic()
        except Exception:
            if needed:
                raise
            # The cached keys suffice for now: fetch again in a while, not for every request.
            self._fetched_at = self._monotonic() - _KEYS_MAX_AGE_SECONDS + _REFETCH_SECONDS

    def _may_refetch(self) -> bool:
        return self._fetched_at is None or self._monotonic() - self._fetched_at >= _REFETCH_SECONDS

    def _keys_are_old(self) -> bool:
        return self._fetched_at is None or self._monotonic() - self._fetched_at >= _KEYS_MAX_AGE_SECONDS


class ServiceTokenVerifier:
    """Verifies service tokens against `secret`, which all services share. `now` returns seconds since 1970."""

    def __init__(self, secret: str, *, now: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._now = now
        self._verified: LRUCache[bytes, tuple[Identity, float]] = LRUCache(maxsize=_MAX_CACHED_TOKENS)

    async def verify(self, token: str) -> Identity:
        name = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(name)
        if known is not None and known[1] > self._now():
            return known[0]
        claims = read_claims(token)
        _prove(token, claims, self._secret, algorithm="HS256", audience=INTERNAL_AUDIENCE, now=self._now())
        identity = _identity(claims, token)
        self._verified[name] = (identity, claims.expires_at)
        return identity


class AnyTokenVerifier:
    """Verifies access tokens of people and of public links, and tokens of services. The algorithm in the token only
    selects the verifier, which accepts no other algorithm.
    """

    def __init__(self, *, users: TokenVerifier, services: TokenVerifier) -> None:
        self._users = users
        self._services = services

    async def verify(self, token: str) -> Identity:
        chosen = self._services if read_claims(token).algorithm == "HS256" else self._users
        return await chosen.verify(token)


def mint_service_token(name: str, secret: str, *, now: float | None = None) -> str:
    """Return a token that authenticates the service `name` to the others for five minutes from `now`, in seconds since
    1970; None for the present time. `secret` is the secret that all services share.
    """
    issued = int(time.time() if now is None else now)
    claims = {
        "iss": ISSUER,
        "aud": INTERNAL_AUDIENCE,
        "sub": f"{SERVICE_PREFIX}{name}",
        "iat": issued,
        "exp": issued + SERVICE_TOKEN_SECONDS,
    }
    return jwt.encode(claims, secret, algorithm="HS256")


def service_authorization(name: str, secret: str, *, now: Callable[[], float] = time.time) -> Callable[[], str]:
    """Return a function for the argument `authorization` of a gRPC channel. The function takes no argument and returns
    a service token of the service `name`, signed with `secret`. The function returns the same token until a minute
    before that token expires. `now` returns seconds since 1970.
    """
    token, renew_at = "", 0.0

    def current() -> str:
        nonlocal token, renew_at
        if now() >= renew_at:
            token = mint_service_token(name, secret, now=now())
            renew_at = now() + SERVICE_TOKEN_SECONDS - 60
        return token

    return current


def _prove(
    token: str, claims: Claims, key: Ed25519PublicKey | str, *, algorithm: str, audience: str, now: float
) -> None:
    """Raise TokenInvalid unless `key` has signed the token for `audience`, and TokenExpired if the token has expired at
    `now`, in seconds since 1970.

    `claims` are those of the token. An unproven token raises TokenInvalid even if it has expired.
    """
    try:
        jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=ISSUER,
            audience=audience,
            # Expiry is checked below against our clock; `iat` is not, because the clocks of two servers differ.
            options={"require": ["exp", "sub"], "verify_exp": False, "verify_iat": False},
        )
    except jwt.InvalidTokenError:
        raise TokenInvalid("the access token is not valid; sign in again") from None
    if claims.expires_at <= now:
        raise TokenExpired("the access token has expired; refresh it or sign in again")


def _identity(claims: Claims, token: str) -> Identity:
    """Return the identity in proven claims: a device, a public link or a service."""
    is_person = claims.link is None and claims.kind is not CallerKind.SERVICE
    return Identity(
        user=UserId(claims.subject if is_person else ""),
        device=claims.device,
        service=claims.subject.removeprefix(SERVICE_PREFIX) if claims.kind is CallerKind.SERVICE else None,
        link=claims.link,
        scopes=claims.scopes,
        visitor=claims.visitor,
        token=token,
        expires_at=claims.expires_at,
    )
