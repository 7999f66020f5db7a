"""Every identity store owes this to second factors."""

from dataclasses import replace

import pytest

from services.auth.audit.events import AuditKind, audit_event
from services.auth.records import SecondFactor
from syncline.model.identifiers import DeviceId, UserId, new_request_id, new_text_id
from tests.contract.auth.conftest import IN_MEMORY, MINISTACK, MOTO

pytestmark = pytest.mark.parametrize("backend", [IN_MEMORY, MINISTACK, MOTO], indirect=True)


def new_factor() -> SecondFactor:
    return SecondFactor(UserId(new_text_id()), new_request_id(), DeviceId(new_text_id()), 3, b"salt" * 4, 5_000)


async def test_a_factor_is_added_changed_and_removed(store):
    factor = new_factor()
    assert await store.factor(factor.user) is None
    assert await store.change_factor(None, factor)
    assert await store.factor(factor.user) == factor
    confirmed = replace(factor, confirmed_at_ms=6_000, confirmed_step=7, last_step=7)
    assert await store.change_factor(factor, confirmed)
    confirmed = replace(confirmed, version=1)
    assert await store.factor(factor.user) == confirmed
    spent = replace(confirmed, spent=frozenset({0, 9}))
    assert await store.change_factor(confirmed, spent)
    assert await store.factor(factor.user) == replace(spent, version=2)
    assert await store.change_factor(replace(spent, version=2), None)
    assert await store.factor(factor.user) is None


async def test_nothing_is_changed_that_is_not_as_it_was_read(store):
    factor = new_factor()
    assert not await store.change_factor(factor, replace(factor, last_step=1))
    assert not await store.change_factor(factor, None)
    assert await store.change_factor(None, factor)
    assert not await store.change_factor(None, replace(factor, last_step=1))
    assert await store.change_factor(factor, replace(factor, last_step=1))
    event = audit_event(AuditKind.FACTOR_REMOVED, at_ms=5_000, user=factor.user)
    for after in (replace(factor, last_step=2), None):
        assert not await store.change_factor(factor, after, events=[event])
    assert await store.factor(factor.user) == replace(factor, last_step=1, version=1)


async def test_a_factor_that_was_removed_and_added_anew_is_another_one(store):
    factor = new_factor()
    assert await store.change_factor(None, factor)
    assert await store.change_factor(factor, None)
    other = replace(factor, salt=b"tlas" * 4)
    assert await store.change_factor(None, other)
    for after in (replace(factor, last_step=1), None):
        assert not await store.change_factor(factor, after)
    assert await store.factor(factor.user) == other
