"""Accounts: signing up and signing in."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace

from runtime.logs import structlog
from runtime.pool import Share, TooMuchAtOnce
from services.auth import metrics
from services.auth.admission import Admission
from services.auth.attempts import Attempts
from services.auth.audit.events import Actor, ActorKind, AuditEvent, AuditKind, audit_event
from services.auth.devices import DeviceLists, check_active
from services.auth.factors import Factors
from services.auth.invitations import Invitations
from services.auth.keys import Keys
from services.auth.known_accounts import known_account
from services.auth.password_strength import PasswordStrength
from services.auth.passwords import PasswordCheck, Passwords
from services.auth.ports import AccountStore, AdminExists, DeviceStore, InvitationSpent, PasswordMoved
from services.auth.proofs import Proofs
from services.auth.records import Account, Clock, DeviceRecord, Invitation, Login
from services.auth.sessions import Sessions, Tokens
from services.auth.space_invitations import SpaceInvitations
from syncline.model.accounts import DeviceKind
from syncline.model.errors import (
    AccountSuspended,
    AddressUnproven,
    GuestRefused,
    InvitationInvalid,
    SecondFactorNeeded,
    TooManyAttempts,
    Unavailable,
    WrongCode,
    WrongPassword,
)
from syncline.model.identifiers import SpaceId, UserId, new_text_id

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The result of a sign-in: the account, its new device and the tokens of the device. A browser gets `key` instead
    of a refresh token; for other devices `key` is empty.
    """

    account: Account
    device: DeviceRecord
    tokens: Tokens
    key: str = field(default="", repr=False)
    invited_to: SpaceId | None = None
    """The space to which the invitation of a sign-up leads; None if there is none."""


class AccountRegistry:
    """Makes accounts, and authenticates their owners when they sign in."""

    def __init__(
        self,
        accounts: AccountStore,
        devices: DeviceStore,
        *,
        admission: Admission,
        passwords: Passwords,
        strength: PasswordStrength,
        attempts: Attempts,
        factors: Factors,
        sessions: Sessions,
        keys: Keys,
        lists: DeviceLists,
        invitations: Invitations,
        space_invitations: SpaceInvitations,
        clock: Clock,
        proofs: Proofs | None = None,
    ) -> None:
        """New accounts are proven by `proofs`; if that is None, their addresses count as proven."""
        self._accounts = accounts
        self._devices = devices
        self._admission = admission
        self._passwords = passwords
        self._strength = strength
        self._attempts = attempts
        self._factors = factors
        self._sessions = sessions
        self._keys = keys
        self._lists = lists
        self._clock = clock
        self._invitations = invitations
        self._space_invitations = space_invitations
        self._proofs = proofs

    async def sign_up(
        self,
        *,
        email: str,
        password: str,
        device_name: str,
        peer: str,
        kind: DeviceKind = DeviceKind.CLIENT,
        invitation: str = "",
    ) -> SignedIn:
        """Make an account with its personal space, sign in its first device, and return all of them. `device_name` and
        `kind` are those of the device, `peer` is the network of the caller, and `invitation` is the token of an
        invitation; empty for none.

        An account that is made by an invitation is proven, and the first of those that the operator has invited is that
        of the administrator. An account that is made by an invitation to a space is that of a guest if the policy does
        not admit the address. Without an invitation, if addresses have to be proven, the account is not proven, a mail
        with a proof is on its way, and nothing in the answer depends on other accounts of the address.

        - Raise SignUpClosed if the policy does not admit the address, and InvitationInvalid if the invitation is not
          valid for the address. Both are decided before any other work.
        - Raise WeakPassword if the password is easily guessed.
        - Raise AccountExists if the address is taken, and the account would be proven at once.
        - Raise TooManyAttempts if too many accounts were made from the network, or for an address that has to be
          proven.
        - Raise TooMuchAtOnce if too many passwords are being hashed.

        In each of these cases nothing is stored.
        """
        invited = await self._invitations.presented(invitation, email=email) if invitation else None
        judged = await self._space_invitations.judged(invited) if invited is not None else None
        if invited is None:
            self._admission.check(email)
        await self._attempts.admit_account(peer=peer)
        share = Share(email, peer)
        await self._strength.check(password, email=email, share=share)
        proofs = None if invited is not None else self._proofs
        if proofs is not None:
            await self._attempts.admit_claim(email=email, peer=peer)
        user, space = UserId(new_text_id()), SpaceId(new_text_id())
        guest = judged is not None and judged.guest
        account = Account(user, email, space, self._clock(), proven=proofs is None, guest=guest)
        login = Login(account, await self._passwords.hash(password, share))
        signed_in = self._open(login, kind, device_name)
        device = signed_in.device
        if invited is None:
            await self._accounts.create_account(login, device=device, events=[_created(account, device)])
        else:
            account = await self._create_invited(login, device, invited)
            signed_in = replace(signed_in, account=account, invited_to=invited.space)
        if proofs is not None:
            await proofs.offer(account)
        metrics.SIGN_UPS.inc()
        log.info("signed up", user=account.user, device=device.device, admin=account.admin)
        return signed_in

    async def _create_invited(self, login: Login, device: DeviceRecord, invitation: Invitation) -> Account:
        """Create the account by the invitation, and return the account. It is that of the administrator if there is
        none, unless the invitation is to a space.
        Raise InvitationInvalid if the invitation was spent, or if it is for the first account and there is one by now.
        """
        try:
            if invitation.space is None and not await self._accounts.has_admin():
                first = replace(login.account, admin=True)
                with suppress(AdminExists):
                    await self._accounts.create_account(
                        replace(login, account=first),
                        device=device,
                        invitation=invitation,
                        events=[_created(first, device, invited=True)],
                    )
                    return first
            if invitation.email is None:
                raise InvitationInvalid
            await self._accounts.create_account(
                login,
                device=device,
                invitation=invitation,
                events=[_created(login.account, device, invited=True)],
            )
        except InvitationSpent:
            raise InvitationInvalid from None
        return login.account

    async def sign_in(
        self,
        *,
        email: str,
        password: str,
        device_name: str,
        peer: str,
        kind: DeviceKind = DeviceKind.CLIENT,
        code: str = "",
    ) -> SignedIn:
        """Sign in a new device of the account with this e-mail address, and return the account, the device and its
        tokens. `device_name` and `kind` are those of the device, `peer` is the network of the caller, and `code` that
        of the account's second factor; empty for none.

        - Raise WrongPassword if the password or the address is wrong.
        - Raise AccountSuspended if the password is right and the account is suspended.
        - Raise SecondFactorNeeded if the password is right and a code is missing, and WrongCode if the code is wrong.
        - Raise TooManyAttempts above a limit of `AttemptLimits`, and TooMuchAtOnce if too many passwords are being
          hashed.
        """
        try:
            await self._attempts.admit(subject=email, peer=peer)
        except TooManyAttempts:
            metrics.SIGN_INS.labels("limited").inc()
            raise
        share = Share(email, peer)
        login = await self._proven(email, password, share)
        if login is None and self._proofs is not None:
            login = await self._claimed(email, password, share)
        if login is None:
            metrics.SIGN_INS.labels("failed").inc()
            raise WrongPassword
        account = await self.of_user(login.account.user)  # a login does not tell a suspension
        self._check_active(account)
        factor = ""
        if login.account.proven:
            factor = await self._confirmed(account, code, peer)
            # The password of a claim is no sign of the owner: whoever makes an account for the address chooses one, and
            # would reset the count of guesses at the password of the proven account. A password that lacks its code is
            # no sign of the owner either.
            await self._attempts.succeeded(subject=email, peer=peer)
        signed_in = self._open(replace(login, account=account), kind, device_name)
        device = signed_in.device
        actor = Actor(ActorKind.SESSION, device.user, device.device)
        event = audit_event(
            AuditKind.SIGNED_IN, at_ms=device.created_at_ms, actor=actor, name=device.name, second_factor=factor
        )
        try:
            proven = login if login.account.proven else None
            await self._devices.add_device(device, login=proven, events=[event])
        except PasswordMoved:  # changed since it was compared: it is not the right one any more
            metrics.SIGN_INS.labels("failed").inc()
            raise WrongPassword from None
        try:
            await self._lists.after_signing_in(device)
        except Unavailable as error:  # the device is stored, and the next sign-in shortens the list
            log.warning("list of devices not shortened", user=device.user, reason=str(error))
        metrics.SIGN_INS.labels("ok").inc()
        log.info("signed in", user=device.user, device=device.device)
        return signed_in

    async def _confirmed(self, account: Account, code: str, peer: str) -> str:
        """Return what `Factors.check` returns, and count a sign-in that lacks a right code."""
        try:
            return await self._factors.check(account, code)
        except SecondFactorNeeded:
            metrics.SIGN_INS.labels("without_code").inc()
            await self._attempts.needs_code(peer=peer)
            raise
        except (WrongCode, TooManyAttempts) as error:
            metrics.SIGN_INS.labels("limited" if isinstance(error, TooManyAttempts) else "without_code").inc()
            raise

    async def _proven(self, email: str, password: str, share: Share) -> Login | None:
        """Return the proven account of an address if the password is its own, otherwise None."""
        login = await self._accounts.login(email)
        checked = await self._passwords.verify(password, login.password_hash if login else None, share)
        if login is None or checked is PasswordCheck.WRONG:
            return None
        if checked is PasswordCheck.RIGHT_BUT_OUTDATED:
            with suppress(TooMuchAtOnce):  # the hash is updated at the next sign-in instead
                await self._accounts.replace_password_hash(
                    email, old=login.password_hash, new=await self._passwords.hash(password, share)
                )
        return login

    async def _claimed(self, email: str, password: str, share: Share) -> Login | None:
        """Return the account that has the claim to an address if the password is its own, otherwise None. Without such
        an account the work is the same, so that the time of a refusal tells nothing of the accounts of an address.
        """
        login = await self._accounts.claim(email)
        checked = await self._passwords.verify(password, login.password_hash if login else None, share)
        return None if login is None or checked is PasswordCheck.WRONG else login

    def _open(self, login: Login, kind: DeviceKind, name: str) -> SignedIn:
        account, changes = login.account, login.password_changes
        if kind is DeviceKind.BROWSER:
            device, key, tokens = self._keys.open(user=account.user, name=name, password_changes=changes)
            return SignedIn(account, device, tokens, key)
        device, tokens = self._sessions.open(user=account.user, name=name, password_changes=changes)
        return SignedIn(account, device, tokens)

    async def suspended(self, users: Collection[UserId]) -> set[UserId]:
        """Return those of `users` whose accounts are suspended."""
        return await self._accounts.suspended(users)

    async def of_user(self, user: UserId) -> Account:
        """Return the account of a user. Raise NoSuchAccount if there is none."""
        return await known_account(self._accounts, user)

    def _check_active(self, account: Account) -> None:
        """Raise AccountSuspended if the account is suspended, and count the sign-in that is refused for that."""
        try:
            check_active(account)
        except AccountSuspended:
            metrics.SIGN_INS.labels("suspended").inc()
            raise

    async def proven(self, user: UserId) -> Account:
        """Return the account of a user who acts as the owner of an address. Raise AddressUnproven if the address of the
        account is not proven, AccountSuspended if the account is suspended, and NoSuchAccount if there is no such
        account.
        """
        account = await self.of_user(user)
        check_active(account)
        if not account.proven:
            raise AddressUnproven
        return account

    async def maker(self, user: UserId) -> Account:
        """Return the account of a user who makes a space, a key or a link. Raise GuestRefused if it is that of a guest,
        and the errors of `proven`.
        """
        account = await self.proven(user)
        if account.guest:
            raise GuestRefused
        return account


def _created(account: Account, device: DeviceRecord, *, invited: bool = False) -> AuditEvent:
    """Return the event of a new account, whose first device is `device`. `invited` is True if an invitation made it."""
    return audit_event(
        AuditKind.ACCOUNT_CREATED,
        at_ms=account.created_at_ms,
        actor=Actor(ActorKind.SESSION, account.user, device.device),
        address=account.email,
        name=device.name,
        by="invitation" if invited else "sign-up",
        proven="yes" if account.proven else "no",
        admin="yes" if account.admin else "no",
    )
