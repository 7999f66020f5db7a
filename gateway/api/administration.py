"""Operations of administrators: users, spaces of all people, and the policy. Auth asks at each call if the caller is an
administrator.
"""

from __future__ import annotations

from typing import Annotated, Final, cast

from fastapi import APIRouter, Depends, Path, Query, Request

from gateway.api import conversions, models
from gateway.api.idempotency import Named
from gateway.api.identifiers import Space, TextId
from gateway.api.paging import LongPage, PageToken, ShortPage
from gateway.identity.caller import GatewayServices, Signed
from gateway.services.calls import ask
from runtime.permissions import ADMINISTRATORS_ONLY
from syncline.admin.v1 import admin_pb2
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import PermissionDenied


async def _check_administrator(caller: Signed, services: GatewayServices) -> None:
    """Raise PermissionDenied if the caller is no administrator, before the body of the request is looked at. Auth asks
    once more in each call.
    """
    answer = await ask(services.auth.GetAccount, auth_pb2.GetAccountRequest(), token=caller.token)
    if not answer.account.admin:
        raise PermissionDenied(ADMINISTRATORS_ONLY)


router: Final = APIRouter(prefix="/admin", tags=["administration"], dependencies=[Depends(_check_administrator)])

UserId = Annotated[TextId, Path(description="The user.")]
_STATES: Final[dict[models.UserStateName, admin_pb2.UserState.ValueType]] = {
    "unproven": admin_pb2.USER_STATE_UNPROVEN,
    "suspended": admin_pb2.USER_STATE_SUSPENDED,
    "administrator": admin_pb2.USER_STATE_ADMINISTRATOR,
}


@router.get("/users")
async def list_users(
    caller: Signed,
    services: GatewayServices,
    page_size: LongPage,
    page_token: PageToken = "",
    email_prefix: Annotated[str, Query(max_length=254, description="The beginning of the addresses to list.")] = "",
    state: Annotated[models.UserStateName | None, Query(description="List only users in this state.")] = None,
) -> models.Users:
    """List the users of the system in the order of their addresses."""
    asked = admin_pb2.ListUsersRequest(page_size=page_size, page_token=page_token, email_prefix=email_prefix)
    if state is not None:
        asked.state = _STATES[state]
    answer = await ask(services.admin.ListUsers, asked, token=caller.token)
    return models.Users(users=[_user(user) for user in answer.users], next_page_token=answer.next_page_token or None)


@router.get("/users/{user_id}")
async def get_user(user_id: UserId, caller: Signed, services: GatewayServices) -> models.User:
    """Get one user."""
    asked = admin_pb2.GetUserRequest(user_id=user_id)
    return _user((await ask(services.admin.GetUser, asked, token=caller.token)).user)


@router.get("/users/{user_id}/devices")
async def list_user_devices(
    user_id: UserId, caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.Devices:
    """List the devices, browsers and programs of a user, newest first."""
    asked = admin_pb2.ListUserDevicesRequest(user_id=user_id, page_size=page_size, page_token=page_token)
    answer = await ask(services.admin.ListUserDevices, asked, token=caller.token)
    here = caller.claims.device
    return models.Devices(
        devices=[conversions.device(device, current=here) for device in answer.devices],
        next_page_token=answer.next_page_token or None,
    )


@router.get("/users/{user_id}/spaces")
async def list_user_spaces(
    user_id: UserId, caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.UserSpaces:
    """List the spaces in which a user has a role."""
    asked = admin_pb2.ListUserSpacesRequest(user_id=user_id, page_size=page_size, page_token=page_token)
    answer = await ask(services.admin.ListUserSpaces, asked, token=caller.token)
    found = [conversions.space(space) for space in answer.spaces]
    return models.UserSpaces(
        spaces=[
            models.UserSpace(space_id=one.space_id, name=one.name, role=one.role, personal=one.personal)
            for one in found
        ],
        next_page_token=answer.next_page_token or None,
    )


@router.post("/invitations", status_code=201)
async def invite_user(
    body: models.NewInvitation, request: Request, name: Named, caller: Signed, services: GatewayServices
) -> models.MadeInvitation:
    """Invite the owner of an address to make an account, whatever the policy of sign-up is. The invitation is mailed,
    or its address is shown only this once.
    """
    asked = admin_pb2.InviteUserRequest(request_id=name.id, email=body.email, mail=body.mail)
    answer = await ask(services.admin.InviteUser, asked, token=caller.token)
    if not answer.token:
        return models.MadeInvitation(expires_at_ms=answer.expires_at_ms)
    base = request.app.state.own.of(request).url
    return models.MadeInvitation(
        token=answer.token, url=f"{base}/join#{answer.token}", expires_at_ms=answer.expires_at_ms
    )


@router.put("/users/{user_id}/suspension")
async def suspend_user(
    user_id: UserId, body: models.SuspensionReason, name: Named, caller: Signed, services: GatewayServices
) -> models.User:
    """Suspend a user: nobody signs in, and every device, key and public link of the user is refused until the user is
    resumed.
    """
    asked = admin_pb2.SuspendUserRequest(request_id=name.id, user_id=user_id, reason=body.reason)
    return _user((await ask(services.admin.SuspendUser, asked, token=caller.token)).user)


@router.delete("/users/{user_id}/suspension")
async def resume_user(user_id: UserId, name: Named, caller: Signed, services: GatewayServices) -> models.User:
    """End the suspension of a user."""
    asked = admin_pb2.ResumeUserRequest(request_id=name.id, user_id=user_id)
    return _user((await ask(services.admin.ResumeUser, asked, token=caller.token)).user)


@router.delete("/users/{user_id}/factor")
async def remove_user_factor(
    user_id: UserId, name: Named, caller: Signed, services: GatewayServices
) -> models.FactorRemoved:
    """Remove the second factor of a user who has lost the authenticator app and the recovery codes."""
    asked = admin_pb2.RemoveUserFactorRequest(request_id=name.id, user_id=user_id)
    answer = await ask(services.admin.RemoveUserFactor, asked, token=caller.token)
    return models.FactorRemoved(removed=answer.removed)


@router.post("/users/{user_id}/sign-out")
async def sign_out_user(
    user_id: UserId, body: models.SignOut, name: Named, caller: Signed, services: GatewayServices
) -> models.SignedOutDevices:
    """Sign a user out of all clients and browsers."""
    asked = admin_pb2.SignOutUserRequest(request_id=name.id, user_id=user_id, end_keys=body.end_keys)
    answer = await ask(services.admin.SignOutUser, asked, token=caller.token)
    return models.SignedOutDevices(device_count=answer.device_count, key_count=answer.key_count)


@router.put("/users/{user_id}/administrator")
async def set_administrator(
    user_id: UserId, body: models.AdministratorRight, name: Named, caller: Signed, services: GatewayServices
) -> models.User:
    """Make a user an administrator, or an administrator an ordinary user. The last administrator stays one."""
    asked = admin_pb2.SetAdministratorRequest(request_id=name.id, user_id=user_id, admin=body.admin)
    return _user((await ask(services.admin.SetAdministrator, asked, token=caller.token)).user)


@router.put("/users/{user_id}/quota")
async def set_user_quota(
    user_id: UserId, body: models.NewQuota, name: Named, caller: Signed, services: GatewayServices
) -> models.User:
    """Give a user a quota for all spaces that count for the user together, or the usual one. What is stored stays."""
    asked = admin_pb2.SetUserQuotaRequest(request_id=name.id, user_id=user_id, quota_bytes=body.quota_bytes)
    return _user((await ask(services.admin.SetUserQuota, asked, token=caller.token)).user)


@router.get("/spaces")
async def list_all_spaces(
    caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.SpaceSummaries:
    """List the shared spaces of the system, newest first."""
    asked = admin_pb2.ListSpacesRequest(page_size=page_size, page_token=page_token)
    answer = await ask(services.admin.ListSpaces, asked, token=caller.token)
    return models.SpaceSummaries(
        spaces=[_summary(space) for space in answer.spaces], next_page_token=answer.next_page_token or None
    )


@router.get("/spaces/{space}")
async def get_any_space(space: Space, caller: Signed, services: GatewayServices) -> models.SpaceSummary:
    """Get one space of the system, shared or personal."""
    asked = admin_pb2.GetSpaceRequest(space_id=space)
    return _summary((await ask(services.admin.GetSpace, asked, token=caller.token)).space)


@router.get("/spaces/{space}/members")
async def list_space_members(
    space: Space, caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.Members:
    """List the members of any space."""
    asked = admin_pb2.ListSpaceMembersRequest(space_id=space, page_size=page_size, page_token=page_token)
    answer = await ask(services.admin.ListSpaceMembers, asked, token=caller.token)
    return models.Members(
        space_name=answer.space_name,
        members=[conversions.member(member) for member in answer.members],
        next_page_token=answer.next_page_token or None,
    )


@router.put("/spaces/{space}/owners/{user_id}")
async def set_space_owner(
    space: Space, user_id: UserId, name: Named, caller: Signed, services: GatewayServices
) -> models.Member:
    """Make a user an owner of a shared space."""
    asked = admin_pb2.SetSpaceOwnerRequest(request_id=name.id, space_id=space, user_id=user_id)
    return conversions.member((await ask(services.admin.SetSpaceOwner, asked, token=caller.token)).member)


@router.put("/spaces/{space}/quota")
async def set_space_quota(
    space: Space, body: models.NewQuota, name: Named, caller: Signed, services: GatewayServices
) -> models.SpaceSummary:
    """Give a space a quota, or the usual one. The quota of its owner holds as well. What is stored stays."""
    asked = admin_pb2.SetSpaceQuotaRequest(request_id=name.id, space_id=space, quota_bytes=body.quota_bytes)
    return _summary((await ask(services.admin.SetSpaceQuota, asked, token=caller.token)).space)


@router.get("/policy")
async def get_policy(caller: Signed, services: GatewayServices) -> models.SignUpRules:
    """Get the policy by which people come in."""
    answer = await ask(services.admin.GetPolicy, admin_pb2.GetPolicyRequest(), token=caller.token)
    return models.SignUpRules(
        sign_up_policy=cast("models.PolicyName", answer.sign_up_policy),
        sign_up_domains=list(answer.sign_up_domains),
        prove_addresses=answer.prove_addresses,
        invitation_seconds=answer.invitation_seconds,
        credential_seconds=answer.credential_seconds,
        user_quota_bytes=answer.user_quota_bytes if answer.HasField("user_quota_bytes") else None,
        space_quota_bytes=answer.space_quota_bytes,
    )


@router.get("/audit")
async def list_audit_events(
    caller: Signed,
    services: GatewayServices,
    page_size: ShortPage,
    page_token: PageToken = "",
    since_ms: Annotated[models.TimeMs, Query(description="The first time, in milliseconds since 1970.")] = 0,
    until_ms: Annotated[models.TimeMs, Query(description="The time after the last one; 0 for now.")] = 0,
    kind: Annotated[str, Query(max_length=64, description="List only events of this kind.")] = "",
    involving: Annotated[
        str, Query(max_length=254, description="The id or address of somebody who acted, or whom the act concerns.")
    ] = "",
) -> models.AuditEvents:
    """List the events of the audit log, newest first."""
    asked = admin_pb2.ListAuditEventsRequest(
        page_size=page_size,
        page_token=page_token,
        since_ms=since_ms,
        until_ms=until_ms,
        kind=kind,
        involving=involving,
    )
    answer = await ask(services.admin.ListAuditEvents, asked, token=caller.token)
    return models.AuditEvents(
        events=[_audit_event(event) for event in answer.events], next_page_token=answer.next_page_token or None
    )


def _audit_event(pb: admin_pb2.AuditEvent) -> models.AuditEvent:
    return models.AuditEvent(
        event_id=pb.event_id,
        at_ms=pb.at_ms,
        kind=pb.kind,
        result=pb.result,
        actor=models.AuditActor(
            kind=pb.actor.kind,
            user_id=pb.actor.user_id or None,
            device_id=pb.actor.device_id or None,
            name=pb.actor.name or None,
        ),
        subjects=[models.AuditSubject(kind=one.kind, id=one.id) for one in pb.subjects],
        network=pb.network or None,
        request_id=pb.request_id or None,
        count=pb.count,
        details=dict(pb.details),
    )


def _user(pb: admin_pb2.User) -> models.User:
    suspension = models.UserSuspension(
        since_ms=pb.suspension.since_ms, by_user_id=pb.suspension.by_user_id, reason=pb.suspension.reason
    )
    return models.User(
        user_id=pb.user_id,
        email=pb.email,
        personal_space_id=pb.personal_space_id,
        created_at_ms=pb.created_at_ms,
        proven=not pb.unproven,
        admin=pb.admin,
        guest=pb.guest,
        suspension=suspension if pb.HasField("suspension") else None,
        usage=conversions.usage(pb.usage),
        quota_set=pb.quota_set,
    )


def _summary(pb: admin_pb2.SpaceSummary) -> models.SpaceSummary:
    return models.SpaceSummary(
        space_id=pb.space_id,
        name=pb.name,
        personal=pb.personal,
        owners=pb.owners,
        created_at_ms=pb.created_at_ms,
        deleted_at_ms=pb.deleted_at_ms or None,
        quota_bytes=pb.quota_bytes,
        quota_set=pb.quota_set,
        reserved_bytes=pb.reserved_bytes,
        payer_user_id=pb.payer_user_id or None,
    )
