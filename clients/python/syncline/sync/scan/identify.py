"""Identification of the node that each file, directory and symlink of a scan is: the node that was there before, a node
that was moved, or a new one.

- A directory is identified by its inode together with something that was in it, else by its path.
- A file is identified by its path, unless its inode is that of another file of the last sync; else by its inode, or by
  its content if only one file had that content.

A renamed directory is therefore one move, whatever is below it, and a file that a program replaces when it saves stays
the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from syncline.model.blocks import Digest
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.tree import NodeKind
from syncline.sync.plan.merge import Base, Remote
from syncline.sync.scan.other_filesystems import Inode, Strange
from syncline.sync.scan.spelling_clashes import closest, double, doubles
from syncline.sync.scan.walk import TOP, Scan, ScannedEntry
from syncline.sync.trees import (
    RECOVERED,
    BaseNode,
    LocalNode,
    Place,
    Problem,
    RemoteNode,
    in_transit,
    is_provisional,
    new_local_id,
)
from syncline.transfer.jobs import Signature

FINE_GRAIN_NS = 50_000_000
COARSE_GRAIN_NS = 2_100_000_000
_SECOND_NS = 1_000_000_000


def is_trusted(signature: Signature, read_at_ns: int) -> bool:
    """Return True if every later change of a file will change its signature. `signature` is that of the file when it
    was read, and `read_at_ns` the time at which reading began, in nanoseconds since 1970.

    A change within the granularity of the filesystem's clock may leave the signature the same: a tick of the kernel, or
    two seconds if the filesystem stores whole seconds only.
    """
    coarse = signature.ctime_ns % _SECOND_NS == 0 and signature.mtime_ns % _SECOND_NS == 0
    grain = COARSE_GRAIN_NS if coarse else FINE_GRAIN_NS
    return min(signature.mtime_ns, signature.ctime_ns) < read_at_ns - grain


@dataclass(frozen=True, slots=True)
class Hashed:
    """The result of reading a file: its digest, its signature (size, times, inode) when it had that content, its
    executable bit, and the time at which reading began, in nanoseconds since 1970.
    """

    digest: Digest
    signature: Signature
    executable: bool
    read_at_ns: int


Hasher = Callable[[Sequence[int]], Mapping[int, Hashed]]
"""Function that reads and hashes files of a scan, given by their numbers in the scan. The result has no item for a file
that cannot be read, or that changes while it is read.
"""


@dataclass(frozen=True, slots=True)
class Identified:
    """The local tree that identification has found, and the nodes that are treated differently.

    - `local` has the nodes in the folder, without those that are left out.
    - `problems` are for the user.
    - `excluded` are nodes in the space that this device does not sync.
    - `holding` are directories with something inside that is left out, so that they cannot be removed.
    - `asleep` are nodes at places where another filesystem is mounted than at the last sync. It is unknown whether they
      still exist, so they stay unchanged on both sides and in the base.
    - `forgotten` are nodes that can be removed from the base.
    """

    local: dict[NodeId, LocalNode]
    problems: list[Problem]
    excluded: frozenset[NodeId] = frozenset()
    holding: frozenset[NodeId] = frozenset()
    asleep: frozenset[NodeId] = frozenset()
    forgotten: frozenset[NodeId] = frozenset()


class Filter(Protocol):
    """The rules for files and directories of a scan that are left out of the tree; each is given by its number in the
    scan.
    """

    def is_excluded(self, number: int) -> bool:
        """Return True if the entry with this number in the scan is excluded, whatever its kind."""

    def excludes_path(self, path: str) -> bool:
        """Return True if exactly this path is excluded."""

    def is_ignored(self, number: int) -> bool:
        """Return True if the entry with this number in the scan is left out, except when its node is in the space."""

    def is_left_out(self, number: int) -> bool:
        """Return True if the entry with this number in the scan is excluded or ignored."""


class Everything:
    """Filter that leaves nothing out."""

    def is_excluded(self, number: int) -> bool:  # noqa: ARG002 - a Filter
        return False

    def excludes_path(self, path: str) -> bool:  # noqa: ARG002 - a Filter
        return False

    def is_ignored(self, number: int) -> bool:  # noqa: ARG002 - a Filter
        return False

    def is_left_out(self, number: int) -> bool:  # noqa: ARG002 - a Filter
        return False


def identify(scan: Scan, base: Base, remote: Remote, hash_files: Hasher, filters: Filter | None = None) -> Identified:
    """Return the local tree (for each file, directory and symlink of `scan`, the node that it is) and the nodes that
    are treated differently. `base` is the last state on which folder and space agreed, and `remote` has the live nodes
    of the space. `hash_files` is called for files whose content decides, and only for those. `filters` are the rules
    for what is left out; None leaves nothing out.
    """
    strange = Strange(scan, base, remote)
    while True:
        known = {node: before for node, before in base.items() if node not in strange.below}
        attempt = _Identification(
            scan, known, remote, hash_files=hash_files, filters=filters or Everything(), strange=strange
        )
        if not attempt.finds_strange():
            return attempt.run()


class _Identification:
    def __init__(
        self, scan: Scan, base: Base, remote: Remote, *, hash_files: Hasher, filters: Filter, strange: Strange
    ) -> None:
        self._strange = strange
        self._scan = scan
        self._filters = filters
        self._base = base
        self._remote = remote
        self._hash_files = hash_files
        self._hashes: dict[int, Hashed] = {}
        self._unhashable: set[int] = set()
        self._nodes: dict[int, NodeId] = {TOP: ROOT}
        self._taken: set[NodeId] = set()
        self._stopped: set[int] = set()  # entries found under a transit name
        self._unseen: dict[NodeId, BaseNode] = {}
        self._problems: list[Problem] = []
        self._base_at: dict[Place, BaseNode] = {}
        self._base_by_inode: dict[Inode, list[BaseNode]] = {}
        self._mount_of_base = strange.mounts_of_base(base)
        for node in base.values():
            self._base_at[node.place] = node
            self._base_by_inode.setdefault(self._inode_of(node), []).append(node)
        self._remote_at = {node.place: node for node in remote.values() if node.id not in base}
        self._files: list[int] = []
        self._doubles = doubles(scan)
        self._dropped: set[int] = set()

    def finds_strange(self) -> bool:
        """Identify the directories of the scan. Return True if another filesystem is mounted at one of them than at the
        last sync, so that the identification has to begin again without the nodes in it.
        """
        directories = [n for n, entry in enumerate(self._scan.entries) if entry.kind is NodeKind.DIRECTORY]
        known = len(self._strange.below)
        self._identify_directories(directories)
        self._find_unseen(directories)
        for node in self._base.values():
            accounted = node.id in self._taken or node.id in self._unseen or node.id in self._strange.below
            if node.filesystem and not accounted:
                self._strange.add_missing(node)
        return len(self._strange.below) > known

    def run(self) -> Identified:
        self._identify_files()
        self._settle_contents()
        left_out, holding = self._leave_out()
        entries = enumerate(self._scan.entries)
        local = {
            self._nodes[n]: self._local(n, entry) for n, entry in entries if n in self._nodes and n not in left_out
        }
        excluded = {self._nodes[n] for n in left_out if n in self._nodes}
        for node in self._unseen.values():
            if node.id in local:
                continue
            if node.parent in excluded or self._is_excluded_unseen(node, local):
                excluded.add(node.id)
            else:
                local[node.id] = _as_it_was(node)
        asleep = self._strange.asleep(local)
        for n in self._strange.closed:
            while (n := self._scan.entries[n].parent) != TOP:
                holding.add(n)
        return Identified(
            {node: here for node, here in local.items() if node not in asleep} if asleep else local,
            [*self._problems, *self._strange.problems()],
            frozenset(excluded & self._base.keys()),
            frozenset(self._nodes[n] for n in holding if n in self._nodes),
            asleep,
            frozenset(self._strange.forgotten),
        )

    # ---- what stays out ----

    def _leave_out(self) -> tuple[set[int], set[int]]:
        """Return the entries that are left out of the tree, and the directories that have such entries below them.

        An ignored entry is left out if it is new and nothing below it is in the space. A new directory that contains
        nothing but ignored entries is left out, too. An ignored entry never replaces a node that the space has at the
        same place.
        """
        filters, entries = self._filters, self._scan.entries
        places: set[Place] | None = None
        left_out: set[int] = set()
        holding: set[int] = set()
        kept: set[int] = set()  # directories that contain something that is kept
        for n in reversed(range(len(entries))):
            if n not in self._nodes:
                continue
            parent = entries[n].parent
            if filters.is_excluded(n):
                left_out.add(n)
                holding.add(parent)
                continue
            if (
                n not in kept
                and is_provisional(self._nodes[n])
                and (n in holding or filters.is_ignored(n))
                and (self._nodes[parent], entries[n].name)
                not in (places := places or {node.place for node in self._remote.values()})
            ):
                left_out.add(n)
                holding.add(parent)
                continue
            kept.add(parent)
            if n in holding:
                holding.add(parent)
        return left_out, holding - left_out - {TOP}

    def _is_excluded_unseen(self, node: BaseNode, local: Mapping[NodeId, LocalNode]) -> bool:
        names = [node.local_name]
        above = node.parent
        while (directory := local.get(above)) is not None:
            names.append(directory.local_name)
            above = directory.parent
        return self._filters.excludes_path("/".join(reversed(names)))

    # ---- directories ----

    def _identify_directories(self, directories: list[int]) -> None:
        entries = self._scan.entries
        inodes = {self._inode(n) for n in directories}
        inside: dict[int, list[int]] = {}
        if any(node.kind is NodeKind.DIRECTORY for node in self._base.values()):
            for n, entry in enumerate(entries):
                inside.setdefault(entry.parent, []).append(n)
        was_inside: dict[NodeId, list[BaseNode]] = {}
        for known in self._base.values():
            was_inside.setdefault(known.parent, []).append(known)

        def has_something_of(n: int, node: BaseNode) -> bool:
            before = was_inside.get(node.id, [])
            if not before or entries[n].hidden:
                return True
            inodes = {self._inode_of(child) for child in before}
            names = {child.name for child in before}
            return any(self._inode(child) in inodes or entries[child].name in names for child in inside.get(n, ()))

        for n in directories:
            entry = entries[n]
            if entry.parent not in self._nodes or n in self._strange.closed or self._is_dropped(n):
                continue
            place = (self._nodes[entry.parent], entry.name)
            at_path = self._base_at.get(place)
            if at_path is not None and not self._filters.is_excluded(n) and self._strange.add(n, at_path):
                continue
            node = self._in_transit(n) or self._directory_here(n, place, inodes, has_something_of)
            if node is None and (there := self._remote_at.get(place)) is not None:
                node = there.id if there.kind is NodeKind.DIRECTORY and there.id not in self._taken else None
            self._assign(n, node or new_local_id(n))

    def _directory_here(
        self, n: int, place: Place, inodes: set[Inode], has_something_of: Callable[[int, BaseNode], bool]
    ) -> NodeId | None:
        inode = self._inode(n)
        at_path = self._base_at.get(place)
        if at_path is not None and (at_path.kind is not NodeKind.DIRECTORY or at_path.id in self._taken):
            at_path = None
        if at_path is not None and self._inode_of(at_path) == inode:
            return at_path.id
        for node in self._base_by_inode.get(inode, ()):
            if node.kind is NodeKind.DIRECTORY and node.id not in self._taken and has_something_of(n, node):
                return node.id
        if at_path is not None and self._inode_of(at_path) not in inodes:
            return at_path.id
        return None

    def _inode(self, n: int) -> Inode:
        return self._strange.mount(n), self._scan.entries[n].signature.inode

    def _inode_of(self, node: BaseNode) -> Inode:
        return self._mount_of_base[node.id], node.signature.inode

    # ---- files ----

    def _is_dropped(self, n: int) -> bool:
        """Return True if entry number `n` of the scan is not synced because another entry of its directory, whose name
        is the same in NFC, is kept. The kept entry is the one that the base has, or else one of them.
        """
        entries = self._scan.entries
        group = self._doubles.pop((entries[n].parent, entries[n].name), None)
        if group is not None:
            before = self._base_at.get((self._nodes[entries[n].parent], entries[n].name))
            inode = self._inode_of(before) if before is not None else None
            kept, *dropped = closest(group, self._scan, before, [m for m in group if self._inode(m) == inode])
            self._dropped.update(dropped)
            self._problems += [double(self._scan, m, kept) for m in dropped]
        return n in self._dropped

    def _find_unseen(self, directories: Iterable[int]) -> None:
        """Put the nodes of the base that cannot be seen now into the local tree, unchanged, unless they are found
        elsewhere. These are the nodes in unreadable directories among `directories` (numbers in the scan), and those of
        entries that could not be examined.
        """
        inside: dict[NodeId, list[BaseNode]] | None = None
        pending: list[NodeId] = []
        for n in directories:
            entry = self._scan.entries[n]
            before = self._base.get(self._nodes.get(n, ROOT))
            if before is None or not entry.hidden:
                continue
            pending.append(before.id)
        names = {(self._nodes[parent], name) for parent, name in self._scan.hidden if parent in self._nodes}
        for node in self._base.values() if names else ():
            if (node.parent, node.local_name) in names and node.id not in self._taken:
                self._unseen[node.id] = node
                pending.append(node.id)
        while pending:
            if inside is None:
                inside = {}
                for node in self._base.values():
                    inside.setdefault(node.parent, []).append(node)
            for node in inside.get(pending.pop(), ()):
                if node.id not in self._taken:
                    self._unseen[node.id] = node
                    pending.append(node.id)

    def _identify_files(self) -> None:
        self._files = files = [
            n
            for n, entry in enumerate(self._scan.entries)
            if entry.kind is not NodeKind.DIRECTORY and entry.parent in self._nodes and not self._is_dropped(n)
        ]
        open_: list[int] = []
        for n in files:  # first pass: the same file at the same path
            here = self._in_transit(n) or self._same_path(n, same_inode=True)
            self._assign(n, here) if here else open_.append(n)
        files, open_ = open_, []
        for n in files:  # second pass: another file at the same path that was not moved there
            here = None if self._from_elsewhere(n) else self._same_path(n, same_inode=False)
            self._assign(n, here) if here else open_.append(n)
        files, open_ = open_, []
        touched = [n for n in files if self._from_elsewhere(n) is None and self._maybe_from_elsewhere(n)]
        self._hash(touched)
        for n in files:  # third pass: a moved file
            here = self._from_elsewhere(n) or self._same_content(n, self._maybe_from_elsewhere(n))
            self._assign(n, here) if here else open_.append(n)
        files, open_ = open_, []
        for n in files:
            here = self._same_path(n, same_inode=False)
            self._assign(n, here) if here else open_.append(n)
        files, open_ = open_, []
        self._hash([n for n in files if self._maybe_in_space(n)])
        for n in files:  # fourth pass: files that the space already has at the same place
            there = self._maybe_in_space(n)
            here = self._same_content(n, [there] if there else [])
            self._assign(n, here) if here else open_.append(n)
        self._identify_by_content(open_)
        for n in open_:
            if n not in self._nodes:
                self._assign(n, new_local_id(n))

    def _same_path(self, n: int, *, same_inode: bool) -> NodeId | None:
        entry = self._scan.entries[n]
        node = self._base_at.get((self._nodes[entry.parent], entry.name))
        if node is None or node.kind is not entry.kind or node.id in self._taken:
            return None
        return node.id if not same_inode or self._inode_of(node) == self._inode(n) else None

    def _maybe_from_elsewhere(self, n: int) -> list[BaseNode]:
        """Return the nodes of the base whose file has the inode and the size of file number `n` of the scan: candidates
        for a file that was moved here.
        """
        entry = self._scan.entries[n]
        return [
            node
            for node in self._base_by_inode.get(self._inode(n), ())
            if node.kind is entry.kind and node.id not in self._taken and node.signature.size == entry.signature.size
        ]

    def _from_elsewhere(self, n: int) -> NodeId | None:
        """Return the node of the base whose file has the inode, the size and the modification time of file number `n`
        of the scan, so that the file was moved here; None if there is none.
        """
        mtime_ns = self._scan.entries[n].signature.mtime_ns
        return next((b.id for b in self._maybe_from_elsewhere(n) if b.signature.mtime_ns == mtime_ns), None)

    def _maybe_in_space(self, n: int) -> RemoteNode | None:
        """Return the node of the space that has the place and the size of file number `n` of the scan and was never in
        this folder; None if there is none.
        """
        entry = self._scan.entries[n]
        node = self._remote_at.get((self._nodes[entry.parent], entry.name))
        if node is None or node.kind is not entry.kind or node.id in self._taken:
            return None
        return node if node.size == _size(entry) else None

    def _same_content(self, n: int, nodes: Iterable[BaseNode | RemoteNode]) -> NodeId | None:
        digest = self._digest(n)
        return next((node.id for node in nodes if digest is not None and node.digest == digest), None)

    def _identify_by_content(self, files: list[int]) -> None:
        """Pair a vanished file with a new file if they are the only ones with their content: the file was moved."""
        entries = self._scan.entries
        gone = [
            node
            for node in self._base.values()
            if node.kind is NodeKind.FILE
            and node.id not in self._taken
            and node.id not in self._unseen
            and node.signature.size > 0
        ]
        if not gone:
            return
        sizes = {node.signature.size for node in gone}
        candidates = [
            n
            for n in files
            if entries[n].kind is NodeKind.FILE
            and entries[n].signature.size in sizes
            and not self._filters.is_left_out(n)  # an entry that was left out may have been there before
        ]
        self._hash([n for n in candidates if n not in self._nodes])
        came: dict[Digest, list[int]] = {}
        for n in candidates:
            if n not in self._nodes and (digest := self._digest(n)) is not None:
                came.setdefault(digest, []).append(n)
        went: dict[Digest | None, list[BaseNode]] = {}
        for node in gone:
            went.setdefault(node.digest, []).append(node)
        for digest, numbers in came.items():
            nodes = went.get(digest, [])
            if len(numbers) == len(nodes) == 1:
                self._assign(numbers[0], nodes[0].id)

    # ---- contents ----

    def _settle_contents(self) -> None:
        """Read the files whose signature does not decide whether they are unchanged, or equal to the space's
        content.
        """
        unsure = []
        for n in self._files:
            node, entry = self._nodes[n], self._scan.entries[n]
            if entry.kind is not NodeKind.FILE or n in self._hashes:
                continue
            before, there = self._base.get(node), self._remote.get(node) or self._successor(n)
            if before is not None and self._is_unchanged(entry, before):
                continue
            if (before is not None and before.signature.size == entry.signature.size) or (
                there is not None and there.size == entry.signature.size
            ):
                unsure.append(n)
        self._hash(unsure)
        for n in self._files:
            node, there = self._nodes[n], self._successor(n)
            if there is None:
                continue
            known = self._base[node].digest if self._is_unchanged(self._scan.entries[n], self._base[node]) else None
            if (known or self._digest(n)) == there.digest:
                self._taken.discard(node)
                self._assign(n, there.id)
                self._hash([n])

    def _successor(self, n: int) -> RemoteNode | None:
        """Return the node of the space that has the parent and name of a node that was deleted there, for file number
        `n` of the scan; None if there is none.
        """
        node, entry = self._nodes[n], self._scan.entries[n]
        if node not in self._base or node in self._remote:
            return None
        there = self._remote_at.get((self._nodes[entry.parent], entry.name))
        return there if there is not None and there.kind is entry.kind and there.id not in self._taken else None

    @staticmethod
    def _is_unchanged(entry: ScannedEntry, before: BaseNode) -> bool:
        """Return True if the file `entry` of the scan is certainly the same as `before`, its node in the base.

        A move changes the ctime of a file, so a moved file is read again: another content may have the same size and
        time, for example after `cp -p` or `touch -r`.
        """
        return before.trusted and entry.signature == before.signature

    def _hash(self, numbers: Sequence[int]) -> None:
        wanted = [
            n
            for n in dict.fromkeys(numbers)
            if n not in self._hashes and n not in self._unhashable and self._scan.entries[n].kind is NodeKind.FILE
        ]
        if wanted:
            self._hashes.update(self._hash_files(wanted))
            self._unhashable.update(n for n in wanted if n not in self._hashes)

    def _digest(self, n: int) -> Digest | None:
        entry = self._scan.entries[n]
        if entry.kind is NodeKind.SYMLINK:
            return target_digest(entry.target)
        hashed = self._hashes.get(n)
        return hashed.digest if hashed else None

    # ---- the local tree ----

    def _assign(self, n: int, node: NodeId) -> None:
        self._nodes[n] = node
        self._taken.add(node)

    def _in_transit(self, n: int) -> NodeId | None:
        """If number `n` of the scan has the temporary name (`trees.transit_name`) that an interrupted move has given to
        a node, return that node. Otherwise return None.
        """
        entry = self._scan.entries[n]
        node = in_transit(entry.local_name)
        known = None if node is None else self._base.get(node) or self._remote.get(node)
        if known is None or known.kind is not entry.kind or known.id in self._taken:
            return None
        self._stopped.add(n)
        return known.id

    def _local(self, n: int, entry: ScannedEntry) -> LocalNode:
        node = self._nodes[n]
        before = self._base.get(node)
        signature, executable, trusted = entry.signature, entry.executable, True
        digest: Digest | None = None
        if entry.kind is NodeKind.SYMLINK:
            digest = target_digest(entry.target)
        elif entry.kind is NodeKind.FILE:
            if hashed := self._hashes.get(n):
                digest, signature, executable = hashed.digest, hashed.signature, hashed.executable
                trusted = is_trusted(signature, hashed.read_at_ns)
            elif before is not None and self._is_unchanged(entry, before):
                digest = before.digest
        home = None
        if n in self._stopped:
            known = before or self._remote[node]
            home = known.place
        elif in_transit(entry.local_name) is not None:
            # The entry was moved aside before the space had it, and its former name is unknown.
            home = (self._nodes[entry.parent], RECOVERED)
        return LocalNode(
            id=node,
            parent=self._nodes[entry.parent],
            name=entry.name,
            kind=entry.kind,
            digest=digest,
            executable=executable,
            signature=signature,
            local_name=entry.local_name,
            trusted=trusted,
            filesystem=before.filesystem if entry.hidden and before is not None else entry.filesystem,
            home=home,
        )


def target_digest(target: str) -> Digest:
    """Return the digest that names the content of a symlink: the SHA-256 of its target in UTF-8."""
    return Digest(hashlib.sha256(target.encode()).digest())


def _size(entry: ScannedEntry) -> int:
    return len(entry.target.encode()) if entry.kind is NodeKind.SYMLINK else entry.signature.size


def _as_it_was(node: BaseNode) -> LocalNode:
    return LocalNode(
        id=node.id,
        parent=node.parent,
        name=node.name,
        kind=node.kind,
        digest=node.digest,
        executable=node.executable,
        signature=node.signature,
        local_name=node.local_name,
        trusted=node.trusted,
        filesystem=node.filesystem,
        seen=False,
    )
