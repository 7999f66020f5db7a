"""Every tree table knows how far projection and announcement have come, and who is at it."""

import asyncio

from services.metadata.ports import ProjectionState
from syncline.model.identifiers import SpaceId, new_text_id
from tests.contract.metadata.conftest import everywhere, where_concurrent


async def save(table, space, seq: int, *, announced: int | None = None, **unmark: int) -> None:
    await table.save_progress(
        space,
        projected_seq=seq,
        announced_seq=seq if announced is None else announced,
        used_bytes=seq * 100,
        unmark=unmark,
    )


async def is_stale(table, space, now_ms: int) -> bool:
    return space in await table.stale(now_ms, 10_000)


@everywhere
async def test_a_new_space_is_at_zero(table, space):
    assert await table.state(space) == ProjectionState()
    assert not await is_stale(table, space, 10**15)


@everywhere
async def test_progress_goes_forward(table, space):
    await save(table, space, 3, announced=2)
    assert await table.state(space) == ProjectionState(3, 2, 300, {})
    await save(table, space, 5, announced=7)
    assert await table.state(space) == ProjectionState(5, 7, 500, {})


@everywhere
async def test_progress_never_goes_back(table, space):
    await save(table, space, 5)
    await save(table, space, 4, announced=6)
    assert await table.state(space) == ProjectionState(5, 6, 500, {})
    await save(table, space, 6, announced=1)
    assert await table.state(space) == ProjectionState(6, 6, 600, {})
    await save(table, space, 2, announced=2)
    assert await table.state(space) == ProjectionState(6, 6, 600, {})


@everywhere
async def test_marks_come_and_go(table, space):
    await table.mark_dirty(space, "one", 1_000)
    assert await table.state(space) == ProjectionState(marks={"one": 1_000})
    await table.mark_dirty(space, "one", 2_000)
    await save(table, space, 1, one=2_000)
    assert await table.state(space) == ProjectionState(1, 1, 100, {})
    await table.mark_dirty(space, "one", 3_000)
    await table.mark_dirty(space, "two", 4_000)
    assert await table.state(space) == ProjectionState(1, 1, 100, {"one": 3_000, "two": 4_000})
    await save(table, space, 2, two=4_000)
    assert await table.state(space) == ProjectionState(2, 2, 200, {"one": 3_000})
    await save(table, space, 2, one=3_000)
    assert await table.state(space) == ProjectionState(2, 2, 200, {})


@everywhere
async def test_several_marks_go_at_once(table, space):
    for process in ("one", "two", "three"):
        await table.mark_dirty(space, process, 1_000)
    await save(table, space, 1, one=1_000, three=1_000)
    assert await table.state(space) == ProjectionState(1, 1, 100, {"two": 1_000})
    await table.mark_dirty(space, "one", 1_000)
    await save(table, space, 2, one=1_000, two=1_000)
    assert await table.state(space) == ProjectionState(2, 2, 200, {})
    assert not await is_stale(table, space, 10**15)


@everywhere
async def test_a_mark_that_was_renewed_stays(table, space):
    await table.mark_dirty(space, "one", 1_000)
    await table.mark_dirty(space, "one", 2_000)
    await save(table, space, 4, one=1_000)
    assert await table.state(space) == ProjectionState(4, 4, 400, {"one": 2_000})


@everywhere
async def test_a_mark_that_is_gone_does_not_stop_progress(table, space):
    await save(table, space, 4, one=1_000)
    assert await table.state(space) == ProjectionState(4, 4, 400, {})
    await save(table, space, 5, one=1_000)
    assert await table.state(space) == ProjectionState(5, 5, 500, {})


@everywhere
async def test_progress_without_marks_leaves_them(table, space):
    await table.mark_dirty(space, "one", 1_000)
    await save(table, space, 1)
    assert await table.state(space) == ProjectionState(1, 1, 100, {"one": 1_000})
    assert await is_stale(table, space, 1_001)


@everywhere
async def test_a_mark_goes_also_when_progress_stands_still(table, space):
    await save(table, space, 5)
    await table.mark_dirty(space, "one", 1_000)
    await save(table, space, 3, one=1_000)
    assert await table.state(space) == ProjectionState(5, 5, 500, {})
    assert not await is_stale(table, space, 10**15)


@everywhere
async def test_a_space_is_stale_when_its_latest_lease_has_ended(table, space):
    await table.mark_dirty(space, "one", 2_000)
    await table.mark_dirty(space, "two", 1_500)
    assert not await is_stale(table, space, 1_600)
    assert not await is_stale(table, space, 2_000)
    assert await is_stale(table, space, 2_001)
    await table.mark_dirty(space, "two", 3_000)
    assert not await is_stale(table, space, 2_001)
    await save(table, space, 1, two=3_000)
    assert await is_stale(table, space, 2_001)
    await save(table, space, 1, one=2_000)
    assert not await is_stale(table, space, 10**15)


@everywhere
async def test_not_more_spaces_are_stale_than_were_asked_for(table):
    spaces = [SpaceId(new_text_id()) for _ in range(3)]
    for space in spaces:
        await table.mark_dirty(space, "one", 5)
    assert len(await table.stale(6, 2)) == 2
    assert set(spaces) <= set(await table.stale(6, 10_000))


@everywhere
async def test_any_process_name_will_do(table, space):
    for process in ("a-b.c", "size", "9", "#", "é"):
        await table.mark_dirty(space, process, 1_000)
        await table.save_progress(space, projected_seq=0, announced_seq=0, used_bytes=0, unmark={process: 1_000})
        assert (await table.state(space)).marks == {}


@where_concurrent
async def test_what_processes_do_at_once_is_not_lost(open_stores, space):
    tables = [(await open_stores()).table for _ in range(4)]
    await asyncio.gather(*(table.mark_dirty(space, f"p{i}", 1_000 + i) for i, table in enumerate(tables)))
    assert (await tables[0].state(space)).marks == {f"p{i}": 1_000 + i for i in range(4)}
    await asyncio.gather(
        save(tables[0], space, 7, p0=1_000),
        save(tables[1], space, 9, p1=1_001),
        save(tables[2], space, 8, p2=1_002),
        tables[3].mark_dirty(space, "p3", 2_000),
    )
    assert await tables[0].state(space) == ProjectionState(9, 9, 900, {"p3": 2_000})
    assert not await is_stale(tables[0], space, 2_000)
    await save(tables[3], space, 9, p3=2_000)
    assert await tables[0].state(space) == ProjectionState(9, 9, 900, {})
    assert not await is_stale(tables[0], space, 10**15)
