"""Accounts and spaces of earlier releases, which did not keep the lists from which administrators read.

The whole table is read once to add them. Processes of the earlier release may still make accounts and spaces while the
first process of this release is running already. Therefore the table is read once more, when those processes have
ended.
"""

from __future__ import annotations

import asyncio
from typing import Final

from runtime.logs import structlog
from services.auth.ports import DirectoryStore

log = structlog.get_logger()

UPDATE_SECONDS: Final = 3600.0
"""Maximum seconds for which processes of an earlier release run beside those of this one."""


async def enter_earlier(directory: DirectoryStore, *, update_seconds: float = UPDATE_SECONDS) -> None:
    """Add the accounts and spaces of earlier releases to the lists of all accounts and spaces, unless that was done.
    Return after `update_seconds`, when no process of an earlier release runs any more. Several processes may do this at
    the same time, and a process that is stopped before does it anew at its next start.
    """
    if not await directory.enter_earlier():
        return
    log.info("earlier accounts entered")
    await asyncio.sleep(update_seconds)
    await directory.enter_earlier()
    await directory.finish_entering()
