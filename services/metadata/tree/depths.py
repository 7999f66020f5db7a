"""The depths of directories, which a move must know so that no path becomes too long."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from services.metadata.tree.decide import PathLength
from services.metadata.tree.search import NameSearch
from services.metadata.tree.view import Missing, SpaceView
from syncline.model.identifiers import NodeId
from syncline.model.tree import NodeKind

WALKED: Final = 2_000
"""Nodes that are looked at one by one, for all directories of one question; beyond, the index of names is asked."""
_LISTED: Final = 500
"""Names that are listed at once."""


class Depths:
    """Measures how deep directories are.

    Small ones are walked through; large ones are measured by the index of names that searches use, in one pass for all.
    """

    def __init__(self, search: NameSearch) -> None:
        self._search = search

    async def depths_below(
        self, view: SpaceView, directories: Collection[NodeId]
    ) -> tuple[int, dict[NodeId, PathLength]]:
        """The longest path below each directory, or more; without what is in the trash.

        Right at the sequence number that comes with it, which may be older than the view's is now.
        """
        seq, left = view.seq, WALKED
        found: dict[NodeId, PathLength] = {}
        for directory in directories:
            depth, left = await self._walked(view, directory, left)
            if depth is None or view.seq != seq:
                return await self._search.depths_below(view, directories)
            found[directory] = depth
        return seq, found

    @staticmethod
    async def _walked(view: SpaceView, top: NodeId, left: int) -> tuple[PathLength | None, int]:
        """The depth of a directory, None if there are more than `left` nodes; and how many more may be looked at."""
        depth = PathLength()
        pending = [(top, PathLength())]
        while pending:
            directory, above = pending.pop()
            after: str | None = ""
            left -= 1
            while after is not None:
                page, after = await view.list_names(directory, after=after, limit=min(left + 1, _LISTED))
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
