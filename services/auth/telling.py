"""Mails that tell the owner of an account of a change that is decided, whether or not the mail can be asked for."""

from __future__ import annotations

import asyncio
from typing import Final

from runtime.logs import structlog
from services.auth.ports import MailRequests
from services.auth.records import FactorMail, PasswordMail
from syncline.model.errors import SynclineError

log = structlog.get_logger()

TOLD_DAYS: Final = 4
"""Days after a change at which the owner is not told any more: the time for which the queue of mail keeps a request."""
_MAIL_SECONDS: Final = 5.0
"""Maximum seconds for which a change waits until its mail is asked for."""


async def tell(mail: MailRequests, asked: PasswordMail | FactorMail) -> bool:
    """Ask for the mail about a change. Return False if that was not possible in time."""
    try:
        async with asyncio.timeout(_MAIL_SECONDS):
            await mail.send(asked)
    except (SynclineError, TimeoutError) as error:
        log.warning("change of an account not told", user=asked.user, reason=str(error))
        return False
    return True
