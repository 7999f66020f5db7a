"""Quotas: the bytes that a space may hold, and those that all spaces of one person may hold together.

Each space counts for one of its owners, the payer: the one who made it, or whoever has taken it over. Metadata asks
here for bytes before the versions of a space take them, and gets some more than it needs, so that most commits ask for
nothing. What is reserved counts in full, so that the spaces of a person never hold more than the person's quota,
whichever processes change them at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from runtime.logs import structlog
from services.auth.holdings import decided_anew
from services.auth.ports import AccountStore, QuotaReached, ReservationMoved, ReservationStore, SpaceStore
from services.auth.records import Account, GrantRecord, Reservation, SpaceRecord
from syncline.model.accounts import Role
from syncline.model.errors import Contended, NoSuchSpace, Unavailable
from syncline.model.identifiers import SpaceId, UserId

MAX_RESERVE_BYTES: Final = 64 << 20
"""Maximum number of bytes that are reserved for a space beyond what was asked for."""
QUOTA_PARTS: Final = 1024
"""Number of parts of a quota of which at most one is reserved for a space beyond what was asked for, so that little of
a small quota lies in spaces that do not need it.
"""
_BUSY: Final = "other spaces of the same owner are growing at this moment; try again"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SpaceQuota:
    """The room for the versions of a space, in bytes.

    - `reserved_bytes` may be used without asking again.
    - `quota_bytes` could be reserved at most: the quota of the space, or what the payer's quota leaves for it if this
      is less.
    - `whole_quota_bytes` is the smaller one of both quotas, whatever other spaces take of the payer's.
    """

    reserved_bytes: int
    quota_bytes: int
    whole_quota_bytes: int


@dataclass(frozen=True, slots=True)
class PersonalUsage:
    """The quota of a person, None without one, and what is reserved of it for spaces, both in bytes."""

    quota_bytes: int | None
    reserved_bytes: int


@dataclass(frozen=True, slots=True)
class SpaceUsage:
    """The quota of a space by itself in bytes, whatever its payer's quota leaves, and what is reserved for it."""

    quota_bytes: int
    reservation: Reservation


class Quotas:
    """Reserves bytes for spaces, and tells what is reserved."""

    def __init__(
        self,
        reservations: ReservationStore,
        spaces: SpaceStore,
        accounts: AccountStore,
        *,
        space_bytes: int,
        user_bytes: int | None,
    ) -> None:
        """`space_bytes` is the quota of a space, and `user_bytes` that of a person, for which an administrator has set
        no other one; None for no quota of people. Both are in bytes.
        """
        self._reservations = reservations
        self._spaces = spaces
        self._accounts = accounts
        self.space_bytes = space_bytes
        self.user_bytes = user_bytes

    async def reserve(self, space: SpaceId, *, used_bytes: int, wanted_bytes: int) -> SpaceQuota:
        """Reserve `wanted_bytes` for a space in all, or nothing more if they do not fit, and return what the space may
        hold then. `used_bytes` are the sizes of its versions, which are reserved in any case.

        Raise NoSuchSpace if there is no such space, and Contended if concurrent changes come first too often.
        """
        attempt = partial(self._try_to_reserve, space, used_bytes=used_bytes, wanted_bytes=wanted_bytes)
        return await decided_anew(attempt, busy=_BUSY)

    async def of_space(self, space: SpaceId) -> SpaceQuota:
        """Return what a space may hold, as `reserve` does."""
        return await self.reserve(space, used_bytes=0, wanted_bytes=0)

    async def settle(self, space: SpaceId) -> None:
        """Make what is reserved for a space count for one of its owners, if it counts for somebody who is none any
        more. An error is only logged: the next call of `reserve` does the same.
        """
        try:
            await self.of_space(space)
        except (Contended, NoSuchSpace, Unavailable) as error:
            log.warning("the payer of a space is not settled yet", space=space, error=str(error))

    async def usage_of_users(self, accounts: Collection[Account]) -> Mapping[UserId, PersonalUsage]:
        """Return the quota of each account, and what is reserved of it."""
        taken = await self._reservations.reserved_for([one.user for one in accounts])
        return {one.user: PersonalUsage(self._of_account(one), taken.get(one.user, 0)) for one in accounts}

    async def usage_of_spaces(self, spaces: Collection[SpaceRecord]) -> Mapping[SpaceId, SpaceUsage]:
        """Return the quota of each space, and what is reserved for it."""
        found = await self._reservations.reservations([one.space for one in spaces])
        return {
            one.space: SpaceUsage(self._of_space(one), found.get(one.space, Reservation(one.space))) for one in spaces
        }

    async def _try_to_reserve(self, space: SpaceId, *, used_bytes: int, wanted_bytes: int) -> SpaceQuota:
        stored = (await self._reservations.reservations([space])).get(space, Reservation(space))
        found = await self._spaces.space_with_grants(space, *([stored.payer] if stored.payer is not None else []))
        if found is None:
            raise NoSuchSpace(space_id=space)
        record, grants = found
        payer = stored.payer
        if payer is None or not _owns(grants.get(payer)):
            payer = await self._another_payer(space)
        # Existing versions count in any case, and for a present owner: neither depends on a quota.
        reservation = replace(stored, payer=payer, reserved_bytes=max(stored.reserved_bytes, used_bytes))
        await self._reservations.change_reservation(stored, reservation, quota_bytes=None)
        left = await self._usage_of_payer(payer)
        quota = self._quota(record, reservation, left)
        if quota.quota_bytes < wanted_bytes:
            # The reservation and the sum were read one after the other, and may not belong together.
            if (await self._reservations.reservations([space])).get(space, reservation) != reservation:
                raise ReservationMoved
            return quota
        if wanted_bytes <= quota.reserved_bytes:
            return quota
        more = min(MAX_RESERVE_BYTES, quota.quota_bytes // QUOTA_PARTS)
        reserved = max(reservation.reserved_bytes, min(wanted_bytes + more, quota.quota_bytes))
        after = replace(reservation, reserved_bytes=reserved)
        try:
            await self._reservations.change_reservation(
                reservation, after, quota_bytes=left.quota_bytes if left is not None else None
            )
        except QuotaReached:  # another space has taken what was left
            raise ReservationMoved from None
        if left is not None:
            left = replace(left, reserved_bytes=left.reserved_bytes + reserved - reservation.reserved_bytes)
        return self._quota(record, after, left)

    async def _another_payer(self, space: SpaceId) -> UserId | None:
        """Return the owner for whom a space counts from now on: the one who made it if still an owner, otherwise the
        one who has been able to write there for longest. Return None if the space has no owner.
        """
        found = await self._spaces.members(space)
        owners = [grant for grant in found[1] if _owns(grant)] if found is not None else []
        return min(owners, key=lambda grant: (grant.writes_since_ms, grant.email)).user if owners else None

    async def _usage_of_payer(self, payer: UserId | None) -> PersonalUsage | None:
        """Return the usage of the payer of a space; None without a payer."""
        if payer is None:
            return None
        account, taken = await asyncio.gather(self._accounts.account(payer), self._reservations.reserved_for([payer]))
        return PersonalUsage(self._of_account(account), taken.get(payer, 0)) if account is not None else None

    def _quota(self, space: SpaceRecord, reservation: Reservation, payer: PersonalUsage | None) -> SpaceQuota:
        quota = whole = self._of_space(space)
        if payer is not None and payer.quota_bytes is not None:
            whole = min(whole, payer.quota_bytes)
            # Less than what is reserved, if the quota was made smaller than what the payer's spaces have.
            quota = min(quota, max(0, reservation.reserved_bytes + payer.quota_bytes - payer.reserved_bytes))
        return SpaceQuota(min(reservation.reserved_bytes, quota), quota, whole)

    def _of_space(self, space: SpaceRecord) -> int:
        return self.space_bytes if space.quota_bytes is None else space.quota_bytes

    def _of_account(self, account: Account) -> int | None:
        return self.user_bytes if account.quota_bytes is None else account.quota_bytes


def _owns(grant: GrantRecord | None) -> bool:
    return grant is not None and grant.role is Role.OWNER
