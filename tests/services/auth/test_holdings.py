"""Nobody has more than there is room for, nobody is filled up by others, and nobody is locked out by a limit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.auth.holdings import is_full
from services.auth.records import DAY_MS, MINUTE_MS
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import DeviceId, SpaceId, UserId, new_request_id
from tests.services.auth.support import Person, Service, new_device, refused, serving

VIEWER, EDITOR, OWNER = auth_pb2.ROLE_VIEWER, auth_pb2.ROLE_EDITOR, auth_pb2.ROLE_OWNER
BROWSER = auth_pb2.DEVICE_KIND_BROWSER
LIMITS = {
    "spaces_per_person": 3,
    "memberships_per_person": 5,
    "members_per_space": 4,
    "devices_per_person": 3,
    "keys_per_person": 3,
    "links_per_space": 6,
    "links_per_person": 7,
    "rate_makes": 1000,
    "rate_shares": 1000,
}


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path, **LIMITS) as service:
        yield service


@pytest.fixture
async def ann(auth):
    return await auth.sign_up("ann@example.com")


def limited(limit: str):
    """The call is refused by this limit, with nothing to wait for."""
    return refused("RESOURCE_EXHAUSTED", "LIMIT_REACHED", limit=limit)


def refusals(limit: str) -> float:
    return REGISTRY.get_sample_value("syncline_limits_reached_total", {"limit": limit}) or 0


async def at_once(*calls: Any) -> tuple[int, int]:
    """Return how many of these calls are answered, and how many refused by a limit."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert all("RESOURCE_EXHAUSTED" in str(error) for error in failed), failed
    return len(answers) - len(failed), len(failed)


async def spaces_of(auth: Service, one: Person) -> list[str]:
    answer = await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(), metadata=one.credentials)
    return [space.name for space in answer.spaces]


async def devices_of(auth: Service, one: Person) -> list[auth_pb2.Device]:
    answer = await auth.stub.ListDevices(auth_pb2.ListDevicesRequest(), metadata=one.credentials)
    return list(answer.devices)


def new_space(name: str = "team") -> auth_pb2.CreateSpaceRequest:
    return auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name=name)


def new_key(auth: Service, name: str = "backup") -> auth_pb2.CreateKeyRequest:
    until = auth.clock() + 300 * DAY_MS
    return auth_pb2.CreateKeyRequest(request_id=new_request_id(), name=name, expires_at_ms=until)


def new_link(space: str, **given: Any) -> auth_pb2.CreateLinkRequest:
    return auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=space, node=bytes(16), **given)


# ---- spaces


async def test_a_person_makes_so_many_spaces(auth, ann):
    before = refusals("spaces")
    requests = [new_space(name) for name in "abc"]
    made = [await auth.stub.CreateSpace(request, metadata=ann.credentials) for request in requests]
    with limited("spaces") as caught:
        await auth.stub.CreateSpace(new_space(), metadata=ann.credentials)
    assert "3 spaces" in caught.value.details()
    assert refusals("spaces") == before + 1
    for request, first in zip(requests, made, strict=True):  # a repetition is answered as the first time
        assert await auth.stub.CreateSpace(request, metadata=ann.credentials) == first
    ben = await auth.sign_up("ben@example.com")
    await auth.share(made[0].space.space_id, ann, "ben@example.com", OWNER)
    await auth.unshare(made[0].space.space_id, ann, "ann@example.com")
    await auth.stub.CreateSpace(new_space("d"), metadata=ann.credentials)
    assert await spaces_of(auth, ann) == ["personal", "b", "c", "d"]
    assert await spaces_of(auth, ben) == ["personal", "a"]


async def test_spaces_made_at_once_are_no_more(auth, ann):
    calls = (auth.stub.CreateSpace(new_space(), metadata=ann.credentials) for _ in range(8))
    assert await at_once(*calls) == (3, 5)
    assert len(await spaces_of(auth, ann)) == 1 + 3


# ---- memberships


async def test_one_who_adds_a_person_everywhere_leaves_room_for_others(auth, ann):
    """By which nobody fills the list of somebody else, nor keeps others from inviting them."""
    victim = await auth.sign_up("victim@example.com")
    before = refusals("memberships")
    for name in "ab":
        await auth.share(await auth.create_space(ann, name), ann, "victim@example.com", OWNER)
    last = await auth.create_space(ann, "c")
    with limited("memberships") as caught:
        await auth.share(last, ann, "victim@example.com", VIEWER)
    assert "victim@example.com to 2 spaces" in caught.value.details()
    assert refusals("memberships") == before + 1
    ben = await auth.sign_up("ben@example.com")
    await auth.share(await auth.create_space(ben, "of ben"), ben, "victim@example.com", EDITOR)
    for name in "def":  # spaces of one's own are not counted, whatever others gave
        await auth.create_space(victim, name)
    assert await spaces_of(auth, victim) == ["personal", "a", "b", "d", "e", "f", "of ben"]


async def test_a_person_is_added_to_so_many_spaces(auth, ann):
    victim = await auth.sign_up("victim@example.com")
    others = [ann, *[await auth.sign_up(f"{name}@example.com") for name in ("ben", "eve", "dan", "kim", "joe")]]
    spaces = [await auth.create_space(one) for one in others]
    for one, space in list(zip(others, spaces, strict=True))[:5]:
        await auth.share(space, one, "victim@example.com", VIEWER)
    with limited("memberships") as caught:
        await auth.share(spaces[5], others[5], "victim@example.com", VIEWER)
    assert "5 spaces" in caught.value.details()
    await auth.share(spaces[0], ann, "victim@example.com", EDITOR)  # this grant adds nothing
    await auth.unshare(spaces[1], victim, "victim@example.com")
    await auth.share(spaces[5], others[5], "victim@example.com", VIEWER)


async def test_many_accounts_of_strangers_leave_room_for_those_whom_a_person_knows(tmp_path):
    async with serving(tmp_path, **LIMITS | {"memberships_per_person": 16, "members_per_space": 40}) as auth:
        victim, friend, stranger = [await auth.sign_up(f"{name}@example.com") for name in ("victim", "friend", "dan")]
        others = [await auth.sign_up(f"{number}@example.com") for number in range(14)]
        spaces = [await auth.create_space(one) for one in others]
        for one, space in zip(others, spaces, strict=True):
            await auth.share(space, one, "victim@example.com", VIEWER)
        for one in (stranger, friend):  # whom only others have let in beside the victim
            await auth.share(spaces[0], others[0], one.account.email, VIEWER)
            with limited("memberships") as caught:
                await auth.share(await auth.create_space(one), one, "victim@example.com", VIEWER)
            assert "victim@example.com to 14 spaces" in caught.value.details()
            assert "share one of their own spaces with you" in caught.value.details()
        await auth.share(await auth.create_space(victim), victim, "friend@example.com", VIEWER)
        await auth.share(await auth.create_space(friend), friend, "victim@example.com", VIEWER)
        with limited("memberships"):
            await auth.share(await auth.create_space(stranger), stranger, "victim@example.com", VIEWER)
        assert len(await spaces_of(auth, victim)) == 2 + 15


async def test_a_grant_that_is_repeated_is_answered_when_there_is_no_room_any_more(auth, ann):
    await auth.sign_up("victim@example.com")
    spaces = [await auth.create_space(ann, name) for name in "abc"]
    give = [
        auth_pb2.SetMemberRequest(request_id=new_request_id(), space_id=space, email="victim@example.com", role=VIEWER)
        for space in spaces
    ]
    answers = [await auth.stub.SetMember(request, metadata=ann.credentials) for request in give[:2]]
    with limited("memberships"):
        await auth.stub.SetMember(give[2], metadata=ann.credentials)
    assert [await auth.stub.SetMember(request, metadata=ann.credentials) for request in give[:2]] == answers


async def test_of_many_who_add_a_person_at_once_no_more_do_than_there_is_room(auth):
    victim = await auth.sign_up("victim@example.com")
    others = [await auth.sign_up(f"{number}@example.com") for number in range(8)]
    spaces = [await auth.create_space(one) for one in others]
    calls = [auth.share(space, one, "victim@example.com", VIEWER) for space, one in zip(spaces, others, strict=True)]
    assert await at_once(*calls) == (5, 3)
    assert len(await spaces_of(auth, victim)) == 1 + 5


async def test_a_space_has_so_many_members(auth, ann):
    space = await auth.create_space(ann)
    emails = [f"{number}@example.com" for number in range(6)]
    for email in emails:
        await auth.sign_up(email)
    assert await at_once(*(auth.share(space, ann, email, VIEWER) for email in emails)) == (3, 3)
    with limited("members") as caught:
        await auth.share(space, ann, (await left_out(auth, ann, space, emails))[0], VIEWER)
    assert "4 members" in caught.value.details()


async def left_out(auth: Service, ann: Person, space: str, emails: list[str]) -> list[str]:
    answer = await auth.stub.ListMembers(auth_pb2.ListMembersRequest(space_id=space), metadata=ann.credentials)
    return [email for email in emails if email not in {member.email for member in answer.members}]


# ---- devices


async def test_the_browser_that_is_unused_for_longest_makes_way(auth, ann):
    """Before a client does, which has a folder; who signs in is never refused."""
    before = refusals("devices")
    browsers = []
    for number in range(4):
        auth.clock.advance(MINUTE_MS)
        browsers.append(await auth.sign_in("ann@example.com", device=str(number), kind=BROWSER))
    names = [device.name for device in await devices_of(auth, ann)]
    assert names == ["3", "2", "laptop"]
    assert refusals("devices") == before + 2
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=browsers[0].key))
    await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=browsers[2].key))
    await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=ann.tokens.refresh_token))


async def test_clients_make_way_when_there_are_no_browsers(auth, ann):
    for number in range(3):
        auth.clock.advance(MINUTE_MS)
        newest = await auth.sign_in("ann@example.com", device=str(number))
    assert [device.name for device in await devices_of(auth, newest)] == ["2", "1", "0"]
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=ann.tokens.refresh_token))


async def test_devices_that_ended_leave_the_list_before_others_make_way(auth, ann):
    for number in range(6):
        auth.clock.advance(MINUTE_MS)
        phone = await auth.sign_in("ann@example.com", device=str(number))
        await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=phone.credentials)
    listed = await devices_of(auth, ann)
    assert [(device.name, bool(device.revoked_at_ms)) for device in listed] == [
        ("5", True),
        ("4", True),
        ("laptop", False),
    ]


async def test_who_signs_in_many_times_at_once_is_signed_in_with_so_many(auth, ann):
    people = await asyncio.gather(*(auth.sign_in("ann@example.com", device=str(number)) for number in range(8)))
    newest = await auth.sign_in("ann@example.com", device="last")
    listed = await devices_of(auth, newest)
    assert len([device for device in listed if not device.revoked_at_ms]) == 3
    assert "last" in [device.name for device in listed]
    assert len(people) == 8


async def test_a_list_that_is_far_too_long_is_short_again_after_a_while(auth, ann):
    user = UserId(ann.account.user_id)
    for number in range(50):
        await auth.store.add_device(new_device(user, now=auth.clock() - MINUTE_MS, name=str(number)))
    for _ in range(3):
        newest = await auth.sign_in("ann@example.com")
    assert len(await devices_of(auth, newest)) == 3


# ---- keys


async def test_a_person_has_so_many_keys(auth, ann):
    requests = [new_key(auth) for _ in range(3)]
    made = [await auth.stub.CreateKey(request, metadata=ann.credentials) for request in requests]
    with limited("keys") as caught:
        await auth.stub.CreateKey(new_key(auth), metadata=ann.credentials)
    assert "3 keys" in caught.value.details()
    for request, first in zip(requests, made, strict=True):
        assert await auth.stub.CreateKey(request, metadata=ann.credentials) == first
    await auth.sign_in("ann@example.com")  # devices are counted by themselves
    revoke = auth_pb2.RevokeDeviceRequest(device_id=made[0].device.device_id)
    await auth.stub.RevokeDevice(revoke, metadata=ann.credentials)
    await auth.stub.CreateKey(new_key(auth), metadata=ann.credentials)
    for one in made[1:]:
        await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=one.key))


async def test_keys_made_at_once_are_no_more(auth, ann):
    calls = (auth.stub.CreateKey(new_key(auth), metadata=ann.credentials) for _ in range(8))
    assert await at_once(*calls) == (3, 5)


async def test_keys_that_are_made_and_revoked_again_and_again_leave_a_short_list(auth, ann):
    first = new_key(auth)
    for request in (first, *(new_key(auth) for _ in range(9))):
        made = await auth.stub.CreateKey(request, metadata=ann.credentials)
        revoke = auth_pb2.RevokeDeviceRequest(device_id=made.device.device_id)
        await auth.stub.RevokeDevice(revoke, metadata=ann.credentials)
        auth.clock.advance(1)
    assert len(await devices_of(auth, ann)) == 1 + 3
    again = await auth.stub.CreateKey(first, metadata=ann.credentials)  # the key stays revoked
    assert again.device.revoked_at_ms
    assert (await auth.store.device(DeviceId(again.device.device_id))).revoked_at_ms
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=again.key))


# ---- links


async def test_one_who_makes_links_leaves_room_for_others(auth, ann):
    space = await auth.create_space(ann)
    ben = await auth.sign_up("ben@example.com")
    await auth.share(space, ann, "ben@example.com", EDITOR)
    requests = [new_link(space) for _ in range(3)]
    made = [await auth.stub.CreateLink(request, metadata=ann.credentials) for request in requests]
    with limited("links") as caught:
        await auth.stub.CreateLink(new_link(space), metadata=ann.credentials)
    assert "you have made 3 public links in this space; 3 more are kept" in caught.value.details()
    for request, first in zip(requests, made, strict=True):
        assert await auth.stub.CreateLink(request, metadata=ann.credentials) == first
    await auth.stub.CreateLink(new_link(space), metadata=ben.credentials)


async def test_links_made_at_once_are_no_more(auth, ann):
    space = ann.account.personal_space_id
    assert await at_once(*(auth.stub.CreateLink(new_link(space), metadata=ann.credentials) for _ in range(7))) == (3, 4)
    assert len(await auth.store.links(SpaceId(space))) == 3


async def end(auth: Service, made: auth_pb2.CreateLinkResponse, by: Person) -> None:
    request = auth_pb2.RevokeLinkRequest(
        request_id=new_request_id(), space_id=made.link.space_id, link_id=made.link.link_id
    )
    await auth.stub.RevokeLink(request, metadata=by.credentials)


async def test_a_link_that_was_ended_counts_for_a_day(auth, ann):
    """Links that are made and ended again and again are no more either, nor are they made again by an old request."""
    space = ann.account.personal_space_id
    first = new_link(space)
    for request in (first, new_link(space), new_link(space)):
        await end(auth, await auth.stub.CreateLink(request, metadata=ann.credentials), ann)
    with limited("links"):
        await auth.stub.CreateLink(new_link(space), metadata=ann.credentials)
    again = await auth.stub.CreateLink(first, metadata=ann.credentials)
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=again.token))
    auth.clock.advance(DAY_MS)
    await auth.stub.CreateLink(new_link(space), metadata=(await auth.sign_in("ann@example.com")).credentials)
    assert len(await auth.store.links(SpaceId(space))) == 1


async def test_links_that_have_expired_make_way(auth, ann):
    space = ann.account.personal_space_id
    for _ in range(3):
        soon = new_link(space, expires_at_ms=auth.clock() + 1000)
        await auth.stub.CreateLink(soon, metadata=ann.credentials)
    auth.clock.advance(1000)
    await auth.stub.CreateLink(new_link(space), metadata=ann.credentials)
    assert len(await auth.store.links(SpaceId(space))) == 1


async def test_links_of_who_may_not_write_any_more_make_way(auth, ann):
    """Nobody sees them, so that nobody else could end them."""
    space = await auth.create_space(ann)
    for name in ("ben", "eve"):
        one = await auth.sign_up(f"{name}@example.com")
        await auth.share(space, ann, f"{name}@example.com", EDITOR)
        for _ in range(3 if name == "ben" else 1):
            await auth.stub.CreateLink(new_link(space), metadata=one.credentials)
    for _ in range(2):
        await auth.stub.CreateLink(new_link(space), metadata=ann.credentials)
        await auth.share(space, ann, "ben@example.com", VIEWER)
    assert len(await auth.store.links(SpaceId(space))) == 3


async def test_a_person_makes_so_many_links_in_all_spaces(auth, ann):
    spaces = [ann.account.personal_space_id, await auth.create_space(ann), await auth.create_space(ann)]
    made = [
        await auth.stub.CreateLink(new_link(space), metadata=ann.credentials) for space in (*spaces[:2] * 3, spaces[2])
    ]
    with limited("links_made") as caught:
        await auth.stub.CreateLink(new_link(spaces[2]), metadata=ann.credentials)
    assert "7 public links" in caught.value.details()
    await end(auth, made[0], ann)
    await auth.stub.CreateLink(new_link(spaces[2]), metadata=ann.credentials)


async def test_links_in_spaces_that_their_maker_has_left_make_way(auth, ann):
    await auth.sign_up("ben@example.com")
    spaces = [await auth.create_space(ann, name) for name in "abc"]
    for space in (*spaces[:2] * 3, spaces[2]):
        await auth.stub.CreateLink(new_link(space), metadata=ann.credentials)
    await auth.share(spaces[0], ann, "ben@example.com", OWNER)
    await auth.unshare(spaces[0], ann, "ann@example.com")
    await auth.stub.CreateLink(new_link(spaces[2]), metadata=ann.credentials)
    assert len(await auth.store.links(SpaceId(spaces[0]))) == 0


# ---- shares


@pytest.mark.parametrize("limit", [3, 10, 1000])
def test_whoever_comes_next_finds_something(limit):
    total = held = 0
    while not is_full(limit, total=total, held=held):
        total, held = total + 1, held + 1
    assert held == max(1, limit // 2)
    assert not is_full(limit, total=total, held=0)
    assert is_full(limit, total=limit, held=0)
