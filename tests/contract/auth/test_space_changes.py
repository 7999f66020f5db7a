"""Every identity store changes a space as a whole, and several grants together, at once or not at all."""

from dataclasses import replace

import pytest

from services.auth.ports import AliasTaken, GrantMoved
from services.auth.records import Account, Done, GrantChange, SpaceDeletion, SpaceRecord
from syncline.model.accounts import Role
from syncline.model.identifiers import SpaceId, UserId, new_request_id, new_text_id
from tests.contract.auth.conftest import IN_MEMORY, MINISTACK, MOTO
from tests.contract.auth.test_store import make_space, sign_up
from tests.services.auth.support import change_grant

pytestmark = pytest.mark.parametrize("backend", [IN_MEMORY, MINISTACK, MOTO], indirect=True)


def request_of(user: UserId) -> Done:
    return Done(user, new_request_id(), b"fingerprint", 5_000)


async def test_a_space_is_renamed_for_all_of_its_members(store):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    space = await make_space(store, ann)
    await change_grant(store, space, member=bob, before=None, after=Role.EDITOR, by=ann.user, alias="team")
    done = request_of(ann.user)
    renamed = replace(space, name="crew", made_as="team")
    await store.change_space(space, renamed, by=ann.user, done=done)
    assert await store.done(ann.user, done.request) == done.fingerprint
    assert (await store.members(space.space))[0] == renamed
    for one in (ann, bob):
        (shared,) = [found for found in await store.memberships(one.user) if not found.personal]
        assert (shared.name, shared.alias, shared.deletion) == ("crew", "team", None)


async def test_a_deleted_space_gives_no_right_and_gives_the_same_as_before_when_it_is_back(store):
    ann, device = await sign_up(store)
    bob, _ = await sign_up(store)
    space, other = await make_space(store, ann), await make_space(store, ann, "other")
    await change_grant(
        store, space, member=bob, before=None, after=Role.EDITOR, by=ann.user, alias="team", writes_since_ms=17
    )
    keys = [(where.space, one.user) for where in (space, other) for one in (ann, bob)]
    before = await store.accesses(keys, [device.device])
    memberships = {one.user: await store.memberships(one.user) for one in (ann, bob)}
    deletion = SpaceDeletion(7_000, 9_000)
    gone = replace(space, deletion=deletion)
    await store.change_space(space, gone, by=ann.user, done=request_of(ann.user))
    granted, devices = await store.accesses(keys, [device.device])
    assert granted == {key: grant for key, grant in before[0].items() if key[0] == other.space}
    assert devices == before[1]
    assert await store.access(space.space, user=ann.user, device=device.device) == (None, device)
    spaces = [space.space, other.space, SpaceId(new_text_id())]
    assert await store.deletions(spaces, user=bob.user) == {space.space: deletion}
    assert await store.deletions(spaces, user=UserId(new_text_id())) == {}
    found, grants = await store.members(space.space)
    assert (found, {grant.user for grant in grants}) == (gone, {ann.user, bob.user})
    for one in (ann, bob):
        listed = {found.space: found.deletion for found in await store.memberships(one.user)}
        assert listed[space.space] == deletion
        assert [found for found in listed.values() if found is not None] == [deletion]
    with pytest.raises(GrantMoved):
        await change_grant(store, space, member=bob, before=Role.EDITOR, after=Role.VIEWER, by=ann.user)
    with pytest.raises(GrantMoved):
        await change_grant(store, space, member=bob, before=Role.EDITOR, after=Role.OWNER, by=ann.user)
    await store.change_space(gone, space, by=ann.user, done=request_of(ann.user))
    assert await store.accesses(keys, [device.device]) == before
    assert await store.deletions(spaces, user=bob.user) == {}
    for one in (ann, bob):
        assert sorted(await store.memberships(one.user), key=lambda one: one.space) == sorted(
            memberships[one.user], key=lambda one: one.space
        )


async def test_a_change_of_a_space_that_moved_meanwhile_is_not_made(store):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    space = await make_space(store, ann)
    await change_grant(store, space, member=bob, before=None, after=Role.EDITOR, by=ann.user, alias="team")
    gone = replace(space, deletion=SpaceDeletion(7_000, 9_000))
    done = request_of(ann.user)
    await store.note(done)
    for before, after, by, request in (
        (replace(space, name="other"), replace(space, name="crew"), ann.user, request_of(ann.user)),
        (gone, space, ann.user, request_of(ann.user)),
        (space, gone, bob.user, request_of(bob.user)),
        (space, gone, UserId(new_text_id()), request_of(bob.user)),
        (space, gone, ann.user, done),
    ):
        with pytest.raises(GrantMoved):
            await store.change_space(before, after, by=by, done=request)
    assert (await store.members(space.space))[0] == space
    await store.change_space(space, gone, by=ann.user, done=request_of(ann.user))
    later = replace(space, deletion=SpaceDeletion(8_000, 10_000))
    for before, after in ((space, replace(space, name="crew")), (space, later), (later, space)):
        with pytest.raises(GrantMoved):
            await store.change_space(before, after, by=ann.user, done=request_of(ann.user))
    assert (await store.members(space.space))[0] == gone


async def test_a_space_that_is_gone_for_good_is_forgotten_by_one_member_at_a_time(store):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    space = await make_space(store, ann)
    await change_grant(store, space, member=bob, before=None, after=Role.EDITOR, by=ann.user, alias="team")
    gone = replace(space, deletion=SpaceDeletion(7_000, 9_000))
    await store.change_space(space, gone, by=ann.user, done=request_of(ann.user))
    await store.forget_membership(space.space, ann.user)
    await store.forget_membership(space.space, ann.user)
    assert [one.personal for one in await store.memberships(ann.user)] == [True]
    assert len(await store.memberships(bob.user)) == 2
    another = SpaceRecord(SpaceId(new_text_id()), "team", False, 1, 9_500)
    with pytest.raises(AliasTaken):  # a promise for ever
        await store.create_space(another, owner=ann, alias="team")


async def test_several_grants_change_at_once_or_none_does(store):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    space = await make_space(store, ann)
    his = await make_space(store, bob)

    def change(one: Account, before: Role | None, after: Role | None, alias: str = "") -> GrantChange:
        return GrantChange(one.user, one.email, before, after, alias, 17 if after else 0)

    leaves = change(ann, Role.OWNER, None)
    for changes, error in (
        ([change(bob, None, Role.OWNER, "team"), leaves], AliasTaken),  # bob has a space of this alias
        ([change(bob, Role.EDITOR, Role.OWNER), leaves], GrantMoved),
        ([change(bob, None, Role.EDITOR, "crew"), leaves], GrantMoved),  # nobody would own it
        ([change(bob, None, Role.OWNER, "crew"), change(ann, Role.EDITOR, None)], GrantMoved),
    ):
        with pytest.raises(error):
            await store.change_grants(space, changes, by=ann.user, done=request_of(ann.user))
    found, grants = await store.members(space.space)
    assert (found.owners, [grant.user for grant in grants]) == (1, [ann.user])
    assert [one.space for one in await store.memberships(bob.user) if not one.personal] == [his.space]
    done = request_of(ann.user)
    await store.change_grants(
        space, [change(bob, None, Role.OWNER, "crew"), change(ann, Role.OWNER, Role.VIEWER)], by=ann.user, done=done
    )
    found, grants = await store.members(space.space)
    assert (found.owners, {grant.user: grant.role for grant in grants}) == (
        1,
        {bob.user: Role.OWNER, ann.user: Role.VIEWER},
    )
    with pytest.raises(GrantMoved):  # the request was carried out before
        await store.change_grants(space, [change(ann, Role.VIEWER, None)], by=ann.user, done=done)
    # Bob steps down for Ann, who must still be what she was.
    with pytest.raises(GrantMoved):
        await store.change_grants(
            space, [change(ann, Role.OWNER, Role.OWNER), change(bob, Role.OWNER, None)], by=bob.user
        )
