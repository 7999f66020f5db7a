"""The number and the size of the paths below directories, which an archive of the directories has to list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runtime.turns import turn
from services.metadata.tree.search import MeasuredTop, NameSearch, TreeSize
from services.metadata.tree.view import Missing, SpaceView
from syncline.model.names import most_archived_bytes
from syncline.model.tree import NodeKind

MAX_WALKED_NODES: Final = 2_000
"""Number of nodes from which on one call of `TreeSizes.below` uses the index of names; fewer nodes are visited one by
one.
"""
_NAMES_PER_LISTING: Final = 500
"""Maximum number of names in one read of a directory."""


class TreeSizes:
    """Measures the contents of directories: their number of paths, and the size of the paths. The nodes of small trees
    are visited one by one; large trees are measured with the search index of names.
    """

    def __init__(self, search: NameSearch) -> None:
        self._search = search

    async def below(self, view: SpaceView, tops: Sequence[MeasuredTop], *, most: TreeSize, account: str) -> TreeSize:
        """Return the number and the size of the paths below the directories `tops`, without the paths of the
        directories themselves.

        The measurement may stop once the number or the size of the paths exceeds that in `most`; the result then
        exceeds `most`, and is a lower bound. Validate the view before the call. The turns are charged to the person
        `account`.
        """
        size = await self._walked(view, tops, account)
        if size is not None:
            return size
        return await self._search.size_below(view, tops, most=most, account=account)

    @staticmethod
    async def _walked(view: SpaceView, tops: Sequence[MeasuredTop], account: str) -> TreeSize | None:
        """Return the size of the trees below these directories if they have fewer than MAX_WALKED_NODES nodes together;
        otherwise None.
        """
        size, left = TreeSize(), MAX_WALKED_NODES
        pending = list(tops)
        while pending:
            top = pending.pop()
            after: str | None = ""
            left -= 1
            while after is not None:
                page, after = await view.list_names(top.directory, after=after, limit=min(left + 1, _NAMES_PER_LISTING))
                left -= max(len(page), 1)
                if left <= 0:
                    return None
                await turn(account)
                await view.load(Missing(nodes={child for _, child in page}))
                for name, child in page:
                    node = view.known_nodes.get(child)
                    is_directory = node is not None and node.kind is NodeKind.DIRECTORY
                    length = top.prefix_bytes + most_archived_bytes(name) + is_directory
                    size += TreeSize(1, length)
                    if is_directory:
                        pending.append(MeasuredTop(child, length))
        return size
