"""Listings come in pages, bounded by count and by bytes, whatever there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.auth.records import SpaceRecord
from syncline.auth.v1 import auth_pb2
from syncline.model.accounts import Role
from syncline.model.identifiers import SpaceId, UserId, new_text_id
from tests.services.auth.support import change_grant, new_account, new_device, new_link, refused, serving

MANY = 1203
GRPC_LIMIT = 4 * 1024 * 1024


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path) as service:
        yield service


@pytest.fixture
async def ann(auth):
    return await auth.sign_up("ann@example.com")


async def in_pages(method, request: Any, entries: str, ann, *, size: int) -> list[Any]:
    """Everything, page by page of at most `size` entries (0: as many as the service likes)."""
    found: list[Any] = []
    request.page_size, request.page_token = size, ""
    while True:
        page = await method(request, metadata=ann.credentials)
        some = getattr(page, entries)
        assert 0 < len(some) <= (size or 1000)
        assert page.ByteSize() < GRPC_LIMIT / 2
        found += some
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


@pytest.mark.parametrize("size", [0, 100])
async def test_devices(auth, ann, size):
    user, name = UserId(ann.account.user_id), "\U0001f600" * 100
    for number in range(MANY):
        await auth.store.add_device(new_device(user, now=auth.clock() - number // 3, name=name))
    found = await in_pages(auth.stub.ListDevices, auth_pb2.ListDevicesRequest(), "devices", ann, size=size)
    assert len({one.device_id for one in found}) == len(found) == MANY + 1
    assert found == sorted(found, key=lambda one: (-one.created_at_ms, one.device_id))


@pytest.mark.parametrize("size", [0, 100])
async def test_spaces(auth, ann, size):
    owner = replace(new_account(), user=UserId(ann.account.user_id))
    for number in range(MANY):
        space = SpaceRecord(SpaceId(new_text_id()), f"Space {number // 2 % 300}", False, 1, auth.clock())
        await auth.store.create_space(space, owner=owner, alias=str(number))
    found = await in_pages(auth.stub.ListSpaces, auth_pb2.ListSpacesRequest(), "spaces", ann, size=size)
    assert len({one.space_id for one in found}) == len(found) == MANY + 1
    assert found[0].personal
    assert found == sorted(found, key=lambda one: (not one.personal, one.name.casefold(), one.space_id))


@pytest.mark.parametrize("size", [0, 100])
async def test_members(auth, ann, size):
    space = await auth.create_space(ann)
    found, _ = await auth.store.space_with_grants(SpaceId(space))
    for number in range(MANY):
        account = new_account(f"{number:04}{'x' * 50}@{'example' * 8}.com")
        await change_grant(
            auth.store,
            found,
            member=account,
            before=None,
            after=Role.VIEWER,
            by=UserId(ann.account.user_id),
            alias="team",
        )
    members = await in_pages(
        auth.stub.ListMembers, auth_pb2.ListMembersRequest(space_id=space), "members", ann, size=size
    )
    assert len({one.user_id for one in members}) == len(members) == MANY + 1
    assert [one.email for one in members] == sorted(one.email for one in members)


@pytest.mark.parametrize("size", [0, 100])
async def test_links(auth, ann, size):
    space = SpaceId(ann.account.personal_space_id)
    for number in range(MANY):
        link = new_link(space, UserId(ann.account.user_id))
        await auth.store.add_link(replace(link, created_at_ms=auth.clock() - number // 3))
    found = await in_pages(auth.stub.ListLinks, auth_pb2.ListLinksRequest(space_id=space), "links", ann, size=size)
    assert len({one.link_id for one in found}) == len(found) == MANY
    assert found == sorted(found, key=lambda one: (-one.created_at_ms, one.link_id))


async def test_a_page_goes_on_where_the_last_one_ended_whatever_has_gone(auth, ann):
    spaces = {name: await auth.create_space(ann, name) for name in "abcd"}
    first = await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(page_size=3), metadata=ann.credentials)
    assert [one.name for one in first.spaces] == ["personal", "a", "b"]
    ben = await auth.sign_up("ben@example.com")
    await auth.share(spaces["b"], ann, "ben@example.com", auth_pb2.ROLE_OWNER)
    await auth.unshare(spaces["b"], ben, "ann@example.com")
    rest = auth_pb2.ListSpacesRequest(page_token=first.next_page_token)
    assert [one.name for one in (await auth.stub.ListSpaces(rest, metadata=ann.credentials)).spaces] == ["c", "d"]


async def test_a_token_is_good_for_its_listing_only(auth, ann):
    for name in "ab":
        await auth.create_space(ann, name)
    token = (
        await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(page_size=1), metadata=ann.credentials)
    ).next_page_token
    ben = await auth.sign_up("ben@example.com")
    for call in (
        auth.stub.ListDevices(auth_pb2.ListDevicesRequest(page_token=token), metadata=ann.credentials),
        auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(page_token=token), metadata=ben.credentials),
        auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(page_token=token + "A"), metadata=ann.credentials),
        auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(page_token="\u00e9"), metadata=ann.credentials),
    ):
        with refused("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN"):
            await call
