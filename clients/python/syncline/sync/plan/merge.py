"""The common target of folder and space: a three-way merge, node by node. Pure.

- Changed on one side: that change is taken. Parent and name are merged separately: one may come from the folder, the
  other from the space.
- Content changed on both sides: equal contents are adopted; otherwise the local one becomes a conflict copy, which is a
  new node.
- Deleted on one side, changed or moved on the other: the change is taken. A move of a directory counts for everything
  below it. A node that was deleted in the space is restored as a new node.
- Moved on both sides: the space's move is taken, even if the two moves together would make a cycle.
- A directory is kept for as long as anything in it is.
- Two nodes of one name: the space's node keeps the name, the other gets a conflict name. Directories of one name are
  united, and so are equal files, unless that costs another node its place.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from syncline.model.identifiers import ROOT, NodeId
from syncline.model.tree import NodeKind
from syncline.sync.plan.conflict_names import ConflictNames
from syncline.sync.trees import BaseNode, LocalNode, Place, RemoteNode, copy_id, in_transit, original_id, recreated_id

Base = Mapping[NodeId, BaseNode]
Local = Mapping[NodeId, LocalNode]
Remote = Mapping[NodeId, RemoteNode]


class ContentFlow(Enum):
    """The direction in which the content of a node that exists on both sides is transferred."""

    NOWHERE = "both sides have it"
    UP = "what is here is newer"
    DOWN = "what is there is newer"
    MODE_DOWN = "only the executable bit is newer there"
    CONFLICT = "both are new, and they differ"


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a merge: the target, which is the tree that both sides have after the sync, and the local tree with
    the node ids of the target. A local node has another id there if it is recreated in the space, is a conflict copy,
    or is united with a node of the space.
    """

    target: dict[NodeId, Place]
    local: Local
    conflicts: frozenset[NodeId]
    """The nodes of the target that got a conflict name in this merge, such as `report (conflict laptop 2026-11-03
    142501).txt`.
    """


def content_flow(base: BaseNode | None, local: LocalNode, remote: RemoteNode) -> ContentFlow:
    """Return the direction in which the content of a file or symlink goes; NOWHERE for a directory. The arguments are
    the node in the base (None if the base does not have it), in the folder and in the space.
    """
    here, there = (local.digest, local.executable), (remote.digest, remote.executable)
    if remote.kind is NodeKind.DIRECTORY or here == there:
        return ContentFlow.NOWHERE
    if base is None:
        return ContentFlow.MODE_DOWN if local.digest == remote.digest else ContentFlow.CONFLICT
    before = (base.digest, base.executable)
    if there == before:
        return ContentFlow.UP
    if local.digest == remote.digest:
        return ContentFlow.UP if remote.executable == base.executable else ContentFlow.MODE_DOWN
    if local.digest == base.digest:
        return ContentFlow.DOWN
    return ContentFlow.UP if remote.digest == base.digest else ContentFlow.CONFLICT


def merge(base: Base, local: Local, remote: Remote, *, label: str) -> Merged:
    """Return the tree that folder and space have after the sync, and the local tree with the node ids of that tree.
    `base` is the last state on which both agreed; `local` is the tree in the folder, and `remote` the tree in the
    space. `label` is part of the names of conflict copies.
    """
    return _Merge(base, local, remote, label).run()


def remote_homes(base: Base, remote: Remote) -> dict[NodeId, Place]:
    """Return the former parent and name, which `base` has, of each node of `remote` whose move was interrupted while
    the node had a temporary name.
    """
    return {
        node.id: before.place
        for node in remote.values()
        if in_transit(node.name) == node.id
        and (before := base.get(node.id)) is not None
        and (before.parent == ROOT or before.parent in remote)
    }


class _Merge:
    def __init__(self, base: Base, local: Local, remote: Remote, label: str) -> None:
        self._base = base
        self._local = local
        self._remote = remote
        self._label = label
        self._target: dict[NodeId, Place] = {}
        self._renamed: dict[NodeId, NodeId] = {}  # local ids whose node has another id in the target
        self._adopted: set[NodeId] = set()  # ids of the space that nodes of the local tree got by being united
        self._conflicts: set[NodeId] = set()
        self._moved_above: dict[NodeId, bool] = {}
        self._names: dict[NodeId, ConflictNames] | None = None
        self._homes = remote_homes(base, remote)
        self._grounded: set[NodeId] = set()

    def run(self) -> Merged:
        copies = self._keep()
        self._settle_parents()
        self._settle_names()
        self._add_copies(copies)
        return Merged(self._target, self._relabelled(), frozenset(self._conflicts & self._target.keys()))

    # ---- which nodes there will be, and where ----

    def _keep(self) -> list[NodeId]:
        """Put all nodes that are not deleted into the target, the tree after the sync. Return the nodes whose local
        content becomes a conflict copy.
        """
        base, remote, target = self._base, self._remote, self._target
        copies = []
        for node, here in self._local.items():
            before, there = base.get(node), remote.get(node)
            if there is not None:
                target[node] = self._merged_place(before, here, there)
                if content_flow(before, here, there) is ContentFlow.CONFLICT:
                    copies.append(node)
            elif before is None:
                target[node] = self._place_here(here)
            elif self._changed_here(before, here):
                self._recreate(here)
        for node, there in remote.items():
            if node not in self._local and self._changed_there(base.get(node), there):
                target[node] = self._place_there(there)
        return sorted(copies)

    def _place_there(self, there: RemoteNode) -> Place:
        return self._homes.get(there.id) or there.place

    def _place_here(self, here: LocalNode) -> Place:
        parent, name = here.place
        return self._parent_from_here(parent), name

    def _parent_from_here(self, parent: NodeId) -> NodeId:
        """Return the id that a local directory has in the target."""
        return recreated_id(parent) if parent in self._base and parent not in self._remote else parent

    def _merged_place(self, before: BaseNode | None, here: LocalNode, there: RemoteNode) -> Place:
        parent, name = self._place_there(there)
        if before is None:
            return parent, name
        parent_here, name_here = self._place_here(here)
        if parent == before.parent:
            parent = parent_here
        return parent, name_here if name == before.name else name

    def _changed_here(self, before: BaseNode, here: LocalNode) -> bool:
        """Return True if a node that was deleted in the space has changed here since the last sync."""
        if here.kind is not NodeKind.DIRECTORY and (here.digest, here.executable) != (before.digest, before.executable):
            return True
        return here.place != before.place or self._is_moved_above(here.parent, here=True)

    def _changed_there(self, before: BaseNode | None, there: RemoteNode) -> bool:
        """Return True if a node that is not here is new in the space, or has changed there since the last sync."""
        if before is None:
            return True
        if there.kind is not NodeKind.DIRECTORY and (there.digest, there.executable) != (
            before.digest,
            before.executable,
        ):
            return True
        return self._place_there(there) != before.place or self._is_moved_above(there.parent, here=False)

    def _is_moved_above(self, directory: NodeId, *, here: bool) -> bool:
        """Return True if a directory that exists on one side only (in the folder if `here`, otherwise in the space), or
        any such directory above it, was moved there since the base.
        """
        trail = []
        moved = False
        while directory in self._base and directory not in (self._remote if here else self._local):
            if directory in self._moved_above:
                moved = self._moved_above[directory]
                break
            if here:
                mine = self._local.get(directory)
                place = mine.place if mine else None
            else:
                theirs = self._remote.get(directory)
                place = self._place_there(theirs) if theirs else None
            if place is None:
                break
            trail.append(directory)
            if place != self._base[directory].place:
                moved = True
                break
            directory = place[0]
        self._moved_above.update(dict.fromkeys(trail, moved))
        return moved

    def _recreate(self, here: LocalNode) -> None:
        node = recreated_id(here.id)
        self._renamed[here.id] = node
        self._target[node] = self._place_here(here)

    # ---- no node without a parent, no cycle ----

    def _settle_parents(self) -> None:
        while True:
            self._keep_parents()
            cycles = self._cycles()
            if not cycles:
                return
            for cycle in cycles:
                if not self._follow_space(cycle):
                    self._ground(cycle)

    def _follow_space(self, cycle: list[NodeId]) -> bool:
        """Put those nodes of a cycle that are in the space at their places there, to break the cycle. Return True if a
        place has changed.
        """
        places = {
            node: self._place_there(there)
            for node in cycle
            if node not in self._grounded and (there := self._remote.get(node)) is not None
        }
        changed = any(self._target[node] != place for node, place in places.items())
        self._target.update(places)
        return changed

    def _ground(self, cycle: list[NodeId]) -> None:
        """Put the nodes of a cycle that `_follow_space` cannot break at their actual places: those in the space, or
        else those in the folder. Such a cycle is due to interrupted moves alone.
        """
        for node in cycle:
            there, here = self._remote.get(node), self._local.get(original_id(node))
            if there is not None:
                self._target[node] = there.place
            elif here is not None:
                self._target[node] = self._parent_from_here(here.parent), here.name
        self._grounded.update(cycle)

    def _keep_parents(self) -> None:
        pending = list(self._target)
        while pending:
            node = pending.pop()
            parent, name = self._target[node]
            if parent == ROOT or parent in self._target:
                continue
            here, there = self._local.get(original_id(parent)), self._remote.get(parent)
            if there is not None:
                self._target[parent] = self._place_there(there)
            elif here is not None:
                self._recreate(here)
            else:
                self._target[node] = (ROOT, name)
                continue
            pending.append(parent)

    def _cycles(self) -> list[list[NodeId]]:
        """Return the nodes of each cycle. A node has one parent, so no node is in two cycles."""
        looked_at = {ROOT}
        cycles = []
        for start in self._target:
            trail: dict[NodeId, None] = {}
            node = start
            while node not in looked_at and node not in trail:
                trail[node] = None
                node = self._target[node][0]
            if node in trail:
                members = list(trail)
                cycles.append(members[members.index(node) :])
            looked_at.update(trail)
        return cycles

    # ---- no name twice ----

    def _settle_names(self) -> None:
        """Give each place to one node. The running time is that of sorting the places that several nodes have."""
        holders = _Holders(self._target)
        while clashes := holders.clashes():
            for place, nodes in clashes:
                if any(self._target.get(node) != place for node in nodes):
                    # The directories of these nodes have been united; the next iteration uses the new place.
                    continue
                winner, *losers = sorted(nodes, key=lambda node: self._claim(node, place))
                for loser in losers:
                    if not self._unite(loser, winner, holders):
                        holders.move(loser, (place[0], self._free_name(place)))
                        self._conflicts.add(loser)

    def _claim(self, node: NodeId, place: Place) -> tuple[bool, bool, bool, NodeId]:
        """Return a sort key for the nodes that the merge would put at the same `place`. The node with the least key
        keeps the name: first the node that has this place in the space, then the node that has it in the folder.
        """
        there, here = self._remote.get(node), self._local.get(original_id(node))
        return (
            there is None or there.place != place,
            here is None or self._place_here(here) != place,
            there is None,
            node,
        )

    def _unite(self, loser: NodeId, winner: NodeId, holders: _Holders) -> bool:
        """Unite two nodes that would have one place into the node `winner`, if both are directories, or if both are
        equal files and the winner is not in the folder. Remove `loser` from the target and return True; return False,
        and change nothing, if they cannot be united. A node that is in the space is never the `loser` of a union.
        """
        mine, theirs = self._local.get(original_id(loser)), self._remote.get(winner)
        if loser in self._remote or mine is None or theirs is None or mine.kind is not theirs.kind:
            return False
        winner_is_here = winner in self._local or winner in self._adopted
        if mine.kind is NodeKind.DIRECTORY:
            for node in holders.below(loser):
                holders.move(node, (winner, self._target[node][1]))
        elif winner_is_here or mine.digest is None or mine.digest != theirs.digest:
            return False
        holders.remove(loser)
        if winner_is_here:
            self._renamed.pop(mine.id, None)
        else:
            self._renamed[mine.id] = winner
            self._adopted.add(winner)
        return True

    def _free_name(self, place: Place) -> str:
        parent, name = place
        if self._names is None:
            self._names = defaultdict(lambda: ConflictNames(self._label))
            for directory, taken in self._target.values():
                self._names[directory].take(taken)
            for here in self._local.values():
                self._names[self._renamed.get(here.parent, here.parent)].take(here.name)
            for there in self._remote.values():
                self._names[there.parent].take(there.name)
        return self._names[parent].name(name)

    def _add_copies(self, nodes: list[NodeId]) -> None:
        for node in nodes:
            copy = copy_id(node)
            place = self._target[node]
            self._renamed[node] = copy
            self._target[copy] = (place[0], self._free_name(place))
            self._conflicts.add(copy)

    def _relabelled(self) -> Local:
        if not self._renamed:
            return self._local
        relabelled: dict[NodeId, LocalNode] = {}
        for node, here in self._local.items():
            label, parent = self._renamed.get(node, node), self._renamed.get(here.parent, here.parent)
            changed = label != node or parent != here.parent
            relabelled[label] = dataclasses.replace(here, id=label, parent=parent) if changed else here
        return relabelled


class _Holders:
    """Index, by place, of the nodes of the target (the tree that both sides have after the sync), with which clashes of
    names are found and resolved. The cost of a method is proportional to the number of nodes that it changes or
    returns.
    """

    def __init__(self, target: dict[NodeId, Place]) -> None:
        """`target` is the mapping of nodes to places; the methods change it together with the index."""
        self._target = target
        self._at: dict[Place, dict[NodeId, None]] = {}
        self._below: dict[NodeId, dict[NodeId, None]] = {}
        self._shared: set[Place] = set()
        """Places that several nodes have had since the last call of `clashes`, or had at that call."""
        for node, place in target.items():
            self._enter(node, place)

    def clashes(self) -> list[tuple[Place, list[NodeId]]]:
        """Return the places that several nodes have, sorted by parent and name, each with its nodes."""
        self._shared = {place for place in self._shared if len(self._at.get(place, ())) > 1}
        return [(place, list(self._at[place])) for place in sorted(self._shared)]

    def below(self, directory: NodeId) -> list[NodeId]:
        """Return the nodes of the target whose parent is this directory."""
        return list(self._below.get(directory, ()))

    def move(self, node: NodeId, place: Place) -> None:
        """Change the place of `node` to `place`, in the target and in this index. Other nodes may have the same place;
        the next call of `clashes` then returns the place, with all its nodes. Raise KeyError if `node` is not in the
        target.
        """
        self._leave(node)
        self._target[node] = place
        self._enter(node, place)

    def remove(self, node: NodeId) -> None:
        """Remove `node` from the target and from this index. Raise KeyError if `node` is not in the target."""
        self._leave(node)
        del self._target[node]

    def _enter(self, node: NodeId, place: Place) -> None:
        holders = self._at.setdefault(place, {})
        holders[node] = None
        if len(holders) > 1:
            self._shared.add(place)
        self._below.setdefault(place[0], {})[node] = None

    def _leave(self, node: NodeId) -> None:
        place = self._target[node]
        del self._at[place][node]
        del self._below[place[0]][node]
