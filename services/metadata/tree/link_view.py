"""The restriction of reads for visitors of a public link: only the linked node and what is below it, without the names
of authors.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.identity import Identity
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.tree import Node


def scope(caller: Identity) -> NodeId:
    """Return the node that the caller may read together with everything below it: the linked node for a visitor of a
    public link, ROOT for a member of the space.
    """
    return ROOT if caller.link is None else caller.link.node


def shown(node: Node, caller: Identity) -> Node:
    """Return `node` as the caller may see it. For a visitor of a public link, the author is left out, and the parent of
    the linked node is ROOT.
    """
    if caller.link is None:
        return node
    return replace(node, parent=ROOT if node.id == caller.link.node else node.parent, user="", device="")
