"""Invitations: the person who runs the system lets people make accounts, whatever the policy of sign-up is.

An account that is made by an invitation is proven at once: the invitation went to the address, or was handed over by
the person who runs the system. The first invited account is that of the administrator.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from runtime.logs import structlog
from services.auth.ports import AccountStore, InvitationStore, MailRequests
from services.auth.records import DAY_MS, Clock, Invitation, InvitationMail
from syncline.model.errors import AccountExists, InvitationInvalid
from syncline.model.identifiers import new_text_id
from syncline.model.limits import INVITATION_DAYS

log = structlog.get_logger()

_TOKEN_BYTES: Final = 32
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def invitation_digest(token: str) -> bytes:
    """Return the digest that is stored instead of the token of an invitation: SHA-256."""
    return hashlib.sha256(token.encode()).digest()


class Invitations:
    """Makes invitations, and finds those that people present."""

    def __init__(self, invitations: InvitationStore, accounts: AccountStore, *, clock: Clock) -> None:
        self._invitations = invitations
        self._accounts = accounts
        self._clock = clock

    async def invite(self, email: str, *, mail: MailRequests | None = None) -> str:
        """Make an invitation for the normalised address `email`, have it mailed by `mail` unless that is None, and
        return its token. Raise AccountExists if the address has a proven account, and Unavailable if the mail could not
        be asked for; the invitation is then made and told to nobody.
        """
        if await self._accounts.login(email) is not None:
            raise AccountExists
        token, invitation = await self._add(email)
        if mail is not None:
            await mail.send(InvitationMail(new_text_id(), email, token, invitation.expires_at_ms))
        return token

    async def invite_first(self) -> str | None:
        """Make an invitation for the first account, whose owner states the address, and return its token; return None
        if there is an administrator already.
        """
        return None if await self._invitations.has_admin() else (await self._add(None))[0]

    async def _add(self, email: str | None) -> tuple[str, Invitation]:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        until = self._clock() + INVITATION_DAYS * DAY_MS
        invitation = Invitation(invitation_digest(token), email, until)
        await self._invitations.add_invitation(invitation)
        return token, invitation

    async def presented(self, token: str, *, email: str) -> Invitation:
        """Return the invitation with this token. Raise InvitationInvalid for a token that is none, was used, has
        expired, or is for another address than `email`. An invitation for the first account is invalid as soon as there
        is an administrator.
        """
        if _TOKEN.fullmatch(token) is None:
            raise InvitationInvalid("that is no invitation; copy the whole link or code")
        invitation = await self._invitations.invitation(invitation_digest(token))
        if invitation is None or invitation.expires_at_ms <= self._clock() or invitation.email not in {None, email}:
            raise InvitationInvalid
        if invitation.email is None and await self.has_admin():
            raise InvitationInvalid
        return invitation

    async def has_admin(self) -> bool:
        """Return True if there is an administrator, so that no further account becomes one by its invitation."""
        return await self._invitations.has_admin()
