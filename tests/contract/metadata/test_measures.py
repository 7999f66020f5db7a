"""Every table of measures owes this."""

import pytest

from services.metadata.adapters.dynamodb_measures import DynamoMeasures
from services.metadata.adapters.dynamodb_tree import DynamoTable
from services.metadata.ports import Measure, ProjectionState
from syncline.model.identifiers import SpaceId, new_text_id
from tests.contract.metadata.conftest import EMBEDDED, everywhere
from tests.support.metadata import MemoryMeasures

MEASURE = Measure(
    unsealed_bytes=1 << 40,
    unsealed_objects=7,
    stored_bytes=1 << 41,
    refused=True,
    since_ms=3_000,
    at_ms=5_000,
    next_at_ms=9_000,
)


@pytest.fixture
async def measures(backend):
    if backend is None:
        yield MemoryMeasures()
        return
    async with backend.aws.client("dynamodb", backend.metadata) as client:
        yield DynamoMeasures(client, table=backend.table)


LEASE = 1_500


async def save(measures, space: SpaceId, measure: Measure, *, due_ms: int | None) -> bool:
    """Save as the process that measures the space."""
    await measures.schedule([space], 0)
    (since_ms,) = [at for other, at in await measures.due(10**15, 10_000) if other == space]
    assert await measures.claim(space, since_ms=since_ms, until_ms=LEASE)
    kept: bool = await measures.save(space, measure, lease_ms=LEASE, due_ms=due_ms)
    return kept


async def due(measures, space: SpaceId, now_ms: int) -> int | None:
    """Return the time since which this space is due, in milliseconds; None if it is not."""
    return dict(await measures.due(now_ms, 10_000)).get(space)


@everywhere
async def test_a_space_that_was_never_measured_is_at_zero(measures, space):
    assert await measures.measure(space) == Measure()
    assert await due(measures, space, 10**15) is None
    await measures.schedule([], 1_000)


@everywhere
async def test_a_space_that_was_never_measured_is_due_at_once(measures, space):
    await measures.schedule([space, space], 1_000)
    assert await due(measures, space, 999) is None
    assert await due(measures, space, 1_000) == 1_000
    await measures.schedule([space], 2_000)
    assert await due(measures, space, 2_000) == 1_000
    assert await measures.measure(space) == Measure()


@everywhere
async def test_many_are_due_the_longest_first(measures):
    spaces = [SpaceId(new_text_id()) for _ in range(230)]
    await measures.schedule(spaces[:1], 100)
    await measures.schedule(spaces[1:], 200)
    found = [(space, at) for space, at in await measures.due(300, 10_000) if space in spaces]
    assert found[0] == (spaces[0], 100)
    assert sorted(found[1:]) == sorted((space, 200) for space in spaces[1:])
    assert len(await measures.due(300, 17)) == 17
    for space, at in found:  # without this they would be due in other tests
        assert await measures.save(space, MEASURE, lease_ms=at, due_ms=None)


@everywhere
async def test_one_of_several_claims_a_space(measures, space):
    await measures.schedule([space], 1_000)
    claims = [await measures.claim(space, since_ms=1_000, until_ms=until) for until in (5_000, 6_000)]
    assert claims == [True, False]
    assert await due(measures, space, 4_999) is None
    assert await due(measures, space, 5_000) == 5_000
    assert not await measures.claim(SpaceId(new_text_id()), since_ms=1_000, until_ms=5_000)


@everywhere
async def test_a_measure_is_kept_and_the_space_is_not_due_before_it_says(measures, space):
    await measures.schedule([space], 1_000)
    assert await save(measures, space, MEASURE, due_ms=None)
    assert await measures.measure(space) == MEASURE
    assert await due(measures, space, 10**15) is None
    await measures.schedule([space], 2_000)
    assert await due(measures, space, 10**15) == MEASURE.next_at_ms
    assert await measures.measure(space) == MEASURE
    assert await measures.claim(space, since_ms=MEASURE.next_at_ms, until_ms=10_000)
    assert await measures.measure(space) == MEASURE


@everywhere
async def test_a_space_is_measured_again_and_again(measures, space):
    assert await save(measures, space, MEASURE, due_ms=9_000)
    assert await due(measures, space, 8_999) is None
    assert await due(measures, space, 9_000) == 9_000
    await measures.schedule([space], 20_000)
    assert await due(measures, space, 9_000) == 9_000
    assert await save(measures, space, Measure(at_ms=1, next_at_ms=2), due_ms=None)
    assert await due(measures, space, 10**15) is None


@everywhere
async def test_who_has_lost_the_lease_saves_nothing(measures, space):
    assert not await measures.save(space, MEASURE, lease_ms=LEASE, due_ms=9_000)
    await measures.schedule([space], 1_000)
    assert await measures.claim(space, since_ms=1_000, until_ms=LEASE)
    assert await measures.claim(space, since_ms=LEASE, until_ms=3_000)
    assert not await measures.save(space, MEASURE, lease_ms=LEASE, due_ms=None)
    assert await due(measures, space, 10**15) == 3_000
    assert await measures.measure(space) == Measure()
    assert await measures.save(space, MEASURE, lease_ms=3_000, due_ms=None)
    assert not await measures.save(space, Measure(at_ms=1), lease_ms=3_000, due_ms=None)
    assert await measures.measure(space) == MEASURE


@pytest.mark.parametrize("backend", [EMBEDDED], indirect=True)
async def test_what_is_to_be_measured_was_not_left_behind_by_a_writer(measures, backend, space):
    """Both lie in one index."""
    async with backend.aws.client("dynamodb", backend.metadata) as client:
        table = DynamoTable(client, table=backend.table)
        await measures.schedule([space], 1_000)
        assert space not in await table.stale(10**15, 10_000)
        assert await table.state(space) == ProjectionState()
        await table.mark_dirty(space, "process", 2_000)
        assert space in await table.stale(10**15, 10_000)
        assert await due(measures, space, 10**15) == 1_000
