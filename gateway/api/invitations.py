"""Invitations to spaces: of a space for its owners, of an address for its owner, and by their tokens."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Request

from gateway.api import conversions, models
from gateway.api.idempotency import Named
from gateway.api.identifiers import Space
from gateway.api.paging import LongPage, PageToken
from gateway.identity.caller import GatewayServices, Signed, check_origin
from gateway.services.calls import ask
from syncline.auth.v1 import auth_pb2

router: Final = APIRouter(tags=["invitations"])

InvitedEmail = Annotated[models.Email, Path(description="The address that is invited.")]


@router.get("/spaces/{space}/invitations")
async def list_space_invitations(
    space: Space, caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.Invitations:
    """List the invitations to a space that nobody has taken up, for its owners.

    Invitations that have expired, and those of people who own the space no more, are missing.
    """
    asked = auth_pb2.ListInvitationsRequest(space_id=space, page_size=page_size, page_token=page_token)
    return _page(await ask(services.auth.ListInvitations, asked, token=caller.token))


@router.delete("/spaces/{space}/invitations/{email}", status_code=204)
async def revoke_invitation(
    space: Space, email: InvitedEmail, name: Named, caller: Signed, services: GatewayServices
) -> None:
    """Revoke the invitation of an address to a space, for the owners of the space."""
    asked = auth_pb2.RevokeInvitationRequest(request_id=name.id, space_id=space, email=email)
    await ask(services.auth.RevokeInvitation, asked, token=caller.token)


@router.get("/invitations")
async def list_invitations(
    caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.Invitations:
    """List the spaces to which the address of the caller is invited.

    403 with ADDRESS_UNPROVEN if the address is not proven. When it is, and at each sign-in, invitations are taken up;
    this list has those that could not be, such as those above a limit.
    """
    asked = auth_pb2.ListInvitationsRequest(page_size=page_size, page_token=page_token)
    return _page(await ask(services.auth.ListInvitations, asked, token=caller.token))


@router.post("/invitations/{space}/accept")
async def accept_invitation(space: Space, name: Named, caller: Signed, services: GatewayServices) -> models.Space:
    """Become a member of a space to which the address of the caller is invited."""
    asked = auth_pb2.AcceptInvitationRequest(request_id=name.id, space_id=space)
    return conversions.space((await ask(services.auth.AcceptInvitation, asked, token=caller.token)).space)


@router.post("/invitations/{space}/decline", status_code=204)
async def decline_invitation(space: Space, name: Named, caller: Signed, services: GatewayServices) -> None:
    """Decline the invitation of the address of the caller to a space."""
    asked = auth_pb2.DeclineInvitationRequest(request_id=name.id, space_id=space)
    await ask(services.auth.DeclineInvitation, asked, token=caller.token)


@router.post("/invitations/open")
async def get_invitation(
    body: models.InvitationToken, request: Request, services: GatewayServices
) -> models.PresentedInvitation:
    """Get the invitation with a token, which needs no account. It stays valid.

    400 with INVITATION_INVALID if it was used, revoked or declined, or has expired.
    """
    check_origin(request)
    answer = await ask(services.auth.GetInvitation, auth_pb2.GetInvitationRequest(token=body.token))
    return conversions.presented_invitation(answer)


@router.post("/invitations/refuse", status_code=204)
async def refuse_invitation(body: models.InvitationToken, request: Request, services: GatewayServices) -> None:
    """Decline the invitation to a space with a token, which needs no account."""
    check_origin(request)
    await ask(services.auth.RefuseInvitation, auth_pb2.RefuseInvitationRequest(token=body.token))


def _page(answer: auth_pb2.ListInvitationsResponse) -> models.Invitations:
    return models.Invitations(
        invitations=[conversions.invitation(one) for one in answer.invitations],
        next_page_token=answer.next_page_token or None,
    )
