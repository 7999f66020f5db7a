"""Authentication of the sender of a request: a program with a key as its password, or with a bearer token. Cookies are
never accepted.

Programs that mount folders send the same header with each request, so the result is cached; the spaces are cached for
as long as the services themselves cache rights.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from cachetools import LRUCache

from gateway.dav.refusals import DavRefused, refused_by
from gateway.dav.session import DavSpace, Person, by_alias
from gateway.identity.caller import KEY_PREFIX, Caller, KeyTokens, bearer
from gateway.services.calls import Services, ask, ask_pages
from runtime.interruption import REMEMBERED_SECONDS
from runtime.permissions import DAV, check_caller
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import Kind, SpaceDeleted, SynclineError
from syncline.model.identifiers import UserId

_MAX_REMEMBERED_KEYS: Final = 2000

NO_KEY: Final = (
    "sign in with your e-mail address and a key instead of the password of your account: make one in the settings of "
    "the web app"
)


@dataclass(slots=True)
class _Known:
    """Cached values about the holder of an access token."""

    spaces: dict[str, DavSpace]
    until: float


class Callers:
    """Authenticates the senders of requests."""

    def __init__(self, services: Services, keys: KeyTokens, *, now: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._keys = keys
        self._now = now
        self._known: LRUCache[bytes, _Known] = LRUCache(_MAX_REMEMBERED_KEYS)
        self._emails: LRUCache[bytes, str] = LRUCache(_MAX_REMEMBERED_KEYS)

    async def person(self, authorization: str | None, *, method: str, space: str) -> Person:
        """Return the person who sent this Authorization header, with the person's spaces. The spaces come from a cache,
        unless the cache lacks `space`, the alias in the address.

        Raise DavRefused with 401 for an unauthenticated sender, with 403 for a kind of caller that the method does not
        admit, with 404 for a deleted space, and with 405 for an unknown method.
        """
        callers = DAV.get(method)
        if callers is None:
            raise DavRefused(HTTPStatus.METHOD_NOT_ALLOWED, "WebDAV has no such method here")
        if authorization is None:
            raise DavRefused(HTTPStatus.UNAUTHORIZED, NO_KEY, reason="UNAUTHENTICATED")
        try:
            caller = await self._caller(authorization)
            claims = caller.claims
            check_caller(claims.kind, callers, scopes=claims.scopes)
            user, device = UserId(claims.subject), claims.device
            spaces = await self._spaces(caller.token, space)
            if space and space not in spaces:
                await self._refuse_deleted(caller.token, space)
            return Person(user, device, caller, spaces)
        except SynclineError as error:
            if error.kind is Kind.UNAUTHENTICATED:
                raise DavRefused(HTTPStatus.UNAUTHORIZED, f"{error}. {NO_KEY}", reason=error.reason) from error
            raise refused_by(error) from error

    async def _caller(self, authorization: str) -> Caller:
        """Return the caller on whose behalf the services are called. Raise DavRefused with 401 if the header is
        invalid, or if the key belongs to another account than the name in the header.
        """
        if authorization[:6].lower() != "basic ":
            token = bearer(authorization)
            return await self._keys.caller(token) if token.startswith(KEY_PREFIX) else Caller(token)
        try:
            pair = base64.b64decode(authorization[6:].strip(), validate=True).decode()
        except ValueError:  # invalid base64 or UTF-8, or text that is not ASCII
            raise DavRefused(HTTPStatus.UNAUTHORIZED, NO_KEY, reason="UNAUTHENTICATED") from None
        email, _, key = pair.partition(":")
        if not key.startswith(KEY_PREFIX):
            raise DavRefused(HTTPStatus.UNAUTHORIZED, NO_KEY, reason="UNAUTHENTICATED")
        caller = await self._keys.caller(bearer(f"Bearer {key}"))
        name = hashlib.sha256(key.encode()).digest()
        if name not in self._emails:
            answer = await ask(self._services.auth.GetAccount, auth_pb2.GetAccountRequest(), token=caller.token)
            self._emails[name] = answer.account.email
        if email.strip().casefold() != self._emails[name].casefold():
            raise DavRefused(
                HTTPStatus.UNAUTHORIZED,
                "the key belongs to another account; use a key of this one",
                reason="UNAUTHENTICATED",
            )
        return caller

    async def _spaces(self, token: str, space: str) -> dict[str, DavSpace]:
        name = hashlib.sha256(token.encode()).digest()
        known = self._known.get(name)
        if known is None or known.until < self._now() or space not in known.spaces:
            asked_at = self._now()  # the rights in the answer are from a moment after this
            pages = ask_pages(self._services.auth.ListSpaces, auth_pb2.ListSpacesRequest(), token=token)
            spaces = [found async for page in pages for found in page.spaces]
            known = self._known[name] = _Known(by_alias(spaces), asked_at + REMEMBERED_SECONDS)
        return known.spaces

    async def _refuse_deleted(self, token: str, alias: str) -> None:
        """Raise SpaceDeleted if `alias` is the caller's name for a deleted space that the caller owns."""
        async for page in ask_pages(
            self._services.auth.ListDeletedSpaces, auth_pb2.ListDeletedSpacesRequest(), token=token
        ):
            for one in page.spaces:
                if one.alias == alias:
                    raise SpaceDeleted.since(one.space_id, at_ms=one.deleted_at_ms, until_ms=one.restorable_until_ms)
