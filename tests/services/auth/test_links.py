"""Public links, as those who make them and those who open them meet them."""

from typing import Any

import jwt
import pytest

from runtime.logs import structlog
from runtime.permissions import READERS, RPCS, CallerKind
from services.auth.opaque_tokens import token_digest
from services.auth.records import DAY_MS, MINUTE_MS, SECOND_MS
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import ROOT, new_request_id, new_text_id
from syncline.rpc.channel import aio_channel
from tests.services.auth.support import Person, bearer, refused, serving
from tests.services.refusals import methods_open_to
from tests.support.passwords import STRONG

VIEWER, EDITOR, OWNER = auth_pb2.ROLE_VIEWER, auth_pb2.ROLE_EDITOR, auth_pb2.ROLE_OWNER
SERVICE = auth_pb2.DESCRIPTOR.services_by_name["AuthService"]
PUBLIC = {name for name, callers in RPCS.items() if CallerKind.ANONYMOUS in callers}
NODE = bytes(range(16))
LINK_PASSWORD = "open sesame"


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path) as service:
        yield service


@pytest.fixture
async def ann(auth):
    return await auth.sign_up("ann@example.com")


@pytest.fixture
async def team(auth, ann):
    return await auth.create_space(ann)


async def create(auth, by: Person, space: str, *, node: bytes = NODE, **given):
    request = auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=space, node=node, **given)
    return await auth.stub.CreateLink(request, metadata=by.credentials)


async def listed(auth, by: Person, space: str) -> list[auth_pb2.Link]:
    answer = await auth.stub.ListLinks(auth_pb2.ListLinksRequest(space_id=space), metadata=by.credentials)
    return list(answer.links)


async def revoke(auth, by: Person, space: str, link: str) -> None:
    request = auth_pb2.RevokeLinkRequest(request_id=new_request_id(), space_id=space, link_id=link)
    await auth.stub.RevokeLink(request, metadata=by.credentials)


async def open_link(auth, token: str, password: str = "", metadata=None):
    return await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=token, password=password), metadata=metadata)


async def opened(auth, token: str, password: str = ""):
    """The credentials of who opened a link."""
    return bearer((await open_link(auth, token, password)).access_token)


async def role(auth, credentials, space: str, **whom):
    request = auth_pb2.CheckAccessRequest(space_id=space, **whom)
    answer = await auth.stub.CheckAccess(request, metadata=credentials)
    assert not answer.device_revoked
    return answer.role


async def count(auth, credentials) -> None:
    await auth.stub.CountLinkDownload(auth_pb2.CountLinkDownloadRequest(), metadata=credentials)


async def add_bob(auth, ann: Person, space: str, role=EDITOR):
    bob = await auth.sign_up("bob@example.com")
    await auth.share(space, ann, "bob@example.com", role)
    return bob


# ---- making, listing, revoking


async def test_a_link_opens_its_node_for_reading(auth, ann, team):
    made = await create(auth, ann, team)
    assert made.link == auth_pb2.Link(
        link_id=made.link.link_id,
        space_id=team,
        node=NODE,
        user_id=ann.account.user_id,
        created_at_ms=auth.clock(),
        made_by=ann.device.device_id,
    )
    assert len(made.token) == 22
    answer = await open_link(auth, made.token)
    assert answer.link == made.link
    assert answer.access_expires_at_ms == auth.clock() + 12 * 60 * MINUTE_MS
    claims = jwt.decode(answer.access_token, options={"verify_signature": False})
    assert len(claims.pop("vis")) == 16
    assert claims == {
        "iss": "syncline",
        "aud": "syncline",
        "sub": made.link.link_id,
        "spc": team,
        "nod": NODE.hex(),
        "iat": auth.clock() // SECOND_MS,
        "exp": auth.clock() // SECOND_MS + 12 * 3600,
    }
    assert await role(auth, bearer(answer.access_token), team) == VIEWER


async def test_links_are_listed_newest_first_for_those_who_may_write(auth, ann, team):
    first = await create(auth, ann, team, node=ROOT)
    auth.clock.advance(SECOND_MS)
    bob = await add_bob(auth, ann, team)
    given = {"password": "x", "expires_at_ms": auth.clock() + DAY_MS, "max_downloads": 3}
    second = await create(auth, bob, team, **given)
    assert (second.link.has_password, second.link.max_downloads, second.link.downloads) == (True, 3, 0)
    assert second.link.expires_at_ms == auth.clock() + DAY_MS
    for person in (ann, bob):
        assert await listed(auth, person, team) == [second.link, first.link]
    assert await listed(auth, ann, ann.account.personal_space_id) == []


@pytest.mark.parametrize(
    "wrong",
    [{"node": b""}, {"node": bytes(15)}, {"password": "x" * 1025}, {"expires_at_ms": -1}, {"expires_at_ms": 1}],
)
async def test_links_that_cannot_be(auth, ann, team, wrong):
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await create(auth, ann, team, **wrong)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await create(auth, ann, team, expires_at_ms=auth.clock())
    assert await listed(auth, ann, team) == []


async def test_only_those_who_may_write_decide_about_links(auth, ann, team):
    made = await create(auth, ann, team)
    bob = await add_bob(auth, ann, team, VIEWER)
    carol = await auth.sign_up("carol@example.com")
    for person, code in ((bob, "PERMISSION_DENIED"), (carol, "NOT_FOUND")):
        reason = "PERMISSION_DENIED" if code == "PERMISSION_DENIED" else "NO_SUCH_SPACE"
        with refused(code, reason):
            await create(auth, person, team)
        with refused(code, reason):
            await listed(auth, person, team)
        with refused(code, reason):
            await revoke(auth, person, team, made.link.link_id)
    assert (await open_link(auth, made.token)).link == made.link
    await auth.share(team, ann, "bob@example.com", EDITOR)
    await revoke(auth, bob, team, made.link.link_id)
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=bob.credentials)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await listed(auth, bob, team)


async def test_a_revoked_link_is_at_an_end(auth, ann, team):
    made, kept = await create(auth, ann, team), await create(auth, ann, team)
    credentials = await opened(auth, made.token)
    for _ in range(2):  # the first answer may have been lost
        await revoke(auth, ann, team, made.link.link_id)
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await open_link(auth, made.token)
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await count(auth, credentials)
    assert await role(auth, credentials, team) == auth_pb2.ROLE_UNSPECIFIED
    assert await listed(auth, ann, team) == [kept.link]
    assert (await open_link(auth, kept.token)).link == kept.link


async def test_links_are_revoked_in_their_own_space(auth, ann, team):
    made = await create(auth, ann, team)
    for space, link in ((ann.account.personal_space_id, made.link.link_id), (team, new_text_id())):
        with refused("NOT_FOUND", "NO_SUCH_LINK"):
            await revoke(auth, ann, space, link)
    assert await listed(auth, ann, team) == [made.link]


# ---- opening


@pytest.mark.parametrize("token", ["", "x", "A" * 22, "A" * 21 + "=", "é" * 22, "A" * 60_000])
async def test_an_unknown_token(auth, ann, team, token):
    await create(auth, ann, team)
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await open_link(auth, token)


async def test_a_link_expires_with_what_was_opened_by_it(auth, ann, team):
    made = await create(auth, ann, team, expires_at_ms=auth.clock() + 2 * MINUTE_MS)
    auth.clock.advance(MINUTE_MS)
    answer = await open_link(auth, made.token)
    assert answer.access_expires_at_ms == made.link.expires_at_ms
    auth.clock.advance(MINUTE_MS - 1)
    assert await listed(auth, ann, team) == [made.link]
    assert await role(auth, bearer(answer.access_token), team) == VIEWER
    auth.clock.advance(1)
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await open_link(auth, made.token)
    with refused("UNAUTHENTICATED", "TOKEN_EXPIRED"):
        await role(auth, bearer(answer.access_token), team)
    assert await listed(auth, ann, team) == []


@pytest.mark.parametrize("to", [VIEWER, None])
async def test_a_link_opens_only_as_long_as_its_maker_may_write(auth, ann, team, to):
    bob = await add_bob(auth, ann, team)
    made = await create(auth, bob, team, max_downloads=5)
    credentials = await opened(auth, made.token)
    if to is None:
        await auth.unshare(team, ann, "bob@example.com")
    else:
        await auth.share(team, ann, "bob@example.com", to)
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await open_link(auth, made.token)
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await count(auth, credentials)
    assert await role(auth, credentials, team) == auth_pb2.ROLE_UNSPECIFIED
    assert await listed(auth, ann, team) == []
    auth.clock.advance(1000)
    await auth.share(team, ann, "bob@example.com", OWNER)  # another right, and not the one that has ended
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await open_link(auth, made.token)
    assert await role(auth, credentials, team) == auth_pb2.ROLE_UNSPECIFIED
    assert await listed(auth, ann, team) == []
    again = await create(auth, bob, team)
    assert await role(auth, await opened(auth, again.token), team) == VIEWER
    assert await listed(auth, ann, team) == [again.link]


async def test_a_link_opens_while_its_maker_goes_from_one_role_that_writes_to_another(auth, ann, team):
    bob = await add_bob(auth, ann, team)
    made = await create(auth, bob, team)
    auth.clock.advance(1000)
    await auth.share(team, ann, "bob@example.com", OWNER)
    assert await role(auth, await opened(auth, made.token), team) == VIEWER


# ---- passwords


async def test_a_password_is_asked_for(auth, ann, team):
    made = await create(auth, ann, team, password=LINK_PASSWORD)
    for _ in range(20):  # to ask whether there is one is no attempt
        with refused("UNAUTHENTICATED", "LINK_PASSWORD_NEEDED"):
            await open_link(auth, made.token)
    for wrong in ("open", LINK_PASSWORD + " "):
        with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
            await open_link(auth, made.token, wrong)
    assert (await open_link(auth, made.token, LINK_PASSWORD)).link == made.link


async def test_a_link_without_a_password_takes_any(auth, ann, team):
    made = await create(auth, ann, team)
    assert (await open_link(auth, made.token, "whatever")).link == made.link


async def guess(auth, token, times, metadata=None):
    for _ in range(times):
        with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
            await open_link(auth, token, "wrong", metadata)


def peer(last: int):
    return (("x-forwarded-for", f"203.0.113.9, 192.0.2.{last}"),)


async def test_guessing_is_slowed_down_for_each_link_and_peer(tmp_path):
    async with serving(tmp_path, sign_in_limit_per_peer=3, sign_in_window_seconds=60, trusted_proxies=1) as auth:
        ann = await auth.sign_up("ann@example.com")
        space = ann.account.personal_space_id
        made = await create(auth, ann, space, password=LINK_PASSWORD)
        other = await create(auth, ann, space, password=LINK_PASSWORD)
        await guess(auth, made.token, 3, peer(1))
        auth.clock.advance(20 * SECOND_MS + 1)
        for password in ["wrong", LINK_PASSWORD] * 500:
            with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS", retry_after_seconds="40"):
                await open_link(auth, made.token, password, peer(1))
        # Somebody else, another link and the maker's own account are other matters.
        assert await open_link(auth, other.token, LINK_PASSWORD, peer(1))
        assert await auth.sign_in("ann@example.com", metadata=peer(1))
        assert await open_link(auth, made.token, LINK_PASSWORD, peer(2))
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await open_link(auth, made.token, LINK_PASSWORD, peer(1))
        auth.clock.advance(40 * SECOND_MS)
        assert await open_link(auth, made.token, LINK_PASSWORD, peer(1))


async def test_guessing_from_everywhere_is_slowed_down_too(tmp_path):
    limits = {"sign_in_limit_per_peer": 2, "sign_in_limit_per_address": 5, "trusted_proxies": 1}
    async with serving(tmp_path, **limits) as auth:
        ann = await auth.sign_up("ann@example.com")
        made = await create(auth, ann, ann.account.personal_space_id, password=LINK_PASSWORD)
        for number in (1, 2):
            await guess(auth, made.token, 2, peer(number))
        await guess(auth, made.token, 1, peer(3))
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS", retry_after_seconds="900"):
            await open_link(auth, made.token, LINK_PASSWORD, peer(4))


async def test_a_right_password_begins_the_count_anew(tmp_path):
    async with serving(tmp_path, sign_in_limit_per_peer=3) as auth:
        ann = await auth.sign_up("ann@example.com")
        made = await create(auth, ann, ann.account.personal_space_id, password=LINK_PASSWORD)
        for _ in range(3):
            await guess(auth, made.token, 2)
            assert await open_link(auth, made.token, LINK_PASSWORD)


# ---- downloads


async def test_a_repeated_request_counts_one_download(auth, ann, team):
    """An answer may be lost, that about the last download too."""
    made = await create(auth, ann, team, max_downloads=2)
    visitor = await opened(auth, made.token)
    requests = [auth_pb2.CountLinkDownloadRequest(request_id=new_request_id()) for _ in range(3)]
    for number in (0, 0, 1, 1, 0):
        answer = await auth.stub.CountLinkDownload(requests[number], metadata=visitor)
        assert answer.limited
    with refused("RESOURCE_EXHAUSTED", "LINK_EXHAUSTED"):
        await auth.stub.CountLinkDownload(requests[2], metadata=visitor)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await auth.stub.CountLinkDownload(auth_pb2.CountLinkDownloadRequest(request_id=b"short"), metadata=visitor)


async def test_downloads_are_counted_where_they_are_limited(auth, ann, team):
    made = await create(auth, ann, team, max_downloads=2)
    credentials = await opened(auth, made.token)
    for number in (1, 2):
        await count(auth, credentials)
        assert [link.downloads for link in await listed(auth, ann, team)] == [number]
    for _ in range(2):
        with refused("RESOURCE_EXHAUSTED", "LINK_EXHAUSTED"):
            await count(auth, credentials)
    # The link can still be opened, which tells that it is used up.
    again = await open_link(auth, made.token)
    assert (again.link.downloads, again.link.max_downloads) == (2, 2)
    with refused("RESOURCE_EXHAUSTED", "LINK_EXHAUSTED"):
        await count(auth, bearer(again.access_token))


async def test_downloads_without_a_limit_are_not_counted(auth, ann, team):
    made = await create(auth, ann, team)
    credentials = await opened(auth, made.token)
    for _ in range(3):
        await count(auth, credentials)
    assert await listed(auth, ann, team) == [made.link]


async def test_only_a_link_counts_downloads(auth, ann):
    for credentials in (ann.credentials, auth.as_service()):
        with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
            await count(auth, credentials)


# ---- what an opened link may not do


async def test_an_opened_link_reads_its_own_space_only(auth, ann, team):
    made = await create(auth, ann, team)
    credentials = await opened(auth, made.token)
    for space in (ann.account.personal_space_id, new_text_id()):
        assert await role(auth, credentials, space) == auth_pb2.ROLE_UNSPECIFIED
    for whom in (
        {"user_id": ann.account.user_id},
        {"device_id": ann.device.device_id},
        {"user_id": ann.account.user_id, "device_id": ann.device.device_id},
    ):
        with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
            await role(auth, credentials, team, **whom)


async def test_every_other_method_refuses_an_opened_link(auth, ann, team):
    credentials = await opened(auth, (await create(auth, ann, team)).token)
    async with aio_channel(auth.target) as channel:
        found = await methods_open_to(channel, SERVICE, credentials)
    assert {name.rpartition("/")[2] for name in found - PUBLIC} == {"CheckAccess", "CountLinkDownload"}


async def test_the_methods_refuse_it_by_themselves_as_well(tmp_path):
    """The methods are called as if nobody at the door knew what a link is."""
    everything = {f"{SERVICE.full_name}/{method.name}" for method in SERVICE.methods} - PUBLIC
    async with serving(tmp_path, operations=dict(RPCS) | dict.fromkeys(everything, READERS)) as auth:
        ann = await auth.sign_up("ann@example.com")
        space = ann.account.personal_space_id
        credentials = await opened(auth, (await create(auth, ann, space)).token)
        request_id, until = new_request_id(), auth.clock() + DAY_MS
        member: dict[str, Any] = {"request_id": request_id, "space_id": space, "email": "ann@example.com"}
        requests = {
            "CreateKey": auth_pb2.CreateKeyRequest(request_id=request_id, name="x", expires_at_ms=until),
            "SignOut": auth_pb2.SignOutRequest(),
            "GetAccount": auth_pb2.GetAccountRequest(),
            "RequestProof": auth_pb2.RequestProofRequest(),
            "ProveAddress": auth_pb2.ProveAddressRequest(token="x" * 43),
            "ListDevices": auth_pb2.ListDevicesRequest(),
            "RevokeDevice": auth_pb2.RevokeDeviceRequest(device_id=ann.device.device_id),
            "CreateSpace": auth_pb2.CreateSpaceRequest(request_id=request_id, name="x"),
            "ListSpaces": auth_pb2.ListSpacesRequest(),
            "ListMembers": auth_pb2.ListMembersRequest(space_id=space),
            "SetMember": auth_pb2.SetMemberRequest(role=OWNER, **member),
            "RemoveMember": auth_pb2.RemoveMemberRequest(**member),
            "IssueCredentials": auth_pb2.IssueCredentialsRequest(space_id=space, access=auth_pb2.ACCESS_READ),
            "RenameSpace": auth_pb2.RenameSpaceRequest(request_id=request_id, space_id=space, name="x"),
            "DeleteSpace": auth_pb2.DeleteSpaceRequest(request_id=request_id, space_id=space),
            "UndeleteSpace": auth_pb2.UndeleteSpaceRequest(request_id=request_id, space_id=space),
            "ListDeletedSpaces": auth_pb2.ListDeletedSpacesRequest(),
            "TransferSpace": auth_pb2.TransferSpaceRequest(**member),
            "ListInvitations": auth_pb2.ListInvitationsRequest(space_id=space),
            "RevokeInvitation": auth_pb2.RevokeInvitationRequest(**member),
            "AcceptInvitation": auth_pb2.AcceptInvitationRequest(request_id=request_id, space_id=space),
            "DeclineInvitation": auth_pb2.DeclineInvitationRequest(request_id=request_id, space_id=space),
            "ListWrittenSpaces": auth_pb2.ListWrittenSpacesRequest(),
            "BatchCheckAccess": auth_pb2.BatchCheckAccessRequest(user_id=ann.account.user_id),
            "CheckWriters": auth_pb2.CheckWritersRequest(space_id=space),
            "SetUploads": auth_pb2.SetUploadsRequest(space_id=space, refused=True),
            "ReserveBytes": auth_pb2.ReserveBytesRequest(space_id=space),
            "CreateLink": auth_pb2.CreateLinkRequest(request_id=request_id, space_id=space, node=ROOT),
            "ListLinks": auth_pb2.ListLinksRequest(space_id=space),
            "ChangePassword": auth_pb2.ChangePasswordRequest(
                request_id=request_id, current_password=LINK_PASSWORD, new_password=STRONG
            ),
            "ListFactors": auth_pb2.ListFactorsRequest(),
            "AddTotp": auth_pb2.AddTotpRequest(request_id=request_id, password=LINK_PASSWORD),
            "ConfirmTotp": auth_pb2.ConfirmTotpRequest(code="123456"),
            "RemoveFactor": auth_pb2.RemoveFactorRequest(password=LINK_PASSWORD, code="123456"),
            "RevokeLink": auth_pb2.RevokeLinkRequest(request_id=request_id, space_id=space, link_id=new_text_id()),
        }
        open_to_links = {name for name in everything if CallerKind.VISITOR in RPCS[name]}
        assert {f"{SERVICE.full_name}/{name}" for name in requests} == everything - open_to_links
        for name, request in requests.items():
            with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
                await getattr(auth.stub, name)(request, metadata=credentials)


# ---- secrets


async def test_no_secret_of_a_link_is_stored_or_logged(tmp_path):
    with structlog.testing.capture_logs() as logs:
        async with serving(tmp_path, sign_in_limit_per_peer=2) as auth:
            ann = await auth.sign_up("ann@example.com")
            space = ann.account.personal_space_id
            made = await create(auth, ann, space, password=LINK_PASSWORD)
            answer = await open_link(auth, made.token, LINK_PASSWORD)
            await count(auth, bearer(answer.access_token))
            await guess(auth, made.token, 2)
            with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
                await open_link(auth, made.token, LINK_PASSWORD)
            stored = await auth.store.link_with_token(token_digest(made.token))
            await revoke(auth, ann, space, made.link.link_id)
    assert stored is not None
    assert stored.password_hash is not None
    assert {entry["event"] for entry in logs} >= {"link created", "link revoked"}
    everything = repr(logs) + repr(stored)
    for secret in (made.token, LINK_PASSWORD, stored.password_hash, str(stored.token), answer.access_token):
        assert secret not in everything
