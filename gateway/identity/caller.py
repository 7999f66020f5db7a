"""Authentication of the sender of a request: a program by its bearer token, or a browser by its cookie.

| sent | is |
|---|---|
| `Authorization: Bearer <access token>` | an access token of a signed-in device |
| `Authorization: Bearer syk_...` | a key of a program |
| cookie `__Host-syncline` | the key of a browser |

A browser sends the cookie whichever page caused the request. A request that changes something must therefore also carry
`X-CSRF-Token`, which only our own page can have read, and must not come from another origin.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Final

from cachetools import LRUCache
from fastapi import Depends
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPBearer
from starlette.requests import Request

from gateway.identity.address import OwnAddress
from gateway.services.calls import Services, ask
from runtime.claims import MAX_TOKEN_CHARACTERS, Claims, read_claims
from runtime.permissions import ROUTES, CallerKind, check_caller
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import Kind, SynclineError, TokenMalformed, Unauthenticated

COOKIE: Final = "__Host-syncline"
KEY_PREFIX: Final = "syk_"
CSRF_HEADER: Final = "x-csrf-token"

_TOKEN: Final = re.compile(rf"[A-Za-z0-9._~+/-]{{1,{MAX_TOKEN_CHARACTERS}}}={{0,2}}")
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_RENEW_SECONDS: Final = 60.0
_MAX_REMEMBERED_TOKENS: Final = 10_000


class CrossSite(SynclineError):
    """The request did not come from a page of this site; reload the page and try again."""

    reason = "CSRF"
    kind = Kind.DENIED


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request, once identified. `token` is the access token with which the services are called, and
    `key` the key for which the token was exchanged; empty for a caller who sent an access token.
    """

    token: str = field(repr=False)
    key: str = field(default="", repr=False)
    browser: bool = False
    keys: KeyTokens | None = field(default=None, repr=False)

    @property
    def claims(self) -> Claims:
        """The claims of the token, which are unverified: each operation calls a service with the token, and the service
        verifies it.

        Raise TokenMalformed if the text is no token, and TokenInvalid if no issued token has such claims.
        """
        return read_claims(self.token)

    @property
    def kind(self) -> CallerKind:
        """The kind of caller that the token claims. Raise the errors of `claims`."""
        return self.claims.kind

    @property
    def expires_at(self) -> float:
        """The expiry time in the token, in seconds since 1970. Raise the errors of `claims`."""
        return self.claims.expires_at

    async def fresh(self) -> str:
        """Return an access token of the caller: for a caller with a key, one that is valid now; for any other caller,
        the one that the request carried. Operations that may last longer than one token is valid call this before each
        request. Raise the errors of `KeyTokens.caller`.
        """
        return await self.keys.token(self.key) if self.keys is not None and self.key else self.token


class KeyTokens:
    """Exchanges keys of programs and browsers for access tokens, each of which is cached until shortly before it
    expires.
    """

    def __init__(self, services: Services, *, now: Callable[[], float] = time.time) -> None:
        """`now` returns seconds since 1970."""
        self._services = services
        self._now = now
        self._tokens: LRUCache[bytes, asyncio.Task[tuple[str, float]]] = LRUCache(_MAX_REMEMBERED_TOKENS)

    async def caller(self, key: str, *, browser: bool = False) -> Caller:
        """Return the caller who presents a key, that of a browser if `browser`, otherwise that of a program. Raise
        Unauthenticated if the key is invalid or has expired, DeviceRevoked if it was revoked, and RateExceeded after
        too many exchanges.
        """
        return Caller(await self.token(key), key, browser=browser, keys=self)

    async def token(self, key: str) -> str:
        """Return an access token of the device that a key belongs to. Raise the errors of the method `caller`."""
        name = hashlib.sha256(key.encode()).digest()
        asking = self._tokens.get(name)
        if asking is None or (asking.done() and self._stale(asking)):
            asking = self._tokens[name] = asyncio.create_task(self._exchange(key))
            asking.add_done_callback(partial(self._drop_failed, name))
        # Several requests may wait for one exchange; cancelling one of them does not affect the others.
        token, _ = await asyncio.shield(asking)
        return token

    def forget(self, key: str) -> None:
        """Drop the cached token of a key that was signed out."""
        self._tokens.pop(hashlib.sha256(key.encode()).digest(), None)

    def _drop_failed(self, name: bytes, asked: asyncio.Task[tuple[str, float]]) -> None:
        """Remove the failed exchange of a key from the cache. Its exception would keep the frames of the call in
        memory, and keys that were made up would displace valid ones from the cache. `name` is the key of the cache.
        """
        if (asked.cancelled() or asked.exception() is not None) and self._tokens.get(name) is asked:
            del self._tokens[name]

    def _stale(self, asked: asyncio.Task[tuple[str, float]]) -> bool:
        # The callback that drops a failed exchange may not have run yet.
        return asked.cancelled() or asked.exception() is not None or asked.result()[1] <= self._now()

    async def _exchange(self, key: str) -> tuple[str, float]:
        answer: auth_pb2.ExchangeKeyResponse = await ask(
            self._services.auth.ExchangeKey, auth_pb2.ExchangeKeyRequest(key=key)
        )
        return answer.tokens.access_token, answer.tokens.access_expires_at_ms / 1000 - _RENEW_SECONDS


async def identified(request: Request) -> str:
    """Return the access token of the sender of a request, after auth has accepted it. Raise Unauthenticated if there is
    none, and the errors of auth.
    """
    found = await _sender(request)
    # Any call verifies a token; this one is open to every caller who may send a large body, people and their programs,
    # and has a constant cost.
    await ask(services_of(request).auth.GetAccount, auth_pb2.GetAccountRequest(), token=found.token)
    return found.token


def csrf_token(key: str) -> str:
    """Return the CSRF token that belongs to the cookie with this key. The token is derived from the key, and reveals
    nothing about the key.
    """
    digest = hmac.digest(key.encode(), b"syncline csrf", hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


_bearer = HTTPBearer(
    scheme_name="bearer", auto_error=False, description="An access token, or a key made by `POST /v1/keys`."
)
_cookie = APIKeyCookie(name=COOKIE, scheme_name="browser", auto_error=False, description="Set by signing in.")
_csrf = APIKeyHeader(
    name=CSRF_HEADER, scheme_name="csrf", auto_error=False, description="With the cookie, for all but GET and HEAD."
)


async def caller(
    request: Request,
    _documented: Annotated[object, Depends(_bearer)],
    _too: Annotated[object, Depends(_cookie)],
    _also: Annotated[object, Depends(_csrf)],
) -> Caller:
    """Return the sender of a request as the caller. The other arguments only describe the request for OpenAPI.

    - Raise Unauthenticated if nobody is signed in.
    - Raise CrossSite for a request that another site's page has made the browser send.
    - Raise PermissionDenied if the operation does not admit this kind of caller.
    """
    found = await _sender(request)
    check_route(request, found)
    return found


def check_route(request: Request, caller: Caller) -> None:
    """Raise PermissionDenied if the requested operation does not admit this kind of caller."""
    claims = caller.claims
    check_caller(claims.kind, ROUTES.get(request.scope["endpoint"].__name__), scopes=claims.scopes)


async def _sender(request: Request) -> Caller:
    keys: KeyTokens = request.app.state.keys
    authorization = request.headers.get("authorization")
    if authorization is not None:
        token = bearer(authorization)
        if token.startswith(KEY_PREFIX):
            return await keys.caller(token)
        return Caller(token)
    key = request.cookies.get(COOKIE, "")
    if not _TOKEN.fullmatch(key):
        raise Unauthenticated("nobody is signed in: send `Authorization: Bearer <access token>`, or sign in")
    check_origin(request)
    if request.method not in _SAFE and not hmac.compare_digest(
        request.headers.get(CSRF_HEADER, "").encode(), csrf_token(key).encode()
    ):
        raise CrossSite
    return await keys.caller(key, browser=True)


def bearer(authorization: str) -> str:
    """Return the token in an Authorization header. Raise Unauthenticated if the header has another scheme or no token,
    and TokenMalformed if the token has characters or a length that no token has.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("an access token is needed: `Authorization: Bearer <access token>`")
    if not _TOKEN.fullmatch(token.strip()):
        raise TokenMalformed(
            "the header `authorization` contains no token, or one that is too long; send one as it was issued"
        )
    return token.strip()


def check_origin(request: Request) -> None:
    """Raise CrossSite if the browser's headers name another site as the origin of the request."""
    origin = request.headers.get("origin")
    if request.method not in _SAFE and origin is not None and not _is_ours(request, origin):
        raise CrossSite
    if request.headers.get("sec-fetch-site", "same-origin") == "cross-site" and (
        request.method not in _SAFE or request.headers.get("sec-fetch-mode") != "navigate"
    ):
        raise CrossSite


def _is_ours(request: Request, origin: str) -> bool:
    own: OwnAddress = request.app.state.own
    try:
        return own.of(request).is_ours(origin)
    except ValueError:  # for example "null"
        return False


def services_of(request: Request) -> Services:
    """Return the services that the application of this request calls."""
    found: Services = request.app.state.services
    return found


Signed = Annotated[Caller, Depends(caller)]
GatewayServices = Annotated[Services, Depends(services_of)]
