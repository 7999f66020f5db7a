"""Reverting local changes that were made without the right to change the space.

A plan that would change the space without the right is made again as if folder and space had never agreed on the nodes
in question: a local deletion is undone, a local move is undone, and a local edit becomes a conflict copy beside the
space's content. New local files affect nobody: they stay, and are uploaded once the right is granted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from syncline.model.identifiers import NodeId
from syncline.sdk.right import Right
from syncline.sync.plan.merge import Base, Local, Remote
from syncline.sync.plan.operations import Delete, Move, Operation, Side, Write
from syncline.sync.plan.plan import Plan, plan
from syncline.sync.state.database import State
from syncline.sync.trees import Problem, path_of, printable

READS_ONLY = "stays here only: your role in this space only lets you read; ask an owner for another one"


@dataclass(frozen=True, slots=True)
class Disowned:
    """A plan that reverts local changes which were made without the right to write, and the nodes of these changes."""

    plan: Plan
    nodes: frozenset[NodeId]
    forgotten: frozenset[NodeId]
    """The nodes that are to be dropped from the base. For the other ones in `nodes`, the base stays valid."""


def is_estranged(told: Right, state: State) -> bool:
    """Return True if changes in the folder since the last sync may have been made while this device lacked the right to
    change the space. `told` is the right that the service states now; `state` has the right at the last sync.
    """
    return told.read_only or state.right not in {None, told} or state.refused


def disown(base: Base, local: Local, remote: Remote, *, label: str, edits: bool) -> Disowned:
    """Return a plan that reverts the moves and deletions that were made in the folder since the last sync, and the
    nodes that they concern. With `edits`, the plan also reverts the changed contents, and each of these becomes a
    conflict copy. `label` is part of the names of conflict copies.
    """
    agreed = dict(base)
    nodes: set[NodeId] = set()
    forgotten: set[NodeId] = set()
    # Removing one operation may lead to another one. The loop ends, because `agreed` shrinks in each iteration.
    while True:
        todo = plan(agreed, local, remote, label=label)
        wishes = {
            node: operation
            for operation in todo.operations(Side.REMOTE)
            for node in _wished(operation, edits=edits)
            if node in agreed
        }
        if not wishes:
            return Disowned(todo, frozenset(nodes), frozenset(forgotten))
        nodes |= wishes.keys()
        forgotten |= {node for node, operation in wishes.items() if not isinstance(operation, Move)}
        for node in wishes:
            del agreed[node]


def _wished(operation: Operation, *, edits: bool) -> Iterator[NodeId]:
    match operation:
        case Move(node=node):
            yield node
        case Delete(node=node, below=below):
            yield node
            yield from below
        case Write(node=node, replaces=True) if edits:
            yield node


def read_only(todo: Plan) -> tuple[Plan, list[Problem]]:
    """Return the part of the plan `todo` that changes the folder only, and a problem for each local change that is not
    sent.
    """
    kept = [
        Problem(printable(path_of(node, todo.target)), READS_ONLY)
        for node in dict.fromkeys(operation.node for operation in todo.operations(Side.REMOTE))
    ]
    return dataclasses.replace(todo, arrange_remote=(), sends=(), delete_remote=()), kept
