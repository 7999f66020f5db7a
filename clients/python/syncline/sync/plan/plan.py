"""The ordered operations that make folder and space agree. Pure, total and deterministic.

`merge.py` computes the target. `reshape.py` computes the operations that turn each side into the target. This module
adds the contents and sorts the operations into stages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from syncline.model.identifiers import NodeId
from syncline.model.tree import NodeKind
from syncline.sync.plan.merge import Base, ContentFlow, Local, Remote, content_flow, merge
from syncline.sync.plan.operations import Delete, Operation, SetMode, ShapeOperation, Side, Write
from syncline.sync.plan.reshape import reshape
from syncline.sync.trees import BaseNode, LocalNode, Place, RemoteNode, path_of


@dataclass(frozen=True, slots=True)
class Plan:
    """The operations that make folder and space agree, in stages. `in_order` yields the stages in the order in which a
    sync carries them out.

    - `arrange_local` and `arrange_remote` change names and places, in the folder and in the space: they make
      directories, move nodes, and delete the nodes for whose deletion another operation waits.
    - `sends` and `fetches` transfer contents to the space and to the folder, and `modes` sets executable bits in the
      folder.
    - `delete_local` and `delete_remote` delete the other nodes, in the folder and in the space.

    The order of the operations within a stage matters for `arrange_*` and `delete_*`, and for no other stage. `target`
    is the tree that folder and space have in common after the sync: it maps the id of each node to its place. `local`
    is the local tree, with the node ids of `target`.
    """

    target: Mapping[NodeId, Place]
    local: Local
    names: Mapping[NodeId, Place]
    """The place (parent and name) of each node of `target`, with names as they are spelled on this device."""
    arrange_local: tuple[ShapeOperation, ...] = ()
    fetches: tuple[Write, ...] = ()
    modes: tuple[SetMode, ...] = ()
    delete_local: tuple[Delete, ...] = ()
    arrange_remote: tuple[ShapeOperation, ...] = ()
    sends: tuple[Write, ...] = ()
    delete_remote: tuple[Delete, ...] = ()
    agreed: tuple[NodeId, ...] = ()
    """Nodes that need no operation but whose base has to be updated."""
    gone: tuple[NodeId, ...] = ()
    """Nodes of the base that exist neither in the folder nor in the space."""
    conflicts: frozenset[NodeId] = frozenset()
    """The nodes of `target` that get a conflict name by this plan."""

    def operations(self, side: Side) -> Iterator[Operation]:
        """Return the operations on one side, in the order in which a sync carries them out."""
        return (operation for operation in self.in_order() if operation.side is side)

    def in_order(self) -> Iterator[Operation]:
        """Yield the operations on both sides, stage by stage, in the order in which a sync carries them out."""
        yield from self.arrange_local
        yield from self.arrange_remote
        yield from self.sends
        yield from self.fetches
        yield from self.modes
        yield from self.delete_local
        yield from self.delete_remote

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to do in the folder or the space."""
        return next(self.in_order(), None) is None


_Content = TypeVar("_Content", Write, SetMode)


def plan(base: Base, local: Local, remote: Remote, *, label: str) -> Plan:
    """Return the plan that makes folder and space agree. `base` is the last state on which they agreed; `local` is what
    the folder has now, and `remote` what the space has. Each of the three must be a tree: every parent exists, there is
    no cycle, and no two nodes have the same place.

    `label` is part of the names of conflict copies (`conflict_names.conflict_label`).
    """
    if quiet := _nothing_changed(base, local, remote):
        return quiet
    merged = merge(base, local, remote, label=label)
    names = _spelled(merged.target, merged.local, base)

    def is_directory(node: NodeId) -> bool:
        return (merged.local.get(node) or remote[node]).kind is NodeKind.DIRECTORY

    arrange_local, fetches, delete_local = _staged(
        reshape(
            {node: (here.parent, here.local_name) for node, here in merged.local.items()},
            names,
            side=Side.LOCAL,
            is_directory=is_directory,
        )
    )
    arrange_remote, sends, delete_remote = _staged(
        reshape(
            {node: there.place for node, there in remote.items()},
            merged.target,
            side=Side.REMOTE,
            is_directory=is_directory,
        )
    )
    modes = []
    for node in merged.target:
        here, there = merged.local.get(node), remote.get(node)
        if here is None or there is None:
            continue
        match content_flow(base.get(node), here, there):
            case ContentFlow.UP:
                sends.append(Write(Side.REMOTE, node, replaces=True))
            case ContentFlow.DOWN | ContentFlow.CONFLICT:
                # In a conflict the local content has moved to a copy, so this node has local content only if the merge
                # left it.
                fetches.append(Write(Side.LOCAL, node, replaces=True))
            case ContentFlow.MODE_DOWN:
                modes.append(SetMode(Side.LOCAL, node))

    def by_path(operations: Sequence[_Content]) -> tuple[_Content, ...]:
        return tuple(sorted(operations, key=lambda operation: path_of(operation.node, merged.target)))

    result = Plan(
        target=merged.target,
        local=merged.local,
        names=names,
        arrange_local=tuple(arrange_local),
        fetches=by_path(fetches),
        modes=by_path(modes),
        delete_local=tuple(delete_local),
        arrange_remote=tuple(arrange_remote),
        sends=by_path(sends),
        delete_remote=tuple(delete_remote),
        gone=tuple(sorted(base.keys() - merged.target.keys() - merged.local.keys() - remote.keys())),
        conflicts=merged.conflicts,
    )
    return _with_agreed(result, base, remote)


def is_agreed(base: BaseNode | None, here: LocalNode, there: RemoteNode) -> bool:
    """Return True if folder and space have the node in the same state, and the base records that state, so that nothing
    is to be done. The arguments are the node in the base (None if the base does not have it), in the folder and in the
    space.
    """
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
    """Return the empty plan if all three trees are equal; otherwise None."""
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
    """Return the target with names as they are already spelled on this device."""
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
    operations: Sequence[ShapeOperation | Write],
) -> tuple[list[ShapeOperation], list[Write], list[Delete]]:
    """Return the operations on names and places, the contents (for which no operation waits), and the deletions at the
    end.
    """
    last = len(operations)
    while last and isinstance(operations[last - 1], Delete):
        last -= 1
    shape: list[ShapeOperation] = []
    contents: list[Write] = []
    for operation in operations[:last]:
        if isinstance(operation, Write):
            contents.append(operation)
        else:
            shape.append(operation)
    return shape, contents, [operation for operation in operations[last:] if isinstance(operation, Delete)]


def _with_agreed(result: Plan, base: Base, remote: Remote) -> Plan:
    busy = {operation.node for operation in result.in_order()}
    agreed = []
    for node in result.target:
        here, there = result.local.get(node), remote.get(node)
        if here is None or there is None or node in busy or not here.seen:
            continue
        if not is_agreed(base.get(node), here, there):
            agreed.append(node)
    return dataclasses.replace(result, agreed=tuple(sorted(agreed)))
