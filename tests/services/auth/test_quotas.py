"""Bytes are reserved within the quotas of spaces and of the people for whom they count, whoever asks at once."""

import asyncio
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.tokens import service_authorization
from services.auth.ports import QuotaReached, ReservationMoved
from services.auth.quotas import MAX_RESERVE_BYTES, QUOTA_PARTS
from services.auth.records import Account, Reservation, SpaceRecord
from services.metadata.adapters.auth import AuthClient
from services.metadata.reserving import ReservedBytes
from syncline.admin.v1 import admin_pb2
from syncline.auth.v1 import auth_pb2
from syncline.model.accounts import Role
from syncline.model.errors import NoSuchSpace, Unavailable
from syncline.model.identifiers import SpaceId, new_request_id, new_text_id
from syncline.model.limits import MAX_QUOTA_BYTES
from syncline.rpc.channel import aio_channel
from tests.services.auth.support import (
    SECRET,
    Service,
    change_grant,
    new_account,
    new_device,
    new_login,
    new_quotas,
    refused,
    serving,
)
from tests.services.auth.test_administration import administrator
from tests.support.auth import InMemoryIdentityStore

BEN, EVE = "ben@example.com", "eve@example.com"


class HastyStore(InMemoryIdentityStore):
    """A store whose reads of reservations let others come first."""

    async def reservations(self, spaces):
        found = await super().reservations(spaces)
        await asyncio.sleep(0)
        return found

    async def reserved_for(self, users):
        found = await super().reserved_for(users)
        await asyncio.sleep(0)
        return found


class World:
    """People with spaces, and the quotas of both."""

    def __init__(self, *, space_bytes: int = 1 << 40, user_bytes: int | None = None) -> None:
        self.store = HastyStore()
        self.quotas = new_quotas(self.store, space_bytes=space_bytes, user_bytes=user_bytes)

    async def person(self) -> Account:
        login = new_login()
        await self.store.create_account(login, device=new_device(login.account.user))
        return login.account

    async def space(self, owner: Account) -> SpaceRecord:
        record = SpaceRecord(SpaceId(new_text_id()), "team", personal=False, owners=1, created_at_ms=1_000)
        await self.store.create_space(record, owner=owner, alias=f"team {record.space}")
        return record

    async def reserve(self, space: SpaceId, wanted: int, *, used: int = 0) -> tuple[int, int]:
        """Return the reserved bytes, and those that could be reserved at most."""
        quota = await self.quotas.reserve(space, used_bytes=used, wanted_bytes=wanted)
        return quota.reserved_bytes, quota.quota_bytes

    async def taken(self, *people: Account) -> list[int]:
        usages = await self.quotas.usage_of_users(people)
        return [usages[one.user].reserved_bytes for one in people]


async def test_somewhat_more_is_reserved_than_was_asked_for() -> None:
    world = World()
    ann = await world.person()
    got = await world.reserve(ann.personal_space, 1_000)
    assert got == (1_000 + MAX_RESERVE_BYTES, 1 << 40)
    assert await world.taken(ann) == [got[0]]
    assert await world.reserve(ann.personal_space, got[0], used=900) == got, "nothing new is reserved"
    assert await world.taken(ann) == [got[0]]


async def test_of_a_small_quota_little_is_reserved_ahead_and_all_of_it_can_be() -> None:
    world = World(space_bytes=102_400)
    space = (await world.person()).personal_space
    assert await world.reserve(space, 1) == (1 + 102_400 // QUOTA_PARTS, 102_400)
    assert await world.reserve(space, 102_399) == (102_400, 102_400)
    assert await world.reserve(space, 102_401) == (102_400, 102_400), "which is less than was asked for"


async def test_spaces_of_one_person_share_the_quota_of_the_person() -> None:
    world = World(user_bytes=1_000)
    ann, ben = await world.person(), await world.person()
    one, other = ann.personal_space, (await world.space(ann)).space
    assert await world.reserve(one, 600) == (600, 1_000)
    assert await world.reserve(other, 0) == (0, 400)
    assert await world.reserve(other, 401) == (0, 400)
    assert await world.reserve(other, 400) == (400, 400)
    assert await world.reserve(one, 601) == (600, 600)
    assert await world.taken(ann, ben) == [1_000, 0]
    assert await world.reserve(ben.personal_space, 1_000) == (1_000, 1_000)


async def test_what_is_there_counts_although_it_was_never_reserved() -> None:
    """Spaces from before there were quotas of people, and quotas that were made smaller."""
    world = World(user_bytes=1_000)
    ann = await world.person()
    one, other = ann.personal_space, (await world.space(ann)).space
    assert await world.reserve(one, 701, used=700) == (701, 1_000)
    assert await world.reserve(other, 0, used=600) == (299, 299)
    assert await world.reserve(other, 601, used=600) == (299, 299), "it cannot grow"
    assert await world.taken(ann) == [1_301]


@pytest.mark.parametrize("size", [2, 8, 40])
async def test_concurrent_calls_for_the_spaces_of_one_person_reserve_all_and_no_more(size: int) -> None:
    """Eight spaces fill a quota that is no multiple of what they ask for."""
    world = World(user_bytes=10_000)
    ann = await world.person()
    spaces = [ann.personal_space, *[(await world.space(ann)).space for _ in range(7)]]

    async def fill(space: SpaceId) -> int:
        used = 0
        while (await world.reserve(space, used + size, used=used))[0] >= used + size:
            used += size
            assert (await world.taken(ann))[0] <= 10_000
        return used

    used = await asyncio.gather(*map(fill, spaces))
    assert sum(used) <= 10_000
    assert sum(used) > 10_000 - len(spaces) * (size + 10_000 // QUOTA_PARTS), "little is left in spaces"


async def test_a_space_counts_for_whoever_takes_it_over() -> None:
    world = World(user_bytes=1_000)
    ann, ben = await world.person(), await world.person()
    record = await world.space(ann)
    await world.reserve(record.space, 900)
    await change_grant(
        world.store, record, member=ben, before=None, after=Role.OWNER, by=ann.user, alias="t", writes_since_ms=5
    )
    await world.quotas.settle(record.space)
    assert await world.taken(ann, ben) == [900, 0], "as long as the maker is an owner"
    owned = replace(record, owners=2)
    await change_grant(world.store, owned, member=ann, before=Role.OWNER, after=Role.EDITOR, by=ben.user)
    await world.quotas.settle(record.space)
    assert await world.taken(ann, ben) == [0, 900]
    assert await world.reserve(ann.personal_space, 1_000) == (1_000, 1_000)


async def test_a_space_that_is_too_large_for_its_new_owner_only_stops_growing() -> None:
    world = World(user_bytes=1_000)
    ann, ben = await world.person(), await world.person()
    record = await world.space(ann)
    await world.reserve(record.space, 900)
    await world.reserve(ben.personal_space, 500)
    await change_grant(world.store, record, member=ben, before=None, after=Role.OWNER, by=ann.user, alias="t")
    await change_grant(world.store, replace(record, owners=2), member=ann, before=Role.OWNER, after=None, by=ann.user)
    assert await world.reserve(record.space, 901, used=900) == (500, 500), "settled by the next call"
    assert await world.taken(ann, ben) == [0, 1_400]


async def test_the_whole_quota_is_the_same_whatever_other_spaces_take() -> None:
    world = World(space_bytes=900, user_bytes=1_000)
    ann = await world.person()
    other = (await world.space(ann)).space
    await world.reserve(ann.personal_space, 900)
    assert (await world.quotas.of_space(other)).whole_quota_bytes == 900
    assert (await world.quotas.of_space(other)).quota_bytes == 100


async def test_an_unknown_space_has_no_quota() -> None:
    with pytest.raises(NoSuchSpace):
        await World().reserve(SpaceId(new_text_id()), 1)


@given(steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=30), quota=st.integers(0, 1_000))
def test_reservations_never_exceed_a_quota_nor_shrink(steps: list[tuple[int, int]], quota: int) -> None:
    async def check() -> None:
        world = World(space_bytes=500, user_bytes=quota)
        ann = await world.person()
        spaces = [ann.personal_space, *[(await world.space(ann)).space for _ in range(3)]]
        reserved = dict.fromkeys(spaces, 0)
        for number, wanted in steps:
            size, most = await world.reserve(spaces[number], wanted)
            assert reserved[spaces[number]] <= size <= most <= 500
            if wanted <= most:
                assert size >= wanted
            reserved[spaces[number]] = size
        assert await world.taken(ann) == [sum(reserved.values())]
        assert sum(reserved.values()) <= quota

    asyncio.run(check())


async def test_a_settled_reservation_is_not_taken_by_a_call_that_has_read_the_old_one() -> None:
    world = World()
    ann, ben = await world.person(), await world.person()
    record = await world.space(ann)
    await world.reserve(record.space, 10)
    (stored,) = (await world.store.reservations([record.space])).values()
    moved = replace(stored, payer=ben.user)
    await world.store.change_reservation(stored, moved, quota_bytes=None)
    with pytest.raises(ReservationMoved):
        await world.store.change_reservation(stored, replace(stored, reserved_bytes=1 << 30), quota_bytes=None)
    grown = replace(moved, reserved_bytes=moved.reserved_bytes + 1)
    with pytest.raises(QuotaReached):
        await world.store.change_reservation(moved, grown, quota_bytes=moved.reserved_bytes)
    assert await world.store.reservations([record.space]) == {record.space: moved}
    assert new_account().user not in await world.store.reserved_for([ann.user, ben.user])
    assert Reservation(record.space) != moved


# ---- the service


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path, quota_bytes=10_000, user_quota_bytes=20_000) as service:
        yield service


async def reserved(auth: Service, space: str, wanted: int = 0, *, used: int = 0) -> tuple[int, int]:
    request = auth_pb2.ReserveBytesRequest(space_id=space, used_bytes=used, wanted_bytes=wanted)
    answer = await auth.stub.ReserveBytes(request, metadata=auth.as_service())
    return answer.reserved_bytes, answer.quota_bytes


async def test_an_administrator_sets_quotas_and_takes_them_back(auth: Service) -> None:
    ann, ben = await administrator(auth), await auth.sign_up(BEN)
    space, other = ben.account.personal_space_id, await auth.create_space(ben)
    assert await reserved(auth, space, 10_000) == (10_000, 10_000)
    by_ann = {"metadata": ann.credentials}
    user: dict[str, Any] = {"request_id": new_request_id(), "user_id": ben.account.user_id}
    set_ = (await auth.admin.SetUserQuota(admin_pb2.SetUserQuotaRequest(**user, quota_bytes=12_000), **by_ann)).user
    assert (set_.usage.quota_bytes, set_.usage.reserved_bytes, set_.quota_set) == (12_000, 10_000, True)
    assert await reserved(auth, other) == (0, 2_000)
    of_space: dict[str, Any] = {"request_id": new_request_id(), "space_id": space}
    larger = admin_pb2.SetSpaceQuotaRequest(**of_space, quota_bytes=11_000)
    told = (await auth.admin.SetSpaceQuota(larger, **by_ann)).space
    assert (told.quota_bytes, told.quota_set, told.reserved_bytes) == (11_000, True, 10_000)
    assert told.payer_user_id == ben.account.user_id
    assert (await auth.admin.SetSpaceQuota(larger, **by_ann)).space == told, "a repetition"
    assert await reserved(auth, space, 11_000) == (11_000, 11_000)
    smaller = admin_pb2.SetSpaceQuotaRequest(request_id=new_request_id(), space_id=space, quota_bytes=0)
    await auth.admin.SetSpaceQuota(smaller, **by_ann)
    assert await reserved(auth, space, used=10_500) == (0, 0), "what is there stays, and cannot grow"
    usual = admin_pb2.SetUserQuotaRequest(request_id=new_request_id(), user_id=ben.account.user_id)
    back = (await auth.admin.SetUserQuota(usual, **by_ann)).user
    assert (back.usage.quota_bytes, back.quota_set) == (20_000, False)
    (listed,) = (await auth.admin.ListUsers(admin_pb2.ListUsersRequest(email_prefix=BEN), **by_ann)).users
    assert listed == back
    listed_spaces = (await auth.admin.ListSpaces(admin_pb2.ListSpacesRequest(), **by_ann)).spaces
    assert [(one.space_id, one.quota_bytes, one.quota_set) for one in listed_spaces] == [(other, 10_000, False)]
    kinds = [event.kind for event in auth.store.audit.events if event.kind.endswith("quota_set")]
    assert kinds == ["account.quota_set", "space.quota_set", "space.quota_set", "account.quota_set"]


async def test_everybody_sees_their_own_usage(auth: Service) -> None:
    ben = await auth.sign_up(BEN)
    await reserved(auth, ben.account.personal_space_id, 500)
    mine = await auth.stub.GetAccount(auth_pb2.GetAccountRequest(), metadata=ben.credentials)
    assert (mine.usage.quota_bytes, mine.usage.reserved_bytes) == (20_000, 509)


async def test_without_a_quota_of_people_only_each_space_has_one(tmp_path) -> None:
    async with serving(tmp_path, quota_bytes=10_000) as auth:
        ben = await auth.sign_up(BEN)
        mine = await auth.stub.GetAccount(auth_pb2.GetAccountRequest(), metadata=ben.credentials)
        assert not mine.usage.HasField("quota_bytes")
        for space in (ben.account.personal_space_id, await auth.create_space(ben), await auth.create_space(ben, "b")):
            assert await reserved(auth, space, 10_000) == (10_000, 10_000)


async def test_a_transfer_and_a_removal_move_what_counts(auth: Service) -> None:
    ben, eve = await auth.sign_up(BEN), await auth.sign_up(EVE)
    space, other = await auth.create_space(ben), await auth.create_space(ben, "other")
    await reserved(auth, space, 4_000)
    await reserved(auth, other, 1_000)

    async def taken() -> list[int]:
        answers = [
            await auth.stub.GetAccount(auth_pb2.GetAccountRequest(), metadata=one.credentials) for one in (ben, eve)
        ]
        return [answer.usage.reserved_bytes for answer in answers]

    assert await taken() == [4_009 + 1_009, 0]
    handed = auth_pb2.TransferSpaceRequest(request_id=new_request_id(), space_id=space, email=EVE)
    await auth.stub.TransferSpace(handed, metadata=ben.credentials)
    assert await taken() == [1_009, 4_009]
    await auth.share(other, ben, EVE, auth_pb2.ROLE_OWNER)
    await auth.unshare(other, ben, BEN)
    assert await taken() == [0, 4_009 + 1_009]


async def test_bad_input_is_refused(auth: Service) -> None:
    ann, ben = await administrator(auth), await auth.sign_up(BEN)
    beyond = MAX_QUOTA_BYTES + 1
    for used, wanted in ((beyond, 0), (0, beyond)):
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
            await reserved(auth, ben.account.personal_space_id, wanted, used=used)
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await reserved(auth, new_text_id())
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        too_much = admin_pb2.SetUserQuotaRequest(
            request_id=new_request_id(), user_id=ben.account.user_id, quota_bytes=beyond
        )
        await auth.admin.SetUserQuota(too_much, metadata=ann.credentials)
    with refused("NOT_FOUND", "NO_SUCH_ACCOUNT"):
        nobody = admin_pb2.SetUserQuotaRequest(request_id=new_request_id(), user_id=new_text_id(), quota_bytes=1)
        await auth.admin.SetUserQuota(nobody, metadata=ann.credentials)
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        nowhere = admin_pb2.SetSpaceQuotaRequest(request_id=new_request_id(), space_id=new_text_id(), quota_bytes=1)
        await auth.admin.SetSpaceQuota(nowhere, metadata=ann.credentials)


async def test_metadata_reserves_by_its_own_client(auth: Service) -> None:
    ben = await auth.sign_up(BEN)
    space = SpaceId(ben.account.personal_space_id)
    async with aio_channel(
        auth.target, authorization=service_authorization("metadata", SECRET, now=lambda: auth.clock() / 1000)
    ) as channel:
        client = AuthClient(channel)
        assert await client.reserve(space, used_bytes=0, wanted_bytes=500) == ReservedBytes(509, 10_000, 10_000)
        with pytest.raises(NoSuchSpace):
            await client.reserve(SpaceId(new_text_id()), used_bytes=0, wanted_bytes=1)


async def test_an_auth_of_an_earlier_release_is_unavailable_and_no_defect() -> None:
    """For some minutes of an update, and of its withdrawal, the releases of both services differ."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(Unavailable, match="being updated"):
                await AuthClient(channel).reserve(SpaceId(new_text_id()), used_bytes=0, wanted_bytes=1)
    finally:
        await server.stop(None)
