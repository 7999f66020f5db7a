"""Confirmation of people: before a change of what protects an account, they state its password once more."""

from __future__ import annotations

from runtime.pool import Share
from services.auth.attempts import Attempts
from services.auth.known_accounts import known_account
from services.auth.passwords import PasswordCheck, Passwords
from services.auth.ports import AccountStore
from services.auth.records import Login
from syncline.model.errors import AddressUnproven, NoSuchAccount, WrongCurrentPassword
from syncline.model.identifiers import UserId


class Confirmation:
    """Compares passwords that signed-in people state once more."""

    def __init__(self, accounts: AccountStore, *, passwords: Passwords, attempts: Attempts) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._attempts = attempts

    async def login(self, user: UserId) -> Login:
        """Return the proven account of a user with its password hash. Raise AddressUnproven if the account is not
        proven, and NoSuchAccount if there is none.
        """
        account = await known_account(self._accounts, user)
        if not account.proven:
            raise AddressUnproven("prove your e-mail address first, by the link in the mail that was sent to it")
        login = await self._accounts.login(account.email)
        if login is None or login.account.user != user:
            raise NoSuchAccount("this account does not exist any more; sign up again")
        return login

    async def check(self, login: Login, password: str, *, peer: str) -> None:
        """Return if `password` is that of the account `login`. `peer` is the network of the caller. The attempt counts
        with those at the sign-in, until `succeeded` takes it back.

        Raise WrongCurrentPassword if the password is wrong, TooManyAttempts if a limit of attempts at the address is
        reached, and TooMuchAtOnce if too many passwords are being hashed.
        """
        email = login.account.email
        await self._attempts.admit(subject=email, peer=peer)
        checked = await self._passwords.verify(password, login.password_hash, Share(email, peer))
        if checked is PasswordCheck.WRONG:
            raise WrongCurrentPassword

    async def succeeded(self, login: Login, *, peer: str) -> None:
        """Record that the owner of an account has confirmed to be the owner, from the network `peer`."""
        await self._attempts.succeeded(subject=login.account.email, peer=peer)
