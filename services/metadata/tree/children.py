"""The names of one directory as far as memory knows them, in an order that a page can begin anywhere in."""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedList

from syncline.model.identifiers import NodeId


class Children:
    """The names in a directory, and the node that has each.

    Pages of a directory of any size cost what they hold: the held names are kept in order once they were asked for
    in order, so that directories which nobody lists cost no more than a dictionary. The order is that of code
    points, which is that of UTF-8 bytes.
    """

    __slots__ = ("_holders", "_ordered")

    def __init__(self) -> None:
        self._holders: dict[str, NodeId | None] = {}
        self._ordered: SortedList[str] | None = None

    def __contains__(self, name: str) -> bool:
        """Return True if the holder of the name is known, or if it is known that there is none."""
        return name in self._holders

    def __getitem__(self, name: str) -> NodeId | None:
        """Return the node that has the name; None if the name is known to be free. Raise KeyError if neither is
        known.
        """
        return self._holders[name]

    def get(self, name: str, otherwise: NodeId | None) -> NodeId | None:
        """Return what `[name]` does; `otherwise` where that is not known."""
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
        """The names greater than `after` that are held, in order, and by whom."""
        if self._ordered is None:
            self._ordered = SortedList(name for name, holder in self._holders.items() if holder is not None)
        for name in self._ordered.irange(minimum=after, inclusive=(False, True)):
            holder = self._holders[name]
            assert holder is not None, "only held names are in the order"
            yield name, holder
