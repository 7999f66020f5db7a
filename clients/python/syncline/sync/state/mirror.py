"""The space's nodes as far as this device knows them, kept in step with the state database."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from syncline.model.errors import InvalidCursor
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.tree import Node
from syncline.sdk.pages import HeldMemory
from syncline.sdk.right import Right
from syncline.sync.ports import SpacePort
from syncline.sync.state.database import State
from syncline.sync.trees import BaseNode, RemoteNode


class Mirror:
    """Keeps the nodes of the space by id, including deleted ones, up to date; if the space has lost changes, it also
    rebuilds the base.
    """

    def __init__(self, state: State, base: dict[NodeId, BaseNode]) -> None:
        self.went_back = False
        """True if the space has lost changes that it had acknowledged, as after a restore from a backup."""
        self.right: Right | None = None
        """The right of this device in the space; None until the service has reported it."""
        self._state = state
        self._base = base
        self.nodes: dict[NodeId, RemoteNode] = state.load_remote()
        told = state.told_seq
        self._ahead = {node: known for node, known in self.nodes.items() if known.seq > told}
        """Nodes that this device knows from answers to its own commits, and that the journal has not listed yet."""

    def pull(self, space: SpacePort) -> bool:
        """Pull the changes of the space that were made after the last call, and store them durably. Return True if
        there were any changes. Also set `right`, the right of this device in the space. Raise ListingTooLarge if the
        new states of nodes take too much memory.
        """
        try:
            return self._pull(space, self._state.cursor)
        except InvalidCursor:
            self._clear()
            self._ahead.clear()
            self.went_back = True
            return self._pull(space, b"", agreed_elsewhere=True)

    def absorb(self, nodes: Iterable[Node]) -> None:
        """Apply states of nodes from the answer to a commit, unless newer ones are known."""
        told = self._state.told_seq
        for node in nodes:
            self._absorb([node])
            if node.seq > told:
                self._ahead[node.id] = self.nodes[node.id]

    def _absorb(self, nodes: Iterable[Node], held: HeldMemory | None = None) -> None:
        """Apply states of nodes, unless newer ones are known, and count their memory in `held`."""
        for node in nodes:
            known = self.nodes.get(node.id)
            if known is not None and known.seq > node.seq:
                continue
            new = RemoteNode.of(node)
            if known != new:
                if held is not None:
                    held.add(new)
                self.nodes[node.id] = new
                self._state.put_node(node)

    def _pull(self, space: SpacePort, cursor: bytes, *, agreed_elsewhere: bool = False) -> bool:
        before: dict[NodeId, RemoteNode | None] = {}
        held = HeldMemory("the list of changes of this space", "move a part of its files to another space")
        for page in space.changes(cursor, fresh_right=True):
            self.right = page.right
            if page.reset:
                before = {**self.nodes, **before}
                # A listing need not include deleted nodes.
                self._ahead = {node: known for node, known in self._ahead.items() if not known.deleted}
                self._clear()
            for node in page.nodes:
                before.setdefault(node.id, self.nodes.get(node.id))
            self._absorb(page.nodes, held)
            for node in page.nodes if self._ahead else ():
                if self._ahead.get(node.id) == RemoteNode.of(node):
                    del self._ahead[node.id]
            # Pages without a cursor are the beginning of a listing; they are applied only together with its end.
            if page.cursor and page.cursor != cursor:
                cursor = self._state.cursor = page.cursor
                self._state.told_seq = page.seq
        if self._ahead and not agreed_elsewhere:
            # The space was reset to a state that our cursor is valid for, and our later commits are lost.
            raise InvalidCursor
        # Two states of one node in a listing look like two changes, even if the second one was known before.
        changed = any(self.nodes.get(node) != known for node, known in before.items())
        if changed:
            self.nodes = {node: known for node, known in self.nodes.items() if not known.deleted}
            self._state.drop_deleted()
        if agreed_elsewhere:
            self._agree_anew()
        self._state.commit()
        return changed or agreed_elsewhere

    def _agree_anew(self) -> None:
        """Rebuild the base (the last state on which folder and space agreed) after the space has lost changes, so that
        a node which the space has lost does not count as deleted.

        - A node that the space does not have counts as new in the folder.
        - A node that the space has in an older version counts as changed in the folder.
        - If the space has a different content, it is unknown which of the two contents is newer: the node gets no base,
          so that both are kept.
        """
        after: dict[NodeId, BaseNode] = {}
        for node, before in self._base.items():
            there = self.nodes.get(node)
            if there is None or there.deleted:
                continue
            same = (there.digest, there.executable) == (before.digest, before.executable)
            if same or there.version < before.version:
                after[node] = dataclasses.replace(
                    before,
                    parent=there.parent,
                    name=there.name,
                    local_name=before.local_name if there.name == before.name else there.name,
                    version=there.version,
                    digest=there.digest,
                    executable=there.executable,
                    # The signature is that of the local file, which may differ from the space's content.
                    trusted=before.trusted and same,
                )
        while orphans := [node for node, one in after.items() if one.parent != ROOT and one.parent not in after]:
            for node in orphans:
                del after[node]
        for node in self._base.keys() - after.keys():
            self._state.remove_base(node)
        for one in after.values():
            self._state.put_base(one)
        self._base.clear()
        self._base.update(after)

    def _clear(self) -> None:
        self.nodes.clear()
        self._state.clear_remote()
