"""Conversion between protobuf messages and auth's records.

Functions named `*_from_wire` check what they read and raise InvalidArgument.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence, Set
from types import MappingProxyType
from typing import Final, TypeVar

from services.auth.accounts import SignedIn
from services.auth.devices import DeviceState
from services.auth.endings import EndedDevice
from services.auth.factors import RECOVERY_CODES
from services.auth.grants import CheckedAccess, CheckedMany
from services.auth.password_changes import ChangedPassword
from services.auth.quotas import PersonalUsage
from services.auth.records import (
    USUAL_LIMITS,
    Account,
    DeviceRecord,
    GrantRecord,
    KeyLimits,
    Link,
    Membership,
    SecondFactor,
    SpaceInvitation,
    SpaceUploads,
    TemporaryCredentials,
)
from services.auth.sessions import Tokens
from services.auth.space_invitations import PresentedInvitation
from services.auth.tokens import AccessToken, SigningKeys, raw_public_key
from syncline.auth.v1 import auth_pb2
from syncline.model.accounts import Access, DeviceKind, KeyScope, Role
from syncline.model.blocks import key_prefix
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import SpaceId, UserId
from syncline.model.limits import MAX_CHECKED_RIGHTS, MAX_KEY_SPACES, MAX_QUOTA_BYTES
from syncline.wire.identifiers import space_id_from_wire
from syncline.wire.pages import that_fit

T = TypeVar("T")

_ROLES: Final = MappingProxyType(
    {
        Role.VIEWER: auth_pb2.ROLE_VIEWER,
        Role.EDITOR: auth_pb2.ROLE_EDITOR,
        Role.OWNER: auth_pb2.ROLE_OWNER,
    }
)
_ROLES_FROM_WIRE: Final = MappingProxyType({pb: role for role, pb in _ROLES.items()})
_ACCESSES_FROM_WIRE: Final = MappingProxyType({auth_pb2.ACCESS_READ: Access.READ, auth_pb2.ACCESS_WRITE: Access.WRITE})
_KINDS: Final = MappingProxyType(
    {
        DeviceKind.CLIENT: auth_pb2.DEVICE_KIND_CLIENT,
        DeviceKind.BROWSER: auth_pb2.DEVICE_KIND_BROWSER,
        DeviceKind.PROGRAM: auth_pb2.DEVICE_KIND_PROGRAM,
    }
)
_SCOPES: Final = MappingProxyType(
    {
        KeyScope.READ: auth_pb2.KEY_SCOPE_READ,
        KeyScope.WRITE: auth_pb2.KEY_SCOPE_WRITE,
        KeyScope.SHARE: auth_pb2.KEY_SCOPE_SHARE,
    }
)
_SCOPES_FROM_WIRE: Final = MappingProxyType({pb: scope for scope, pb in _SCOPES.items()})
_SIGNS_IN: Final = MappingProxyType(
    {
        auth_pb2.DEVICE_KIND_UNSPECIFIED: DeviceKind.CLIENT,
        auth_pb2.DEVICE_KIND_CLIENT: DeviceKind.CLIENT,
        auth_pb2.DEVICE_KIND_BROWSER: DeviceKind.BROWSER,
    }
)


def role_from_wire(pb: auth_pb2.Role.ValueType) -> Role:
    """Return a role to be granted. Raise InvalidArgument if the value is no role of the contract."""
    try:
        return _ROLES_FROM_WIRE[pb]
    except KeyError:
        raise InvalidArgument("role must be viewer, editor or owner") from None


def access_from_wire(pb: auth_pb2.Access.ValueType) -> Access:
    """Return the access (reading or writing) for which credentials are requested. Raise InvalidArgument for an unknown
    value.
    """
    try:
        return _ACCESSES_FROM_WIRE[pb]
    except KeyError:
        raise InvalidArgument("access must be read or write") from None


def key_limits_from_wire(request: auth_pb2.CreateKeyRequest) -> KeyLimits:
    """Return the limits of a key that is to be made. Raise InvalidArgument for an unknown scope, for too many spaces,
    and for a text that is no id of a space.
    """
    unknown = [pb for pb in request.scopes if pb not in _SCOPES_FROM_WIRE]
    if unknown:
        raise InvalidArgument("scopes are read, write and share", field="scopes")
    if len(request.space_ids) > MAX_KEY_SPACES:
        raise InvalidArgument(
            f"a key names at most {MAX_KEY_SPACES} spaces; name none for a key to all spaces", field="space_ids"
        )
    spaces = frozenset(space_id_from_wire(text, what="space_ids") for text in request.space_ids)
    scopes = KeyScope.completed(_SCOPES_FROM_WIRE[pb] for pb in request.scopes) or USUAL_LIMITS.scopes
    return KeyLimits(scopes, spaces or None)


def device_kind_from_wire(pb: auth_pb2.DeviceKind.ValueType) -> DeviceKind:
    """Return the kind of device that signs in. Raise InvalidArgument for an unknown kind, and for a program, which gets
    a key from a signed-in user instead.
    """
    try:
        return _SIGNS_IN[pb]
    except KeyError:
        raise InvalidArgument("kind must be client or browser") from None


def role_to_wire(role: Role | None) -> auth_pb2.Role.ValueType:
    """Return the role on the wire; ROLE_UNSPECIFIED for None, which means no grant."""
    return auth_pb2.ROLE_UNSPECIFIED if role is None else _ROLES[role]


def account_to_wire(account: Account) -> auth_pb2.Account:
    return auth_pb2.Account(
        user_id=account.user,
        email=account.email,
        personal_space_id=account.personal_space,
        unproven=not account.proven,
        admin=account.admin,
        guest=account.guest,
    )


def device_to_wire(device: DeviceRecord) -> auth_pb2.Device:
    return auth_pb2.Device(
        device_id=device.device,
        name=device.name,
        created_at_ms=device.created_at_ms,
        last_seen_at_ms=device.last_seen_at_ms,
        revoked_at_ms=device.revoked_at_ms or 0,
        kind=_KINDS[device.kind],
        expires_at_ms=device.expires_at_ms,
        made_by=device.made_by or "",
        scopes=[_SCOPES[scope] for scope in KeyScope if device.limits is not None and scope in device.limits.scopes],
        space_ids=sorted(device.limits.spaces or ()) if device.limits is not None else (),
    )


def tokens_to_wire(tokens: Tokens) -> auth_pb2.Tokens:
    return auth_pb2.Tokens(
        access_token=tokens.access.text,
        access_expires_at_ms=tokens.access.expires_at_ms,
        refresh_token=tokens.refresh,
        access_expires_in_ms=tokens.access.lifetime_ms,
    )


def signed_up_to_wire(signed_in: SignedIn, *, joined: Set[SpaceId]) -> auth_pb2.SignUpResponse:
    """Return the answer to a sign-up. `joined` are the spaces of which the account has just become a member."""
    return auth_pb2.SignUpResponse(
        account=account_to_wire(signed_in.account),
        device=device_to_wire(signed_in.device),
        tokens=tokens_to_wire(signed_in.tokens),
        key=signed_in.key,
        space_id=signed_in.invited_to if signed_in.invited_to and signed_in.invited_to in joined else "",
    )


def signed_in_to_wire(signed_in: SignedIn) -> auth_pb2.SignInResponse:
    return auth_pb2.SignInResponse(
        account=account_to_wire(signed_in.account),
        device=device_to_wire(signed_in.device),
        tokens=tokens_to_wire(signed_in.tokens),
        key=signed_in.key,
    )


def space_to_wire(space: Membership) -> auth_pb2.Space:
    return auth_pb2.Space(
        space_id=space.space,
        name=space.name,
        role=role_to_wire(space.role),
        personal=space.personal,
        alias=space.alias or "",
        deleted_at_ms=space.deletion.at_ms if space.deletion else 0,
        restorable_until_ms=space.deletion.until_ms if space.deletion else 0,
    )


def member_to_wire(
    grant: GrantRecord, *, for_service: bool = False, suspended: Collection[UserId] = ()
) -> auth_pb2.Member:
    """Return the member who has this grant, as a message. `for_service` is True only in answers to other services,
    because a member's alias, and a suspension, are not visible to other members. `suspended` has the ids of suspended
    users.
    """
    alias = grant.alias if for_service else None
    return auth_pb2.Member(
        user_id=grant.user,
        email=grant.email,
        role=role_to_wire(grant.role),
        alias=alias or "",
        suspended=grant.user in suspended,
    )


def invitation_to_wire(invitation: SpaceInvitation) -> auth_pb2.Invitation:
    return auth_pb2.Invitation(
        space_id=invitation.space,
        space_name=invitation.space_name,
        email=invitation.email,
        role=role_to_wire(invitation.role),
        invited_by=invitation.by_email,
        created_at_ms=invitation.created_at_ms,
        expires_at_ms=invitation.expires_at_ms,
    )


def presented_to_wire(presented: PresentedInvitation) -> auth_pb2.GetInvitationResponse:
    if presented.offer is not None:
        told = invitation_to_wire(presented.offer)
    else:
        invitation = presented.invitation
        told = auth_pb2.Invitation(email=invitation.email or "", expires_at_ms=invitation.expires_at_ms)
    return auth_pb2.GetInvitationResponse(invitation=told, guest=presented.guest)


def jwks_to_wire(keys: SigningKeys) -> auth_pb2.GetJwksResponse:
    return auth_pb2.GetJwksResponse(
        keys=[auth_pb2.Jwk(kid=kid, public_key=raw_public_key(key)) for kid, key in keys.public.items()]
    )


def credentials_to_wire(
    credentials: TemporaryCredentials, *, space: SpaceId, bucket: str, lifetime_ms: int
) -> auth_pb2.IssueCredentialsResponse:
    return auth_pb2.IssueCredentialsResponse(
        access_key_id=credentials.access_key_id,
        secret_access_key=credentials.secret_access_key,
        session_token=credentials.session_token,
        expires_at_ms=credentials.expires_at_ms,
        bucket=bucket,
        key_prefix=key_prefix(space),
        expires_in_ms=lifetime_ms,
    )


def bytes_from_wire(size: int, *, field: str) -> int:
    """Return a number of bytes. Raise InvalidArgument if it is larger than any quota; `field` names it."""
    if size > MAX_QUOTA_BYTES:
        raise InvalidArgument(f"{field} is at most {MAX_QUOTA_BYTES} bytes", field=field)
    return size


def usage_to_wire(usage: PersonalUsage) -> auth_pb2.UserUsage:
    return auth_pb2.UserUsage(quota_bytes=usage.quota_bytes, reserved_bytes=usage.reserved_bytes)


def uploads_from_wire(request: auth_pb2.SetUploadsRequest) -> SpaceUploads:
    return SpaceUploads(
        refused=request.refused,
        unsealed_bytes=request.unsealed_bytes,
        unsealed_objects=request.unsealed_objects,
        stored_bytes=request.stored_bytes,
        quota_bytes=request.quota_bytes,
        measured_at_ms=request.measured_at_ms,
    )


def checked_to_wire(checked: CheckedAccess) -> auth_pb2.CheckAccessResponse:
    return auth_pb2.CheckAccessResponse(
        role=role_to_wire(checked.role),
        device_revoked=checked.device is DeviceState.REVOKED,
        writes_since_ms=checked.writes_since_ms,
        device_expired=checked.device is DeviceState.EXPIRED,
        deleted_at_ms=checked.deletion.at_ms if checked.deletion else 0,
        restorable_until_ms=checked.deletion.until_ms if checked.deletion else 0,
    )


def checked_many_to_wire(checked: CheckedMany) -> auth_pb2.BatchCheckAccessResponse:
    by_state = {state: [one for one, has in checked.devices.items() if has is state] for state in DeviceState}
    return auth_pb2.BatchCheckAccessResponse(
        space_ids=checked.spaces,
        revoked_device_ids=by_state[DeviceState.REVOKED],
        expired_device_ids=by_state[DeviceState.EXPIRED],
        deleted_spaces=[
            auth_pb2.DeletedSpace(space_id=space, deleted_at_ms=one.at_ms, restorable_until_ms=one.until_ms)
            for space, one in checked.deletions.items()
        ],
        limited_devices=[
            auth_pb2.LimitedDevice(device_id=device, space_ids=sorted(spaces))
            for device, spaces in checked.limited.items()
        ],
    )


def ids_from_wire(texts: Sequence[str], parse: Callable[..., T], *, what: str) -> list[T]:
    """Return the distinct ids in `texts`, each read by `parse`. Raise InvalidArgument for more than MAX_CHECKED_RIGHTS
    texts, or for a text that is no id; `what` names the ids in the text of the error.
    """
    if len(texts) > MAX_CHECKED_RIGHTS:
        raise InvalidArgument(f"{what} has at most {MAX_CHECKED_RIGHTS}, not {len(texts)}", field=what)
    return list(dict.fromkeys(parse(text, what=f"{what}[{position}]") for position, text in enumerate(texts)))


def link_to_wire(link: Link) -> auth_pb2.Link:
    return auth_pb2.Link(
        link_id=link.link,
        space_id=link.space,
        node=link.node,
        user_id=link.user,
        created_at_ms=link.created_at_ms,
        expires_at_ms=link.expires_at_ms or 0,
        has_password=link.password_hash is not None,
        max_downloads=link.max_downloads,
        downloads=link.downloads,
        made_by=link.made_by or "",
    )


def ended_to_wire(ended: EndedDevice) -> auth_pb2.RevokeDeviceResponse:
    """Return the message about a revoked device. Its lists of keys and links are cut to what fits into one message."""
    return auth_pb2.RevokeDeviceResponse(
        ended_keys=that_fit(map(device_to_wire, ended.keys)),
        ended_links=that_fit(map(link_to_wire, ended.links)),
        remaining_links=that_fit(map(link_to_wire, ended.remaining_links)),
        ended_key_count=len(ended.keys),
        ended_link_count=len(ended.links),
        remaining_link_count=len(ended.remaining_links),
    )


def changed_password_to_wire(changed: ChangedPassword) -> auth_pb2.ChangePasswordResponse:
    """Return the message about a changed password. Its lists of devices are cut to what fits into one message."""
    ended = changed.ended
    return auth_pb2.ChangePasswordResponse(
        ended_devices=that_fit(map(device_to_wire, ended.devices)),
        ended_keys=that_fit(map(device_to_wire, ended.keys)),
        remaining_keys=that_fit(map(device_to_wire, changed.remaining_keys)),
        ended_device_count=len(ended.devices),
        ended_key_count=len(ended.keys),
        remaining_key_count=len(changed.remaining_keys),
        unfinished=not ended.complete,
    )


def opened_to_wire(link: Link, access: AccessToken) -> auth_pb2.OpenLinkResponse:
    return auth_pb2.OpenLinkResponse(
        access_token=access.text, access_expires_at_ms=access.expires_at_ms, link=link_to_wire(link)
    )


def factor_to_wire(factor: SecondFactor) -> auth_pb2.Factor:
    """Convert a confirmed second factor."""
    return auth_pb2.Factor(
        added_at_ms=factor.confirmed_at_ms or 0, recovery_codes_left=RECOVERY_CODES - len(factor.spent)
    )
