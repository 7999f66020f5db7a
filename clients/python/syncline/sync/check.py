"""Comparison of local checksums with the space, without changing anything."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from syncline.model.blocks import Digest
from syncline.model.identifiers import NodeId
from syncline.model.names import normalize
from syncline.model.tree import NodeKind
from syncline.sync.folder.files import Files
from syncline.sync.folder.link import Folder
from syncline.sync.ports import Checking
from syncline.sync.scan.digests import hash_files
from syncline.sync.scan.filters import Filters
from syncline.sync.scan.nested import nested
from syncline.sync.scan.other_filesystems import Strange
from syncline.sync.scan.spelling_clashes import closest, double, doubles
from syncline.sync.scan.walk import Scan, ScannedEntry, scan
from syncline.sync.trees import BaseNode, Place, Problem, path_of


@dataclass(slots=True)
class CheckResult:
    """The result of `check`: the number of current files (those equal to the current version in the space), and the
    paths of all other files by the kind of their difference.

    `stale`: the space has a newer version and the file was not changed here; `modified`: the file was changed here;
    `unknown`: the space has no such file; `deleted`: the file was deleted in the space.
    """

    current: int = 0
    stale: list[str] = field(default_factory=list)
    modified: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """The entries that could not be compared, each with the reason."""

    def document(self) -> dict[str, Any]:
        """Return the counts and paths in the form of the document that the command line prints with --json."""
        return {
            "current": self.current,
            **{name: sorted(getattr(self, name)) for name in ("stale", "modified", "unknown", "deleted")},
        }


@dataclass(frozen=True, slots=True)
class _Local:
    """One file in the folder: its digest, the node that the last sync has recorded at its path, and whether an ignore
    rule matches the file.
    """

    path: str
    digest: Digest
    base: BaseNode | None
    ignored: bool = False


def check(
    folder: Folder,
    files: Files,
    base: dict[NodeId, BaseNode],
    space: Checking,
    *,
    excluded: frozenset[str] = frozenset(),
    verify: bool = False,
) -> CheckResult:
    """Compare the files of a folder with their current versions in the space, and change nothing. Return the number of
    current files, the paths of all others by the kind of their difference, and the entries that could not be compared.

    - `files` reads the files of `folder`, and `space` is asked for the comparison.
    - `base` is the last state on which folder and space agreed, by node id.
    - `excluded` are paths from the folder's root; files at or below one of them are not compared.
    - A file whose signature (size, times and inode) is the one that the base records is not read, unless `verify` is
      set: its digest is taken from the base.
    - A file that is ignored and unknown to the space counts as no difference.
    - Entries that a sync would leave out are not compared. They are in `problems`, with the reasons that a sync
      reports.
    """
    scanned = scan(files)
    within = nested(folder, files, scanned, excluded)
    filters = Filters(scanned, files, excluded | {normalize(scanned.path(number)) for number in within})
    if verify:
        base = {id_: dataclasses.replace(node, trusted=False) for id_, node in base.items()}
    result = CheckResult(problems=list(scanned.problems))
    places = {node.id: (node.parent, node.local_name) for node in base.values()}
    base_by_path = {path_of(node.id, places): node for node in base.values() if node.kind is not NodeKind.DIRECTORY}
    strange = _strange(scanned, base, places)
    result.problems += strange.problems()
    result.problems += [problem for number, problem in within.items() if not filters.is_ignored(number)]
    left_out = strange.closed | _spelled_otherwise(scanned, base, places, result)
    asked: dict[NodeId | str, _Local] = {}

    def questions() -> Iterator[tuple[NodeId | str, Digest]]:
        for local in _locals(files, scanned, filters, base_by_path, result, left_out):
            key = local.base.id if local.base is not None else normalize(local.path)
            asked[key] = local
            yield key, local.digest

    for answer in space.check_versions(questions()):
        result.current += answer.count - len(answer.differing)
        for one in answer.differing:
            _sort(result, asked[one.asked], str(getattr(one.difference, "name", one.difference)))
    result.problems += filters.problems
    return result


def _sort(result: CheckResult, local: _Local, difference: str) -> None:
    match difference:
        case "DELETED":
            result.deleted.append(local.path)
        case "UNKNOWN":
            if not local.ignored:
                result.unknown.append(local.path)
        case _ if local.base is not None and local.digest == local.base.digest:
            result.stale.append(local.path)
        case _:
            result.modified.append(local.path)


def _strange(scanned: Scan, base: Mapping[NodeId, BaseNode], places: Mapping[NodeId, Place]) -> Strange:
    """Return the directories at which another filesystem is mounted than at the last sync. Nothing in these directories
    is compared. `places` has the place of each node of `base`, with the local spelling of its name.
    """
    # A check does not load the tree of the space. It assumes that nothing was deleted there, so that everything below
    # strange places is left out.
    strange = Strange(scanned, base, base)
    directories = {path_of(node.id, places): node for node in base.values() if node.kind is NodeKind.DIRECTORY}
    for number, entry in enumerate(scanned.entries):
        if entry.kind is NodeKind.DIRECTORY and (before := directories.get(scanned.path(number))) is not None:
            strange.add(number, before)
    return strange


def _spelled_otherwise(
    scanned: Scan, base: Mapping[NodeId, BaseNode], places: Mapping[NodeId, Place], result: CheckResult
) -> set[int]:
    """Return the numbers, in the scan, of the entries whose name differs only in Unicode spelling from that of another
    entry, which is compared instead. Add a problem for each of them to `result`. `places` has the place of each node
    of `base`, with the local spelling of its name.
    """
    if not (groups := doubles(scanned)):
        return set()
    known = {(path_of(node.parent, places), node.name): node for node in base.values()}
    dropped: set[int] = set()
    for (parent, name), group in groups.items():
        before = known.get((scanned.path(parent), name))
        inode = before.signature.inode if before is not None else None
        same_inode = [n for n in group if scanned.entries[n].signature.inode == inode]
        kept, *others = closest(group, scanned, before, same_inode)
        dropped.update(others)
        result.problems += [double(scanned, other, kept) for other in others]
    return dropped


def _locals(  # noqa: PLR0917 - what a check is made of
    files: Files,
    scanned: Scan,
    filters: Filters,
    base_by_path: dict[str, BaseNode],
    result: CheckResult,
    left_out: set[int],
) -> Iterator[_Local]:
    """Yield each file and symlink with its digest: from the base if the signature is unchanged, otherwise by reading
    the file. `base_by_path` has the files and symlinks of the base, and `left_out` the numbers of entries that are not
    compared. A file that cannot be read is added to `result` as a problem.
    """
    unread: dict[str, bool] = {}
    within = set(left_out)
    for number, entry in enumerate(scanned.entries):
        if entry.parent in within or number in within:
            within.add(number)
            continue
        if entry.kind is NodeKind.DIRECTORY or filters.is_excluded(number):
            continue
        path = scanned.path(number)
        known = base_by_path.get(path)
        ignored = known is None and filters.is_ignored(number)
        if entry.kind is NodeKind.SYMLINK:
            yield _Local(path, _target_digest(entry), known, ignored)
        elif known is not None and known.trusted and known.signature == entry.signature and known.digest is not None:
            yield _Local(path, known.digest, known)
        else:
            unread[path] = ignored
    hashed = hash_files(files, list(unread))
    for path, ignored in unread.items():
        if path in hashed:
            yield _Local(path, hashed[path].digest, base_by_path.get(path), ignored)
        else:
            result.problems.append(Problem(path, "it cannot be read, or changed while it was read; check again"))


def _target_digest(entry: ScannedEntry) -> Digest:
    return Digest(hashlib.sha256(entry.target.encode()).digest())
