"""The steps that have to be done in the folder and the space so that both agree. Pure, total and deterministic."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from syncline.model.identifiers import NodeId
from syncline.model.tree import NodeKind
from syncline.sync.plan.merge import Base, ContentFlow, Local, Remote, content_flow, merge
from syncline.sync.plan.reshape import Create, Delete, Move, Operation, reshape
from syncline.sync.trees import BaseNode, LocalNode, Place, RemoteNode, path_of

# ---- steps in the folder ----


@dataclass(frozen=True, slots=True)
class MakeHere:
    """Make a directory."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class MoveHere:
    """Move or rename; `aside` if the node does not stay there."""

    node: NodeId
    to: Place
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bring the space's content of a file or symlink; `replaces` the one that is here."""

    node: NodeId
    replaces: bool


@dataclass(frozen=True, slots=True)
class SetMode:
    """Set or clear the executable bit as in the space."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class DeleteHere:
    """Delete one item; a directory only if it is empty."""

    node: NodeId


# ---- steps in the space ----


@dataclass(frozen=True, slots=True)
class MakeThere:
    """Make a directory."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class MoveThere:
    """Move or rename; `aside` if the node does not stay there."""

    node: NodeId
    to: Place
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Give the space the content of a file or symlink; `replaces` the one that is there."""

    node: NodeId
    replaces: bool


@dataclass(frozen=True, slots=True)
class DeleteThere:
    """Delete a node with all that is `below` it."""

    node: NodeId
    below: tuple[NodeId, ...] = ()


StepHere = MakeHere | MoveHere | Fetch | SetMode | DeleteHere
StepThere = MakeThere | MoveThere | Send | DeleteThere


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps by stage. The order within a stage matters for `arrange_*` and `delete_*`, not for contents.

    In the folder: `arrange_here`, then `fetches` and `modes`, then `delete_here`; in the space `arrange_there`, then
    `sends`, then `delete_there`. `arrange_here` comes before all of the space's. Node ids are those of `target`.
    """

    target: Mapping[NodeId, Place]
    local: Local
    names: Mapping[NodeId, Place]
    """The target as this device spells it."""
    arrange_here: tuple[MakeHere | MoveHere | DeleteHere, ...] = ()
    fetches: tuple[Fetch, ...] = ()
    modes: tuple[SetMode, ...] = ()
    delete_here: tuple[DeleteHere, ...] = ()
    arrange_there: tuple[MakeThere | MoveThere | DeleteThere, ...] = ()
    sends: tuple[Send, ...] = ()
    delete_there: tuple[DeleteThere, ...] = ()
    agreed: tuple[NodeId, ...] = ()
    """Nodes that need no step, of which the base says something else."""
    gone: tuple[NodeId, ...] = ()
    """Nodes of the base that are on neither side."""
    conflicts: frozenset[NodeId] = frozenset()

    @property
    def steps_here(self) -> Iterator[StepHere]:
        yield from self.arrange_here
        yield from self.fetches
        yield from self.modes
        yield from self.delete_here

    @property
    def steps_there(self) -> Iterator[StepThere]:
        yield from self.arrange_there
        yield from self.sends
        yield from self.delete_there

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to do in the folder or the space."""
        return next(self.steps_here, None) is None and next(self.steps_there, None) is None


def plan(base: Base, local: Local, remote: Remote, *, label: str) -> Plan:
    """Plan. Each tree must be one: parents are there, no cycle, no two nodes at one place.

    `label` goes into the names of conflict copies (`conflicts.conflict_label`).
    """
    if quiet := _nothing_changed(base, local, remote):
        return quiet
    merged = merge(base, local, remote, label=label)
    names = _spelled(merged.target, merged.local, base)
    arrange_here, creates_here, delete_here = _staged(
        reshape({node: (here.parent, here.local_name) for node, here in merged.local.items()}, names, whole=False),
        merged.local,
        remote,
    )
    arrange_there, creates_there, delete_there = _staged(
        reshape({node: there.place for node, there in remote.items()}, merged.target, whole=True),
        merged.local,
        remote,
    )
    fetches = [Fetch(node, replaces=False) for node in creates_here]
    sends = [Send(node, replaces=False) for node in creates_there]
    modes = []
    for node in merged.target:
        here, there = merged.local.get(node), remote.get(node)
        if here is None or there is None:
            continue
        match content_flow(base.get(node), here, there):
            case ContentFlow.UP:
                sends.append(Send(node, replaces=True))
            case ContentFlow.DOWN | ContentFlow.CONFLICT:
                # A conflict's local content has gone to a copy, so that this is one only if the merge left it.
                fetches.append(Fetch(node, replaces=True))
            case ContentFlow.MODE_DOWN:
                modes.append(SetMode(node))
    nodes = [step.node for step in fetches] + [step.node for step in sends] + [step.node for step in modes]
    paths = {node: path_of(node, merged.target) for node in nodes}
    result = Plan(
        target=merged.target,
        local=merged.local,
        names=names,
        arrange_here=tuple(map(_here, arrange_here)),
        fetches=tuple(sorted(fetches, key=lambda step: paths[step.node])),
        modes=tuple(sorted(modes, key=lambda step: paths[step.node])),
        delete_here=tuple(DeleteHere(step.node) for step in delete_here),
        arrange_there=tuple(map(_there, arrange_there)),
        sends=tuple(sorted(sends, key=lambda step: paths[step.node])),
        delete_there=tuple(DeleteThere(step.node, step.below) for step in delete_there),
        gone=tuple(sorted(base.keys() - merged.target.keys() - merged.local.keys() - remote.keys())),
        conflicts=merged.conflicts,
    )
    return _with_agreed(result, base, remote)


def is_agreed(base: BaseNode | None, here: LocalNode, there: RemoteNode) -> bool:
    """Return True if the base records exactly what both sides are."""
    return (
        base is not None
        and base.place == there.place
        and base.version == there.version
        and (base.digest, base.executable) == (there.digest, there.executable)
        and base.signature == here.signature
        and base.local_name == here.local_name
        and base.trusted == here.trusted
        and base.filesystem == here.filesystem
    )


def _nothing_changed(base: Base, local: Local, remote: Remote) -> Plan | None:
    """The empty plan if all three trees are the same."""
    if not len(base) == len(local) == len(remote):
        return None
    for node, before in base.items():
        here, there = local.get(node), remote.get(node)
        if here is None or there is None or here.home is not None or here.place != before.place:
            return None
        if (here.digest, here.executable) != (before.digest, before.executable) or not is_agreed(before, here, there):
            return None
    return Plan(target={}, local=local, names={})


def _spelled(target: Mapping[NodeId, Place], local: Local, base: Base) -> dict[NodeId, Place]:
    """The target with names as they are spelled here already."""
    spelled = {}
    for node, place in target.items():
        parent, name = place
        here, before = local.get(node), base.get(node)
        if here is not None and here.home is None and here.name == name:
            name = here.local_name
        elif before is not None and before.name == name:
            name = before.local_name
        spelled[node] = (parent, name) if name is not place[1] else place
    return spelled


def _staged(
    operations: list[Operation], local: Local, remote: Remote
) -> tuple[list[Operation], list[NodeId], list[Delete]]:
    """Operations on the shape, creations of contents (nothing waits for those), and the deletions at the end."""
    last = len(operations)
    while last and isinstance(operations[last - 1], Delete):
        last -= 1
    shape: list[Operation] = []
    contents: list[NodeId] = []
    for operation in operations[:last]:
        if isinstance(operation, Create) and _kind(operation.node, local, remote) is not NodeKind.DIRECTORY:
            contents.append(operation.node)
        else:
            shape.append(operation)
    return shape, contents, [operation for operation in operations[last:] if isinstance(operation, Delete)]


def _kind(node: NodeId, local: Local, remote: Remote) -> NodeKind:
    here = local.get(node)
    return here.kind if here is not None else remote[node].kind


def _here(operation: Operation) -> MakeHere | MoveHere | DeleteHere:
    match operation:
        case Create(node):
            return MakeHere(node)
        case Move(node, to, aside):
            return MoveHere(node, to, aside)
        case Delete(node):
            return DeleteHere(node)


def _there(operation: Operation) -> MakeThere | MoveThere | DeleteThere:
    match operation:
        case Create(node):
            return MakeThere(node)
        case Move(node, to, aside):
            return MoveThere(node, to, aside)
        case Delete(node, below):
            return DeleteThere(node, below)


def _with_agreed(result: Plan, base: Base, remote: Remote) -> Plan:
    busy = {step.node for step in result.steps_here} | {step.node for step in result.steps_there}
    agreed = []
    for node in result.target:
        here, there = result.local.get(node), remote.get(node)
        if here is None or there is None or node in busy or not here.seen:
            continue
        if not is_agreed(base.get(node), here, there):
            agreed.append(node)
    return dataclasses.replace(result, agreed=tuple(sorted(agreed)))


# ---- what a plan means ----


@dataclass(frozen=True, slots=True)
class Deletions:
    """The number of files of the base that a plan deletes on each side, and the number of files in the base."""

    here: int
    there: int
    of: int


def deletions(result: Plan, base: Base) -> Deletions:
    """Count. A file whose place is taken by another is replaced, not deleted."""
    deleted = _deleted_files(result, base)
    files = sum(1 for node in base.values() if node.kind is not NodeKind.DIRECTORY)
    return Deletions(
        sum(deleted(step) for step in result.steps_here if isinstance(step, DeleteHere)),
        sum(deleted(step) for step in result.steps_there if isinstance(step, DeleteThere)),
        files,
    )


def without_deletions(result: Plan, base: Base, *, here: bool, there: bool) -> Plan:
    """The plan without its deletions on these sides, for which there will be another sync.

    Replacements are done. What needs the place of something that is not deleted will not get it, which its step says.
    """
    deleted = _deleted_files(result, base)

    def is_done(step: StepHere | StepThere) -> bool:
        match step:
            case DeleteHere(node):
                # A directory without what was in it would not come back when the deletion is undone.
                directory = result.local[node].kind is NodeKind.DIRECTORY
                return not here or not (directory or deleted(step))
            case DeleteThere():
                return not there or not deleted(step)
        return True

    return dataclasses.replace(
        result,
        arrange_here=tuple(filter(is_done, result.arrange_here)),
        delete_here=tuple(filter(is_done, result.delete_here)),
        arrange_there=tuple(filter(is_done, result.arrange_there)),
        delete_there=tuple(filter(is_done, result.delete_there)),
    )


def _deleted_files(result: Plan, base: Base) -> Callable[[DeleteHere | DeleteThere], int]:
    """Return a function that counts the files of the base which a step deletes and which are not merely replaced."""
    taken = set(result.target.values())

    def count(step: DeleteHere | DeleteThere) -> int:
        nodes = (step.node, *step.below) if isinstance(step, DeleteThere) else (step.node,)
        return sum(
            1
            for node in nodes
            if (before := base.get(node)) is not None
            and before.kind is not NodeKind.DIRECTORY
            and before.place not in taken
        )

    return count


def described_steps(result: Plan, remote: Remote) -> Iterator[tuple[str, str]]:
    """The plan for people: what is done, and the path (two paths for a move). In the order in which it is done."""
    before_here = {node: (here.parent, here.local_name) for node, here in result.local.items()}
    before_there = {node: there.place for node, there in remote.items()}
    for step in (*result.arrange_here, *result.steps_there, *result.fetches, *result.modes, *result.delete_here):
        path = path_of(step.node, result.target)
        match step:
            case MoveHere(node, _, aside) | MoveThere(node, _, aside) if aside:
                continue
            case MoveHere(node):
                word = "keep a conflict copy" if node in result.conflicts else "move here"
                yield word, f"{path_of(node, before_here)} -> {path}"
            case MoveThere(node):
                yield "move there", f"{path_of(node, before_there)} -> {path}"
            case MakeHere():
                yield "make here", f"{path}/"
            case MakeThere():
                yield "make there", f"{path}/"
            case Fetch():
                yield "download", path
            case SetMode():
                yield "set mode", path
            case Send():
                yield "upload", path
            case DeleteHere(node):
                yield "delete here", path_of(node, before_here)
            case DeleteThere(node):
                yield "delete there", path_of(node, before_there)
