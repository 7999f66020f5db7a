"""The work of a plan grows as the trees do, whatever a member of the space has done to them: for twice as many nodes it
is twice as much, not four times.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from syncline.model.identifiers import ROOT, NodeId
from syncline.model.names import MAX_NAME_BYTES, name_problem
from syncline.model.tree import NodeKind
from syncline.sync.plan.conflict_names import ConflictNames
from syncline.sync.plan.plan import Plan, plan
from syncline.sync.trees import new_local_id
from tests.clients.sync.test_plan import LABEL, Item, base_tree, digest, local_tree, real_id, remote_tree

MANY = 100
RATIO = 2.5
"""The ratio that the work may reach for twice as many nodes: sorting takes more than twice as long."""

Trees = tuple[dict[NodeId, Item], dict[NodeId, Item], dict[NodeId, Item]]
DIRECTORY, FILE = NodeKind.DIRECTORY, NodeKind.FILE


def directories_of_one_name(count: int) -> Trees:
    """Base, folder and space: both sides have made the same directories, with the same files."""
    local, remote = {}, {}
    for n in range(count):
        here, there = new_local_id(2 * n + 1), real_id(2 * n + 1)
        local[here], remote[there] = (Item(ROOT, f"d{n}", DIRECTORY) for _ in range(2))
        local[new_local_id(2 * n + 2)], remote[real_id(2 * n + 2)] = (
            Item(parent, "f", FILE, digest(n + 1)) for parent in (here, there)
        )
    return {}, local, remote


def one_directory_below_another(count: int) -> Trees:
    """Both sides have made the same directories, each in the one before."""
    local, remote = {}, {}
    here = there = ROOT
    for n in range(1, count + 1):
        local[new_local_id(n)], remote[real_id(n)] = Item(here, f"d{n}", DIRECTORY), Item(there, f"d{n}", DIRECTORY)
        here, there = new_local_id(n), real_id(n)
    return {}, local, remote


def moves_into_each_other(count: int) -> Trees:
    """One side has moved the first of each two directories into the second, and the other side did the reverse."""
    base: dict[NodeId, Item] = {}
    local: dict[NodeId, Item] = {}
    remote: dict[NodeId, Item] = {}
    for n in range(count):
        one, other = real_id(2 * n + 1), real_id(2 * n + 2)
        base |= {one: Item(ROOT, f"a{n}", DIRECTORY), other: Item(ROOT, f"b{n}", DIRECTORY)}
        local |= {one: Item(other, "a", DIRECTORY), other: base[other]}
        remote |= {one: base[one], other: Item(one, "b", DIRECTORY)}
    return base, local, remote


def directories_turned_inside_out(count: int) -> Trees:
    """The space has put the outer one of each two directories into the inner one, which got its name."""
    base: dict[NodeId, Item] = {}
    remote: dict[NodeId, Item] = {}
    for n in range(count):
        outer, inner = real_id(2 * n + 1), real_id(2 * n + 2)
        base |= {outer: Item(ROOT, f"d{n}", DIRECTORY), inner: Item(outer, "inner", DIRECTORY)}
        remote |= {inner: Item(ROOT, f"d{n}", DIRECTORY), outer: Item(inner, "inner", DIRECTORY)}
    return base, base, remote


def files_of_long_names(count: int) -> Trees:
    """Both sides have made other files of the same names, which differ only where a conflict name has its mark."""
    names = [f"{'n' * (MAX_NAME_BYTES - 6)}{n:06}" for n in range(count)]
    local = {new_local_id(n + 1): Item(ROOT, name, FILE, digest(n + 1)) for n, name in enumerate(names)}
    remote = {real_id(n + 1): Item(ROOT, name, FILE, digest(count + n + 1)) for n, name in enumerate(names)}
    return {}, local, remote


def work_of(work: Callable[[], Plan]) -> tuple[Plan, int]:
    """The result of `work`, and how many instructions of Python it took."""
    count = 0

    def traced(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return traced

    sys.settrace(traced)
    try:
        result = work()
    finally:
        sys.settrace(None)
    return result, count


@pytest.mark.parametrize(
    "trees",
    [
        directories_of_one_name,
        one_directory_below_another,
        moves_into_each_other,
        directories_turned_inside_out,
        files_of_long_names,
    ],
)
def test_twice_as_many_nodes_take_twice_the_work(trees: Callable[[int], Trees]) -> None:
    counts = []
    for count in (MANY, 2 * MANY):
        base, local, remote = trees(count)
        arguments = base_tree(base), local_tree(local), remote_tree(remote)
        todo, steps = work_of(lambda arguments=arguments: plan(*arguments, label=LABEL))  # type: ignore[misc]
        assert set(remote) <= set(todo.target)
        counts.append(steps)
    assert counts[1] <= RATIO * counts[0]


def test_conflict_names_are_free_and_keep_the_rules() -> None:
    names = ConflictNames(LABEL)
    taken = {f"report ({LABEL} {number}).txt" for number in (2, 4)}
    for name in taken:
        names.take(name)
    found = [names.name("report.txt") for _ in range(4)]
    assert found == [f"report ({LABEL}{mark}).txt" for mark in ("", " 3", " 5", " 6")]
    long = [names.name(f"{'n' * 250}{number:05}") for number in range(300)]
    assert len(set(long)) == 300
    assert not any(map(name_problem, long))
