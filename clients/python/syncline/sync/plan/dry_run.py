"""A plan in words for people, as a dry run shows it."""

from __future__ import annotations

from collections.abc import Iterator

from syncline.sync.plan.merge import Remote
from syncline.sync.plan.operations import Delete, Make, Move, SetMode, Side, Write
from syncline.sync.plan.plan import Plan
from syncline.sync.trees import path_of


def described(todo: Plan, remote: Remote) -> Iterator[tuple[str, str]]:
    """Yield a description of each operation of the plan `todo`, in the order in which a sync carries the operations
    out: the action in words, and the path (both paths for a move). `remote` has the nodes of the space, by id.
    """
    before = {
        Side.LOCAL: {node: (here.parent, here.local_name) for node, here in todo.local.items()},
        Side.REMOTE: {node: there.place for node, there in remote.items()},
    }
    for operation in todo.in_order():
        node, side = operation.node, operation.side
        path = path_of(node, todo.target)
        match operation:
            case Move(aside=True):
                continue
            case Move():
                is_copy = side is Side.LOCAL and node in todo.conflicts
                word = "keep a conflict copy" if is_copy else f"move {side.value}"
                yield word, f"{path_of(node, before[side])} -> {path}"
            case Make():
                yield f"make {side.value}", f"{path}/"
            case Write():
                yield "download" if side is Side.LOCAL else "upload", path
            case SetMode():
                yield "set mode", path
            case Delete():
                yield f"delete {side.value}", path_of(node, before[side])
