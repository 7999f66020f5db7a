"""Making of invitations to spaces: an owner invites an address that has no proven account, and a mail goes to it.

The token in the mail is derived from the request, as that of a public link is, so that a repeated request has the same
mail sent if it was not. It is told to the owner of the address alone: whoever presents it has read the mail.
"""

from __future__ import annotations

import asyncio
from typing import Final

from runtime.logs import structlog
from services.auth.admission import Admission
from services.auth.attempts import Attempts
from services.auth.audit.events import AuditKind, audit_event
from services.auth.derived import DerivedSecrets, derived_id
from services.auth.holdings import HoldingLimits, is_full, limit_reached
from services.auth.opaque_tokens import TOKEN_BYTES, token_digest
from services.auth.ports import GateStore, MailRequests, SpaceInvitationStore
from services.auth.records import (
    DAY_MS,
    Clock,
    Done,
    Gate,
    GrantRecord,
    SpaceInvitation,
    SpaceInvitationMail,
    SpaceRecord,
)
from syncline.model.accounts import Role
from syncline.model.errors import GuestRefused, NoSuchInvitation
from syncline.model.identifiers import SpaceId, UserId
from syncline.model.limits import SPACE_INVITATION_DAYS

log = structlog.get_logger()

_KIND: Final = "invitation"
"""The kind of the secrets and ids that are derived from a request."""


class Inviting:
    """Makes invitations to spaces, and has them mailed."""

    def __init__(
        self,
        invitations: SpaceInvitationStore,
        gates: GateStore,
        mail: MailRequests,
        *,
        admission: Admission,
        attempts: Attempts,
        holdings: HoldingLimits,
        derived: DerivedSecrets,
        clock: Clock,
    ) -> None:
        self._invitations = invitations
        self._gates = gates
        self._mail = mail
        self._admission = admission
        self._attempts = attempts
        self._holdings = holdings
        self._secrets = derived
        self._clock = clock

    async def admit(self, *, user: UserId, email: str, role: Role) -> None:
        """Count the mail with an invitation that `user`, an owner of the space, is about to have sent to an address.
        Raise GuestRefused if the address would be that of a guest, who cannot become an owner, and TooManyAttempts if
        enough mails were sent.
        """
        if role is Role.OWNER and not self._admission.admits(email):
            raise GuestRefused(f"{email} can only be a guest here, who cannot own a space; choose another role")
        await self._attempts.admit_space_invitation(user=user, email=email)

    async def invite(
        self, space: SpaceRecord, *, by: GrantRecord, email: str, role: Role, done: Done
    ) -> SpaceInvitation:
        """Invite an address to a space, and return the invitation, which replaces an earlier one of the address. `by`
        is the grant of the owner who invites, and `done` the request.

        Raise GrantMoved or GateMoved, with nothing stored, if the decision has to be made anew. Raise LimitReached if
        there are too many invitations. Raise Unavailable if the mail could not be asked for; the invitation is then
        stored, and a repetition of the request asks for the mail again.
        """
        token, now = self._token(done), self._clock()
        invitation = SpaceInvitation(
            space.space,
            space.name,
            email,
            role,
            by.user,
            by.email,
            now,
            now + SPACE_INVITATION_DAYS * DAY_MS,
            token_digest(token),
        )
        gates = await self._room(invitation)
        replacing = await self._invitations.space_invitation(space.space, email)
        event = audit_event(
            AuditKind.MEMBER_INVITED, at_ms=now, space=space.space, address=email, role=role.name.lower()
        )
        await self._invitations.add_space_invitation(
            invitation, replacing=replacing, done=done, gates=gates, events=[event]
        )
        log.info("invited", space=space.space, by=by.user, role=role.name.lower())
        await self._send(invitation, token, done)
        return invitation

    async def again(self, space: SpaceId, *, email: str, done: Done) -> SpaceInvitation:
        """Return the invitation that the repeated request `done` has made, and ask for its mail again, which is sent
        once. Raise NoSuchInvitation if the invitation has ended or was replaced, and Unavailable if the mail could not
        be asked for.
        """
        token = self._token(done)
        found = await self._invitations.space_invitation(space, email)
        if found is None or found.token != token_digest(token):
            raise NoSuchInvitation
        await self._send(found, token, done)
        return found

    def _token(self, done: Done) -> str:
        return self._secrets.secret(_KIND, done.user, done.request, size=TOKEN_BYTES)

    async def _send(self, invitation: SpaceInvitation, token: str, done: Done) -> None:
        ident = derived_id(f"{_KIND} mail", done.user, done.request)
        await self._mail.send(SpaceInvitationMail(ident, invitation, token))

    async def _room(self, invitation: SpaceInvitation) -> list[Gate]:
        """Return the gates of the lists that an invitation extends, after checking that these lists have room. Raise
        LimitReached if one has not: that of the space, that of the inviter, or that of the address, of which one
        inviter may take at most half.
        """
        space, email, by = invitation.space, invitation.email, invitation.by
        gates = await self._gates.gates(f"invited {space}", f"inviting {by}", f"offers {email}")
        lists = await asyncio.gather(
            self._invitations.invitations_to(space),
            self._invitations.invitations_by(by),
            self._invitations.invitations_for(email),
        )
        here, made, offered = (
            [one for one in found if one.expires_at_ms > self._clock() and one.place != invitation.place]
            for found in lists
        )
        if len(here) >= (most := self._holdings.invitations):
            raise limit_reached(
                "invitations", f"{most} people are invited to this space, as many as may be; revoke some invitations"
            )
        if len(made) >= (most := self._holdings.invitations_made):
            raise limit_reached(
                "invitations_made",
                f"you have invited {most} people, as many as one person may; revoke some invitations",
            )
        most, held = self._holdings.invitations_received, sum(one.by == by for one in offered)
        if is_full(most, total=len(offered), held=held):
            raise limit_reached(
                "invitations_received",
                f"you have invited {email} to {held} spaces, and can invite them to no more at present; wait until "
                "some invitations are taken up or have expired, or revoke some of yours",
            )
        return gates
