"""AuthService: parse, call, format, return."""

# ruff: noqa: N802, ARG002 # grpc names the methods and passes both arguments to each

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from runtime.identity import current_identity, current_link, current_service, current_user
from runtime.network import current_network
from runtime.rates import charge
from services.auth import wire
from services.auth.accounts import AccountRegistry
from services.auth.addresses import normalize_address
from services.auth.anonymous_calls import AnonymousCalls
from services.auth.audit.counts import RefusalCounts
from services.auth.audit.events import AuditKind
from services.auth.audit.hourly import HourlyEvents
from services.auth.credentials import CredentialIssuer
from services.auth.devices import Devices
from services.auth.endings import Endings
from services.auth.factors import Factors
from services.auth.grants import CheckedAccess, Grants
from services.auth.key_limits import check_space
from services.auth.keys import Keys, parse_key
from services.auth.labels import check_label
from services.auth.links import Links, check_link_password, is_link_token
from services.auth.opaque_tokens import is_token, token_digest
from services.auth.paging import ITEMS_PER_CALL, page_of_all
from services.auth.password_changes import PasswordChanges
from services.auth.passwords import check_password
from services.auth.proofs import Proofs
from services.auth.quotas import Quotas
from services.auth.records import Account, DeviceRecord, SpaceInvitation
from services.auth.resets import Resets
from services.auth.sessions import RefreshToken, Sessions
from services.auth.space_changes import SpaceChanges
from services.auth.space_invitations import SpaceInvitations
from services.auth.spaces import Spaces
from services.auth.tokens import SigningKeys
from services.auth.uploads import Uploads
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceServicer
from syncline.model.errors import (
    AccountExists,
    AccountSuspended,
    AddressTaken,
    InvitationInvalid,
    PermissionDenied,
    ProofInvalid,
    SignUpClosed,
    TokenMalformed,
    TooManyAttempts,
    WrongCode,
    WrongCurrentPassword,
    WrongPassword,
)
from syncline.model.identifiers import SpaceId, new_request_id
from syncline.wire.identifiers import (
    device_id_from_wire,
    link_id_from_wire,
    node_id_from_wire,
    request_id_from_wire,
    space_id_from_wire,
    user_id_from_wire,
)
from syncline.wire.pages import page_size_from_wire, page_token_to_wire, text_token_from_wire

if TYPE_CHECKING:
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


_P = TypeVar("_P")

_WRITTEN = "written spaces"
_SIGN_UP_REFUSALS: Final = (AccountExists, InvitationInvalid, SignUpClosed, TooManyAttempts)
"""The errors of a sign-up that the audit log counts."""
_SIGN_IN_REFUSALS: Final = (WrongPassword, WrongCode, TooManyAttempts, AccountSuspended)
"""The errors of a sign-in that the audit log counts. SecondFactorNeeded belongs to every sign-in in two steps."""
_CODE_REFUSALS: Final = (WrongCode, WrongCurrentPassword, TooManyAttempts)
"""The errors of a change of a second factor that the audit log counts."""


class AuthServicer(AuthServiceServicer):
    """The gRPC servicer of auth. auth.proto states what each method promises."""

    def __init__(
        self,
        *,
        accounts: AccountRegistry,
        proofs: Proofs,
        password_changes: PasswordChanges,
        factors: Factors,
        resets: Resets,
        sessions: Sessions,
        devices: Devices,
        endings: Endings,
        spaces: Spaces,
        space_changes: SpaceChanges,
        grants: Grants,
        credentials: CredentialIssuer,
        uploads: Uploads,
        quotas: Quotas,
        keys: Keys,
        links: Links,
        refusals: RefusalCounts,
        hourly: HourlyEvents,
        space_invitations: SpaceInvitations,
        signing_keys: SigningKeys,
        anonymous_calls: AnonymousCalls,
        bucket: str,
    ) -> None:
        self._accounts = accounts
        self._proofs = proofs
        self._password_changes = password_changes
        self._factors = factors
        self._resets = resets
        self._sessions = sessions
        self._devices = devices
        self._endings = endings
        self._spaces = spaces
        self._space_changes = space_changes
        self._grants = grants
        self._credentials = credentials
        self._uploads = uploads
        self._quotas = quotas
        self._keys = keys
        self._links = links
        self._refusals = refusals
        self._hourly = hourly
        self._space_invitations = space_invitations
        self._signing_keys = signing_keys
        self._anonymous_calls = anonymous_calls
        self._bucket = bucket

    async def SignUp(self, request: auth_pb2.SignUpRequest, context: Context) -> auth_pb2.SignUpResponse:
        peer = current_network()
        self._anonymous_calls.admit(peer=peer)
        email = normalize_address(request.email)
        with self._refusals.counting(AuditKind.SIGN_UP_FAILED, *_SIGN_UP_REFUSALS, address=email):
            signed_in = await self._accounts.sign_up(
                email=email,
                password=check_password(request.password),
                device_name=check_label(request.device_name, what="device_name"),
                peer=peer,
                kind=wire.device_kind_from_wire(request.kind),
                invitation=request.invitation,
            )
        joined = await self._take_up(signed_in.account)
        return wire.signed_up_to_wire(signed_in, joined=joined)

    async def SignIn(self, request: auth_pb2.SignInRequest, context: Context) -> auth_pb2.SignInResponse:
        peer = current_network()
        self._anonymous_calls.admit(peer=peer)
        email = normalize_address(request.email)
        with self._refusals.counting(AuditKind.SIGN_IN_FAILED, *_SIGN_IN_REFUSALS, address=email):
            signed_in = await self._accounts.sign_in(
                email=email,
                password=request.password,
                device_name=check_label(request.device_name, what="device_name"),
                peer=peer,
                kind=wire.device_kind_from_wire(request.kind),
                code=request.code,
            )
        await self._take_up(signed_in.account)
        return wire.signed_in_to_wire(signed_in)

    async def RefreshToken(
        self, request: auth_pb2.RefreshTokenRequest, context: Context
    ) -> auth_pb2.RefreshTokenResponse:
        peer = current_network()
        token = self._parsed(RefreshToken.parse, request.refresh_token, peer=peer)
        self._anonymous_calls.admit(peer=peer, secret=token.family_digest())
        tokens = await self._sessions.refresh(token)
        return auth_pb2.RefreshTokenResponse(tokens=wire.tokens_to_wire(tokens))

    async def CreateKey(self, request: auth_pb2.CreateKeyRequest, context: Context) -> auth_pb2.CreateKeyResponse:
        request_id = request_id_from_wire(request.request_id)
        name = check_label(request.name, what="name")
        limits = wire.key_limits_from_wire(request)
        caller = current_user()
        await self._accounts.maker(caller.user)
        device, key = await self._keys.create(
            request=request_id,
            name=name,
            expires_at_ms=request.expires_at_ms,
            user=caller.user,
            device=caller.device,
            limits=limits,
        )
        return auth_pb2.CreateKeyResponse(device=wire.device_to_wire(device), key=key)

    async def ExchangeKey(self, request: auth_pb2.ExchangeKeyRequest, context: Context) -> auth_pb2.ExchangeKeyResponse:
        peer = current_network()
        self._parsed(parse_key, request.key, peer=peer)  # parsed before its digest is computed
        self._anonymous_calls.admit(peer=peer, secret=token_digest(request.key))
        tokens = await self._keys.exchange(request.key)
        return auth_pb2.ExchangeKeyResponse(tokens=wire.tokens_to_wire(tokens))

    async def SignOut(self, request: auth_pb2.SignOutRequest, context: Context) -> auth_pb2.SignOutResponse:
        caller = current_user()
        await self._devices.sign_out(caller.device, user=caller.user)
        return auth_pb2.SignOutResponse()

    async def GetAccount(self, request: auth_pb2.GetAccountRequest, context: Context) -> auth_pb2.GetAccountResponse:
        caller = current_user()
        device = await self._devices.calling(user=caller.user, device=caller.device)
        account = await self._accounts.of_user(caller.user)
        usage = (await self._quotas.usage_of_users([account]))[account.user]
        return auth_pb2.GetAccountResponse(
            account=wire.account_to_wire(account), device=wire.device_to_wire(device), usage=wire.usage_to_wire(usage)
        )

    async def RequestProof(
        self, request: auth_pb2.RequestProofRequest, context: Context
    ) -> auth_pb2.RequestProofResponse:
        caller = await self._signed_in()
        return auth_pb2.RequestProofResponse(proven=not await self._proofs.request(caller.user))

    async def ProveAddress(
        self, request: auth_pb2.ProveAddressRequest, context: Context
    ) -> auth_pb2.ProveAddressResponse:
        caller = await self._signed_in()
        with self._refusals.counting(AuditKind.PROOF_FAILED, ProofInvalid, AddressTaken, user=caller.user):
            account = await self._proofs.prove(request.token, user=caller.user)
        await self._take_up(account)
        return auth_pb2.ProveAddressResponse(account=wire.account_to_wire(account))

    async def ChangePassword(
        self, request: auth_pb2.ChangePasswordRequest, context: Context
    ) -> auth_pb2.ChangePasswordResponse:
        request_id = request_id_from_wire(request.request_id)
        new = check_password(request.new_password)
        caller = await self._signed_in()
        changed = await self._password_changes.change(
            request=request_id,
            current=request.current_password,
            new=new,
            user=caller.user,
            device=caller.device,
            peer=current_network(),
        )
        return wire.changed_password_to_wire(changed)

    async def ListFactors(self, request: auth_pb2.ListFactorsRequest, context: Context) -> auth_pb2.ListFactorsResponse:
        caller = await self._signed_in()
        factor = await self._factors.of_user(caller.user)
        return auth_pb2.ListFactorsResponse(factors=[] if factor is None else [wire.factor_to_wire(factor)])

    async def AddTotp(self, request: auth_pb2.AddTotpRequest, context: Context) -> auth_pb2.AddTotpResponse:
        request_id = request_id_from_wire(request.request_id)
        caller = await self._signed_in()
        made = await self._factors.add(
            request=request_id,
            password=request.password,
            user=caller.user,
            device=caller.device,
            peer=current_network(),
        )
        return auth_pb2.AddTotpResponse(secret=made.secret, uri=made.uri)

    async def ConfirmTotp(self, request: auth_pb2.ConfirmTotpRequest, context: Context) -> auth_pb2.ConfirmTotpResponse:
        caller = await self._signed_in()
        with self._refusals.counting(AuditKind.FACTOR_CODE_REFUSED, *_CODE_REFUSALS, user=caller.user):
            codes = await self._factors.confirm(request.code, user=caller.user, device=caller.device)
        return auth_pb2.ConfirmTotpResponse(recovery_codes=codes)

    async def RemoveFactor(
        self, request: auth_pb2.RemoveFactorRequest, context: Context
    ) -> auth_pb2.RemoveFactorResponse:
        caller = await self._signed_in()
        with self._refusals.counting(AuditKind.FACTOR_CODE_REFUSED, *_CODE_REFUSALS, user=caller.user):
            await self._factors.remove(
                password=request.password, code=request.code, user=caller.user, peer=current_network()
            )
        return auth_pb2.RemoveFactorResponse()

    async def RequestReset(
        self, request: auth_pb2.RequestResetRequest, context: Context
    ) -> auth_pb2.RequestResetResponse:
        peer = current_network()
        self._anonymous_calls.admit(peer=peer)
        await self._resets.request(email=normalize_address(request.email), peer=peer)
        return auth_pb2.RequestResetResponse()

    async def ResetPassword(
        self, request: auth_pb2.ResetPasswordRequest, context: Context
    ) -> auth_pb2.ResetPasswordResponse:
        peer = current_network()
        self._anonymous_calls.admit(peer=peer, secret=token_digest(request.token) if is_token(request.token) else None)
        await self._resets.spend(request.token, password=check_password(request.new_password), peer=peer)
        return auth_pb2.ResetPasswordResponse()

    async def ListDevices(self, request: auth_pb2.ListDevicesRequest, context: Context) -> auth_pb2.ListDevicesResponse:
        caller = await self._signed_in()
        devices = await self._devices.of_user(caller.user, calling=caller.device)
        page, token = page_of_all(request, devices, wire.device_to_wire, listing=f"devices {caller.user}")
        return auth_pb2.ListDevicesResponse(devices=page, next_page_token=token)

    async def RevokeDevice(
        self, request: auth_pb2.RevokeDeviceRequest, context: Context
    ) -> auth_pb2.RevokeDeviceResponse:
        device = device_id_from_wire(request.device_id)
        caller = await self._signed_in()
        ended = await self._endings.revoke(device, user=caller.user, calling=caller.device, end_links=request.end_links)
        return wire.ended_to_wire(ended)

    async def CreateSpace(self, request: auth_pb2.CreateSpaceRequest, context: Context) -> auth_pb2.CreateSpaceResponse:
        request_id = request_id_from_wire(request.request_id)
        name = check_label(request.name, what="name")
        caller = await self._signed_in()
        if caller.limits is not None and caller.limits.spaces is not None:
            raise PermissionDenied("this key opens certain spaces only; make a space by another one, or sign in")
        owner = await self._accounts.maker(caller.user)
        space = await self._spaces.create(owner=owner, request=request_id, name=name)
        return auth_pb2.CreateSpaceResponse(space=wire.space_to_wire(space))

    async def ListSpaces(self, request: auth_pb2.ListSpacesRequest, context: Context) -> auth_pb2.ListSpacesResponse:
        caller = await self._signed_in()
        found = await self._spaces.seen_by(caller)
        listing = f"spaces {caller.user}"
        page, token = page_of_all(request, found.spaces, wire.space_to_wire, listing=listing, read=found.read)
        return auth_pb2.ListSpacesResponse(spaces=page, next_page_token=token)

    async def ListMembers(self, request: auth_pb2.ListMembersRequest, context: Context) -> auth_pb2.ListMembersResponse:
        space = space_id_from_wire(request.space_id)
        asking = None if current_identity().service is not None else (await self._signed_in(space)).user
        found, grants = await self._grants.members(space, asking=asking)
        suspended = await self._accounts.suspended([grant.user for grant in grants]) if asking is None else frozenset()
        to_wire = partial(wire.member_to_wire, for_service=asking is None, suspended=suspended)
        page, token = page_of_all(request, grants, to_wire, listing=f"members {space}")
        return auth_pb2.ListMembersResponse(members=page, space_name=found.name, next_page_token=token)

    async def SetMember(self, request: auth_pb2.SetMemberRequest, context: Context) -> auth_pb2.SetMemberResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        email = normalize_address(request.email)
        role = wire.role_from_wire(request.role)
        caller = await self._signed_in(space)
        by_program = caller.limits is not None
        given = await self._grants.set(
            space, request=request_id, caller=caller.user, email=email, role=role, by_program=by_program
        )
        if isinstance(given, SpaceInvitation):
            return auth_pb2.SetMemberResponse(invitation=wire.invitation_to_wire(given))
        return auth_pb2.SetMemberResponse(member=wire.member_to_wire(given))

    async def RemoveMember(
        self, request: auth_pb2.RemoveMemberRequest, context: Context
    ) -> auth_pb2.RemoveMemberResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        email = normalize_address(request.email)
        caller = await self._signed_in(space)
        by_program = caller.limits is not None
        await self._grants.remove(space, request=request_id, caller=caller.user, email=email, by_program=by_program)
        return auth_pb2.RemoveMemberResponse()

    async def RenameSpace(self, request: auth_pb2.RenameSpaceRequest, context: Context) -> auth_pb2.RenameSpaceResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        name = check_label(request.name, what="name")
        caller = await self._signed_in()
        renamed = await self._space_changes.rename(space, request=request_id, caller=caller.user, name=name)
        return auth_pb2.RenameSpaceResponse(space=wire.space_to_wire(renamed))

    async def DeleteSpace(self, request: auth_pb2.DeleteSpaceRequest, context: Context) -> auth_pb2.DeleteSpaceResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        caller = await self._signed_in()
        deleted = await self._space_changes.delete(space, request=request_id, caller=caller.user)
        return auth_pb2.DeleteSpaceResponse(space=wire.space_to_wire(deleted))

    async def UndeleteSpace(
        self, request: auth_pb2.UndeleteSpaceRequest, context: Context
    ) -> auth_pb2.UndeleteSpaceResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        caller = await self._signed_in()
        undeleted = await self._space_changes.undelete(space, request=request_id, caller=caller.user)
        return auth_pb2.UndeleteSpaceResponse(space=wire.space_to_wire(undeleted))

    async def ListDeletedSpaces(
        self, request: auth_pb2.ListDeletedSpacesRequest, context: Context
    ) -> auth_pb2.ListDeletedSpacesResponse:
        caller = await self._signed_in()
        found = await self._spaces.deleted_of(caller)
        listing = f"deleted spaces {caller.user}"
        page, token = page_of_all(request, found.spaces, wire.space_to_wire, listing=listing, read=found.read)
        return auth_pb2.ListDeletedSpacesResponse(spaces=page, next_page_token=token)

    async def TransferSpace(
        self, request: auth_pb2.TransferSpaceRequest, context: Context
    ) -> auth_pb2.TransferSpaceResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        email = normalize_address(request.email)
        keep = wire.role_from_wire(request.keep_role) if request.keep_role else None
        caller = await self._signed_in()
        owner = await self._grants.transfer(space, request=request_id, caller=caller.user, email=email, keep=keep)
        return auth_pb2.TransferSpaceResponse(owner=wire.member_to_wire(owner))

    async def ListInvitations(
        self, request: auth_pb2.ListInvitationsRequest, context: Context
    ) -> auth_pb2.ListInvitationsResponse:
        space = space_id_from_wire(request.space_id) if request.space_id else None
        caller = await self._signed_in(space)
        if space is not None:
            found = await self._space_invitations.of_space(space, user=caller.user)
            listing = f"invitations to {space}"
        else:
            if caller.limits is not None and caller.limits.spaces is not None:
                raise PermissionDenied("this key opens certain spaces only; sign in to see your invitations")
            found = await self._space_invitations.of_account(await self._accounts.proven(caller.user))
            listing = f"invitations of {caller.user}"
        page, token = page_of_all(request, found, wire.invitation_to_wire, listing=listing)
        return auth_pb2.ListInvitationsResponse(invitations=page, next_page_token=token)

    async def RevokeInvitation(
        self, request: auth_pb2.RevokeInvitationRequest, context: Context
    ) -> auth_pb2.RevokeInvitationResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        email = normalize_address(request.email)
        caller = await self._signed_in(space)
        await self._space_invitations.revoke(space, request=request_id, user=caller.user, email=email)
        return auth_pb2.RevokeInvitationResponse()

    async def AcceptInvitation(
        self, request: auth_pb2.AcceptInvitationRequest, context: Context
    ) -> auth_pb2.AcceptInvitationResponse:
        request_id_from_wire(request.request_id)  # accepting is idempotent, so the id is only checked
        space = space_id_from_wire(request.space_id)
        caller = await self._signed_in()
        joined = await self._space_invitations.accept(space, account=await self._accounts.proven(caller.user))
        return auth_pb2.AcceptInvitationResponse(space=wire.space_to_wire(joined))

    async def DeclineInvitation(
        self, request: auth_pb2.DeclineInvitationRequest, context: Context
    ) -> auth_pb2.DeclineInvitationResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        caller = await self._signed_in()
        account = await self._accounts.proven(caller.user)
        await self._space_invitations.decline(space, request=request_id, account=account)
        return auth_pb2.DeclineInvitationResponse()

    async def GetInvitation(
        self, request: auth_pb2.GetInvitationRequest, context: Context
    ) -> auth_pb2.GetInvitationResponse:
        self._admit_invited(request.token)
        return wire.presented_to_wire(await self._space_invitations.presented(request.token))

    async def RefuseInvitation(
        self, request: auth_pb2.RefuseInvitationRequest, context: Context
    ) -> auth_pb2.RefuseInvitationResponse:
        self._admit_invited(request.token)
        await self._space_invitations.refuse(request.token)
        return auth_pb2.RefuseInvitationResponse()

    def _admit_invited(self, token: str) -> None:
        """Count a call with the token of an invitation, without an access token. Raise RateExceeded above a rate."""
        secret = token_digest(token) if is_token(token) else None
        self._anonymous_calls.admit(peer=current_network(), secret=secret)

    async def _take_up(self, account: Account) -> set[SpaceId]:
        """Make the account a member of the spaces to which its address is invited, and return these spaces; none unless
        the account is proven.
        """
        return await self._space_invitations.take_up(account) if account.proven else set()

    async def GetJwks(self, request: auth_pb2.GetJwksRequest, context: Context) -> auth_pb2.GetJwksResponse:
        self._anonymous_calls.admit(peer=current_network())
        return wire.jwks_to_wire(self._signing_keys)

    async def IssueCredentials(
        self, request: auth_pb2.IssueCredentialsRequest, context: Context
    ) -> auth_pb2.IssueCredentialsResponse:
        space = space_id_from_wire(request.space_id)
        access = wire.access_from_wire(request.access)
        caller = current_user()
        issued = await self._credentials.issue(space, access, user=caller.user, device=caller.device)
        await self._hourly.note(
            AuditKind.CREDENTIALS_ISSUED, device=caller.device, space=space, access=access.name.lower()
        )
        lifetime_ms = self._credentials.lifetime_ms(issued)
        return wire.credentials_to_wire(issued, space=space, bucket=self._bucket, lifetime_ms=lifetime_ms)

    async def ListWrittenSpaces(
        self, request: auth_pb2.ListWrittenSpacesRequest, context: Context
    ) -> auth_pb2.ListWrittenSpacesResponse:
        current_service()
        after = text_token_from_wire(request.page_token, listing=_WRITTEN)
        spaces, last = await self._uploads.written(after=after, limit=page_size_from_wire(request.page_size))
        token = page_token_to_wire(last.encode(), listing=_WRITTEN) if last else ""
        return auth_pb2.ListWrittenSpacesResponse(space_ids=spaces, next_page_token=token)

    async def SetUploads(self, request: auth_pb2.SetUploadsRequest, context: Context) -> auth_pb2.SetUploadsResponse:
        current_service()
        await self._uploads.set(space_id_from_wire(request.space_id), wire.uploads_from_wire(request))
        return auth_pb2.SetUploadsResponse()

    async def ReserveBytes(
        self, request: auth_pb2.ReserveBytesRequest, context: Context
    ) -> auth_pb2.ReserveBytesResponse:
        current_service()
        quota = await self._quotas.reserve(
            space_id_from_wire(request.space_id),
            used_bytes=wire.bytes_from_wire(request.used_bytes, field="used_bytes"),
            wanted_bytes=wire.bytes_from_wire(request.wanted_bytes, field="wanted_bytes"),
        )
        return auth_pb2.ReserveBytesResponse(
            reserved_bytes=quota.reserved_bytes,
            quota_bytes=quota.quota_bytes,
            whole_quota_bytes=quota.whole_quota_bytes,
        )

    async def CreateLink(self, request: auth_pb2.CreateLinkRequest, context: Context) -> auth_pb2.CreateLinkResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        node = node_id_from_wire(request.node)
        password = check_link_password(request.password)
        caller = current_user()
        await self._accounts.maker(caller.user)
        link, token = await self._links.create(
            space,
            node,
            request=request_id,
            user=caller.user,
            device=caller.device,
            peer=current_network(),
            password=password,
            expires_at_ms=request.expires_at_ms or None,
            max_downloads=request.max_downloads,
        )
        return auth_pb2.CreateLinkResponse(link=wire.link_to_wire(link), token=token)

    async def ListLinks(self, request: auth_pb2.ListLinksRequest, context: Context) -> auth_pb2.ListLinksResponse:
        space = space_id_from_wire(request.space_id)
        caller = current_user()
        links = await self._links.of_space(space, user=caller.user, device=caller.device)
        page, token = page_of_all(request, links, wire.link_to_wire, listing=f"links {space}")
        return auth_pb2.ListLinksResponse(links=page, next_page_token=token)

    async def RevokeLink(self, request: auth_pb2.RevokeLinkRequest, context: Context) -> auth_pb2.RevokeLinkResponse:
        request_id_from_wire(request.request_id)  # revoking is idempotent, so the id is only checked
        space = space_id_from_wire(request.space_id)
        link = link_id_from_wire(request.link_id)
        caller = current_user()
        await self._links.revoke(space, link, user=caller.user, device=caller.device)
        return auth_pb2.RevokeLinkResponse()

    async def OpenLink(self, request: auth_pb2.OpenLinkRequest, context: Context) -> auth_pb2.OpenLinkResponse:
        peer = current_network()
        # A call with a password counts as an attempt, which has a lower limit.
        is_counted = not request.password and is_link_token(request.token)
        visitors = token_digest(f"{peer} {request.token}") if is_counted else None
        self._anonymous_calls.admit(peer=peer, secret=visitors)
        link, access = await self._links.open(request.token, password=request.password, peer=peer)
        return wire.opened_to_wire(link, access)

    async def CountLinkDownload(
        self, request: auth_pb2.CountLinkDownloadRequest, context: Context
    ) -> auth_pb2.CountLinkDownloadResponse:
        # Gateways of earlier releases send no request id, and never repeat a call.
        ident = request_id_from_wire(request.request_id) if request.request_id else new_request_id()
        return auth_pb2.CountLinkDownloadResponse(limited=await self._links.count_download(current_link(), ident))

    async def CheckAccess(self, request: auth_pb2.CheckAccessRequest, context: Context) -> auth_pb2.CheckAccessResponse:
        space = space_id_from_wire(request.space_id)
        user = user_id_from_wire(request.user_id) if request.user_id else None
        device = device_id_from_wire(request.device_id) if request.device_id else None
        caller = current_identity()
        if caller.link is not None and user is None and device is None:
            role = await self._links.role(caller.link, space)
            return wire.checked_to_wire(CheckedAccess(role))
        if caller.service is not None:
            user = user_id_from_wire(request.user_id)
        elif user in (None, caller.user) and device in (None, caller.device):
            user, device = caller.user, caller.device
        else:
            raise PermissionDenied("only another service can ask about somebody else")
        checked = await self._grants.check(space, user=user, device=device)
        return wire.checked_to_wire(checked)

    async def BatchCheckAccess(
        self, request: auth_pb2.BatchCheckAccessRequest, context: Context
    ) -> auth_pb2.BatchCheckAccessResponse:
        current_service()
        user = user_id_from_wire(request.user_id)
        spaces = wire.ids_from_wire(request.space_ids, space_id_from_wire, what="space_ids")
        devices = wire.ids_from_wire(request.device_ids, device_id_from_wire, what="device_ids")
        return wire.checked_many_to_wire(await self._grants.check_many(spaces, user=user, devices=devices))

    async def CheckWriters(
        self, request: auth_pb2.CheckWritersRequest, context: Context
    ) -> auth_pb2.CheckWritersResponse:
        space = space_id_from_wire(request.space_id)
        devices = wire.ids_from_wire(request.device_ids, device_id_from_wire, what="device_ids")
        caller = current_user()
        charge(2 * len(devices) // ITEMS_PER_CALL)  # a device is read, and then the grant of its user
        writers = await self._grants.writers(space, devices, user=caller.user, device=caller.device)
        return auth_pb2.CheckWritersResponse(device_ids=writers)

    def _parsed(self, parse: Callable[[str], _P], text: str, *, peer: str) -> _P:
        """Return the result of `parse`, which parses a presented secret. If it raises TokenMalformed, count a call
        without an access token for the network `peer`, and raise the error.
        """
        try:
            return parse(text)
        except TokenMalformed:
            self._anonymous_calls.admit(peer=peer)
            raise

    async def _signed_in(self, space: SpaceId | None = None) -> DeviceRecord:
        """Return the calling device, after checking that it was not signed out since its access token was issued. Raise
        NoSuchSpace if it is a program whose key does not open `space`; None if the call is about no space.
        """
        caller = current_user()
        device = await self._devices.calling(user=caller.user, device=caller.device)
        if space is not None:
            check_space(space, device)
        return device
