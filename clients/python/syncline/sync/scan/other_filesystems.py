"""Directories at which another filesystem is mounted now than when the folder was synced.

Files below a mount are hidden, not deleted; so are the files of a filesystem that is not mounted now. Such a directory
must not be synced, unless nothing was visible in it before, or files show that it is the same filesystem under another
name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from syncline.model.identifiers import ROOT, NodeId
from syncline.model.tree import NodeKind
from syncline.sync.folder.mounts import UNKNOWN, may_be_same
from syncline.sync.plan.merge import Base
from syncline.sync.scan.walk import TOP, Scan
from syncline.sync.trees import BaseNode, LocalNode, Problem, RemoteNode, path_of, printable
from syncline.transfer.jobs import Signature

Inode = tuple[str, int]
"""An inode number, and the name of its filesystem: "" for that of the folder itself."""

_COVERED = (
    "another filesystem is mounted here than the one that was synced, so neither is synced, and nothing is deleted; "
    "unmount it, or, to sync what is here now, `--exclude` this path and then `--include` it"
)
_ABSENT = (
    "the filesystem that was mounted here is not mounted now, so what was on it is left as it is in the space; "
    "mount it, or `--exclude` this path"
)


class Strange:
    """Finds the strange directories of one scan: those at which another filesystem is mounted than at the last sync.
    Directories are identified from the top down, and each is reported to this object (`add`) when it is identified.
    """

    def __init__(self, scan: Scan, base: Base, remote: Mapping[NodeId, BaseNode | RemoteNode]) -> None:
        self.below: set[NodeId] = set()
        """The nodes of the base at and below strange directories. What is in the folder there now is none of them."""
        self.closed: set[int] = set()
        """The numbers, in the scan, of the strange directories; everything in them is left unsynced."""
        self.forgotten: set[NodeId] = set()
        self._tops: set[NodeId] = set()
        self._scan = scan
        self._base = base
        self._remote = remote
        self._problems: list[Problem] = []
        self._mounts = _mounts_of_entries(scan)
        self._inside: dict[NodeId, list[BaseNode]] | None = None

    def mount(self, n: int) -> str:
        """Return the name of the filesystem that contains number `n` of the scan; "" if it is that of the folder."""
        return self._mounts[n] if self._mounts else ""

    def mounts_of_base(self, base: Base) -> Mapping[NodeId, str]:
        """Return the name of the filesystem of each node of the base, by node id."""
        if not any(node.filesystem for node in base.values()):
            return dict.fromkeys(base, "")
        mounts: dict[NodeId, str] = {ROOT: ""}
        for node in base.values():
            chain = []
            at: BaseNode | None = node
            while at is not None and at.id not in mounts:
                chain.append(at)
                if at.filesystem:
                    break
                at = base.get(at.parent)
            name = chain[-1].filesystem or (mounts[at.id] if at is not None else "") if chain else ""
            mounts.update((one.id, name) for one in chain)
        return mounts

    # ---- what is strange ----

    def add(self, n: int, before: BaseNode) -> bool:
        """Return True if the directory with number `n` of the scan must not be synced, because another filesystem is
        mounted at it than at `before`, the node of the base at its path. The directory is then recorded as strange,
        with a problem for the user if a filesystem is mounted there now or the space still has the node. Return False
        if the same filesystem is mounted there, or if the nodes below `before` need no protection: for example, there
        are none, or files show that the filesystem is the same under another name.
        """
        entry = self._scan.entries[n]
        if before.filesystem == entry.filesystem or entry.hidden:
            return False
        if before.kind is not NodeKind.DIRECTORY or (entry.filesystem and before.filesystem == UNKNOWN):
            return False
        if entry.filesystem and (not self._children(before.id) or self._shows_same(n, before)):
            return False
        if before.filesystem and before.id not in self._remote and (entry.filesystem or self._has_entries(n)):
            # Everything below was deleted in the space, so nothing needs protection, and the place may be used for
            # something else.
            below = self._subtree(before)
            self.forgotten |= below
            self.below |= below
            return False
        self.closed.add(n)
        self._tops.add(before.id)
        self.below |= self._subtree(before)
        if entry.filesystem or before.id in self._remote:
            reason = _COVERED if entry.filesystem else _ABSENT
            self._problems.append(Problem(printable(self._scan.path(n)), reason))
        return True

    def add_missing(self, before: BaseNode) -> None:
        """Record that the directory `before` of the base, at which a filesystem was mounted, is missing in the folder:
        systems remove such a directory when a disk is ejected. Its nodes stay as they are in the space.
        """
        self._tops.add(before.id)
        self.below |= self._subtree(before)
        if before.id in self._remote:
            places = {node.id: (node.parent, node.local_name) for node in self._base.values()}
            self._problems.append(Problem(printable(path_of(before.id, places)), _ABSENT))

    def problems(self) -> list[Problem]:
        """Return a problem, for the user, for each directory that is not synced because another filesystem is mounted
        at it than at the last sync, or because its filesystem is not mounted now.
        """
        return self._problems

    def asleep(self, local: Mapping[NodeId, LocalNode]) -> frozenset[NodeId]:
        """Return the nodes of base, folder and space of which it is unknown whether they still exist: the strange
        directories, and all nodes below them in any of the three trees. `local` is the local tree.
        """
        asleep = self.below - self.forgotten
        pending = list(asleep)
        inside: dict[NodeId, list[NodeId]] = {}
        trees: tuple[Mapping[NodeId, BaseNode | RemoteNode | LocalNode], ...] = (self._base, self._remote, local)
        for tree in trees if pending else ():
            for one in tree.values():
                inside.setdefault(one.parent, []).append(one.id)
        while pending:
            for node in inside.get(pending.pop(), ()):
                if node not in asleep:
                    asleep.add(node)
                    pending.append(node)
        return frozenset(asleep)

    # ---- what is there, and was there ----

    def _children(self, node: NodeId) -> list[BaseNode]:
        if self._inside is None:
            self._inside = {}
            for one in self._base.values():
                self._inside.setdefault(one.parent, []).append(one)
        return self._inside.get(node, [])

    def _subtree(self, top: BaseNode) -> set[NodeId]:
        found = {top.id}
        pending = [top.id]
        while pending:
            for node in self._children(pending.pop()):
                found.add(node.id)
                pending.append(node.id)
        return found

    def _has_entries(self, n: int) -> bool:
        return any(entry.parent == n for entry in self._scan.entries)

    def _shows_same(self, n: int, before: BaseNode) -> bool:
        """Return True if files show that a filesystem with another name is the one that was synced."""
        if not before.filesystem or not may_be_same(before.filesystem, self._scan.entries[n].filesystem):
            return False
        return shows_files(self._scan, n, (self._base[node] for node in self._subtree(before)))


def shows_files(scan: Scan, top: int, known: Iterable[BaseNode]) -> bool:
    """Return True if any file below the directory with number `top` of the scan has exactly the signature of a file
    among the nodes `known`, or if there is no file among them.
    """
    signatures: set[Signature] = {node.signature for node in known if node.kind is NodeKind.FILE}
    within = {top}
    for n, entry in enumerate(scan.entries):  # parents before children
        if entry.parent in within:
            within.add(n)
            if entry.kind is NodeKind.FILE and entry.signature in signatures:
                return True
    return not signatures


def _mounts_of_entries(scan: Scan) -> list[str]:
    """Return the name of the filesystem of each entry, by its number; an empty list if all are on the folder's."""
    if not any(entry.filesystem for entry in scan.entries):
        return []
    mounts: list[str] = []
    for entry in scan.entries:
        above = mounts[entry.parent] if entry.parent != TOP else ""
        mounts.append(entry.filesystem or above)
    return mounts
