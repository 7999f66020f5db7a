"""Every tree table owes this; the space's progress has tests of its own."""

import asyncio
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.metadata.entry import NameKey, Projection, fold
from services.metadata.tree.view import version_of
from syncline.model.identifiers import ROOT, NodeId, RequestId, SpaceId, new_request_id, new_text_id
from tests.contract.metadata.conftest import where_concurrent
from tests.contract.metadata.support import (
    Expected,
    creation,
    entries_of,
    file_node,
    histories,
    new_node_id,
    updated,
)

pytestmark = where_concurrent
over_one_backend = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
async def tables(open_stores):
    return [(await open_stores()).table for _ in range(2)]


async def assert_holds(table, space, expected: Expected, *, versions: bool = True) -> None:
    rows = await table.rows(space, nodes=expected.nodes, names=expected.names, requests=expected.requests)
    assert rows.nodes == expected.nodes
    assert rows.names == expected.names
    assert rows.requests == expected.requests
    trash = await table.trash(space, after=None, limit=100)
    assert {node: (deleted, seq) for node, deleted, seq in trash} == expected.trash
    if versions:
        for node, superseded in expected.versions.items():
            assert list(await table.versions(space, node, before=10**6, limit=100)) == superseded


# ---- rows


async def test_what_is_not_there_is_absent(table, space):
    rows = await table.rows(space, nodes=[new_node_id()], names=[(ROOT, "a")], requests=[new_request_id()])
    assert (rows.nodes, rows.names, rows.requests, rows.newest) == ({}, {}, {}, 0)
    rows = await table.rows(space)
    assert (rows.nodes, rows.names, rows.requests) == ({}, {}, {})
    assert (await table.list_names(space, ROOT, after="", limit=10)).names == {}
    assert list(await table.versions(space, new_node_id(), before=9, limit=10)) == []
    assert list(await table.trash(space, after=None, limit=10)) == []


async def test_a_node_comes_back_with_all_its_fields(table, space):
    node = file_node("report.txt", seq=3, blocks=20)
    await table.project(space, creation(node))
    rows = await table.rows(space, nodes=[node.id], names=[(ROOT, "report.txt")])
    assert rows.nodes == {node.id: node}
    assert rows.names == {(ROOT, "report.txt"): (node.id, 3)}
    assert rows.newest == 3


async def test_hundreds_of_keys_are_read_together(table, space):
    nodes = [file_node(f"file {i}", seq=1) for i in range(230)]
    projection = creation(*nodes)
    projection.requests = {new_request_id(): 1 for _ in range(120)}
    await table.project(space, projection)
    absent = [new_node_id() for _ in range(100)]
    rows = await table.rows(
        space,
        nodes=[*projection.nodes, *absent],
        names=[*projection.names, (ROOT, "absent")],
        requests=projection.requests,
    )
    assert rows.nodes == projection.nodes
    assert rows.names == projection.names
    assert rows.requests == projection.requests


async def test_a_key_may_be_asked_for_twice(table, space):
    node = file_node("a", seq=1)
    await table.project(space, creation(node))
    rows = await table.rows(space, nodes=[node.id, node.id], names=[(ROOT, "a"), (ROOT, "a")])
    assert rows.nodes == {node.id: node}


async def test_megabytes_of_manifests_are_projected_and_read(table, space):
    projection = creation(*(file_node(f"film {i}", seq=1, blocks=1024) for i in range(40)))
    await table.project(space, projection)
    assert (await table.rows(space, nodes=projection.nodes)).nodes == projection.nodes


async def test_spaces_are_apart(table, space):
    node = file_node("a", seq=1)
    await table.project(space, creation(node))
    other = SpaceId(new_text_id())
    rows = await table.rows(other, nodes=[node.id], names=[(ROOT, "a")])
    assert (rows.nodes, rows.names) == ({}, {})
    assert (await table.list_names(other, ROOT, after="", limit=10)).names == {}


# ---- listings


async def test_names_are_listed_in_pages_with_tombstones(table, space):
    directory = new_node_id()
    names: dict[NameKey, tuple[NodeId | None, int]] = {
        (directory, f"{i:03}"): (new_node_id() if i % 3 else None, i + 1) for i in range(25)
    }
    await table.project(space, Projection(names=names))
    await table.project(space, Projection(names={(ROOT, "000"): (new_node_id(), 1)}))
    first = await table.list_names(space, directory, after="", limit=10)
    assert (list(first.names), first.more) == ([(directory, f"{i:03}") for i in range(10)], True)
    second = await table.list_names(space, directory, after="009", limit=15)
    assert (list(second.names), second.more) == ([(directory, f"{i:03}") for i in range(10, 25)], False)
    assert (await table.list_names(space, directory, after="024", limit=10)).names == {}
    assert {**first.names, **second.names} == names
    assert first.newest == 10


@over_one_backend
@given(st.sets(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60), max_size=12))
async def test_any_name_is_stored_and_listed_in_utf8_order(table, names):
    space, directory = SpaceId(new_text_id()), new_node_id()
    ours = names | {
        "～",
        "😀",
        "é",
        unicodedata.normalize("NFD", "é"),
        " ",
        "x" * 255,
    }  # UTF-16 would swap the first two
    held: dict[NameKey, tuple[NodeId | None, int]] = {(directory, name): (new_node_id(), 1) for name in ours}
    await table.project(space, Projection(names=held))
    ordered = sorted(ours, key=str.encode)
    rows = await table.list_names(space, directory, after="", limit=100)
    assert [name for _, name in rows.names] == ordered
    assert rows.names == held
    assert (await table.rows(space, names=held)).names == held
    middle = ordered[len(ordered) // 2]
    rest = await table.list_names(space, directory, after=middle, limit=100)
    assert [name for _, name in rest.names] == [name for name in ordered if name.encode() > middle.encode()]


async def test_the_trash_is_listed_by_id(table, space):
    marked = sorted((new_node_id(), i % 4 != 0, i + 1) for i in range(12))
    await table.project(space, Projection(trash={node: (deleted, seq) for node, deleted, seq in marked}))
    assert list(await table.trash(space, after=None, limit=5)) == marked[:5]
    assert list(await table.trash(space, after=marked[4][0], limit=100)) == marked[5:]
    assert list(await table.trash(space, after=marked[-1][0], limit=5)) == []


async def test_versions_are_listed_newest_first(table, space):
    states = [file_node("a", seq=1)]
    for seq in range(2, 13):
        states.append(updated(states[-1], seq))
    last = states.pop()
    await table.project(space, Projection(nodes={last.id: last}, superseded=states))
    expected = [version_of(state) for state in reversed(states)]
    assert list(await table.versions(space, last.id, before=13, limit=100)) == expected
    assert list(await table.versions(space, last.id, before=10, limit=3)) == expected[2:5]
    assert list(await table.versions(space, last.id, before=1, limit=3)) == []


# ---- projection


async def test_the_version_that_the_table_holds_is_kept_when_it_is_replaced(table, space):
    first = file_node("a", seq=1)
    await table.project(space, creation(first))
    second, third = updated(first, 2), updated(updated(first, 2), 3)
    later = Projection(nodes={first.id: third}, superseded=[second], updated={first.id})
    for _ in range(2):  # the second time the table is ahead of what the projection starts from
        await table.project(space, later)
        assert (await table.rows(space, nodes=[first.id])).nodes == {first.id: third}
        versions = await table.versions(space, first.id, before=9, limit=9)
        assert list(versions) == [version_of(second), version_of(first)]


async def test_a_state_that_the_projection_supersedes_itself_may_be_stored_already(table, space):
    first = file_node("a", seq=1)
    second, third = updated(first, 2), updated(updated(first, 2), 3)
    await table.project(space, creation(first))
    await table.project(space, Projection(nodes={first.id: second}, updated={first.id}))
    await table.project(space, Projection(nodes={first.id: third}, superseded=[second], updated={first.id}))
    versions = await table.versions(space, first.id, before=9, limit=9)
    assert list(versions) == [version_of(second), version_of(first)]


async def test_an_older_projection_changes_nothing(table, space):
    old = file_node("a", seq=4)
    new = replace(old, name="b", seq=7)
    now = Projection(
        nodes={old.id: new},
        names={(ROOT, "a"): (None, 7), (ROOT, "b"): (old.id, 7)},
        trash={old.id: (False, 7)},
    )
    then = Projection(nodes={old.id: old}, names={(ROOT, "a"): (old.id, 4)}, trash={old.id: (True, 4)})
    await table.project(space, now)
    await table.project(space, then)
    rows = await table.rows(space, nodes=[old.id], names=[(ROOT, "a"), (ROOT, "b")])
    assert rows.nodes == now.nodes
    assert rows.names == now.names
    assert list(await table.trash(space, after=None, limit=9)) == [(old.id, False, 7)]


async def test_of_many_items_only_the_older_ones_are_replaced(table, space):
    nodes = [file_node(f"file {i}", seq=5) for i in range(150)]
    await table.project(space, creation(*nodes[:40], *nodes[100:]))
    moved = [replace(node, name=f"{node.name} moved", seq=3 if i % 2 else 8) for i, node in enumerate(nodes)]
    await table.project(space, Projection(nodes={node.id: node for node in moved}))
    stored = set(range(40)) | set(range(100, 150))
    expected = [nodes[i] if i in stored and moved[i].seq < nodes[i].seq else moved[i] for i in range(len(nodes))]
    assert (await table.rows(space, nodes=[node.id for node in nodes])).nodes == {node.id: node for node in expected}


async def test_a_name_that_was_free_can_be_held_again(table, space):
    node = file_node("a", seq=1)
    await table.project(space, creation(node))
    await table.project(space, Projection(names={(ROOT, "a"): (None, 2)}))
    assert (await table.rows(space, names=[(ROOT, "a")])).names == {(ROOT, "a"): (None, 2)}
    await table.project(space, Projection(names={(ROOT, "a"): (node.id, 3)}))
    assert (await table.rows(space, names=[(ROOT, "a")])).names == {(ROOT, "a"): (node.id, 3)}


async def test_an_empty_projection_is_nothing(table, space):
    await table.project(space, Projection())
    await table.project(space, Projection(requests={RequestId(bytes(16)): 1}))
    assert (await table.rows(space, requests=[RequestId(bytes(16))])).newest == 1


@over_one_backend
@given(history=histories, data=st.data())
async def test_overlapping_projections_in_any_order_leave_the_last_state(tables, history, data):
    space = SpaceId(new_text_id())
    entries = entries_of(history)
    n = len(entries)
    ends = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).map(sorted)
    ranges = data.draw(st.lists(ends, max_size=4))
    ranges = data.draw(st.permutations([*ranges, *([i, i] for i in range(n))]))
    for pair in zip(ranges[::2], [*ranges[1::2], None], strict=False):
        together = list(zip(tables, filter(None, pair), strict=False))
        folded = [await fold(entries[i : j + 1], account=space) for _, (i, j) in together]
        await asyncio.gather(*(table.project(space, one) for (table, _), one in zip(together, folded, strict=True)))
    await assert_holds(tables[0], space, Expected.after(entries), versions=False)


@over_one_backend
@given(history=histories, data=st.data())
async def test_projectors_that_start_where_the_table_is_lose_no_version(tables, history, data):
    """Each process starts at some progress that was saved, and two of them go at once."""
    space = SpaceId(new_text_id())
    entries = entries_of(history)
    done = 0
    while done < len(entries):
        starts = [data.draw(st.integers(0, done)) for _ in tables]
        ends = [data.draw(st.integers(done + 1, len(entries))) for _ in tables]
        folded = [await fold(entries[start:end], account=space) for start, end in zip(starts, ends, strict=True)]
        await asyncio.gather(*(table.project(space, one) for table, one in zip(tables, folded, strict=True)))
        done = data.draw(st.sampled_from(ends))
    await assert_holds(tables[0], space, Expected.after(entries))
