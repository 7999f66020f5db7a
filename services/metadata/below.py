"""How far directories go down: what a move must know, so that no path becomes too long."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from core.identifiers import NodeId
from core.tree import NodeKind
from services.metadata.decide import Reach
from services.metadata.search import NameSearch
from services.metadata.view import Missing, SpaceView

WALKED: Final = 2_000
"""Nodes that are looked at one by one, for all directories of one question; beyond, the index of names is asked."""
_LISTED: Final = 500
"""Names that are listed at once."""


class Below:
    """Small directories are walked through. Of large ones the index tells that searches use, for all in one pass."""

    def __init__(self, search: NameSearch) -> None:
        self._search = search

    async def reaches(self, view: SpaceView, directories: Collection[NodeId]) -> tuple[int, dict[NodeId, Reach]]:
        """How far what is below each directory goes down, without what is in the trash, or more than that.

        Right at the sequence number that comes with it, which may be older than the view's is now.
        """
        seq, left = view.seq, WALKED
        found: dict[NodeId, Reach] = {}
        for directory in directories:
            reach, left = await self._walked(view, directory, left)
            if reach is None or view.seq != seq:
                return await self._search.reaches(view, directories)
            found[directory] = reach
        return seq, found

    @staticmethod
    async def _walked(view: SpaceView, top: NodeId, left: int) -> tuple[Reach | None, int]:
        """The reach of a directory, None if there are more than `left` nodes; and how many more may be looked at."""
        reach = Reach()
        pending = [(top, Reach())]
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
                    end = above + Reach.of(name)
                    reach = reach.at_least(end)
                    node = view.known_nodes.get(child)
                    if node is None or node.kind is NodeKind.DIRECTORY:
                        pending.append((child, end))
        return reach, left
