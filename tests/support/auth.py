"""Everything in memory: for tests, and to show what the ports ask for in its plainest form."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.auth.aliases import PERSONAL, fold_alias
from services.auth.audit.events import AuditEvent
from services.auth.audit.ports import ONCE_KEPT_MS, AuditFilter, AuditPage
from services.auth.ports import (
    AdminExists,
    AliasTaken,
    ChainMoved,
    GateMoved,
    GrantMoved,
    InvitationSpent,
    MakerEnded,
    NoAdministratorLeft,
    PasswordMoved,
    ProofSpent,
    QuotaReached,
    ReservationMoved,
    ResetSpent,
    StandingMoved,
)
from services.auth.records import (
    SECOND_MS,
    Account,
    AccountMail,
    Chain,
    Clock,
    DeviceEnding,
    DeviceRecord,
    Done,
    Gate,
    GrantChange,
    GrantRecord,
    Invitation,
    Link,
    Login,
    Membership,
    PasswordChange,
    Proof,
    Reservation,
    Reset,
    SecondFactor,
    SpaceDeletion,
    SpaceInvitation,
    SpaceRecord,
    SpaceUploads,
    TemporaryCredentials,
    UserState,
)
from services.auth.spaces import personal_role, personal_space
from syncline.model.accounts import Role
from syncline.model.errors import AccountExists, AddressTaken, Unavailable
from syncline.model.identifiers import DeviceId, LinkId, RequestId, SpaceId, UserId


class InMemoryAuditStore:
    """AuditStore in a list. Nothing awaits within a method, so each is atomic."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self._once: dict[str, int] = {}
        self._exported: int | None = None
        self.down = False
        """True while the log cannot be written."""

    def store(self, events: Sequence[AuditEvent]) -> None:
        """Store events with a change of another store."""
        self.check()
        known = {event.ident for event in self.events}
        self.events += [event for event in events if event.ident not in known]

    def check(self) -> None:
        if self.down:
            raise Unavailable("the audit log does not answer; try again")

    async def append(self, events: Sequence[AuditEvent]) -> None:
        self.store(events)

    async def append_once(self, event: AuditEvent, *, once: str) -> bool:
        self.check()
        if self._once.get(once, -ONCE_KEPT_MS) + ONCE_KEPT_MS > event.at_ms:
            return False
        self._once[once] = event.at_ms
        self.store([event])
        return True

    async def page(self, wanted: AuditFilter, *, before: str, limit: int) -> AuditPage:
        found = [event for event in self._sorted() if wanted.matches(event) and (not before or event.place < before)]
        found.reverse()
        page = found[:limit]
        return AuditPage(page, page[-1].place if len(found) > limit else "", len(page))

    async def between(self, since_ms: int, until_ms: int) -> AsyncIterator[AuditEvent]:
        for event in self._sorted():
            if since_ms <= event.at_ms < until_ms:
                yield event

    async def first_since(self, since_ms: int) -> int | None:
        return min((event.at_ms for event in self.events if event.at_ms >= since_ms), default=None)

    async def exported_hour(self) -> int | None:
        return self._exported

    async def note_exported(self, hour: int) -> None:
        self._exported = max(hour, -1 if self._exported is None else self._exported)

    def _sorted(self) -> list[AuditEvent]:
        return sorted(self.events, key=lambda event: event.place)


class InMemoryIdentityStore:
    """IdentityStore in dictionaries. Nothing awaits within a method, so each is atomic."""

    def __init__(self, audit: InMemoryAuditStore | None = None) -> None:
        self.audit = InMemoryAuditStore() if audit is None else audit
        self._logins: dict[str, Login] = {}
        self._accounts: dict[UserId, Account] = {}
        self._claims: dict[str, Login] = {}
        self._unproven: dict[UserId, Login] = {}
        self._proofs: dict[bytes, Proof] = {}
        self._invitations: dict[bytes, Invitation] = {}
        self._space_invitations: dict[tuple[SpaceId, str], SpaceInvitation] = {}
        self._admins: set[UserId] = set()
        self._devices: dict[DeviceId, DeviceRecord] = {}
        self._spaces: dict[SpaceId, SpaceRecord] = {}
        self._grants: dict[tuple[SpaceId, UserId], GrantRecord] = {}
        self._aliases: dict[tuple[UserId, str], SpaceId] = {}
        self._attempts: dict[tuple[str, str | None], tuple[int, int]] = {}
        self._links: dict[tuple[SpaceId, LinkId], Link] = {}
        self._counted: set[tuple[LinkId, RequestId]] = set()
        self._done: dict[tuple[UserId, RequestId], bytes] = {}
        self._written: set[tuple[int, SpaceId]] = set()
        self._uploads: dict[SpaceId, SpaceUploads] = {}
        self._gates: Counter[str] = Counter()
        self._givers: dict[tuple[SpaceId, UserId], UserId] = {}
        self._forgotten: set[DeviceId] = set()
        self._forgotten_spaces: set[tuple[SpaceId, UserId]] = set()
        self._known: dict[tuple[str, str], int] = {}
        self._endings: dict[str, DeviceEnding] = {}
        self._resets: dict[bytes, Reset] = {}
        self._changes: dict[str, PasswordChange] = {}
        self._factors: dict[UserId, SecondFactor] = {}
        self._reservations: dict[SpaceId, Reservation] = {}

    async def create_account(
        self,
        login: Login,
        *,
        device: DeviceRecord,
        invitation: Invitation | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> None:
        account = login.account
        if account.proven and account.email in self._logins:
            raise AccountExists
        if invitation is not None and invitation.token not in self._invitations:
            raise InvitationSpent
        if account.admin and self._admins:
            raise AdminExists
        self.audit.store(events)
        if not account.proven:
            self._claims[account.email] = self._unproven[account.user] = login
        else:
            self._logins[account.email] = login
        if invitation is not None:
            del self._invitations[invitation.token]
        if account.admin:
            self._admins.add(account.user)
        self._accounts[account.user] = account
        self._devices[device.device] = device
        personal = personal_space(account)
        await self.create_space(personal, owner=account, alias=PERSONAL)
        key = (personal.space, account.user)
        self._grants[key] = replace(self._grants[key], role=personal_role(account))

    async def login(self, email: str) -> Login | None:
        return self._logins.get(email)

    async def claim(self, email: str) -> Login | None:
        return self._claims.get(email)

    async def unproven(self, user: UserId) -> Login | None:
        return self._unproven.get(user)

    async def add_invitation(self, invitation: Invitation, *, events: Sequence[AuditEvent] = ()) -> None:
        self.audit.store(events)
        self._invitations[invitation.token] = invitation

    async def invitation(self, token: bytes) -> Invitation | None:
        return self._invitations.get(token)

    async def has_admin(self) -> bool:
        return bool(self._admins)

    async def suspended(self, users: Collection[UserId]) -> set[UserId]:
        return {user for user in users if self._is_suspended(user)}

    def _is_suspended(self, user: UserId) -> bool:
        account = self._accounts.get(user)
        return account is not None and account.suspension is not None

    async def list_users(
        self, state: UserState | None, *, beginning: str, after: str, limit: int
    ) -> list[tuple[str, Account]]:
        found = (
            account
            for account in self._accounts.values()
            if account.email.startswith(beginning)
            and account.place > after
            and (state is None or state in account.states)
        )
        return [(account.place, account) for account in sorted(found, key=lambda account: account.place)[:limit]]

    async def list_spaces(self, *, after: str, limit: int) -> list[tuple[str, SpaceRecord]]:
        found = (space for space in self._spaces.values() if not space.personal and space.place > after)
        return [(space.place, space) for space in sorted(found, key=lambda space: space.place)[:limit]]

    async def change_standing(
        self, before: Account, after: Account, *, by: UserId, done: Done, events: Sequence[AuditEvent] = ()
    ) -> None:
        stored, decider = self._accounts[before.user], self._accounts[by]
        if (
            (stored.admin, stored.suspension, stored.quota_bytes)
            != (before.admin, before.suspension, before.quota_bytes)
            or not decider.administers
            or (done.user, done.request) in self._done
        ):
            raise StandingMoved
        changed = replace(stored, admin=after.admin, suspension=after.suspension, quota_bytes=after.quota_bytes)
        if not any(one.administers for one in (self._accounts | {before.user: changed}).values()):
            raise NoAdministratorLeft
        self.audit.store(events)
        self._accounts[before.user] = changed
        if (login := self._logins.get(before.email)) is not None and login.account.user == before.user:
            self._logins[before.email] = replace(login, account=replace(login.account, admin=after.admin))
        self._done[done.user, done.request] = done.fingerprint

    async def enter_earlier(self) -> bool:
        return False  # lists are made of what there is

    async def finish_entering(self) -> None:
        pass

    async def add_space_invitation(
        self,
        invitation: SpaceInvitation,
        *,
        replacing: SpaceInvitation | None,
        done: Done,
        gates: Sequence[Gate] = (),
        events: Sequence[AuditEvent] = (),
    ) -> None:
        key = (invitation.space, invitation.email)
        decider = self._grants.get((invitation.space, invitation.by))
        if (
            self._space_invitations.get(key) != replacing
            or invitation.email in self._logins
            or decider is None
            or decider.role is not Role.OWNER
            or self._spaces[invitation.space].deletion is not None
            or (done.user, done.request) in self._done
        ):
            raise GrantMoved
        self._pass(gates)
        if replacing is not None:
            self._remove_space_invitation(replacing)
        self._space_invitations[key] = invitation
        self._invitations[invitation.token] = Invitation(
            invitation.token, invitation.email, invitation.expires_at_ms, invitation.space
        )
        self._done[done.user, done.request] = done.fingerprint
        self.audit.store(events)

    async def space_invitation(self, space: SpaceId, email: str) -> SpaceInvitation | None:
        return self._space_invitations.get((space, email))

    async def invitations_to(self, space: SpaceId) -> list[SpaceInvitation]:
        return [one for one in self._space_invitations.values() if one.space == space]

    async def invitations_for(self, email: str) -> list[SpaceInvitation]:
        return [one for one in self._space_invitations.values() if one.email == email]

    async def invitations_by(self, user: UserId) -> list[SpaceInvitation]:
        return [one for one in self._space_invitations.values() if one.by == user]

    async def end_space_invitation(
        self, invitation: SpaceInvitation, *, done: Done | None = None, events: Sequence[AuditEvent] = ()
    ) -> None:
        if not self._is_present(invitation) or (done is not None and (done.user, done.request) in self._done):
            raise GrantMoved
        self._remove_space_invitation(invitation)
        self.audit.store(events)
        if done is not None:
            self._done[done.user, done.request] = done.fingerprint

    def _is_present(self, invitation: SpaceInvitation) -> bool:
        return self._space_invitations.get((invitation.space, invitation.email)) == invitation

    def _remove_space_invitation(self, invitation: SpaceInvitation) -> None:
        del self._space_invitations[invitation.space, invitation.email]
        self._invitations.pop(invitation.token, None)

    async def factor(self, user: UserId) -> SecondFactor | None:
        return self._factors.get(user)

    async def change_factor(
        self, before: SecondFactor | None, after: SecondFactor | None, *, events: Sequence[AuditEvent] = ()
    ) -> bool:
        changed = after if after is not None else before
        assert changed is not None, "a factor becomes none"
        if self._factors.get(changed.user) != before:
            return False
        self.audit.store(events)
        if after is None:
            del self._factors[changed.user]
        else:
            self._factors[changed.user] = replace(after, version=0 if before is None else before.version + 1)
        return True

    async def add_proof(self, proof: Proof, *, events: Sequence[AuditEvent] = ()) -> None:
        self.audit.store(events)
        self._proofs[proof.token] = proof

    async def proof(self, token: bytes) -> Proof | None:
        return self._proofs.get(token)

    async def prove(self, login: Login, proof: Proof, *, events: Sequence[AuditEvent] = ()) -> None:
        account = replace(login.account, proven=True)
        if account.user not in self._unproven or proof.token not in self._proofs:
            raise ProofSpent
        if account.email in self._logins:
            raise AddressTaken
        self.audit.store(events)
        del self._unproven[account.user], self._proofs[proof.token]
        self._accounts[account.user] = account
        self._logins[account.email] = replace(login, account=account)
        if account.email in self._claims and self._claims[account.email].account.user == account.user:
            del self._claims[account.email]

    async def account(self, user: UserId) -> Account | None:
        return self._accounts.get(user)

    async def replace_password_hash(self, email: str, *, old: str, new: str) -> None:
        login = self._logins.get(email)
        if login is not None and login.password_hash == old:
            self._logins[email] = replace(login, password_hash=new)

    async def add_reset(self, reset: Reset) -> None:
        self._resets[reset.token] = reset

    async def reset(self, token: bytes) -> Reset | None:
        return self._resets.get(token)

    async def change_password(
        self,
        login: Login,
        password_hash: str,
        *,
        change: PasswordChange,
        reset: Reset | None = None,
        done: Done | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> None:
        if reset is not None and reset.token not in self._resets:
            raise ResetSpent
        self._check_maker(change.keep)
        found = self._same_password(login)
        if done is not None and (done.user, done.request) in self._done:
            raise PasswordMoved
        self.audit.store(events)
        if reset is not None:
            del self._resets[reset.token]
        if done is not None:
            self._done[done.user, done.request] = done.fingerprint
        email = login.account.email
        self._logins[email] = replace(found, password_hash=password_hash, password_changes=change.number)
        self._changes[change.ident] = change

    def _same_password(self, login: Login) -> Login:
        found = self._logins.get(login.account.email)
        if (
            found is None
            or found.account.user != login.account.user
            or found.password_changes != login.password_changes
        ):
            raise PasswordMoved
        return found

    async def password_changes(self) -> list[PasswordChange]:
        return list(self._changes.values())

    async def update_change(self, change: PasswordChange, to: PasswordChange) -> bool:
        found = self._changes.get(change.ident)
        if found is None or found.due_at_ms != change.due_at_ms:
            return False
        self._changes[change.ident] = to
        return True

    async def forget_change(self, change: PasswordChange) -> None:
        self._changes.pop(change.ident, None)

    async def add_device(
        self,
        device: DeviceRecord,
        *,
        gates: Sequence[Gate] = (),
        login: Login | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        if device.device in self._devices:
            return False
        self._check_maker(device.made_by)
        if login is not None:
            self._same_password(login)
        self._check(gates)
        self.audit.store(events)
        self._pass(gates)
        self._devices[device.device] = device
        return True

    async def signed_in(self, user: UserId, device: DeviceId) -> tuple[Account | None, DeviceRecord | None]:
        return self._accounts.get(user), self._devices.get(device)

    async def device(self, device: DeviceId) -> DeviceRecord | None:
        return self._devices.get(device)

    async def devices(self, user: UserId, *, including: DeviceId | None = None) -> list[DeviceRecord]:
        return [
            device
            for device in self._devices.values()
            if (device.user == user and device.device not in self._forgotten) or device.device == including
        ]

    async def keys_of(self, maker: DeviceId) -> list[DeviceRecord]:
        return [device for device in self._devices.values() if device.made_by == maker]

    def _check_maker(self, maker: DeviceId | None) -> None:
        if maker is not None and (maker not in self._devices or self._devices[maker].revoked_at_ms is not None):
            raise MakerEnded

    async def advance_chain(self, device: DeviceId, *, expected: Chain, to: Chain, seen_at_ms: int) -> None:
        found = self._devices.get(device)
        if (
            found is None
            or found.revoked_at_ms is not None
            or found.chain is None
            or found.chain.current not in (expected.current, to.current)
        ):
            raise ChainMoved
        self._devices[device] = replace(found, chain=to, last_seen_at_ms=seen_at_ms)

    async def key_used(self, device: DeviceId, *, seen_at_ms: int, expires_at_ms: int) -> None:
        found = self._devices.get(device)
        if found is None or found.key is None or found.revoked_at_ms is not None or found.last_seen_at_ms > seen_at_ms:
            return
        key = replace(found.key, expires_at_ms=expires_at_ms)
        self._devices[device] = replace(found, key=key, last_seen_at_ms=seen_at_ms)

    async def revoke_device(self, device: DeviceId, *, at_ms: int, events: Sequence[AuditEvent] = ()) -> None:
        found = self._devices.get(device)
        if found is not None and found.revoked_at_ms is None:
            self.audit.store(events)
            self._devices[device] = replace(found, revoked_at_ms=at_ms)

    async def forget_device(self, device: DeviceId, *, until_ms: int) -> None:  # nothing is dropped
        self._forgotten.add(device)

    async def create_space(
        self,
        space: SpaceRecord,
        *,
        owner: Account,
        alias: str,
        gates: Sequence[Gate] = (),
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        if space.space in self._spaces:
            return False
        self._check(gates)
        self.audit.check()
        self._take_alias(owner.user, alias, space.space)
        self.audit.store(events)
        self._pass(gates)
        self._spaces[space.space] = space
        self._givers[space.space, owner.user] = owner.user
        self._grants[space.space, owner.user] = GrantRecord(space.space, owner.user, owner.email, Role.OWNER, alias)
        return True

    async def memberships(self, user: UserId) -> list[Membership]:
        held = [
            grant
            for grant in self._grants.values()
            if grant.user == user and (grant.space, user) not in self._forgotten_spaces
        ]
        return [
            Membership(
                space.space,
                space.name,
                space.personal,
                grant.role,
                grant.alias,
                self._givers.get((grant.space, user)),
                space.deletion,
            )
            for grant in held
            if (space := self._spaces[grant.space])
        ]

    async def forget_membership(self, space: SpaceId, user: UserId) -> None:
        self._forgotten_spaces.add((space, user))

    async def change_space(
        self,
        before: SpaceRecord,
        after: SpaceRecord,
        *,
        by: UserId,
        done: Done,
        as_admin: bool = False,
        events: Sequence[AuditEvent] = (),
    ) -> None:
        found, decider = self._spaces[before.space], self._grants.get((before.space, by))
        may = self._accounts[by].administers if as_admin else decider is not None and decider.role is Role.OWNER
        if (
            (found.name, found.deletion, found.quota_bytes) != (before.name, before.deletion, before.quota_bytes)
            or not may
            or (done.user, done.request) in self._done
        ):
            raise GrantMoved
        self.audit.store(events)
        self._spaces[before.space] = replace(
            found, name=after.name, deletion=after.deletion, made_as=after.made_as, quota_bytes=after.quota_bytes
        )
        self._done[done.user, done.request] = done.fingerprint

    async def members(self, space: SpaceId) -> tuple[SpaceRecord, list[GrantRecord]] | None:
        found = self._spaces.get(space)
        return (found, [grant for grant in self._grants.values() if grant.space == space]) if found else None

    async def space_with_grants(
        self, space: SpaceId, *users: UserId
    ) -> tuple[SpaceRecord, dict[UserId, GrantRecord]] | None:
        found = self._spaces.get(space)
        if found is None:
            return None
        return found, {user: self._grants[space, user] for user in users if (space, user) in self._grants}

    async def change_grants(
        self,
        space: SpaceRecord,
        changes: Sequence[GrantChange],
        *,
        by: UserId,
        done: Done | None = None,
        gates: Sequence[Gate] = (),
        as_admin: bool = False,
        events: Sequence[AuditEvent] = (),
        ends: SpaceInvitation | None = None,
    ) -> None:
        found = self._spaces[space.space]
        decider = self._grants.get((space.space, by))
        is_owner = decider is not None and decider.role is Role.OWNER
        owners = found.owners + sum((one.after is Role.OWNER) - (one.before is Role.OWNER) for one in changes)
        if (
            any(self._role(space.space, one.user) is not one.before for one in changes)
            or found.deletion is not None
            or owners < 1
            or not (self._accounts[by].administers if as_admin else is_owner or any(one.user == by for one in changes))
            or (done is not None and (done.user, done.request) in self._done)
            or (ends is not None and not self._is_present(ends))
        ):
            raise GrantMoved
        self.audit.check()
        self._check(gates)
        new = [one for one in changes if one.before is None]
        for one in new:
            assert one.alias, "a new grant comes with an alias"
            if self._aliases.get((one.user, fold_alias(one.alias)), space.space) != space.space:
                raise AliasTaken
        for one in new:
            self._take_alias(one.user, one.alias, space.space)
        self._pass(gates)
        for one in changes:
            self._change(space.space, one, by=by)
        self._spaces[space.space] = replace(found, owners=owners)
        self.audit.store(events)
        if done is not None:
            self._done[done.user, done.request] = done.fingerprint
        if ends is not None:
            self._remove_space_invitation(ends)

    def _role(self, space: SpaceId, user: UserId) -> Role | None:
        held = self._grants.get((space, user))
        return held.role if held is not None else None

    def _change(self, space: SpaceId, change: GrantChange, *, by: UserId) -> None:
        key, held = (space, change.user), self._grants.get((space, change.user))
        if change.after is None:
            self._grants.pop(key, None)
        elif held is None:
            self._givers[key] = by
            self._grants[key] = GrantRecord(
                space, change.user, change.email, change.after, change.alias, change.writes_since_ms
            )
        elif change.after is not change.before:
            self._grants[key] = replace(held, role=change.after, writes_since_ms=change.writes_since_ms)

    async def give_alias(self, space: SpaceId, user: UserId, alias: str) -> None:
        held = self._grants.get((space, user))
        if held is not None and held.alias is None:
            self._take_alias(user, alias, space)
            self._grants[space, user] = replace(held, alias=alias)

    def _take_alias(self, user: UserId, alias: str, space: SpaceId) -> None:
        if self._aliases.setdefault((user, fold_alias(alias)), space) != space:
            raise AliasTaken

    async def access(
        self, space: SpaceId, *, user: UserId, device: DeviceId | None
    ) -> tuple[GrantRecord | None, DeviceRecord | None]:
        granted, found = await self.accesses([(space, user)], [device] if device is not None else [])
        return granted.get((space, user)), found.get(device) if device is not None else None

    async def accesses(
        self, grants: Collection[tuple[SpaceId, UserId]], devices: Collection[DeviceId]
    ) -> tuple[Mapping[tuple[SpaceId, UserId], GrantRecord], Mapping[DeviceId, DeviceRecord]]:
        found = (self._devices[device] for device in devices if device in self._devices)
        return (
            {key: self._grants[key] for key in grants if key in self._grants and self._counts(*key)},
            {device.device: device for device in found if not self._is_suspended(device.user)},
        )

    async def deletions(self, spaces: Collection[SpaceId], *, user: UserId) -> Mapping[SpaceId, SpaceDeletion]:
        held = [space for space in spaces if (space, user) in self._grants]
        return {space: deletion for space in held if (deletion := self._deletion(space)) is not None}

    def _counts(self, space: SpaceId, user: UserId) -> bool:
        return self._deletion(space) is None and not self._is_suspended(user)

    def _deletion(self, space: SpaceId) -> SpaceDeletion | None:
        return self._spaces[space].deletion

    async def count_attempt(self, *, subject: str, peer: str | None, limit: int, window_ms: int, now_ms: int) -> int:
        count, ends_at = self._attempts.get((subject, peer), (0, 0))
        if ends_at <= now_ms:
            count, ends_at = 0, now_ms + window_ms
        elif count >= limit:
            return ends_at - now_ms
        self._attempts[subject, peer] = (count + 1, ends_at)
        return 0

    async def forget_attempts(self, *, subject: str, peer: str) -> None:
        self._attempts.pop((subject, peer), None)
        self._attempts.pop((subject, None), None)

    async def take_back_attempt(self, *, subject: str, peer: str | None) -> None:
        count, ends_at = self._attempts.get((subject, peer), (0, 0))
        if count:
            self._attempts[subject, peer] = (count - 1, ends_at)

    async def know_network(self, *, subject: str, peer: str, until_ms: int) -> None:
        self._known[subject, peer] = until_ms

    async def knows_network(self, *, subject: str, peer: str, now_ms: int) -> bool:
        return self._known.get((subject, peer), 0) > now_ms

    async def add_link(self, link: Link, *, gates: Sequence[Gate] = (), events: Sequence[AuditEvent] = ()) -> bool:
        if (link.space, link.link) in self._links or any(other.token == link.token for other in self._links.values()):
            return False
        self._check_maker(link.made_by)
        self._check(gates)
        self.audit.store(events)
        self._pass(gates)
        self._links[link.space, link.link] = link
        return True

    async def link(self, space: SpaceId, link: LinkId) -> Link | None:
        return self._links.get((space, link))

    async def link_with_token(self, token: bytes) -> Link | None:
        found = (link for link in self._links.values() if link.token == token and link.revoked_at_ms is None)
        return next(found, None)

    async def links(self, space: SpaceId) -> list[Link]:
        return [link for link in self._links.values() if link.space == space]

    async def links_of(self, user: UserId) -> list[Link]:
        return [link for link in self._links.values() if link.user == user and link.revoked_at_ms is None]

    async def revoke_link(self, link: Link, *, at_ms: int, events: Sequence[AuditEvent] = ()) -> None:
        found = self._links.get((link.space, link.link))
        if found is not None and found.revoked_at_ms is None:
            self.audit.store(events)
            self._links[link.space, link.link] = replace(found, revoked_at_ms=at_ms)

    async def without_ended(self, made: Sequence[Link]) -> list[Link]:
        found = ((one, self._links.get((one.space, one.link))) for one in made)
        return [one for one, link in found if link is not None and link.revoked_at_ms is None]

    async def drop_link(self, link: Link) -> None:
        self._links.pop((link.space, link.link), None)

    async def count_download(self, space: SpaceId, link: LinkId, request: RequestId, *, now_ms: int) -> bool:
        if (link, request) in self._counted:
            return True
        found = self._links.get((space, link))
        if found is None or found.revoked_at_ms is not None or found.downloads >= found.max_downloads:
            return False
        self._links[space, link] = replace(found, downloads=found.downloads + 1)
        self._counted.add((link, request))
        return True

    async def begin_ending(self, ending: DeviceEnding) -> None:
        self._endings[ending.ident] = ending

    async def endings(self) -> list[DeviceEnding]:
        return list(self._endings.values())

    async def take_ending(self, ending: DeviceEnding, *, due_at_ms: int) -> DeviceEnding | None:
        found = self._endings.get(ending.ident)
        if found is None or found.due_at_ms != ending.due_at_ms:
            return None
        taken = self._endings[ending.ident] = replace(found, due_at_ms=due_at_ms, attempts=found.attempts + 1)
        return taken

    async def forget_ending(self, ending: DeviceEnding) -> None:
        self._endings.pop(ending.ident, None)

    async def done(self, user: UserId, request: RequestId) -> bytes | None:
        return self._done.get((user, request))

    async def note(self, done: Done) -> None:
        self._done.setdefault((done.user, done.request), done.fingerprint)

    async def note_writing(self, space: SpaceId, *, hour: int) -> None:
        self._written.add((hour, space))

    async def written(self, *, hour: int, after: str, limit: int) -> list[SpaceId]:
        return sorted(space for noted, space in self._written if noted == hour and space > after)[:limit]

    async def uploads(self, space: SpaceId) -> SpaceUploads | None:
        return self._uploads.get(space)

    async def reservations(self, spaces: Collection[SpaceId]) -> Mapping[SpaceId, Reservation]:
        return {space: self._reservations[space] for space in spaces if space in self._reservations}

    async def reserved_for(self, users: Collection[UserId]) -> Mapping[UserId, int]:
        return self._reserved_for(users)

    def _reserved_for(self, users: Collection[UserId]) -> Counter[UserId]:
        sums: Counter[UserId] = Counter()
        for one in self._reservations.values():
            if one.payer in users and one.payer is not None:
                sums[one.payer] += one.reserved_bytes
        return sums

    async def change_reservation(self, before: Reservation, after: Reservation, *, quota_bytes: int | None) -> None:
        if self._reservations.get(before.space, Reservation(before.space)) != before:
            raise ReservationMoved
        if after.payer is not None and quota_bytes is not None:
            taken = self._reserved_for([after.payer])[after.payer]
            more = after.reserved_bytes - (before.reserved_bytes if before.payer == after.payer else 0)
            if more > 0 and taken + more > quota_bytes:
                raise QuotaReached
        self._reservations[after.space] = after

    async def set_uploads(self, space: SpaceId, uploads: SpaceUploads) -> bool:
        before = self._uploads.get(space)
        if before is not None and before.measured_at_ms > uploads.measured_at_ms:
            return False
        self._uploads[space] = uploads
        return True

    async def gates(self, *names: str) -> list[Gate]:
        return [Gate(name, self._gates[name]) for name in names]

    def _check(self, gates: Sequence[Gate]) -> None:
        if any(self._gates[gate.name] != gate.version for gate in gates):
            raise GateMoved

    def _pass(self, gates: Sequence[Gate]) -> None:
        self._check(gates)
        self._gates.update(gate.name for gate in gates)


class InMemoryCredentialSource:
    """CredentialSource that makes up credentials, and remembers for which policies."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self.policies: list[str] = []

    async def assume(self, *, session_name: str, policy: str, seconds: int) -> TemporaryCredentials:
        assert len(session_name) <= 64
        self.policies.append(policy)
        number = next(self._numbers)
        return TemporaryCredentials(
            f"ASIA{number:016}", f"secret-{number}", f"session-{number}", self._clock() + seconds * SECOND_MS
        )


class InMemoryMailRequests:
    """MailRequests in a list, which fail as long as `down` is True."""

    def __init__(self) -> None:
        self.sent: list[Any] = []  # the kinds of mail have little in common
        self.down = False

    async def send(self, mail: AccountMail) -> None:
        if self.down:
            raise Unavailable("the queue of mail does not answer; try again")
        self.sent.append(mail)
