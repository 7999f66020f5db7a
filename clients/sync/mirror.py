"""The space's nodes as far as this device has been told, kept in step with the state database."""

from __future__ import annotations

from collections.abc import Iterable

from clients.sync.ports import Space
from clients.sync.state import State
from clients.sync.trees import RemoteNode
from core.errors import InvalidCursor
from core.identifiers import NodeId
from core.tree import Node


class Mirror:
    """Nodes by id, deleted ones too."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.nodes: dict[NodeId, RemoteNode] = state.load_remote()

    def pull(self, space: Space) -> bool:
        """Take over what has changed since the last time, durably; whether anything has."""
        try:
            return self._pull(space, self._state.cursor)
        except InvalidCursor:
            # The space has another history than the one that was mirrored. The base still tells what was agreed on.
            self._clear()
            return self._pull(space, b"")

    def absorb(self, nodes: Iterable[Node]) -> None:
        """Take over states of nodes, unless newer ones are known."""
        for node in nodes:
            known = self.nodes.get(node.id)
            if known is not None and known.seq > node.seq:
                continue
            new = RemoteNode.of(node)
            if known != new:
                self.nodes[node.id] = new
                self._state.put_node(node)

    def _pull(self, space: Space, cursor: bytes) -> bool:
        before: dict[NodeId, RemoteNode | None] = {}
        for page in space.changes(cursor):
            if page.reset:
                before = {**self.nodes, **before}
                self._clear()
            for node in page.nodes:
                before.setdefault(node.id, self.nodes.get(node.id))
            self.absorb(page.nodes)
            # Pages without a cursor are the beginning of a listing; together with its end they are all or nothing.
            if page.cursor and page.cursor != cursor:
                cursor = self._state.cursor = page.cursor
        # Two states of one entry look like a change each, also if the second one is what was known before.
        changed = any(self.nodes.get(node) != known for node, known in before.items())
        if changed:
            self.nodes = {node: known for node, known in self.nodes.items() if not known.deleted}
            self._state.drop_deleted()
        self._state.commit()
        return changed

    def _clear(self) -> None:
        self.nodes.clear()
        self._state.clear_remote()
