"""Administration: what administrators see and change of all users and spaces.

A change is carried out once for each request id. The right of the administrator is a condition of the transaction that
makes the change, so that somebody whose right has just ended changes nothing. There is always an administrator who is
not suspended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from runtime.logs import structlog
from runtime.permissions import ADMINISTRATORS_ONLY
from services.auth.admission import Admission
from services.auth.attempts import Attempts
from services.auth.audit.events import AuditEvent, AuditKind, audit_event
from services.auth.derived import DerivedSecrets, derived_id
from services.auth.endings import Endings
from services.auth.factor_changes import FactorChanges
from services.auth.grants import Grants
from services.auth.holdings import decided_anew
from services.auth.invitations import Invitations
from services.auth.opaque_tokens import TOKEN_BYTES
from services.auth.ports import (
    AccountStore,
    DirectoryStore,
    MailRequests,
    NoAdministratorLeft,
    RequestStore,
    SpaceStore,
)
from services.auth.records import Account, Clock, Done, FactorChange, GrantRecord, SpaceRecord, Suspension, UserState
from services.auth.repetitions import done_by, is_repetition
from syncline.model.errors import (
    Contended,
    LastAdministrator,
    NoSuchAccount,
    NoSuchSpace,
    PermissionDenied,
    UserNotReady,
)
from syncline.model.identifiers import RequestId, SpaceId, UserId

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy by which people come in: who makes an account unasked, whether addresses have to be proven, and for
    how many seconds an invitation and S3 credentials are valid.
    """

    admission: Admission
    prove_addresses: bool
    invitation_seconds: int
    credential_seconds: int


class Administration:
    """Lists users and spaces, and makes the changes of administrators. In all methods that change something, `admin` is
    the calling administrator and `request` the id of the request; a repetition has no further effect, and gets the
    present state. All of them raise these errors:

    - PermissionDenied if `admin` is no administrator any more;
    - RequestIdReused if `admin` has used the request id for another change;
    - Contended if concurrent changes come first too often.
    """

    def __init__(
        self,
        accounts: AccountStore,
        directory: DirectoryStore,
        spaces: SpaceStore,
        requests: RequestStore,
        *,
        endings: Endings,
        factor_changes: FactorChanges,
        grants: Grants,
        invitations: Invitations,
        attempts: Attempts,
        mail: MailRequests,
        derived: DerivedSecrets,
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._directory = directory
        self._spaces = spaces
        self._requests = requests
        self._endings = endings
        self._factor_changes = factor_changes
        self._grants = grants
        self._invitations = invitations
        self._attempts = attempts
        self._mail = mail
        self._derived = derived
        self._clock = clock
        self.policy = policy
        """The policy by which people come in."""

    # ---- users

    async def users(
        self, state: UserState | None, *, beginning: str, after: str, limit: int
    ) -> list[tuple[str, Account]]:
        """Return accounts with their places. The arguments and the result are those of `DirectoryStore.list_users`."""
        return await self._directory.list_users(state, beginning=beginning, after=after, limit=limit)

    async def user(self, user: UserId) -> Account:
        """Return the account of a user. Raise NoSuchAccount if there is none."""
        found = await self._accounts.account(user)
        if found is None:
            raise NoSuchAccount("there is no such user; list the users")
        return found

    async def user_with(self, email: str) -> Account:
        """Return the proven account of a normalised address. Raise NoSuchAccount if there is none."""
        login = await self._accounts.login(email)
        if login is None:
            raise NoSuchAccount("no user has proven that address; list the users whose addresses begin with it")
        return await self.user(login.account.user)

    async def invite(self, email: str, *, request: RequestId, admin: UserId, mail: bool) -> tuple[str, int]:
        """Make an invitation for the normalised address `email`, which is mailed with `mail`. Return its token, and the
        time until which it is valid, in milliseconds since 1970; 0 if a repeated request finds that it was used.

        Raise AccountExists if the address has a proven account, TooManyAttempts if too many mails were sent to the
        address, and Unavailable if the mail could not be asked for; the call may be repeated.
        """
        done = done_by(admin, request, "invite", email, str(mail), at_ms=self._clock())
        token = self._derived.secret(f"invitation {email}", admin, request, size=TOKEN_BYTES)
        if await is_repetition(self._requests, done):
            return token, await self._invitations.expiry(token)
        if mail:
            await self._attempts.admit_invitation(email=email)
        ident = derived_id(f"invitation {email}", admin, request)
        until = await self._invitations.invite_once(email, token=token, ident=ident, mail=self._mail if mail else None)
        await self._requests.note(done)
        log.info("user invited", by=admin, mailed=mail)
        return token, until

    async def suspend(self, user: UserId, *, request: RequestId, admin: UserId, reason: str) -> Account:
        """Suspend a user for a reason, and return the account. Somebody who is suspended stays so for the first reason.

        Raise NoSuchAccount if there is no such user, and LastAdministrator if no administrator would remain.
        """
        suspension = Suspension(self._clock(), admin, reason)

        def suspended(account: Account) -> Account:
            return account if account.suspension is not None else replace(account, suspension=suspension)

        done = done_by(admin, request, "suspend", user, reason, at_ms=self._clock())
        event = audit_event(AuditKind.ACCOUNT_SUSPENDED, at_ms=done.at_ms, user=user, reason=reason)
        return await self._change(user, done=done, to=suspended, event=event)

    async def resume(self, user: UserId, *, request: RequestId, admin: UserId) -> Account:
        """End the suspension of a user, and return the account. Raise NoSuchAccount if there is no such user."""
        done = done_by(admin, request, "resume", user, at_ms=self._clock())
        event = audit_event(AuditKind.ACCOUNT_RESUMED, at_ms=done.at_ms, user=user)
        return await self._change(user, done=done, to=lambda account: replace(account, suspension=None), event=event)

    async def set_admin(self, user: UserId, *, request: RequestId, admin: UserId, to: bool) -> Account:
        """Make a user an administrator, or an ordinary user if `to` is False, and return the account.

        Raise NoSuchAccount if there is no such user, UserNotReady for a new administrator who is not proven, a
        guest or suspended, and LastAdministrator if no administrator would remain.
        """

        def changed(account: Account) -> Account:
            ready = account.proven and not account.guest and account.suspension is None
            if to and not account.admin and not ready:
                raise UserNotReady
            return replace(account, admin=to)

        done = done_by(admin, request, "admin", user, str(to), at_ms=self._clock())
        kind = AuditKind.ADMINISTRATOR_ADDED if to else AuditKind.ADMINISTRATOR_REMOVED
        event = audit_event(kind, at_ms=done.at_ms, user=user)
        return await self._change(user, done=done, to=changed, event=event)

    async def set_user_quota(
        self, user: UserId, *, request: RequestId, admin: UserId, quota_bytes: int | None
    ) -> Account:
        """Give a user a quota in bytes, None for the usual one, and return the account. Raise NoSuchAccount if there is
        no such user.
        """
        done = done_by(admin, request, "user quota", user, str(quota_bytes), at_ms=self._clock())
        event = audit_event(AuditKind.ACCOUNT_QUOTA_SET, at_ms=done.at_ms, user=user, quota_bytes=_told(quota_bytes))
        return await self._change(
            user, done=done, to=lambda account: replace(account, quota_bytes=quota_bytes), event=event
        )

    async def sign_out(self, user: UserId, *, end_keys: bool) -> tuple[int, int]:
        """Sign a user out of all devices. `end_keys` and the result are those of `Endings.end_all`, whose errors are
        raised. Raise NoSuchAccount if there is no such user.
        """
        await self.user(user)
        return await self._endings.end_all(user, end_keys=end_keys)

    async def remove_factor(self, user: UserId, *, admin: UserId) -> bool:
        """Remove the second factor of a user; return False if there was none. Raise NoSuchAccount if there is no such
        user, PermissionDenied for the factor of `admin`, and Contended if another call changes the factor.
        """
        if user == admin:
            raise PermissionDenied("your own second factor is removed in your settings, with your password and a code")
        account = await self.user(user)
        factor = await self._factor_changes.of_user(user)
        if factor is None:
            return False
        if not await self._factor_changes.change(factor, None, account=account, change=FactorChange.REMOVED):
            raise Contended("another call changes the second factor at this moment; try again")
        return True

    async def _change(
        self, user: UserId, *, done: Done, to: Callable[[Account], Account], event: AuditEvent
    ) -> Account:
        """Replace the account of a user by the result of `to`, and return that. `event` is the event of the change."""

        async def change() -> Account:
            account = await self.user(user)
            if await is_repetition(self._requests, done):
                return account
            decider = account if user == done.user else await self._accounts.account(done.user)
            if decider is None or not decider.administers:
                raise PermissionDenied(ADMINISTRATORS_ONLY)
            after = to(account)
            if after == account:
                await self._requests.note(done)
                return account
            await self._directory.change_standing(account, after, by=done.user, done=done, events=[event])
            log.info("user changed", kind=event.kind, user=user, by=done.user)
            return after

        try:
            return await decided_anew(change, busy="other administrators are changing this user; try again")
        except NoAdministratorLeft:
            raise LastAdministrator from None

    # ---- spaces

    async def all_spaces(self, *, after: str, limit: int) -> list[tuple[str, SpaceRecord]]:
        """Return shared spaces with their places. The arguments and the result are those of
        `DirectoryStore.list_spaces`.
        """
        return await self._directory.list_spaces(after=after, limit=limit)

    async def space(self, space: SpaceId) -> SpaceRecord:
        """Return a space. Raise NoSuchSpace if there is none."""
        found = await self._spaces.space_with_grants(space)
        if found is None:
            raise NoSuchSpace("there is no such space; list the spaces", space_id=space)
        return found[0]

    async def set_space_quota(
        self, space: SpaceId, *, request: RequestId, admin: UserId, quota_bytes: int | None
    ) -> SpaceRecord:
        """Give a space a quota in bytes, None for the usual one, and return the space. Raise NoSuchSpace if there is no
        such space.
        """
        done = done_by(admin, request, "space quota", space, str(quota_bytes), at_ms=self._clock())

        async def change() -> SpaceRecord:
            before = await self.space(space)
            after = replace(before, quota_bytes=quota_bytes)
            if await is_repetition(self._requests, done):
                return before
            if after == before:
                await self._requests.note(done)
                return before
            event = audit_event(
                AuditKind.SPACE_QUOTA_SET, at_ms=done.at_ms, space=space, quota_bytes=_told(quota_bytes)
            )
            await self._spaces.change_space(before, after, by=admin, done=done, as_admin=True, events=[event])
            log.info("quota of a space set", space=space, by=admin, quota_bytes=quota_bytes)
            return after

        return await decided_anew(change, busy="other changes of this space are in progress; try again")

    async def make_owner(self, space: SpaceId, user: UserId, *, request: RequestId, admin: UserId) -> GrantRecord:
        """Make a user owner of a shared space, and return the grant. Raise NoSuchAccount for a user who does not exist
        or is not proven, and the errors of `Grants.make_owner`.
        """
        member = await self.user(user)
        if not member.proven:
            raise NoSuchAccount("the address of this user is not proven, so that nobody can share with the user")
        return await self._grants.make_owner(space, request=request, admin=admin, member=member)


def _told(quota_bytes: int | None) -> str:
    """Return a quota in bytes as the audit log has it; None stands for the usual one."""
    return "usual" if quota_bytes is None else str(quota_bytes)
