"""Changes from the space are not trusted: only what can be in a folder gets into the tree."""

from __future__ import annotations

import json

import pytest

from syncline.model.blocks import Digest
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.names import MAX_PATH_NAMES
from syncline.model.tree import NodeKind
from syncline.sync.filesystem_names import Naming
from syncline.sync.trees import (
    BaseNode,
    RemoteNode,
    in_transit,
    live_nodes,
    new_local_id,
    path_of,
    printable,
    transit_name,
)
from syncline.transfer.jobs import Signature


def node_id(number: int) -> NodeId:
    return NodeId(number.to_bytes(16, "big"))


def remote(number: int, name: str, parent: int = 0, kind: NodeKind = NodeKind.FILE, **more: object) -> RemoteNode:
    values = {"version": 1, "digest": Digest(bytes(32)), "executable": False, "size": 1, "seq": number} | more
    return RemoteNode(node_id(number), node_id(parent), name, kind, **values)  # type: ignore[arg-type]


def live(*nodes: RemoteNode) -> tuple[list[str], list[str]]:
    """The names that got in, and the paths of the problems."""
    live = live_nodes({node.id: node for node in nodes})
    found, problems = live.nodes, live.problems
    return [node.name for node in found.values()], [problem.path for problem in problems]


@pytest.mark.parametrize("name", ["..", ".", "", "../../etc/passwd", "a/b", "/abs", "a\0b", "x" * 256, "e\u0301"])
def test_a_name_that_leads_elsewhere_is_a_problem_and_no_file(name: str) -> None:
    names, problems = live(remote(1, name), remote(2, "good"))
    assert names == ["good"]
    assert len(problems) == 1
    json.dumps(problems)


def test_below_a_hostile_directory_nothing_gets_in() -> None:
    names, problems = live(remote(1, "..", kind=NodeKind.DIRECTORY), remote(2, "passwd", parent=1))
    assert names == []
    assert problems == [".."]


def test_what_is_deeper_than_a_path_can_be_stays_in_the_space_and_is_said_once() -> None:
    directories = [remote(n, "d", parent=n - 1, kind=NodeKind.DIRECTORY) for n in range(1, 5001)]
    files = [remote(10_000 + n, f"{n}.txt", parent=MAX_PATH_NAMES) for n in range(100)]
    names, problems = live(*directories, *files)
    assert names == ["d"] * MAX_PATH_NAMES
    assert problems == ["d/" * (MAX_PATH_NAMES - 1) + "d"]
    long = [remote(n, "n" * 255, parent=n - 1, kind=NodeKind.DIRECTORY) for n in range(1, 18)]
    names, problems = live(*long, remote(20, "x" * 255, parent=15), remote(21, "x", parent=16))
    assert len(names) == 17, "sixteen directories have a path of 4,095 bytes"
    assert problems == ["/".join(["n" * 255] * 16)]


def test_what_was_synced_before_there_was_a_limit_goes_on_being_synced() -> None:
    directories = [remote(n, "d", parent=n - 1, kind=NodeKind.DIRECTORY) for n in range(1, 200)]
    agreed = {
        node.id: BaseNode(node.id, node.parent, node.name, node.kind, 0, None, False, Signature(0, 0, 0, 0), "d")
        for node in directories
    }
    tree = live_nodes({node.id: node for node in directories}, agreed)
    assert (len(tree.nodes), tree.problems) == (199, [])


def test_the_clients_own_directory_cannot_come_from_the_space() -> None:
    inner = remote(3, ".syncline", parent=2)
    names, problems = live(remote(1, ".syncline"), remote(2, "d", kind=NodeKind.DIRECTORY), inner)
    assert names == ["d", ".syncline"]
    assert problems == [".syncline"]


def test_of_two_nodes_of_one_name_the_older_is_taken() -> None:
    names, problems = live(remote(2, "a", digest=Digest(b"2" * 32)), remote(1, "a"))
    assert names == ["a"]
    assert problems == ["a"]


def test_cycles_orphans_and_deleted_nodes_are_not_in_the_tree() -> None:
    directory = NodeKind.DIRECTORY
    cycle = [remote(1, "a", parent=2, kind=directory), remote(2, "b", parent=1, kind=directory)]
    names, _ = live(*cycle, remote(3, "orphan", parent=9), remote(4, "gone", deleted=True), remote(5, "here"))
    assert names == ["here"]


def test_a_file_without_content_is_a_problem() -> None:
    assert live(remote(1, "a", digest=None)) == ([], ["a"])


def test_parents_come_before_children() -> None:
    directory = NodeKind.DIRECTORY
    names, _ = live(remote(1, "c", parent=2), remote(2, "b", parent=3, kind=directory), remote(3, "a", kind=directory))
    assert names == ["a", "b", "c"]


def test_a_transit_name_tells_its_node() -> None:
    for node in (node_id(7), new_local_id(7)):
        assert in_transit(transit_name(node)) == node
    for name in (".syncline-", ".syncline-xyz", ".syncline-0", "syncline-00", ".syncline-00.txt"):
        assert in_transit(name) is None


def test_paths_can_be_printed_and_end() -> None:
    assert printable("a\udcffb") == "a\\xffb"
    places = {node_id(1): (node_id(2), "a"), node_id(2): (node_id(1), "b")}
    assert path_of(node_id(1), places)
    assert path_of(ROOT, places) == ""


class CountingBase(dict[NodeId, BaseNode]):
    """Counts how often a node is looked up."""

    lookups = 0

    def get(self, *arguments: object) -> object:  # type: ignore[override]
        self.lookups += 1
        return super().get(*arguments)  # type: ignore[call-overload]

    def __getitem__(self, node: NodeId) -> BaseNode:
        self.lookups += 1
        return super().__getitem__(node)


@pytest.mark.parametrize("count", [300, 600])
def test_thousands_of_names_that_cannot_be_here_cost_a_few_steps_each(count: int) -> None:
    """Somebody renames all files of a space to what Windows keeps for devices; they stay under their old names."""
    renamed = [remote(n, f"con.{n}", seq=n) for n in range(1, count + 1)]
    base = CountingBase(
        {
            node.id: BaseNode(node.id, ROOT, f"{n}", node.kind, 1, None, False, Signature(0, 0, 0, 0), f"{n}")
            for n, node in enumerate(renamed)
        }
    )
    tree = live_nodes({node.id: node for node in renamed}, base, Naming(folds_case=True, like_windows=True))
    assert sorted(node.name for node in tree.nodes.values()) == sorted(f"{n}" for n in range(count))
    assert len(tree.withheld) == count
    assert base.lookups <= 8 * count


def test_a_name_of_the_clients_own_is_a_problem_and_no_file() -> None:
    own = [remote(1, transit_name(node_id(2))), remote(2, transit_name(new_local_id(1)))]
    scratch = remote(3, ".syncline-tmp-0123", kind=NodeKind.DIRECTORY)
    moved_aside = remote(4, transit_name(node_id(4)))
    names, problems = live(*own, scratch, remote(5, "inner", parent=3), moved_aside, remote(6, ".syncline-x"))
    assert sorted(names) == sorted([".syncline-x", moved_aside.name])
    assert sorted(problems) == sorted(node.name for node in (*own, scratch))
    upper = remote(1, transit_name(node_id(0xABC)).upper())
    assert not live_nodes({upper.id: upper}, naming=Naming(folds_case=True)).nodes
