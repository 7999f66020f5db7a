"""Look-up of the accounts of signed-in callers."""

from __future__ import annotations

from services.auth.ports import AccountStore
from services.auth.records import Account
from syncline.model.errors import NoSuchAccount
from syncline.model.identifiers import UserId


async def known_account(accounts: AccountStore, user: UserId) -> Account:
    """Return the account of a user. Raise NoSuchAccount if there is none."""
    account = await accounts.account(user)
    if account is None:
        raise NoSuchAccount("this account does not exist any more; sign up again")
    return account
