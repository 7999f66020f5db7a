"""The filters of a sync: ignored files that the space does not have, and the exclusions of this device.

Ignore rules follow git: `.synclineignore` files may be in any directory, patterns of a deeper one precede those above,
the last matching pattern decides, and nothing below an ignored directory is considered. Ignore rules prevent uploads;
files that the space has are still synced. Excluded paths are left alone on both sides in every case.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from typing_extensions import override

from syncline.model.blocks import KIB, MIB
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.names import SCRATCH_PREFIX, normalize
from syncline.model.tree import NodeKind
from syncline.sync.folder.files import PRIVATE, Files
from syncline.sync.scan.patterns import MAX_LINE_CHARACTERS, Pattern, Rules, pattern_of
from syncline.sync.scan.walk import TOP, Scan
from syncline.sync.trees import Exclusion, Problem, RemoteNode, in_transit, path_of, printable

IGNORE_FILE = ".synclineignore"
_MAX_FILE_BYTES = MIB
MAX_PATTERNS = 2_000
MAX_PATTERN_CHARACTERS = 64 * KIB
"""Maximum size of the patterns that apply to one directory, in characters of their lines: each new name in it is
matched against them.
"""
MAX_ALL_PATTERNS = 20_000
MAX_ALL_PATTERN_CHARACTERS = 512 * KIB
"""Maximum size of the patterns of all ignore files of a folder, in characters of their lines."""
MAX_ALL_BYTES = 16 * MIB
"""Maximum number of bytes that are read of all ignore files of a folder, including comments and refused files. Further
files are not opened.
"""
_MAX_DECOMPOSED_CHARACTERS = 4 * MAX_LINE_CHARACTERS
"""Maximum length in characters of a line before normalisation, which composes at most four characters into one.
Normalisation takes quadratic time on a run of combining marks, so the length is checked first.
"""
_MAX_REMEMBERED_FILES = 64
"""Number of ignore files whose compiled rules are kept between the scans of a process, because compiling takes a large
part of a scan.
"""
_MAX_TOLD_LINES = 5
"""Maximum number of invalid lines of one ignore file that are reported."""

BUILT_IN = (
    # File managers create these in each directory that they show; they hold view settings, no content.
    ".DS_Store",
    "Thumbs.db",
    "ehthumbs.db",
    "[Dd]esktop.ini",
    # Operating systems create these at the root of a disk.
    "/.Spotlight-V100/",
    "/.Trashes/",
    "/.Trash-*/",
    "/.fseventsd/",
    "/$RECYCLE.BIN/",
    "/System Volume Information/",
    # Lock files show that a document is open: Office, LibreOffice, Emacs (a dangling symlink).
    "~$*",
    ".~lock.*#",
    ".#*",
    # Unsaved work, which is useful only on this device and to that program: Vim, Kate, Emacs.
    ".*.sw[nop]",
    ".*.kate-swp",
    r"\#*#",
    # Incomplete files of a save in progress: Word, programs of GNOME.
    "~WR[DLA]*.tmp",
    ".goutputstream-*",
    f"{SCRATCH_PREFIX}*/",  # `syncline get` makes these.
    # Deleted files that a program still has open.
    ".nfs0*",
    ".fuse_hidden*",
)
"""Built-in ignore patterns for files that systems and editors leave behind. A pattern with `!` in an ignore file
overrides one.

`*.tmp`, `*~`, `*.bak`, `*.part` and `._*` (a Mac's resource forks) are not included, because people keep files of such
names.
"""


@dataclass(frozen=True, slots=True)
class Excluded:
    """Everything that a sync leaves alone: `nodes` of the space, with all nodes below them, and `paths` in the folder.

    Besides the user's exclusions, `nodes` includes each directory of the space that is named `.syncline`, with all
    nodes below it: Syncline keeps its own files in a directory of this name in each synced folder, and a synced folder
    may contain another one.
    """

    nodes: frozenset[NodeId]
    paths: frozenset[str]

    @classmethod
    def of(cls, exclusions: Iterable[Exclusion], live: Mapping[NodeId, RemoteNode]) -> Excluded:
        """Return the nodes of the space and the paths of the folder that a sync does not touch because of `exclusions`.
        An exclusion names a node or a path. `live` are the live nodes of the space, parents before children, by which
        the node of each path and the path of each node are found.
        """
        exclusions = list(exclusions)
        private = {node.id for node in live.values() if node.name == PRIVATE}
        if not exclusions and not private:
            return NOTHING_EXCLUDED
        places = {node.id: node.place for node in live.values()}
        tops = {one.node for one in exclusions} & live.keys()
        paths = {one.path for one in exclusions} | {path_of(node, places) for node in tops if node is not None}
        at = by_path(paths, live)
        nodes = {*tops, *at.values(), *private}
        for node in live.values():
            if node.parent in nodes:
                nodes.add(node.id)
        return cls(frozenset(node for node in nodes if node is not None), frozenset(paths))


NOTHING_EXCLUDED = Excluded(frozenset(), frozenset())


def found_again(exclusions: Iterable[Exclusion], live: Mapping[NodeId, RemoteNode]) -> list[Exclusion]:
    """Return an updated exclusion for each of `exclusions` whose node has gone while another live node is at its path;
    the exclusion then has that node. `live` are the live nodes of the space, by id.
    """
    open_ = [one for one in exclusions if one.node not in live]
    at = by_path({one.path for one in open_}, live)
    return [Exclusion(one.path, at[one.path]) for one in open_ if one.path in at]


def by_path(paths: Iterable[str], live: Mapping[NodeId, RemoteNode]) -> dict[str, NodeId]:
    """Return the ids of the live nodes at these paths, by path; a path without a node is missing. `live` are the live
    nodes of the space, parents before children.
    """
    prefixes: dict[str, None] = {}
    for path in paths:
        names = path.split("/")
        prefixes.update(("/".join(names[:length]), None) for length in range(1, len(names) + 1))
    wanted = set(prefixes)
    at = {"": ROOT}
    below = {prefix.rpartition("/")[0] for prefix in wanted}
    above: dict[NodeId, str] = {ROOT: ""}
    for node in live.values():
        if (parent := above.get(node.parent)) is None:
            continue
        path = f"{parent}/{node.name}" if parent else node.name
        if path in wanted:
            at[path] = node.id
            if path in below:
                above[node.id] = path
    return {path: at[path] for path in paths if path in at}


@dataclass(frozen=True, slots=True)
class _Amount:
    """The number of patterns in ignore files, and the number of characters in their lines."""

    patterns: int
    characters: int

    def __add__(self, other: _Amount) -> _Amount:
        return _Amount(self.patterns + other.patterns, self.characters + other.characters)

    def __le__(self, most: _Amount) -> bool:
        return self.patterns <= most.patterns and self.characters <= most.characters

    @override
    def __str__(self) -> str:
        return f"{self.patterns:,} patterns or {self.characters // KIB} KiB of them"


_MAX_OF_DIRECTORY = _Amount(MAX_PATTERNS, MAX_PATTERN_CHARACTERS)
_MAX_OF_FOLDER = _Amount(MAX_ALL_PATTERNS, MAX_ALL_PATTERN_CHARACTERS)


class Filters:
    """Decides which files and directories of one scan are ignored or excluded. Each is given by its number in the scan;
    results are computed on demand and kept.
    """

    def __init__(self, scan: Scan, files: Files, excluded: frozenset[str] = frozenset()) -> None:
        self.problems: list[Problem] = []
        self._scan = scan
        self._files = files
        self._excluded_paths = excluded
        self._excluded: dict[int, bool] = {TOP: False}
        self._ignored: dict[int, bool] = {TOP: False}
        self._bytes_read = 0

    def is_left_out(self, number: int) -> bool:
        """Return True if this device excludes the scanned entry with the index `number`, or if an ignore rule matches
        it. A file that a rule matches is synced nevertheless if the space has it; the caller checks that.
        """
        return self.is_excluded(number) or self.is_ignored(number)

    def is_excluded(self, number: int) -> bool:
        if not self._excluded_paths and not self._roots:
            return False
        for at in reversed(self._unknown(number, self._excluded)):
            above = self._excluded[self._scan.entries[at].parent]
            self._excluded[at] = above or self._is_anothers(at) or self.excludes_path(self._scan.path(at))
        return self._excluded[number]

    @cached_property
    def _roots(self) -> set[int]:
        """Return the numbers of the directories that are the roots of other synced folders: they have a private
        directory.
        """
        return {entry.parent for entry in self._scan.entries if entry.local_name == PRIVATE}

    def _is_anothers(self, number: int) -> bool:
        """Return True if the file or directory belongs to the client program of another synced folder that is nested in
        this one, not to the user: its private directory, or a temporary name of a move.
        """
        entry = self._scan.entries[number]
        if entry.local_name == PRIVATE:
            return True
        if in_transit(entry.local_name) is None:
            return False
        above = entry.parent
        while above != TOP and above not in self._roots:
            above = self._scan.entries[above].parent
        return above != TOP

    def excludes_path(self, path: str) -> bool:
        """Return True if exactly this path is excluded, in any Unicode form."""
        return normalize(path) in self._excluded_paths

    def is_ignored(self, number: int) -> bool:
        """Return True if an ignore rule matches the file or directory, or a directory above it, whether or not the
        space has it.
        """
        for at in reversed(self._unknown(number, self._ignored)):
            parent = self._scan.entries[at].parent
            self._ignored[at] = self._ignored[parent] or self._matches(at)
        return self._ignored[number]

    def _unknown(self, number: int, known: Mapping[int, bool]) -> list[int]:
        """Return the numbers of a file or directory and of the directories above it, nearest first, up to the first one
        that is in `known`, which is not included.
        """
        chain = []
        while number not in known:
            chain.append(number)
            number = self._scan.entries[number].parent
        return chain

    def _matches(self, number: int) -> bool:
        entry = self._scan.entries[number]
        path, is_directory = entry.name, entry.kind is NodeKind.DIRECTORY
        directory = entry.parent
        while True:
            rules = self._rules.get(directory)
            if rules is not None and (ignored := rules.ignores(path, is_directory=is_directory)) is not None:
                return ignored
            if directory == TOP:
                return _BUILT_IN.ignores(path, is_directory=is_directory) is True
            above = self._scan.entries[directory]
            path = f"{above.name}/{path}"
            directory = above.parent

    @cached_property
    def _rules(self) -> dict[int, Rules]:
        rules: dict[int, Rules] = {}
        applying: dict[int, _Amount] = {}
        """The amount of patterns that apply in a directory, including patterns of the directories above, by the number
        of the directory in the scan.
        """
        everything = _Amount(0, 0)
        for number, entry in enumerate(self._scan.entries):
            if entry.name != IGNORE_FILE or entry.kind is not NodeKind.FILE:
                continue
            path = self._scan.path(number)
            rules[entry.parent] = _EVERYTHING
            if (read := self._read(path)) is None:
                continue
            patterns, own = read
            here, everywhere = self._applying_above(entry.parent, applying) + own, everything + own
            if not here <= _MAX_OF_DIRECTORY:
                self._refuse(path, f"with those above it has more than {_MAX_OF_DIRECTORY}")
            elif not everywhere <= _MAX_OF_FOLDER:
                self._refuse(path, f"the ignore files of this folder have more than {_MAX_OF_FOLDER}")
            else:
                applying[entry.parent], everything = here, everywhere
                rules[entry.parent] = _compiled(tuple(patterns))
        return rules

    def _applying_above(self, directory: int, applying: Mapping[int, _Amount]) -> _Amount:
        while directory != TOP:
            directory = self._scan.entries[directory].parent
            if (amount := applying.get(directory)) is not None:
                return amount
        return _Amount(0, 0)

    def _read(self, path: str) -> tuple[list[Pattern], _Amount] | None:
        """Return the patterns of an ignore file, and their amount; None if the file cannot be used."""
        try:
            left = MAX_ALL_BYTES - self._bytes_read
            if not left:
                raise ValueError(f"the ignore files before it have the {MAX_ALL_BYTES} bytes that are read of a folder")
            with os.fdopen(self._files.open_file(path), "rb") as file:
                raw = file.read(min(_MAX_FILE_BYTES, left) + 1)  # one byte more shows whether there is more
            self._bytes_read += min(len(raw), left)  # a refused file was read as well
            if len(raw) > _MAX_FILE_BYTES:
                raise ValueError(f"it has more than {_MAX_FILE_BYTES} bytes")
            if len(raw) > left:
                raise ValueError(f"the ignore files of this folder have more than {MAX_ALL_BYTES} bytes")
            text = raw.decode("utf-8-sig")
        except (OSError, ValueError) as error:
            self._refuse(path, f"it cannot be read ({getattr(error, 'strerror', None) or error})")
            return None
        patterns: list[Pattern] = []
        characters = told = 0
        for number, line in enumerate(text.splitlines(), 1):
            try:
                pattern = pattern_of(normalize(line) if len(line) <= _MAX_DECOMPOSED_CHARACTERS else line)
            except ValueError as error:
                told += 1
                if told <= _MAX_TOLD_LINES:
                    why = f"line {number} {error}, and was passed over"
                    self.problems.append(Problem(printable(path), why))
            else:
                if pattern is not None:
                    patterns.append(pattern)
                    characters += len(line)
        return patterns, _Amount(len(patterns), characters)

    def _refuse(self, path: str, why: str) -> None:
        self.problems.append(
            Problem(printable(path), f"{why}; no new file beside it is uploaded until it is corrected")
        )


def _rules_of(lines: Iterable[str]) -> Rules:
    return Rules(pattern for line in lines if (pattern := pattern_of(line)) is not None)


@lru_cache(maxsize=_MAX_REMEMBERED_FILES)
def _compiled(patterns: tuple[Pattern, ...]) -> Rules:
    return Rules(patterns)


_BUILT_IN = _rules_of(BUILT_IN)
_EVERYTHING = _rules_of(["*"])
