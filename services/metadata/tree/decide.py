"""The decision on one mutation: a pure function of the few nodes that are involved.

`decide` reads a `Tree`, which raises NotLoaded for a node or a name that is not loaded, and records it. The caller then
loads what is missing and decides again. A decision therefore never waits for I/O, and a batch costs a few reads however
many mutations it has.
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
"""Maximum number of versions of a file that are compared before the file is deleted without a trash entry, and maximum
number of versions of the other file that has to have the same contents.
"""


class NotLoaded(LookupError):
    """The tree does not know the value of a key yet, and has recorded the key as missing."""


@dataclass(frozen=True, slots=True)
class Unsealed:
    """An object that is not proven; `stored` is True if its bytes are in S3."""

    stored: bool


@dataclass(frozen=True, slots=True)
class PathLength:
    """The number of names in a path, and the size of the path in bytes. The depth of a directory is a PathLength as
    well: the largest number of names, and the largest size, of all paths below the directory; two different paths may
    have them.

    `size` counts one byte for the '/' after each name.
    """

    names: int = 0
    size: int = 0

    def __add__(self, other: PathLength) -> PathLength:
        return PathLength(self.names + other.names, self.size + other.size)

    def max_with(self, other: PathLength) -> PathLength:
        """Return the larger number of names, and the larger size, of the two."""
        return PathLength(max(self.names, other.names), max(self.size, other.size))

    def fits_in(self, other: PathLength) -> bool:
        return self.names <= other.names and self.size <= other.size

    @classmethod
    def of(cls, name: str) -> PathLength:
        return cls(1, len(name.encode()) + 1)


MAX_LENGTH = PathLength(MAX_PATH_NAMES, MAX_PATH_BYTES + 1)
"""The longest valid path; one byte more than MAX_PATH_BYTES, because a '/' is counted after each name."""
_BEYOND = PathLength(1 << 30, 1 << 30)
"""A path length greater than any valid one: the result for a directory that is deeper than MAX_PATH_NAMES."""


class Tree(Protocol):
    """A space's tree at one sequence number, as far as it is loaded. Every method may raise NotLoaded."""

    @property
    def known_live(self) -> set[NodeId]:
        """Return the cache of `is_live`: directories that are known to be live, so that neither they nor any directory
        above them is deleted. It saves walking up a deep tree again.

        Code that applies the deletion of a directory must clear the set. No other change of a tree can make an entry of
        the set wrong.
        """

    @property
    def known_path_lengths(self) -> dict[NodeId, PathLength]:
        """Return the dictionary in which `path_length_of` caches the path lengths of directories, by id. Code that
        moves a directory must clear it.
        """

    def depth_below(self, directory: NodeId) -> PathLength:
        """Return the depth of a directory: the longest path below it, without nodes in the trash. The result may be
        larger than the true depth, never smaller.
        """

    def node(self, node: NodeId) -> Node | None: ...

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        """Return the node that has this name in this directory and is not deleted itself; None if the name is free."""

    def version(self, node: NodeId, number: int) -> Content | None: ...

    def object(self, digest: Digest) -> Sealed | Unsealed: ...

    def is_empty(self, directory: NodeId) -> bool:
        """Return True if all nodes in a directory are deleted, or it has none."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The context in which a mutation is decided: its author, its time (in milliseconds since 1970), and the limits."""

    user: str
    device: str
    now_ms: int
    seq: int
    """The sequence number of the entry that is being made."""
    new_id: NodeId
    """The id of the node that the mutation creates, if it creates one."""
    free_bytes: int
    """Number of bytes that the quota of the space still allows."""
    free_nodes: int
    """Number of nodes that may still be created in the space."""
    is_journal_full: bool = False
    """True if the journal of the space has reached its maximum size, so that no further change is accepted."""


def is_live(tree: Tree, node: Node | None) -> bool:
    """Return True if the node exists and neither it nor a directory above it is deleted."""
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
    """Return the verdict on `mutation`, and the resulting state of the node if it is accepted. `at` is the context.
    Raise NotLoaded if the tree does not know a node or name that the decision needs, and no other error.

    A refusal includes the node that prevents the mutation, without its manifest and symlink target. These may be a
    thousand times larger than the mutation, and no client needs them to decide what to do next.
    """
    result = _decide(tree, mutation, at)
    if at.is_journal_full and result.verdict is Verdict.ACCEPTED:
        return Result(Verdict.QUOTA_EXCEEDED)
    return result if result.verdict is Verdict.ACCEPTED else dataclasses.replace(result, node=_in_brief(result.node))


def _in_brief(node: Node | None) -> Node | None:
    """Return the node without manifest and symlink target; None for None. The values that distinguish one content from
    another stay.
    """
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
    if not (path_length_of(tree, want.parent) + PathLength.of(want.name)).fits_in(MAX_LENGTH):
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
    # A node that moves up, or stays at the same depth, makes no path longer, however long its paths are.
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
    """Return True if deleting the node certainly loses nothing, which is so in two cases:

    - The node is an empty directory.
    - The node is a file with at most _MAX_COMPARED_VERSIONS versions, and each of them is empty, or equal to one of the
      last _MAX_COMPARED_VERSIONS versions of the file `elsewhere`. With None, there is no such file.
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
    """Return the contents of a file's last versions before the current one, at most _MAX_COMPARED_VERSIONS together
    with it. Raise NotLoaded if some are not known, after recording all of these as missing.
    """
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
    # A live parent cannot be below this deleted node, so the move cannot create a cycle.
    if refusal := _place_refused(tree, parent, name):
        return refusal
    if _is_too_long(tree, node, path_length_of(tree, parent) + PathLength.of(name)):
        return Result(Verdict.PATH_TOO_LONG, node)
    return Result(
        Verdict.ACCEPTED,
        dataclasses.replace(node, parent=parent, name=name, deleted_at_ms=0, seq=at.seq),
        Change.RESTORED,
        # A node that was deleted only with a directory above it still holds its name in its own directory.
        None if node.deleted_at_ms else (node.parent, node.name),
    )


def path_length_of(tree: Tree, directory: NodeId) -> PathLength:
    """Return the length of a directory's path. If the path has more names than allowed, return `_BEYOND`, without
    walking all the way to the root.
    """
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
    """Return True if moving the node to a path of the length `place` would make its own path, or a path below it,
    longer than a path may be.
    """
    if not place.fits_in(MAX_LENGTH):
        return True
    return node.kind is NodeKind.DIRECTORY and not (place + tree.depth_below(node.id)).fits_in(MAX_LENGTH)


def _place_refused(tree: Tree, parent: NodeId, name: str, mover: NodeId | None = None) -> Result | None:
    """Return the result that refuses to put a node into the directory `parent` under this name; None if the name is
    free and valid. `mover` is a node that is moved, and may have the name already; None if no node is moved.
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
    """Return the verdict that refuses this content for a node of this kind; None if the node can have the content."""
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
    if manifest.size != content.size or len(manifest) > MAX_INLINE_BLOCKS or manifest.is_too_fine:
        return Verdict.MANIFEST_INVALID
    if not manifest:
        return None if content.digest == _EMPTY_DIGEST else Verdict.MANIFEST_INVALID
    if len(manifest) == 1 and manifest.blocks != content.digest:
        return Verdict.MANIFEST_INVALID
    # All objects are looked up before the first verdict, so that one round of loading fetches every missing one.
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
    """Return the verdict that refuses a manifest because of its block `ref`; None if the block is proven to be where
    the manifest says. `found` is what is known of the object that the manifest names.
    """
    if isinstance(found, Unsealed):
        return _unsealed(found)
    if ref.offset + ref.length > found.size:
        return Verdict.BLOCK_OUT_OF_BOUNDS
    if ref.offset == 0 and ref.length == found.size:
        return None if ref.digest == ref.object else Verdict.MANIFEST_INVALID
    if not found.offsets:
        return Verdict.BLOCK_OUT_OF_BOUNDS
    return None if found.block(ref.offset, ref.length) == ref.digest else Verdict.BLOCK_NOT_IN_PACK
