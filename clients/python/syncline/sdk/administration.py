"""Administration of a system: its users, its spaces and its policy. Each call is for administrators, and raises
PermissionDenied for everybody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from syncline.admin.v1 import admin_pb2
from syncline.auth.v1 import auth_pb2
from syncline.model.accounts import Role
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import SpaceId, UserId, new_request_id, parse_text_id
from syncline.model.limits import MAX_PAGE_ITEMS
from syncline.sdk.account import (
    Device,
    Member,
    UserUsage,
    device_from_wire,
    member_from_wire,
    usage_from_wire,
)
from syncline.sdk.errors import understood
from syncline.sdk.session import Session


class UserFilter(Enum):
    """A state by which users are listed. The values are those of the wire."""

    UNPROVEN = admin_pb2.USER_STATE_UNPROVEN
    SUSPENDED = admin_pb2.USER_STATE_SUSPENDED
    ADMINISTRATOR = admin_pb2.USER_STATE_ADMINISTRATOR


@dataclass(frozen=True, slots=True)
class SuspensionNote:
    """The suspension of a user: since when, in milliseconds since 1970, by which administrator, and why."""

    since_ms: int
    by: UserId
    reason: str


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account, as administrators see it. `suspension` is None unless the user is suspended.
    `quota_set` is True if the quota in `usage` was set for this user; otherwise it is the usual one.
    """

    user: UserId
    email: str
    personal_space: SpaceId
    created_at_ms: int
    proven: bool
    admin: bool
    guest: bool
    suspension: SuspensionNote | None
    usage: UserUsage
    quota_set: bool


@dataclass(frozen=True, slots=True)
class UserSpace:
    """A space in which a user has a role."""

    space: SpaceId
    name: str
    role: Role
    personal: bool


@dataclass(frozen=True, slots=True)
class SpaceSummary:
    """A space as administrators see it. `owners` is the number of its owners. Times are milliseconds since 1970;
    `deleted_at_ms` is 0 for a space that is not deleted.

    `quota_bytes` is the quota of the space in bytes, and `quota_set` True if it was set for this space. The bytes that
    are reserved for the space, `reserved_bytes`, count for the owner `payer`; None for nobody.
    """

    space: SpaceId
    name: str
    personal: bool
    owners: int
    created_at_ms: int
    deleted_at_ms: int
    quota_bytes: int
    quota_set: bool
    reserved_bytes: int
    payer: UserId | None


@dataclass(frozen=True, slots=True)
class SignUpRules:
    """The policy by which people come in, the seconds for which invitations and S3 credentials are valid, and the usual
    quotas of a person (None for none) and of a space, in bytes.
    """

    sign_up_policy: str
    sign_up_domains: tuple[str, ...]
    prove_addresses: bool
    invitation_seconds: int
    credential_seconds: int
    user_quota_bytes: int | None
    space_quota_bytes: int


@dataclass(frozen=True, slots=True)
class LoggedAct:
    """An event of the audit log, as the service tells it. The texts may come from callers.

    `actor` has the kind of the caller, and `user`, `device` and `name` where there are any. `subjects` are pairs of a
    kind and an id or address. `count` is the number of acts that the event stands for.
    """

    event_id: str
    at_ms: int
    kind: str
    result: str
    actor: Mapping[str, str]
    subjects: tuple[tuple[str, str], ...]
    network: str
    request_id: str
    count: int
    details: Mapping[str, str]


class AdminClient:
    """Calls the operations of administrators for the signed-in person."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def users(self, email_prefix: str = "", *, state: UserFilter | None = None) -> Iterator[User]:
        """Yield the users whose addresses begin with `email_prefix`, in the order of their addresses, page by page.
        `state` restricts them to users in one state.
        """
        request = admin_pb2.ListUsersRequest(email_prefix=email_prefix)
        if state is not None:
            request.state = admin_pb2.UserState.ValueType(state.value)
        return self._session.listing(lambda stubs: stubs.admin.ListUsers, request, lambda page: map(_user, page.users))

    def user(self, email_or_id: str) -> User:
        """Return the user with an id, or the user who has proven an address. Raise NoSuchAccount if there is none, and
        InvalidArgument for a text that is neither an id nor an address.
        """
        if not email_or_id:
            raise InvalidArgument("state the address or the id of a user; see `syncline admin users list`")
        request = admin_pb2.GetUserRequest()
        try:
            request.user_id = parse_text_id(email_or_id, what="user_id")
        except InvalidArgument:
            request.email = email_or_id
        answer = self._session.call(lambda stubs: stubs.admin.GetUser, request)
        with understood():
            return _user(answer.user)

    def devices(self, user: UserId) -> list[Device]:
        """Return the devices of a user, newest first."""
        request = admin_pb2.ListUserDevicesRequest(user_id=user)
        here = self._session.account.device
        return list(
            self._session.listing(
                lambda stubs: stubs.admin.ListUserDevices,
                request,
                lambda page: [device_from_wire(pb, calling=here) for pb in page.devices],
            )
        )

    def spaces_of(self, user: UserId) -> list[UserSpace]:
        """Return the spaces in which a user has a role, the personal one first."""
        request = admin_pb2.ListUserSpacesRequest(user_id=user)
        return list(
            self._session.listing(
                lambda stubs: stubs.admin.ListUserSpaces, request, lambda page: map(_user_space, page.spaces)
            )
        )

    def invite(self, email: str, *, mail: bool) -> tuple[str | None, int]:
        """Invite the owner of an address to make an account. Return the token of the invitation, which is None if it is
        mailed, and the time until which the invitation is valid, in milliseconds since 1970.

        Raise AccountExists if the address has a proven account, and TooManyAttempts if too many mails were sent to it.
        """
        request = admin_pb2.InviteUserRequest(request_id=new_request_id(), email=email, mail=mail)
        answer = self._session.call(lambda stubs: stubs.admin.InviteUser, request)
        return answer.token or None, answer.expires_at_ms

    def suspend(self, user: UserId, reason: str) -> User:
        """Suspend a user, and return the user. Raise LastAdministrator if no administrator would remain."""
        request = admin_pb2.SuspendUserRequest(request_id=new_request_id(), user_id=user, reason=reason)
        answer = self._session.call(lambda stubs: stubs.admin.SuspendUser, request)
        with understood():
            return _user(answer.user)

    def resume(self, user: UserId) -> User:
        """End the suspension of a user, and return the user."""
        request = admin_pb2.ResumeUserRequest(request_id=new_request_id(), user_id=user)
        answer = self._session.call(lambda stubs: stubs.admin.ResumeUser, request)
        with understood():
            return _user(answer.user)

    def remove_factor(self, user: UserId) -> bool:
        """Remove the second factor of a user; return False if there was none. Raise NoSuchAccount if there is no such
        user.
        """
        request = admin_pb2.RemoveUserFactorRequest(request_id=new_request_id(), user_id=user)
        return bool(self._session.call(lambda stubs: stubs.admin.RemoveUserFactor, request).removed)

    def sign_out(self, user: UserId, *, end_keys: bool) -> tuple[int, int]:
        """Sign a user out of all clients and browsers, and with `end_keys` end the keys of programs as well. Return the
        number of devices and the number of keys. Raise Unavailable if a device could not be signed out; the call may be
        repeated.
        """
        request = admin_pb2.SignOutUserRequest(request_id=new_request_id(), user_id=user, end_keys=end_keys)
        answer = self._session.call(lambda stubs: stubs.admin.SignOutUser, request)
        return answer.device_count, answer.key_count

    def set_administrator(self, user: UserId, *, admin: bool) -> User:
        """Make a user an administrator, or an ordinary user, and return the user. Raise LastAdministrator if no
        administrator would remain, and UserNotReady for a user who is not proven, a guest or suspended.
        """
        request = admin_pb2.SetAdministratorRequest(request_id=new_request_id(), user_id=user, admin=admin)
        answer = self._session.call(lambda stubs: stubs.admin.SetAdministrator, request)
        with understood():
            return _user(answer.user)

    def set_user_quota(self, user: UserId, quota_bytes: int | None) -> User:
        """Give a user a quota in bytes for all spaces that count for the user together, None for the usual one, and
        return the user. What is stored stays.
        """
        request = admin_pb2.SetUserQuotaRequest(request_id=new_request_id(), user_id=user, quota_bytes=quota_bytes)
        answer = self._session.call(lambda stubs: stubs.admin.SetUserQuota, request)
        with understood():
            return _user(answer.user)

    def set_space_quota(self, space: SpaceId, quota_bytes: int | None) -> SpaceSummary:
        """Give a space a quota in bytes, None for the usual one, and return the space. What is stored stays. Raise
        NoSuchSpace if there is no such space.
        """
        request = admin_pb2.SetSpaceQuotaRequest(request_id=new_request_id(), space_id=space, quota_bytes=quota_bytes)
        answer = self._session.call(lambda stubs: stubs.admin.SetSpaceQuota, request)
        with understood():
            return _summary(answer.space)

    def spaces(self) -> Iterator[SpaceSummary]:
        """Yield the shared spaces of the system, newest first, page by page."""
        return self._session.listing(
            lambda stubs: stubs.admin.ListSpaces,
            admin_pb2.ListSpacesRequest(),
            lambda page: map(_summary, page.spaces),
        )

    def space(self, space: SpaceId) -> SpaceSummary:
        """Return one space of the system. Raise NoSuchSpace if there is none."""
        answer = self._session.call(lambda stubs: stubs.admin.GetSpace, admin_pb2.GetSpaceRequest(space_id=space))
        with understood():
            return _summary(answer.space)

    def members(self, space: SpaceId) -> list[Member]:
        """Return the members of any space, by address. Raise NoSuchSpace if there is no such space."""
        request = admin_pb2.ListSpaceMembersRequest(space_id=space)
        return list(
            self._session.listing(
                lambda stubs: stubs.admin.ListSpaceMembers,
                request,
                lambda page: map(member_from_wire, page.members),
            )
        )

    def make_owner(self, space: SpaceId, user: UserId) -> Member:
        """Make a user an owner of a shared space, and return the member. Raise NoSuchSpace, NoSuchAccount,
        PermissionDenied for a personal space, or LimitReached.
        """
        request = admin_pb2.SetSpaceOwnerRequest(request_id=new_request_id(), space_id=space, user_id=user)
        answer = self._session.call(lambda stubs: stubs.admin.SetSpaceOwner, request)
        with understood():
            return member_from_wire(answer.member)

    def policy(self) -> SignUpRules:
        """Return the policy by which people come in."""
        answer = self._session.call(lambda stubs: stubs.admin.GetPolicy, admin_pb2.GetPolicyRequest())
        return SignUpRules(
            answer.sign_up_policy,
            tuple(answer.sign_up_domains),
            answer.prove_addresses,
            answer.invitation_seconds,
            answer.credential_seconds,
            answer.user_quota_bytes if answer.HasField("user_quota_bytes") else None,
            answer.space_quota_bytes,
        )

    def audit(
        self, *, since_ms: int = 0, until_ms: int = 0, kind: str = "", involving: str = ""
    ) -> Iterator[LoggedAct]:
        """Yield the events of the audit log, newest first, page by page.

        `since_ms` is the first time, and `until_ms` the time after the last one, in milliseconds since 1970; 0 for no
        bound. `kind` is the kind of event, and `involving` the id or address of somebody who acted or is a subject;
        empty for all. Raise InvalidArgument for an unknown kind.
        """
        request = admin_pb2.ListAuditEventsRequest(
            page_size=MAX_PAGE_ITEMS, since_ms=since_ms, until_ms=until_ms, kind=kind, involving=involving
        )
        return self._session.listing(
            lambda stubs: stubs.admin.ListAuditEvents, request, lambda page: map(_logged_act, page.events)
        )


def _user(pb: admin_pb2.User) -> User:
    suspension = SuspensionNote(pb.suspension.since_ms, UserId(pb.suspension.by_user_id), pb.suspension.reason)
    return User(
        UserId(pb.user_id),
        pb.email,
        SpaceId(pb.personal_space_id),
        pb.created_at_ms,
        not pb.unproven,
        pb.admin,
        pb.guest,
        suspension if pb.HasField("suspension") else None,
        usage_from_wire(pb.usage),
        pb.quota_set,
    )


def _user_space(pb: auth_pb2.Space) -> UserSpace:
    return UserSpace(SpaceId(pb.space_id), pb.name, Role(pb.role), pb.personal)


def _summary(pb: admin_pb2.SpaceSummary) -> SpaceSummary:
    return SpaceSummary(
        SpaceId(pb.space_id),
        pb.name,
        pb.personal,
        pb.owners,
        pb.created_at_ms,
        pb.deleted_at_ms,
        pb.quota_bytes,
        pb.quota_set,
        pb.reserved_bytes,
        UserId(pb.payer_user_id) if pb.payer_user_id else None,
    )


def _logged_act(pb: admin_pb2.AuditEvent) -> LoggedAct:
    actor = {
        "kind": pb.actor.kind,
        "user": pb.actor.user_id,
        "device": pb.actor.device_id,
        "name": pb.actor.name,
    }
    return LoggedAct(
        pb.event_id,
        pb.at_ms,
        pb.kind,
        pb.result,
        {name: value for name, value in actor.items() if value},
        tuple((subject.kind, subject.id) for subject in pb.subjects),
        pb.network,
        pb.request_id,
        pb.count,
        dict(pb.details),
    )
