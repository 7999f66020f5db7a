"""Depths of directories: the longest path below each, which the decision on a move needs in order to refuse paths that
become too long.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from services.metadata.tree.decide import PathLength
from services.metadata.tree.search import NameSearch
from services.metadata.tree.view import Missing, SpaceView
from syncline.model.identifiers import NodeId
from syncline.model.tree import NodeKind

MAX_WALKED_NODES: Final = 2_000
"""Maximum number of nodes that one call of `depths_below` visits one by one, over all its directories; above that, the
index of names is used.
"""
_NAMES_LISTED_AT_ONCE: Final = 500
"""Number of names per read of a listing."""


class Depths:
    """Computes the depths of directories: the longest path below each.

    Small directories are walked node by node; for large ones the search index of names is used, in one pass for all of
    them.
    """

    def __init__(self, search: NameSearch) -> None:
        self._search = search

    async def depths_below(
        self, view: SpaceView, directories: Collection[NodeId]
    ) -> tuple[int, dict[NodeId, PathLength]]:
        """Return a sequence number, and for each directory its depth at this number: the longest path below it, without
        nodes in the trash. A depth may be greater than the true one. The sequence number may be lower than the view's
        present one.
        """
        seq, left = view.seq, MAX_WALKED_NODES
        found: dict[NodeId, PathLength] = {}
        for directory in directories:
            depth, left = await self._walked(view, directory, left)
            if depth is None or view.seq != seq:
                return await self._search.depths_below(view, directories)
            found[directory] = depth
        return seq, found

    @staticmethod
    async def _walked(view: SpaceView, top: NodeId, left: int) -> tuple[PathLength | None, int]:
        """Return the depth of the directory `top` (None if there are more than `left` nodes below it), and the number
        of nodes that may still be visited.
        """
        depth = PathLength()
        pending = [(top, PathLength())]
        while pending:
            directory, above = pending.pop()
            after: str | None = ""
            left -= 1
            while after is not None:
                page, after = await view.list_names(directory, after=after, limit=min(left + 1, _NAMES_LISTED_AT_ONCE))
                left -= max(len(page), 1)
                if left <= 0:
                    return None, 0
                await view.load(Missing(nodes={child for _, child in page}))
                for name, child in page:
                    end = above + PathLength.of(name)
                    depth = depth.max_with(end)
                    node = view.known_nodes.get(child)
                    if node is None or node.kind is NodeKind.DIRECTORY:
                        pending.append((child, end))
        return depth, left
