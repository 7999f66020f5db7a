"""Spaces, members, and mail preferences."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.responses import JSONResponse, Response

from gateway.api import conversions, models
from gateway.api.idempotency import Named
from gateway.api.identifiers import Space
from gateway.api.paging import LongPage, PageToken
from gateway.identity.caller import GatewayServices, Signed
from gateway.identity.rights import right_check
from gateway.services.calls import ask, ask_pages
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import NoSuchSpace
from syncline.notify.v1 import notify_pb2

router: Final = APIRouter(tags=["spaces"])

Email = Annotated[models.Email, Path(description="The person's address.")]


@router.get("/spaces")
async def list_spaces(
    caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.Spaces:
    """List the spaces that the caller is a member of."""
    asked = auth_pb2.ListSpacesRequest(page_size=page_size, page_token=page_token)
    answer = await ask(services.auth.ListSpaces, asked, token=caller.token)
    return models.Spaces(
        spaces=[conversions.space(space) for space in answer.spaces], next_page_token=answer.next_page_token or None
    )


@router.post("/spaces", status_code=201)
async def create_space(body: models.NewSpace, name: Named, caller: Signed, services: GatewayServices) -> models.Space:
    """Make a shared space."""
    answer = await ask(
        services.auth.CreateSpace,
        auth_pb2.CreateSpaceRequest(request_id=name.id, name=body.name),
        token=caller.token,
    )
    return conversions.space(answer.space)


@router.get("/spaces/{space}")
async def get_space(space: Space, caller: Signed, services: GatewayServices) -> models.Space:
    """Get one of the caller's spaces."""
    async for page in ask_pages(services.auth.ListSpaces, auth_pb2.ListSpacesRequest(), token=caller.token):
        for found in page.spaces:
            if found.space_id == space:
                return conversions.space(found)
    await right_check(services, caller.fresh, space)()  # a deleted space is refused with its date
    raise NoSuchSpace(space_id=space)


@router.patch("/spaces/{space}")
async def rename_space(
    space: Space, body: models.NewName, name: Named, caller: Signed, services: GatewayServices
) -> models.Space:
    """Give a shared space another name, for all of its members. The aliases of the members stay as they are."""
    answer = await ask(
        services.auth.RenameSpace,
        auth_pb2.RenameSpaceRequest(request_id=name.id, space_id=space, name=body.name),
        token=caller.token,
    )
    return conversions.space(answer.space)


@router.delete("/spaces/{space}")
async def delete_space(space: Space, name: Named, caller: Signed, services: GatewayServices) -> models.Space:
    """Delete a shared space. Until `restorable_until_ms` its owners can undelete it; after that it stays deleted."""
    answer = await ask(
        services.auth.DeleteSpace,
        auth_pb2.DeleteSpaceRequest(request_id=name.id, space_id=space),
        token=caller.token,
    )
    return conversions.space(answer.space)


@router.post("/spaces/{space}/undelete")
async def undelete_space(space: Space, name: Named, caller: Signed, services: GatewayServices) -> models.Space:
    """Bring a deleted space back as it was, with its members, public links and aliases."""
    answer = await ask(
        services.auth.UndeleteSpace,
        auth_pb2.UndeleteSpaceRequest(request_id=name.id, space_id=space),
        token=caller.token,
    )
    return conversions.space(answer.space)


@router.post("/spaces/{space}/transfer")
async def transfer_space(
    space: Space, body: models.Transfer, name: Named, caller: Signed, services: GatewayServices
) -> models.Member:
    """Make another person owner of a shared space, and give the caller another role, or none, both at once."""
    request = auth_pb2.TransferSpaceRequest(request_id=name.id, space_id=space, email=body.email)
    if body.keep_role is not None:
        request.keep_role = conversions.ROLES[body.keep_role]
    answer = await ask(services.auth.TransferSpace, request, token=caller.token)
    return conversions.member(answer.owner)


@router.get("/deleted-spaces")
async def list_deleted_spaces(
    caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.DeletedSpaces:
    """List the deleted spaces that the caller is an owner of and can undelete."""
    asked = auth_pb2.ListDeletedSpacesRequest(page_size=page_size, page_token=page_token)
    answer = await ask(services.auth.ListDeletedSpaces, asked, token=caller.token)
    return models.DeletedSpaces(
        spaces=[conversions.space(space) for space in answer.spaces], next_page_token=answer.next_page_token or None
    )


@router.get("/spaces/{space}/usage")
async def get_usage(space: Space, caller: Signed, services: GatewayServices) -> models.Usage:
    """Get the bytes that a space uses, including all versions, its quota, and its sequence number.

    `unsealed_bytes` were uploaded, belong to no file yet, and count against the quota of uploads: finish the pending
    uploads, or wait until they are removed after a week.
    """
    answer = await ask(services.metadata.GetSpace, metadata_pb2.GetSpaceRequest(space_id=space), token=caller.token)
    return models.Usage(
        head=answer.head,
        used_bytes=answer.used_bytes,
        quota_bytes=answer.quota_bytes,
        nodes=answer.nodes,
        max_nodes=answer.max_nodes if answer.HasField("max_nodes") else None,
        unsealed_bytes=answer.unsealed_bytes,
        unsealed_objects=answer.unsealed_objects,
    )


@router.get("/spaces/{space}/members")
async def list_members(
    space: Space, caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.Members:
    """List the members of a space."""
    asked = auth_pb2.ListMembersRequest(space_id=space, page_size=page_size, page_token=page_token)
    answer = await ask(services.auth.ListMembers, asked, token=caller.token)
    return models.Members(
        space_name=answer.space_name,
        members=[conversions.member(member) for member in answer.members],
        next_page_token=answer.next_page_token or None,
    )


@router.put(
    "/spaces/{space}/members/{email}",
    response_model=models.Member,
    responses={202: {"model": models.Invitation, "description": "The address has no account, and was invited."}},
)
async def set_member(
    space: Space, email: Email, body: models.NewRole, name: Named, caller: Signed, services: GatewayServices
) -> models.Member | Response:
    """Give a person a role in a space, or change it.

    An address without a proven account is invited instead, by a mail: the answer is 202 with the invitation. It becomes
    the role as soon as the address is proven.
    """
    answer = await ask(
        services.auth.SetMember,
        auth_pb2.SetMemberRequest(request_id=name.id, space_id=space, email=email, role=conversions.ROLES[body.role]),
        token=caller.token,
    )
    if answer.HasField("invitation"):
        told = conversions.invitation(answer.invitation)
        return JSONResponse(told.model_dump(), status_code=202)
    return conversions.member(answer.member)


@router.delete("/spaces/{space}/members/{email}", status_code=204)
async def remove_member(space: Space, email: Email, name: Named, caller: Signed, services: GatewayServices) -> None:
    """Remove a person from a space. Nothing is changed if the account with this address is no member."""
    await ask(
        services.auth.RemoveMember,
        auth_pb2.RemoveMemberRequest(request_id=name.id, space_id=space, email=email),
        token=caller.token,
    )


@router.get("/spaces/{space}/notifications")
async def get_notifications(space: Space, caller: Signed, services: GatewayServices) -> models.Preferred:
    """Get the mail mode of the caller for a space."""
    answer = await ask(
        services.notify.GetPreference, notify_pb2.GetPreferenceRequest(space_id=space), token=caller.token
    )
    return _preferred(answer.mode)


@router.put("/spaces/{space}/notifications")
async def set_notifications(
    space: Space, body: models.Preference, name: Named, caller: Signed, services: GatewayServices
) -> models.Preferred:
    """Change the mail mode of the caller for a space."""
    mode = notify_pb2.MAIL_MODE_INSTANT if body.mode == "instant" else notify_pb2.MAIL_MODE_OFF
    answer = await ask(
        services.notify.SetPreference,
        notify_pb2.SetPreferenceRequest(request_id=name.id, space_id=space, mode=mode),
        token=caller.token,
    )
    return _preferred(answer.mode)


def _preferred(mode: notify_pb2.MailMode.ValueType) -> models.Preferred:
    return models.Preferred(mode="instant" if mode == notify_pb2.MAIL_MODE_INSTANT else "off")
