"""The lists of all accounts and spaces in the table: their cost, and the accounts of earlier releases."""

from dataclasses import replace

import pytest

from aws.dynamodb import all_done
from services.auth.adapters import layout
from services.auth.records import Login, UserState
from syncline.model.identifiers import new_text_id
from tests.contract.auth.conftest import MINISTACK, MOTO
from tests.contract.auth.test_directory import listed, make_admin
from tests.contract.auth.test_store import make_space
from tests.services.auth.support import new_account, new_device

pytestmark = pytest.mark.parametrize("backend", [MINISTACK, MOTO], indirect=True)


async def test_accounts_and_spaces_of_earlier_releases_are_entered(store, backend, forget_admin):
    admin = await make_admin(store, forget_admin)
    unproven = replace(new_account(), proven=False)
    await store.create_account(Login(unproven, "the hash"), device=new_device(unproven.user))
    space = await make_space(store, admin)
    table = backend.resources.identity_table_name
    keys = [layout.account_entry_key(one, state) for one in (admin, unproven) for state in (None, *one.states)]
    async with backend.aws.client("dynamodb", backend.auth) as client:
        for key in (*keys, layout.shared_key(space), layout.entered_key()):
            await client.delete_item(TableName=table, Key=key)
        assert await listed(store, beginning=admin.email) == []
        assert await store.enter_earlier()
        assert await listed(store, beginning=admin.email) == [admin]
        assert await listed(store, UserState.ADMINISTRATOR, beginning=admin.email) == [admin]
        assert await listed(store, UserState.UNPROVEN, beginning=unproven.email) == [unproven]
        assert space in [found for _, found in await store.list_spaces(after="", limit=1000)]
        assert await store.enter_earlier(), "until it is finished, it is done again"
        await store.finish_entering()
        assert not await store.enter_earlier()


async def test_a_page_costs_what_it_returns(open_store, backend):
    """The calls and the items that are read, among a thousand accounts."""
    store, word = await open_store(), new_text_id()
    accounts = [new_account(f"{word}-{number:04}@example.com") for number in range(1_000)]
    items = [layout.account_item(Login(account, "the hash")) for account in accounts]
    items += [layout.account_entry_item(account, None) for account in accounts]
    await all_done(store._table.puts(items))
    calls: list[tuple[str, int]] = []

    def count(model, parsed, **_more):
        responses = sum(map(len, parsed.get("Responses", {}).values()))
        calls.append((model.name, parsed.get("ScannedCount", 0) + responses))

    store._table._client.meta.events.register("after-call.dynamodb", count)
    for beginning, limit, found, most in (
        (word, 100, 100, 1 + 1),
        (word, 1_000, 1_000, 1 + 10),
        (f"{word}-04", 1_000, 100, 1 + 1),
        (f"{word}-0417@", 1_000, 1, 1 + 1),
        (f"{word}-x", 1_000, 0, 1),
    ):
        calls.clear()
        page = await store.list_users(None, beginning=beginning, after="", limit=limit)
        assert len(page) == found
        assert len(calls) <= most, calls
        assert sum(read for _, read in calls) == 2 * found, calls
    calls.clear()
    after = accounts[899].place
    rest = await store.list_users(None, beginning=word, after=after, limit=1_000)
    assert [account for _, account in rest] == accounts[900:]
    assert (len(calls), sum(read for _, read in calls)) == (2, 200)
