"""A mutation request that is repeated with its id is carried out once and answered as the first time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.auth.derived import DerivedSecrets, derived_id
from services.auth.records import DAY_MS
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import ROOT, UserId, new_request_id, new_text_id
from tests.services.auth.support import PASSWORD, Person, Service, refused, serving

VIEWER, EDITOR, OWNER = auth_pb2.ROLE_VIEWER, auth_pb2.ROLE_EDITOR, auth_pb2.ROLE_OWNER


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path) as service:
        yield service


def reused():
    return refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED")


def key_request(auth: Service, **given) -> auth_pb2.CreateKeyRequest:
    usual: dict[str, Any] = {
        "request_id": new_request_id(),
        "name": "backup",
        "expires_at_ms": auth.clock() + 10 * DAY_MS,
    }
    return auth_pb2.CreateKeyRequest(**(usual | given))


async def test_a_repeated_request_makes_one_key_and_tells_it_again(auth):
    ann = await auth.sign_up("ann@example.com")
    request = key_request(auth)
    first = await auth.stub.CreateKey(request, metadata=ann.credentials)
    auth.clock.advance(1000)
    again = await auth.stub.CreateKey(request, metadata=ann.credentials)
    assert again == first
    assert (await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=again.key))).tokens.access_token
    listed = await auth.stub.ListDevices(auth_pb2.ListDevicesRequest(), metadata=ann.credentials)
    assert len(listed.devices) == 2
    for other in ({"name": "other"}, {"expires_at_ms": auth.clock() + 9 * DAY_MS}):
        with reused():
            await auth.stub.CreateKey(
                key_request(auth, request_id=request.request_id, **other), metadata=ann.credentials
            )
    another = await auth.stub.CreateKey(key_request(auth), metadata=ann.credentials)
    assert another.key != first.key


async def test_at_once_a_request_makes_one_key(auth):
    ann = await auth.sign_up("ann@example.com")
    request = key_request(auth)
    made = await asyncio.gather(*(auth.stub.CreateKey(request, metadata=ann.credentials) for _ in range(8)))
    assert len({answer.key for answer in made}) == 1


async def test_a_request_id_means_nothing_in_other_hands(auth):
    ann, ben = await auth.sign_up("ann@example.com"), await auth.sign_up("ben@example.com")
    request = key_request(auth)
    hers, his = [await auth.stub.CreateKey(request, metadata=one.credentials) for one in (ann, ben)]
    assert hers.key != his.key
    assert hers.device.device_id != his.device.device_id


async def test_a_key_that_was_revoked_stays_so_whatever_is_repeated(auth):
    ann = await auth.sign_up("ann@example.com")
    request = key_request(auth)
    made = await auth.stub.CreateKey(request, metadata=ann.credentials)
    revoke = auth_pb2.RevokeDeviceRequest(device_id=made.device.device_id)
    await auth.stub.RevokeDevice(revoke, metadata=ann.credentials)
    again = await auth.stub.CreateKey(request, metadata=ann.credentials)
    assert again.device.revoked_at_ms == auth.clock()
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=again.key))


def link_request(auth: Service, by: Person, **given) -> auth_pb2.CreateLinkRequest:
    usual: dict[str, Any] = {
        "request_id": new_request_id(),
        "space_id": by.account.personal_space_id,
        "node": ROOT,
        "password": PASSWORD,
        "expires_at_ms": auth.clock() + DAY_MS,
        "max_downloads": 3,
    }
    return auth_pb2.CreateLinkRequest(**(usual | given))


async def test_a_repeated_request_makes_one_link_and_tells_its_token_again(auth):
    ann = await auth.sign_up("ann@example.com")
    other_space = await auth.create_space(ann)
    for password in (PASSWORD, ""):
        request = link_request(auth, ann, password=password)
        first = await auth.stub.CreateLink(request, metadata=ann.credentials)
        assert len(first.token) == 22
        assert await auth.stub.CreateLink(request, metadata=ann.credentials) == first
        opened = await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=first.token, password=password))
        assert opened.link.link_id == first.link.link_id
        others = (
            {"node": b"n" * 16},
            {"password": "another password"},
            {"password": "" if password else PASSWORD},
            {"expires_at_ms": 0},
            {"max_downloads": 4},
            {"space_id": other_space},
        )
        for other in others:
            changed = {"request_id": request.request_id, "password": password} | other
            with reused():
                await auth.stub.CreateLink(link_request(auth, ann, **changed), metadata=ann.credentials)
    listing = auth_pb2.ListLinksRequest(space_id=ann.account.personal_space_id)
    assert len((await auth.stub.ListLinks(listing, metadata=ann.credentials)).links) == 2


async def test_a_repeated_grant_does_not_undo_what_came_after_it(auth):
    ann, ben = await auth.sign_up("ann@example.com"), await auth.sign_up("ben@example.com")
    space = await auth.create_space(ann)
    give = auth_pb2.SetMemberRequest(request_id=new_request_id(), space_id=space, email="ben@example.com", role=EDITOR)
    first = await auth.stub.SetMember(give, metadata=ann.credentials)
    await auth.share(space, ann, "ben@example.com", VIEWER)
    assert await auth.stub.SetMember(give, metadata=ann.credentials) == first
    checked = await auth.stub.CheckAccess(auth_pb2.CheckAccessRequest(space_id=space), metadata=ben.credentials)
    assert checked.role == VIEWER
    give.role = OWNER
    with reused():
        await auth.stub.SetMember(give, metadata=ann.credentials)
    take = auth_pb2.RemoveMemberRequest(request_id=give.request_id, space_id=space, email="ben@example.com")
    with reused():
        await auth.stub.RemoveMember(take, metadata=ann.credentials)


async def test_who_has_left_a_space_may_repeat_the_request(auth):
    ann, ben = await auth.sign_up("ann@example.com"), await auth.sign_up("ben@example.com")
    space = await auth.create_space(ann)
    await auth.share(space, ann, "ben@example.com", EDITOR)
    leave = auth_pb2.RemoveMemberRequest(request_id=new_request_id(), space_id=space, email="ben@example.com")
    for _ in range(2):
        await auth.stub.RemoveMember(leave, metadata=ben.credentials)
    await auth.share(space, ann, "ben@example.com", EDITOR)
    await auth.stub.RemoveMember(leave, metadata=ben.credentials)
    checked = await auth.stub.CheckAccess(auth_pb2.CheckAccessRequest(space_id=space), metadata=ben.credentials)
    assert checked.role == EDITOR


async def test_a_grant_that_changed_nothing_is_noted_too(auth):
    ann = await auth.sign_up("ann@example.com")
    await auth.sign_up("ben@example.com")
    space = await auth.create_space(ann)
    await auth.share(space, ann, "ben@example.com", EDITOR)
    same = auth_pb2.SetMemberRequest(request_id=new_request_id(), space_id=space, email="ben@example.com", role=EDITOR)
    await auth.stub.SetMember(same, metadata=ann.credentials)
    await auth.share(space, ann, "ben@example.com", VIEWER)
    await auth.stub.SetMember(same, metadata=ann.credentials)
    members = await auth.stub.ListMembers(auth_pb2.ListMembersRequest(space_id=space), metadata=ann.credentials)
    assert {member.email: member.role for member in members.members} == {
        "ann@example.com": OWNER,
        "ben@example.com": VIEWER,
    }


def test_what_is_derived_differs_by_all_that_it_is_derived_from():
    users, requests = [UserId(new_text_id()) for _ in range(2)], [new_request_id() for _ in range(2)]
    seeds = [(kind, user, request) for kind in ("key", "link") for user in users for request in requests]
    one, other = DerivedSecrets("one"), DerivedSecrets("other")
    made = [derived.secret(*seed, size=16) for derived in (one, other) for seed in seeds]
    made += [derived_id(*seed) for seed in seeds]
    assert len(set(made)) == len(made)
    assert one.secret(*seeds[0], size=16) == made[0]
    assert len(one.secret(*seeds[0], size=32)) == 43
