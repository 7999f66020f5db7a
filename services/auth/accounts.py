"""Accounts: signing up and signing in."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from runtime.logs import structlog
from runtime.pool import Share, TooMuchAtOnce
from services.auth import metrics
from services.auth.attempts import Attempts
from services.auth.devices import DeviceLists
from services.auth.keys import Keys
from services.auth.passwords import PasswordCheck, Passwords
from services.auth.ports import AccountStore, DeviceStore
from services.auth.records import Account, Clock, DeviceRecord, Login
from services.auth.sessions import Sessions, Tokens
from syncline.model.accounts import DeviceKind
from syncline.model.errors import NoSuchAccount, TooManyAttempts, Unavailable, WrongPassword
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
        passwords: Passwords,
        attempts: Attempts,
        sessions: Sessions,
        keys: Keys,
        lists: DeviceLists,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._devices = devices
        self._passwords = passwords
        self._attempts = attempts
        self._sessions = sessions
        self._keys = keys
        self._lists = lists
        self._clock = clock

    async def sign_up(
        self, *, email: str, password: str, device_name: str, peer: str, kind: DeviceKind = DeviceKind.CLIENT
    ) -> SignedIn:
        """Make an account with its personal space, sign in its first device, and return all of them. `device_name` and
        `kind` are those of the device, and `peer` is the network of the caller.

        - Raise AccountExists if the e-mail address is taken.
        - Raise TooManyAttempts if too many accounts were made from the network.
        - Raise TooMuchAtOnce if too many passwords are being hashed.

        In each of these cases nothing is stored.
        """
        await self._attempts.admit_account(peer=peer)
        account = Account(UserId(new_text_id()), email, SpaceId(new_text_id()), self._clock())
        login = Login(account, await self._passwords.hash(password, Share(email, peer)))
        signed_in = self._open(account, kind, device_name)
        device = signed_in.device
        await self._accounts.create_account(login, device=device)
        metrics.SIGN_UPS.inc()
        log.info("signed up", user=account.user, device=device.device)
        return signed_in

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
        login, share = await self._accounts.login(email), Share(email, peer)
        checked = await self._passwords.verify(password, login.password_hash if login else None, share)
        if login is None or checked is PasswordCheck.WRONG:
            metrics.SIGN_INS.labels("failed").inc()
            raise WrongPassword
        if checked is PasswordCheck.RIGHT_BUT_OUTDATED:
            with suppress(TooMuchAtOnce):  # the hash is updated at the next sign-in instead
                await self._accounts.replace_password_hash(
                    email, old=login.password_hash, new=await self._passwords.hash(password, share)
                )
        await self._attempts.succeeded(subject=email, peer=peer)
        signed_in = self._open(login.account, kind, device_name)
        device = signed_in.device
        await self._devices.add_device(device)
        try:
            await self._lists.after_signing_in(device)
        except Unavailable as error:  # the device is stored, and the next sign-in shortens the list
            log.warning("list of devices not shortened", user=device.user, reason=str(error))
        metrics.SIGN_INS.labels("ok").inc()
        log.info("signed in", user=device.user, device=device.device)
        return signed_in

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
