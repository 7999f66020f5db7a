"""Spaces: creation of shared spaces, and the list of a user's spaces."""

from __future__ import annotations

import asyncio

from runtime.logs import structlog
from services.auth.aliases import PERSONAL, fold_alias, with_alias
from services.auth.derived import derived_id
from services.auth.holdings import HoldingLimits, decided_anew, is_own, limit_reached
from services.auth.ports import AccountStore, GateStore, SpaceStore
from services.auth.records import Account, Clock, Membership, SpaceRecord
from syncline.model.accounts import Role
from syncline.model.errors import InvalidArgument, NoSuchAccount, NoSuchSpace, RequestIdReused
from syncline.model.identifiers import RequestId, SpaceId, UserId

log = structlog.get_logger()


def personal_space(account: Account) -> SpaceRecord:
    """Return the personal space of a new account."""
    return SpaceRecord(account.personal_space, PERSONAL, personal=True, owners=1, created_at_ms=account.created_at_ms)


class Spaces:
    """Makes shared spaces, and lists the spaces of a user."""

    def __init__(
        self, spaces: SpaceStore, accounts: AccountStore, gates: GateStore, *, holdings: HoldingLimits, clock: Clock
    ) -> None:
        self._spaces = spaces
        self._accounts = accounts
        self._gates = gates
        self._holdings = holdings
        self._clock = clock

    async def create(self, *, user: UserId, request: RequestId, name: str) -> Membership:
        """Make a shared space that the user owns, and return it as the user sees it. A repeated `request` returns the
        space that it made before.

        - Raise InvalidArgument for the name of personal spaces, and NoSuchAccount if the account does not exist.
        - Raise RequestIdReused if the space of the earlier request has another name, and NoSuchSpace if the user has no
          grant in it any more.
        - Raise LimitReached if the user has made too many spaces, and Contended if concurrent additions come first too
          often.
        """
        if fold_alias(name) == PERSONAL:
            raise InvalidArgument(f"{PERSONAL!r} is the name of your own space; choose another")
        account = await self._accounts.account(user)
        if account is None:
            raise NoSuchAccount("this account does not exist any more; sign up again")
        space = SpaceRecord(
            SpaceId(derived_id("space", user, request)), name, personal=False, owners=1, created_at_ms=self._clock()
        )

        alias = await decided_anew(
            lambda: self._try_to_create(space, account), busy="you are making other spaces at the same time; try again"
        )
        if alias is not None:
            log.info("space created", user=user, space=space.space)
            return Membership(space.space, name, personal=False, role=Role.OWNER, alias=alias, by=user)
        found_space = await self._spaces.space_with_grants(space.space, user)
        if found_space is None or user not in found_space[1]:
            raise NoSuchSpace(space_id=space.space)
        made, grants = found_space
        if made.name != name:
            raise RequestIdReused
        return Membership(made.space, made.name, made.personal, grants[user].role, grants[user].alias)

    async def _try_to_create(self, space: SpaceRecord, owner: Account) -> str | None:
        """Add the space, and return the owner's alias for it; return None if the space exists already. Raise
        LimitReached if the owner has made too many spaces, and GateMoved if a concurrent addition came first.
        """
        gates = await self._gates.gates(f"spaces {owner.user}")
        found = await self._spaces.memberships(owner.user)
        own = sum(is_own(one, owner.user) and not one.personal for one in found)
        if own >= (most := self._holdings.spaces):
            if await self._spaces.space_with_grants(space.space) is not None:
                return None
            raise limit_reached(
                "spaces",
                f"you have made {most} spaces, as many as one person may have. "
                "Make somebody else owner of some that you do not need, and leave those",
            )

        async def create(alias: str) -> str | None:
            return alias if await self._spaces.create_space(space, owner=owner, alias=alias, gates=gates) else None

        return await with_alias(space.name, space.space, create)

    async def of_user(self, user: UserId) -> list[Membership]:
        """Return the spaces in which the user has a grant: the personal one, then the others by name. Grants without an
        alias get one.
        """
        found = await self._spaces.memberships(user)
        if any(one.alias is None for one in found):
            await self._give_aliases(user, [one for one in found if one.alias is None])
            found = await self._spaces.memberships(user)
        return sorted(found, key=lambda space: space.place)

    async def _give_aliases(self, user: UserId, nameless: list[Membership]) -> None:
        """Assign aliases to the grants `nameless` of a user, which were made before aliases existed. The oldest space
        comes first, so that the result is as if each alias had been assigned together with its grant.
        """
        found_space = await asyncio.gather(*(self._spaces.space_with_grants(one.space) for one in nameless))
        spaces = [found[0] for found in found_space if found is not None]
        for space in sorted(spaces, key=lambda space: (not space.personal, space.created_at_ms, space.space)):

            async def give(alias: str, *, space: SpaceRecord = space) -> None:
                await self._spaces.give_alias(space.space, user, alias)

            if space.personal:
                await give(PERSONAL)
            else:
                await with_alias(space.name, space.space, give)
