"""The draft of the next entry: the state of a space's tree with the decisions applied that are made and not appended
yet.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.metadata.entry import NameKey, name_changes
from services.metadata.ports import Sealed
from services.metadata.sealing import Objects
from services.metadata.tree.decide import Circumstances, NotLoaded, PathLength, Unsealed, decide
from services.metadata.tree.view import Missing, SpaceView
from syncline.model.blocks import Digest, MalformedManifest
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.tree import Change, Content, CreateNode, Mutation, Node, NodeKind, Result, UpdateContent
from syncline.model.verdicts import Verdict

_OBJECTS_REFUSED = frozenset(
    {
        Verdict.OBJECT_MISSING,
        Verdict.OBJECT_NOT_SEALED,
        Verdict.BLOCK_OUT_OF_BOUNDS,
        Verdict.BLOCK_NOT_IN_PACK,
        Verdict.MANIFEST_INVALID,
    }
)
"""Verdicts that may be due to an object that is not proven."""


@dataclass(frozen=True, slots=True)
class ListedNames:
    """The number of names that nodes have in a directory after entry `seq`: exactly `names` if `complete` is True,
    otherwise at least `names`.
    """

    seq: int
    names: int
    complete: bool


@dataclass(slots=True)
class Looked:
    """Values that were loaded for the decisions of one batch and that the view does not keep: the numbers of names in
    directories, the depths of directories, and the facts about objects.
    """

    names_left: int
    """Number of names that may still be listed for this batch."""
    objects: dict[Digest, Sealed | Unsealed] = field(default_factory=dict)
    versions: dict[tuple[NodeId, int], Content | None] = field(default_factory=dict)
    directories: dict[NodeId, ListedNames] = field(default_factory=dict)
    depths: dict[NodeId, PathLength] = field(default_factory=dict)
    """The depth of directories (the longest path below each), by id; valid at `depths_seq` only."""
    depths_seq: int = 0
    entries: int = 0
    """Number of proven blocks in `objects`."""
    unsealed: int = 0
    """Number of `objects` that are not sealed."""

    def add(self, objects: Mapping[Digest, Sealed | Unsealed]) -> None:
        self.objects |= objects
        sealed = [found for found in objects.values() if isinstance(found, Sealed)]
        self.entries += sum(len(found.offsets) for found in sealed)
        self.unsealed += len(objects) - len(sealed)


class Draft:
    """The state of a space's tree for decisions: the state of a view, and on top of it all decisions that were accepted
    before. The cost of a decision is independent of the number of earlier ones.
    """

    def __init__(self, view: SpaceView, *, objects: Objects, looked: Looked, nodes: int, alone: bool) -> None:
        """- `view` has the tree before the decisions.
        - `objects` answers if objects are sealed, and `looked` has further loaded values.
        - `nodes` is the number of nodes in the view, including deleted ones.
        - `alone` is True for a batch of one mutation: no later mutation then needs the new depths of directories.
        """
        self.missing = Missing()
        self.seq = view.seq
        """The sequence number of the view on which the decisions are made. The decisions are invalid once the view has
        advanced.
        """
        self.known_live: set[NodeId] = set()
        self.known_path_lengths: dict[NodeId, PathLength] = {}
        self.used_bytes = view.used_bytes
        self.nodes = nodes
        self._view = view
        self._objects = objects
        self._looked = looked
        self._alone = alone
        self._added_depths: dict[NodeId, PathLength] = {}
        """The longest path, by directory, that this draft has added below the directory."""
        self._nodes: dict[NodeId, Node] = {}
        self._names: dict[NameKey, NodeId | None] = {}
        self._held: Counter[NodeId] = Counter()
        """Number of names that nodes hold in this draft, by directory."""
        self._freed: Counter[NodeId] = Counter()
        """Number of names that nodes hold in the view and no longer hold in this draft, by directory."""
        self._created: set[NodeId] = set()
        self._undecided: set[NodeId] = set()

    def fork(self) -> Draft:
        """Return a copy of the draft, on which later mutations are tried only to find out which nodes and names their
        decisions need.
        """
        other = copy.copy(self)
        other.known_live = self.known_live.copy()
        other.known_path_lengths = self.known_path_lengths.copy()
        other._added_depths = self._added_depths.copy()
        other._nodes = self._nodes.copy()
        other._names = self._names.copy()
        other._held = self._held.copy()
        other._freed = self._freed.copy()
        other._created = self._created.copy()
        other._undecided = self._undecided.copy()
        return other

    def node(self, node: NodeId) -> Node | None:
        if (drafted := self._nodes.get(node)) is not None:
            return drafted
        if node in self._undecided:
            raise NotLoaded
        return self._view.node(node, self.missing)

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        if (parent, name) in self._names:
            return self._names[parent, name]
        if parent in self._created:
            return None
        return self._view.child(parent, name, self.missing)

    def version(self, node: NodeId, number: int) -> Content | None:
        drafted = self._nodes.get(node)
        if drafted is not None and drafted.version == number:
            return drafted.content
        if (node, number) not in self._looked.versions:
            self.missing.versions.add((node, number))
            raise NotLoaded
        return self._looked.versions[node, number]

    def depth_below(self, directory: NodeId) -> PathLength:
        put = self._added_depths.get(directory, PathLength())
        if directory in self._created:
            return put
        if directory not in self._looked.depths or self._looked.depths_seq != self.seq:
            self.missing.depths.add(directory)
            raise NotLoaded
        return put.max_with(self._looked.depths[directory])

    def object(self, digest: Digest) -> Sealed | Unsealed:
        found = self._looked.objects.get(digest) or self._objects.remembered(self._view.space, digest)
        if found is None:
            self.missing.objects.add(digest)
            raise NotLoaded
        return found

    def is_empty(self, directory: NodeId) -> bool:
        if self._held[directory]:
            return False
        if directory in self._created:
            return True
        freed = self._freed[directory]
        listed = self._looked.directories.get(directory)
        if listed is not None and listed.seq == self.seq:
            if listed.names > freed:
                return False
            if listed.complete:
                return True
        self.missing.directories[directory] = max(freed + 1, self.missing.directories.get(directory, 0))
        raise NotLoaded

    def decide(self, mutation: Mutation, at: Circumstances) -> Result | None:
        """Decide `mutation` in the context `at`, apply it to the draft if it is accepted, and return the result. If a
        node, a name or another value has to be loaded first, add it to `missing` and return None.
        """
        self._undecided.discard(at.new_id)  # a node that names itself as its parent must not wait for itself
        result: Result | None = None
        depths: dict[NodeId, PathLength] = {}
        try:
            decided = decide(self, mutation, at)
            depths = self._depths_after(decided)
            result = decided
        except NotLoaded:
            pass
        if result is not None and result.verdict in _OBJECTS_REFUSED:
            # Another process may have proven more about an object than this process remembers.
            unseen = {digest for digest in _objects_of(mutation) if digest not in self._looked.objects}
            self.missing.objects |= unseen
            result = None if unseen else result
        if result is None:
            if isinstance(mutation, CreateNode):
                self._undecided.add(at.new_id)
            return None
        if result.verdict is Verdict.ACCEPTED:
            self._take(result)
            self._added_depths |= depths
        return result

    def _depths_after(self, result: Result) -> dict[NodeId, PathLength]:
        """Return the changes of `_added_depths` that a result causes, by directory. A later mutation needs them to
        decide if one of these directories may be moved.

        The directories above the changed node are visited for as long as they become deeper.
        """
        node = result.node
        if self._alone or node is None or result.change not in {Change.CREATED, Change.MOVED, Change.RESTORED}:
            return {}
        depth = PathLength.of(node.name)
        if node.kind is NodeKind.DIRECTORY and result.change is not Change.CREATED:
            depth += self.depth_below(node.id)
        depths: dict[NodeId, PathLength] = {}
        directory = node.parent
        while directory != ROOT:
            known = self._added_depths.get(directory, PathLength())
            above = self.node(directory)
            if depth.fits_in(known) or above is None:
                break
            depths[directory] = known.max_with(depth)
            depth += PathLength.of(above.name)
            directory = above.parent
        return depths

    def _take(self, result: Result) -> None:
        node = result.node
        assert node is not None
        self._nodes[node.id] = node
        for key, holder in name_changes(result):
            before = self._names.get(key)
            if holder is None and key not in self._names:
                self._freed[key[0]] += 1
            self._held[key[0]] += (holder is not None) - (before is not None)
            self._names[key] = holder
        if result.change is Change.CREATED:
            self._created.add(node.id)
            self.nodes += 1
        if node.kind is NodeKind.DIRECTORY:
            if result.change in {Change.DELETED, Change.DISCARDED}:
                self.known_live.clear()
            elif result.change is Change.MOVED:
                self.known_path_lengths.clear()
        if result.change in {Change.CREATED, Change.UPDATED} and node.content is not None:
            self.used_bytes += node.content.size


def _objects_of(mutation: Mutation) -> set[Digest]:
    """Return the objects that the content of a mutation names."""
    content = mutation.content if isinstance(mutation, CreateNode | UpdateContent) else None
    if content is None:
        return set()
    if content.manifest_object:
        return {Digest(content.manifest_object)}
    try:
        content.manifest.check()
    except MalformedManifest:
        return set()
    return set(content.manifest.object_digests())
