"""Symlinks that lead out of the folder: they are synced as symlinks and never followed; a device may exclude them."""

from __future__ import annotations

from collections.abc import Mapping

from syncline.model.identifiers import NodeId
from syncline.model.tree import NodeKind
from syncline.sync.state.database import State
from syncline.sync.trees import Exclusion, RemoteNode, path_of


def leads_out(path: str, target: str) -> bool:
    """Return True if a symlink at `path` (from the folder's root) may lead out of the folder.

    Only `..` components at the beginning of the target are resolved by name. After a component that is itself a
    symlink, `..` is relative to the target of that symlink.
    """
    if target.startswith("/"):
        return True
    names = [name for name in target.split("/") if name not in {"", "."}]
    up = 0
    while up < len(names) and names[up] == "..":
        up += 1
    return up > path.count("/") or ".." in names[up:]


def leading_out(state: State, live: Mapping[NodeId, RemoteNode]) -> list[Exclusion]:
    """Return an exclusion for each symlink of the space that leads out of the folder, so that this device does not sync
    it. `live` has the live nodes of the space, by id; `state` has their contents.
    """
    links = [node.id for node in live.values() if node.kind is NodeKind.SYMLINK]
    places = {node.id: node.place for node in live.values()} if links else {}
    found = []
    for node, content in state.contents(links).items() if links else ():
        path = path_of(node, places)
        if leads_out(path, content.target):
            found.append(Exclusion(path, node))
    return found
