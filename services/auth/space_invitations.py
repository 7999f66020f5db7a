"""Invitations to spaces, after they were made: they are listed, taken up, declined and revoked.

An invitation becomes a grant as soon as an account of its address is proven, by whatever way. Until then it gives
nothing to anybody: an account of the address that is not proven neither sees the invitation nor gets the grant. The
right of the inviter is checked when the invitation is used, as that of the maker of a public link is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runtime.logs import structlog
from services.auth.admission import Admission
from services.auth.audit.events import AuditEvent, AuditKind, audit_event
from services.auth.grants import Grants
from services.auth.holdings import decided_anew
from services.auth.invitations import invitation_with
from services.auth.ports import (
    AccessStore,
    InvitationStore,
    RequestStore,
    SpaceInvitationStore,
    SpaceStore,
)
from services.auth.records import Account, Clock, Invitation, Membership, SpaceInvitation
from services.auth.repetitions import done_by, is_repetition
from syncline.model.accounts import Role
from syncline.model.errors import (
    InvitationInvalid,
    NoSuchInvitation,
    SynclineError,
)
from syncline.model.identifiers import RequestId, SpaceId, UserId

log = structlog.get_logger()

_TAKING_UP_SECONDS: Final = 5.0
"""Maximum seconds for which a sign-in, or the proof of an address, waits until the invitations of the address are taken
up. The person accepts the others afterwards.
"""
_BUSY: Final = "this invitation is being changed at this moment; try again"


@dataclass(frozen=True, slots=True)
class PresentedInvitation:
    """An invitation whose token was presented. `offer` is the invitation to a space; None if the invitation is only the
    right to make an account. `guest` is True if an account that is made by it is that of a guest.
    """

    invitation: Invitation
    offer: SpaceInvitation | None
    guest: bool


class SpaceInvitations:
    """Lists invitations to spaces, and ends them: by a grant, or because they are declined or revoked."""

    def __init__(
        self,
        invitations: SpaceInvitationStore,
        tokens: InvitationStore,
        spaces: SpaceStore,
        access: AccessStore,
        requests: RequestStore,
        *,
        grants: Grants,
        admission: Admission,
        clock: Clock,
    ) -> None:
        self._invitations = invitations
        self._tokens = tokens
        self._spaces = spaces
        self._access = access
        self._requests = requests
        self._grants = grants
        self._admission = admission
        self._clock = clock

    # ---- for owners of the space

    async def of_space(self, space: SpaceId, *, user: UserId) -> list[SpaceInvitation]:
        """Return the invitations to a space that can be taken up, in the order of addresses. Raise NoSuchSpace if the
        calling user has no grant, SpaceDeleted if the space is deleted, and PermissionDenied if the user is no owner.
        """
        await self._check_owner(space, user)
        return await self._valid(await self._invitations.invitations_to(space))

    async def revoke(self, space: SpaceId, *, request: RequestId, user: UserId, email: str) -> None:
        """Take the invitation of an address back. A repeated `request` has no further effect.

        Raise the errors of `of_space`, NoSuchInvitation if the address is not invited, RequestIdReused if the user has
        used the request id for another change, and Contended if concurrent changes come first too often.
        """
        await self._check_owner(space, user)
        await self._end("revoke", space, request=request, user=user, email=email)
        log.info("invitation revoked", space=space, user=user)

    async def _check_owner(self, space: SpaceId, user: UserId) -> None:
        await self._grants.deciding(space, user, None)

    # ---- for the owner of the address, whose account is proven

    async def of_account(self, account: Account) -> list[SpaceInvitation]:
        """Return the invitations of the address of a proven account that can be taken up, in the order of spaces."""
        return await self._valid(await self._invitations.invitations_for(account.email))

    async def accept(self, space: SpaceId, *, account: Account) -> Membership:
        """Make a proven account a member of the space to which its address is invited, and return the space. Without an
        invitation, return the space if the account is a member already.

        Raise NoSuchInvitation if there is no invitation that can be taken up, LimitReached if a list is full, and
        Contended if concurrent changes come first too often.
        """
        missing: NoSuchInvitation | None = None
        try:
            await self._grants.join(space, member=account)
        except NoSuchInvitation as error:
            missing = error
        for one in await self._spaces.memberships(account.user):
            if one.space == space:
                return one
        raise missing or NoSuchInvitation

    async def decline(self, space: SpaceId, *, request: RequestId, account: Account) -> None:
        """Decline the invitation of the address of a proven account. A repeated `request` has no further effect. Raise
        the errors of `revoke`, except those of `of_space`.
        """
        await self._end("decline", space, request=request, user=account.user, email=account.email)
        log.info("invitation declined", space=space, user=account.user)

    async def take_up(self, account: Account) -> set[SpaceId]:
        """Make an account that has just been proven, or whose owner has just signed in, a member of the spaces to which
        its address is invited, and return these spaces. An invitation that cannot be taken up now is logged and stays,
        and nothing is raised.
        """
        joined: set[SpaceId] = set()
        try:
            async with asyncio.timeout(_TAKING_UP_SECONDS):
                offers = await self.of_account(account)
                for offer in sorted(offers, key=lambda one: one.created_at_ms):
                    try:
                        await self._grants.join(offer.space, member=account)
                    except SynclineError as error:
                        log.warning("invitation not taken up", space=offer.space, user=account.user, reason=str(error))
                    else:
                        joined.add(offer.space)
        except (SynclineError, TimeoutError) as error:
            log.warning("invitations not taken up", user=account.user, reason=str(error))
        return joined

    # ---- for whoever has the token, and no account

    async def presented(self, token: str) -> PresentedInvitation:
        """Return the invitation with this token. Raise InvitationInvalid for a token that is none, was used, was
        revoked or has expired, and if the inviter is not an owner of the space any more.
        """
        return await self.judged(await invitation_with(self._tokens, token, now_ms=self._clock()))

    async def judged(self, invitation: Invitation) -> PresentedInvitation:
        """Return an invitation that was found by its token, with the offer of a role in a space that belongs to it, if
        any. Raise InvitationInvalid if the offer has ended, or its inviter is not an owner of the space any more.
        """
        if invitation.space is None or invitation.email is None:
            return PresentedInvitation(invitation, None, guest=False)
        offer = await self._invitations.space_invitation(invitation.space, invitation.email)
        if offer is None or offer.token != invitation.token or not await self._valid([offer]):
            raise InvitationInvalid
        return PresentedInvitation(invitation, offer, guest=not self._admission.admits(offer.email))

    async def refuse(self, token: str) -> None:
        """Decline the invitation to a space with this token. Raise InvitationInvalid as `presented` does, and for an
        invitation that is to no space.
        """

        async def end() -> None:
            offer = (await self.presented(token)).offer
            if offer is None:
                raise InvitationInvalid("this invitation is to no space; without an account, it ends by itself")
            await self._invitations.end_space_invitation(offer, events=[self._ended(offer, "refuse")])
            log.info("invitation refused", space=offer.space)

        await decided_anew(end, busy=_BUSY)

    # ---- common

    async def _valid(self, found: Sequence[SpaceInvitation]) -> list[SpaceInvitation]:
        """Return the invitations of `found` that have not expired, and whose inviter is still an owner of the space, in
        the order of their places.
        """
        now = self._clock()
        present = [one for one in found if one.expires_at_ms > now]
        grants, _ = await self._access.accesses({(one.space, one.by) for one in present}, [])
        owners = {key for key, grant in grants.items() if grant.role is Role.OWNER}
        return sorted((one for one in present if (one.space, one.by) in owners), key=lambda one: one.place)

    async def _end(self, act: str, space: SpaceId, *, request: RequestId, user: UserId, email: str) -> None:
        """End the invitation of an address to a space, for the request of a user, unless the request was carried out
        before. `act` is what the user does, and distinguishes requests.
        """
        done = done_by(user, request, f"{act} invitation", space, email, at_ms=self._clock())

        async def end() -> None:
            if await is_repetition(self._requests, done):
                return
            found = await self._invitations.space_invitation(space, email)
            if found is None or found.expires_at_ms <= self._clock():
                raise NoSuchInvitation
            await self._invitations.end_space_invitation(found, done=done, events=[self._ended(found, act)])

        await decided_anew(end, busy=_BUSY)

    def _ended(self, invitation: SpaceInvitation, act: str) -> AuditEvent:
        return audit_event(
            AuditKind.MEMBER_INVITATION_ENDED,
            at_ms=self._clock(),
            space=invitation.space,
            address=invitation.email,
            by=act,
        )
