"""Invitations: the person who runs the system lets people make accounts, whatever the policy of sign-up is.
`space_invitations.py` has the invitations of owners to their spaces, whose tokens are of the same kind.

An account that is made by an invitation is proven at once: the invitation went to the address, or was handed over by
the person who runs the system. The first invited account is that of the administrator.
"""

from __future__ import annotations

from runtime.logs import structlog
from services.auth.audit.events import Actor, AuditKind, audit_event
from services.auth.opaque_tokens import is_token, new_token, token_digest
from services.auth.ports import AccountStore, InvitationStore, MailRequests
from services.auth.records import DAY_MS, Clock, Invitation, InvitationMail
from syncline.model.errors import AccountExists, InvitationInvalid
from syncline.model.identifiers import new_text_id
from syncline.model.limits import INVITATION_DAYS

log = structlog.get_logger()


async def invitation_with(store: InvitationStore, token: str, *, now_ms: int) -> Invitation:
    """Return the invitation with this token at `now_ms`, the present time in milliseconds since 1970. Raise
    InvitationInvalid for a token that is none, was used, was revoked or has expired.
    """
    if not is_token(token):
        raise InvitationInvalid("that is no invitation; copy the whole link or code")
    invitation = await store.invitation(token_digest(token))
    if invitation is None or invitation.expires_at_ms <= now_ms:
        raise InvitationInvalid
    return invitation


class Invitations:
    """Makes invitations, and finds those that people present."""

    def __init__(
        self, invitations: InvitationStore, accounts: AccountStore, *, clock: Clock, actor: Actor | None = None
    ) -> None:
        """`actor` is the person in whose name invitations are made; None for the caller of the current call."""
        self._invitations = invitations
        self._accounts = accounts
        self._clock = clock
        self._actor = actor

    async def invite(self, email: str, *, mail: MailRequests | None = None) -> str:
        """Make an invitation for the normalised address `email`, have it mailed by `mail` unless that is None, and
        return its token. Raise AccountExists if the address has a proven account, and Unavailable if the mail could not
        be asked for; the invitation is then made and told to nobody.
        """
        token = new_token()
        await self.invite_once(email, token=token, ident=new_text_id(), mail=mail)
        return token

    async def invite_once(self, email: str, *, token: str, ident: str, mail: MailRequests | None) -> int:
        """Make the invitation with the token `token` for the normalised address `email`, have it mailed by `mail` with
        the id `ident` unless `mail` is None, and return the time until which it is valid, in milliseconds since 1970. A
        call that is repeated with the same arguments makes no second invitation and no second mail.

        Raise AccountExists if the address has a proven account, and Unavailable if the mail could not be asked for.
        """
        if await self._accounts.login(email) is not None:
            raise AccountExists
        invitation = await self._add(email, token)
        if mail is not None:
            await mail.send(InvitationMail(ident, email, token, invitation.expires_at_ms))
        return invitation.expires_at_ms

    async def expiry(self, token: str) -> int:
        """Return the time until which the invitation with this token is valid, in milliseconds since 1970; 0 if it was
        used, or expired long ago.
        """
        invitation = await self._invitations.invitation(token_digest(token))
        return 0 if invitation is None else invitation.expires_at_ms

    async def invite_first(self) -> str | None:
        """Make an invitation for the first account, whose owner states the address, and return its token; return None
        if there is an administrator already.
        """
        if await self._accounts.has_admin():
            return None
        token = new_token()
        await self._add(None, token)
        return token

    async def _add(self, email: str | None, token: str) -> Invitation:
        is_repeated = await self.expiry(token) > 0
        now = self._clock()
        invitation = Invitation(token_digest(token), email, now + INVITATION_DAYS * DAY_MS)
        event = audit_event(AuditKind.INVITATION_CREATED, at_ms=now, actor=self._actor, address=email)
        await self._invitations.add_invitation(invitation, events=[] if is_repeated else [event])
        return invitation

    async def presented(self, token: str, *, email: str) -> Invitation:
        """Return the invitation with this token. Raise InvitationInvalid for a token that is none, was used, has
        expired, or is for another address than `email`. An invitation for the first account is invalid as soon as there
        is an administrator.
        """
        invitation = await invitation_with(self._invitations, token, now_ms=self._clock())
        if invitation.email not in {None, email}:
            raise InvitationInvalid
        if invitation.email is None and await self._accounts.has_admin():
            raise InvitationInvalid
        return invitation
