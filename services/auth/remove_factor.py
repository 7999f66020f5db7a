"""`python -m services.auth.remove_factor EMAIL`: remove the second factor of an account whose owner has lost the app
and the recovery codes, if no administrator can do it.

The command acts on the identity table with the role of auth, so it runs where auth runs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from runtime.settings import load
from services.auth.addresses import normalize_address
from services.auth.audit.events import OPERATOR
from services.auth.bootstrap import system_clock
from services.auth.factor_changes import FactorChanges
from services.auth.operator_access import OperatorSettings, opened
from services.auth.records import FactorChange
from syncline.model.errors import Contended, NoSuchAccount, SynclineError


async def remove_factor(settings: OperatorSettings, email: str) -> bool:
    """Remove the second factor of the proven account of an address, and return False if it has none. Raise
    NoSuchAccount if there is no such account, and other SynclineErrors if the factor could not be removed.
    """
    async with opened(settings) as (store, queue):
        changes = FactorChanges(store, queue, clock=system_clock, actor=OPERATOR)
        login = await store.login(normalize_address(email))
        if login is None:
            raise NoSuchAccount("no account has proven that address")
        factor = await changes.of_user(login.account.user)
        if factor is None:
            return False
        if not await changes.change(factor, None, account=login.account, change=FactorChange.REMOVED):
            raise Contended("the second factor is being used at this moment; try again")
        return True


def main() -> int:
    """Remove a second factor and say so; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m services.auth.remove_factor",
        description="Remove the second factor of an account. Be sure who asks: the password alone signs in then.",
    )
    parser.add_argument("email", metavar="EMAIL", help="the e-mail address of the account")
    given = parser.parse_args()
    try:
        removed = asyncio.run(remove_factor(load(OperatorSettings), given.email))
    except SynclineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("the second factor is removed\n" if removed else "the account has no second factor\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
