"""The planner by properties: over any three trees, its operations can be done in their order and make both sides equal.

The operations are carried out on two small models that refuse what a file system and a space refuse: a parent that is
not there, a name that is taken, a directory that is not empty, a cycle.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncline.model.blocks import Digest
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.names import name_problem
from syncline.model.tree import NodeKind
from syncline.sync.plan.disown import disown
from syncline.sync.plan.mass_deletion import deletions
from syncline.sync.plan.operations import Delete, Make, Move, Operation, SetMode, Side, Write
from syncline.sync.plan.plan import Plan, plan
from syncline.sync.trees import BaseNode, LocalNode, Place, RemoteNode, new_local_id
from syncline.transfer.jobs import Signature

LABEL = "conflict laptop 2026-11-03 142501"
NAMES = ("a", "b", "c", "d.txt")
Contents = tuple[Digest | None, bool]


def real_id(number: int) -> NodeId:
    return NodeId(number.to_bytes(16, "big"))


def digest(number: int) -> Digest:
    return Digest(number.to_bytes(32, "big"))


@dataclasses.dataclass(frozen=True)
class Item:
    """A node of one side, by what all three trees know of it."""

    parent: NodeId
    name: str
    kind: NodeKind
    digest: Digest | None = None
    executable: bool = False
    version: int = 1


class ChangingTree:
    """A tree that is changed at random, by a user or by other devices; always a tree."""

    def __init__(self, items: Mapping[NodeId, Item], rng: random.Random, *, local: bool) -> None:
        self.items = dict(items)
        self.rng = rng
        self.local = local
        self.made = 0

    def change(self) -> None:
        self.rng.choice(
            (self.create, self.create, self.edit, self.edit, self.move, self.move, self.delete, self.mode)
        )()

    def create(self) -> None:
        place = self.free_place(self.directories())
        if place is None:
            return
        self.made += 1
        kind = self.rng.choice((NodeKind.FILE, NodeKind.FILE, NodeKind.DIRECTORY))
        node = new_local_id(self.made) if self.local else real_id(1000 + self.made)
        self.items[node] = Item(*place, kind, self.content() if kind is NodeKind.FILE else None)

    def edit(self) -> None:
        if node := self.pick(NodeKind.FILE):
            item = self.items[node]
            self.items[node] = dataclasses.replace(item, digest=self.content(), version=item.version + 1)

    def mode(self) -> None:
        if node := self.pick(NodeKind.FILE):
            item = self.items[node]
            self.items[node] = dataclasses.replace(item, executable=not item.executable, version=item.version + 1)

    def move(self) -> None:
        if node := self.pick():
            below = self.below(node)
            place = self.free_place([parent for parent in self.directories() if parent not in below])
            if place is not None:
                self.items[node] = dataclasses.replace(self.items[node], parent=place[0], name=place[1])

    def delete(self) -> None:
        if node := self.pick():
            for inner in self.below(node):
                del self.items[inner]

    def content(self) -> Digest:
        # Few enough that both sides now and then save the same.
        return digest(self.rng.randrange(1, 40))

    def directories(self) -> list[NodeId]:
        return [ROOT, *(node for node, item in self.items.items() if item.kind is NodeKind.DIRECTORY)]

    def below(self, top: NodeId) -> set[NodeId]:
        found = {top}
        while more := {node for node, item in self.items.items() if item.parent in found} - found:
            found |= more
        return found

    def free_place(self, parents: Iterable[NodeId]) -> Place | None:
        taken = {(item.parent, item.name) for item in self.items.values()}
        free = [(parent, name) for parent in parents for name in NAMES if (parent, name) not in taken]
        return self.rng.choice(free) if free else None

    def pick(self, kind: NodeKind | None = None) -> NodeId | None:
        nodes = [node for node, item in self.items.items() if kind in {None, item.kind}]
        return self.rng.choice(nodes) if nodes else None


def signature(item: Item) -> Signature:
    return Signature(1, 1, 1, 1)


def base_tree(items: Mapping[NodeId, Item]) -> dict[NodeId, BaseNode]:
    return {
        node: BaseNode(
            node, i.parent, i.name, i.kind, i.version, i.digest, i.executable, signature(i), local_name=i.name
        )
        for node, i in items.items()
    }


def local_tree(items: Mapping[NodeId, Item]) -> dict[NodeId, LocalNode]:
    return {
        node: LocalNode(node, i.parent, i.name, i.kind, i.digest, i.executable, signature(i), local_name=i.name)
        for node, i in items.items()
    }


def remote_tree(items: Mapping[NodeId, Item]) -> dict[NodeId, RemoteNode]:
    return {
        node: RemoteNode(node, i.parent, i.name, i.kind, i.version, i.digest, i.executable, size=1, seq=1)
        for node, i in items.items()
    }


class Model:
    """Nodes at places, with the rules that both a folder and a space have."""

    def __init__(self, places: Mapping[NodeId, Place], kinds: Mapping[NodeId, NodeKind]) -> None:
        self.places = dict(places)
        self.kinds = dict(kinds)

    def make(self, node: NodeId, place: Place, kind: NodeKind) -> None:
        assert node not in self.places
        self._free(place)
        self.places[node], self.kinds[node] = place, kind

    def move(self, node: NodeId, to: Place) -> None:
        assert to[0] not in self.below(node), "into itself"
        self._free(to)
        self.places[node] = to

    def delete(self, node: NodeId, below: Iterable[NodeId] = ()) -> None:
        assert self.below(node) == {node, *below}
        for inner in (node, *below):
            del self.places[inner]

    def below(self, top: NodeId) -> set[NodeId]:
        found = {top}
        while more := {node for node, place in self.places.items() if place[0] in found} - found:
            found |= more
        return found

    def _free(self, place: Place) -> None:
        parent, name = place
        assert parent == ROOT or self.kinds[parent] is NodeKind.DIRECTORY
        assert parent == ROOT or parent in self.places
        assert place not in self.places.values()
        assert name_problem(name) is None


class Outcome:
    """Both sides after all operations of a plan were done in the order that `Plan` promises."""

    def __init__(self, todo: Plan, remote: Mapping[NodeId, RemoteNode]) -> None:
        self.plan = todo
        local = todo.local
        self.here = Model(
            {node: (n.parent, n.local_name) for node, n in local.items()}, {node: n.kind for node, n in local.items()}
        )
        self.there = Model({node: n.place for node, n in remote.items()}, {node: n.kind for node, n in remote.items()})
        self.contents_here: dict[NodeId, Contents] = {node: (n.digest, n.executable) for node, n in local.items()}
        self.contents_there: dict[NodeId, Contents] = {node: (n.digest, n.executable) for node, n in remote.items()}

        self.done: list[Operation] = []
        self._do(Side.LOCAL, todo.arrange_local)
        self._do(Side.REMOTE, todo.arrange_remote)
        self._do(Side.REMOTE, todo.sends)
        for stage in (todo.fetches, todo.modes, todo.delete_local):
            self._do(Side.LOCAL, stage)
        self._do(Side.REMOTE, todo.delete_remote)
        assert self.done == [*todo.in_order()]

    def _do(self, side: Side, operations: Iterable[Operation]) -> None:
        for operation in operations:
            assert operation.side is side
            self.done.append(operation)
            self._do_one(operation)

    def _do_one(self, operation: Operation) -> None:
        if operation.side is Side.LOCAL:
            model, other, places = self.here, self.there, self.plan.names
            contents, contents_of_other = self.contents_here, self.contents_there
        else:
            model, other, places = self.there, self.here, self.plan.target
            contents, contents_of_other = self.contents_there, self.contents_here
        match operation:
            case Make(_, node):
                model.make(node, places[node], NodeKind.DIRECTORY)
                contents[node] = (None, False)
            case Move(_, node, to):
                model.move(node, to)
            case Write(_, node, replaces):
                if not replaces:
                    model.make(node, places[node], other.kinds[node])
                contents[node] = contents_of_other[node]
            case SetMode(side, node):
                assert side is Side.LOCAL
                contents[node] = (contents[node][0], contents_of_other[node][1])
            case Delete(side, node, below):
                assert side is Side.REMOTE or not below
                model.delete(node, below)

    def digests(self) -> set[Digest | None]:
        return {self.contents_here[node][0] for node in self.here.places}

    def items(self) -> dict[NodeId, Item]:
        """The common tree, under ids as the space would give them."""
        ids = {node: node if len(node) == 16 else real_id(5000 + at) for at, node in enumerate(self.here.places)}
        return {
            ids[node]: Item(ids.get(parent, parent), name, self.here.kinds[node], *self.contents_here[node])
            for node, (parent, name) in self.here.places.items()
        }


def three_trees(seed: int) -> tuple[dict[NodeId, Item], dict[NodeId, Item], dict[NodeId, Item]]:
    rng = random.Random(seed)
    agreed = ChangingTree({}, rng, local=False)
    for _ in range(rng.randrange(10)):
        agreed.create()
    local, remote = ChangingTree(agreed.items, rng, local=True), ChangingTree(agreed.items, rng, local=False)
    remote.made = agreed.made
    for side in (local, remote):
        for _ in range(rng.randrange(8)):
            side.change()
    return agreed.items, local.items, remote.items


@settings(max_examples=1500, deadline=None)
@given(st.integers(0, 2**32))
def test_steps_can_be_done_in_order_and_make_both_sides_the_target(seed: int) -> None:
    base, local, remote = three_trees(seed)
    todo = plan(base_tree(base), local_tree(local), remote_tree(remote), label=LABEL)
    done = Outcome(todo, remote_tree(remote))
    assert done.here.places == done.there.places
    for node in done.here.places:
        assert done.contents_here[node] == done.contents_there[node]
    if not todo.is_empty:
        assert done.here.places == dict(todo.target)


@settings(max_examples=1500, deadline=None)
@given(st.integers(0, 2**32))
@example(81061)  # two directories become one while a name in them is disputed
def test_what_either_side_saved_is_in_the_result(seed: int) -> None:
    base, local, remote = three_trees(seed)
    done = Outcome(
        plan(base_tree(base), local_tree(local), remote_tree(remote), label=LABEL), remote_tree(remote)
    ).digests()
    for side in (local, remote):
        for node, item in side.items():
            if item.digest is not None and (node not in base or base[node].digest != item.digest):
                assert item.digest in done, "what was created or edited is kept"
    for node, item in base.items():
        if item.digest is not None and node in local and node in remote:
            # Deleted by nobody: the content is there, or a newer one of the same file is.
            newer = {side[node].digest for side in (local, remote)} - {item.digest}
            assert item.digest in done or newer & done


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32))
def test_what_agrees_afterwards_needs_no_step(seed: int) -> None:
    base, local, remote = three_trees(seed)
    done = Outcome(plan(base_tree(base), local_tree(local), remote_tree(remote), label=LABEL), remote_tree(remote))
    after = done.items()
    again = plan(base_tree(after), local_tree(after), remote_tree(after), label=LABEL)
    assert again.is_empty
    assert not again.agreed


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_the_same_trees_give_the_same_plan_in_whatever_order_they_come(seed: int) -> None:
    trees = three_trees(seed)
    shuffled = [dict(random.Random(seed).sample(sorted(tree.items()), len(tree))) for tree in trees]
    plans = [
        plan(base_tree(base), local_tree(local), remote_tree(remote), label=LABEL)
        for base, local, remote in (trees, shuffled)
    ]
    assert dict(plans[0].target) == dict(plans[1].target)
    assert {**vars_of(plans[0])} == {**vars_of(plans[1])}


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32))
def test_without_the_right_nothing_in_the_space_is_touched(seed: int) -> None:
    base, local, remote = three_trees(seed)
    todo = disown(base_tree(base), local_tree(local), remote_tree(remote), label=LABEL, edits=True).plan
    done = Outcome(todo, remote_tree(remote))
    assert {node: done.there.places.get(node) for node in remote} == {
        node: (item.parent, item.name) for node, item in remote.items()
    }
    assert {node: done.contents_there[node][0] for node in remote} == {
        node: item.digest for node, item in remote.items()
    }


def vars_of(todo: Plan) -> dict[str, object]:
    return {
        "arrange_local": todo.arrange_local,
        "arrange_remote": todo.arrange_remote,
        "fetches": todo.fetches,
        "sends": todo.sends,
        "modes": todo.modes,
        "delete_local": todo.delete_local,
        "delete_remote": todo.delete_remote,
        "conflicts": todo.conflicts,
    }


# ---- the table: who changed what, and what follows ----

FILE = {real_id(1): Item(ROOT, "f", NodeKind.FILE, digest(1))}
EDITED_HERE = {real_id(1): Item(ROOT, "f", NodeKind.FILE, digest(2))}
EDITED_THERE = {real_id(1): Item(ROOT, "f", NodeKind.FILE, digest(3), version=2)}
MOVED_HERE = {real_id(1): Item(ROOT, "g", NodeKind.FILE, digest(1))}
MOVED_THERE = {real_id(1): Item(ROOT, "h", NodeKind.FILE, digest(1))}
NOTHING: dict[NodeId, Item] = {}
COPY = f"f ({LABEL})"


@pytest.mark.parametrize(
    ("local", "remote", "expected"),
    [
        (FILE, FILE, {"f": 1}),
        (EDITED_HERE, FILE, {"f": 2}),
        (FILE, EDITED_THERE, {"f": 3}),
        (EDITED_HERE, EDITED_THERE, {"f": 3, COPY: 2}),
        (EDITED_HERE, {real_id(1): Item(ROOT, "f", NodeKind.FILE, digest(2), version=2)}, {"f": 2}),
        (NOTHING, FILE, {}),
        (FILE, NOTHING, {}),
        (NOTHING, NOTHING, {}),
        (NOTHING, EDITED_THERE, {"f": 3}),
        (EDITED_HERE, NOTHING, {"f": 2}),
        (MOVED_HERE, FILE, {"g": 1}),
        (FILE, MOVED_THERE, {"h": 1}),
        (MOVED_HERE, MOVED_THERE, {"h": 1}),
        (MOVED_HERE, EDITED_THERE, {"g": 3}),
        (EDITED_HERE, MOVED_THERE, {"h": 2}),
        (MOVED_HERE, NOTHING, {"g": 1}),
        (NOTHING, MOVED_THERE, {"h": 1}),
    ],
)
def test_one_file(local: dict[NodeId, Item], remote: dict[NodeId, Item], expected: dict[str, int]) -> None:
    todo = plan(base_tree(FILE), local_tree(local), remote_tree(remote), label=LABEL)
    done = Outcome(todo, remote_tree(remote))
    found = {name: done.contents_here[node][0] for node, (_, name) in done.here.places.items()}
    assert found == {name: digest(number) for name, number in expected.items()}


def test_a_renamed_directory_is_one_step_whatever_it_holds() -> None:
    top = real_id(1)
    inside = {real_id(2 + n): Item(top, f"{n}", NodeKind.FILE, digest(n)) for n in range(50)}
    before = {top: Item(ROOT, "a", NodeKind.DIRECTORY), **inside}
    after = {top: Item(ROOT, "b", NodeKind.DIRECTORY), **inside}
    todo = plan(base_tree(before), local_tree(after), remote_tree(before), label=LABEL)
    assert list(todo.operations(Side.REMOTE)) == [Move(Side.REMOTE, top, (ROOT, "b"))]
    assert list(todo.operations(Side.LOCAL)) == []


def test_a_swap_moves_one_file_aside_and_no_content() -> None:
    one, two = real_id(1), real_id(2)
    before = {one: Item(ROOT, "a", NodeKind.FILE, digest(1)), two: Item(ROOT, "b", NodeKind.FILE, digest(2))}
    after = {one: Item(ROOT, "b", NodeKind.FILE, digest(1)), two: Item(ROOT, "a", NodeKind.FILE, digest(2))}
    todo = plan(base_tree(before), local_tree(before), remote_tree(after), label=LABEL)
    assert [move.aside for move in todo.arrange_local if isinstance(move, Move)] == [True, False, False]
    assert not todo.fetches
    assert not todo.sends


def test_deletions_are_counted_by_side_and_without_what_is_replaced() -> None:
    before = {real_id(n): Item(ROOT, f"{n}", NodeKind.FILE, digest(n)) for n in range(1, 11)}
    here = {node: item for node, item in before.items() if item.name in {"1", "2", "3", "4"}}
    here[new_local_id(1)] = Item(ROOT, "5", NodeKind.FILE, digest(99))
    todo = plan(base_tree(before), local_tree(here), remote_tree(before), label=LABEL)
    count = deletions(todo, base_tree(before))
    assert (count.local, count.remote, count.of) == (0, 5, 10)
