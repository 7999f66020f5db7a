"""The number and the size of the paths below directories, which an archive of the directories has to list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from runtime.turns import turn
from services.metadata.tree.search import NameSearch, TreeSize
from services.metadata.tree.view import Missing, SpaceView
from syncline.model.identifiers import NodeId
from syncline.model.names import most_archived_bytes
from syncline.model.tree import NodeKind

MAX_WALKED_NODES: Final = 2_000
"""Nodes that are looked at one by one, for all nodes of one question; beyond, the index of names is asked."""
_NAMES_PER_LISTING: Final = 500
"""Names that are listed at once."""


@dataclass(frozen=True, slots=True)
class MeasuredTop:
    """A directory that is measured with all that is below it, and the bytes of the path that leads there."""

    directory: NodeId
    prefix_bytes: int


class TreeSizes:
    """Measures trees. Small ones are walked through; large ones are measured by the index of names that is there for
    searches.
    """

    def __init__(self, search: NameSearch) -> None:
        self._search = search

    async def below(self, view: SpaceView, tops: Sequence[MeasuredTop], *, most: TreeSize, account: str) -> TreeSize:
        """Return the size of all that is below these directories, without the directories themselves.

        Ends early once the size is beyond `most` in either respect. The view was validated before. `account` waits for
        the turns that this takes.
        """
        size = await self._walked(view, tops, account)
        if size is not None:
            return size
        size = TreeSize()
        for top in tops:
            left = replace(most, paths=most.paths - size.paths, path_bytes=most.path_bytes - size.path_bytes)
            size += await self._search.size_below(view, top.directory, top.prefix_bytes, most=left, account=account)
            if not size.fits_in(most):
                break
        return size

    @staticmethod
    async def _walked(view: SpaceView, tops: Sequence[MeasuredTop], account: str) -> TreeSize | None:
        """Return the size of trees of fewer than MAX_WALKED_NODES nodes; None if there are more."""
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
