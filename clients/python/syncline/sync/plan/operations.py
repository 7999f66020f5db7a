"""Operations of a plan: one class hierarchy for both sides, the folder and the space.

Planning, the appliers and the descriptions for people share these values. An operation names its side and a node; the
plan holds the parent and name of each node.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from syncline.model.identifiers import NodeId
from syncline.sync.trees import Place


class Side(Enum):
    """The side that an operation changes. The value is the word to show to people."""

    LOCAL = "here"
    """The folder on this device."""
    REMOTE = "there"
    """The space, as the services hold it."""


@dataclass(frozen=True, slots=True)
class Make:
    """Make a directory on one side, with the parent and name that the target of the plan has for the node."""

    side: Side
    node: NodeId


@dataclass(frozen=True, slots=True)
class Move:
    """Move or rename a node on one side to its place in the target; with `aside`, to a temporary place, from which a
    later operation moves it.
    """

    side: Side
    node: NodeId
    to: Place
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """Transfer the content of a file or symlink from the other side to this side. `replaces` is True if this side has
    an earlier content of the node.
    """

    side: Side
    node: NodeId
    replaces: bool


@dataclass(frozen=True, slots=True)
class SetMode:
    """Set or clear the executable bit of a file on one side, so that it equals that on the other side."""

    side: Side
    node: NodeId


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a node on one side.

    In the folder each node is deleted by its own operation, a directory after its contents. In the space a directory is
    deleted with all nodes `below` it, nearest first.
    """

    side: Side
    node: NodeId
    below: tuple[NodeId, ...] = ()


ShapeOperation = Make | Move | Delete
"""An operation that changes names and places, and no content."""
Operation = ShapeOperation | Write | SetMode
