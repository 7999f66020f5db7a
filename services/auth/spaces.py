"""Spaces: creation of shared spaces, and the list of a user's spaces."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from runtime.logs import structlog
from services.auth.aliases import PERSONAL, fold_alias, with_alias
from services.auth.audit.events import AuditKind, audit_event
from services.auth.deletions import error_without_grant, is_counted, is_forgotten
from services.auth.derived import derived_id
from services.auth.holdings import HoldingLimits, decided_anew, is_own, limit_reached
from services.auth.key_limits import limited_role
from services.auth.ports import GateStore, SpaceStore
from services.auth.records import Account, Clock, DeviceRecord, Membership, SpaceRecord
from syncline.model.accounts import Role
from syncline.model.errors import InvalidArgument, NoSuchSpace, RequestIdReused
from syncline.model.identifiers import RequestId, SpaceId, UserId

log = structlog.get_logger()

_FORGOTTEN_AT_ONCE: Final = 50


def personal_space(account: Account) -> SpaceRecord:
    """Return the personal space of a new account, of which a guest is no owner."""
    return SpaceRecord(
        account.personal_space,
        PERSONAL,
        personal=True,
        owners=int(personal_role(account) is Role.OWNER),
        created_at_ms=account.created_at_ms,
    )


def personal_role(account: Account) -> Role:
    """Return the role of a new account in its personal space. A guest only reads there, so that every service refuses
    to write by the rule that it has for all spaces.
    """
    return Role.VIEWER if account.guest else Role.OWNER


def check_space_name(name: str) -> None:
    """Raise InvalidArgument if `name` is the name of personal spaces, which no shared space may have."""
    if fold_alias(name) == PERSONAL:
        raise InvalidArgument(f"{PERSONAL!r} is the name of your own space; choose another", field="name")


@dataclass(frozen=True, slots=True)
class SpaceListing:
    """Spaces of a user, and `read`, the number of memberships that were read to find them."""

    spaces: list[Membership]
    read: int


class Spaces:
    """Makes shared spaces, and lists the spaces of a user."""

    def __init__(self, spaces: SpaceStore, gates: GateStore, *, holdings: HoldingLimits, clock: Clock) -> None:
        self._spaces = spaces
        self._gates = gates
        self._holdings = holdings
        self._clock = clock

    async def create(self, *, owner: Account, request: RequestId, name: str) -> Membership:
        """Make a shared space of `owner`, and return it as the owner sees it. A repeated `request` returns the
        space that it made before.

        - Raise InvalidArgument for the name of personal spaces.
        - Raise RequestIdReused if the earlier request was for another name, and NoSuchSpace if the owner has
          no grant in it any more, or if it is deleted.
        - Raise LimitReached if the owner has made too many spaces, and Contended if concurrent additions come first too
          often.
        """
        check_space_name(name)
        user = owner.user
        space = SpaceRecord(
            SpaceId(derived_id("space", user, request)), name, personal=False, owners=1, created_at_ms=self._clock()
        )

        alias = await decided_anew(
            lambda: self._try_to_create(space, owner), busy="you are making other spaces at the same time; try again"
        )
        if alias is not None:
            log.info("space created", user=user, space=space.space)
            return Membership(space.space, name, personal=False, role=Role.OWNER, alias=alias, by=user)
        found_space = await self._spaces.space_with_grants(space.space, user)
        if found_space is None or user not in found_space[1]:
            raise NoSuchSpace(space_id=space.space)
        made, grants = found_space
        if made.deletion is not None:
            raise error_without_grant(space.space, made.deletion, now_ms=self._clock())
        if (made.made_as or made.name) != name:
            raise RequestIdReused
        return Membership(made.space, made.name, made.personal, grants[user].role, grants[user].alias)

    async def _try_to_create(self, space: SpaceRecord, owner: Account) -> str | None:
        """Add the space, and return the owner's alias for it; return None if the space exists already. Raise
        LimitReached if the owner has made too many spaces, and GateMoved if a concurrent addition came first.
        """
        gates = await self._gates.gates(f"spaces {owner.user}")
        found = await self._spaces.memberships(owner.user)
        now = self._clock()
        own = sum(is_own(one, owner.user) and not one.personal and is_counted(one, now_ms=now) for one in found)
        if own >= (most := self._holdings.spaces):
            if await self._spaces.space_with_grants(space.space) is not None:
                return None
            raise limit_reached(
                "spaces",
                f"you have made {most} spaces, as many as one person may have. "
                "Make somebody else owner of some that you do not need, and leave those. A deleted one counts "
                "until it cannot be undeleted any more",
            )

        event = audit_event(AuditKind.SPACE_CREATED, at_ms=space.created_at_ms, space=space.space, name=space.name)

        async def create(alias: str) -> str | None:
            is_new = await self._spaces.create_space(space, owner=owner, alias=alias, gates=gates, events=[event])
            return alias if is_new else None

        return await with_alias(space.name, space.space, create)

    async def seen_by(self, device: DeviceRecord) -> SpaceListing:
        """Return the spaces that a device opens, each with the role that its user has by means of the device, in the
        order of `of_user`.
        """
        found = await self.of_user(device.user)
        if device.limits is None:
            return found
        opened = [one for one in found.spaces if device.limits.opens(one.space)]
        return replace(found, spaces=[replace(one, role=limited_role(one.role, device)) for one in opened])

    async def of_user(self, user: UserId) -> SpaceListing:
        """Return the spaces in which the user has a grant and that are not deleted: the personal one, then the others
        by name. Grants without an alias get one.
        """
        found = await self._memberships(user)
        nameless = [one for one in found if one.alias is None and one.deletion is None]
        if nameless:
            await self._give_aliases(user, nameless)
            found = await self._memberships(user)
        return _listing(found, (one for one in found if one.deletion is None))

    async def deleted_of(self, device: DeviceRecord) -> SpaceListing:
        """Return the deleted spaces that a device opens, and that its user owns and can undelete, by name."""
        now = self._clock()
        found = await self._memberships(device.user)
        owned = (one for one in found if one.role is Role.OWNER)
        deleted = (one for one in owned if one.deletion is not None and one.deletion.is_reversible(now))
        opened = (one for one in deleted if device.limits is None or device.limits.opens(one.space))
        return _listing(found, (replace(one, role=limited_role(one.role, device)) for one in opened))

    async def _memberships(self, user: UserId) -> list[Membership]:
        """Return the spaces in which the user has a grant, deleted or not. Remove some of those that nobody can
        undelete any more from the stored list, which would otherwise grow without bound.
        """
        now = self._clock()
        found = await self._spaces.memberships(user)
        forgotten = [one for one in found if is_forgotten(one, now_ms=now)][:_FORGOTTEN_AT_ONCE]
        await asyncio.gather(*(self._spaces.forget_membership(one.space, user) for one in forgotten))
        return found

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


def _listing(found: Sequence[Membership], chosen: Iterable[Membership]) -> SpaceListing:
    return SpaceListing(sorted(chosen, key=lambda space: space.place), len(found))
