"""Grants: the roles of people in spaces, and the rules for changing them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

from runtime.logs import structlog
from services.auth.aliases import with_alias
from services.auth.audit.events import AuditEvent, AuditKind, audit_event
from services.auth.deletions import error_without_grant, is_counted
from services.auth.devices import DeviceState, check_signed_in, device_state
from services.auth.holdings import KEPT_FOR_KNOWN, HoldingLimits, decided_anew, is_full, is_own, limit_reached
from services.auth.inviting import Inviting
from services.auth.key_limits import check_scope, check_space, limited_grant, limited_role
from services.auth.ports import (
    AccessStore,
    AccountStore,
    GateStore,
    RequestStore,
    SpaceInvitationStore,
    SpaceStore,
)
from services.auth.quotas import Quotas
from services.auth.records import (
    Account,
    Clock,
    DeviceRecord,
    Done,
    Gate,
    GrantChange,
    GrantRecord,
    SpaceDeletion,
    SpaceInvitation,
    SpaceRecord,
)
from services.auth.repetitions import done_by, is_repetition
from syncline.model.accounts import Access, KeyScope, Role
from syncline.model.errors import (
    GuestRefused,
    InvalidArgument,
    LastOwner,
    LimitReached,
    NoSuchAccount,
    NoSuchInvitation,
    NoSuchSpace,
    PermissionDenied,
    RequestIdReused,
)
from syncline.model.identifiers import DeviceId, RequestId, SpaceId, UserId

log = structlog.get_logger()

_BUSY: Final = "other changes to the members of this space are in progress; try again"


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
    deletion: SpaceDeletion | None = None
    """The deletion of the space, if the user has a grant in it and an owner can still undelete it; otherwise None."""


@dataclass(frozen=True, slots=True)
class CheckedMany:
    """The answer of `Grants.check_many`: the spaces in which the user has a role, and the state of each device, among
    the spaces and devices in the question. `deletions` has the deletions of those of the other spaces in which the user
    has a grant, and which can still be undeleted.
    """

    spaces: Sequence[SpaceId]
    devices: Mapping[DeviceId, DeviceState]
    deletions: Mapping[SpaceId, SpaceDeletion]
    limited: Mapping[DeviceId, Set[SpaceId]]
    """The only spaces that the key of a device opens, for each device whose key is limited to spaces."""


def decide_role(
    space: SpaceRecord,
    *,
    caller: GrantRecord | None,
    target: GrantRecord | None,
    to: Role | None,
    oneself: bool,
    by_program: bool = False,
) -> None:
    """Check that a caller may change the role of a person, the target, to `to`. None for `to` removes the grant.
    `caller` and `target` are the present grants of both; None for a person without one. `oneself` is True if the target
    is the caller: anybody may leave a space. With `by_program` the caller acts by a program, which may change neither
    owners nor the role of its own user: a stolen key could otherwise shut its user out.

    - Raise NoSuchSpace if the caller has no grant.
    - Raise PermissionDenied if the caller's role does not allow the change, the space is personal, or a program may not
      make the change.
    - Raise LastOwner if no owner would remain.
    """
    if caller is None:
        raise NoSuchSpace(space_id=space.space)
    if space.personal:
        raise PermissionDenied("a personal space cannot be shared")
    if caller.role is not Role.OWNER and not (oneself and to is None):
        raise PermissionDenied("only an owner can change members; ask an owner")
    if by_program and (oneself or Role.OWNER in {to, target.role if target is not None else None}):
        raise PermissionDenied("a key of a program changes neither owners nor the role of its own user; sign in")
    if target is not None and target.role is Role.OWNER and to is not Role.OWNER and space.owners == 1:
        raise LastOwner


async def require(
    store: AccessStore, space: SpaceId, access: Access, *, user: UserId, device: DeviceId, now_ms: int
) -> tuple[GrantRecord, DeviceRecord]:
    """Check that the caller has `access`, to read or to write, to a space. Return the caller's grant, as far as the
    device may use it, and the device.

    `user` and `device` are the caller, and `now_ms` is the present time in milliseconds since 1970.

    - Raise TokenExpired if the device has expired.
    - Raise DeviceRevoked if the device was revoked, does not exist, or belongs to another user.
    - Raise NoSuchSpace if the user has no grant, or if the device is a program whose key does not open the space, and
      SpaceDeleted if the space is deleted.
    - Raise PermissionDenied if the user's role, or the program's key, does not allow the access.
    """
    grant, found = await store.access(space, user=user, device=device)
    signed_in = check_signed_in(found, user=user, now_ms=now_ms)
    check_space(space, signed_in)
    if grant is None:
        deletions = await store.deletions([space], user=user)
        raise error_without_grant(space, deletions.get(space), now_ms=now_ms)
    if not grant.role.allows(access):
        raise PermissionDenied("your role in this space only lets you read; ask an owner for another one")
    grant = replace(grant, role=limited_role(grant.role, signed_in))
    if not grant.role.allows(access):
        check_scope(KeyScope.WRITE, signed_in)
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
        invitations: SpaceInvitationStore,
        inviting: Inviting,
        quotas: Quotas,
        holdings: HoldingLimits,
        clock: Clock,
    ) -> None:
        self._spaces = spaces
        self._accounts = accounts
        self._access = access
        self._requests = requests
        self._gates = gates
        self._invitations = invitations
        self._inviting = inviting
        self._quotas = quotas
        self._holdings = holdings
        self._clock = clock

    async def check(self, space: SpaceId, *, user: UserId, device: DeviceId | None) -> CheckedAccess:
        """Return the user's role in the space, and the state of `device`, if it is not None. Without a grant, and in a
        deleted space, the role is None.
        """
        grant, found = await self._access.access(space, user=user, device=device)
        state = device_state(found, user=user, now_ms=self._clock()) if device is not None else DeviceState.SIGNED_IN
        if found is not None and found.limits is not None and not found.limits.opens(space):
            return CheckedAccess(None, state)
        grant = limited_grant(grant, found)
        if grant is None:
            deletions = await self._deletions([space], user)
            return CheckedAccess(None, state, deletion=deletions.get(space))
        return CheckedAccess(grant.role, state, grant.writes_since_ms)

    async def check_many(
        self, spaces: Collection[SpaceId], *, user: UserId, devices: Collection[DeviceId]
    ) -> CheckedMany:
        """Return the spaces, among `spaces`, in which the user has a role, and the state and the limits of each of
        `devices`.
        """
        grants, found = await self._access.accesses([(space, user) for space in spaces], devices)
        now = self._clock()
        missing = [space for space in spaces if (space, user) not in grants]
        return CheckedMany(
            [space for space in spaces if (space, user) in grants],
            {device: device_state(found.get(device), user=user, now_ms=now) for device in devices},
            await self._deletions(missing, user) if missing else {},
            {
                one.device: one.limits.spaces
                for one in found.values()
                if one.user == user and one.limits is not None and one.limits.spaces is not None
            },
        )

    async def _deletions(self, spaces: Collection[SpaceId], user: UserId) -> Mapping[SpaceId, SpaceDeletion]:
        """Return the deletions of those of `spaces` in which the user has a grant, and which can still be undeleted."""
        now, found = self._clock(), await self._access.deletions(spaces, user=user)
        return {space: deletion for space, deletion in found.items() if deletion.is_reversible(now)}

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
        signed_in = [
            one for one in found.values() if device_state(one, user=one.user, now_ms=now) is DeviceState.SIGNED_IN
        ]
        grants, _ = await self._access.accesses([(space, holder) for holder in {one.user for one in signed_in}], [])
        limited = {one.device: limited_grant(grants.get((space, one.user)), one) for one in signed_in}
        return [one for one, grant in limited.items() if grant is not None and _writes(grant.role)]

    async def members(self, space: SpaceId, *, asking: UserId | None) -> tuple[SpaceRecord, list[GrantRecord]]:
        """Return a space and its grants, sorted by e-mail address. `asking` is the calling user; None if another
        service asks. Raise NoSuchSpace if the space does not exist, or if the calling user has no grant in it, and
        SpaceDeleted if it is deleted.
        """
        found = await self._spaces.members(space)
        if found is None or (asking is not None and all(grant.user != asking for grant in found[1])):
            raise NoSuchSpace(space_id=space)
        if found[0].deletion is not None:
            raise error_without_grant(space, found[0].deletion, now_ms=self._clock())
        return found[0], sorted(found[1], key=lambda grant: grant.place)

    async def set(
        self, space: SpaceId, *, request: RequestId, caller: UserId, email: str, role: Role, by_program: bool = False
    ) -> GrantRecord | SpaceInvitation:
        """Set the role of the person with this e-mail address in a space, and return the new grant. If the address has
        no proven account, invite the address instead, and return the invitation. `caller` is the user who asks for the
        change, and `request` the id of the request: a repetition has no further effect.

        - Raise NoSuchSpace, PermissionDenied or LastOwner if the caller may not make this change (`decide_role`), and
          SpaceDeleted if the space is deleted.
        - Raise GuestRefused if a guest would become an owner.
        - Raise LimitReached if a new grant exceeds a limit of the space, the member or the caller, or an invitation
          exceeds one of the space, the address or the caller.
        - Raise TooManyAttempts if enough mails with invitations were sent, by the caller or to the address.
        - Raise RequestIdReused if the caller has used the request id for another change, and NoSuchInvitation if the
          invitation of a repeated request has ended.
        - Raise Contended if concurrent changes come first too often, and Unavailable if the mail with an invitation
          could not be asked for: a repetition of the request asks for it again.
        """
        changed = await self._change(space, request=request, caller=caller, email=email, to=role, by_program=by_program)
        if isinstance(changed, SpaceInvitation):
            return changed
        # The alias is visible to the member alone.
        return GrantRecord(space, changed.user, changed.email, role, alias=None)

    async def remove(
        self, space: SpaceId, *, request: RequestId, caller: UserId, email: str, by_program: bool = False
    ) -> None:
        """Remove the grant of the account with this e-mail address; do nothing if the account has none. Raise
        NoSuchSpace, PermissionDenied or LastOwner if the caller may not make this change, NoSuchAccount for an address
        without a proven account, and RequestIdReused or Contended as `set` does.
        """
        await self._change(space, request=request, caller=caller, email=email, to=None, by_program=by_program)

    async def make_owner(self, space: SpaceId, *, request: RequestId, admin: UserId, member: Account) -> GrantRecord:
        """Make the account `member`, which is proven, an owner of a shared space, whoever its members are, and return
        the grant. `admin` is the administrator who asks for it, and `request` the id of the request: a repetition has
        no further effect. Somebody who is an owner stays one.

        - Raise NoSuchSpace if there is no such space, SpaceDeleted if it is deleted, and PermissionDenied if it is
          personal.
        - Raise GuestRefused if the member is a guest.
        - Raise LimitReached if a new grant exceeds a limit of the space or of the member.
        - Raise RequestIdReused if the administrator has used the request id for another change.
        - Raise Contended if concurrent changes come first too often, or if `admin` is no administrator any more.
        """
        done = done_by(admin, request, "owner", space, member.user, at_ms=self._clock())

        async def change() -> None:
            if not await is_repetition(self._requests, done):
                await self._try_to_make_owner(space, done=done, member=member)

        await decided_anew(change, busy=_BUSY)
        return GrantRecord(space, member.user, member.email, Role.OWNER, alias=None)

    async def _try_to_make_owner(self, space: SpaceId, *, done: Done, member: Account) -> None:
        found, grants = await self._found(space, member.user)
        if found.deletion is not None:
            raise error_without_grant(space, found.deletion, now_ms=self._clock())
        if found.personal:
            raise PermissionDenied("a personal space has no other owner than its user")
        if member.guest:
            raise GuestRefused(f"{member.email} is a guest, who cannot own a space; choose another person")
        held = grants.get(member.user)
        if held is not None and held.role is Role.OWNER:
            await self._requests.note(done)
            return
        await self._give(found, member=member, held=held, to=Role.OWNER, by=done.user, done=done, as_admin=True)
        log.info("owner made by an administrator", space=space, member=member.user, by=done.user)

    async def join(self, space: SpaceId, *, member: Account) -> None:
        """Make a proven account a member of the space to which its address is invited, in the role of the invitation,
        which ends. An account that is a member already keeps its role. A guest becomes an editor at most.

        Raise NoSuchInvitation if the address is not invited, the invitation has expired, or the inviter is not an owner
        of the space any more. Raise LimitReached if a list is full, and Contended if concurrent changes come first too
        often.
        """

        async def attempt() -> None:
            invitation = await self._invitations.space_invitation(space, member.email)
            if invitation is None or invitation.expires_at_ms <= self._clock():
                raise NoSuchInvitation
            found_space = await self._spaces.space_with_grants(space, member.user)
            if found_space is None or found_space[0].deletion is not None:
                raise NoSuchInvitation
            found, grants = found_space
            target, to = grants.get(member.user), invitation.role
            if member.guest:
                to = min(to, Role.EDITOR)
            # The right of an inviter who is suspended, or whose space is deleted, is none.
            inviter, _ = await self._access.access(space, user=invitation.by, device=None)
            try:
                decide_role(found, caller=inviter, target=None, to=to, oneself=False)
            except (NoSuchSpace, PermissionDenied):
                raise NoSuchInvitation from None
            if target is not None:
                await self._invitations.end_space_invitation(invitation)
                return
            try:
                await self._give(found, member=member, held=None, to=to, by=invitation.by, ends=invitation)
            except LimitReached as error:  # the text is for the inviter
                raise LimitReached(
                    f"there is no room for you in the space, or for another space that {invitation.by_email} shares "
                    "with you; leave some of those, or ask an owner to make room, and accept again",
                    **error.details,
                ) from None
            log.info("invitation taken up", space=space, member=member.user, role=_name(to))

        await decided_anew(attempt, busy=_BUSY)

    async def _change(
        self, space: SpaceId, *, request: RequestId, caller: UserId, email: str, to: Role | None, by_program: bool
    ) -> Account | SpaceInvitation:
        done = done_by(caller, request, space, email, _name(to), at_ms=self._clock())
        is_counted = False

        async def change() -> Account | SpaceInvitation:
            nonlocal is_counted
            login = await self._accounts.login(email)
            member = login.account if login else None
            is_repeated = await is_repetition(self._requests, done)
            if member is not None:
                if not is_repeated:
                    await self._try_to_change(
                        space, done=done, caller=caller, member=member, to=to, by_program=by_program
                    )
                return member
            if is_repeated and to is not None:
                return await self._inviting.again(space, email=email, done=done)
            found, by = await self.deciding(space, caller, to, by_program=by_program)
            if to is None:  # told only to callers who may invite members
                raise NoSuchAccount
            if not is_counted:
                await self._inviting.admit(user=caller, email=email, role=to)
                is_counted = True
            return await self._inviting.invite(found, by=by, email=email, role=to, done=done)

        return await decided_anew(change, busy=_BUSY)

    async def deciding(
        self, space: SpaceId, caller: UserId, to: Role | None, *, by_program: bool = False
    ) -> tuple[SpaceRecord, GrantRecord]:
        """Return a space, and the grant of the caller, who may change the role of a person without one to `to`. Raise
        the errors of `decide_role` otherwise, and SpaceDeleted if the space is deleted.
        """
        found, grants = await self._found(space, caller)
        self._check_not_deleted(found, grants.get(caller))
        decide_role(found, caller=grants.get(caller), target=None, to=to, oneself=False, by_program=by_program)
        return found, grants[caller]

    async def _try_to_change(
        self, space: SpaceId, *, done: Done, caller: UserId, member: Account, to: Role | None, by_program: bool
    ) -> None:
        found, grants = await self._found(space, caller, member.user)
        self._check_not_deleted(found, grants.get(caller))
        target = grants.get(member.user)
        oneself = member.user == caller
        decide_role(found, caller=grants.get(caller), target=target, to=to, oneself=oneself, by_program=by_program)
        if to is Role.OWNER and member.guest:
            raise GuestRefused(f"{member.email} is a guest, who cannot own a space; choose another role")
        # An invitation that was not taken up must not return what this change takes.
        invitation = await self._invitations.space_invitation(space, member.email)
        before = target.role if target else None
        if before is not to:
            await self._give(found, member=member, held=target, to=to, by=caller, done=done, ends=invitation)
            log.info("grant changed", space=space, member=member.user, before=_name(before), after=_name(to))
            if before is Role.OWNER:
                await self._quotas.settle(space)
        elif invitation is not None:
            await self._invitations.end_space_invitation(invitation, done=done)
        else:
            await self._requests.note(done)

    async def _found(self, space: SpaceId, *users: UserId) -> tuple[SpaceRecord, dict[UserId, GrantRecord]]:
        """Return what `SpaceStore.space_with_grants` returns. Raise NoSuchSpace if there is no such space."""
        found = await self._spaces.space_with_grants(space, *users)
        if found is None:
            raise NoSuchSpace(space_id=space)
        return found

    def _check_not_deleted(self, space: SpaceRecord, caller: GrantRecord | None) -> None:
        if space.deletion is not None and caller is not None:
            raise error_without_grant(space.space, space.deletion, now_ms=self._clock())

    async def transfer(
        self, space: SpaceId, *, request: RequestId, caller: UserId, email: str, keep: Role | None
    ) -> GrantRecord:
        """Make the account with this e-mail address owner of a space, and give the caller, an owner, the role `keep`;
        None removes the caller's grant. Both happen at once. Return the grant of the new owner. Arguments and errors
        are those of `set`; raise InvalidArgument if the address is that of the caller.
        """
        login = await self._accounts.login(email)
        heir = login.account if login else None
        done = done_by(caller, request, space, "transfer", email, _name(keep), at_ms=self._clock())

        async def change() -> Account:
            if not await is_repetition(self._requests, done):
                return await self._try_to_transfer(space, done=done, heir=heir, keep=keep)
            if heir is None:
                raise RequestIdReused
            return heir

        owner = await decided_anew(change, busy=_BUSY)
        return GrantRecord(space, owner.user, owner.email, Role.OWNER, alias=None)

    async def _try_to_transfer(self, space: SpaceId, *, done: Done, heir: Account | None, keep: Role | None) -> Account:
        caller = done.user
        found, grants = await self._found(space, caller, *([heir.user] if heir else []))
        self._check_not_deleted(found, grants.get(caller))
        held = grants.get(heir.user) if heir else None
        decide_role(found, caller=grants.get(caller), target=held, to=Role.OWNER, oneself=False)
        if heir is None:  # told only to callers who may invite members
            raise NoSuchAccount
        if heir.user == caller:
            raise InvalidArgument("you are an owner of this space; transfer it to somebody else", field="email")
        if heir.guest:
            raise GuestRefused(f"{heir.email} is a guest, who cannot own a space; choose another person")
        own = grants[caller]
        if held is not None and held.role is Role.OWNER and keep is Role.OWNER:
            await self._requests.note(done)
            return heir
        invitation = await self._invitations.space_invitation(space, heir.email)
        gates = await self._room(found, heir, by=caller) if held is None else []
        kept_since = own.writes_since_ms if _writes(keep) else 0
        kept = GrantChange(caller, own.email, own.role, keep, writes_since_ms=kept_since)

        async def give(alias: str) -> None:
            given = self._change_to(heir, held, Role.OWNER, alias=alias)
            transferred = audit_event(
                AuditKind.SPACE_TRANSFERRED, at_ms=done.at_ms, space=space, user=heir.user, kept=_name(keep)
            )
            changed = [self._event(found, one) for one in (given, kept) if one.before is not one.after]
            await self._spaces.change_grants(
                found, [given, kept], by=caller, done=done, gates=gates, ends=invitation, events=[transferred, *changed]
            )

        if held is None:
            await with_alias(found.name, found.space, give)
        else:
            await give("")
        log.info("space transferred", space=space, member=heir.user, caller_role=_name(keep))
        await self._quotas.settle(space)
        return heir

    def _change_to(self, member: Account, held: GrantRecord | None, to: Role | None, *, alias: str) -> GrantChange:
        """Return the change of a member's grant, which is `held` at present, to the role `to`."""
        before = held.role if held is not None else None
        since = 0
        if _writes(to):
            since = held.writes_since_ms if held is not None and _writes(before) else self._clock()
        return GrantChange(member.user, member.email, before, to, alias, since)

    def _event(self, space: SpaceRecord, change: GrantChange) -> AuditEvent:
        return audit_event(
            _kind_of(change.before, change.after),
            at_ms=self._clock(),
            user=change.user,
            space=space.space,
            before=_name(change.before),
            after=_name(change.after),
        )

    async def _give(
        self,
        space: SpaceRecord,
        *,
        member: Account,
        held: GrantRecord | None,
        to: Role | None,
        by: UserId,
        done: Done | None = None,
        ends: SpaceInvitation | None = None,
        as_admin: bool = False,
    ) -> None:
        gates = await self._room(space, member, by=by) if held is None else []

        async def change(alias: str) -> None:
            change = self._change_to(member, held, to, alias=alias)
            await self._spaces.change_grants(
                space,
                [change],
                by=by,
                done=done,
                gates=gates,
                as_admin=as_admin,
                ends=ends,
                events=[self._event(space, change)],
            )

        if held is None:
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
        now = self._clock()
        theirs = [one for one in await self._spaces.memberships(member.user) if is_counted(one, now_ms=now)]
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


def _kind_of(before: Role | None, after: Role | None) -> AuditKind:
    """Return the kind of the event of a grant that changes from `before` to `after`; None stands for no grant."""
    if before is None:
        return AuditKind.MEMBER_ADDED
    return AuditKind.MEMBER_REMOVED if after is None else AuditKind.MEMBER_CHANGED


def _writes(role: Role | None) -> bool:
    return role is not None and role.allows(Access.WRITE)


def _name(role: Role | None) -> str:
    return "none" if role is None else role.name.lower()
