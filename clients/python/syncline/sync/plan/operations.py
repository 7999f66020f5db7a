"""The operations of a plan: one family, whichever side an operation changes.

Planning, the executors and the words for people share these values. An operation names its side and a node; the plan
has the places.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from syncline.model.identifiers import NodeId
from syncline.sync.trees import Place


class Side(Enum):
    """The side that an operation changes. The value is the word for people."""

    LOCAL = "here"
    """The folder on this device."""
    REMOTE = "there"
    """The space, as the services have it."""


@dataclass(frozen=True, slots=True)
class Make:
    """Make a directory at its place in the target."""

    side: Side
    node: NodeId


@dataclass(frozen=True, slots=True)
class Move:
    """Move or rename a node; `aside` if the node does not stay at this place."""

    side: Side
    node: NodeId
    to: Place
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """Give this side the content that the other side has of a file or symlink; `replaces` the content of this side."""

    side: Side
    node: NodeId
    replaces: bool


@dataclass(frozen=True, slots=True)
class SetMode:
    """Set or clear the executable bit as on the other side."""

    side: Side
    node: NodeId


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a node.

    In the folder each item is deleted by an operation of its own, a directory after what was in it. In the space a
    directory is deleted with all nodes `below` it, nearest first.
    """

    side: Side
    node: NodeId
    below: tuple[NodeId, ...] = ()


ShapeOperation = Make | Move | Delete
"""An operation that changes which names there are, and no content."""
Operation = ShapeOperation | Write | SetMode
