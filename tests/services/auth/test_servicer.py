"""The service as its callers see it: over gRPC, with the reasons that the contract names."""

import json

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from runtime.logs import structlog
from runtime.tokens import UserTokenVerifier, mint_service_token
from services.auth.records import DAY_MS, MINUTE_MS, SECOND_MS
from syncline.auth.v1 import auth_pb2, auth_pb2_grpc
from syncline.model.identifiers import new_request_id, new_text_id
from syncline.rpc.channel import aio_channel
from tests.services.auth.support import PASSWORD, Person, bearer, refused, serving

VIEWER, EDITOR, OWNER = auth_pb2.ROLE_VIEWER, auth_pb2.ROLE_EDITOR, auth_pb2.ROLE_OWNER
READ, WRITE = auth_pb2.ACCESS_READ, auth_pb2.ACCESS_WRITE


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path) as service:
        yield service


# ---- accounts


async def test_signing_up_makes_an_account_with_a_personal_space_and_a_device(auth):
    ann = await auth.sign_up("Ann@Example.com", device="  laptop ")
    assert ann.account.email == "ann@example.com"
    assert (ann.device.name, ann.device.revoked_at_ms) == ("laptop", 0)
    assert ann.tokens.access_expires_at_ms == auth.clock() + 15 * MINUTE_MS
    answer = await auth.stub.GetAccount(auth_pb2.GetAccountRequest(), metadata=ann.credentials)
    assert (answer.account, answer.device) == (ann.account, ann.device)
    listed = await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(), metadata=ann.credentials)
    assert list(listed.spaces) == [
        auth_pb2.Space(
            space_id=ann.account.personal_space_id, name="personal", role=OWNER, personal=True, alias="personal"
        )
    ]


async def test_an_address_has_one_account(auth):
    await auth.sign_up("ann@example.com")
    with refused("ALREADY_EXISTS", "ACCOUNT_EXISTS"):
        await auth.sign_up("ANN@example.com")


@pytest.mark.parametrize(
    "wrong", [{"email": "ann"}, {"password": "1234567"}, {"device_name": ""}, {"device_name": "x" * 101}]
)
async def test_what_is_malformed_is_refused(auth, wrong):
    request = {"email": "ann@example.com", "password": PASSWORD, "device_name": "laptop"} | wrong
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await auth.stub.SignUp(auth_pb2.SignUpRequest(**request))


async def test_signing_in_makes_another_device(auth):
    ann = await auth.sign_up("ann@example.com")
    auth.clock.advance(SECOND_MS)
    phone = await auth.sign_in("ann@EXAMPLE.com")
    assert phone.account == ann.account
    listed = await auth.stub.ListDevices(auth_pb2.ListDevicesRequest(), metadata=ann.credentials)
    assert list(listed.devices) == [phone.device, ann.device]


async def test_a_wrong_password_and_an_unknown_address_look_the_same(auth):
    await auth.sign_up("ann@example.com")
    with refused("UNAUTHENTICATED", "WRONG_PASSWORD") as wrong:
        await auth.sign_in("ann@example.com", password="wrong password")
    with refused("UNAUTHENTICATED", "WRONG_PASSWORD") as unknown:
        await auth.sign_in("bob@example.com")
    assert wrong.value.details() == unknown.value.details()


# ---- limits


async def fail_to_sign_in(auth, times, email="ann@example.com", metadata=None):
    for _ in range(times):
        with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
            await auth.sign_in(email, password="wrong password", metadata=metadata)


async def test_after_too_many_attempts_even_the_right_password_waits(tmp_path):
    async with serving(tmp_path, sign_in_limit_per_peer=3, sign_in_window_seconds=60) as auth:
        await auth.sign_up("ann@example.com")
        await fail_to_sign_in(auth, 3)
        auth.clock.advance(20 * SECOND_MS + 1)
        for _ in range(2):
            with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS", retry_after_seconds="40"):
                await auth.sign_in("ann@example.com")
        await fail_to_sign_in(auth, 1, email="bob@example.com")  # another address is another matter
        auth.clock.advance(40 * SECOND_MS)
        assert await auth.sign_in("ann@example.com")


async def test_a_right_password_begins_the_count_anew(tmp_path):
    async with serving(tmp_path, sign_in_limit_per_peer=3) as auth:
        await auth.sign_up("ann@example.com")
        for _ in range(3):
            await fail_to_sign_in(auth, 2)
            assert await auth.sign_in("ann@example.com")


async def test_who_guesses_elsewhere_does_not_lock_the_owner_out_until_the_address_has_had_enough(tmp_path):
    limits = {"sign_in_limit_per_peer": 2, "sign_in_limit_per_address": 5, "trusted_proxies": 1}
    async with serving(tmp_path, **limits) as auth:
        await auth.sign_up("ann@example.com")

        def from_peer(last: int):
            return (("x-forwarded-for", f"203.0.113.9, 192.0.2.{last}"),)

        for peer in (1, 2):
            await fail_to_sign_in(auth, 2, metadata=from_peer(peer))
            with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
                await auth.sign_in("ann@example.com", metadata=from_peer(peer))
        await auth.sign_in("ann@example.com", metadata=from_peer(3))  # the owner, and the address's count ends
        for peer in (4, 5):
            await fail_to_sign_in(auth, 2, metadata=from_peer(peer))
        await fail_to_sign_in(auth, 1, metadata=from_peer(6))
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS", retry_after_seconds="900"):
            await auth.sign_in("ann@example.com", metadata=from_peer(7))


# ---- tokens and devices


async def refresh(auth, token):
    return (await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=token))).tokens


async def test_refreshing(auth):
    ann = await auth.sign_up("ann@example.com")
    auth.clock.advance(20 * MINUTE_MS)
    with refused("UNAUTHENTICATED", "TOKEN_EXPIRED"):
        await auth.stub.GetAccount(auth_pb2.GetAccountRequest(), metadata=ann.credentials)
    tokens = await refresh(auth, ann.tokens.refresh_token)
    answer = await auth.stub.GetAccount(auth_pb2.GetAccountRequest(), metadata=bearer(tokens.access_token))
    assert answer.device.last_seen_at_ms == auth.clock()


async def test_a_copied_refresh_token_signs_the_device_out(auth):
    ann = await auth.sign_up("ann@example.com")
    stolen = ann.tokens.refresh_token
    latest = await refresh(auth, (await refresh(auth, stolen)).refresh_token)
    with refused("UNAUTHENTICATED", "REFRESH_TOKEN_REUSED"):
        await refresh(auth, stolen)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await refresh(auth, latest.refresh_token)


async def test_signing_out(auth):
    ann = await auth.sign_up("ann@example.com")
    for _ in range(2):
        await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=ann.credentials)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await refresh(auth, ann.tokens.refresh_token)


async def test_a_revoked_device_can_do_nothing_more(auth):
    ann = await auth.sign_up("ann@example.com")
    phone = await auth.sign_in("ann@example.com")
    space = await auth.create_space(phone)
    revoke = auth_pb2.RevokeDeviceRequest(device_id=phone.device.device_id)
    await auth.stub.RevokeDevice(revoke, metadata=ann.credentials)

    calls = [
        ("GetAccount", auth_pb2.GetAccountRequest()),
        ("ListDevices", auth_pb2.ListDevicesRequest()),
        ("RevokeDevice", auth_pb2.RevokeDeviceRequest(device_id=ann.device.device_id)),
        ("CreateSpace", auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name="more")),
        ("ListSpaces", auth_pb2.ListSpacesRequest()),
        ("ListMembers", auth_pb2.ListMembersRequest(space_id=space)),
        (
            "SetMember",
            auth_pb2.SetMemberRequest(request_id=new_request_id(), space_id=space, email="b@example.com", role=VIEWER),
        ),
        (
            "RemoveMember",
            auth_pb2.RemoveMemberRequest(request_id=new_request_id(), space_id=space, email="b@example.com"),
        ),
        ("IssueCredentials", auth_pb2.IssueCredentialsRequest(space_id=space, access=READ)),
    ]
    for method, request in calls:
        with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
            await getattr(auth.stub, method)(request, metadata=phone.credentials)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await refresh(auth, phone.tokens.refresh_token)
    checked = await auth.stub.CheckAccess(auth_pb2.CheckAccessRequest(space_id=space), metadata=phone.credentials)
    assert checked == auth_pb2.CheckAccessResponse(role=OWNER, device_revoked=True)

    listed = await auth.stub.ListDevices(auth_pb2.ListDevicesRequest(), metadata=ann.credentials)
    assert {device.device_id: device.revoked_at_ms for device in listed.devices} == {
        ann.device.device_id: 0,
        phone.device.device_id: auth.clock(),
    }


async def test_devices_of_others_are_out_of_reach(auth):
    ann, bob = await auth.sign_up("ann@example.com"), await auth.sign_up("bob@example.com")
    for device in (bob.device.device_id, new_text_id()):
        with refused("NOT_FOUND", "NO_SUCH_DEVICE"):
            await auth.stub.RevokeDevice(auth_pb2.RevokeDeviceRequest(device_id=device), metadata=ann.credentials)
    assert await refresh(auth, bob.tokens.refresh_token)


async def test_devices_that_expired_are_not_listed(auth):
    await auth.sign_up("ann@example.com")
    auth.clock.advance(60 * DAY_MS)
    phone = await auth.sign_in("ann@example.com")
    listed = await auth.stub.ListDevices(auth_pb2.ListDevicesRequest(), metadata=phone.credentials)
    assert list(listed.devices) == [phone.device]


async def test_others_verify_tokens_by_the_published_keys(auth):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    async def fetch():
        answer = await auth.stub.GetJwks(auth_pb2.GetJwksRequest())
        return {key.kid: Ed25519PublicKey.from_public_bytes(key.public_key) for key in answer.keys}

    ann = await auth.sign_up("ann@example.com")
    identity = await UserTokenVerifier(fetch, now=lambda: auth.clock() / 1000).verify(ann.tokens.access_token)
    assert (identity.user, identity.device) == (ann.account.user_id, ann.device.device_id)


async def test_only_these_methods_need_no_token(auth):
    service = auth_pb2.DESCRIPTOR.services_by_name["AuthService"]
    public = set()
    for method in service.methods:
        request = GetMessageClass(method.input_type)()
        try:
            await getattr(auth.stub, method.name)(request)
            public.add(method.name)
        except grpc.aio.AioRpcError as error:
            if "an access token is needed" not in (error.details() or ""):
                public.add(method.name)
    signing_in = {"SignUp", "SignIn", "RefreshToken", "ExchangeKey", "OpenLink", "GetJwks"}
    signing_in |= {"GetInvitation", "RefuseInvitation"}
    assert public == signing_in | {"RequestReset", "ResetPassword"}


# ---- spaces and members


async def test_a_request_makes_one_space(auth):
    ann, bob = await auth.sign_up("ann@example.com"), await auth.sign_up("bob@example.com")
    request = auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name="team")
    first = await auth.stub.CreateSpace(request, metadata=ann.credentials)
    again = await auth.stub.CreateSpace(request, metadata=ann.credentials)
    other = await auth.stub.CreateSpace(request, metadata=bob.credentials)
    assert first == again
    assert first.space.role == OWNER
    assert not first.space.personal
    assert other.space.space_id != first.space.space_id
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED"):
        renamed = auth_pb2.CreateSpaceRequest(request_id=request.request_id, name="crew")
        await auth.stub.CreateSpace(renamed, metadata=ann.credentials)


@pytest.mark.parametrize(
    "request_",
    [
        auth_pb2.CreateSpaceRequest(request_id=b"short", name="team"),
        auth_pb2.CreateSpaceRequest(request_id=bytes(16), name=" "),
        auth_pb2.CreateSpaceRequest(request_id=bytes(16), name="a\nb"),
        auth_pb2.CreateSpaceRequest(request_id=bytes(16), name="Personal"),
    ],
)
async def test_spaces_that_cannot_be(auth, request_):
    ann = await auth.sign_up("ann@example.com")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await auth.stub.CreateSpace(request_, metadata=ann.credentials)


async def test_sharing(auth):
    ann, bob = await auth.sign_up("ann@example.com"), await auth.sign_up("bob@example.com")
    for name in ("zoo", "Attic"):
        await auth.create_space(ann, name)
    team = await auth.create_space(ann, "team")
    member = await auth.share(team, ann, "BOB@example.com", EDITOR)
    assert member == auth_pb2.Member(user_id=bob.account.user_id, email="bob@example.com", role=EDITOR)

    of_ann = await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(), metadata=ann.credentials)
    of_bob = await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(), metadata=bob.credentials)
    assert [space.name for space in of_ann.spaces] == ["personal", "Attic", "team", "zoo"]
    assert [(space.name, space.role) for space in of_bob.spaces] == [("personal", OWNER), ("team", EDITOR)]

    request = auth_pb2.ListMembersRequest(space_id=team)
    for metadata in (bob.credentials, auth.as_service("notify")):
        members = await auth.stub.ListMembers(request, metadata=metadata)
        assert members.space_name == "team"
        assert [(member.email, member.role) for member in members.members] == [
            ("ann@example.com", OWNER),
            ("bob@example.com", EDITOR),
        ]


async def test_rules_of_sharing(auth):
    ann, bob = await auth.sign_up("ann@example.com"), await auth.sign_up("bob@example.com")
    team = await auth.create_space(ann)
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await auth.share(team, bob, "bob@example.com", OWNER)
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await auth.share(new_text_id(), ann, "bob@example.com", OWNER)
    with refused("NOT_FOUND", "NO_SUCH_ACCOUNT"):
        await auth.unshare(team, ann, "carol@example.com")
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
        await auth.share(ann.account.personal_space_id, ann, "bob@example.com", VIEWER)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await auth.share(team, ann, "bob@example.com", auth_pb2.ROLE_UNSPECIFIED)
    with refused("FAILED_PRECONDITION", "LAST_OWNER"):
        await auth.unshare(team, ann, "ann@example.com")
    await auth.share(team, ann, "bob@example.com", EDITOR)
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
        await auth.share(team, bob, "bob@example.com", OWNER)
    await auth.unshare(team, bob, "bob@example.com")
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await auth.stub.ListMembers(auth_pb2.ListMembersRequest(space_id=team), metadata=bob.credentials)
    await auth.share(team, ann, "bob@example.com", OWNER)
    await auth.unshare(team, ann, "ann@example.com")
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await auth.stub.ListMembers(auth_pb2.ListMembersRequest(space_id=team), metadata=ann.credentials)


# ---- access


async def check(auth, space, metadata, **whom):
    return await auth.stub.CheckAccess(auth_pb2.CheckAccessRequest(space_id=space, **whom), metadata=metadata)


async def test_access_is_checked_for_the_caller(auth):
    ann, bob = await auth.sign_up("ann@example.com"), await auth.sign_up("bob@example.com")
    team = await auth.create_space(ann)
    assert (await check(auth, team, ann.credentials)).role == OWNER
    assert await check(auth, team, bob.credentials) == auth_pb2.CheckAccessResponse()
    assert await check(auth, new_text_id(), ann.credentials) == auth_pb2.CheckAccessResponse()
    assert (await check(auth, team, ann.credentials, user_id=ann.account.user_id)).role == OWNER
    for whom in ({"user_id": bob.account.user_id}, {"device_id": bob.device.device_id}):
        with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
            await check(auth, team, ann.credentials, **whom)


async def test_services_check_many_at_once(auth):
    ann, bob = await auth.sign_up("ann@example.com"), await auth.sign_up("bob@example.com")
    phone = await auth.sign_in("ann@example.com")
    team, theirs, service = await auth.create_space(ann), await auth.create_space(bob), auth.as_service("notify")
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=phone.credentials)
    request = auth_pb2.BatchCheckAccessRequest(
        user_id=ann.account.user_id,
        space_ids=[team, theirs, ann.account.personal_space_id, team],
        device_ids=[ann.device.device_id, phone.device.device_id, bob.device.device_id],
    )
    found = await auth.stub.BatchCheckAccess(request, metadata=service)
    assert set(found.space_ids) == {team, ann.account.personal_space_id}
    assert set(found.revoked_device_ids) == {phone.device.device_id, bob.device.device_id}
    assert not found.expired_device_ids
    for many in ({"space_ids": [team] * 101}, {"device_ids": [ann.device.device_id] * 101}):
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
            await auth.stub.BatchCheckAccess(
                auth_pb2.BatchCheckAccessRequest(user_id=ann.account.user_id, **many), metadata=service
            )
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
        await auth.stub.BatchCheckAccess(request, metadata=ann.credentials)


async def writers(auth, space, by, *devices):
    request = auth_pb2.CheckWritersRequest(space_id=space, device_ids=devices)
    return set((await auth.stub.CheckWriters(request, metadata=by.credentials)).device_ids)


async def test_members_ask_by_which_devices_somebody_may_write(auth):
    ann, bob = await auth.sign_up("ann@example.com"), await auth.sign_up("bob@example.com")
    eve, phone = await auth.sign_up("eve@example.com"), await auth.sign_in("ann@example.com")
    team = await auth.create_space(ann)
    await auth.share(team, ann, "bob@example.com", auth_pb2.ROLE_VIEWER)
    devices = [one.device.device_id for one in (ann, bob, eve, phone)]
    assert await writers(auth, team, bob, *devices, new_text_id()) == {devices[0], devices[3]}
    await auth.share(team, ann, "bob@example.com", auth_pb2.ROLE_EDITOR)
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=phone.credentials)
    assert await writers(auth, team, bob, *devices) == {devices[0], devices[1]}
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await writers(auth, team, eve, *devices)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await writers(auth, team, ann, *(devices * 26))


async def test_services_check_access_for_anybody(auth):
    ann, bob = await auth.sign_up("ann@example.com"), await auth.sign_up("bob@example.com")
    team, service = await auth.create_space(ann), auth.as_service()
    whom = {"user_id": ann.account.user_id, "device_id": ann.device.device_id}
    assert await check(auth, team, service, **whom) == auth_pb2.CheckAccessResponse(role=OWNER)
    assert await check(auth, team, service, user_id=bob.account.user_id) == auth_pb2.CheckAccessResponse()
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=ann.credentials)
    assert await check(auth, team, service, **whom) == auth_pb2.CheckAccessResponse(role=OWNER, device_revoked=True)
    assert not (await check(auth, team, service, user_id=ann.account.user_id)).device_revoked
    for device in (new_text_id(), bob.device.device_id):
        assert (await check(auth, team, service, user_id=ann.account.user_id, device_id=device)).device_revoked
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await check(auth, team, service)


async def test_a_service_is_nobody_in_particular(auth):
    for method, request in (
        ("GetAccount", auth_pb2.GetAccountRequest()),
        ("ListSpaces", auth_pb2.ListSpacesRequest()),
        ("IssueCredentials", auth_pb2.IssueCredentialsRequest(space_id=new_text_id(), access=READ)),
    ):
        with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
            await getattr(auth.stub, method)(request, metadata=auth.as_service())
    forged = bearer(mint_service_token("metadata", "another secret that nobody shares", now=auth.clock() / 1000))
    with refused("UNAUTHENTICATED", "TOKEN_INVALID"):
        await check(auth, new_text_id(), forged, user_id=new_text_id())


async def test_credentials_are_for_one_space_and_one_access(auth):
    ann, bob = await auth.sign_up("ann@example.com"), await auth.sign_up("bob@example.com")
    team = await auth.create_space(ann)
    await auth.share(team, ann, "bob@example.com", VIEWER)
    issued = await auth.credentials(team, ann, WRITE)
    assert (issued.bucket, issued.key_prefix) == ("content", f"spaces/{team}/objects/")
    assert issued.expires_at_ms == auth.clock() + 15 * MINUTE_MS
    assert json.loads(auth.source.policies[-1])["Statement"][0]["Action"] == ["s3:GetObject", "s3:PutObject"]
    assert await auth.credentials(team, ann, WRITE) == issued

    assert await auth.credentials(team, bob, READ)
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
        await auth.credentials(team, bob, WRITE)
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await auth.credentials(ann.account.personal_space_id, bob)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await auth.credentials(team, ann, auth_pb2.ACCESS_UNSPECIFIED)
    await auth.unshare(team, ann, "bob@example.com")
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await auth.credentials(team, bob, READ)


# ---- secrets


async def test_nothing_secret_is_logged(tmp_path):
    with structlog.testing.capture_logs() as logs:
        async with serving(tmp_path, sign_in_limit_per_peer=2) as auth:
            ann = await auth.sign_up("ann@example.com")
            phone = await auth.sign_in("ann@example.com")
            issued = await auth.credentials(ann.account.personal_space_id, ann, WRITE)
            await fail_to_sign_in(auth, 2)
            with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
                await auth.sign_in("ann@example.com")
            tokens = await refresh(auth, (await refresh(auth, phone.tokens.refresh_token)).refresh_token)
            with refused("UNAUTHENTICATED", "REFRESH_TOKEN_REUSED"):
                await refresh(auth, phone.tokens.refresh_token)
            login = await auth.store.login("ann@example.com")
    assert logs
    assert login is not None
    everything = repr(logs) + repr(login)
    for secret in (
        PASSWORD,
        "wrong password",
        login.password_hash,
        ann.tokens.access_token,
        ann.tokens.refresh_token,
        tokens.refresh_token,
        issued.secret_access_key,
        issued.session_token,
    ):
        assert secret not in everything
    assert "ann@example.com" not in repr(logs)


async def test_a_person_is_who_the_token_says(auth):
    """A caller needs another's token to be another, whatever else the caller sends along."""
    ann, bob = await auth.sign_up("ann@example.com"), await auth.sign_up("bob@example.com")
    mixed = Person(ann.account, ann.device, bob.tokens)
    async with aio_channel(auth.target, authorization=lambda: mixed.tokens.access_token) as channel:
        answer = await auth_pb2_grpc.AuthServiceStub(channel).GetAccount(auth_pb2.GetAccountRequest())
    assert answer.account == bob.account
