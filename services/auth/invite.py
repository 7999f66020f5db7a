"""`python -m services.auth.invite EMAIL`: let somebody make an account, whatever the policy of sign-up is.

The command acts on the identity table with the role of auth, so it runs where auth runs. Of the callers of the service,
only administrators can invite, and the first one is made by this command. It prints the link to the page where the
account is made, or only the token if no address of the system is given.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from runtime.settings import load
from services.auth.addresses import normalize_address
from services.auth.audit.events import OPERATOR
from services.auth.bootstrap import system_clock
from services.auth.invitations import Invitations
from services.auth.operator_access import OperatorSettings, opened
from syncline.model.errors import SynclineError


async def invite(settings: OperatorSettings, email: str | None, *, mail: bool) -> str | None:
    """Return the token of a new invitation for an address, which is mailed if `mail`. If `email` is None, the
    invitation is for the first account; return None if there is an administrator already. Raise SynclineError if no
    invitation could be made.
    """
    async with opened(settings) as (store, queue):
        invitations = Invitations(store, store, clock=system_clock, actor=OPERATOR)
        if email is None:
            return await invitations.invite_first()
        return await invitations.invite(normalize_address(email), mail=queue if mail else None)


def main() -> int:
    """Make an invitation and print it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m services.auth.invite", description="Let somebody make an account, once, within a week."
    )
    invited = parser.add_mutually_exclusive_group(required=True)
    invited.add_argument("email", nargs="?", metavar="EMAIL", help="the e-mail address of the account")
    invited.add_argument(
        "--first",
        action="store_true",
        help="for the first account, whose owner states the address; nothing is printed if there is an administrator",
    )
    parser.add_argument("--mail", action="store_true", help="have the invitation mailed to EMAIL")
    parser.add_argument("--url", metavar="URL", default="", help="the address of the system, to print a link")
    given = parser.parse_args()
    if given.first and given.mail:
        parser.error("--mail needs EMAIL")
    settings = load(OperatorSettings)
    if given.mail and not settings.mail_queue_url:
        parser.error("--mail needs SYNCLINE_MAIL_QUEUE_URL")
    try:
        token = asyncio.run(invite(settings, given.email, mail=given.mail))
    except SynclineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if token is not None:
        sys.stdout.write(f"{given.url.rstrip('/')}/join#{token}\n" if given.url else f"{token}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
