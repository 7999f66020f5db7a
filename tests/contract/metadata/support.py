"""Values to store, and histories of a space to project."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from services.metadata.entry import Commit, JournalEntry, NameKey, Projection, name_changes
from services.metadata.tree.view import version_of
from syncline.model.blocks import BlockRef, Digest, Manifest
from syncline.model.identifiers import ROOT, NodeId, RequestId, new_request_id
from syncline.model.tree import Change, Content, Node, NodeKind, Result, Version
from syncline.model.verdicts import Verdict


def digest(text: str) -> Digest:
    return Digest(hashlib.sha256(text.encode()).digest())


def new_node_id() -> NodeId:
    return NodeId(secrets.token_bytes(16))


def file_node(name: str, *, seq: int, version: int = 1, parent: NodeId = ROOT, blocks: int = 1) -> Node:
    """A file of so many blocks, with every field set."""
    refs = [BlockRef(digest(f"{name} {i}"), 1 + i, digest(f"pack {i % 7}"), 10 * i) for i in range(blocks)]
    manifest = Manifest.of(refs)
    content = Content(digest(f"{name} {version}"), manifest.size, 1_700_000_000_123_456_789, True, manifest)
    return Node(new_node_id(), parent, name, NodeKind.FILE, version, content, seq, 0, "user", "device", 1_000 + seq)


def updated(node: Node, seq: int) -> Node:
    """The node with another version."""
    assert node.content is not None
    content = replace(node.content, digest=digest(f"{node.name} {node.version + 1}"))
    return replace(node, version=node.version + 1, content=content, seq=seq, committed_at_ms=1_000 + seq)


def creation(*nodes: Node) -> Projection:
    """Return the projection of an entry that creates these nodes."""
    seq = nodes[0].seq
    return Projection(
        nodes={node.id: node for node in nodes},
        names={(node.parent, node.name): (node.id, seq) for node in nodes},
        requests={new_request_id(): seq},
    )


# ---- histories

NAMES = ("a", "b", "c")
_MADE = (Change.UPDATED, Change.MOVED, Change.DELETED, Change.RESTORED)
Step = tuple[int, Change, int, str]
"""Node, what happens to it if it is there, and where to."""

steps = st.tuples(st.integers(0, 3), st.sampled_from(_MADE), st.integers(0, 1), st.sampled_from(NAMES))
histories = st.lists(st.lists(steps, min_size=1, max_size=6), min_size=2, max_size=6)


def entries_of(history: Sequence[Sequence[Step]]) -> list[JournalEntry]:
    """The journal in which each inner list is one entry."""
    nodes: dict[int, Node] = {}
    ids = [new_node_id() for _ in range(4)]
    parents = [ROOT, new_node_id()]
    entries = []
    for seq, made in enumerate(history, 1):
        results = [_step(nodes, ids, seq, step, parents[step[2]]) for step in made]
        commit = Commit(new_request_id(), b"", "user", "device", seq, tuple(results))
        entries.append(JournalEntry(seq, b"", (commit,), seq * 10))
    return entries


def _step(nodes: dict[int, Node], ids: Sequence[NodeId], seq: int, step: Step, parent: NodeId) -> Result:
    which, change, _, name = step
    before = nodes.get(which)
    moved_from = None
    if before is None:
        change = Change.CREATED
        after = replace(file_node(name, seq=seq, parent=parent), id=ids[which])
    elif change is Change.MOVED:
        moved_from = (before.parent, before.name)
        after = replace(before, parent=parent, name=name, seq=seq)
    elif change is Change.DELETED and not before.deleted_at_ms:
        after = replace(before, deleted_at_ms=seq, seq=seq)
    elif change is Change.RESTORED and before.deleted_at_ms:
        after = replace(before, deleted_at_ms=0, seq=seq)
    else:
        change, after = Change.UPDATED, updated(before, seq)
    nodes[which] = after
    return Result(Verdict.ACCEPTED, after, change, moved_from)


@dataclass
class Expected:
    """The table's expected contents after all entries of a journal."""

    nodes: dict[NodeId, Node] = field(default_factory=dict)
    names: dict[NameKey, tuple[NodeId | None, int]] = field(default_factory=dict)
    requests: dict[RequestId, int] = field(default_factory=dict)
    trash: dict[NodeId, tuple[bool, int]] = field(default_factory=dict)
    versions: dict[NodeId, list[Version]] = field(default_factory=dict)
    """Superseded ones, newest first."""

    @classmethod
    def after(cls, entries: Sequence[JournalEntry]) -> Expected:
        told = cls()
        for entry in entries:
            for commit in entry.commits:
                told.requests[commit.request] = entry.seq
            for result in entry.accepted():
                node = result.node
                assert node is not None
                told.names |= {key: (holder, entry.seq) for key, holder in name_changes(result)}
                if result.change is Change.UPDATED:
                    told.versions.setdefault(node.id, []).insert(0, version_of(told.nodes[node.id]))
                if result.change in {Change.DELETED, Change.RESTORED}:
                    told.trash[node.id] = (result.change is Change.DELETED, entry.seq)
                told.nodes[node.id] = node
        return told
