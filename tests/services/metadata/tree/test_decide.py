"""Decisions, one row of the contract after the other."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import reduce

import pytest

from services.metadata.ports import Sealed
from services.metadata.tree.decide import Circumstances, NotLoaded, PathLength, Unsealed, decide
from syncline.model.blocks import MAX_FINE_BLOCKS, MIB, BlockRef, Digest, Manifest
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.tree import (
    Change,
    Content,
    CreateNode,
    DeleteNode,
    MoveNode,
    Node,
    NodeKind,
    RestoreNode,
    RestoreVersion,
    UpdateContent,
)
from syncline.model.verdicts import Verdict

V = Verdict


def sha(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).digest())


def node_id(n: int) -> NodeId:
    return NodeId(bytes(15) + bytes([n]))


EMPTY = Content(sha(b""), 0)
BLOCK = sha(b"block")
PACK = sha(b"pack")
SMALL = sha(b"small")
PACKED = Content(SMALL, 10, manifest=Manifest.of([BlockRef(SMALL, 10, PACK, 100)]))
WHOLE = Content(BLOCK, MIB, manifest=Manifest.of([BlockRef(BLOCK, MIB, BLOCK, 0)]))


class Tree:
    """
    docs/            1
      a.txt  v2      2
      deep/          4
    b.txt    v1      3
    gone/ (deleted)  5
      left.txt       6
    """

    def __init__(self) -> None:
        self.nodes: dict[NodeId, Node] = {}
        for n, parent, name, version in (
            (1, 0, "docs", 0),
            (2, 1, "a.txt", 2),
            (3, 0, "b.txt", 1),
            (4, 1, "deep", 0),
            (5, 0, "gone", 0),
            (6, 5, "left.txt", 1),
        ):
            kind = NodeKind.FILE if version else NodeKind.DIRECTORY
            self.nodes[node_id(n)] = Node(
                node_id(n), node_id(parent), name, kind, version, EMPTY if version else None, seq=1
            )
        self.nodes[node_id(5)] = dataclasses.replace(self.nodes[node_id(5)], deleted_at_ms=7)
        self.objects: dict[Digest, Sealed | Unsealed] = {
            BLOCK: Sealed(MIB),
            PACK: Sealed(1000, (0, 100), (100, 10), sha(b"other") + SMALL),
        }

    @property
    def known_live(self) -> set[NodeId]:
        return set()  # these tests change the tree as they like

    @property
    def known_path_lengths(self) -> dict[NodeId, PathLength]:
        return {}

    def depth_below(self, directory: NodeId) -> PathLength:
        children = [node for node in self.nodes.values() if node.parent == directory and not node.deleted_at_ms]
        return reduce(
            PathLength.max_with,
            (PathLength.of(node.name) + self.depth_below(node.id) for node in children),
            PathLength(),
        )

    def node(self, node: NodeId) -> Node | None:
        return self.nodes.get(node)

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        return next(
            (n.id for n in self.nodes.values() if (n.parent, n.name) == (parent, name) and not n.deleted_at_ms), None
        )

    def version(self, node: NodeId, number: int) -> Content | None:
        return PACKED if (node, number) == (node_id(2), 1) else None

    def is_empty(self, directory: NodeId) -> bool:
        return all(n.parent != directory or n.deleted_at_ms for n in self.nodes.values())

    def object(self, digest: Digest) -> Sealed | Unsealed:
        return self.objects.get(digest, Unsealed(stored=False))


AT = Circumstances(user="u", device="d", now_ms=50, seq=9, new_id=node_id(99), free_bytes=2 * MIB, free_nodes=1)
FILE, DIRECTORY, SYMLINK = NodeKind.FILE, NodeKind.DIRECTORY, NodeKind.SYMLINK
one, two, three, four, five, six = (node_id(n) for n in range(1, 7))


@pytest.mark.parametrize(
    ("mutation", "verdict"),
    [
        (CreateNode(ROOT, "new", DIRECTORY), V.ACCEPTED),
        (CreateNode(four, "new", FILE, EMPTY), V.ACCEPTED),
        (CreateNode(ROOT, "gone", DIRECTORY), V.ACCEPTED),  # a deleted node's name is free
        (CreateNode(ROOT, "docs", DIRECTORY), V.NAME_TAKEN),
        (CreateNode(five, "new", DIRECTORY), V.PARENT_NOT_FOUND),
        (CreateNode(node_id(77), "new", DIRECTORY), V.PARENT_NOT_FOUND),
        (CreateNode(three, "new", DIRECTORY), V.PARENT_NOT_FOUND),
        *((CreateNode(ROOT, name, DIRECTORY), V.NAME_INVALID) for name in ("", ".", "..", "a/b", "a\0", "x" * 256)),
        (CreateNode(ROOT, "e\u0301", DIRECTORY), V.NAME_INVALID),
        (CreateNode(ROOT, "\u00e9" * 127, DIRECTORY), V.ACCEPTED),
        (CreateNode(ROOT, ".syncline", DIRECTORY), V.NAME_INVALID),
        (CreateNode(one, ".syncline", DIRECTORY), V.ACCEPTED),
        (CreateNode(ROOT, "d", DIRECTORY, EMPTY), V.MANIFEST_INVALID),
        (CreateNode(ROOT, "f", FILE), V.MANIFEST_INVALID),
        (CreateNode(ROOT, "l", SYMLINK, Content(sha(b"to"), 2, target="to")), V.ACCEPTED),
        (CreateNode(ROOT, "l", SYMLINK, Content(sha(b"lie"), 2, target="to")), V.MANIFEST_INVALID),
        (UpdateContent(two, 2, WHOLE), V.ACCEPTED),
        (UpdateContent(two, 1, WHOLE), V.VERSION_CONFLICT),
        (UpdateContent(one, 0, WHOLE), V.WRONG_KIND),
        (UpdateContent(six, 1, WHOLE), V.NODE_DELETED),
        (UpdateContent(node_id(77), 1, WHOLE), V.NODE_NOT_FOUND),
        (MoveNode(two, one, "a.txt", ROOT, "a.txt"), V.ACCEPTED),
        (MoveNode(two, one, "a.txt", one, "a.txt"), V.ACCEPTED),
        (MoveNode(two, ROOT, "a.txt", ROOT, "c.txt"), V.MOVED),
        (MoveNode(two, one, "old", ROOT, "c.txt"), V.MOVED),
        (MoveNode(two, one, "a.txt", ROOT, "b.txt"), V.NAME_TAKEN),
        (MoveNode(one, ROOT, "docs", four, "docs"), V.CYCLE),
        (MoveNode(one, ROOT, "docs", one, "docs"), V.CYCLE),
        (MoveNode(six, five, "left.txt", ROOT, "left.txt"), V.NODE_DELETED),
        (MoveNode(two, one, "a.txt", five, "a.txt"), V.PARENT_NOT_FOUND),
        (MoveNode(node_id(77), ROOT, "x", ROOT, "y"), V.NODE_NOT_FOUND),
        (DeleteNode(one, 0), V.ACCEPTED),
        (DeleteNode(two, 2), V.ACCEPTED),
        (DeleteNode(two, 1), V.VERSION_CONFLICT),
        (DeleteNode(five, 0), V.NODE_DELETED),
        (DeleteNode(six, 1), V.NODE_DELETED),
        (DeleteNode(node_id(77), 0), V.NODE_NOT_FOUND),
        (RestoreNode(five), V.ACCEPTED),
        (RestoreNode(five, one, "back"), V.ACCEPTED),
        (RestoreNode(five, name="docs"), V.NAME_TAKEN),
        (RestoreNode(five, name="a/b"), V.NAME_INVALID),
        (RestoreNode(five, parent=five), V.PARENT_NOT_FOUND),
        (RestoreNode(two), V.NOT_DELETED),
        (RestoreNode(node_id(77)), V.NODE_NOT_FOUND),
        (RestoreVersion(two, 1, 2), V.ACCEPTED),
        (RestoreVersion(two, 7, 2), V.VERSION_NOT_FOUND),
        (RestoreVersion(two, 1, 1), V.VERSION_CONFLICT),
    ],
)
def test_the_verdict_on_each_mutation(mutation, verdict) -> None:
    result = decide(Tree(), mutation, AT)
    assert result.verdict is verdict
    assert (result.change is not None) == (verdict is V.ACCEPTED)


def test_what_an_accepted_mutation_says() -> None:
    moved = decide(Tree(), MoveNode(two, one, "a.txt", ROOT, "c.txt"), AT)
    assert moved.node is not None
    assert (moved.node.parent, moved.node.name, moved.node.seq, moved.node.version) == (ROOT, "c.txt", 9, 2)
    assert moved.moved_from == (one, "a.txt")
    assert moved.change is Change.MOVED
    updated = decide(Tree(), UpdateContent(two, 2, WHOLE), AT).node
    assert updated is not None
    assert (updated.version, updated.content, updated.user, updated.device) == (3, WHOLE, "u", "d")
    taken = decide(Tree(), CreateNode(ROOT, "b.txt", FILE, EMPTY), AT)
    assert taken.node is not None
    assert taken.node.id == three


class History(Tree):
    """`a.txt` and `b.txt` with these contents; the older versions of `a.txt` are all the same."""

    def __init__(self, content: Content, kept: Content, older: Content | None, version: int) -> None:
        super().__init__()
        self.older = older
        self.nodes[two] = dataclasses.replace(self.nodes[two], content=content, version=version)
        self.nodes[three] = dataclasses.replace(self.nodes[three], content=kept)

    def version(self, node: NodeId, number: int) -> Content | None:
        return self.older


def test_a_file_of_which_nothing_is_lost_does_not_come_into_the_trash() -> None:
    def change(
        content: Content,
        kept: Content,
        *,
        version: int = 1,
        older: Content | None = None,
        discard: bool = True,
        kept_in: NodeId | None = three,
    ) -> Change | None:
        tree = History(content, kept, older, version)
        result = decide(tree, DeleteNode(two, version, discard, kept_in), AT)
        assert result.verdict is V.ACCEPTED
        assert result.node is not None
        assert result.node.deleted_at_ms
        return result.change

    assert change(WHOLE, WHOLE) is Change.DISCARDED
    assert change(WHOLE, dataclasses.replace(WHOLE, executable=True, mtime_ns=5)) is Change.DISCARDED
    assert change(EMPTY, WHOLE, kept_in=None) is Change.DISCARDED
    assert change(WHOLE, WHOLE, version=3, older=EMPTY) is Change.DISCARDED
    assert change(WHOLE, WHOLE, version=3, older=WHOLE) is Change.DISCARDED
    for kept in (EMPTY, PACKED):
        assert change(WHOLE, kept) is Change.DELETED
    assert change(WHOLE, WHOLE, version=3, older=PACKED) is Change.DELETED
    assert change(WHOLE, WHOLE, version=9, older=EMPTY) is Change.DELETED
    assert change(WHOLE, WHOLE, discard=False) is Change.DELETED
    for nowhere in (None, two, one, six, node_id(77)):
        assert change(WHOLE, WHOLE, kept_in=nowhere) is Change.DELETED
    assert decide(Tree(), DeleteNode(one, 0, discard=True), AT).change is Change.DELETED
    assert decide(Tree(), DeleteNode(four, 0, discard=True), AT).change is Change.DISCARDED
    assert decide(Tree(), DeleteNode(four, 0), AT).change is Change.DELETED


@pytest.mark.parametrize(
    ("versions", "change"),
    [
        ([WHOLE, PACKED], Change.DISCARDED),
        ([EMPTY, WHOLE, EMPTY, EMPTY, PACKED], Change.DISCARDED),
        ([WHOLE, EMPTY, EMPTY, EMPTY, PACKED], Change.DELETED),  # the first version is too long ago to look
        ([PACKED, EMPTY], Change.DELETED),
    ],
)
def test_what_an_older_version_of_another_file_holds_is_not_lost(versions: list[Content], change: Change) -> None:
    class Kept(Tree):
        def version(self, node: NodeId, number: int) -> Content | None:
            assert node == three
            return versions[number - 1]

    tree = Kept()
    tree.nodes[two] = dataclasses.replace(tree.nodes[two], content=WHOLE, version=1)
    tree.nodes[three] = dataclasses.replace(tree.nodes[three], content=versions[-1], version=len(versions))
    assert decide(tree, DeleteNode(two, 1, discard=True, kept_in=three), AT).change is change


def test_all_versions_are_asked_for_at_once() -> None:
    asked = set[tuple[NodeId, int]]()

    class Asked(Tree):
        def version(self, node: NodeId, number: int) -> Content | None:
            asked.add((node, number))
            raise NotLoaded

    tree = Asked()
    tree.nodes[two] = dataclasses.replace(tree.nodes[two], content=WHOLE, version=4)
    with pytest.raises(NotLoaded):
        decide(tree, DeleteNode(two, 4, discard=True, kept_in=three), AT)
    assert asked == {(two, 1), (two, 2), (two, 3)}


def ref(digest: Digest = SMALL, length: int = 10, holder: Digest = PACK, offset: int = 100) -> BlockRef:
    return BlockRef(digest, length, holder, offset)


def whole(data: bytes, length: int) -> BlockRef:
    return BlockRef(sha(data), length, sha(data), 0)


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        (EMPTY, V.ACCEPTED),
        (PACKED, V.ACCEPTED),
        (WHOLE, V.ACCEPTED),
        (Content(sha(b"not empty"), 0), V.MANIFEST_INVALID),
        (Content(SMALL, 11, manifest=Manifest.of([ref()])), V.MANIFEST_INVALID),  # lengths do not add up
        (Content(BLOCK, 160, manifest=Manifest.of([ref()] * MAX_FINE_BLOCKS)), V.ACCEPTED),
        (Content(BLOCK, 170, manifest=Manifest.of([ref()] * (MAX_FINE_BLOCKS + 1))), V.MANIFEST_INVALID),  # too fine
        (Content(BLOCK, 10, manifest=Manifest.of([ref()])), V.MANIFEST_INVALID),  # the only block is not the content
        (Content(SMALL, 10, target="x", manifest=Manifest.of([ref()])), V.MANIFEST_INVALID),
        (Content(SMALL, 10, manifest=Manifest(b"short", (10,))), V.MANIFEST_INVALID),
        (Content(SMALL, 10, manifest=Manifest(SMALL, (10,), PACK, (1,), (0,))), V.MANIFEST_INVALID),
        (Content(SMALL, 10, manifest=Manifest.of([ref(holder=sha(b"nowhere"))])), V.OBJECT_MISSING),
        (Content(SMALL, 10, manifest=Manifest.of([ref(holder=sha(b"unsealed"))])), V.OBJECT_NOT_SEALED),
        (Content(SMALL, 10, manifest=Manifest.of([ref(offset=995)])), V.BLOCK_OUT_OF_BOUNDS),
        (Content(BLOCK, 10, manifest=Manifest.of([ref(BLOCK, 10, BLOCK, 0)])), V.BLOCK_OUT_OF_BOUNDS),
        (Content(SMALL, 10, manifest=Manifest.of([ref(offset=50)])), V.BLOCK_NOT_IN_PACK),
        (Content(SMALL, 9, manifest=Manifest.of([ref(length=9)])), V.BLOCK_NOT_IN_PACK),
        (Content(sha(b"lie"), 10, manifest=Manifest.of([ref(sha(b"lie"))])), V.BLOCK_NOT_IN_PACK),
        (Content(SMALL, MIB, manifest=Manifest.of([ref(SMALL, MIB, BLOCK, 0)])), V.MANIFEST_INVALID),
        # The whole of an object is a block, whatever else it is.
        (Content(PACK, 1000, manifest=Manifest.of([ref(PACK, 1000, PACK, 0)])), V.ACCEPTED),
        (Content(SMALL, 1000, manifest=Manifest.of([ref(SMALL, 1000, PACK, 0)])), V.MANIFEST_INVALID),
        (Content(sha(b"manifest"), 500, manifest=Manifest.of([whole(b"manifest", 500)])), V.ACCEPTED),
        (Content(sha(b"manifest"), 499, manifest=Manifest.of([whole(b"manifest", 499)])), V.BLOCK_OUT_OF_BOUNDS),
        # Several tables of contents over the same bytes.
        (Content(sha(b"5"), 5, manifest=Manifest.of([ref(sha(b"5"), 5, sha(b"packs"), 10)])), V.ACCEPTED),
        (Content(sha(b"7"), 7, manifest=Manifest.of([ref(sha(b"7"), 7, sha(b"packs"), 10)])), V.ACCEPTED),
        (Content(sha(b"9"), 9, manifest=Manifest.of([ref(sha(b"9"), 9, sha(b"packs"), 10)])), V.ACCEPTED),
        (Content(sha(b"5"), 7, manifest=Manifest.of([ref(sha(b"5"), 7, sha(b"packs"), 10)])), V.BLOCK_NOT_IN_PACK),
        (Content(sha(b"6"), 6, manifest=Manifest.of([ref(sha(b"6"), 6, sha(b"packs"), 10)])), V.BLOCK_NOT_IN_PACK),
        (Content(sha(b"x"), 5, manifest=Manifest.of([ref(sha(b"x"), 5, sha(b"packs"), 12)])), V.BLOCK_NOT_IN_PACK),
        (
            Content(sha(b"two"), 2 * MIB + 10, manifest=Manifest.of([*WHOLE.manifest.refs()] * 2 + [ref()])),
            V.QUOTA_EXCEEDED,
        ),
        (Content(sha(b"m"), 5 * MIB, manifest_object=sha(b"manifest")), V.QUOTA_EXCEEDED),
        (Content(sha(b"m"), 4 * MIB, manifest_object=sha(b"manifest")), V.MANIFEST_INVALID),
        (Content(sha(b"m"), MIB, manifest_object=BLOCK), V.MANIFEST_INVALID),
        (Content(sha(b"m"), MIB, manifest_object=sha(b"nowhere")), V.OBJECT_MISSING),
    ],
)
def test_the_verdict_on_each_content(content: Content, verdict: Verdict) -> None:
    tree = Tree()
    tree.objects[sha(b"unsealed")] = Unsealed(stored=True)
    tree.objects[sha(b"manifest")] = Sealed(500, content_size=5 * MIB)
    tree.objects[sha(b"packs")] = Sealed(
        100, (0, 10, 10, 10, 20), (5, 5, 7, 9, 5), sha(b"0") + sha(b"5") + sha(b"7") + sha(b"9") + sha(b"20")
    )
    assert decide(tree, CreateNode(ROOT, "new", FILE, content), AT).verdict is verdict
    assert decide(tree, UpdateContent(two, 2, content), AT).verdict is verdict
