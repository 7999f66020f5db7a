"""Accounts, devices, spaces and their members, and the settings for mail about changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from syncline.auth.v1 import auth_pb2
from syncline.model.accounts import DeviceKind, KeyScope, MailMode, Role, SignUpPolicy
from syncline.model.errors import InvalidArgument, Kind, NoSuchSpace, SignUpClosed, SynclineError
from syncline.model.identifiers import DeviceId, LinkId, SpaceId, UserId, new_request_id, parse_text_id
from syncline.model.names import normalize
from syncline.notify.v1 import notify_pb2
from syncline.sdk import account_file, discovery
from syncline.sdk.account_file import AccountFile
from syncline.sdk.errors import MAX_CANDIDATES, AlreadySignedIn, AmbiguousSpace, understood
from syncline.sdk.pages import gathered
from syncline.sdk.session import Session, Stubs, by_our_clock, error_of_call
from syncline.sdk.trust import NO_FURTHER, Trust

Item = TypeVar("Item")

_DAY_MS = 86_400_000
_SCOPES = {
    KeyScope.READ: auth_pb2.KEY_SCOPE_READ,
    KeyScope.WRITE: auth_pb2.KEY_SCOPE_WRITE,
    KeyScope.SHARE: auth_pb2.KEY_SCOPE_SHARE,
}
PERSONAL = "personal"
"""The name of every personal space."""


_KINDS = frozenset(kind.value for kind in DeviceKind)


@dataclass(frozen=True, slots=True)
class Device:
    """One installed client, browser or program of the user.

    Times are milliseconds since 1970; `revoked_at_ms` is 0 while the device is signed in. `current` is True for the
    device that made the call. `kind` is None if the service does not state it, or states an unknown kind.
    """

    id: DeviceId
    name: str
    created_at_ms: int
    last_seen_at_ms: int
    revoked_at_ms: int
    current: bool
    kind: DeviceKind | None
    made_by: DeviceId | None = None
    """The device that made a program's key; None for other devices, and if it is unknown."""
    scopes: tuple[KeyScope, ...] = ()
    """The scopes of a program's key; empty for other devices. A scope that this client does not know is missing."""
    spaces: tuple[SpaceId, ...] = ()
    """The only spaces that a program's key opens; empty for all spaces."""


@dataclass(frozen=True, slots=True)
class DeviceLink:
    """A public link that a device has made, and its space. `created_at_ms` is in milliseconds since 1970."""

    id: LinkId
    space: SpaceId
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Revocation:
    """The keys and links that were revoked together with a device, and the links of the device that remain valid.

    Each list may be shorter than the count beside it, because the service does not send very long lists as a whole.
    """

    ended_keys: list[Device]
    ended_links: list[DeviceLink]
    remaining_links: list[DeviceLink]
    """Public links of the device that are still valid."""
    ended_key_count: int
    ended_link_count: int
    remaining_link_count: int


@dataclass(frozen=True, slots=True)
class PasswordOutcome:
    """The clients and browsers that were signed out when the password was changed, and the ended keys of
    programs; and the keys that this device has made, which still work.

    Each list may be shorter than the count beside it, because the service does not send very long lists as a whole.
    `unfinished` is True if some could not be ended yet; the service continues to end them.
    """

    ended_devices: list[Device]
    ended_keys: list[Device]
    remaining_keys: list[Device]
    ended_device_count: int
    ended_key_count: int
    remaining_key_count: int
    unfinished: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """A space and the caller's role in it. `alias` is the caller's own name for the space, and never changes."""

    space: SpaceId
    name: str
    role: Role
    personal: bool
    alias: str
    deleted_at_ms: int = 0
    """The time at which the space was deleted, in milliseconds since 1970; 0 for a space that is not deleted."""
    restorable_until_ms: int = 0
    """The time until which the deleted space can be undeleted, in milliseconds since 1970; otherwise 0."""


@dataclass(frozen=True, slots=True)
class Member:
    """A user's role in a space."""

    user: UserId
    email: str
    role: Role


@dataclass(frozen=True, slots=True)
class Offer:
    """An invitation to a space: the offer of a role in it to an address that had no proven account.

    `space_name` is the name of the space when the invitation was made, and `invited_by` the address of the owner who
    invites. Times are milliseconds since 1970.
    """

    space: SpaceId
    space_name: str
    email: str
    role: Role
    invited_by: str
    created_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class UserUsage:
    """The quota of all spaces that count for a person together, None for no such quota, and the part of it that is
    reserved. Both are in bytes.
    """

    quota_bytes: int | None = None
    reserved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """The signed-in user and device, as the service reports them."""

    user: UserId
    email: str
    personal_space: SpaceId
    device: DeviceId
    device_name: str
    proven: bool = True
    """False until the person has proven that mail to the address arrives."""
    admin: bool = False
    """True for an administrator."""
    guest: bool = False
    """True for a person who was admitted by an invitation to a space alone, and makes no spaces, links or keys."""
    usage: UserUsage = UserUsage()
    """The quota of the person, and how much of it is taken."""


@dataclass(frozen=True, slots=True)
class AuthenticatorApp:
    """The second factor of an account: when it was confirmed, in milliseconds since 1970, and how many of the recovery
    codes were not used.
    """

    added_at_ms: int
    recovery_codes_left: int


@dataclass(frozen=True, slots=True)
class AppSecret:
    """The secret of an authenticator app in base32, and the same as `otpauth:` URI for a QR code."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


def sign_up_offer(home: Path, *, endpoint: str, trust: Trust = NO_FURTHER) -> discovery.SignUpOffer | None:
    """Return who may make an account at `endpoint`; None if the endpoint does not say so. A program asks before it asks
    a person for a password.

    Raise SignUpClosed if nobody may make an account unasked, AlreadySignedIn as `sign_up` does, and the
    errors of `discover`.
    """
    if _signed_in(AccountFile(home)):
        raise AlreadySignedIn
    offer = discovery.discover(endpoint, trust=trust).sign_up
    if offer is not None and offer.policy is SignUpPolicy.INVITED:
        raise SignUpClosed
    return offer


def sign_up(
    home: Path,
    *,
    endpoint: str,
    email: str,
    password: str,
    device_name: str,
    trust: Trust = NO_FURTHER,
    invitation: str = "",
) -> Session:
    """Make an account and sign in this device, whose state is in `home`. `endpoint` is the http or https URL of the
    installation. A device sends secrets over TLS only, and only to hosts of the endpoint's domain; `trust` has the
    exceptions from this rule that the user has agreed to. `invitation` is the token of an invitation for the address;
    empty for none. Return the session, which the caller must close.

    Raise SignUpClosed if the service does not admit the address, InvitationInvalid if the invitation was used, has
    expired, or is for another address, AccountExists if the address is taken, InvalidArgument for an invalid address,
    password or device name, and TooManyAttempts if too many accounts were made from this network. Raise AlreadySignedIn
    if the device has a sign-in that is valid, or one that cannot be checked because its service does not answer. Raise
    Unavailable if the service at `endpoint` does not answer, and the errors of `AccountFile.locked` and of `discover`.
    """
    request = auth_pb2.SignUpRequest(email=email, password=password, device_name=device_name, invitation=invitation)
    return _enter(home, endpoint, trust, lambda stubs: stubs.auth.SignUp(request))


def sign_in(
    home: Path,
    *,
    endpoint: str,
    email: str,
    password: str,
    device_name: str,
    trust: Trust = NO_FURTHER,
    code: str = "",
) -> Session:
    """Sign in this device to an existing account. `code` is that of the account's second factor, or a recovery code;
    empty for none. The other arguments and the result are those of `sign_up`.

    Raise WrongPassword for a wrong address or password, SecondFactorNeeded if the account has a second factor and the
    code is missing, and WrongCode if the code is wrong or was used. Raise InvalidArgument for an invalid address or
    device name, and TooManyAttempts after too many attempts. Raise AlreadySignedIn, Unavailable and other errors as
    `sign_up` does.
    """
    request = auth_pb2.SignInRequest(email=email, password=password, device_name=device_name, code=code)
    return _enter(home, endpoint, trust, lambda stubs: stubs.auth.SignIn(request))


def request_reset(*, endpoint: str, email: str, trust: Trust = NO_FURTHER) -> None:
    """Have a mail sent to the address by which a new password can be chosen, if the address has an account at
    `endpoint`. The service does not tell whether it has one. `endpoint` and `trust` are those of `sign_up`.

    Raise InvalidArgument for an invalid address, TooManyAttempts if enough mails were asked for, Unavailable if the
    service does not answer, and the errors of `discover`.
    """
    _ask_unknown(endpoint, trust, lambda stubs: stubs.auth.RequestReset(auth_pb2.RequestResetRequest(email=email)))


def reset_password(*, endpoint: str, token: str, new_password: str, trust: Trust = NO_FURTHER) -> None:
    """Choose a new password by the token of a mail, at `endpoint`. All devices of the account are signed out, and all
    its keys end. `endpoint` and `trust` are those of `sign_up`.

    Raise ResetInvalid if the token is malformed, was used, has expired, or if the password was changed since. Raise
    WeakPassword if the password is easily guessed, and InvalidArgument if it has another length than a password; the
    token is not spent then. Raise Unavailable if the service does not answer, and the errors of `discover`.
    """
    request = auth_pb2.ResetPasswordRequest(token=token, new_password=new_password)
    _ask_unknown(endpoint, trust, lambda stubs: stubs.auth.ResetPassword(request))


def _ask_unknown(endpoint: str, trust: Trust, call: Callable[[Stubs], object]) -> None:
    """Make one call, for somebody who is not signed in, of the services at `endpoint`."""
    stubs = Stubs(discovery.discover(endpoint, trust=trust), None)
    try:
        call(stubs)
    except grpc.RpcError as failure:
        raise error_of_call(failure) from None
    finally:
        stubs.close()


def _enter(
    home: Path,
    endpoint: str,
    trust: Trust,
    call: Callable[[Stubs], auth_pb2.SignUpResponse | auth_pb2.SignInResponse],
) -> Session:
    file = AccountFile(home)
    if _signed_in(file):
        raise AlreadySignedIn
    with file.locked():
        deployment = discovery.discover(endpoint, trust=trust)
        stubs = Stubs(deployment, None)
        try:
            answer = call(stubs)
        except grpc.RpcError as failure:
            raise error_of_call(failure) from None
        finally:
            stubs.close()
        account = account_file.StoredAccount(
            endpoint=discovery.normalize_endpoint(endpoint),
            deployment=deployment,
            trust=trust,
            user=answer.account.user_id,
            email=answer.account.email,
            personal_space=answer.account.personal_space_id,
            device=answer.device.device_id,
            device_name=answer.device.name,
            refresh_token=answer.tokens.refresh_token,
            access_token=answer.tokens.access_token,
            access_expires_at_ms=by_our_clock(answer.tokens.access_expires_at_ms, answer.tokens.access_expires_in_ms),
        )
        file.save(account)
    session = Session(file, account)
    session.requests.add(grpc=1)
    return session


def _signed_in(file: AccountFile) -> bool:
    """Return False if the file holds no account, or if the service answers that it no longer accepts the device;
    otherwise True. A device that was revoked may thus sign in again.
    """
    account = file.load()
    if account is None:
        return False
    with Session(file, account) as session:
        try:
            Accounts(session).who_am_i()
        except SynclineError as error:
            return error.kind is not Kind.UNAUTHENTICATED
    return True


class Accounts:
    """Calls, for a signed-in person, the operations on devices, on spaces and their members, and on mail modes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def who_am_i(self) -> WhoAmI:
        answer = self._session.call(lambda stubs: stubs.auth.GetAccount, auth_pb2.GetAccountRequest())
        return WhoAmI(
            UserId(answer.account.user_id),
            answer.account.email,
            SpaceId(answer.account.personal_space_id),
            DeviceId(answer.device.device_id),
            answer.device.name,
            proven=not answer.account.unproven,
            admin=answer.account.admin,
            guest=answer.account.guest,
            usage=usage_from_wire(answer.usage),
        )

    def request_proof(self) -> bool:
        """Have another mail with a proof sent to the address of the account, and return True; return False if the
        address is proven already. Raise TooManyAttempts if enough mails were sent.
        """
        answer = self._session.call(lambda stubs: stubs.auth.RequestProof, auth_pb2.RequestProofRequest())
        return not answer.proven

    def prove_address(self, token: str) -> None:
        """Prove that mail to the address of the account arrives, by the token in that mail.

        - Raise ProofInvalid if the token is unknown or malformed, was used, has expired, or was sent for another
          account, or if this account is proven already.
        - Raise AddressTaken if another account of the address was proven first.
        """
        self._session.call(lambda stubs: stubs.auth.ProveAddress, auth_pb2.ProveAddressRequest(token=token))

    def change_password(self, *, current: str, new: str) -> PasswordOutcome:
        """Replace the password `current` by `new`, sign out all other devices of the account, and end the keys that
        this device has not made. Return what was ended.

        - Raise WrongCurrentPassword if `current` is wrong, and TooManyAttempts after too many wrong ones.
        - Raise WeakPassword if `new` is easily guessed, and InvalidArgument if it has another length than a password or
          is the current one.
        - Raise AddressUnproven if the address of the account is not proven.
        """
        request = auth_pb2.ChangePasswordRequest(
            request_id=new_request_id(), current_password=current, new_password=new
        )
        answer = self._session.call(lambda stubs: stubs.auth.ChangePassword, request)
        return PasswordOutcome(
            [self._device(pb) for pb in answer.ended_devices],
            [self._device(pb) for pb in answer.ended_keys],
            [self._device(pb) for pb in answer.remaining_keys],
            answer.ended_device_count,
            answer.ended_key_count,
            answer.remaining_key_count,
            answer.unfinished,
        )

    def second_factor(self) -> AuthenticatorApp | None:
        """Return the second factor of the account; None if it has none."""
        answer = self._session.call(lambda stubs: stubs.auth.ListFactors, auth_pb2.ListFactorsRequest())
        return next((AuthenticatorApp(one.added_at_ms, one.recovery_codes_left) for one in answer.factors), None)

    def add_totp(self, *, password: str) -> AppSecret:
        """Begin to add an authenticator app as second factor, and return what the app needs. The factor has no effect
        until `confirm_totp`. `password` is that of the account.

        Raise FactorExists if the account has a second factor, WrongCurrentPassword if the password is wrong,
        TooManyAttempts after too many wrong ones, and AddressUnproven if the address of the account is not proven.
        """
        request = auth_pb2.AddTotpRequest(request_id=new_request_id(), password=password)
        answer = self._session.call(lambda stubs: stubs.auth.AddTotp, request)
        return AppSecret(answer.secret, answer.uri)

    def confirm_totp(self, code: str) -> list[str]:
        """Confirm the authenticator app by a code that it shows, and return the recovery codes, each of which replaces
        a code of the app once. From then on a sign-in needs a code.

        Raise WrongCode if the code is wrong, NoSuchFactor if no app was added, FactorExists if it is confirmed already,
        and TooManyAttempts after too many wrong codes.
        """
        answer = self._session.call(lambda stubs: stubs.auth.ConfirmTotp, auth_pb2.ConfirmTotpRequest(code=code))
        return list(answer.recovery_codes)

    def remove_factor(self, *, password: str, code: str) -> None:
        """Remove the second factor of the account, by its password and a code of the app or a recovery code.

        Raise NoSuchFactor if the account has none, WrongCurrentPassword or WrongCode if the password or the code is
        wrong, and TooManyAttempts after too many attempts.
        """
        request = auth_pb2.RemoveFactorRequest(password=password, code=code)
        self._session.call(lambda stubs: stubs.auth.RemoveFactor, request)

    def sign_out(self) -> None:
        """Revoke this device and remove the account file, even if the service had revoked the device already.

        Raise Unavailable, and keep the account file, if the service does not answer.
        """
        try:
            self._session.call(lambda stubs: stubs.auth.SignOut, auth_pb2.SignOutRequest())
        except SynclineError as error:
            if error.kind is not Kind.UNAUTHENTICATED:
                raise
        with self._session.file.locked():
            self._session.file.remove()

    def devices(self) -> list[Device]:
        """Return the user's devices, newest first."""
        return self._listed(
            lambda stubs: stubs.auth.ListDevices,
            auth_pb2.ListDevicesRequest(),
            lambda page: map(self._device, page.devices),
        )

    def _device(self, pb: auth_pb2.Device) -> Device:
        return device_from_wire(pb, calling=self._session.account.device)

    def create_key(
        self,
        name: str,
        *,
        days: int,
        scopes: Iterable[KeyScope] = (KeyScope.READ, KeyScope.WRITE),
        spaces: Iterable[SpaceId] = (),
    ) -> tuple[Device, str]:
        """Make a key called `name`, with which a program acts on behalf of the user for `days` days from now. Return
        the program's device and the key, which the service never tells again.

        `scopes` say what the key is for, and `spaces` which spaces it opens; without any, it opens all of the user.
        Raise NoSuchSpace for a space in which the user has no role, and LimitReached if the user has too many keys.
        """
        expires_at_ms = int(time.time() * 1000) + days * _DAY_MS
        request = auth_pb2.CreateKeyRequest(
            request_id=new_request_id(),
            name=name,
            expires_at_ms=expires_at_ms,
            scopes=[_SCOPES[scope] for scope in scopes],
            space_ids=spaces,
        )
        answer = self._session.call(lambda stubs: stubs.auth.CreateKey, request)
        return self._device(answer.device), answer.key

    def revoke(self, device: DeviceId, *, end_links: bool = False) -> Revocation:
        """Sign out a device permanently, with the keys that it has made; with `end_links` also end its public links.
        Return the keys and links that were ended, and the links that remain valid.

        Raise NoSuchDevice if the user has no such device. Raise Unavailable if a key or link could not be ended yet:
        the service tries it again later, and the call may be repeated.
        """
        request = auth_pb2.RevokeDeviceRequest(device_id=device, end_links=end_links)
        answer = self._session.call(lambda stubs: stubs.auth.RevokeDevice, request)
        return Revocation(
            [self._device(pb) for pb in answer.ended_keys],
            [_device_link(pb) for pb in answer.ended_links],
            [_device_link(pb) for pb in answer.remaining_links],
            answer.ended_key_count,
            answer.ended_link_count,
            answer.remaining_link_count,
        )

    def spaces(self) -> list[Grant]:
        """Return the spaces that the user has a grant in, the personal one first."""
        return self._listed(
            lambda stubs: stubs.auth.ListSpaces, auth_pb2.ListSpacesRequest(), lambda page: map(_grant, page.spaces)
        )

    def create_space(self, name: str) -> Grant:
        request = auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name=name)
        answer = self._session.call(lambda stubs: stubs.auth.CreateSpace, request)
        with understood():
            return _grant(answer.space)

    def members(self, space: SpaceId) -> list[Member]:
        """Return all members of a space, in the order of the service. Raise NoSuchSpace if the caller is no member of
        the space.
        """
        request = auth_pb2.ListMembersRequest(space_id=space)
        return self._listed(
            lambda stubs: stubs.auth.ListMembers, request, lambda page: map(member_from_wire, page.members)
        )

    def _listed(
        self, method: Callable[[Stubs], Any], request: Any, items: Callable[[Any], Iterable[Item]]
    ) -> list[Item]:
        """Return the items of all pages of a listing. Arguments and errors are those of `Session.listing`; also raise
        ListingTooLarge for a listing that takes too much memory.
        """
        listing = self._session.listing(method, request, items)
        return gathered(listing, "the listing", "report this to whoever runs the service")

    def set_member(self, space: SpaceId, email: str, role: Role) -> Member | Offer:
        """Set the role of the person with this address in `space`, and return the member. An account that is no member
        becomes one. An address without a proven account is invited by a mail; return the invitation then.

        - Raise NoSuchSpace if the caller is no member.
        - Raise PermissionDenied if the caller is no owner or the space is personal.
        - Raise LastOwner if no owner would remain.
        - Raise GuestRefused if a guest would become an owner, and InvalidArgument for an invalid address.
        - Raise LimitReached if a new grant or invitation exceeds a limit of the space, the person or the caller, and
          TooManyAttempts if enough mails with invitations were sent.
        """
        request = auth_pb2.SetMemberRequest(
            request_id=new_request_id(), space_id=space, email=email, role=auth_pb2.Role.ValueType(role.value)
        )
        answer = self._session.call(lambda stubs: stubs.auth.SetMember, request)
        with understood():
            if answer.HasField("invitation"):
                return _offer(answer.invitation)
            return member_from_wire(answer.member)

    def remove_member(self, space: SpaceId, email: str) -> None:
        """Remove the account with this address from the members of `space`; do nothing if it is no member. Members may
        remove themselves.

        Raise NoSuchSpace, PermissionDenied and LastOwner as `set_member` does, and NoSuchAccount if the address has no
        proven account. To withdraw an invitation to the space, call `revoke_invitation`.
        """
        request = auth_pb2.RemoveMemberRequest(request_id=new_request_id(), space_id=space, email=email)
        self._session.call(lambda stubs: stubs.auth.RemoveMember, request)

    def rename_space(self, space: SpaceId, name: str) -> Grant:
        """Give a space another name, for all of its members, and return the space. The aliases of the members stay.

        - Raise NoSuchSpace if the caller is no member, and SpaceDeleted if the space is deleted.
        - Raise PermissionDenied if the caller is no owner or the space is personal.
        - Raise InvalidArgument for an invalid name.
        """
        request = auth_pb2.RenameSpaceRequest(request_id=new_request_id(), space_id=space, name=name)
        answer = self._session.call(lambda stubs: stubs.auth.RenameSpace, request)
        with understood():
            return _grant(answer.space)

    def delete_space(self, space: SpaceId) -> Grant:
        """Delete a space, which an owner can undelete until the time `restorable_until_ms` of the result. A space that
        is deleted already stays as it is. Raise the errors of `rename_space`.
        """
        request = auth_pb2.DeleteSpaceRequest(request_id=new_request_id(), space_id=space)
        answer = self._session.call(lambda stubs: stubs.auth.DeleteSpace, request)
        with understood():
            return _grant(answer.space)

    def undelete_space(self, space: SpaceId) -> Grant:
        """Bring a deleted space back as it was, and return the space. Raise NoSuchSpace also if it is too late, and
        otherwise the errors of `rename_space`.
        """
        request = auth_pb2.UndeleteSpaceRequest(request_id=new_request_id(), space_id=space)
        answer = self._session.call(lambda stubs: stubs.auth.UndeleteSpace, request)
        with understood():
            return _grant(answer.space)

    def deleted_spaces(self) -> list[Grant]:
        """Return the deleted spaces that the user owns and can undelete, by name."""
        return self._listed(
            lambda stubs: stubs.auth.ListDeletedSpaces,
            auth_pb2.ListDeletedSpacesRequest(),
            lambda page: map(_grant, page.spaces),
        )

    def leave_space(self, space: SpaceId) -> None:
        """Remove the user from the members of a space. Raise LastOwner if no owner would remain, PermissionDenied for
        the personal space, and NoSuchSpace if the user is no member.
        """
        self.remove_member(space, self._session.account.email)

    def transfer_space(self, space: SpaceId, email: str, *, keep: Role | None) -> Member:
        """Make the account with this address owner of a space, and give the caller, an owner, the role `keep`, or none,
        both at once. Return the new owner.

        Raise the errors of `set_member`, and InvalidArgument if the address is that of the caller.
        """
        request = auth_pb2.TransferSpaceRequest(
            request_id=new_request_id(),
            space_id=space,
            email=email,
            keep_role=auth_pb2.Role.ValueType(keep.value if keep is not None else 0),
        )
        answer = self._session.call(lambda stubs: stubs.auth.TransferSpace, request)
        with understood():
            return member_from_wire(answer.owner)

    def invitations(self, space: SpaceId | None = None) -> list[Offer]:
        """Return the invitations to `space` that nobody has taken up, in the order of addresses. If `space` is None,
        return those of the address of the caller.

        Raise NoSuchSpace or PermissionDenied if the caller is no owner of the space, and AddressUnproven if the address
        of the caller is not proven.
        """
        request = auth_pb2.ListInvitationsRequest(space_id=space or "")
        return self._listed(
            lambda stubs: stubs.auth.ListInvitations, request, lambda page: map(_offer, page.invitations)
        )

    def revoke_invitation(self, space: SpaceId, email: str) -> None:
        """Revoke the invitation of an address to a space. Raise NoSuchInvitation if there is none, and NoSuchSpace or
        PermissionDenied if the caller is no owner of the space.
        """
        request = auth_pb2.RevokeInvitationRequest(request_id=new_request_id(), space_id=space, email=email)
        self._session.call(lambda stubs: stubs.auth.RevokeInvitation, request)

    def accept_invitation(self, space: SpaceId) -> Grant:
        """Become a member of the space to which the address of the caller is invited, and return the space.

        Raise NoSuchInvitation if there is no invitation that can be taken up, AddressUnproven if the address of the
        caller is not proven, and LimitReached if a list is full.
        """
        request = auth_pb2.AcceptInvitationRequest(request_id=new_request_id(), space_id=space)
        answer = self._session.call(lambda stubs: stubs.auth.AcceptInvitation, request)
        with understood():
            return _grant(answer.space)

    def decline_invitation(self, space: SpaceId) -> None:
        """Decline the invitation of the address of the caller to a space. Raise NoSuchInvitation and AddressUnproven as
        `accept_invitation` does.
        """
        request = auth_pb2.DeclineInvitationRequest(request_id=new_request_id(), space_id=space)
        self._session.call(lambda stubs: stubs.auth.DeclineInvitation, request)

    def resolve(self, space: str) -> SpaceId:
        """Return the id of the space that a person means by the text `space`: an id, or an alias, which is the caller's
        own name for a space. The personal space and ids need no call.

        The name that the owners use is not accepted, even if only one space has it, because it may have meant another
        space before. If no alias equals the text, or several do:

        - raise AmbiguousSpace if several spaces have an alias or name that differs from it at most in case;
        - otherwise raise NoSuchSpace. The texts of both errors list the similar spaces.

        Raise InvalidArgument for an empty text, which a shell makes of an unset variable.
        """
        if not space:
            raise InvalidArgument("the name of the space is empty; see `syncline spaces`")
        if space == PERSONAL:
            return SpaceId(self._session.account.personal_space)
        try:
            return SpaceId(parse_text_id(space, what="space"))
        except SynclineError:
            pass
        grants = self.spaces()
        found = [grant for grant in grants if grant.alias == normalize(space)]
        if len(found) == 1:
            return found[0].space
        alike = found or [grant for grant in grants if _letters(space) in {_letters(grant.alias), _letters(grant.name)}]
        if not alike:
            raise NoSuchSpace(f"there is no space {space!r}, or you are not a member of it; see `syncline spaces`")
        meant = "; ".join(map(self._described, alike[:MAX_CANDIDATES]))
        if len(alike) == 1:
            raise NoSuchSpace(f"there is no space {space!r}; if you mean this one, write its name or id: {meant}")
        raise AmbiguousSpace(f"{len(alike)} of your spaces are called {space!r}: {meant}; use the name or id of one")

    def _described(self, grant: Grant) -> str:
        owners = [member.email for member in self.members(grant.space) if member.role is Role.OWNER]
        return f"{grant.alias!r} ({grant.space}, owned by {', '.join(owners[:MAX_CANDIDATES])})"

    def mail_mode(self, space: SpaceId) -> MailMode:
        request = notify_pb2.GetPreferenceRequest(space_id=space)
        answer = self._session.call(lambda stubs: stubs.notify.GetPreference, request)
        with understood():
            return MailMode(answer.mode)

    def set_mail_mode(self, space: SpaceId, mode: MailMode) -> MailMode:
        request = notify_pb2.SetPreferenceRequest(
            request_id=new_request_id(), space_id=space, mode=notify_pb2.MailMode.ValueType(mode.value)
        )
        answer = self._session.call(lambda stubs: stubs.notify.SetPreference, request)
        with understood():
            return MailMode(answer.mode)


def _letters(name: str) -> str:
    return normalize(name).casefold()


def _grant(pb: auth_pb2.Space) -> Grant:
    return Grant(
        SpaceId(pb.space_id),
        pb.name,
        Role(pb.role),
        pb.personal,
        pb.alias or pb.name,
        pb.deleted_at_ms,
        pb.restorable_until_ms,
    )


def usage_from_wire(pb: auth_pb2.UserUsage) -> UserUsage:
    return UserUsage(pb.quota_bytes if pb.HasField("quota_bytes") else None, pb.reserved_bytes)


def device_from_wire(pb: auth_pb2.Device, *, calling: str) -> Device:
    """Return the device that a message describes; `calling` is the id of the device that makes the calls."""
    return Device(
        DeviceId(pb.device_id),
        pb.name,
        pb.created_at_ms,
        pb.last_seen_at_ms,
        pb.revoked_at_ms,
        pb.device_id == calling,
        DeviceKind(pb.kind) if pb.kind in _KINDS else None,
        DeviceId(pb.made_by) if pb.made_by else None,
        tuple(scope for scope, number in _SCOPES.items() if number in pb.scopes),
        tuple(map(SpaceId, pb.space_ids)),
    )


def _device_link(pb: auth_pb2.Link) -> DeviceLink:
    return DeviceLink(LinkId(pb.link_id), SpaceId(pb.space_id), pb.created_at_ms)


def member_from_wire(pb: auth_pb2.Member) -> Member:
    """Return the member that `pb` describes. Raise ValueError for a role that this client does not know."""
    return Member(UserId(pb.user_id), pb.email, Role(pb.role))


def _offer(pb: auth_pb2.Invitation) -> Offer:
    return Offer(
        SpaceId(pb.space_id),
        pb.space_name,
        pb.email,
        Role(pb.role),
        pb.invited_by,
        pb.created_at_ms,
        pb.expires_at_ms,
    )
