"""Changes of second factors, and what follows: the audit log has each change, and the owner is told by mail."""

from __future__ import annotations

import asyncio
from typing import Final

from runtime.logs import structlog
from services.auth import metrics
from services.auth.audit.events import Actor, AuditEvent, AuditKind, audit_event
from services.auth.ports import FactorStore, MailRequests
from services.auth.records import DAY_MS, Account, Clock, FactorChange, FactorMail, SecondFactor
from services.auth.telling import TOLD_DAYS, tell
from syncline.model.identifiers import UserId, new_text_id

log = structlog.get_logger()

_KINDS: Final = {
    FactorChange.ADDED: AuditKind.FACTOR_ADDED,
    FactorChange.REMOVED: AuditKind.FACTOR_REMOVED,
    FactorChange.RECOVERY_CODE_USED: AuditKind.FACTOR_RECOVERY_CODE_USED,
}


class FactorChanges:
    """Changes second factors."""

    def __init__(
        self, store: FactorStore, mail: MailRequests | None, *, clock: Clock, actor: Actor | None = None
    ) -> None:
        """Owners are told by `mail`; None tells nobody. `actor` is the person in whose name factors are changed; None
        for the caller of the current call.
        """
        self._store = store
        self._mail = mail
        self._clock = clock
        self._actor = actor
        self._under_way: set[asyncio.Task[bool]] = set()

    async def of_user(self, user: UserId) -> SecondFactor | None:
        """Return the confirmed second factor of a user; None if there is none."""
        factor = await self._store.factor(user)
        return factor if factor is not None and factor.confirmed_at_ms is not None else None

    async def change(
        self, before: SecondFactor, after: SecondFactor | None, *, account: Account, change: FactorChange
    ) -> bool:
        """Replace the second factor `before` of an account by `after`, and tell the owner of `change`, also if the
        calling task is cancelled meanwhile. Return False, and change nothing, if the stored factor is not `before` any
        more.

        If the mail cannot be asked for, the owner is not told: the change is decided, and in the audit log.
        """
        event = audit_event(_KINDS[change], at_ms=self._clock(), actor=self._actor, user=account.user)
        work = asyncio.create_task(self._change(before, after, account, change, event))
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        return await asyncio.shield(work)

    async def _change(
        self,
        before: SecondFactor,
        after: SecondFactor | None,
        account: Account,
        change: FactorChange,
        event: AuditEvent,
    ) -> bool:
        if not await self._store.change_factor(before, after, events=[event]):
            return False
        metrics.FACTORS.labels(change.value.replace(" ", "_")).inc()
        log.info("second factor changed", user=account.user, change=change.value)
        if self._mail is not None:
            now = self._clock()
            until = now + TOLD_DAYS * DAY_MS
            await tell(self._mail, FactorMail(new_text_id(), account.user, account.email, change, now, until))
        return True
