"""The audit log for those who may read it: pages of the events that match a filter."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from services.auth.audit.events import AuditKind
from services.auth.audit.ports import AuditFilter, AuditPage, AuditStore
from services.auth.ports import AccountStore
from syncline.model.errors import InvalidArgument, InvalidPageToken

_PLACE: Final = re.compile(r"[0-9]{15}[a-z2-7]{26}")


class AuditLog:
    """Lists the events of the log, newest first."""

    def __init__(self, store: AuditStore, accounts: AccountStore) -> None:
        self._store = store
        self._accounts = accounts

    async def page(self, wanted: AuditFilter, *, before: str, limit: int) -> AuditPage:
        """Return up to `limit` events that match `wanted`, newest first, from before the place `before`; an empty one
        begins with the newest event. A page may have fewer events, even none, although more follow.

        An e-mail address in `wanted.involving` also stands for the account whose login the address is. Raise
        InvalidArgument for a kind that does not exist, and InvalidPageToken if `before` is not the place of an event.
        """
        if before and not _PLACE.fullmatch(before):
            raise InvalidPageToken
        if wanted.kind and wanted.kind not in set(AuditKind):
            raise InvalidArgument(
                f"there is no such kind of event; the kinds are {', '.join(sorted(AuditKind))}", field="kind"
            )
        involving = [*wanted.involving]
        for party in wanted.involving:
            login = await self._accounts.login(party) if "@" in party else None
            if login is not None:
                involving.append(login.account.user)
        return await self._store.page(replace(wanted, involving=tuple(involving)), before=before, limit=limit)
