"""Everything in memory: for tests, and to show what the ports ask for in its plainest form."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from services.auth.aliases import PERSONAL, fold_alias
from services.auth.ports import (
    AdminExists,
    AliasTaken,
    ChainMoved,
    GateMoved,
    GrantMoved,
    InvitationSpent,
    MakerEnded,
    ProofSpent,
)
from services.auth.records import (
    SECOND_MS,
    Account,
    Chain,
    Clock,
    DeviceEnding,
    DeviceRecord,
    Done,
    Gate,
    GrantRecord,
    Invitation,
    InvitationMail,
    Link,
    Login,
    Membership,
    Proof,
    ProofMail,
    SpaceRecord,
    SpaceUploads,
    TemporaryCredentials,
)
from services.auth.spaces import personal_space
from syncline.model.accounts import Role
from syncline.model.errors import AccountExists, AddressTaken, Unavailable
from syncline.model.identifiers import DeviceId, LinkId, RequestId, SpaceId, UserId


class InMemoryIdentityStore:
    """IdentityStore in dictionaries. Nothing awaits within a method, so each is atomic."""

    def __init__(self) -> None:
        self._logins: dict[str, Login] = {}
        self._accounts: dict[UserId, Account] = {}
        self._claims: dict[str, Login] = {}
        self._unproven: dict[UserId, Login] = {}
        self._proofs: dict[bytes, Proof] = {}
        self._invitations: dict[bytes, Invitation] = {}
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
        self._known: dict[tuple[str, str], int] = {}
        self._endings: dict[str, DeviceEnding] = {}

    async def create_account(self, login: Login, *, device: DeviceRecord, invitation: Invitation | None = None) -> None:
        account = login.account
        if account.proven and account.email in self._logins:
            raise AccountExists
        if invitation is not None and invitation.token not in self._invitations:
            raise InvitationSpent
        if account.admin and self._admins:
            raise AdminExists
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
        await self.create_space(personal_space(account), owner=account, alias=PERSONAL)

    async def login(self, email: str) -> Login | None:
        return self._logins.get(email)

    async def claim(self, email: str) -> Login | None:
        return self._claims.get(email)

    async def unproven(self, user: UserId) -> Login | None:
        return self._unproven.get(user)

    async def add_invitation(self, invitation: Invitation) -> None:
        self._invitations[invitation.token] = invitation

    async def invitation(self, token: bytes) -> Invitation | None:
        return self._invitations.get(token)

    async def has_admin(self) -> bool:
        return bool(self._admins)

    async def add_proof(self, proof: Proof) -> None:
        self._proofs[proof.token] = proof

    async def proof(self, token: bytes) -> Proof | None:
        return self._proofs.get(token)

    async def prove(self, login: Login, proof: Proof) -> None:
        account = replace(login.account, proven=True)
        if account.user not in self._unproven or proof.token not in self._proofs:
            raise ProofSpent
        if account.email in self._logins:
            raise AddressTaken
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

    async def add_device(self, device: DeviceRecord, *, gates: Sequence[Gate] = ()) -> bool:
        if device.device in self._devices:
            return False
        self._check_maker(device.made_by)
        self._pass(gates)
        self._devices[device.device] = device
        return True

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

    async def revoke_device(self, device: DeviceId, *, at_ms: int) -> None:
        found = self._devices.get(device)
        if found is not None and found.revoked_at_ms is None:
            self._devices[device] = replace(found, revoked_at_ms=at_ms)

    async def forget_device(self, device: DeviceId, *, until_ms: int) -> None:  # nothing is dropped
        self._forgotten.add(device)

    async def create_space(self, space: SpaceRecord, *, owner: Account, alias: str, gates: Sequence[Gate] = ()) -> bool:
        if space.space in self._spaces:
            return False
        self._check(gates)
        self._take_alias(owner.user, alias, space.space)
        self._pass(gates)
        self._spaces[space.space] = space
        self._givers[space.space, owner.user] = owner.user
        self._grants[space.space, owner.user] = GrantRecord(space.space, owner.user, owner.email, Role.OWNER, alias)
        return True

    async def memberships(self, user: UserId) -> list[Membership]:
        held = [grant for grant in self._grants.values() if grant.user == user]
        return [
            Membership(
                space.space, space.name, space.personal, grant.role, grant.alias, self._givers.get((grant.space, user))
            )
            for grant in held
            if (space := self._spaces[grant.space])
        ]

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

    async def change_grant(
        self,
        space: SpaceRecord,
        *,
        member: Account,
        before: Role | None,
        after: Role | None,
        by: UserId,
        alias: str = "",
        writes_since_ms: int = 0,
        done: Done | None = None,
        gates: Sequence[Gate] = (),
    ) -> None:
        key = (space.space, member.user)
        found = self._spaces[space.space]
        held, decider = self._grants.get(key), self._grants.get((space.space, by))
        owners = found.owners + (after is Role.OWNER) - (before is Role.OWNER)
        if (
            (held.role if held else None) is not before
            or owners < 1
            or (by != member.user and (decider is None or decider.role is not Role.OWNER))
            or (done is not None and (done.user, done.request) in self._done)
        ):
            raise GrantMoved
        if after is None:
            self._grants.pop(key, None)
        elif held is None:
            assert alias, "a new grant comes with an alias"
            self._check(gates)
            self._take_alias(member.user, alias, space.space)
            self._pass(gates)
            self._givers[key] = by
            self._grants[key] = GrantRecord(space.space, member.user, member.email, after, alias, writes_since_ms)
        else:
            self._grants[key] = replace(held, role=after, writes_since_ms=writes_since_ms)
        self._spaces[space.space] = replace(found, owners=owners)
        if done is not None:
            self._done[done.user, done.request] = done.fingerprint

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
        return self._grants.get((space, user)), self._devices.get(device) if device is not None else None

    async def accesses(
        self, grants: Collection[tuple[SpaceId, UserId]], devices: Collection[DeviceId]
    ) -> tuple[Mapping[tuple[SpaceId, UserId], GrantRecord], Mapping[DeviceId, DeviceRecord]]:
        return (
            {key: self._grants[key] for key in grants if key in self._grants},
            {device: self._devices[device] for device in devices if device in self._devices},
        )

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

    async def take_back_attempt(self, *, subject: str, peer: str) -> None:
        count, ends_at = self._attempts.get((subject, peer), (0, 0))
        if count:
            self._attempts[subject, peer] = (count - 1, ends_at)

    async def know_network(self, *, subject: str, peer: str, until_ms: int) -> None:
        self._known[subject, peer] = until_ms

    async def knows_network(self, *, subject: str, peer: str, now_ms: int) -> bool:
        return self._known.get((subject, peer), 0) > now_ms

    async def add_link(self, link: Link, *, gates: Sequence[Gate] = ()) -> bool:
        if (link.space, link.link) in self._links or any(other.token == link.token for other in self._links.values()):
            return False
        self._check_maker(link.made_by)
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

    async def revoke_link(self, link: Link, *, at_ms: int) -> None:
        found = self._links.get((link.space, link.link))
        if found is not None and found.revoked_at_ms is None:
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
        self.sent: list[ProofMail | InvitationMail] = []
        self.down = False

    async def send(self, mail: ProofMail | InvitationMail) -> None:
        if self.down:
            raise Unavailable("the queue of mail does not answer; try again")
        self.sent.append(mail)
