"""The order of operations that turns one tree into another so that each operation's preconditions hold.

An operation waits until its target directory exists, the name is free and, for a directory, its new place is not below
itself. If operations wait for each other (two swapped names), one node is moved aside temporarily. Otherwise, no node
is moved twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from syncline.model.identifiers import ROOT, NodeId
from syncline.model.names import normalize
from syncline.sync.plan.operations import Delete, Make, Move, ShapeOperation, Side, Write
from syncline.sync.trees import Place, transit_name


def reshape(
    current: Mapping[NodeId, Place],
    target: Mapping[NodeId, Place],
    *,
    side: Side,
    is_directory: Callable[[NodeId], bool],
) -> list[ShapeOperation | Write]:
    """Return the operations that turn one side's tree `current` into `target`, in the order in which each can be
    carried out. Deletions on which nothing waits come last.

    A node that is not in `current` is made if `is_directory` returns True for it, and written otherwise. Both trees map
    a node to its parent and name. In both, each parent exists and no two nodes have the same parent and name; `target`
    has no cycle.
    """
    pending = [node for node, place in target.items() if current.get(node) != place]
    if not pending and len(current) == len(target):
        return []
    return _Reshaping(current, target, side, is_directory).run(pending)


class _Reshaping:
    def __init__(
        self,
        current: Mapping[NodeId, Place],
        target: Mapping[NodeId, Place],
        side: Side,
        is_directory: Callable[[NodeId], bool],
    ) -> None:
        self._place = dict(current)
        self._target = target
        self._side = side
        self._is_directory = is_directory
        self._holder = {_claimed(place): node for node, place in current.items()}
        self._children: dict[NodeId, set[NodeId]] = {}
        for node, (parent, _) in current.items():
            self._children.setdefault(parent, set()).add(node)
        self._operations: list[ShapeOperation | Write] = []
        self._queue: deque[NodeId] = deque()
        self._for_parent: dict[NodeId, list[NodeId]] = {}
        self._for_name: dict[Place, NodeId] = {}
        self._for_way_out: dict[NodeId, dict[NodeId, None]] = {}
        """The directories that wait because their new place is below themselves at present, by each node that lies
        between a directory and its new place: a directory is tried again when one of these nodes has moved.
        """

    def run(self, pending: list[NodeId]) -> list[ShapeOperation | Write]:
        depths = _depths(pending, self._target)
        order = deque(sorted(pending, key=lambda node: (depths[node], *self._target[node], node)))
        waiting = set(order)
        self._queue.extend(order)
        while True:
            while self._queue:
                node = self._queue.popleft()
                if node in waiting and self._attempt(node):
                    waiting.remove(node)
            while order and order[0] not in waiting:
                order.popleft()
            if not order:
                break
            self._move_aside(next(node for node in order if node in waiting and self._only_name_missing(node)))
        self._delete_the_rest()
        return self._operations

    def _attempt(self, node: NodeId) -> bool:
        """Put the node at its place in the target and return True, if that is possible now. Otherwise record the
        directory, or the name, for which the node waits, and return False.
        """
        place = self._target[node]
        parent = place[0]
        if parent != ROOT and parent not in self._place:
            self._for_parent.setdefault(parent, []).append(node)
            return False
        if between := self._way_up(parent, node):
            for inner in between:
                self._for_way_out.setdefault(inner, {})[node] = None
            return False
        holder = self._holder.get(_claimed(place))
        if holder is not None and holder != node:
            doomed = self._doomed(holder)
            if doomed is None:
                self._for_name[_claimed(place)] = node
                return False
            self._delete(holder, doomed)
        if node in self._place:
            self._operations.append(Move(self._side, node, place))
            self._put(node, place)
        else:
            self._operations.append(
                Make(self._side, node) if self._is_directory(node) else Write(self._side, node, replaces=False)
            )
            self._put(node, place)
            self._queue.extend(self._for_parent.pop(node, ()))
        return True

    def _only_name_missing(self, node: NodeId) -> bool:
        parent = self._target[node][0]
        return (parent == ROOT or parent in self._place) and not self._way_up(parent, node)

    def _move_aside(self, node: NodeId) -> None:
        """Free the name for which `node` waits, by moving the node that has it to a temporary name in the same
        directory.
        """
        holder = self._holder[_claimed(self._target[node])]
        aside = (self._place[holder][0], transit_name(holder))
        self._operations.append(Move(self._side, holder, aside, aside=True))
        self._put(holder, aside)

    def _put(self, node: NodeId, place: Place) -> None:
        before = self._place.get(node)
        if before is not None:
            self._vacate(node, before)
            self._queue.extend(self._for_way_out.pop(node, ()))
        self._place[node] = place
        self._holder[_claimed(place)] = node
        self._children.setdefault(place[0], set()).add(node)

    def _vacate(self, node: NodeId, place: Place) -> None:
        del self._holder[_claimed(place)]
        self._children[place[0]].discard(node)
        if waiter := self._for_name.pop(_claimed(place), None):
            self._queue.append(waiter)

    def _way_up(self, inner: NodeId, outer: NodeId) -> list[NodeId]:
        """Return `inner` and its ancestors up to the child of `outer`, nearest first; an empty list if `inner` is not
        below `outer`.
        """
        way: list[NodeId] = []
        if not self._children.get(outer):
            return way
        while inner != ROOT:
            if inner == outer:
                return way
            way.append(inner)
            inner = self._place[inner][0]
        return []

    def _doomed(self, top: NodeId) -> list[NodeId] | None:
        """Return all nodes below `top`, nearest first, if `top` may be deleted now; otherwise None. It may be deleted
        if neither `top` nor any node below it is in the target, the tree that both sides have after the sync.
        """
        if top in self._target:
            return None
        below: list[NodeId] = []
        level = [top]
        while level:
            level = [child for node in level for child in sorted(self._children.get(node, ()))]
            if any(node in self._target for node in level):
                return None
            below += level
        return below

    def _delete(self, top: NodeId, below: list[NodeId]) -> None:
        if self._side is Side.REMOTE:
            self._operations.append(Delete(self._side, top, tuple(below)))
        else:
            self._operations += [Delete(self._side, node) for node in (*reversed(below), top)]
        for node in (*reversed(below), top):
            self._vacate(node, self._place.pop(node))

    def _delete_the_rest(self) -> None:
        """Delete the remaining nodes. No node of the target is below any of them now."""
        leftover = [node for node in self._place if node not in self._target]
        tops = [node for node in leftover if self._place[node][0] == ROOT or self._place[node][0] in self._target]
        for top in sorted(tops, key=lambda node: (*self._place[node], node)):
            below = self._doomed(top)
            assert below is not None
            self._delete(top, below)


def _claimed(place: Place) -> Place:
    """Return the key of a place. Names that differ only in Unicode form have the same key."""
    return place[0], normalize(place[1])


def _depths(nodes: Iterable[NodeId], places: Mapping[NodeId, Place]) -> dict[NodeId, int]:
    depths = {ROOT: 0}
    for start in nodes:
        chain = []
        node = start
        while node not in depths:
            chain.append(node)
            node = places[node][0]
        depth = depths[node]
        for inner in reversed(chain):
            depth += 1
            depths[inner] = depth
    return depths
