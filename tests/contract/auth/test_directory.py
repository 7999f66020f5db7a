"""Every identity store owes this to those who administer: lists of all accounts and spaces, and changes of standing."""

from dataclasses import replace

import pytest

from services.auth.ports import GrantMoved, NoAdministratorLeft, StandingMoved
from services.auth.records import Account, Done, Invitation, Login, Proof, Suspension, UserState
from syncline.model.accounts import Role
from syncline.model.identifiers import UserId, new_request_id, new_text_id
from tests.contract.auth.conftest import IN_MEMORY, MINISTACK, MOTO
from tests.contract.auth.test_store import make_space, sign_up
from tests.services.auth.support import change_grant, new_account, new_device

pytestmark = pytest.mark.parametrize("backend", [IN_MEMORY, MINISTACK, MOTO], indirect=True)


def done(user: UserId) -> Done:
    return Done(user, new_request_id(), b"asked", 9_000)


async def make_admin(store, forget_admin) -> Account:
    """The first administrator of a system that has none yet."""
    await forget_admin()
    account = replace(new_account(), admin=True)
    await store.create_account(Login(account, "the hash"), device=new_device(account.user))
    return account


async def listed(store, state=None, *, beginning="", pages=2) -> list[Account]:
    """All accounts, page by page."""
    found, after = [], ""
    while page := await store.list_users(state, beginning=beginning, after=after, limit=pages):
        found += [account for _, account in page]
        assert [place for place, _ in page] == [account.place for _, account in page]
        after = page[-1][0]
    return found


async def test_accounts_are_listed_by_address_page_by_page(store):
    word = new_text_id()
    accounts = [new_account(f"{word}-{letter}@example.com") for letter in "dbcae"]
    for account in accounts:
        await store.create_account(Login(account, "the hash"), device=new_device(account.user))
    in_order = sorted(accounts, key=lambda account: account.email)
    assert await listed(store, beginning=word) == in_order
    assert await listed(store, beginning=word, pages=100) == in_order
    assert await listed(store, beginning=f"{word}-c") == [accounts[2]]
    assert await listed(store, beginning=f"{word}-x") == []
    every = await listed(store, pages=7)
    assert every == sorted(every, key=lambda account: account.place)
    assert [account for account in every if account in accounts] == in_order


async def test_an_account_is_listed_as_unproven_until_it_is_proven(store):
    account = replace(new_account(), proven=False)
    login = Login(account, "the hash")
    await store.create_account(login, device=new_device(account.user))
    assert await listed(store, UserState.UNPROVEN, beginning=account.email) == [account]
    assert await listed(store, beginning=account.email) == [account]
    proof = Proof(new_text_id().encode(), account.user, account.email, 5_000)
    await store.add_proof(proof)
    await store.prove(login, proof)
    assert await listed(store, UserState.UNPROVEN, beginning=account.email) == []
    assert await listed(store, beginning=account.email) == [replace(account, proven=True)]


async def test_an_invited_account_is_listed(store):
    account = new_account()
    invitation = Invitation(new_text_id().encode(), account.email, 5_000)
    await store.add_invitation(invitation)
    await store.create_account(Login(account, "the hash"), device=new_device(account.user), invitation=invitation)
    assert await listed(store, beginning=account.email) == [account]


async def test_shared_spaces_are_listed_newest_first_and_personal_ones_are_not(store):
    owner, _ = await sign_up(store)
    old = await make_space(store, owner, "old")
    new = replace(old, space=type(old.space)(new_text_id()), name="new", created_at_ms=3_000)
    assert await store.create_space(new, owner=owner, alias="new")
    found, after = [], ""
    while page := await store.list_spaces(after=after, limit=3):
        found += [space for _, space in page]
        after = page[-1][0]
    assert [space for space in found if space in (old, new)] == [new, old]
    assert owner.personal_space not in {space.space for space in found}
    assert found == sorted(found, key=lambda space: space.place)


# ---- suspension


async def test_whoever_is_suspended_has_no_rights_until_they_are_resumed(store, forget_admin):
    admin = await make_admin(store, forget_admin)
    ben, device = await sign_up(store)
    eve, other = await sign_up(store)
    space = await make_space(store, ben)
    await change_grant(store, space, member=eve, before=None, after=Role.EDITOR, by=ben.user, alias="team")
    before = await store.accesses([(space.space, ben.user), (space.space, eve.user)], [device.device, other.device])
    assert (len(before[0]), len(before[1])) == (2, 2)

    suspended = replace(ben, suspension=Suspension(5_000, admin.user, "left"))
    await store.change_standing(ben, suspended, by=admin.user, done=done(admin.user))
    assert await store.account(ben.user) == suspended
    assert await store.signed_in(ben.user, device.device) == (suspended, device)
    assert await store.suspended([ben.user, eve.user, UserId(new_text_id())]) == {ben.user}
    assert await listed(store, UserState.SUSPENDED, beginning=ben.email) == [suspended]
    assert await store.access(space.space, user=ben.user, device=device.device) == (None, None)
    assert await store.access(space.space, user=ben.user, device=None) == (None, None)
    assert await store.accesses([], [device.device, other.device]) == ({}, {other.device: other})
    grants, devices = await store.accesses(
        [(space.space, ben.user), (space.space, eve.user)], [device.device, other.device]
    )
    assert (set(grants), set(devices)) == ({(space.space, eve.user)}, {other.device})
    assert len((await store.members(space.space))[1]) == 2, "nothing is removed"

    await store.change_standing(suspended, ben, by=admin.user, done=done(admin.user))
    assert await store.account(ben.user) == ben
    assert await listed(store, UserState.SUSPENDED, beginning=ben.email) == []
    after = await store.accesses([(space.space, ben.user), (space.space, eve.user)], [device.device, other.device])
    assert after == before


async def test_a_change_of_standing_is_made_of_what_was_read(store, forget_admin):
    admin = await make_admin(store, forget_admin)
    ben, _ = await sign_up(store)
    suspended = replace(ben, suspension=Suspension(5_000, admin.user, "left"))
    asked = done(admin.user)
    await store.change_standing(ben, suspended, by=admin.user, done=asked)
    assert await store.done(admin.user, asked.request) == asked.fingerprint
    for before, after, again in (
        (ben, replace(ben, suspension=Suspension(6_000, admin.user, "other")), done(admin.user)),
        (replace(suspended, suspension=Suspension(4_000, admin.user, "older")), ben, done(admin.user)),
        (replace(suspended, admin=True), suspended, done(admin.user)),
        (suspended, ben, asked),
    ):
        with pytest.raises(StandingMoved):
            await store.change_standing(before, after, by=admin.user, done=again)
        assert await store.account(ben.user) == suspended


async def test_only_an_administrator_who_is_not_suspended_changes_a_standing(store, forget_admin):
    admin = await make_admin(store, forget_admin)
    ben, _ = await sign_up(store)
    eve, _ = await sign_up(store)
    suspended = replace(eve, suspension=Suspension(5_000, ben.user, ""))
    with pytest.raises(StandingMoved):
        await store.change_standing(eve, suspended, by=ben.user, done=done(ben.user))
    made = replace(ben, admin=True)
    await store.change_standing(ben, made, by=admin.user, done=done(admin.user))
    assert await store.account(ben.user) == made
    assert (await store.login(ben.email)).account.admin
    assert await listed(store, UserState.ADMINISTRATOR, beginning=ben.email) == [made]
    await store.change_standing(eve, suspended, by=ben.user, done=done(ben.user))
    locked = replace(made, suspension=Suspension(6_000, admin.user, ""))
    await store.change_standing(made, locked, by=admin.user, done=done(admin.user))
    with pytest.raises(StandingMoved):
        await store.change_standing(suspended, eve, by=ben.user, done=done(ben.user))
    await store.change_standing(locked, replace(locked, admin=False), by=admin.user, done=done(admin.user))
    assert await listed(store, UserState.ADMINISTRATOR, beginning=ben.email) == []
    assert not (await store.login(ben.email)).account.admin


async def test_an_administrator_is_left(store, forget_admin):
    admin = await make_admin(store, forget_admin)
    ordinary, suspended = replace(admin, admin=False), replace(admin, suspension=Suspension(5_000, admin.user, ""))
    for after in (ordinary, suspended):
        with pytest.raises(NoAdministratorLeft):
            await store.change_standing(admin, after, by=admin.user, done=done(admin.user))
    assert await store.account(admin.user) == admin
    ben, _ = await sign_up(store)
    second = replace(ben, admin=True)
    await store.change_standing(ben, second, by=admin.user, done=done(admin.user))
    await store.change_standing(admin, suspended, by=ben.user, done=done(ben.user))
    with pytest.raises(NoAdministratorLeft):
        await store.change_standing(second, ben, by=ben.user, done=done(ben.user))
    await store.change_standing(suspended, admin, by=ben.user, done=done(ben.user))
    await store.change_standing(second, ben, by=ben.user, done=done(ben.user))
    with pytest.raises(NoAdministratorLeft):
        await store.change_standing(admin, ordinary, by=admin.user, done=done(admin.user))


async def test_an_administrator_gives_a_grant_in_any_space_and_nobody_else_does(store, forget_admin):
    admin = await make_admin(store, forget_admin)
    owner, _ = await sign_up(store)
    ben, _ = await sign_up(store)
    space = await make_space(store, owner)
    for by in (ben.user, owner.user):
        with pytest.raises(GrantMoved):
            await change_grant(
                store, space, member=ben, before=None, after=Role.OWNER, by=by, alias="team", as_admin=True
            )
    await change_grant(
        store, space, member=ben, before=None, after=Role.OWNER, by=admin.user, alias="team", as_admin=True
    )
    found, grants = await store.members(space.space)
    assert (found.owners, {grant.user for grant in grants}) == (2, {owner.user, ben.user})
