"""The store of accounts, devices, grants and links in DynamoDB. `layout.py` describes the items."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aws.dynamodb import (
    CONDITION_FAILED,
    CONFLICT,
    NEW,
    RETRIES,
    THERE,
    Cancelled,
    ConditionFailed,
    Item,
    Table,
    all_done,
    attribute,
    bytes_of,
    key_of,
    number_of,
    text_of,
)
from services.auth.adapters import layout
from services.auth.adapters.dynamodb_audit import DynamoAuditStore
from services.auth.aliases import PERSONAL
from services.auth.audit.events import AuditEvent
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
    DAY_MS,
    HOUR_MS,
    Account,
    Chain,
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
    UserState,
)
from services.auth.spaces import personal_role, personal_space
from syncline.model.accounts import Role
from syncline.model.errors import AccountExists, AddressTaken, Unavailable
from syncline.model.identifiers import DeviceId, LinkId, RequestId, SpaceId, UserId
from syncline.model.limits import ANSWER_DAYS

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

_MAX_COUNTER_ATTEMPTS: Final = 5
_ADMINISTERS: Final = f"admin = :yes AND {layout.NOT_SUSPENDED}"
"""The condition on an ACCOUNT item that the account is that of an administrator who is not suspended."""
_NOT_DELETED: Final = "attribute_not_exists(deleted_at)"
"""The condition on a SPACE item that the space is not deleted."""
_IS_THIS_INVITATION: Final = "token_digest = :token"
"""The condition that an invitation that was read has neither ended nor was replaced (`_this_invitation`)."""
_IS_THIS_FACTOR: Final = "factor_version = :version AND salt = :salt"
"""The condition that a second factor that was read has neither been changed nor replaced."""


class DynamoIdentityStore:
    """Implements IdentityStore on the identity table."""

    def __init__(self, client: DynamoDBClient, *, table: str, audit: DynamoAuditStore) -> None:
        """`table` is the name of the identity table, and `audit` the log that gets the events of changes."""
        self._audit = audit
        self._table = Table(client, table, called="the identity table")

    # ---- accounts

    async def create_account(
        self,
        login: Login,
        *,
        device: DeviceRecord,
        invitation: Invitation | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> None:
        account = login.account
        writes = [
            self._table.putting(layout.login_item(login), NEW if account.proven else None),
            self._table.putting(layout.account_item(login)),
            *self._puts_of_space(personal_space(account), owner=account, alias=PERSONAL, role=personal_role(account)),
            self._table.putting(layout.device_item(device)),
            *(self._table.putting(layout.account_entry_item(account, state)) for state in (None, *account.states)),
        ]
        conditions: list[tuple[int, type[Exception]]] = [(0, AccountExists)]
        if invitation is not None:
            conditions.append((len(writes), InvitationSpent))
            writes.append(self._table.deleting(layout.invitation_key(invitation.token), condition=THERE))
        if account.admin:
            conditions.append((len(writes), AdminExists))
            writes.append(self._table.putting(layout.admin_item(account), NEW))
        try:
            await self._table.transact(*writes, *self._audit.writes(events))
        except Cancelled as cancelled:
            for at, error in conditions:
                if cancelled.reasons[at] == CONDITION_FAILED:
                    raise error from None
            raise Unavailable("another sign-up with this address is in progress; try again") from None

    async def login(self, email: str) -> Login | None:
        item = await self._table.get(layout.login_key(email))
        return layout.login_from_item(email, item, proven=True) if item else None

    async def claim(self, email: str) -> Login | None:
        item = await self._table.get(layout.claim_key(email))
        return layout.login_from_item(email, item, proven=False) if item else None

    async def unproven(self, user: UserId) -> Login | None:
        item = await self._table.get(layout.account_key(user))
        account = layout.account_from_item(user, item) if item else None
        return Login(account, text_of(item, "password_hash")) if item and account and not account.proven else None

    async def account(self, user: UserId) -> Account | None:
        item = await self._table.get(layout.account_key(user))
        return layout.account_from_item(user, item) if item else None

    async def replace_password_hash(self, email: str, *, old: str, new: str) -> None:
        with suppress(ConditionFailed):
            await self._table.update(
                layout.login_key(email),
                update="SET password_hash = :new",
                condition="password_hash = :old",
                values={":old": attribute(old), ":new": attribute(new)},
            )

    # ---- invitations

    async def add_invitation(self, invitation: Invitation, *, events: Sequence[AuditEvent] = ()) -> None:
        await self._put_with(layout.invitation_item(invitation), events)

    async def invitation(self, token: bytes) -> Invitation | None:
        item = await self._table.get(layout.invitation_key(token))
        return layout.invitation_from_item(token, item) if item else None

    async def has_admin(self) -> bool:
        return await self._table.get(layout.admin_key()) is not None

    async def suspended(self, users: Collection[UserId]) -> set[UserId]:
        items = await self._table.get_all([layout.account_key(user) for user in set(users)])
        return {account.user for account in map(layout.account_in, items) if account.suspension is not None}

    # ---- lists of all accounts and spaces, and what administrators change

    async def list_users(
        self, state: UserState | None, *, beginning: str, after: str, limit: int
    ) -> list[tuple[str, Account]]:
        entries = await self._listed(layout.entries_pk(state), beginning=beginning, after=after, limit=limit)
        places = {layout.entry_user(item): text_of(item, "sk") for item in entries}
        items = await self._table.get_all([layout.account_key(user) for user in places])
        found = {account.user: account for account in map(layout.account_in, items)}
        return [(place, found[user]) for user, place in places.items() if user in found]

    async def list_spaces(self, *, after: str, limit: int) -> list[tuple[str, SpaceRecord]]:
        entries = await self._listed(layout.SHARED_PK, beginning="", after=after, limit=limit)
        places = {layout.shared_space(item): text_of(item, "sk") for item in entries}
        items = await self._table.get_all([layout.space_key(space) for space in places])
        found = {space.space: space for space in map(layout.space_in, items)}
        return [(place, found[space]) for space, place in places.items() if space in found]

    async def _listed(self, pk: str, *, beginning: str, after: str, limit: int) -> list[Item]:
        """Return up to `limit` items of a partition, in the order of their sort keys, that begin with the text
        `beginning` and are greater than `after`; empty texts stand for no such condition.
        """
        narrower = {":beginning": attribute(beginning)} if beginning else {}
        query = self._table.query(
            limit,
            after=key_of(pk, after) if after else None,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :beginning)" if beginning else "pk = :pk",
            ExpressionAttributeValues={":pk": attribute(pk), **narrower},
        )
        return [item async for item in query]

    async def change_standing(
        self, before: Account, after: Account, *, by: UserId, done: Done, events: Sequence[AuditEvent] = ()
    ) -> None:
        admins = after.administers - before.administers
        writes = [self._standing(before, after, by_oneself=by == before.user)]
        if by != before.user:
            writes.append(self._checks_admin(by))
        writes.append(self._table.putting(layout.done_item(done), NEW))
        if before.admin != after.admin:
            writes.append(
                self._table.updating(
                    layout.login_key(before.email),
                    update="SET admin = :admin",
                    condition="#user = :user",
                    values={":admin": attribute(after.admin), ":user": attribute(before.user)},
                    names={"#user": "user"},
                )
            )
        writes += [
            self._table.putting(layout.account_entry_item(after, state)) for state in after.states - before.states
        ]
        writes += [
            self._table.deleting(layout.account_entry_key(after, state)) for state in before.states - after.states
        ]
        writes += self._audit.writes(events)
        if admins:
            writes.append(self._counting_admins(admins))
        try:
            await self._table.transact(*writes)
        except Cancelled as cancelled:
            *others, last = cancelled.reasons
            if admins < 0 and last == CONDITION_FAILED and {CONDITION_FAILED, CONFLICT}.isdisjoint(others):
                raise NoAdministratorLeft from None
            raise StandingMoved from None

    def _standing(self, before: Account, after: Account, *, by_oneself: bool) -> Item:
        """Return the update of the ACCOUNT item from `before` to `after`, on the condition that it is as in `before`,
        and with `by_oneself` that it is an administrator's.
        """
        values = {":admin": attribute(after.admin), ":yes": attribute(True)}
        sets, removed = ["admin = :admin"], []
        if after.suspension is None:
            removed += ["suspended_at", "suspended_by", "suspended_for"]
        else:
            new = layout.suspension_attributes(after.suspension)
            sets += [f"{name} = :{name}" for name in new]
            values |= {f":{name}": value for name, value in new.items()}
        quota = _QuotaWrite(before.quota_bytes, after.quota_bytes)
        values |= quota.values
        sets += quota.sets
        removed += quota.removed
        conditions = [THERE, "admin = :yes" if before.admin else "NOT admin = :yes", quota.condition]
        if before.suspension is None:
            conditions.append(layout.NOT_SUSPENDED)
        else:
            conditions.append("suspended_at = :since")
            values[":since"] = attribute(before.suspension.since_ms)
        if by_oneself:
            conditions.append(_ADMINISTERS)
        return self._table.updating(
            layout.account_key(before.user),
            update=f"SET {', '.join(sets)}{_removing(removed)}",
            condition=" AND ".join(conditions),
            values=values,
        )

    def _checks_admin(self, user: UserId) -> Item:
        """Return the condition, as a part of a transaction, that a user is an administrator who is not suspended."""
        return self._table.checking(layout.account_key(user), _ADMINISTERS, {":yes": attribute(True)})

    def _counting_admins(self, more: int) -> Item:
        # A count is absent from before there could be more than one administrator.
        if more > 0:
            return self._table.updating(
                layout.admin_key(),
                update="SET admins = if_not_exists(admins, :one) + :one",
                condition=THERE,
                values={":one": attribute(1)},
            )
        return self._table.updating(
            layout.admin_key(),
            update="SET admins = admins - :one",
            condition="admins > :one",
            values={":one": attribute(1)},
        )

    async def enter_earlier(self) -> bool:
        if await self._table.get(layout.entered_key()) is not None:
            return False
        async for items in self._table.scan(
            FilterExpression="sk = :account OR sk = :space",
            ExpressionAttributeValues={":account": attribute("ACCOUNT"), ":space": attribute("SPACE")},
        ):
            accounts = [layout.account_in(item) for item in items if text_of(item, "sk") == "ACCOUNT"]
            spaces = [layout.space_in(item) for item in items if text_of(item, "sk") == "SPACE"]
            entries = [layout.account_entry_item(account, None) for account in accounts]
            entries += [layout.shared_item(space) for space in spaces if not space.personal]
            await all_done(self._table.puts(entries))
            for account in accounts:
                await self._enter_states(account)
        return True

    async def _enter_states(self, account: Account) -> None:
        """Add the ENTRY items of the states of an account, unless the account has changed since it was read."""
        if not account.states:
            return
        unchanged = self._table.checking(
            layout.account_key(account.user),
            " AND ".join(
                (
                    THERE if account.proven else "NOT proven = :yes",
                    "admin = :yes" if account.admin else "NOT admin = :yes",
                    layout.NOT_SUSPENDED if account.suspension is None else "attribute_exists(suspended_at)",
                )
            ),
            {":yes": attribute(True)},
        )
        with suppress(Cancelled):  # the change of the account has changed the lists
            await self._table.transact(
                unchanged, *(self._table.putting(layout.account_entry_item(account, state)) for state in account.states)
            )

    async def finish_entering(self) -> None:
        await self._table.put(layout.entered_key())

    # ---- invitations to spaces

    async def add_space_invitation(
        self,
        invitation: SpaceInvitation,
        *,
        replacing: SpaceInvitation | None,
        done: Done,
        gates: Sequence[Gate] = (),
        events: Sequence[AuditEvent] = (),
    ) -> None:
        items = layout.space_invitation_items(invitation)
        right = Invitation(invitation.token, invitation.email, invitation.expires_at_ms, invitation.space)
        present = NEW if replacing is None else _IS_THIS_INVITATION
        writes = [
            self._table.putting(items[0], present, None if replacing is None else _this_invitation(replacing)),
            *map(self._table.putting, [*items[1:], layout.invitation_item(right)]),
            self._table.checking(layout.login_key(invitation.email), NEW),
            self._table.checking(layout.grant_key(invitation.space, invitation.by), **_role_is(Role.OWNER)),
            self._table.checking(layout.space_key(invitation.space), _NOT_DELETED),
            self._table.putting(layout.done_item(done), NEW),
        ]
        if replacing is not None and replacing.token != invitation.token:
            writes.append(self._table.deleting(layout.invitation_key(replacing.token)))
        if replacing is not None and replacing.by != invitation.by:
            writes.append(self._table.deleting(layout.inviting_key(replacing)))
        writes += self._audit.writes(events)
        try:
            await self._table.transact(*writes, *self._passes(gates))
        except Cancelled as cancelled:
            _raise_if_moved(cancelled, gates)
            raise GrantMoved from None

    async def space_invitation(self, space: SpaceId, email: str) -> SpaceInvitation | None:
        item = await self._table.get(layout.invited_key(space, email))
        return layout.space_invitation_from_item(item) if item else None

    async def invitations_to(self, space: SpaceId) -> list[SpaceInvitation]:
        query = self._table.query(
            KeyConditionExpression="pk = :invited",
            ExpressionAttributeValues={":invited": attribute(layout.invited_pk(space))},
        )
        return [layout.space_invitation_from_item(item) async for item in query]

    async def invitations_for(self, email: str) -> list[SpaceInvitation]:
        return await self._invitations_in(layout.address_pk(email))

    async def invitations_by(self, user: UserId) -> list[SpaceInvitation]:
        return await self._invitations_in(layout.user_pk(user))

    async def _invitations_in(self, partition: str) -> list[SpaceInvitation]:
        query = self._table.query(
            KeyConditionExpression="pk = :partition AND begins_with(sk, :invitations)",
            ExpressionAttributeValues={
                ":partition": attribute(partition),
                ":invitations": attribute(layout.INVITATION_PREFIX),
            },
        )
        return [layout.space_invitation_from_item(item) async for item in query]

    async def end_space_invitation(
        self, invitation: SpaceInvitation, *, done: Done | None = None, events: Sequence[AuditEvent] = ()
    ) -> None:
        writes = self._ends(invitation)
        if done is not None:
            writes.append(self._table.putting(layout.done_item(done), NEW))
        try:
            await self._table.transact(*writes, *self._audit.writes(events))
        except Cancelled:
            raise GrantMoved from None

    def _ends(self, invitation: SpaceInvitation) -> list[Item]:
        """Return the writes that remove an invitation, on the condition that it has neither ended nor was replaced."""
        return [
            self._table.deleting(
                layout.invited_key(invitation.space, invitation.email),
                condition=_IS_THIS_INVITATION,
                values=_this_invitation(invitation),
            ),
            self._table.deleting(layout.offer_key(invitation.space, invitation.email)),
            self._table.deleting(layout.inviting_key(invitation)),
            self._table.deleting(layout.invitation_key(invitation.token)),
        ]

    # ---- proofs

    async def add_proof(self, proof: Proof, *, events: Sequence[AuditEvent] = ()) -> None:
        await self._put_with(layout.proof_item(proof), events)

    async def proof(self, token: bytes) -> Proof | None:
        item = await self._table.get(layout.proof_key(token))
        return layout.proof_from_item(token, item) if item else None

    async def prove(self, login: Login, proof: Proof, *, events: Sequence[AuditEvent] = ()) -> None:
        account = replace(login.account, proven=True)
        claimant = await self.claim(account.email)
        writes = [
            self._table.putting(layout.login_item(replace(login, account=account)), NEW),
            self._table.updating(
                layout.account_key(account.user),
                update="SET proven = :yes REMOVE password_hash",
                condition="proven = :no",
                values={":yes": attribute(True), ":no": attribute(False)},
            ),
            self._table.deleting(layout.proof_key(proof.token), condition=THERE),
            self._table.deleting(layout.account_entry_key(account, UserState.UNPROVEN)),
        ]
        if claimant is not None and claimant.account.user == account.user:
            writes.append(
                self._table.deleting(
                    layout.claim_key(account.email),
                    condition="#user = :user",
                    values={":user": attribute(account.user)},
                    names={"#user": "user"},
                )
            )
        try:
            await self._table.transact(*writes, *self._audit.writes(events))
        except Cancelled as cancelled:
            # The login of this account itself is there after a concurrent call of the same account.
            if CONDITION_FAILED in cancelled.reasons[1:3]:
                raise ProofSpent from None
            if cancelled.reasons[0] == CONDITION_FAILED:
                raise AddressTaken from None
            raise Unavailable("another account of this address is being made or proven; try again") from None

    # ---- passwords

    async def add_reset(self, reset: Reset) -> None:
        await self._table.put(layout.reset_item(reset))

    async def reset(self, token: bytes) -> Reset | None:
        item = await self._table.get(layout.reset_key(token))
        return layout.reset_from_item(token, item) if item else None

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
        unchanged = _is_password_of(login)
        values = {":new": attribute(password_hash), ":number": attribute(change.number)}
        writes = [
            self._table.updating(
                layout.login_key(login.account.email),
                update="SET password_hash = :new, password_changes = :number",
                **{**unchanged, "values": {**unchanged["values"], **values}},
            ),
            self._table.putting(layout.change_item(change), NEW),
        ]
        conditions: list[tuple[int, type[Exception]]] = []
        if reset is not None:
            conditions.append((len(writes), ResetSpent))
            writes.append(self._table.deleting(layout.reset_key(reset.token), condition=THERE))
        if change.keep is not None:
            conditions.append((len(writes), MakerEnded))
            writes += self._checks_maker(change.keep)
        conditions.append((0, PasswordMoved))
        if done is not None:
            conditions.append((len(writes), PasswordMoved))
            writes.append(self._table.putting(layout.done_item(done), NEW))
        for pause in RETRIES.pauses():
            try:
                await self._table.transact(*writes, *self._audit.writes(events))
            except Cancelled as cancelled:
                for at, error in conditions:
                    if cancelled.reasons[at] == CONDITION_FAILED:
                        raise error from None
                await asyncio.sleep(pause)  # a device of the account signs in at this moment
            else:
                return
        raise Unavailable("too many devices of the account sign in at this moment; try again")

    async def password_changes(self) -> list[PasswordChange]:
        query = self._table.query(
            KeyConditionExpression="pk = :changes",
            ExpressionAttributeValues={":changes": attribute(layout.PASSWORD_CHANGES_PK)},
        )
        return [layout.change_from_item(item) async for item in query]

    async def update_change(self, change: PasswordChange, to: PasswordChange) -> bool:
        not_taken = "due_at = :due"
        try:
            await self._table.put(layout.change_item(to), not_taken, {":due": attribute(change.due_at_ms)})
        except ConditionFailed:
            return False
        return True

    async def forget_change(self, change: PasswordChange) -> None:
        await self._delete(layout.change_key(change))

    # ---- second factors

    async def factor(self, user: UserId) -> SecondFactor | None:
        item = await self._table.get(layout.factor_key(user))
        return layout.factor_from_item(user, item) if item else None

    async def change_factor(
        self, before: SecondFactor | None, after: SecondFactor | None, *, events: Sequence[AuditEvent] = ()
    ) -> bool:
        unchanged, values = NEW, None
        if before is not None:
            unchanged = _IS_THIS_FACTOR
            values = {":version": attribute(before.version), ":salt": attribute(before.salt)}
        if after is not None:
            stored = replace(after, version=0 if before is None else before.version + 1)
            write = self._table.putting(layout.factor_item(stored), unchanged, values)
        else:
            assert before is not None, "a factor becomes none"
            write = self._table.deleting(layout.factor_key(before.user), condition=unchanged, values=values)
        try:
            await self._table.transact(write, *self._audit.writes(events))
        except Cancelled as cancelled:
            if cancelled.reasons[0] in {CONDITION_FAILED, CONFLICT}:
                return False
            raise Unavailable("the second factor could not be changed; try again") from None
        return True

    # ---- devices

    async def add_device(
        self,
        device: DeviceRecord,
        *,
        gates: Sequence[Gate] = (),
        login: Login | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        writes = [self._table.putting(layout.device_item(device), NEW)]
        if device.made_by is not None:
            writes.append(self._table.putting(layout.made_key_item(device.made_by, device)))
        maker, maker_at = self._checks_maker(device.made_by), len(writes)
        writes += maker
        login_at = len(writes)
        if login is not None:
            writes.append(self._table.checking(layout.login_key(login.account.email), **_is_password_of(login)))
        for pause in RETRIES.pauses():
            try:
                await self._table.transact(*writes, *self._audit.writes(events), *self._passes(gates))
            except Cancelled as cancelled:
                if cancelled.reasons[0] == CONDITION_FAILED:
                    return False
                _raise_if_maker_ended(cancelled, maker, at=maker_at)
                _raise_if_moved(cancelled, gates)
                if login is None:
                    break
                if cancelled.reasons[login_at] == CONDITION_FAILED:
                    raise PasswordMoved from None
                await asyncio.sleep(pause)  # other devices of the account sign in at this moment
            else:
                return True
        raise Unavailable("the same request is in progress already; try again")

    async def signed_in(self, user: UserId, device: DeviceId) -> tuple[Account | None, DeviceRecord | None]:
        account: Account | None = None
        found: DeviceRecord | None = None
        for item in await self._table.get_all([layout.account_key(user), layout.device_key(device)]):
            if text_of(item, "sk") == "DEVICE":
                found = layout.device_from_item(item)
            else:
                account = layout.account_in(item)
        return account, found

    async def device(self, device: DeviceId) -> DeviceRecord | None:
        item = await self._table.get(layout.device_key(device))
        return layout.device_from_item(item) if item else None

    async def devices(self, user: UserId, *, including: DeviceId | None = None) -> list[DeviceRecord]:
        # The index lags, so it is used only to find the devices; their state is read from the table itself.
        keys = [layout.device_key(including)] if including is not None else []
        async for item in self._table.query(
            consistent=False,
            IndexName="gsi1",
            KeyConditionExpression="gsi1pk = :user",
            ProjectionExpression="pk, sk",
            ExpressionAttributeValues={":user": attribute(layout.user_pk(user))},
        ):
            key = {"pk": item["pk"], "sk": item["sk"]}
            if key not in keys[:1]:
                keys.append(key)
        return [layout.device_from_item(item) for item in await self._table.get_all(keys)]

    async def keys_of(self, maker: DeviceId) -> list[DeviceRecord]:
        query = self._table.query(
            KeyConditionExpression="pk = :maker AND begins_with(sk, :keys)",
            ExpressionAttributeValues={
                ":maker": attribute(layout.device_pk(maker)),
                ":keys": attribute(layout.KEY_PREFIX),
            },
        )
        keys = [layout.device_key(layout.program_of(item)) async for item in query]
        return [layout.device_from_item(item) for item in await self._table.get_all(keys)]

    async def advance_chain(self, device: DeviceId, *, expected: Chain, to: Chain, seen_at_ms: int) -> None:
        chain_unmoved, not_revoked = "refresh_current = :expected", "attribute_not_exists(revoked_at)"
        assert to.previous is not None, "a chain never goes back to its start"
        try:
            await self._table.update(
                layout.device_key(device),
                update="SET refresh_current = :current, refresh_previous = :previous, refresh_until = :until, "
                "expires_at = :expires_at, last_seen_at = :seen",
                condition=f"{chain_unmoved} AND {not_revoked}",
                values={
                    ":expected": attribute(expected.current),
                    ":current": attribute(to.current),
                    ":previous": attribute(to.previous),
                    ":until": attribute(to.expires_at_ms),
                    ":expires_at": layout.time_to_live(to.expires_at_ms),
                    ":seen": attribute(seen_at_ms),
                },
            )
        except ConditionFailed as failed:
            item = failed.found
            # The SDK repeats a call whose answer was lost: the stored item is then the one that this call wrote.
            if item and "revoked_at" not in item and layout.refresh_current(item) == to.current:
                return
            raise ChainMoved from None

    async def key_used(self, device: DeviceId, *, seen_at_ms: int, expires_at_ms: int) -> None:
        has_key, not_revoked = "attribute_exists(key_digest)", "attribute_not_exists(revoked_at)"
        not_seen_later = "last_seen_at <= :seen"
        with suppress(ConditionFailed):
            await self._table.update(
                layout.device_key(device),
                update="SET last_seen_at = :seen, key_until = :until, expires_at = :expires_at",
                condition=f"{has_key} AND {not_revoked} AND {not_seen_later}",
                values={
                    ":seen": attribute(seen_at_ms),
                    ":until": attribute(expires_at_ms),
                    ":expires_at": layout.time_to_live(expires_at_ms),
                },
            )

    async def revoke_device(self, device: DeviceId, *, at_ms: int, events: Sequence[AuditEvent] = ()) -> None:
        not_revoked = "attribute_not_exists(revoked_at)"
        revoked = self._table.updating(
            layout.device_key(device),
            update="SET revoked_at = :at",
            condition=f"{THERE} AND {not_revoked}",
            values={":at": attribute(at_ms)},
        )
        for pause in RETRIES.pauses():
            try:
                await self._table.transact(revoked, *self._audit.writes(events))
            except Cancelled as cancelled:
                if CONDITION_FAILED in cancelled.reasons:
                    return
                await asyncio.sleep(pause)  # the device is being used at this moment
            else:
                return
        raise Unavailable("the device is being used or ended; try again")

    async def forget_device(self, device: DeviceId, *, until_ms: int) -> None:
        with suppress(ConditionFailed):
            await self._table.update(
                layout.device_key(device),
                update="SET expires_at = :expires_at REMOVE gsi1pk, gsi1sk",
                condition=THERE,
                values={":expires_at": layout.time_to_live(until_ms)},
            )

    # ---- spaces and grants

    async def create_space(
        self,
        space: SpaceRecord,
        *,
        owner: Account,
        alias: str,
        gates: Sequence[Gate] = (),
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        puts = self._puts_of_space(space, owner=owner, alias=alias)
        try:
            await self._table.transact(*puts, *self._audit.writes(events), *self._passes(gates))
        except Cancelled as cancelled:
            if cancelled.reasons[0] == CONDITION_FAILED:
                return False
            _raise_if_moved(cancelled, gates)
            if CONDITION_FAILED in cancelled.reasons[len(puts) - 1 : len(puts)]:
                raise AliasTaken from None
            raise Unavailable("the same request is in progress already; try again") from None
        return True

    async def memberships(self, user: UserId) -> list[Membership]:
        query = self._table.query(
            KeyConditionExpression="pk = :user AND begins_with(sk, :spaces)",
            ExpressionAttributeValues={
                ":user": attribute(layout.user_pk(user)),
                ":spaces": attribute(layout.MEMBERSHIP_PREFIX),
            },
        )
        found = [layout.membership_from_item(item) async for item in query]
        spaces = await self._spaces({one.space for one in found})
        return [
            replace(one, name=spaces[one.space].name, deletion=spaces[one.space].deletion)
            if one.space in spaces
            else one
            for one in found
        ]

    async def forget_membership(self, space: SpaceId, user: UserId) -> None:
        await self._delete(layout.membership_key(space, user))

    async def _spaces(self, spaces: Collection[SpaceId]) -> dict[SpaceId, SpaceRecord]:
        items = await self._table.get_all([layout.space_key(space) for space in spaces])
        return {space.space: space for space in map(layout.space_in, items)}

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
        deletion = after.deletion
        sets, removed = ["#name = :name"], []
        values = {":name": attribute(after.name), ":was": attribute(before.name)}
        if after.made_as:
            sets.append("made_as = :made_as")
            values[":made_as"] = attribute(after.made_as)
        if deletion is None:
            removed += ["deleted_at", "deleted_until"]
        else:
            sets += ["deleted_at = :at", "deleted_until = :until"]
            values |= {":at": attribute(deletion.at_ms), ":until": attribute(deletion.until_ms)}
        same_deletion = _NOT_DELETED
        if before.deletion is not None:
            same_deletion = "deleted_at = :deleted_at"
            values[":deleted_at"] = attribute(before.deletion.at_ms)
        quota = _QuotaWrite(before.quota_bytes, after.quota_bytes)
        is_owner = self._table.checking(layout.grant_key(before.space, by), **_role_is(Role.OWNER))
        try:
            await self._table.transact(
                self._table.updating(
                    layout.space_key(before.space),
                    update=f"SET {', '.join([*sets, *quota.sets])}{_removing([*removed, *quota.removed])}",
                    condition=f"#name = :was AND {same_deletion} AND {quota.condition}",
                    values=values | quota.values,
                    names={"#name": "name"},
                ),
                self._checks_admin(by) if as_admin else is_owner,
                self._table.putting(layout.done_item(done), NEW),
                *self._audit.writes(events),
            )
        except Cancelled:
            raise GrantMoved from None

    async def members(self, space: SpaceId) -> tuple[SpaceRecord, list[GrantRecord]] | None:
        query = self._table.query(
            KeyConditionExpression="pk = :space",
            ExpressionAttributeValues={":space": attribute(layout.space_pk(space))},
        )
        return layout.space_with_grants([item async for item in query])

    async def space_with_grants(
        self, space: SpaceId, *users: UserId
    ) -> tuple[SpaceRecord, dict[UserId, GrantRecord]] | None:
        keys = [layout.space_key(space), *(layout.grant_key(space, user) for user in dict.fromkeys(users))]
        found = layout.space_with_grants(await self._table.get_all(keys))
        return (found[0], {grant.user: grant for grant in found[1]}) if found else None

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
        writes: list[Item] = []
        aliases_at: list[int] = []
        for change in changes:
            writes += self._writes_of_change(space, change, by=by)
            if change.before is None:
                aliases_at.append(len(writes) - 1)
        writes.append(self._write_of_owners(space.space, changes))
        if as_admin:
            writes.append(self._checks_admin(by))
        elif all(change.user != by for change in changes):
            writes.append(self._table.checking(layout.grant_key(space.space, by), **_role_is(Role.OWNER)))
        if done is not None:
            writes.append(self._table.putting(layout.done_item(done), NEW))
        if ends is not None:
            writes += self._ends(ends)
        try:
            await self._table.transact(*writes, *self._audit.writes(events), *self._passes(gates))
        except Cancelled as cancelled:
            _raise_if_moved(cancelled, gates)
            if any(cancelled.reasons[at] == CONDITION_FAILED for at in aliases_at):
                raise AliasTaken from None
            raise GrantMoved from None

    def _writes_of_change(self, space: SpaceRecord, change: GrantChange, *, by: UserId) -> list[Item]:
        """Return the writes of one change of a grant. That of the alias is the last one."""
        user, before, after = change.user, change.before, change.after
        keys = layout.grant_key(space.space, user), layout.membership_key(space.space, user)
        if before is None:
            assert after is not None, "no grant stays none"
            assert change.alias, "a new grant comes with an alias"
            grant = GrantRecord(space.space, user, change.email, after, change.alias, change.writes_since_ms)
            return [
                self._table.putting(layout.grant_item(grant), NEW),
                self._table.putting(layout.membership_item(space, grant, by=by)),
                self._put_alias(user, change.alias, space.space),
            ]
        if after is None:
            return [self._table.deleting(keys[0], **_role_is(before)), self._table.deleting(keys[1])]
        if after is before:
            return [self._table.checking(keys[0], **_role_is(before))]
        condition = _role_is(before)
        values = {**condition["values"], ":after": layout.role_attribute(after)}
        since = {**values, ":since": attribute(change.writes_since_ms)}
        return [
            self._table.updating(
                keys[0], update="SET #role = :after, writes_since = :since", **{**condition, "values": since}
            ),
            self._table.updating(keys[1], update="SET #role = :after", **{**condition, "values": values}),
        ]

    def _write_of_owners(self, space: SpaceId, changes: Sequence[GrantChange]) -> Item:
        """Return the write that keeps the number of owners of a space, on the condition that the space is not deleted
        and that an owner remains.
        """
        owners = sum((change.after is Role.OWNER) - (change.before is Role.OWNER) for change in changes)
        if not owners:
            return self._table.checking(layout.space_key(space), _NOT_DELETED)
        one_remains = "owners > :fewest"
        return self._table.updating(
            layout.space_key(space),
            update="ADD owners :more",
            condition=f"{one_remains} AND {_NOT_DELETED}",
            values={":more": attribute(owners), ":fewest": attribute(1 if owners < 0 else 0)},
        )

    async def give_alias(self, space: SpaceId, user: UserId, alias: str) -> None:
        has_none = f"{THERE} AND attribute_not_exists(#alias)"
        keys = layout.grant_key(space, user), layout.membership_key(space, user)
        try:
            await self._table.transact(
                *(
                    self._table.updating(
                        key,
                        update="SET #alias = :alias",
                        condition=has_none,
                        values={":alias": attribute(alias)},
                        names={"#alias": "alias"},
                    )
                    for key in keys
                ),
                self._put_alias(user, alias, space),
            )
        except Cancelled as cancelled:
            if CONDITION_FAILED in cancelled.reasons[:2]:
                return
            if cancelled.reasons[2] == CONDITION_FAILED:
                raise AliasTaken from None
            raise Unavailable("a concurrent request assigns aliases to these spaces; try again") from None

    # ---- access

    async def access(
        self, space: SpaceId, *, user: UserId, device: DeviceId | None
    ) -> tuple[GrantRecord | None, DeviceRecord | None]:
        grants, found = await self.accesses([(space, user)], [device] if device is not None else [])
        return grants.get((space, user)), found.get(device) if device is not None else None

    async def accesses(
        self, grants: Collection[tuple[SpaceId, UserId]], devices: Collection[DeviceId]
    ) -> tuple[Mapping[tuple[SpaceId, UserId], GrantRecord], Mapping[DeviceId, DeviceRecord]]:
        users = {user for _, user in grants}
        keys = [
            *itertools.starmap(layout.grant_key, set(grants)),
            *map(layout.space_key, {space for space, _ in grants}),
            *map(layout.device_key, set(devices)),
            *map(layout.account_key, users),
        ]
        granted: dict[tuple[SpaceId, UserId], GrantRecord] = {}
        found: dict[DeviceId, DeviceRecord] = {}
        suspended: set[UserId] = set()
        deleted: set[SpaceId] = set()
        for item in await self._table.get_all(keys):
            match text_of(item, "sk"):
                case "DEVICE":
                    device = layout.device_from_item(item)
                    found[device.device] = device
                case "ACCOUNT":
                    account = layout.account_in(item)
                    suspended |= {account.user} if account.suspension is not None else set()
                case "SPACE":
                    space = layout.space_in(item)
                    deleted |= {space.space} if space.deletion is not None else set()
                case _:
                    grant = layout.grant_from_item(item)
                    granted[grant.space, grant.user] = grant
        others = {device.user for device in found.values()} - users
        if others:
            suspended |= await self.suspended(others)
        return (
            {
                key: grant
                for key, grant in granted.items()
                if grant.space not in deleted and grant.user not in suspended
            },
            {ident: device for ident, device in found.items() if device.user not in suspended},
        )

    async def deletions(self, spaces: Collection[SpaceId], *, user: UserId) -> Mapping[SpaceId, SpaceDeletion]:
        keys = [key for space in set(spaces) for key in (layout.space_key(space), layout.grant_key(space, user))]
        found: dict[SpaceId, SpaceDeletion] = {}
        granted: set[SpaceId] = set()
        for item in await self._table.get_all(keys):
            if text_of(item, "sk") != "SPACE":
                granted.add(layout.grant_from_item(item).space)
            elif (space := layout.space_in(item)).deletion is not None:
                found[space.space] = space.deletion
        return {space: deletion for space, deletion in found.items() if space in granted}

    # ---- attempts

    async def count_attempt(self, *, subject: str, peer: str | None, limit: int, window_ms: int, now_ms: int) -> int:
        running, below_limit = "ends_at > :now", "attempts < :limit"
        over = "ends_at <= :now"
        key, now, ends_at = layout.attempts_key(subject, peer), attribute(now_ms), now_ms + window_ms
        for _ in range(_MAX_COUNTER_ATTEMPTS):
            try:
                await self._table.update(
                    key,
                    update="ADD attempts :one",
                    condition=f"{running} AND {below_limit}",
                    values={":now": now, ":limit": attribute(limit), ":one": attribute(1)},
                )
            except ConditionFailed as failed:
                found = failed.found
            else:
                return 0
            if found and number_of(found, "ends_at") > now_ms:
                return number_of(found, "ends_at") - now_ms
            expires_at = layout.time_to_live(ends_at)
            first = {**key, "attempts": attribute(1), "ends_at": attribute(ends_at), "expires_at": expires_at}
            with suppress(ConditionFailed):  # another process has created the counter: count in that one
                await self._table.put(first, f"{NEW} OR {over}", {":now": now})
                return 0
        raise Unavailable("too many attempts at once; try again")

    async def forget_attempts(self, *, subject: str, peer: str) -> None:
        # The counters are reset, not deleted: otherwise many concurrent sign-ins would race to create a missing
        # counter.
        await asyncio.gather(*(self._reset(layout.attempts_key(subject, whence)) for whence in (peer, None)))

    async def take_back_attempt(self, *, subject: str, peer: str | None) -> None:
        with suppress(ConditionFailed):
            await self._table.update(
                layout.attempts_key(subject, peer),
                update="ADD attempts :less",
                condition="attempts > :none",
                values={":less": attribute(-1), ":none": attribute(0)},
            )

    async def know_network(self, *, subject: str, peer: str, until_ms: int) -> None:
        key, expires_at = layout.known_key(subject, peer), layout.time_to_live(until_ms)
        await self._table.put({**key, "until": attribute(until_ms), "expires_at": expires_at})

    async def knows_network(self, *, subject: str, peer: str, now_ms: int) -> bool:
        item = await self._table.get(layout.known_key(subject, peer))
        return item is not None and number_of(item, "until") > now_ms

    async def _reset(self, counter: Item) -> None:
        with suppress(ConditionFailed):
            await self._table.update(
                counter,
                update="SET attempts = :none",
                condition=THERE,
                values={":none": attribute(0)},
            )

    # ---- links

    async def add_link(self, link: Link, *, gates: Sequence[Gate] = (), events: Sequence[AuditEvent] = ()) -> bool:
        puts = self._table.putting(layout.link_item(link), NEW), self._table.putting(layout.token_item(link), NEW)
        maker = self._checks_maker(link.made_by)
        try:
            await self._table.transact(
                *puts,
                self._table.putting(layout.made_item(link)),
                *maker,
                *self._audit.writes(events),
                *self._passes(gates),
            )
        except Cancelled as cancelled:
            if CONDITION_FAILED in cancelled.reasons[: len(puts)]:
                return False
            _raise_if_maker_ended(cancelled, maker, at=len(puts) + 1)
            _raise_if_moved(cancelled, gates)
            raise Unavailable("the same request is in progress already; try again") from None
        return True

    async def link(self, space: SpaceId, link: LinkId) -> Link | None:
        item = await self._table.get(layout.link_key(space, link))
        return layout.link_from_item(item) if item else None

    async def link_with_token(self, token: bytes) -> Link | None:
        item = await self._table.get(layout.token_key(token))
        if item is None:
            return None
        found = await self.link(SpaceId(text_of(item, "space")), LinkId(text_of(item, "link")))
        return found if found and found.revoked_at_ms is None else None

    async def links(self, space: SpaceId) -> list[Link]:
        query = self._table.query(
            KeyConditionExpression="pk = :links",
            ExpressionAttributeValues={":links": attribute(layout.links_pk(space))},
        )
        return [layout.link_from_item(item) async for item in query]

    async def links_of(self, user: UserId) -> list[Link]:
        query = self._table.query(
            KeyConditionExpression="pk = :user AND begins_with(sk, :links)",
            ExpressionAttributeValues={
                ":user": attribute(layout.user_pk(user)),
                ":links": attribute(layout.MADE_PREFIX),
            },
        )
        return [layout.made_from_item(item) async for item in query]

    async def revoke_link(self, link: Link, *, at_ms: int, events: Sequence[AuditEvent] = ()) -> None:
        not_revoked = "attribute_not_exists(revoked_at)"
        if events and not await self._try_to_revoke(link, at_ms, f"{THERE} AND {not_revoked}", events):
            events = ()  # the link is revoked already; what an interrupted revocation has left is removed
        if not events:
            await self._try_to_revoke(link, at_ms, THERE, ())

    async def _try_to_revoke(self, link: Link, at_ms: int, condition: str, events: Sequence[AuditEvent]) -> bool:
        """Revoke a link and return True; change nothing and return False if `condition` does not hold for its item."""
        revoked = self._table.updating(
            layout.link_key(link.space, link.link),
            update="SET revoked_at = if_not_exists(revoked_at, :at), expires_at = :expires_at",
            condition=condition,
            values={":at": attribute(at_ms), ":expires_at": layout.time_to_live(at_ms)},
        )
        gone = [self._table.deleting(key) for key in (layout.token_key(link.token), layout.made_key(link))]
        try:
            await self._table.transact(revoked, *gone, *self._audit.writes(events))
        except Cancelled as cancelled:
            if CONDITION_FAILED not in cancelled.reasons:
                raise Unavailable("the link is being used or ended; try again") from None
            return False
        return True

    async def without_ended(self, made: Sequence[Link]) -> list[Link]:
        items = await self._table.get_all([layout.link_key(one.space, one.link) for one in made])
        there = {link.link for link in map(layout.link_from_item, items) if link.revoked_at_ms is None}
        await self._delete(*(layout.made_key(one) for one in made if one.link not in there))
        return [one for one in made if one.link in there]

    async def drop_link(self, link: Link) -> None:
        # The items that lead to the link are deleted last, so that a failed attempt can be repeated.
        await self._delete(layout.token_key(link.token), layout.link_key(link.space, link.link), layout.made_key(link))

    async def count_download(self, space: SpaceId, link: LinkId, request: RequestId, *, now_ms: int) -> bool:
        one_more, not_revoked = "downloads < max_downloads", "attribute_not_exists(revoked_at)"
        counting = self._table.updating(
            layout.link_key(space, link),
            update="ADD downloads :one",
            condition=f"{one_more} AND {not_revoked}",
            values={":one": attribute(1)},
        )
        expires_at = layout.time_to_live(now_ms + ANSWER_DAYS * DAY_MS)
        counted = {**layout.counted_key(link, request), "expires_at": expires_at}
        for pause in RETRIES.pauses():
            try:
                await self._table.transact(counting, self._table.putting(counted, NEW))
            except Cancelled as cancelled:
                of_link, of_request = cancelled.reasons
                if of_request == CONDITION_FAILED:
                    return True
                if of_link == CONDITION_FAILED and of_request != CONFLICT:
                    return False
                # concurrent downloads of the link, or repetitions of this one, are being counted
                await asyncio.sleep(pause)
            else:
                return True
        raise Unavailable("too many downloads of this link begin at once; try again")

    # ---- ends of devices

    async def begin_ending(self, ending: DeviceEnding) -> None:
        await self._table.put(layout.ending_item(ending))

    async def endings(self) -> list[DeviceEnding]:
        query = self._table.query(
            KeyConditionExpression="pk = :endings", ExpressionAttributeValues={":endings": attribute(layout.ENDINGS_PK)}
        )
        return [layout.ending_from_item(item) async for item in query]

    async def take_ending(self, ending: DeviceEnding, *, due_at_ms: int) -> DeviceEnding | None:
        taken = replace(ending, due_at_ms=due_at_ms, attempts=ending.attempts + 1)
        not_taken = "due_at = :due"
        try:
            await self._table.put(layout.ending_item(taken), not_taken, {":due": attribute(ending.due_at_ms)})
        except ConditionFailed:
            return None
        return taken

    async def forget_ending(self, ending: DeviceEnding) -> None:
        await self._delete(layout.ending_key(ending))

    # ---- requests

    async def done(self, user: UserId, request: RequestId) -> bytes | None:
        item = await self._table.get(layout.done_key(user, request))
        return bytes_of(item, "fingerprint") if item else None

    async def note(self, done: Done) -> None:
        with suppress(ConditionFailed):
            await self._table.put(layout.done_item(done), NEW)

    # ---- uploads

    async def note_writing(self, space: SpaceId, *, hour: int) -> None:
        item = {**layout.written_key(hour, space), "expires_at": layout.time_to_live((hour + 1) * HOUR_MS)}
        await self._table.put(item)

    async def written(self, *, hour: int, after: str, limit: int) -> list[SpaceId]:
        beyond: Item = {":after": attribute(after)} if after else {}
        query = self._table.query(
            limit,
            KeyConditionExpression="pk = :hour AND sk > :after" if after else "pk = :hour",
            ExpressionAttributeValues={":hour": attribute(layout.written_pk(hour)), **beyond},
        )
        return [SpaceId(text_of(item, "sk")) async for item in query]

    async def uploads(self, space: SpaceId) -> SpaceUploads | None:
        item = await self._table.get(layout.uploads_key(space))
        return layout.uploads_from_item(item) if item else None

    async def set_uploads(self, space: SpaceId, uploads: SpaceUploads) -> bool:
        not_newer = "attribute_not_exists(measured_at) OR measured_at <= :at"
        try:
            measured_at = attribute(uploads.measured_at_ms)
            await self._table.put(layout.uploads_item(space, uploads), not_newer, {":at": measured_at})
        except ConditionFailed:
            return False
        return True

    # ---- reservations

    async def reservations(self, spaces: Collection[SpaceId]) -> Mapping[SpaceId, Reservation]:
        items = await self._table.get_all([layout.reserved_key(space) for space in set(spaces)])
        return {one.space: one for one in map(layout.reservation_from_item, items)}

    async def reserved_for(self, users: Collection[UserId]) -> Mapping[UserId, int]:
        items = await self._table.get_all([layout.taken_key(user) for user in set(users)])
        return dict(map(layout.taken_from_item, items))

    async def change_reservation(self, before: Reservation, after: Reservation, *, quota_bytes: int | None) -> None:
        if before == after:
            return
        changes = Counter({after.payer: after.reserved_bytes})
        changes[before.payer] -= before.reserved_bytes
        writes = [self._reserving(before, after)]
        limited: int | None = None  # the place of the write that a quota limits
        for user, more in changes.items():
            if user is not None and more:
                limits = user == after.payer and more > 0 and quota_bytes is not None
                if limits:
                    limited = len(writes)
                writes.append(self._taking(user, more, quota_bytes=quota_bytes if limits else None))
        try:
            await self._table.transact(*writes)
        except Cancelled as cancelled:
            is_moved = cancelled.reasons[0] == CONDITION_FAILED
            if limited is not None and cancelled.reasons[limited] == CONDITION_FAILED and not is_moved:
                raise QuotaReached from None
            raise ReservationMoved from None

    def _reserving(self, before: Reservation, after: Reservation) -> Item:
        condition = "#bytes = :was" if before.reserved_bytes else f"({NEW} OR #bytes = :was)"
        condition += " AND payer = :payer_was" if before.payer is not None else " AND attribute_not_exists(payer)"
        payer_was = {":payer_was": attribute(before.payer)} if before.payer is not None else {}
        payer = {"payer": attribute(after.payer)} if after.payer is not None else {}
        return self._table.putting(
            {**layout.reserved_key(after.space), "bytes": attribute(after.reserved_bytes), **payer},
            condition,
            {":was": attribute(before.reserved_bytes), **payer_was},
            {"#bytes": "bytes"},
        )

    def _taking(self, user: UserId, more: int, *, quota_bytes: int | None) -> Item:
        """Return the addition of `more` bytes, which may be negative, to what spaces take of the quota of a user. If
        `quota_bytes` is given, the sum must not exceed it.
        """
        condition, values = None, {":more": attribute(more)}
        if quota_bytes is not None:
            condition, values[":room"] = "#bytes <= :room", attribute(quota_bytes - more)
            if more <= quota_bytes:  # Without an item, nothing is taken yet.
                condition = f"({NEW} OR {condition})"
        return self._table.updating(
            layout.taken_key(user),
            update="ADD #bytes :more",
            condition=condition,
            values=values,
            names={"#bytes": "bytes"},
        )

    # ---- gates

    async def gates(self, *names: str) -> list[Gate]:
        items = await self._table.get_all([layout.gate_key(name) for name in names])
        found = {gate.name: gate for gate in map(layout.gate_from_item, items)}
        return [found.get(name, Gate(name, 0)) for name in names]

    def _passes(self, gates: Sequence[Gate]) -> list[Item]:
        unmoved, first = "passed = :passed", "attribute_not_exists(passed)"
        return [
            self._table.updating(
                layout.gate_key(gate.name),
                update="ADD passed :one",
                condition=unmoved if gate.version else first,
                values={":one": attribute(1)} | ({":passed": attribute(gate.version)} if gate.version else {}),
            )
            for gate in gates
        ]

    # ---- writes of more than one method

    def _puts_of_space(self, space: SpaceRecord, *, owner: Account, alias: str, role: Role = Role.OWNER) -> list[Item]:
        grant = GrantRecord(space.space, owner.user, owner.email, role, alias)
        shared = [] if space.personal else [self._table.putting(layout.shared_item(space))]
        return [
            self._table.putting(layout.space_item(space), NEW),
            *shared,
            self._table.putting(layout.grant_item(grant)),
            self._table.putting(layout.membership_item(space, grant, by=owner.user)),
            self._put_alias(owner.user, alias, space.space),
        ]

    def _put_alias(self, user: UserId, alias: str, space: SpaceId) -> Item:
        of_this_space = "#space = :space"
        return self._table.putting(
            {**layout.alias_key(user, alias), "space": attribute(space)},
            f"{NEW} OR {of_this_space}",
            {":space": attribute(space)},
            {"#space": "space"},
        )

    def _checks_maker(self, maker: DeviceId | None) -> list[Item]:
        """Return the condition, as a part of the transaction that adds a key or a link, that the device `maker` from
        which it is made exists and is not revoked. Return an empty list if `maker` is None.

        Code that revokes a device, and afterwards lists its keys and links, therefore finds every one that was ever
        added.
        """
        not_revoked = "attribute_not_exists(revoked_at)"
        return [] if maker is None else [self._table.checking(layout.device_key(maker), f"{THERE} AND {not_revoked}")]

    async def _put_with(self, item: Item, events: Sequence[AuditEvent]) -> None:
        """Write an item that nobody else writes, together with the events."""
        try:
            await self._table.transact(self._table.putting(item), *self._audit.writes(events))
        except Cancelled:
            raise Unavailable("another request is writing the same item; try again") from None

    async def _delete(self, *keys: Item) -> None:
        for key in keys:
            await self._table.delete(key)


# ---- conditions


def _raise_if_moved(cancelled: Cancelled, gates: Sequence[Gate]) -> None:
    """Raise GateMoved if a gate changed after it was read, or is being changed. The writes of `gates` are the last ones
    of the transaction.
    """
    if gates and set(cancelled.reasons[-len(gates) :]) & {CONDITION_FAILED, CONFLICT}:
        raise GateMoved from None


def _raise_if_maker_ended(cancelled: Cancelled, maker: Sequence[Item], *, at: int) -> None:
    """Raise MakerEnded if the condition on the device that makes a key or link did not hold. This condition, if `maker`
    has one, is the write number `at` of the transaction, from 0.
    """
    if maker and cancelled.reasons[at] == CONDITION_FAILED:
        raise MakerEnded from None


class _QuotaWrite:
    """The parts of a write that replace the quota of an account or a space, which an item without one does not have."""

    def __init__(self, before: int | None, after: int | None) -> None:
        self.sets = [] if after is None else ["quota_bytes = :quota"]
        self.removed = ["quota_bytes"] if after is None else []
        self.condition = "attribute_not_exists(quota_bytes)" if before is None else "quota_bytes = :quota_was"
        self.values: Item = {} if after is None else {":quota": attribute(after)}
        if before is not None:
            self.values[":quota_was"] = attribute(before)


def _removing(names: Sequence[str]) -> str:
    """Return the clause of an update that removes these attributes; an empty text without any."""
    return f" REMOVE {', '.join(names)}" if names else ""


def _this_invitation(invitation: SpaceInvitation) -> Item:
    return {":token": attribute(invitation.token)}


def _is_password_of(login: Login) -> Item:
    """Return the arguments of a write on the condition that the LOGIN item is that of the account of `login`, and that
    the password was not changed after `login` was read. A password that was only hashed anew is the same.
    """
    same = "password_changes = :changes"
    if not login.password_changes:
        same = f"(attribute_not_exists(password_changes) OR {same})"
    return {
        "condition": f"#user = :user AND {same}",
        "values": {":user": attribute(login.account.user), ":changes": attribute(login.password_changes)},
        "names": {"#user": "user"},
    }


def _role_is(role: Role) -> Item:
    """Return the arguments of a write on the condition that the item's role is `role`."""
    return {"condition": "#role = :role", "values": {":role": layout.role_attribute(role)}, "names": {"#role": "role"}}
