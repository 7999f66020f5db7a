"""Merge of a node into the file or directory that it replaces: each replaced file gets a new version with the content
of the file at the same path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.dav import properties
from gateway.dav.refusals import DavRefused
from gateway.dav.session import DavSession, DavSpace, accepted_or_raise
from syncline.model.identifiers import NodeId
from syncline.model.tree import MAX_MUTATIONS, DeleteNode, MoveNode, Mutation, Node, NodeKind, UpdateContent
from syncline.wire.tree import mutation_to_wire

_MAX_NODES: Final = 1000
"""Maximum number of nodes in both directories together."""
_MAX_COMMIT_BYTES: Final = 200_000
"""Maximum size of the mutations of one commit, in bytes."""


@dataclass(slots=True)
class Merge:
    """The mutations of a merge. A replaced file gets the content of the file that replaces it, and the replacing file
    is deleted.
    """

    updates: list[UpdateContent] = field(default_factory=list)
    """The mutations to commit first: they give the replaced files their new contents. The replacing files are deleted
    only afterwards.
    """
    others: list[Mutation] = field(default_factory=list)
    pairs: list[tuple[NodeId, NodeId]] = field(default_factory=list)
    """Pairs of a replacing file and the file that it replaces."""

    def replace(self, source: Node, target: Node) -> None:
        """Add the mutations that make the content of `source` the newest version of `target`, and delete `source`."""
        assert source.content is not None
        assert target.content is not None
        content = replace(source.content, executable=target.content.executable)
        self.updates.append(UpdateContent(target.id, target.version, content))
        self.others.append(DeleteNode(source.id, source.version, discard=True, kept_in=target.id))
        self.pairs.append((source.id, target.id))


def merging(session: DavSession, space: DavSpace, *, source: Node, target: Node) -> Merge | None:
    """Return the mutations that merge `source` into `target`, which is of the same kind. Return None in these cases:

    - the two directories have no file at the same path;
    - they have too many nodes for a merge, which makes two commits;
    - the new versions exceed the quota of the space. A plain move would not count towards it.
    """
    found = Merge()
    if source.kind is NodeKind.FILE:
        found.replace(source, target)
        return found
    pairs, looked = [(source, target)], 0
    for source_dir, target_dir in pairs:
        source_children = few_children(session, space, source_dir, most=_MAX_NODES)
        target_children = few_children(session, space, target_dir, most=_MAX_NODES)
        if source_children is None or target_children is None:
            return None
        looked += len(source_children) + len(target_children)
        if looked > _MAX_NODES:
            return None
        unmatched = {one.name: one for one in target_children}
        for source_child in source_children:
            replaced = unmatched.pop(source_child.name, None)
            if replaced is not None and replaced.kind is source_child.kind is NodeKind.FILE:
                found.replace(source_child, replaced)
            elif replaced is not None and replaced.kind is source_child.kind is NodeKind.DIRECTORY:
                pairs.append((source_child, replaced))
            else:
                if replaced is not None:
                    found.others.append(DeleteNode(replaced.id, replaced.version))
                name = source_child.name
                found.others.append(MoveNode(source_child.id, source_dir.id, name, target_dir.id, name))
        found.others += [DeleteNode(one.id, one.version) for one in unmatched.values()]
    found.others += [DeleteNode(source_dir.id, source_dir.version, discard=True) for source_dir, _ in reversed(pairs)]
    return found if found.pairs and _fits(session, space, found) else None


def commit_merge(session: DavSession, space: DavSpace, merge: Merge, *more: Mutation) -> bool:
    """Commit the merge in two commits, the second one with the mutations `more` at its end, and return True.

    The first commit gives the replaced files their new contents. If it refuses one of them, return False without the
    second commit; the other files keep their new contents. Raise DavRefused if a commit as a whole, or a mutation of
    the second commit, is refused. Nothing is lost then: each replaced node is in the trash, or unchanged.
    """
    if any(isinstance(result, DavRefused) for result in session.commit(space, merge.updates)):
        return False
    properties.copy(session, space, merge.pairs)
    for result in session.commit(space, [*merge.others, *more]):
        accepted_or_raise(result)
    return True


def few_children(session: DavSession, space: DavSpace, directory: Node, *, most: int) -> Sequence[Node] | None:
    """Return the nodes in a directory; None if there are more than `most`."""
    found = list[Node]()
    for page in session.pages(space, directory.id):
        found += page
        if len(found) > most:
            return None
    return found


def _fits(session: DavSession, space: DavSpace, merge: Merge) -> bool:
    for mutations in (merge.updates, merge.others):
        if len(mutations) >= MAX_MUTATIONS:
            return False
        if sum(mutation_to_wire(mutation).ByteSize() for mutation in mutations) > _MAX_COMMIT_BYTES:
            return False
    usage = session.usage(space)
    return usage.used + sum(update.content.size for update in merge.updates) <= usage.quota
