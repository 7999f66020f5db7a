"""The view of a visitor of a public link: nothing above the node that the link opens, and not who works on the
nodes.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.identity import Identity
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.tree import Node


def scope(caller: Identity) -> NodeId:
    """The node that the caller may read with all that is below it; ROOT for a member of the space."""
    return ROOT if caller.link is None else caller.link.node


def shown(node: Node, caller: Identity) -> Node:
    """`node` as the caller may see it."""
    if caller.link is None:
        return node
    return replace(node, parent=ROOT if node.id == caller.link.node else node.parent, user="", device="")
