"""Every identity store owes this to changes of passwords: resets, records of changes, and devices that sign in."""

from dataclasses import replace

import pytest

from services.auth.adapters import layout
from services.auth.ports import MakerEnded, PasswordMoved, ResetSpent
from services.auth.records import Account, DeviceRecord, Done, Login, PasswordChange, Reset
from syncline.model.identifiers import DeviceId, UserId, new_request_id, new_text_id
from tests.contract.auth.conftest import IN_MEMORY, MINISTACK, MOTO
from tests.services.auth.support import new_account, new_device, new_login

pytestmark = pytest.mark.parametrize("backend", [IN_MEMORY, MINISTACK, MOTO], indirect=True)


async def sign_up(store) -> tuple[Login, DeviceRecord]:
    login = new_login()
    device = new_device(login.account.user)
    await store.create_account(login, device=device)
    return login, device


def new_change(account: Account, *, number: int = 1, keep: DeviceId | None = None) -> PasswordChange:
    return PasswordChange(new_text_id(), account.user, account.email, number, keep, 5_000, 8_000)


def new_reset(login: Login, user: UserId | None = None) -> Reset:
    return Reset(new_text_id().encode(), user, login.account.email, login.password_changes, 9_000)


async def changes_of(store, account: Account) -> list[PasswordChange]:
    return [one for one in await store.password_changes() if one.user == account.user]


async def test_a_change_replaces_the_hash_and_is_recorded(store):
    login, device = await sign_up(store)
    account = login.account
    change = new_change(account, keep=device.device)
    done = Done(account.user, new_request_id(), b"fingerprint", 5_000)
    await store.change_password(login, "a newer hash", change=change, done=done)
    assert await store.login(account.email) == Login(account, "a newer hash", 1)
    assert await changes_of(store, account) == [change]
    assert await store.done(account.user, done.request) == b"fingerprint"
    await store.forget_change(change)
    await store.forget_change(change)
    assert await changes_of(store, account) == []


async def test_a_change_of_an_account_that_was_changed_meanwhile_changes_nothing(store):
    login, _ = await sign_up(store)
    await store.change_password(login, "first", change=new_change(login.account))
    reset = new_reset(login, login.account.user)
    await store.add_reset(reset)
    done = Done(login.account.user, new_request_id(), b"fingerprint", 5_000)
    with pytest.raises(PasswordMoved):
        await store.change_password(login, "second", change=new_change(login.account), reset=reset, done=done)
    assert (await store.login(login.account.email)).password_hash == "first"
    assert await store.reset(reset.token) == reset
    assert await store.done(login.account.user, done.request) is None
    assert len(await changes_of(store, login.account)) == 1


async def test_a_request_that_is_recorded_changes_nothing_again(store):
    login, _ = await sign_up(store)
    done = Done(login.account.user, new_request_id(), b"fingerprint", 5_000)
    await store.note(done)
    with pytest.raises(PasswordMoved):
        await store.change_password(login, "newer", change=new_change(login.account), done=done)
    assert await store.login(login.account.email) == login


async def test_a_hash_that_was_only_made_anew_is_the_same_password(store):
    login, _ = await sign_up(store)
    await store.replace_password_hash(login.account.email, old=login.password_hash, new="the same with more passes")
    await store.change_password(login, "newer", change=new_change(login.account))
    assert (await store.login(login.account.email)).password_changes == 1


async def test_another_account_of_the_address_is_not_changed(store):
    login, _ = await sign_up(store)
    other = Login(new_account(login.account.email), "its hash")
    with pytest.raises(PasswordMoved):
        await store.change_password(other, "newer", change=new_change(other.account))
    with pytest.raises(PasswordMoved):
        await store.change_password(new_login(), "newer", change=new_change(new_account()))


async def test_a_reset_is_spent_once_with_the_change(store):
    login, _ = await sign_up(store)
    first, nobody = new_reset(login, login.account.user), new_reset(login)
    for reset in (first, nobody):
        await store.add_reset(reset)
        assert await store.reset(reset.token) == reset
    await store.change_password(login, "newer", change=new_change(login.account), reset=first)
    assert await store.reset(first.token) is None
    changed = await store.login(login.account.email)
    with pytest.raises(ResetSpent):
        await store.change_password(changed, "newest", change=new_change(login.account, number=2), reset=first)
    assert await store.login(login.account.email) == changed
    assert await store.reset(new_text_id().encode()) is None


async def test_a_device_that_is_revoked_meanwhile_is_not_kept(store):
    login, device = await sign_up(store)
    await store.revoke_device(device.device, at_ms=4_000)
    for keep in (device.device, DeviceId(new_text_id())):
        with pytest.raises(MakerEnded):
            await store.change_password(login, "newer", change=new_change(login.account, keep=keep))
    assert await store.login(login.account.email) == login


async def test_a_record_is_updated_by_whoever_read_it_last(store):
    login, _ = await sign_up(store)
    change = new_change(login.account)
    await store.change_password(login, "newer", change=change)
    taken = replace(change, due_at_ms=12_000, attempts=1, told=True)
    assert await store.update_change(change, taken)
    assert not await store.update_change(change, replace(change, due_at_ms=13_000))
    assert await changes_of(store, login.account) == [taken]
    await store.forget_change(taken)
    assert not await store.update_change(taken, change)
    assert await changes_of(store, login.account) == []


async def test_a_device_signs_in_only_with_the_password_that_it_was_compared_with(store):
    login, _ = await sign_up(store)
    await store.change_password(login, "newer", change=new_change(login.account))
    late = new_device(login.account.user)
    with pytest.raises(PasswordMoved):
        await store.add_device(late, login=login)
    assert await store.device(late.device) is None
    changed = await store.login(login.account.email)
    in_time = replace(late, password_changes=1)
    assert await store.add_device(in_time, login=changed)
    assert await store.device(late.device) == in_time
    assert not await store.add_device(in_time, login=changed)


async def test_an_account_from_before_changes_were_counted_is_one_without_changes(store, backend):
    login, device = await sign_up(store)
    if backend is not None:
        async with backend.aws.client("dynamodb", backend.auth) as client:
            for key in (layout.login_key(login.account.email), layout.device_key(device.device)):
                await client.update_item(
                    TableName=backend.resources.identity_table_name,
                    Key=key,
                    UpdateExpression="REMOVE password_changes",
                )
    assert await store.login(login.account.email) == login
    assert await store.device(device.device) == device
    assert await store.add_device(new_device(login.account.user), login=login)
    await store.change_password(login, "newer", change=new_change(login.account))
    assert (await store.login(login.account.email)).password_changes == 1
