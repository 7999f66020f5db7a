"""AdminService: ask if the caller is an administrator, parse, call, format, return."""

# ruff: noqa: N802, ARG002 # grpc names the methods and passes both arguments to each

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from runtime.identity import current_user
from runtime.rates import charge
from services.auth import admin_wire, wire
from services.auth.addresses import normalize_address
from services.auth.administration import Administration
from services.auth.administrators import Administrators
from services.auth.audit_log import AuditLog
from services.auth.devices import Devices
from services.auth.grants import Grants
from services.auth.paging import ITEMS_PER_CALL, page_of_all, page_of_read, page_wanted
from services.auth.quotas import Quotas
from services.auth.records import Account, SpaceRecord
from services.auth.spaces import Spaces
from syncline.admin.v1 import admin_pb2
from syncline.admin.v1.admin_pb2_grpc import AdminServiceServicer
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import UserId
from syncline.wire.identifiers import request_id_from_wire, space_id_from_wire, user_id_from_wire
from syncline.wire.pages import page_size_from_wire, page_token_to_wire, text_token_from_wire, that_fit

if TYPE_CHECKING:
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

USUAL_AUDIT_EVENTS: Final = 100
"""Number of events of a page of the audit log whose request states none."""


class AdminServicer(AdminServiceServicer):
    """The gRPC servicer of administration. admin.proto states what each method promises. Each method begins with
    `_administrator`.
    """

    def __init__(
        self,
        *,
        administrators: Administrators,
        administration: Administration,
        devices: Devices,
        spaces: Spaces,
        grants: Grants,
        quotas: Quotas,
        audit_log: AuditLog,
    ) -> None:
        self._administrators = administrators
        self._administration = administration
        self._devices = devices
        self._spaces = spaces
        self._grants = grants
        self._quotas = quotas
        self._audit_log = audit_log

    async def ListUsers(self, request: admin_pb2.ListUsersRequest, context: Context) -> admin_pb2.ListUsersResponse:
        await self._administrator()
        state = admin_wire.state_from_wire(request.state)
        beginning = admin_wire.email_prefix_from_wire(request.email_prefix)
        listing = f"users {state.name if state else ''} {beginning}"
        after, limit = page_wanted(request, listing=listing, beginning=beginning)
        found = await self._administration.users(state, beginning=beginning, after=after, limit=limit)
        usages = await self._quotas.usage_of_users([account for _, account in found])
        page, token = page_of_read(
            request, found, lambda one: admin_wire.user_to_wire(one, usages[one.user]), listing=listing
        )
        return admin_pb2.ListUsersResponse(users=page, next_page_token=token)

    async def GetUser(self, request: admin_pb2.GetUserRequest, context: Context) -> admin_pb2.GetUserResponse:
        await self._administrator()
        if bool(request.user_id) is bool(request.email):
            raise InvalidArgument("state either the user_id or the email of the user")
        if request.email:
            account = await self._administration.user_with(normalize_address(request.email))
        else:
            account = await self._administration.user(user_id_from_wire(request.user_id))
        return admin_pb2.GetUserResponse(user=await self._user_to_wire(account))

    async def ListUserDevices(
        self, request: admin_pb2.ListUserDevicesRequest, context: Context
    ) -> admin_pb2.ListUserDevicesResponse:
        await self._administrator()
        user = await self._known(request.user_id)
        devices = await self._devices.of_user(user)
        page, token = page_of_all(request, devices, wire.device_to_wire, listing=f"devices {user}")
        return admin_pb2.ListUserDevicesResponse(devices=page, next_page_token=token)

    async def ListUserSpaces(
        self, request: admin_pb2.ListUserSpacesRequest, context: Context
    ) -> admin_pb2.ListUserSpacesResponse:
        await self._administrator()
        user = await self._known(request.user_id)
        found = await self._spaces.of_user(user)
        spaces = [replace(one, alias=None) for one in found.spaces]
        page, token = page_of_all(request, spaces, wire.space_to_wire, listing=f"spaces {user}", read=found.read)
        return admin_pb2.ListUserSpacesResponse(spaces=page, next_page_token=token)

    async def InviteUser(self, request: admin_pb2.InviteUserRequest, context: Context) -> admin_pb2.InviteUserResponse:
        admin = await self._administrator()
        request_id = request_id_from_wire(request.request_id)
        email = normalize_address(request.email)
        token, until = await self._administration.invite(email, request=request_id, admin=admin, mail=request.mail)
        return admin_pb2.InviteUserResponse(token="" if request.mail else token, expires_at_ms=until)

    async def SuspendUser(
        self, request: admin_pb2.SuspendUserRequest, context: Context
    ) -> admin_pb2.SuspendUserResponse:
        admin = await self._administrator()
        request_id = request_id_from_wire(request.request_id)
        user = user_id_from_wire(request.user_id)
        reason = admin_wire.reason_from_wire(request.reason)
        account = await self._administration.suspend(user, request=request_id, admin=admin, reason=reason)
        return admin_pb2.SuspendUserResponse(user=await self._user_to_wire(account))

    async def ResumeUser(self, request: admin_pb2.ResumeUserRequest, context: Context) -> admin_pb2.ResumeUserResponse:
        admin = await self._administrator()
        request_id = request_id_from_wire(request.request_id)
        user = user_id_from_wire(request.user_id)
        account = await self._administration.resume(user, request=request_id, admin=admin)
        return admin_pb2.ResumeUserResponse(user=await self._user_to_wire(account))

    async def SignOutUser(
        self, request: admin_pb2.SignOutUserRequest, context: Context
    ) -> admin_pb2.SignOutUserResponse:
        await self._administrator()
        request_id_from_wire(request.request_id)  # signing out is idempotent, so the id is only checked
        user = user_id_from_wire(request.user_id)
        devices, keys = await self._administration.sign_out(user, end_keys=request.end_keys)
        return admin_pb2.SignOutUserResponse(device_count=devices, key_count=keys)

    async def RemoveUserFactor(
        self, request: admin_pb2.RemoveUserFactorRequest, context: Context
    ) -> admin_pb2.RemoveUserFactorResponse:
        admin = await self._administrator()
        request_id_from_wire(request.request_id)  # the removal is idempotent, so the id is only checked
        removed = await self._administration.remove_factor(user_id_from_wire(request.user_id), admin=admin)
        return admin_pb2.RemoveUserFactorResponse(removed=removed)

    async def SetAdministrator(
        self, request: admin_pb2.SetAdministratorRequest, context: Context
    ) -> admin_pb2.SetAdministratorResponse:
        admin = await self._administrator()
        request_id = request_id_from_wire(request.request_id)
        user = user_id_from_wire(request.user_id)
        account = await self._administration.set_admin(user, request=request_id, admin=admin, to=request.admin)
        return admin_pb2.SetAdministratorResponse(user=await self._user_to_wire(account))

    async def SetUserQuota(
        self, request: admin_pb2.SetUserQuotaRequest, context: Context
    ) -> admin_pb2.SetUserQuotaResponse:
        admin = await self._administrator()
        request_id = request_id_from_wire(request.request_id)
        user, quota = user_id_from_wire(request.user_id), admin_wire.quota_from_wire(request)
        account = await self._administration.set_user_quota(user, request=request_id, admin=admin, quota_bytes=quota)
        return admin_pb2.SetUserQuotaResponse(user=await self._user_to_wire(account))

    async def ListSpaces(self, request: admin_pb2.ListSpacesRequest, context: Context) -> admin_pb2.ListSpacesResponse:
        await self._administrator()
        after, limit = page_wanted(request, listing="all spaces")
        found = await self._administration.all_spaces(after=after, limit=limit)
        usages = await self._quotas.usage_of_spaces([space for _, space in found])
        page, token = page_of_read(
            request, found, lambda one: admin_wire.summary_to_wire(one, usages[one.space]), listing="all spaces"
        )
        return admin_pb2.ListSpacesResponse(spaces=page, next_page_token=token)

    async def GetSpace(self, request: admin_pb2.GetSpaceRequest, context: Context) -> admin_pb2.GetSpaceResponse:
        await self._administrator()
        space = await self._administration.space(space_id_from_wire(request.space_id))
        return admin_pb2.GetSpaceResponse(space=await self._summary_to_wire(space))

    async def ListSpaceMembers(
        self, request: admin_pb2.ListSpaceMembersRequest, context: Context
    ) -> admin_pb2.ListSpaceMembersResponse:
        await self._administrator()
        space = space_id_from_wire(request.space_id)
        found, grants = await self._grants.members(space, asking=None)
        page, token = page_of_all(request, grants, wire.member_to_wire, listing=f"members {space}")
        return admin_pb2.ListSpaceMembersResponse(members=page, space_name=found.name, next_page_token=token)

    async def SetSpaceOwner(
        self, request: admin_pb2.SetSpaceOwnerRequest, context: Context
    ) -> admin_pb2.SetSpaceOwnerResponse:
        admin = await self._administrator()
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        user = user_id_from_wire(request.user_id)
        grant = await self._administration.make_owner(space, user, request=request_id, admin=admin)
        return admin_pb2.SetSpaceOwnerResponse(member=wire.member_to_wire(grant))

    async def SetSpaceQuota(
        self, request: admin_pb2.SetSpaceQuotaRequest, context: Context
    ) -> admin_pb2.SetSpaceQuotaResponse:
        admin = await self._administrator()
        request_id = request_id_from_wire(request.request_id)
        space, quota = space_id_from_wire(request.space_id), admin_wire.quota_from_wire(request)
        changed = await self._administration.set_space_quota(space, request=request_id, admin=admin, quota_bytes=quota)
        return admin_pb2.SetSpaceQuotaResponse(space=await self._summary_to_wire(changed))

    async def GetPolicy(self, request: admin_pb2.GetPolicyRequest, context: Context) -> admin_pb2.GetPolicyResponse:
        await self._administrator()
        return admin_wire.policy_to_wire(self._administration.policy, self._quotas)

    async def ListAuditEvents(
        self, request: admin_pb2.ListAuditEventsRequest, context: Context
    ) -> admin_pb2.ListAuditEventsResponse:
        await self._administrator()
        wanted = admin_wire.audit_filter_from_wire(request)
        listing = f"audit {wanted}"
        page = await self._audit_log.page(
            wanted,
            before=text_token_from_wire(request.page_token, listing=listing),
            limit=page_size_from_wire(request.page_size, usual=USUAL_AUDIT_EVENTS),
        )
        charge(page.read // ITEMS_PER_CALL)
        events = that_fit(map(admin_wire.audit_event_to_wire, page.events))
        before = page.before if len(events) == len(page.events) else page.events[len(events) - 1].place
        token = page_token_to_wire(before.encode(), listing=listing) if before else ""
        return admin_pb2.ListAuditEventsResponse(events=events, next_page_token=token)

    async def _administrator(self) -> UserId:
        """Return the calling administrator, after asking for the account. Raise PermissionDenied for everybody else."""
        caller = current_user()
        return (await self._administrators.calling(user=caller.user, device=caller.device)).user

    async def _known(self, user_id: str) -> UserId:
        """Return the user with an id. Raise NoSuchAccount if there is none."""
        return (await self._administration.user(user_id_from_wire(user_id))).user

    async def _user_to_wire(self, account: Account) -> admin_pb2.User:
        usages = await self._quotas.usage_of_users([account])
        return admin_wire.user_to_wire(account, usages[account.user])

    async def _summary_to_wire(self, space: SpaceRecord) -> admin_pb2.SpaceSummary:
        usages = await self._quotas.usage_of_spaces([space])
        return admin_wire.summary_to_wire(space, usages[space.space])
