"""AuthService: parse, call, format, return."""

# ruff: noqa: N802, ARG002 # grpc names the methods and passes both arguments to each

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from google.protobuf.message import Message

from runtime.identity import Identity, current_identity, current_link, current_service, current_user
from runtime.network import current_network
from runtime.rates import charge
from services.auth import wire
from services.auth.accounts import AccountRegistry
from services.auth.addresses import normalize_address
from services.auth.anonymous_calls import AnonymousCalls
from services.auth.credentials import CredentialIssuer
from services.auth.devices import Devices
from services.auth.endings import Endings
from services.auth.grants import CheckedAccess, Grants
from services.auth.keys import Keys, key_digest, parse_key
from services.auth.labels import check_label
from services.auth.links import Links, check_link_password, is_link_token, token_digest
from services.auth.passwords import check_password
from services.auth.proofs import Proofs
from services.auth.sessions import RefreshToken, Sessions
from services.auth.spaces import Spaces
from services.auth.tokens import SigningKeys
from services.auth.uploads import Uploads
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceServicer
from syncline.model.errors import PermissionDenied, TokenMalformed
from syncline.model.identifiers import new_request_id
from syncline.wire.identifiers import (
    device_id_from_wire,
    link_id_from_wire,
    node_id_from_wire,
    request_id_from_wire,
    space_id_from_wire,
    user_id_from_wire,
)
from syncline.wire.pages import page_of, page_size_from_wire, page_token_to_wire, text_token_from_wire

if TYPE_CHECKING:
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


_P = TypeVar("_P")

_WRITTEN = "written spaces"
ITEMS_PER_CALL: Final = 50
"""Number of items, read for a listing, that are charged to the caller like one call."""


class AuthServicer(AuthServiceServicer):
    """The gRPC servicer of auth. auth.proto states what each method promises."""

    def __init__(
        self,
        *,
        accounts: AccountRegistry,
        proofs: Proofs,
        sessions: Sessions,
        devices: Devices,
        endings: Endings,
        spaces: Spaces,
        grants: Grants,
        credentials: CredentialIssuer,
        uploads: Uploads,
        keys: Keys,
        links: Links,
        signing_keys: SigningKeys,
        anonymous_calls: AnonymousCalls,
        bucket: str,
    ) -> None:
        self._accounts = accounts
        self._proofs = proofs
        self._sessions = sessions
        self._devices = devices
        self._endings = endings
        self._spaces = spaces
        self._grants = grants
        self._credentials = credentials
        self._uploads = uploads
        self._keys = keys
        self._links = links
        self._signing_keys = signing_keys
        self._anonymous_calls = anonymous_calls
        self._bucket = bucket

    async def SignUp(self, request: auth_pb2.SignUpRequest, context: Context) -> auth_pb2.SignUpResponse:
        peer = current_network()
        self._anonymous_calls.admit(peer=peer)
        signed_in = await self._accounts.sign_up(
            email=normalize_address(request.email),
            password=check_password(request.password),
            device_name=check_label(request.device_name, what="device_name"),
            peer=peer,
            kind=wire.device_kind_from_wire(request.kind),
            invitation=request.invitation,
        )
        return wire.signed_up_to_wire(signed_in)

    async def SignIn(self, request: auth_pb2.SignInRequest, context: Context) -> auth_pb2.SignInResponse:
        peer = current_network()
        self._anonymous_calls.admit(peer=peer)
        signed_in = await self._accounts.sign_in(
            email=normalize_address(request.email),
            password=request.password,
            device_name=check_label(request.device_name, what="device_name"),
            peer=peer,
            kind=wire.device_kind_from_wire(request.kind),
        )
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
        caller = current_user()
        await self._proofs.require(caller.user)
        device, key = await self._keys.create(
            request=request_id, name=name, expires_at_ms=request.expires_at_ms, user=caller.user, device=caller.device
        )
        return auth_pb2.CreateKeyResponse(device=wire.device_to_wire(device), key=key)

    async def ExchangeKey(self, request: auth_pb2.ExchangeKeyRequest, context: Context) -> auth_pb2.ExchangeKeyResponse:
        peer = current_network()
        self._parsed(parse_key, request.key, peer=peer)  # parsed before its digest is computed
        self._anonymous_calls.admit(peer=peer, secret=key_digest(request.key))
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
        return auth_pb2.GetAccountResponse(account=wire.account_to_wire(account), device=wire.device_to_wire(device))

    async def RequestProof(
        self, request: auth_pb2.RequestProofRequest, context: Context
    ) -> auth_pb2.RequestProofResponse:
        caller = await self._signed_in()
        return auth_pb2.RequestProofResponse(proven=not await self._proofs.request(caller.user))

    async def ProveAddress(
        self, request: auth_pb2.ProveAddressRequest, context: Context
    ) -> auth_pb2.ProveAddressResponse:
        caller = await self._signed_in()
        account = await self._proofs.prove(request.token, user=caller.user)
        return auth_pb2.ProveAddressResponse(account=wire.account_to_wire(account))

    async def ListDevices(self, request: auth_pb2.ListDevicesRequest, context: Context) -> auth_pb2.ListDevicesResponse:
        caller = await self._signed_in()
        devices = await self._devices.of_user(caller.user, calling=caller.device)
        page, token = _page(request, devices, wire.device_to_wire, listing=f"devices {caller.user}")
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
        await self._proofs.require(caller.user)
        space = await self._spaces.create(user=caller.user, request=request_id, name=name)
        return auth_pb2.CreateSpaceResponse(space=wire.space_to_wire(space))

    async def ListSpaces(self, request: auth_pb2.ListSpacesRequest, context: Context) -> auth_pb2.ListSpacesResponse:
        caller = await self._signed_in()
        spaces = await self._spaces.of_user(caller.user)
        page, token = _page(request, spaces, wire.space_to_wire, listing=f"spaces {caller.user}")
        return auth_pb2.ListSpacesResponse(spaces=page, next_page_token=token)

    async def ListMembers(self, request: auth_pb2.ListMembersRequest, context: Context) -> auth_pb2.ListMembersResponse:
        space = space_id_from_wire(request.space_id)
        asking = None if current_identity().service is not None else (await self._signed_in()).user
        found, grants = await self._grants.members(space, asking=asking)
        to_wire = partial(wire.member_to_wire, with_alias=asking is None)
        page, token = _page(request, grants, to_wire, listing=f"members {space}")
        return auth_pb2.ListMembersResponse(members=page, space_name=found.name, next_page_token=token)

    async def SetMember(self, request: auth_pb2.SetMemberRequest, context: Context) -> auth_pb2.SetMemberResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        email = normalize_address(request.email)
        role = wire.role_from_wire(request.role)
        caller = await self._signed_in()
        grant = await self._grants.set(space, request=request_id, caller=caller.user, email=email, role=role)
        return auth_pb2.SetMemberResponse(member=wire.member_to_wire(grant))

    async def RemoveMember(
        self, request: auth_pb2.RemoveMemberRequest, context: Context
    ) -> auth_pb2.RemoveMemberResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        email = normalize_address(request.email)
        caller = await self._signed_in()
        await self._grants.remove(space, request=request_id, caller=caller.user, email=email)
        return auth_pb2.RemoveMemberResponse()

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

    async def CreateLink(self, request: auth_pb2.CreateLinkRequest, context: Context) -> auth_pb2.CreateLinkResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        node = node_id_from_wire(request.node)
        password = check_link_password(request.password)
        caller = current_user()
        await self._proofs.require(caller.user)
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
        page, token = _page(request, links, wire.link_to_wire, listing=f"links {space}")
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

    async def _signed_in(self) -> Identity:
        """Return the calling user, after checking that the device was not signed out since its access token was
        issued.
        """
        caller = current_user()
        await self._devices.calling(user=caller.user, device=caller.device)
        return caller


class _Placed(Protocol):
    @property
    def place(self) -> str: ...


P = TypeVar("P", bound=_Placed)
M = TypeVar("M", bound=Message)


def _page(request: Any, items: Sequence[P], to_wire: Callable[[P], M], *, listing: str) -> tuple[list[M], str]:
    """Return the page of `items` that the request asks for, as messages, and the token of the next page. Raise
    InvalidPageToken if the token in the request is not one of this listing.

    All items were read from the table, which has them in another order. The caller is charged for all of them, however
    small the page is.
    """
    charge(len(items) // ITEMS_PER_CALL)
    return page_of(
        items,
        to_wire,
        place=lambda item: item.place,
        size=request.page_size,
        token=request.page_token,
        listing=listing,
    )
