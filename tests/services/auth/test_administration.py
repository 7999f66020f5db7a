"""Administrators see and change users and spaces, nobody else does, and whoever is suspended gets nowhere."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc.aio
import pytest

from services.auth.invitations import Invitations
from services.auth.records import DAY_MS
from syncline.admin.v1 import admin_pb2
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import ROOT, new_request_id, new_text_id
from syncline.model.limits import INVITATION_DAYS
from tests.services.auth.support import PASSWORD, Person, Service, bearer, refused, serving
from tests.services.refusals import methods_open_to

SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
ANN, BEN, EVE = "ann@example.com", "ben@example.com", "eve@example.com"
EDITOR, OWNER = auth_pb2.ROLE_EDITOR, auth_pb2.ROLE_OWNER


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path) as service:
        yield service


async def administrator(auth: Service, email: str = ANN) -> Person:
    """The first administrator."""
    token = await Invitations(auth.store, auth.store, clock=auth.clock).invite(email)
    request = auth_pb2.SignUpRequest(email=email, password=PASSWORD, device_name="console", invitation=token)
    answer = await auth.stub.SignUp(request)
    assert answer.account.admin
    return Person(answer.account, answer.device, answer.tokens, answer.key)


@pytest.fixture
async def ann(auth):
    return await administrator(auth)


async def suspend(
    auth: Service, by: Person, whom: Person, reason: str = "left", request_id: bytes = b""
) -> admin_pb2.User:
    request = admin_pb2.SuspendUserRequest(
        request_id=request_id or new_request_id(), user_id=whom.account.user_id, reason=reason
    )
    return (await auth.admin.SuspendUser(request, metadata=by.credentials)).user


async def resume(auth: Service, by: Person, whom: Person) -> admin_pb2.User:
    request = admin_pb2.ResumeUserRequest(request_id=new_request_id(), user_id=whom.account.user_id)
    return (await auth.admin.ResumeUser(request, metadata=by.credentials)).user


async def set_admin(auth: Service, by: Person, whom: Person, admin: bool) -> admin_pb2.User:
    request = admin_pb2.SetAdministratorRequest(request_id=new_request_id(), user_id=whom.account.user_id, admin=admin)
    return (await auth.admin.SetAdministrator(request, metadata=by.credentials)).user


async def emails(auth: Service, by: Person, **asked) -> list[str]:
    found = await auth.admin.ListUsers(admin_pb2.ListUsersRequest(**asked), metadata=by.credentials)
    return [user.email for user in found.users]


# ---- who may


async def test_only_an_administrator_gets_anywhere(auth, ann):
    ben = await auth.sign_up(BEN)
    every = {f"{SERVICE.full_name}/{method.name}" for method in SERVICE.methods}
    async with grpc.aio.insecure_channel(auth.target) as over:
        assert await methods_open_to(over, SERVICE, ann.credentials) == every
        assert await methods_open_to(over, SERVICE, ben.credentials) == set()
        assert await methods_open_to(over, SERVICE, auth.as_service()) == set()
        assert await methods_open_to(over, SERVICE, None, refused=("UNAUTHENTICATED",)) == set()
        key = auth_pb2.CreateKeyRequest(
            request_id=new_request_id(), name="program", expires_at_ms=auth.clock() + DAY_MS
        )
        made = await auth.stub.CreateKey(key, metadata=ann.credentials)
        program = (await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=made.key))).tokens.access_token
        assert await methods_open_to(over, SERVICE, bearer(program)) == set(), "not even by the key of an administrator"


async def test_the_right_ends_at_once_whatever_the_token_says(auth, ann):
    ben = await auth.sign_up(BEN)
    assert (await set_admin(auth, ann, ben, True)).admin
    assert await emails(auth, ben) == [ANN, BEN]
    await set_admin(auth, ann, ben, False)
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
        await emails(auth, ben)
    await set_admin(auth, ann, ben, True)
    await suspend(auth, ann, ben)
    with refused("UNAUTHENTICATED", "ACCOUNT_SUSPENDED"):
        await emails(auth, ben)
    await resume(auth, ann, ben)
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=ben.credentials)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await emails(auth, ben)


# ---- users


async def test_users_are_listed_by_address_state_and_page(auth, ann):
    people = {email: await auth.sign_up(email) for email in (EVE, BEN, "bea@example.com")}
    assert await emails(auth, ann) == [ANN, "bea@example.com", BEN, EVE]
    assert await emails(auth, ann, email_prefix=" BE") == ["bea@example.com", BEN]
    await suspend(auth, ann, people[EVE])
    assert await emails(auth, ann, state=admin_pb2.USER_STATE_SUSPENDED) == [EVE]
    assert await emails(auth, ann, state=admin_pb2.USER_STATE_ADMINISTRATOR) == [ANN]
    assert await emails(auth, ann, state=admin_pb2.USER_STATE_UNPROVEN) == []
    found, token = [], ""
    while True:
        request = admin_pb2.ListUsersRequest(page_size=3, page_token=token)
        page = await auth.admin.ListUsers(request, metadata=ann.credentials)
        found += [user.email for user in page.users]
        token = page.next_page_token
        if not token:
            break
        with refused("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN"):
            await emails(auth, ann, page_token=token, email_prefix="be")
    assert found == [ANN, "bea@example.com", BEN, EVE]


@pytest.mark.parametrize(
    "asked",
    [{"email_prefix": "x" * 255}, {"state": 99}, {"page_token": "nonsense"}],
    ids=["long", "state", "token"],
)
async def test_what_is_wrong_with_a_list_of_users_is_said(auth, ann, asked):
    reason = "INVALID_PAGE_TOKEN" if "page_token" in asked else "INVALID_ARGUMENT"
    with refused("INVALID_ARGUMENT", reason):
        await emails(auth, ann, **asked)


async def test_a_user_is_shown_with_devices_and_spaces(auth, ann):
    ben = await auth.sign_up(BEN)
    space = await auth.create_space(ben)
    for asked in ({"user_id": ben.account.user_id}, {"email": "Ben@Example.com"}):
        user = (await auth.admin.GetUser(admin_pb2.GetUserRequest(**asked), metadata=ann.credentials)).user
        assert (user.user_id, user.email, user.admin, user.unproven) == (ben.account.user_id, BEN, False, False)
        assert not user.HasField("suspension")
    devices = await auth.admin.ListUserDevices(
        admin_pb2.ListUserDevicesRequest(user_id=ben.account.user_id), metadata=ann.credentials
    )
    assert [one.device_id for one in devices.devices] == [ben.device.device_id]
    spaces = await auth.admin.ListUserSpaces(
        admin_pb2.ListUserSpacesRequest(user_id=ben.account.user_id), metadata=ann.credentials
    )
    assert [one.space_id for one in spaces.spaces] == [ben.account.personal_space_id, space]
    assert not any(one.alias for one in spaces.spaces), "a person's own names are the person's"


async def test_who_is_not_there_is_said(auth, ann):
    nobody: dict[str, Any] = {"user_id": new_text_id()}
    for method, request in (
        ("GetUser", admin_pb2.GetUserRequest(**nobody)),
        ("GetUser", admin_pb2.GetUserRequest(email="nobody@example.com")),
        ("ListUserDevices", admin_pb2.ListUserDevicesRequest(**nobody)),
        ("ListUserSpaces", admin_pb2.ListUserSpacesRequest(**nobody)),
        ("SuspendUser", admin_pb2.SuspendUserRequest(request_id=new_request_id(), **nobody)),
        ("ResumeUser", admin_pb2.ResumeUserRequest(request_id=new_request_id(), **nobody)),
        ("SignOutUser", admin_pb2.SignOutUserRequest(request_id=new_request_id(), **nobody)),
        ("SetAdministrator", admin_pb2.SetAdministratorRequest(request_id=new_request_id(), **nobody)),
    ):
        with refused("NOT_FOUND", "NO_SUCH_ACCOUNT"):
            await getattr(auth.admin, method)(request, metadata=ann.credentials)
    for request in (admin_pb2.GetUserRequest(), admin_pb2.GetUserRequest(email=BEN, **nobody)):
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
            await auth.admin.GetUser(request, metadata=ann.credentials)


# ---- suspension


async def test_a_suspended_person_gets_nowhere_and_is_told_why_with_the_right_password_alone(auth, ann):
    ben = await auth.sign_up(BEN)
    browser = await auth.sign_in(BEN, kind=auth_pb2.DEVICE_KIND_BROWSER)
    space = await auth.create_space(ann)
    await auth.share(space, ann, BEN, EDITOR)
    own = await auth.create_space(ben)
    user = await suspend(auth, ann, ben, "  left the company ")
    assert (user.suspension.reason, user.suspension.by_user_id) == ("left the company", ann.account.user_id)
    assert user.suspension.since_ms == auth.clock()
    with refused("UNAUTHENTICATED", "ACCOUNT_SUSPENDED"):
        await auth.sign_in(BEN)
    with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
        await auth.sign_in(BEN, password="a wrong password")
    with refused("UNAUTHENTICATED", "ACCOUNT_SUSPENDED"):
        await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=ben.tokens.refresh_token))
    with refused("UNAUTHENTICATED", "ACCOUNT_SUSPENDED"):
        await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=browser.key))
    for method, request in (
        ("GetAccount", auth_pb2.GetAccountRequest()),
        ("ListSpaces", auth_pb2.ListSpacesRequest()),
        ("ListDevices", auth_pb2.ListDevicesRequest()),
        ("ListMembers", auth_pb2.ListMembersRequest(space_id=own)),
        ("CreateSpace", auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name="more")),
        (
            "CreateKey",
            auth_pb2.CreateKeyRequest(request_id=new_request_id(), name="k", expires_at_ms=auth.clock() + DAY_MS),
        ),
        ("CreateLink", auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=own, node=ROOT)),
        (
            "SetMember",
            auth_pb2.SetMemberRequest(request_id=new_request_id(), space_id=own, email=ANN, role=EDITOR),
        ),
        ("RevokeDevice", auth_pb2.RevokeDeviceRequest(device_id=ben.device.device_id)),
        ("RequestProof", auth_pb2.RequestProofRequest()),
    ):
        with refused("UNAUTHENTICATED", "ACCOUNT_SUSPENDED"):
            await getattr(auth.stub, method)(request, metadata=ben.credentials)
    for method, asked in (
        ("IssueCredentials", auth_pb2.IssueCredentialsRequest(space_id=space, access=auth_pb2.ACCESS_READ)),
        ("ListLinks", auth_pb2.ListLinksRequest(space_id=own)),
        ("CheckWriters", auth_pb2.CheckWritersRequest(space_id=own)),
    ):
        with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
            await getattr(auth.stub, method)(asked, metadata=ben.credentials)


async def test_every_service_is_told_that_a_suspended_person_has_no_right(auth, ann):
    ben = await auth.sign_up(BEN)
    space = await auth.create_space(ben)
    user, device = ben.account.user_id, ben.device.device_id
    check = auth_pb2.CheckAccessRequest(space_id=space, user_id=user, device_id=device)
    many = auth_pb2.BatchCheckAccessRequest(user_id=user, space_ids=[space], device_ids=[device])
    asking, own = auth.as_service(), ben.credentials
    before = (
        await auth.stub.CheckAccess(check, metadata=asking),
        await auth.stub.BatchCheckAccess(many, metadata=asking),
    )
    assert (before[0].role, before[0].device_revoked, list(before[1].space_ids)) == (OWNER, False, [space])
    await suspend(auth, ann, ben)
    for answer in (
        await auth.stub.CheckAccess(check, metadata=asking),
        await auth.stub.CheckAccess(auth_pb2.CheckAccessRequest(space_id=space), metadata=own),
    ):
        assert (answer.role, answer.device_revoked) == (auth_pb2.ROLE_UNSPECIFIED, True)
    answer = await auth.stub.BatchCheckAccess(many, metadata=asking)
    assert (list(answer.space_ids), list(answer.revoked_device_ids)) == ([], [device])
    members = auth_pb2.ListMembersRequest(space_id=space)
    (member,) = (await auth.stub.ListMembers(members, metadata=auth.as_service("notify"))).members
    assert member.suspended
    await resume(auth, ann, ben)
    assert await auth.stub.CheckAccess(check, metadata=asking) == before[0]
    assert await auth.stub.BatchCheckAccess(many, metadata=asking) == before[1]
    (member,) = (await auth.stub.ListMembers(members, metadata=auth.as_service("notify"))).members
    assert not member.suspended


async def test_what_was_there_is_there_again_after_a_suspension(auth, ann):
    ben = await auth.sign_up(BEN)
    browser = await auth.sign_in(BEN, kind=auth_pb2.DEVICE_KIND_BROWSER)
    space = await auth.create_space(ben)
    request = auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=space, node=ROOT)
    token = (await auth.stub.CreateLink(request, metadata=ben.credentials)).token

    opened = await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=token))
    await suspend(auth, ann, ben)
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=token))
    asked = auth_pb2.CheckAccessRequest(space_id=space)
    assert not (await auth.stub.CheckAccess(asked, metadata=bearer(opened.access_token))).role
    assert not (await resume(auth, ann, ben)).HasField("suspension")
    await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=token))
    assert (await auth.stub.CheckAccess(asked, metadata=bearer(opened.access_token))).role == auth_pb2.ROLE_VIEWER
    fresh = await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=ben.tokens.refresh_token))
    await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=browser.key))
    listed = await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(), metadata=bearer(fresh.tokens.access_token))
    assert [one.space_id for one in listed.spaces] == [ben.account.personal_space_id, space]


async def test_a_suspension_is_made_once_and_keeps_its_first_reason(auth, ann):
    ben = await auth.sign_up(BEN)
    request_id = new_request_id()
    first = await suspend(auth, ann, ben, "left", request_id)
    auth.clock.advance(5_000)
    assert await suspend(auth, ann, ben, "left", request_id) == first
    assert await suspend(auth, ann, ben, "another reason") == first
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED"):
        await suspend(auth, ann, ben, "another reason", request_id)
    await resume(auth, ann, ben)
    assert not (await suspend(auth, ann, ben, "left", request_id)).HasField("suspension"), "it was carried out before"
    for reason in ("x" * 501, "two\nlines"):
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
            await suspend(auth, ann, ben, reason)


# ---- administrators


async def test_the_last_administrator_stays_and_is_not_suspended(auth, ann):
    ben = await auth.sign_up(BEN)
    for act in (suspend(auth, ann, ann), set_admin(auth, ann, ann, False)):
        with refused("FAILED_PRECONDITION", "LAST_ADMINISTRATOR"):
            await act
    await set_admin(auth, ann, ben, True)
    await suspend(auth, ben, ann)
    for act in (suspend(auth, ben, ben), set_admin(auth, ben, ben, False)):
        with refused("FAILED_PRECONDITION", "LAST_ADMINISTRATOR"):
            await act
    await resume(auth, ben, ann)
    assert not (await set_admin(auth, ben, ben, False)).admin
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
        await set_admin(auth, ben, ben, True)


async def test_who_is_suspended_becomes_no_administrator(auth, ann):
    ben = await auth.sign_up(BEN)
    await suspend(auth, ann, ben)
    with refused("FAILED_PRECONDITION", "USER_NOT_READY"):
        await set_admin(auth, ann, ben, True)


async def test_of_administrators_who_remove_each_other_at_once_one_is_left(auth, ann):
    others = [await auth.sign_up(f"admin-{number}@example.com") for number in range(4)]
    for other in others:
        await set_admin(auth, ann, other, True)
    people = [ann, *others]
    ends: list[Awaitable[admin_pb2.User]] = []
    for number, person in enumerate(people):
        ends += [set_admin(auth, people[number - 1], person, False), suspend(auth, people[number - 1], person)]
    await asyncio.gather(*ends, return_exceptions=True)
    accounts = [await auth.store.account(person.account.user_id) for person in people]
    assert any(account.administers for account in accounts)


# ---- invitations and signing out


async def invite(auth: Service, by: Person, email: str, request_id: bytes = b"", mail: bool = False):
    request = admin_pb2.InviteUserRequest(request_id=request_id or new_request_id(), email=email, mail=mail)
    return await auth.admin.InviteUser(request, metadata=by.credentials)


async def test_an_administrator_invites_by_a_link_or_a_mail(auth, ann):
    request_id = new_request_id()
    made = await invite(auth, ann, "Ben@example.com", request_id)
    assert made.expires_at_ms == auth.clock() + INVITATION_DAYS * DAY_MS
    assert await invite(auth, ann, "Ben@example.com", request_id) == made
    assert auth.mail.sent == []
    request = auth_pb2.SignUpRequest(email=BEN, password=PASSWORD, device_name="laptop", invitation=made.token)
    ben = await auth.stub.SignUp(request)
    assert (ben.account.unproven, ben.account.admin) == (False, False)
    assert (await invite(auth, ann, "Ben@example.com", request_id)).expires_at_ms == 0, "it was used"
    with refused("ALREADY_EXISTS", "ACCOUNT_EXISTS"):
        await invite(auth, ann, BEN)
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED"):
        await invite(auth, ann, EVE, request_id)
    mailed = await invite(auth, ann, EVE, mail=True)
    assert mailed.token == ""
    (mail,) = auth.mail.sent
    request = auth_pb2.SignUpRequest(email=EVE, password=PASSWORD, device_name="laptop", invitation=mail.token)
    assert not (await auth.stub.SignUp(request)).account.unproven


async def test_invitations_do_not_fill_a_mailbox(auth, ann):
    for _ in range(10):
        await invite(auth, ann, BEN, mail=True)
    with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
        await invite(auth, ann, BEN, mail=True)
    await invite(auth, ann, EVE, mail=True)
    assert (await invite(auth, ann, BEN)).token, "a link is no mail"


async def test_a_user_is_signed_out_of_all_devices(auth, ann):
    ben = await auth.sign_up(BEN)
    browser = await auth.sign_in(BEN, kind=auth_pb2.DEVICE_KIND_BROWSER)
    key = auth_pb2.CreateKeyRequest(request_id=new_request_id(), name="k", expires_at_ms=auth.clock() + DAY_MS)
    program = (await auth.stub.CreateKey(key, metadata=ben.credentials)).key

    async def sign_out(end_keys: bool) -> tuple[int, int]:
        request = admin_pb2.SignOutUserRequest(
            request_id=new_request_id(), user_id=ben.account.user_id, end_keys=end_keys
        )
        answer = await auth.admin.SignOutUser(request, metadata=ann.credentials)
        return answer.device_count, answer.key_count

    assert await sign_out(False) == (2, 0)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(), metadata=ben.credentials)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=browser.key))
    await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=program))
    again = await auth.sign_in(BEN)
    assert await sign_out(True) == (1, 1)
    assert await sign_out(True) == (0, 0)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=program))
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await auth.stub.GetAccount(auth_pb2.GetAccountRequest(), metadata=again.credentials)


# ---- spaces and the policy


async def test_all_spaces_are_listed_and_shown(auth, ann):
    ben = await auth.sign_up(BEN)
    first = await auth.create_space(ben, "first")
    auth.clock.advance(1_000)
    second = await auth.create_space(ann, "second")
    listed = (await auth.admin.ListSpaces(admin_pb2.ListSpacesRequest(), metadata=ann.credentials)).spaces
    assert [(one.space_id, one.name, one.owners) for one in listed] == [(second, "second", 1), (first, "first", 1)]
    shown = await auth.admin.GetSpace(admin_pb2.GetSpaceRequest(space_id=first), metadata=ann.credentials)
    assert shown.space == listed[1]
    personal = admin_pb2.GetSpaceRequest(space_id=ben.account.personal_space_id)
    assert (await auth.admin.GetSpace(personal, metadata=ann.credentials)).space.personal
    members = admin_pb2.ListSpaceMembersRequest(space_id=first)
    found = await auth.admin.ListSpaceMembers(members, metadata=ann.credentials)
    assert [(one.email, one.role, one.alias) for one in found.members] == [(BEN, OWNER, "")]
    for method, request in (
        ("GetSpace", admin_pb2.GetSpaceRequest(space_id=new_text_id())),
        ("ListSpaceMembers", admin_pb2.ListSpaceMembersRequest(space_id=new_text_id())),
    ):
        with refused("NOT_FOUND", "NO_SUCH_SPACE"):
            await getattr(auth.admin, method)(request, metadata=ann.credentials)
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await auth.credentials(first, ann)


async def test_somebody_is_made_owner_of_a_space_whose_owner_is_gone(auth, ann):
    ben, eve = await auth.sign_up(BEN), await auth.sign_up(EVE)
    space = await auth.create_space(ben)
    await suspend(auth, ann, ben)
    request_id = new_request_id()
    request = admin_pb2.SetSpaceOwnerRequest(request_id=request_id, space_id=space, user_id=eve.account.user_id)
    for _ in range(2):
        answer = await auth.admin.SetSpaceOwner(request, metadata=ann.credentials)
        assert (answer.member.email, answer.member.role) == (EVE, OWNER)
    await auth.share(space, eve, ANN, EDITOR)
    found = await auth.admin.GetSpace(admin_pb2.GetSpaceRequest(space_id=space), metadata=ann.credentials)
    assert found.space.owners == 2
    raised = admin_pb2.SetSpaceOwnerRequest(request_id=new_request_id(), space_id=space, user_id=ann.account.user_id)
    assert (await auth.admin.SetSpaceOwner(raised, metadata=ann.credentials)).member.role == OWNER
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED"):
        other = admin_pb2.SetSpaceOwnerRequest(request_id=request_id, space_id=space, user_id=ann.account.user_id)
        await auth.admin.SetSpaceOwner(other, metadata=ann.credentials)
    personal = admin_pb2.SetSpaceOwnerRequest(
        request_id=new_request_id(), space_id=eve.account.personal_space_id, user_id=ann.account.user_id
    )
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
        await auth.admin.SetSpaceOwner(personal, metadata=ann.credentials)


async def test_a_deleted_space_is_shown_as_deleted_and_gets_no_owner(auth, ann):
    ben = await auth.sign_up(BEN)
    space = await auth.create_space(ben, "first")
    deletion = auth_pb2.DeleteSpaceRequest(request_id=new_request_id(), space_id=space)
    await auth.stub.DeleteSpace(deletion, metadata=ben.credentials)
    (listed,) = (await auth.admin.ListSpaces(admin_pb2.ListSpacesRequest(), metadata=ann.credentials)).spaces
    assert (listed.space_id, listed.deleted_at_ms) == (space, auth.clock())
    owner = admin_pb2.SetSpaceOwnerRequest(request_id=new_request_id(), space_id=space, user_id=ann.account.user_id)
    with refused("NOT_FOUND", "SPACE_DELETED"):
        await auth.admin.SetSpaceOwner(owner, metadata=ann.credentials)


async def test_the_policy_is_shown(auth, ann):
    policy = await auth.admin.GetPolicy(admin_pb2.GetPolicyRequest(), metadata=ann.credentials)
    assert (policy.sign_up_policy, list(policy.sign_up_domains), policy.prove_addresses) == ("open", [], False)
    assert (policy.invitation_seconds, policy.credential_seconds) == (7 * 86_400, 900)


# ---- the audit log


async def acts(auth: Service, by: Person, **asked) -> list[admin_pb2.AuditEvent]:
    """Return the events of all pages, newest first."""
    found, request = list[admin_pb2.AuditEvent](), admin_pb2.ListAuditEventsRequest(page_size=2, **asked)
    while True:
        answer = await auth.admin.ListAuditEvents(request, metadata=by.credentials)
        assert len(answer.events) <= 2
        found += answer.events
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def test_the_audit_log_tells_administrators_who_did_what(auth, ann):
    ben, eve = await auth.sign_up(BEN), await auth.sign_up(EVE)
    user = ben.account.user_id
    await suspend(auth, ann, ben, "left the company")
    await suspend(auth, ann, ben, "again")
    await resume(auth, ann, ben)
    await set_admin(auth, ann, ben, True)
    await set_admin(auth, ann, ben, False)
    kinds = ["administrator.removed", "administrator.added", "account.resumed", "account.suspended", "account.created"]
    found = await acts(auth, ann, involving=BEN)
    assert sorted(event.kind for event in found) == sorted(kinds), "an address stands for its account as well"
    assert sorted(event.kind for event in await acts(auth, ann, subject=user)) == sorted(kinds[:-1])
    (event,) = await acts(auth, ann, kind="account.suspended")
    assert (event.actor.user_id, event.actor.device_id) == (ann.account.user_id, ann.device.device_id)
    assert [(one.kind, one.id) for one in event.subjects] == [("user", user)]
    assert (event.details["reason"], event.result, event.count) == ("left the company", "done", 1)
    assert (event.network, bool(event.request_id), event.at_ms) == ("127.0.0.1", True, auth.clock())
    assert len(await acts(auth, ann, actor=eve.account.user_id)) == 1
    assert len(await acts(auth, ann)) == len(auth.store.audit.events)
    assert await acts(auth, ann, since_ms=auth.clock() + 1) == []


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"kind": "no.kind"}, "INVALID_ARGUMENT"),
        ({"involving": "x" * 301}, "INVALID_ARGUMENT"),
        ({"since_ms": -1}, "INVALID_ARGUMENT"),
        ({"until_ms": 2**62}, "INVALID_ARGUMENT"),
        ({"page_token": "made up"}, "INVALID_PAGE_TOKEN"),
    ],
)
async def test_what_is_wrong_with_a_question_about_the_log_is_said(auth, ann, asked, reason):
    with refused("INVALID_ARGUMENT", reason):
        await auth.admin.ListAuditEvents(admin_pb2.ListAuditEventsRequest(**asked), metadata=ann.credentials)
