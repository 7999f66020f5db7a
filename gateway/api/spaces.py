"""Spaces, members, and mail preferences."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path

from gateway.api import conversions, models
from gateway.api.idempotency import Named
from gateway.api.identifiers import Space
from gateway.api.paging import LongPage, PageToken
from gateway.identity.caller import GatewayServices, Signed
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
    raise NoSuchSpace(space_id=space)


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


@router.put("/spaces/{space}/members/{email}")
async def set_member(
    space: Space, email: Email, body: models.NewRole, name: Named, caller: Signed, services: GatewayServices
) -> models.Member:
    """Give a person a role in a space, or change it."""
    answer = await ask(
        services.auth.SetMember,
        auth_pb2.SetMemberRequest(request_id=name.id, space_id=space, email=email, role=conversions.ROLES[body.role]),
        token=caller.token,
    )
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
