"""Grants: the roles of people in spaces, and the rules for changing them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from runtime.logs import structlog
from services.auth.aliases import with_alias
from services.auth.devices import DeviceState, check_signed_in, device_state
from services.auth.holdings import KEPT_FOR_KNOWN, HoldingLimits, decided_anew, is_full, is_own, limit_reached
from services.auth.ports import AccessStore, AccountStore, GateStore, RequestStore, SpaceStore
from services.auth.records import Account, Clock, DeviceRecord, Done, Gate, GrantRecord, SpaceRecord
from syncline.model.accounts import Access, Role
from syncline.model.errors import (
    LastOwner,
    NoSuchAccount,
    NoSuchSpace,
    PermissionDenied,
    RequestIdReused,
)
from syncline.model.identifiers import DeviceId, RequestId, SpaceId, UserId

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CheckedAccess:
    """The answer to the question of another service about a caller: the caller's role in a space, and the state of the
    caller's device.
    """

    role: Role | None
    device: DeviceState = DeviceState.SIGNED_IN
    """The state of the device in the question; SIGNED_IN if the question names none."""
    writes_since_ms: int = 0
    """The time since which the member may write, in milliseconds since 1970; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class CheckedMany:
    """The answer of `Grants.check_many`: the spaces in which the user has a role, and the state of each device, among
    the spaces and devices in the question.
    """

    spaces: Sequence[SpaceId]
    devices: Mapping[DeviceId, DeviceState]


def decide_role(
    space: SpaceRecord, *, caller: GrantRecord | None, target: GrantRecord | None, to: Role | None, oneself: bool
) -> None:
    """Check that a caller may change the role of a person, the target, to `to`. None for `to` removes the grant.
    `caller` and `target` are the present grants of both; None for a person without one. `oneself` is True if the target
    is the caller: anybody may leave a space.

    - Raise NoSuchSpace if the caller has no grant.
    - Raise PermissionDenied if the caller's role does not allow the change or the space is personal.
    - Raise LastOwner if no owner would remain.
    """
    if caller is None:
        raise NoSuchSpace(space_id=space.space)
    if space.personal:
        raise PermissionDenied("a personal space cannot be shared")
    if caller.role is not Role.OWNER and not (oneself and to is None):
        raise PermissionDenied("only an owner can change members; ask an owner")
    if target is not None and target.role is Role.OWNER and to is not Role.OWNER and space.owners == 1:
        raise LastOwner


async def require(
    store: AccessStore, space: SpaceId, access: Access, *, user: UserId, device: DeviceId, now_ms: int
) -> tuple[GrantRecord, DeviceRecord]:
    """Check that the caller has `access`, to read or to write, to a space. Return the caller's grant and device.

    `user` and `device` are the caller, and `now_ms` is the present time in milliseconds since 1970.

    - Raise TokenExpired if the device has expired.
    - Raise DeviceRevoked if the device was revoked, does not exist, or belongs to another user.
    - Raise NoSuchSpace if the user has no grant.
    - Raise PermissionDenied if the user's role does not allow the access.
    """
    grant, found = await store.access(space, user=user, device=device)
    signed_in = check_signed_in(found, user=user, now_ms=now_ms)
    if grant is None:
        raise NoSuchSpace(space_id=space)
    if not grant.role.allows(access):
        raise PermissionDenied("your role in this space only lets you read; ask an owner for another one")
    return grant, signed_in


class Grants:
    """Checks, lists and changes the roles of people in spaces."""

    def __init__(
        self,
        spaces: SpaceStore,
        accounts: AccountStore,
        access: AccessStore,
        requests: RequestStore,
        gates: GateStore,
        *,
        holdings: HoldingLimits,
        clock: Clock,
    ) -> None:
        self._spaces = spaces
        self._accounts = accounts
        self._access = access
        self._requests = requests
        self._gates = gates
        self._holdings = holdings
        self._clock = clock

    async def check(self, space: SpaceId, *, user: UserId, device: DeviceId | None) -> CheckedAccess:
        """Return the user's role in the space, and the state of `device`, if it is not None. Without a grant, the role
        is None.
        """
        grant, found = await self._access.access(space, user=user, device=device)
        return CheckedAccess(
            grant.role if grant is not None else None,
            device_state(found, user=user, now_ms=self._clock()) if device is not None else DeviceState.SIGNED_IN,
            grant.writes_since_ms if grant is not None else 0,
        )

    async def check_many(
        self, spaces: Collection[SpaceId], *, user: UserId, devices: Collection[DeviceId]
    ) -> CheckedMany:
        """Return the spaces, among `spaces`, in which the user has a role, and the state of each of `devices`."""
        grants, found = await self._access.accesses([(space, user) for space in spaces], devices)
        now = self._clock()
        return CheckedMany(
            [space for space in spaces if (space, user) in grants],
            {device: device_state(found.get(device), user=user, now_ms=now) for device in devices},
        )

    async def writers(
        self, space: SpaceId, devices: Collection[DeviceId], *, user: UserId, device: DeviceId
    ) -> list[DeviceId]:
        """Return those of `devices` that are signed in and whose users may write in the space.

        The caller is `user` with `device`, who must be allowed to read the space; otherwise raise the errors of
        `require`.
        """
        now = self._clock()
        await require(self._access, space, Access.READ, user=user, device=device, now_ms=now)
        _, found = await self._access.accesses([], devices)
        signed_in = {
            one.device: one.user
            for one in found.values()
            if device_state(one, user=one.user, now_ms=now) is DeviceState.SIGNED_IN
        }
        grants, _ = await self._access.accesses([(space, holder) for holder in set(signed_in.values())], [])
        writers = {holder for (_, holder), grant in grants.items() if _writes(grant.role)}
        return [one for one, holder in signed_in.items() if holder in writers]

    async def members(self, space: SpaceId, *, asking: UserId | None) -> tuple[SpaceRecord, list[GrantRecord]]:
        """Return a space and its grants, sorted by e-mail address. `asking` is the calling user; None if another
        service asks. Raise NoSuchSpace if the space does not exist, or if the calling user has no grant in it.
        """
        found = await self._spaces.members(space)
        if found is None or (asking is not None and all(grant.user != asking for grant in found[1])):
            raise NoSuchSpace(space_id=space)
        return found[0], sorted(found[1], key=lambda grant: grant.place)

    async def set(self, space: SpaceId, *, request: RequestId, caller: UserId, email: str, role: Role) -> GrantRecord:
        """Set the role of the account with this e-mail address in a space, and return the new grant. `caller` is the
        user who asks for the change, and `request` the id of the request: a repetition has no further effect.

        - Raise NoSuchSpace, PermissionDenied or LastOwner if the caller may not make this change (`decide_role`).
        - Raise NoSuchAccount for an unknown address.
        - Raise LimitReached if a new grant exceeds a limit of the space, the member or the caller.
        - Raise RequestIdReused if the caller has used the request id for another change.
        - Raise Contended if concurrent changes come first too often.
        """
        member = await self._change(space, request=request, caller=caller, email=email, to=role)
        # The alias is visible to the member alone.
        return GrantRecord(space, member.user, member.email, role, alias=None)

    async def remove(self, space: SpaceId, *, request: RequestId, caller: UserId, email: str) -> None:
        """Remove the grant of the account with this e-mail address; do nothing if the account has none. Arguments and
        errors are those of `set`, except LimitReached.
        """
        await self._change(space, request=request, caller=caller, email=email, to=None)

    async def _change(
        self, space: SpaceId, *, request: RequestId, caller: UserId, email: str, to: Role | None
    ) -> Account:
        login = await self._accounts.login(email)
        member = login.account if login else None
        fingerprint = hashlib.sha256("\0".join((space, email, _name(to))).encode()).digest()
        done = Done(caller, request, fingerprint, self._clock())

        async def change() -> Account:
            known = await self._requests.done(caller, request)
            if known is None:
                return await self._try_to_change(space, done=done, caller=caller, member=member, to=to)
            if known != fingerprint or member is None:
                raise RequestIdReused
            return member

        busy = "other changes to the members of this space are in progress; try again"
        return await decided_anew(change, busy=busy)

    async def _try_to_change(
        self, space: SpaceId, *, done: Done, caller: UserId, member: Account | None, to: Role | None
    ) -> Account:
        found_space = await self._spaces.space_with_grants(space, caller, *([member.user] if member else []))
        if found_space is None:
            raise NoSuchSpace(space_id=space)
        found, grants = found_space
        target = grants.get(member.user) if member else None
        oneself = member is not None and member.user == caller
        decide_role(found, caller=grants.get(caller), target=target, to=to, oneself=oneself)
        if member is None:  # told only to callers who may invite members
            raise NoSuchAccount
        before = target.role if target else None
        if before is to:
            await self._requests.note(done)
        else:
            await self._give(found, member=member, held=target, to=to, done=done)
            log.info("grant changed", space=space, member=member.user, before=_name(before), after=_name(to))
        return member

    async def _give(
        self, space: SpaceRecord, *, member: Account, held: GrantRecord | None, to: Role | None, done: Done
    ) -> None:
        before = held.role if held is not None else None
        gates = await self._room(space, member, by=done.user) if before is None else []
        since = 0
        if _writes(to):
            since = held.writes_since_ms if held is not None and _writes(before) else self._clock()

        async def change(alias: str) -> None:
            await self._spaces.change_grant(
                space,
                member=member,
                before=before,
                after=to,
                by=done.user,
                alias=alias,
                writes_since_ms=since,
                done=done,
                gates=gates,
            )

        if before is None:
            await with_alias(space.name, space.space, change)
        else:
            await change("")

    async def _room(self, space: SpaceRecord, member: Account, *, by: UserId) -> list[Gate]:
        """Return the gates of the lists that a new grant extends (`GateStore`), after checking that these lists have
        room. Raise LimitReached if the list of the space's members is full, or if `by`, who gives the grant, may add
        nothing to the list of the member's spaces.
        """
        gates = await self._gates.gates(f"members {space.space}", f"memberships {member.user}")
        found = await self._spaces.members(space.space)
        if found is not None and len(found[1]) >= (most := self._holdings.members):
            raise limit_reached("members", f"this space has {most} members, as many as one may have; remove some first")
        most = self._holdings.memberships
        theirs = await self._spaces.memberships(member.user)
        given = [one for one in theirs if not is_own(one, member.user)]
        held = sum(one.by == by for one in given)
        if len(given) >= most:
            raise limit_reached(
                "memberships",
                f"others have added {member.email} to {most} spaces, as many as they may; {member.email} can leave",
            )
        for_strangers = most - most // KEPT_FOR_KNOWN
        own = {one.space for one in theirs if is_own(one, member.user)}
        if len(given) >= for_strangers and not await self._is_in(own, by):
            raise limit_reached(
                "memberships",
                f"others have added {member.email} to {len(given)} spaces; {most - len(given)} more are kept for those "
                f"whom {member.email} has let in. Ask them to share one of their own spaces with you, or to leave some",
            )
        if is_full(most, total=len(given), held=held):
            raise limit_reached(
                "memberships",
                f"you have added {member.email} to {held} spaces; {most - len(given)} more are kept for others who "
                "add them. Remove them from some of yours first",
            )
        return gates

    async def _is_in(self, spaces: Set[SpaceId], user: UserId) -> bool:
        return any(one.space in spaces for one in await self._spaces.memberships(user))


def _writes(role: Role | None) -> bool:
    return role is not None and role.allows(Access.WRITE)


def _name(role: Role | None) -> str:
    return "none" if role is None else role.name.lower()
