"""Verification of tokens: people's access tokens (Ed25519) and the tokens by which services know each other (HS256).

| token | signed with | issuer | audience | subject | other |
|---|---|---|---|---|---|
| access | Ed25519, key named by `kid` | syncline | syncline | user id | `dev`: device id, `knd`: "program" |
| link | Ed25519, key named by `kid` | syncline | syncline | link id | `spc`: space, `nod`: node, `vis`: network |
| service | HS256, the shared secret | syncline | syncline-internal | `service:<name>` | lives 5 minutes |
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import jwt
from cachetools import LRUCache

from runtime.claims import INTERNAL_AUDIENCE, claimed_kind
from runtime.identity import Identity, LinkScope
from runtime.permissions import CallerKind
from syncline.model.errors import InvalidArgument, TokenExpired, TokenInvalid, TokenMalformed
from syncline.model.identifiers import DeviceId, LinkId, NodeId, SpaceId, UserId, parse_id, parse_text_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    FetchKeys = Callable[[], Awaitable[Mapping[str, Ed25519PublicKey]]]

ISSUER: Final = "syncline"
AUDIENCE: Final = "syncline"
SERVICE_TOKEN_SECONDS: Final = 300

_SERVICE_PREFIX = "service:"
_REFETCH_SECONDS = 10.0
_KEYS_MAX_AGE_SECONDS = 3600.0
_CACHED_TOKENS = 10_000


class TokenVerifier(Protocol):
    """Tells who presented a token."""

    async def verify(self, token: str) -> Identity:
        """The identity that `token` proves, with the token in it.

        Raises TokenExpired, TokenMalformed or TokenInvalid, with a text fit for people, if it proves none, and
        Unavailable if that cannot be found out now. Called for every request, so it must be cheap for a token seen
        before.
        """


class UserTokenVerifier:
    """Verifies access tokens, of people and of public links, against a key set that is fetched when needed.

    `fetch_keys` returns all current keys by `kid`. It is called for a `kid` not known, though at most every ten
    seconds, and once an hour so that a withdrawn key stops counting. Its errors pass through if the key is not known.
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
        self._verified: LRUCache[bytes, tuple[Identity, float, str]] = LRUCache(maxsize=_CACHED_TOKENS)

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
        kid = _header(token).get("kid")
        if not isinstance(kid, str):
            raise TokenMalformed("the access token names no key; sign in again")
        claims = _claims(token, await self._key(kid), algorithm="EdDSA", audience=AUDIENCE, now=self._now())
        identity = _identity(claims, token)
        self._verified[name] = (identity, float(claims["exp"]), kid)
        return identity

    async def _key(self, kid: str) -> Ed25519PublicKey:
        if kid not in self._keys or self._keys_are_old():
            async with self._fetching:  # A caller who waited here finds the answer of the one before.
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
            # The keys at hand will do for now: ask again in a while, not with every request.
            self._fetched_at = self._monotonic() - _KEYS_MAX_AGE_SECONDS + _REFETCH_SECONDS

    def _may_refetch(self) -> bool:
        return self._fetched_at is None or self._monotonic() - self._fetched_at >= _REFETCH_SECONDS

    def _keys_are_old(self) -> bool:
        return self._fetched_at is None or self._monotonic() - self._fetched_at >= _KEYS_MAX_AGE_SECONDS


class ServiceTokenVerifier:
    """Verifies service tokens against the shared secret."""

    def __init__(self, secret: str, *, now: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._now = now
        self._verified: LRUCache[bytes, tuple[Identity, float]] = LRUCache(maxsize=_CACHED_TOKENS)

    async def verify(self, token: str) -> Identity:
        name = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(name)
        if known is not None and known[1] > self._now():
            return known[0]
        claims = _claims(token, self._secret, algorithm="HS256", audience=INTERNAL_AUDIENCE, now=self._now())
        subject = str(claims["sub"])
        if not subject.startswith(_SERVICE_PREFIX):
            raise TokenInvalid("the token names no service")
        identity = Identity(
            user=UserId(""),
            device=DeviceId(""),
            service=subject.removeprefix(_SERVICE_PREFIX),
            token=token,
            expires_at=float(claims["exp"]),
        )
        self._verified[name] = (identity, float(claims["exp"]))
        return identity


class AnyTokenVerifier:
    """Takes both sorts of tokens. The algorithm only picks the verifier, which accepts no other."""

    def __init__(self, *, users: TokenVerifier, services: TokenVerifier) -> None:
        self._users = users
        self._services = services

    async def verify(self, token: str) -> Identity:
        chosen = self._services if _header(token).get("alg") == "HS256" else self._users
        return await chosen.verify(token)


def mint_service_token(name: str, secret: str, *, now: float | None = None) -> str:
    """A token by which the service `name` is known to the others for five minutes from `now` (seconds)."""
    issued = int(time.time() if now is None else now)
    claims = {
        "iss": ISSUER,
        "aud": INTERNAL_AUDIENCE,
        "sub": f"{_SERVICE_PREFIX}{name}",
        "iat": issued,
        "exp": issued + SERVICE_TOKEN_SECONDS,
    }
    return jwt.encode(claims, secret, algorithm="HS256")


def service_authorization(name: str, secret: str, *, now: Callable[[], float] = time.time) -> Callable[[], str]:
    """For `authorization=` of a channel: a service token, minted anew when less than a minute is left."""
    token, renew_at = "", 0.0

    def current() -> str:
        nonlocal token, renew_at
        if now() >= renew_at:
            token = mint_service_token(name, secret, now=now())
            renew_at = now() + SERVICE_TOKEN_SECONDS - 60
        return token

    return current


def _header(token: str) -> dict[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except jwt.InvalidTokenError:
        raise TokenMalformed("the access token is malformed; sign in again") from None


def _claims(
    token: str,
    key: Ed25519PublicKey | str,
    *,
    algorithm: str,
    audience: str,
    now: float,
) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=ISSUER,
            audience=audience,
            # Expiry is checked below against our clock; `iat` is not, since the clocks of two servers differ.
            options={
                "require": ["exp", "sub"],
                "verify_exp": False,
                "verify_iat": False,
            },
        )
        expires_at = float(claims["exp"])
    except (jwt.InvalidTokenError, TypeError, ValueError):
        raise TokenInvalid("the access token is not valid; sign in again") from None
    if expires_at <= now:
        raise TokenExpired("the access token has expired; refresh it or sign in again")
    return claims


def _identity(claims: Mapping[str, Any], token: str) -> Identity:
    """Whom the claims of an access token name: a device or a public link, and never both."""
    kind = claimed_kind(claims)
    if "knd" in claims and kind is not CallerKind.PROGRAM:
        raise TokenInvalid("the access token is not valid; sign in again")
    if kind is not CallerKind.VISITOR:
        return Identity(
            user=UserId(_text_id(claims, "sub")),
            device=DeviceId(_text_id(claims, "dev")),
            program=kind is CallerKind.PROGRAM,
            token=token,
            expires_at=float(claims["exp"]),
        )
    if "dev" in claims:
        raise TokenInvalid("the access token is not valid; sign in again")
    scope = LinkScope(LinkId(_text_id(claims, "sub")), SpaceId(_text_id(claims, "spc")), _node_id(claims, "nod"))
    visitor = str(claims.get("vis", ""))
    return Identity(
        user=UserId(""),
        device=DeviceId(""),
        link=scope,
        visitor=visitor,
        token=token,
        expires_at=float(claims["exp"]),
    )


def _text_id(claims: Mapping[str, Any], name: str) -> str:
    try:
        return parse_text_id(str(claims.get(name, "")), what=name)
    except InvalidArgument:
        raise TokenInvalid("the access token is not valid; sign in again") from None


def _node_id(claims: Mapping[str, Any], name: str) -> NodeId:
    try:
        return NodeId(parse_id(bytes.fromhex(str(claims.get(name, ""))), what=name))
    except (InvalidArgument, ValueError):
        raise TokenInvalid("the access token is not valid; sign in again") from None
