"""The decision on one mutation: pure, from the few nodes that are involved.

`decide` reads a `Tree` that may not know a key yet; the tree then raises NotLoaded, the caller loads what is
missing and decides again. So a decision never waits, and a batch costs a few reads however many mutations it has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Protocol

from services.metadata.ports import Sealed
from syncline.model.blocks import EMPTY_MANIFEST, MAX_INLINE_BLOCKS, BlockRef, Digest, MalformedManifest
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.names import MAX_PATH_BYTES, MAX_PATH_NAMES, RESERVED_AT_ROOT, name_problem
from syncline.model.tree import (
    Change,
    Content,
    CreateNode,
    DeleteNode,
    MoveNode,
    Mutation,
    Node,
    NodeKind,
    RestoreNode,
    RestoreVersion,
    Result,
    UpdateContent,
)
from syncline.model.verdicts import Verdict

_MAX_COMPARED_VERSIONS = 4
"""Maximum number of versions of a file that is deleted without a trace in the trash, and of the file that keeps its
contents.
"""


class NotLoaded(LookupError):
    """The tree does not know yet; it has noted what to load."""


@dataclass(frozen=True, slots=True)
class Unsealed:
    """An object that is not proven; `stored` says whether its bytes are in the space's storage at all."""

    stored: bool


@dataclass(frozen=True, slots=True)
class PathLength:
    """Number of names and bytes of a path, or the maximum of both over all paths below a directory (its depth).

    `size` counts one byte for the '/' after each name.
    """

    names: int = 0
    size: int = 0

    def __add__(self, other: PathLength) -> PathLength:
        return PathLength(self.names + other.names, self.size + other.size)

    def max_with(self, other: PathLength) -> PathLength:
        """The greater of each."""
        return PathLength(max(self.names, other.names), max(self.size, other.size))

    def fits_in(self, other: PathLength) -> bool:
        return self.names <= other.names and self.size <= other.size

    @classmethod
    def of(cls, name: str) -> PathLength:
        return cls(1, len(name.encode()) + 1)


LONGEST = PathLength(MAX_PATH_NAMES, MAX_PATH_BYTES + 1)
"""The longest path that is allowed; one byte more than MAX_PATH_BYTES, since a '/' is counted after each name."""
_BEYOND = PathLength(1 << 30, 1 << 30)
"""Longer than any path: stands for the path of a directory that is deeper than MAX_PATH_NAMES."""


class Tree(Protocol):
    """A space's tree at one sequence number. Every method may raise NotLoaded."""

    @property
    def known_live(self) -> set[NodeId]:
        """Directories that were found live, for `is_live` to add to: many questions cost one way up a deep tree.

        Whoever applies the deletion of a directory must clear this set; no other change makes a live directory dead.
        """

    @property
    def known_path_lengths(self) -> dict[NodeId, PathLength]:
        """Lengths of paths of directories, for `path_length_of` to add to. Whoever moves a directory must clear it."""

    def depth_below(self, directory: NodeId) -> PathLength:
        """The depth of a directory without what is in the trash, or more."""

    def node(self, node: NodeId) -> Node | None: ...

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        """The node, not deleted itself, that has this name in this directory."""

    def version(self, node: NodeId, number: int) -> Content | None: ...

    def object(self, digest: Digest) -> Sealed | Unsealed: ...

    def is_empty(self, directory: NodeId) -> bool:
        """Return True if a directory has no child that is not deleted itself."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The circumstances of a mutation: who wants it, when (in milliseconds since 1970), and the limits of the
    decision.
    """

    user: str
    device: str
    now_ms: int
    seq: int
    """The sequence number of the entry that is being made."""
    new_id: NodeId
    """The id that a created node will have."""
    free_bytes: int
    """The bytes that are left of the quota."""
    free_nodes: int
    """The nodes that may still be made."""


def is_live(tree: Tree, node: Node | None) -> bool:
    """Return True if neither the node nor an ancestor of it is deleted."""
    way: list[NodeId] = []
    while node is not None:
        if node.deleted_at_ms:
            return False
        if node.kind is NodeKind.DIRECTORY:
            way.append(node.id)
        if node.parent == ROOT or node.parent in tree.known_live:
            tree.known_live.update(way)
            return True
        node = tree.node(node.parent)
    return False


def decide(tree: Tree, mutation: Mutation, at: Circumstances) -> Result:
    """The verdict on `mutation` and the state that follows from it. Raises NotLoaded, nothing else.

    A refusal tells the node that stands in the way without its manifest and target: they may weigh a thousand times as
    much as the mutation, and nobody decides by them what to do next.
    """
    result = _decide(tree, mutation, at)
    return result if result.verdict is Verdict.ACCEPTED else dataclasses.replace(result, node=_in_brief(result.node))


def _in_brief(node: Node | None) -> Node | None:
    """The node without what its content consists of; what tells one content from another stays."""
    if node is None or node.content is None:
        return node
    brief = dataclasses.replace(node.content, manifest=EMPTY_MANIFEST, manifest_object=b"", target="")
    return dataclasses.replace(node, content=brief)


def _decide(tree: Tree, mutation: Mutation, at: Circumstances) -> Result:
    match mutation:
        case CreateNode():
            return _create(tree, mutation, at)
        case UpdateContent():
            return _update(tree, mutation, at)
        case MoveNode():
            return _move(tree, mutation, at)
        case DeleteNode():
            return _delete(tree, mutation, at)
        case RestoreNode():
            return _restore_node(tree, mutation, at)
        case RestoreVersion():
            return _restore_version(tree, mutation, at)


def _create(tree: Tree, want: CreateNode, at: Circumstances) -> Result:
    if refusal := _place_refused(tree, want.parent, want.name):
        return refusal
    if not (path_length_of(tree, want.parent) + PathLength.of(want.name)).fits_in(LONGEST):
        return Result(Verdict.PATH_TOO_LONG)
    if at.free_nodes <= 0:
        return Result(Verdict.NODES_EXCEEDED)
    if problem := _content_refused(tree, want.kind, want.content, at.free_bytes):
        return Result(problem)
    return Result(
        Verdict.ACCEPTED,
        Node(
            id=at.new_id,
            parent=want.parent,
            name=want.name,
            kind=want.kind,
            version=0 if want.kind is NodeKind.DIRECTORY else 1,
            content=want.content,
            seq=at.seq,
            user=at.user,
            device=at.device,
            committed_at_ms=at.now_ms,
        ),
        Change.CREATED,
    )


def _update(tree: Tree, want: UpdateContent, at: Circumstances) -> Result:
    node = tree.node(want.node)
    if refusal := _edit_refused(tree, node, want.base_version):
        return refusal
    assert node is not None
    if problem := _content_refused(tree, node.kind, want.content, at.free_bytes):
        return Result(problem, node)
    return _new_version(node, want.content, at)


def _restore_version(tree: Tree, want: RestoreVersion, at: Circumstances) -> Result:
    node = tree.node(want.node)
    if refusal := _edit_refused(tree, node, want.base_version):
        return refusal
    assert node is not None
    content = node.content if want.version == node.version else tree.version(want.node, want.version)
    if content is None:
        return Result(Verdict.VERSION_NOT_FOUND, node)
    if content.size > at.free_bytes:
        return Result(Verdict.QUOTA_EXCEEDED, node)
    return _new_version(node, content, at)


def _new_version(node: Node, content: Content, at: Circumstances) -> Result:
    return Result(
        Verdict.ACCEPTED,
        dataclasses.replace(
            node,
            version=node.version + 1,
            content=content,
            seq=at.seq,
            user=at.user,
            device=at.device,
            committed_at_ms=at.now_ms,
        ),
        Change.UPDATED,
    )


def _move(tree: Tree, want: MoveNode, at: Circumstances) -> Result:
    node = tree.node(want.node)
    if node is None:
        return Result(Verdict.NODE_NOT_FOUND)
    if not is_live(tree, node):
        return Result(Verdict.NODE_DELETED, node)
    if (node.parent, node.name) != (want.from_parent, want.from_name):
        return Result(Verdict.MOVED, node)
    moves_elsewhere = node.kind is NodeKind.DIRECTORY and want.parent != node.parent
    if moves_elsewhere and _is_within(tree, want.parent, node.id):
        return Result(Verdict.CYCLE, node)
    if refusal := _place_refused(tree, want.parent, want.name, mover=node.id):
        return refusal
    place = path_length_of(tree, want.parent) + PathLength.of(want.name)
    # A node that goes up, or stays where it is, makes no path longer, however long its paths are.
    was = path_length_of(tree, node.parent) + PathLength.of(node.name)
    if not place.fits_in(was) and _is_too_long(tree, node, place):
        return Result(Verdict.PATH_TOO_LONG, node)
    return Result(
        Verdict.ACCEPTED,
        dataclasses.replace(node, parent=want.parent, name=want.name, seq=at.seq),
        Change.MOVED,
        (node.parent, node.name),
    )


def _delete(tree: Tree, want: DeleteNode, at: Circumstances) -> Result:
    node = tree.node(want.node)
    if node is None:
        return Result(Verdict.NODE_NOT_FOUND)
    if not is_live(tree, node):
        return Result(Verdict.NODE_DELETED, node)
    if node.version != want.base_version:
        return Result(Verdict.VERSION_CONFLICT, node)
    change = Change.DISCARDED if want.discard and _is_kept(tree, node, want.kept_in) else Change.DELETED
    return Result(Verdict.ACCEPTED, dataclasses.replace(node, deleted_at_ms=max(at.now_ms, 1), seq=at.seq), change)


def _is_kept(tree: Tree, node: Node, elsewhere: NodeId | None) -> bool:
    """Return True if nothing is lost without a node: an empty directory, or a file whose versions are empty or
    another's.
    """
    if node.kind is NodeKind.DIRECTORY:
        return tree.is_empty(node.id)
    if node.kind is not NodeKind.FILE or node.version > _MAX_COMPARED_VERSIONS:
        return False
    held = [node.content, *_older(tree, node)]
    if any(content is None for content in held):
        return False
    lost = {content.digest for content in held if content is not None and content.size}
    other = tree.node(elsewhere) if elsewhere is not None and elsewhere != node.id else None
    if lost and other is not None and other.content is not None and is_live(tree, other):
        lost.discard(other.content.digest)
        if lost:
            lost -= {content.digest for content in _older(tree, other) if content is not None}
    return not lost


def _older(tree: Tree, node: Node) -> list[Content | None]:
    """The contents of the last versions before the current one; all of them are asked for before NotLoaded comes."""
    looked: list[Content | None] = []
    numbers = range(max(1, node.version - _MAX_COMPARED_VERSIONS + 1), node.version)
    for number in numbers:
        with contextlib.suppress(NotLoaded):
            looked.append(tree.version(node.id, number))
    if len(looked) < len(numbers):
        raise NotLoaded
    return looked


def _restore_node(tree: Tree, want: RestoreNode, at: Circumstances) -> Result:
    node = tree.node(want.node)
    if node is None:
        return Result(Verdict.NODE_NOT_FOUND)
    if is_live(tree, node):
        return Result(Verdict.NOT_DELETED, node)
    parent = node.parent if want.parent is None else want.parent
    name = want.name or node.name
    # A live parent cannot be below this deleted node, so no cycle can come of it.
    if refusal := _place_refused(tree, parent, name):
        return refusal
    if _is_too_long(tree, node, path_length_of(tree, parent) + PathLength.of(name)):
        return Result(Verdict.PATH_TOO_LONG, node)
    return Result(
        Verdict.ACCEPTED,
        dataclasses.replace(node, parent=parent, name=name, deleted_at_ms=0, seq=at.seq),
        Change.RESTORED,
        # A node that was deleted only with a directory above still has its name in its own directory.
        None if node.deleted_at_ms else (node.parent, node.name),
    )


def path_length_of(tree: Tree, directory: NodeId) -> PathLength:
    """The length of a directory's path; `_BEYOND` for one that is too deep, which is not followed to its beginning."""
    way: list[Node] = []
    asked = directory
    while directory != ROOT and directory not in tree.known_path_lengths:
        node = tree.node(directory)
        if node is None or len(way) > MAX_PATH_NAMES:
            tree.known_path_lengths[asked] = _BEYOND
            return _BEYOND
        way.append(node)
        directory = node.parent
    length = tree.known_path_lengths.get(directory, PathLength())
    for node in reversed(way):
        length = tree.known_path_lengths[node.id] = length + PathLength.of(node.name)
    return length


def _is_too_long(tree: Tree, node: Node, place: PathLength) -> bool:
    """Return True if a path would be too long if that of the node, which is not put there yet, was `place`."""
    if not place.fits_in(LONGEST):
        return True
    return node.kind is NodeKind.DIRECTORY and not (place + tree.depth_below(node.id)).fits_in(LONGEST)


def _place_refused(tree: Tree, parent: NodeId, name: str, mover: NodeId | None = None) -> Result | None:
    """Return the refusal of a node at this place; None if it can be there. A node that is there already may stay
    (`mover`).
    """
    if name_problem(name) or (parent == ROOT and name == RESERVED_AT_ROOT):
        return Result(Verdict.NAME_INVALID)
    if parent != ROOT:
        directory = tree.node(parent)
        if directory is None or directory.kind is not NodeKind.DIRECTORY or not is_live(tree, directory):
            return Result(Verdict.PARENT_NOT_FOUND)
    holder = tree.child(parent, name)
    if holder is not None and holder != mover:
        return Result(Verdict.NAME_TAKEN, tree.node(holder))
    return None


def _edit_refused(tree: Tree, node: Node | None, base_version: int) -> Result | None:
    if node is None:
        return Result(Verdict.NODE_NOT_FOUND)
    if node.kind is NodeKind.DIRECTORY:
        return Result(Verdict.WRONG_KIND, node)
    if not is_live(tree, node):
        return Result(Verdict.NODE_DELETED, node)
    if node.version != base_version:
        return Result(Verdict.VERSION_CONFLICT, node)
    return None


def _is_within(tree: Tree, inner: NodeId, outer: NodeId) -> bool:
    """Return True if `inner` is `outer` or below it."""
    while inner != ROOT:
        if inner == outer:
            return True
        node = tree.node(inner)
        if node is None:
            return False
        inner = node.parent
    return False


def _content_refused(tree: Tree, kind: NodeKind, content: Content | None, free_bytes: int) -> Verdict | None:
    """Return the verdict that refuses this content for a node of this kind; None if the node can have it."""
    if kind is NodeKind.DIRECTORY:
        return Verdict.MANIFEST_INVALID if content is not None else None
    if content is None:
        return Verdict.MANIFEST_INVALID
    if kind is NodeKind.SYMLINK:
        return None if _is_symlink_content(content) else Verdict.MANIFEST_INVALID
    if problem := _manifest_refused(tree, content):
        return problem
    return Verdict.QUOTA_EXCEEDED if content.size > free_bytes else None


def _is_symlink_content(content: Content) -> bool:
    target = content.target.encode()
    return (
        0 < len(target) <= MAX_PATH_BYTES
        and b"\0" not in target
        and content.size == len(target)
        and content.digest == hashlib.sha256(target).digest()
        and not content.manifest
        and not content.manifest_object
    )


_EMPTY_DIGEST = hashlib.sha256().digest()


def _manifest_refused(tree: Tree, content: Content) -> Verdict | None:
    if content.target:
        return Verdict.MANIFEST_INVALID
    if content.manifest_object:
        if content.manifest:
            return Verdict.MANIFEST_INVALID
        sealed = tree.object(Digest(content.manifest_object))
        if isinstance(sealed, Unsealed):
            return _unsealed(sealed)
        return None if sealed.content_size == content.size else Verdict.MANIFEST_INVALID
    manifest = content.manifest
    try:
        manifest.check()
    except MalformedManifest:
        return Verdict.MANIFEST_INVALID
    if manifest.size != content.size or len(manifest) > MAX_INLINE_BLOCKS:
        return Verdict.MANIFEST_INVALID
    if not manifest:
        return None if content.digest == _EMPTY_DIGEST else Verdict.MANIFEST_INVALID
    if len(manifest) == 1 and manifest.blocks != content.digest:
        return Verdict.MANIFEST_INVALID
    # Look at all before the verdict on any, so that one round of loading finds all that is missing.
    looked = [(ref, _look(tree, ref.object)) for ref in manifest.refs()]
    if any(found is None for _, found in looked):
        raise NotLoaded
    for ref, found in looked:
        assert found is not None
        if problem := block_refused(ref, found):
            return problem
    return None


def _look(tree: Tree, digest: Digest) -> Sealed | Unsealed | None:
    try:
        return tree.object(digest)
    except NotLoaded:
        return None


def _unsealed(found: Unsealed) -> Verdict:
    return Verdict.OBJECT_NOT_SEALED if found.stored else Verdict.OBJECT_MISSING


def block_refused(ref: BlockRef, found: Sealed | Unsealed) -> Verdict | None:
    """Return the verdict that a block does not lie where the manifest says; None if it is proven to."""
    if isinstance(found, Unsealed):
        return _unsealed(found)
    if ref.offset + ref.length > found.size:
        return Verdict.BLOCK_OUT_OF_BOUNDS
    if ref.offset == 0 and ref.length == found.size:
        return None if ref.digest == ref.object else Verdict.MANIFEST_INVALID
    if not found.offsets:
        return Verdict.BLOCK_OUT_OF_BOUNDS
    return None if found.block(ref.offset, ref.length) == ref.digest else Verdict.BLOCK_NOT_IN_PACK
