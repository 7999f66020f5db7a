"""The rights of callers in spaces: metadata asks auth, and caches the answer for a few seconds for reads.

A removed member, a revoked device and a visitor of a link that has ended can therefore read for ten seconds at most.
For each write, metadata asks auth, so that such a caller's writes are refused at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from cachetools import TTLCache
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from runtime.identity import Identity
from runtime.interruption import REMEMBERED_SECONDS
from syncline.model.accounts import Role
from syncline.model.errors import DeviceRevoked, NoSuchSpace, PermissionDenied, SpaceDeleted, TokenExpired
from syncline.model.identifiers import LinkId, SpaceId

_MAX_REMEMBERED_RIGHTS: Final = 100_000
_Key: TypeAlias = tuple[SpaceId, str, str, LinkId | None]


@dataclass(frozen=True, slots=True)
class CallerRight:
    """A caller's right in a space: the role, None without a grant, and the time since which the caller may write.

    `writes_since_ms` is this time in milliseconds since 1970. It is 0 if the caller may not write, and if the caller
    made the space.
    """

    role: Role | None
    writes_since_ms: int = 0


class GrantSource(Protocol):
    """Source of the grants of callers."""

    async def right(self, space: SpaceId, caller: Identity) -> CallerRight:
        """Return the right of `caller`, a person or the visitor of a public link, in a space.

        Raise DeviceRevoked if the caller's device was revoked, TokenExpired if it has expired, SpaceDeleted if the
        caller is a member of the space and it is deleted, and Unavailable if auth does not answer.
        """


class Auth(GrantSource, Protocol):
    """The port to auth: grants of callers, and the keys that verify access tokens."""

    async def keys(self) -> Mapping[str, Ed25519PublicKey]:
        """Return the public keys that verify access tokens, by key id."""


class RoleCache:
    """Cache of the callers' roles in spaces. Refusals are not cached, so that a new or greater grant takes effect at
    once.
    """

    def __init__(
        self,
        grants: GrantSource,
        *,
        seconds: float = REMEMBERED_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`grants` is asked for a role that is not cached, `seconds` is the time for which a role is cached, and
        `monotonic` returns seconds.
        """
        self._grants = grants
        self._rights: TTLCache[_Key, CallerRight] = TTLCache(_MAX_REMEMBERED_RIGHTS, seconds, timer=monotonic)
        self._under_way: dict[_Key, asyncio.Task[CallerRight]] = {}
        self._waiting: dict[_Key, asyncio.Task[CallerRight]] = {}

    async def require(self, space: SpaceId, caller: Identity, role: Role, *, now: bool = False) -> CallerRight:
        """Check that `caller` has at least the role `role` in a space, and return the caller's right there. Raise
        NoSuchSpace if the caller has no grant, PermissionDenied if the caller's role is below `role`, and the errors of
        `GrantSource.right`.

        If `now` is True, the cache is not used: the result is auth's answer to a request that was sent after this call
        began.
        """
        link = caller.link
        if link is not None and link.space != space:
            raise NoSuchSpace(space_id=space)
        key = (space, caller.user, caller.device, link.link if link else None)
        has = None if now else self._rights.get(key)
        if has is None or has.role is None or has.role < role:
            has = await self._ask(key, caller)
        if has.role is None:
            raise NoSuchSpace(space_id=space)
        if has.role < role:
            raise PermissionDenied(
                f"as {has.role.name.lower()} you can read this space but not change it; ask an owner for another role"
            )
        return has

    async def writes_since_ms(self, space: SpaceId, caller: Identity, *, now: bool = False) -> int | None:
        """Return the time since which the caller may write (`CallerRight.writes_since_ms`), in milliseconds since 1970.
        Return None if the caller may not write. Raise NoSuchSpace if the caller has no grant. If `now` is True, the
        cache is not used.
        """
        try:
            return (await self.require(space, caller, Role.EDITOR, now=now)).writes_since_ms
        except PermissionDenied:
            return None

    async def _ask(self, key: _Key, caller: Identity) -> CallerRight:
        """Return auth's answer to a request that is sent after this call began.

        A request that is already in flight may have been answered before this call, so its answer is not used. All
        calls that arrive while a request is in flight share the next request.
        """
        question = self._waiting.get(key)
        if question is None:
            question = asyncio.create_task(self._question(key, caller, after=self._under_way.get(key)))
            # every caller may have been cancelled
            question.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._waiting[key] = question
        return await asyncio.shield(question)

    async def _question(self, key: _Key, caller: Identity, *, after: asyncio.Task[CallerRight] | None) -> CallerRight:
        if after is not None:
            await asyncio.wait([after])
        self._under_way[key] = self._waiting.pop(key)
        try:
            has = await self._grants.right(key[0], caller)
        except (DeviceRevoked, TokenExpired, SpaceDeleted):
            self._rights.pop(key, None)
            raise
        finally:
            del self._under_way[key]
        self._rights.pop(key, None)
        if has.role is not None:
            self._rights[key] = has
        return has
