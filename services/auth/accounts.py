"""Accounts: signing up and signing in."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace

from runtime.logs import structlog
from runtime.pool import Share, TooMuchAtOnce
from services.auth import metrics
from services.auth.admission import Admission
from services.auth.attempts import Attempts
from services.auth.devices import DeviceLists
from services.auth.invitations import Invitations
from services.auth.keys import Keys
from services.auth.passwords import PasswordCheck, Passwords
from services.auth.ports import AccountStore, AdminExists, DeviceStore, InvitationSpent
from services.auth.proofs import Proofs
from services.auth.records import Account, Clock, DeviceRecord, Invitation, Login
from services.auth.sessions import Sessions, Tokens
from syncline.model.accounts import DeviceKind
from syncline.model.errors import InvitationInvalid, NoSuchAccount, TooManyAttempts, Unavailable, WrongPassword
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


class AccountRegistry:
    """Makes accounts, and authenticates their owners when they sign in."""

    def __init__(
        self,
        accounts: AccountStore,
        devices: DeviceStore,
        *,
        admission: Admission,
        passwords: Passwords,
        attempts: Attempts,
        sessions: Sessions,
        keys: Keys,
        lists: DeviceLists,
        invitations: Invitations,
        clock: Clock,
        proofs: Proofs | None = None,
    ) -> None:
        """New accounts are proven by `proofs`; if that is None, their addresses count as proven."""
        self._accounts = accounts
        self._devices = devices
        self._admission = admission
        self._passwords = passwords
        self._attempts = attempts
        self._sessions = sessions
        self._keys = keys
        self._lists = lists
        self._clock = clock
        self._invitations = invitations
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

        An account that is made by an invitation is proven, and the first of these is that of the administrator. Without
        an invitation, if addresses have to be proven, the account is not proven, a mail with a proof is on its way, and
        nothing in the answer depends on other accounts of the address.

        - Raise SignUpClosed if the policy does not admit the address, and InvitationInvalid if the invitation is not
          valid for the address. Both are decided before any other work.
        - Raise AccountExists if the address is taken, and the account would be proven at once.
        - Raise TooManyAttempts if too many accounts were made from the network, or for an address that has to be
          proven.
        - Raise TooMuchAtOnce if too many passwords are being hashed.

        In each of these cases nothing is stored.
        """
        invited = await self._invitations.presented(invitation, email=email) if invitation else None
        if invited is None:
            self._admission.check(email)
        await self._attempts.admit_account(peer=peer)
        proofs = None if invited is not None else self._proofs
        if proofs is not None:
            await self._attempts.admit_claim(email=email, peer=peer)
        user, space = UserId(new_text_id()), SpaceId(new_text_id())
        account = Account(user, email, space, self._clock(), proven=proofs is None)
        login = Login(account, await self._passwords.hash(password, Share(email, peer)))
        signed_in = self._open(account, kind, device_name)
        device = signed_in.device
        if invited is None:
            await self._accounts.create_account(login, device=device)
        else:
            account = await self._create_invited(login, device, invited)
            signed_in = replace(signed_in, account=account)
        if proofs is not None:
            await proofs.offer(account)
        metrics.SIGN_UPS.inc()
        log.info("signed up", user=account.user, device=device.device, admin=account.admin)
        return signed_in

    async def _create_invited(self, login: Login, device: DeviceRecord, invitation: Invitation) -> Account:
        """Create the account by the invitation, as that of the administrator if there is none, and return the account.
        Raise InvitationInvalid if the invitation was spent, or if it is for the first account and there is one by now.
        """
        try:
            if not await self._invitations.has_admin():
                first = replace(login.account, admin=True)
                with suppress(AdminExists):
                    await self._accounts.create_account(
                        replace(login, account=first), device=device, invitation=invitation
                    )
                    return first
            if invitation.email is None:
                raise InvitationInvalid
            await self._accounts.create_account(login, device=device, invitation=invitation)
        except InvitationSpent:
            raise InvitationInvalid from None
        return login.account

    async def sign_in(
        self, *, email: str, password: str, device_name: str, peer: str, kind: DeviceKind = DeviceKind.CLIENT
    ) -> SignedIn:
        """Sign in a new device of the account with this e-mail address, and return the account, the device and its
        tokens. `device_name` and `kind` are those of the device, and `peer` is the network of the caller.

        Raise WrongPassword if the password or the address is wrong, TooManyAttempts above a limit of `AttemptLimits`,
        and TooMuchAtOnce if too many passwords are being hashed.
        """
        try:
            await self._attempts.admit(subject=email, peer=peer)
        except TooManyAttempts:
            metrics.SIGN_INS.labels("limited").inc()
            raise
        share = Share(email, peer)
        account = await self._proven(email, password, share)
        if account is not None:
            await self._attempts.succeeded(subject=email, peer=peer)
        elif self._proofs is not None:
            # The password of a claim is no sign of the owner: whoever makes an account for the address chooses one, and
            # would reset the count of guesses at the password of the proven account.
            account = await self._claimed(email, password, share)
        if account is None:
            metrics.SIGN_INS.labels("failed").inc()
            raise WrongPassword
        signed_in = self._open(account, kind, device_name)
        device = signed_in.device
        await self._devices.add_device(device)
        try:
            await self._lists.after_signing_in(device)
        except Unavailable as error:  # the device is stored, and the next sign-in shortens the list
            log.warning("list of devices not shortened", user=device.user, reason=str(error))
        metrics.SIGN_INS.labels("ok").inc()
        log.info("signed in", user=device.user, device=device.device)
        return signed_in

    async def _proven(self, email: str, password: str, share: Share) -> Account | None:
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
        return login.account

    async def _claimed(self, email: str, password: str, share: Share) -> Account | None:
        """Return the account that has the claim to an address if the password is its own, otherwise None. Without such
        an account the work is the same, so that the time of a refusal tells nothing of the accounts of an address.
        """
        login = await self._accounts.claim(email)
        checked = await self._passwords.verify(password, login.password_hash if login else None, share)
        return None if login is None or checked is PasswordCheck.WRONG else login.account

    def _open(self, account: Account, kind: DeviceKind, name: str) -> SignedIn:
        if kind is DeviceKind.BROWSER:
            device, key, tokens = self._keys.open(user=account.user, name=name)
            return SignedIn(account, device, tokens, key)
        device, tokens = self._sessions.open(user=account.user, name=name)
        return SignedIn(account, device, tokens)

    async def of_user(self, user: UserId) -> Account:
        """Return the account of a user. Raise NoSuchAccount if there is none."""
        account = await self._accounts.account(user)
        if account is None:
            raise NoSuchAccount("this account does not exist any more; sign up again")
        return account
