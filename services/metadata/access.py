"""The right of a caller in a space: asked of auth, and for reads remembered for a few seconds.

So a member who is removed, a device that is revoked, and a visitor of a link that has ended, read nothing more
within ten seconds, and change nothing more from that moment on.
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
from syncline.model.errors import DeviceRevoked, NoSuchSpace, PermissionDenied, TokenExpired
from syncline.model.identifiers import LinkId, SpaceId

_REMEMBERED: Final = 100_000
_Key: TypeAlias = tuple[SpaceId, str, str, LinkId | None]


@dataclass(frozen=True, slots=True)
class Standing:
    """A caller's role in a space, None without a grant.

    `writes_since_ms` is when the right to write that the role includes was given (see CheckAccessResponse).
    """

    role: Role | None
    writes_since_ms: int = 0


class GrantSource(Protocol):
    """Source of the grants of callers."""

    async def standing(self, space: SpaceId, caller: Identity) -> Standing:
        """Return the standing of a person or a public link; its role is None without a grant.

        Raise DeviceRevoked, TokenExpired for an expired device, or Unavailable if auth does not answer.
        """


class Auth(GrantSource, Protocol):
    """The port by which metadata asks auth."""

    async def keys(self) -> Mapping[str, Ed25519PublicKey]:
        """The public keys that verify access tokens, by key id."""


class RoleCache:
    """The caller's role in a space. A refusal is never remembered, so that a new or greater grant holds at once."""

    def __init__(
        self,
        grants: GrantSource,
        *,
        seconds: float = REMEMBERED_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """A role is remembered for `seconds`."""
        self._grants = grants
        self._standings: TTLCache[_Key, Standing] = TTLCache(_REMEMBERED, seconds, timer=monotonic)
        self._under_way: dict[_Key, asyncio.Task[Standing]] = {}
        self._waiting: dict[_Key, asyncio.Task[Standing]] = {}

    async def require(self, space: SpaceId, caller: Identity, role: Role, *, now: bool = False) -> Standing:
        """The caller's standing, at least this role; else NoSuchSpace (no grant at all) or PermissionDenied.

        With `now` it is what auth answers after this call has begun, not what is remembered.
        """
        link = caller.link
        if link is not None and link.space != space:
            raise NoSuchSpace(space_id=space)
        key = (space, caller.user, caller.device, link.link if link else None)
        has = None if now else self._standings.get(key)
        if has is None or has.role is None or has.role < role:
            has = await self._ask(key, caller)
        if has.role is None:
            raise NoSuchSpace(space_id=space)
        if has.role < role:
            raise PermissionDenied(f"as {has.role.name.lower()} you can look at this space but not change it")
        return has

    async def writes_since_ms(self, space: SpaceId, caller: Identity, *, now: bool = False) -> int | None:
        """Return the time since which the caller may write (see CheckAccessResponse); None if they may not. Raise
        NoSuchSpace. `now` is as in `require`.
        """
        try:
            return (await self.require(space, caller, Role.EDITOR, now=now)).writes_since_ms
        except PermissionDenied:
            return None

    async def _ask(self, key: _Key, caller: Identity) -> Standing:
        """Return the answer of auth to a question that is sent from now on.

        The answer to a question that is under way may be from before this call. So calls that come meanwhile share
        the next question.
        """
        question = self._waiting.get(key)
        if question is None:
            question = asyncio.create_task(self._question(key, caller, after=self._under_way.get(key)))
            question.add_done_callback(lambda done: done.cancelled() or done.exception())  # everyone may have given up
            self._waiting[key] = question
        return await asyncio.shield(question)

    async def _question(self, key: _Key, caller: Identity, *, after: asyncio.Task[Standing] | None) -> Standing:
        if after is not None:
            await asyncio.wait([after])
        self._under_way[key] = self._waiting.pop(key)
        try:
            has = await self._grants.standing(key[0], caller)
        except (DeviceRevoked, TokenExpired):
            self._standings.pop(key, None)
            raise
        finally:
            del self._under_way[key]
        self._standings.pop(key, None)
        if has.role is not None:
            self._standings[key] = has
        return has
