"""The names in one directory as far as this process knows them, kept sorted so that a page of a listing can begin after
any name.
"""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedList

from syncline.model.identifiers import NodeId


class Children:
    """The known names in a directory; each has the id of the node with this name, or None if the name is known to be
    free.

    A page costs as much as it contains, whatever the size of the directory: names are kept sorted from the first
    ordered read on. A directory that nobody lists costs no more than a dictionary. The order is that of code points,
    which equals that of UTF-8 bytes.
    """

    __slots__ = ("_holders", "_ordered")

    def __init__(self) -> None:
        self._holders: dict[str, NodeId | None] = {}
        self._ordered: SortedList[str] | None = None

    def __contains__(self, name: str) -> bool:
        """Return True if it is known which node has the name, or that the name is free."""
        return name in self._holders

    def __getitem__(self, name: str) -> NodeId | None:
        """Return the node with this name; None if the name is known to be free. Raise KeyError if neither is known."""
        return self._holders[name]

    def get(self, name: str, otherwise: NodeId | None) -> NodeId | None:
        """Return the node with this name; None if the name is known to be free. Return `otherwise` if nothing is known
        about the name.
        """
        return self._holders.get(name, otherwise)

    def __setitem__(self, name: str, holder: NodeId | None) -> None:
        if self._ordered is not None:
            was_held = self._holders.get(name) is not None
            if holder is not None and not was_held:
                self._ordered.add(name)
            elif holder is None and was_held:
                self._ordered.remove(name)
        self._holders[name] = holder

    def held_after(self, after: str) -> Iterator[tuple[str, NodeId]]:
        """Yield the names greater than `after` that nodes have, in order, each with its node."""
        if self._ordered is None:
            self._ordered = SortedList(name for name, holder in self._holders.items() if holder is not None)
        for name in self._ordered.irange(minimum=after, inclusive=(False, True)):
            holder = self._holders[name]
            assert holder is not None, "only held names are in the order"
            yield name, holder
