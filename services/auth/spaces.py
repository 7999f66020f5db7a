"""Spaces: making shared ones, and listing the ones that a user is in."""

from __future__ import annotations

import base64
import hashlib

from core.errors import InvalidArgument, NoSuchAccount, NoSuchSpace, RequestIdReused
from core.identifiers import ID_BYTES, RequestId, SpaceId, UserId
from runtime.logs import structlog
from services.auth.ports import AccountStore, SpaceStore
from services.auth.records import Account, Clock, Membership, Role, Space

log = structlog.get_logger()

PERSONAL = "personal"
"""The name of everyone's personal space, which no shared space may take."""


def personal_space(account: Account) -> Space:
    """The space that an account begins with."""
    return Space(account.personal_space, PERSONAL, personal=True, owners=1, created_at_ms=account.created_at_ms)


def created_space_id(user: UserId, request: RequestId) -> SpaceId:
    """The id of the space that a request makes: repeated, it names the same one, and nobody can choose another's."""
    digest = hashlib.sha256(b"syncline space\0" + user.encode() + b"\0" + request).digest()[:ID_BYTES]
    return SpaceId(base64.b32encode(digest).decode().rstrip("=").lower())


class Spaces:
    """The spaces of users."""

    def __init__(self, spaces: SpaceStore, accounts: AccountStore, *, clock: Clock) -> None:
        self._spaces = spaces
        self._accounts = accounts
        self._clock = clock

    async def create(self, *, user: UserId, request: RequestId, name: str) -> Membership:
        """Make a shared space that the user owns, or return the one that this request made before.

        Raises RequestIdReused if that one has another name, and NoSuchSpace if the user has left it since.
        """
        if name.casefold() == PERSONAL:
            raise InvalidArgument(f"{PERSONAL!r} is the name of your own space; choose another")
        account = await self._accounts.account(user)
        if account is None:
            raise NoSuchAccount("this account is no longer there")
        space = Space(created_space_id(user, request), name, personal=False, owners=1, created_at_ms=self._clock())
        if await self._spaces.create_space(space, owner=account):
            log.info("space created", user=user, space=space.space)
            return Membership(space.space, name, personal=False, role=Role.OWNER)
        standing = await self._spaces.standing(space.space, user)
        if standing is None or user not in standing[1]:
            raise NoSuchSpace
        made, grants = standing
        if made.name != name:
            raise RequestIdReused
        return Membership(made.space, made.name, made.personal, grants[user].role)

    async def of_user(self, user: UserId) -> list[Membership]:
        """The spaces that the user has a grant in: the personal one, then the others by name."""
        found = await self._spaces.memberships(user)
        return sorted(found, key=lambda space: (not space.personal, space.name.casefold(), space.space))
