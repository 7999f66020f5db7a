"""Every identity store keeps reservations and their sums together, and quotas of accounts and spaces."""

import asyncio
from dataclasses import replace

import pytest

from services.auth.ports import GrantMoved, QuotaReached, ReservationMoved, StandingMoved
from services.auth.records import Reservation
from syncline.model.identifiers import SpaceId, UserId, new_text_id
from tests.contract.auth.conftest import IN_MEMORY, MINISTACK, MOTO
from tests.contract.auth.test_directory import make_admin
from tests.contract.auth.test_space_changes import request_of
from tests.contract.auth.test_store import make_space, sign_up

pytestmark = pytest.mark.parametrize("backend", [IN_MEMORY, MINISTACK, MOTO], indirect=True)


def user() -> UserId:
    return UserId(new_text_id())


def nothing() -> Reservation:
    return Reservation(SpaceId(new_text_id()))


async def test_reservations_add_up_for_their_payers(store):
    ann, ben, first, second = user(), user(), nothing(), nothing()
    assert await store.reservations([first.space, second.space]) == {}
    assert await store.reserved_for([ann, ben]) == {}
    one = Reservation(first.space, ann, 10)
    two = Reservation(second.space, ann, 5)
    await store.change_reservation(first, one, quota_bytes=10)
    await store.change_reservation(second, two, quota_bytes=None)
    assert await store.reservations([first.space, second.space]) == {first.space: one, second.space: two}
    assert await store.reserved_for([ann, ben]) == {ann: 15}
    moved = Reservation(first.space, ben, 12)
    await store.change_reservation(one, moved, quota_bytes=None)
    assert await store.reserved_for([ann, ben]) == {ann: 5, ben: 12}
    nobodys = Reservation(first.space, None, 12)
    await store.change_reservation(moved, nobodys, quota_bytes=None)
    assert {one: size for one, size in (await store.reserved_for([ann, ben])).items() if size} == {ann: 5}
    assert (await store.reservations([first.space]))[first.space] == nobodys
    await store.change_reservation(nobodys, replace(nobodys, payer=ann), quota_bytes=None)
    assert (await store.reserved_for([ann]))[ann] == 17
    await store.change_reservation(two, two, quota_bytes=0)


async def test_a_quota_is_not_exceeded_and_nothing_changes_then(store):
    ann, first, second = user(), nothing(), nothing()
    with pytest.raises(QuotaReached):
        await store.change_reservation(first, Reservation(first.space, ann, 11), quota_bytes=10)
    assert (await store.reservations([first.space]), await store.reserved_for([ann])) == ({}, {})
    one = Reservation(first.space, ann, 9)
    await store.change_reservation(first, one, quota_bytes=10)
    with pytest.raises(QuotaReached):
        await store.change_reservation(second, Reservation(second.space, ann, 2), quota_bytes=10)
    with pytest.raises(QuotaReached):
        await store.change_reservation(one, replace(one, reserved_bytes=11), quota_bytes=10)
    with pytest.raises(QuotaReached):
        await store.change_reservation(one, replace(one, reserved_bytes=10), quota_bytes=0)
    await store.change_reservation(second, Reservation(second.space, ann, 1), quota_bytes=10)
    assert await store.reserved_for([ann]) == {ann: 10}
    assert await store.reservations([first.space]) == {first.space: one}


async def test_a_reservation_that_was_changed_is_read_again(store):
    ann, ben, first = user(), user(), nothing()
    one = Reservation(first.space, ann, 9)
    await store.change_reservation(first, one, quota_bytes=None)
    stale = [first, replace(one, reserved_bytes=8), replace(one, payer=ben), replace(one, payer=None)]
    for before in stale:
        with pytest.raises(ReservationMoved):
            await store.change_reservation(before, replace(one, reserved_bytes=100), quota_bytes=None)
    assert await store.reserved_for([ann, ben]) == {ann: 9}


async def test_concurrent_changes_lose_nothing_and_stay_within_the_quota(open_store):
    """Eight spaces of one person, each by a process of its own."""
    ann, spaces = user(), [nothing().space for _ in range(8)]

    async def grow(space: SpaceId) -> int:
        store, size = await open_store(), 0
        for _ in range(400):
            before = (await store.reservations([space])).get(space, Reservation(space))
            try:
                await store.change_reservation(before, Reservation(space, ann, size + 3), quota_bytes=100)
            except QuotaReached:
                return size
            except ReservationMoved:
                await asyncio.sleep(0.01)
            else:
                size += 3
        raise AssertionError("no end")

    sizes = await asyncio.gather(*map(grow, spaces))
    store = await open_store()
    assert sum(sizes) == 99
    assert await store.reserved_for([ann]) == {ann: 99}
    found = await store.reservations(spaces)
    assert [found[space].reserved_bytes if space in found else 0 for space in spaces] == sizes


async def test_the_quota_of_a_space_is_set_by_an_administrator_alone(store, forget_admin):
    admin, owner = await make_admin(store, forget_admin), (await sign_up(store))[0]
    space = await make_space(store, owner)
    larger = replace(space, quota_bytes=1 << 50)
    with pytest.raises(GrantMoved):
        await store.change_space(space, larger, by=owner.user, done=request_of(owner.user), as_admin=True)
    await store.change_space(space, larger, by=admin.user, done=request_of(admin.user), as_admin=True)
    assert (await store.space_with_grants(space.space))[0] == larger
    with pytest.raises(GrantMoved):
        await store.change_space(space, replace(space, name="crew"), by=owner.user, done=request_of(owner.user))
    renamed = replace(larger, name="crew", made_as="team")
    await store.change_space(larger, renamed, by=owner.user, done=request_of(owner.user))
    assert (await store.space_with_grants(space.space))[0] == renamed
    usual = replace(renamed, quota_bytes=None)
    await store.change_space(renamed, usual, by=admin.user, done=request_of(admin.user), as_admin=True)
    assert (await store.space_with_grants(space.space))[0] == usual


async def test_the_quota_of_an_account_is_part_of_its_standing(store, forget_admin):
    admin, ann = await make_admin(store, forget_admin), (await sign_up(store))[0]
    limited = replace(ann, quota_bytes=0)
    await store.change_standing(ann, limited, by=admin.user, done=request_of(admin.user))
    assert await store.account(ann.user) == limited
    with pytest.raises(StandingMoved):
        await store.change_standing(ann, replace(ann, quota_bytes=5), by=admin.user, done=request_of(admin.user))
    await store.change_standing(limited, ann, by=admin.user, done=request_of(admin.user))
    assert await store.account(ann.user) == ann
