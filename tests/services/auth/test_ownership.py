"""A space has an owner in any order of concurrent changes, and the stored items agree."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.auth.records import Account, SpaceRecord
from services.auth.space_changes import SpaceChanges
from syncline.model.accounts import Role
from syncline.model.errors import (
    Contended,
    InvalidArgument,
    LastOwner,
    NoSuchSpace,
    PermissionDenied,
)
from syncline.model.identifiers import SpaceId, new_request_id, new_text_id
from tests.services.auth.support import Clock, change_grant, new_device, new_grants, new_login
from tests.support.auth import InMemoryIdentityStore

PEOPLE = 3
ROLES = st.sampled_from([None, *Role])
PERSON = st.integers(0, PEOPLE - 1)
ACTIONS = st.one_of(
    st.tuples(st.just("set"), PERSON, PERSON, st.sampled_from(list(Role))),
    st.tuples(st.just("remove"), PERSON, PERSON, st.none()),
    st.tuples(st.just("transfer"), PERSON, PERSON, ROLES),
    st.tuples(st.just("rename"), PERSON, PERSON, st.none()),
    st.tuples(st.just("delete"), PERSON, PERSON, st.none()),
    st.tuples(st.just("undelete"), PERSON, PERSON, st.none()),
)
REFUSALS = LastOwner | NoSuchSpace | PermissionDenied | Contended | InvalidArgument


class Interleaved:
    """A store whose calls are carried out some turns of the event loop later, in an order that follows from a seed."""

    def __init__(self, store: InMemoryIdentityStore, rng: random.Random) -> None:
        self._store = store
        self._rng = rng

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def call(*given: Any, **named: Any) -> Any:
            await self._turns()
            result = await method(*given, **named)
            await self._turns()
            return result

        return call

    async def _turns(self) -> None:
        for _ in range(self._rng.randint(0, 4)):
            await asyncio.sleep(0)


async def _act(store: InMemoryIdentityStore, actions: list[Any], rng: random.Random) -> None:
    slow: Any = Interleaved(store, rng)
    grants = new_grants(slow, clock=Clock())
    changes = SpaceChanges(slow, slow, reversible_days=1, clock=Clock())
    people: list[Account] = []
    for _ in range(PEOPLE):
        login = new_login()
        await store.create_account(login, device=new_device(login.account.user))
        people.append(login.account)
    space = SpaceRecord(SpaceId(new_text_id()), "team", False, 1, 1_000)
    await store.create_space(space, owner=people[0], alias="team")
    for person, role in zip(people[1:], (Role.OWNER, Role.EDITOR), strict=True):
        await change_grant(store, space, member=person, before=None, after=role, by=people[0].user, alias="team")

    async def act(kind: str, by: int, to: int, role: Role | None) -> None:
        caller, email = people[by].user, people[to].email
        given: dict[str, Any] = {"request": new_request_id(), "caller": caller}
        match kind:
            case "set":
                assert role is not None
                await grants.set(space.space, **given, email=email, role=role)
            case "remove":
                await grants.remove(space.space, **given, email=email)
            case "transfer":
                await grants.transfer(space.space, **given, email=email, keep=role)
            case "rename":
                await changes.rename(space.space, **given, name=f"name {by}")
            case "delete":
                await changes.delete(space.space, **given)
            case _:
                await changes.undelete(space.space, **given)

    outcomes = await asyncio.gather(*(act(*action) for action in actions), return_exceptions=True)
    assert [one for one in outcomes if one is not None and not isinstance(one, REFUSALS)] == []
    found = await store.members(space.space)
    assert found is not None
    stored, held = found
    assert stored.owners == sum(grant.role is Role.OWNER for grant in held) >= 1
    for person in people:
        mine = next((grant for grant in held if grant.user == person.user), None)
        listed = [one for one in await store.memberships(person.user) if one.space == space.space]
        assert [(one.role, one.name, one.deletion) for one in listed] == (
            [(mine.role, stored.name, stored.deletion)] if mine else []
        )
        right, _ = await store.access(space.space, user=person.user, device=None)
        assert right == (None if stored.deletion else mine)


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_a_space_has_an_owner_whatever_is_done_at_once(actions: list[Any], rng: random.Random) -> None:
    asyncio.run(_act(InMemoryIdentityStore(), actions, rng))
