"""Patterns of git's ignore files, each compiled to a regular expression that matches in linear time in pattern times
path.

Python's regular expressions backtrack, which takes exponential time with many `*`. Backtracking is unnecessary here:
between two `*` stands a part of fixed length, so its first match is as good as any later one, and the same holds for
whole names between two `**`. Each of these parts is therefore an atomic group, `(?>...)`, whose match is final.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

MAX_LINE_CHARACTERS: Final = 1024
"""Maximum length of a pattern in characters."""

_ANY: Final = "[^/]"
_BELOW: Final = r"/(?s:.+)"
_NOTHING: Final = "(?!)"
_CLASSES: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"!-/:-@\[-`{-~",
    "space": r" \t-\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


@dataclass(frozen=True)
class Pattern:
    """A pattern, which matches a path if `regex` matches the whole path. `ignores` is False for a pattern with `!`,
    which includes paths again. `directories_only` is True for a pattern that ends with a slash.
    """

    ignores: bool
    directories_only: bool
    regex: str

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.regex)

    def names(self, path: str, *, is_directory: bool) -> bool:
        """Return True if the pattern matches exactly `path`, not only a directory above it. `is_directory` is True if
        the path is that of a directory.
        """
        return (is_directory or not self.directories_only) and self._compiled.fullmatch(path) is not None


class Rules:
    """The patterns of one ignore file; the last one that matches a path decides. `ignores` must be called for a
    directory before it is called for the contents of the directory.
    """

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._patterns = tuple(patterns)[::-1]
        # Nearly every path matches no pattern; one combined expression finds that out faster than one expression per
        # pattern.
        self._any = re.compile("|".join(pattern.regex for pattern in self._patterns) or _NOTHING)

    def ignores(self, path: str, *, is_directory: bool) -> bool | None:
        """Return True if the last pattern that matches `path` ignores it, False if that pattern includes it, and None
        if no pattern matches. `is_directory` is True if the path is that of a directory.
        """
        if self._any.fullmatch(path) is None:
            return None
        for pattern in self._patterns:
            if pattern.names(path, is_directory=is_directory):
                return pattern.ignores
        return None


def pattern_of(line: str) -> Pattern | None:
    """Return the pattern in `line`, a line of an ignore file; None if the line has no pattern. Raise ValueError with
    the reason if the line is no valid pattern.
    """
    if not line.endswith("\\ "):
        line = line.rstrip()
    if not line or line[0] == "#" or line in {"/", "!/"}:
        return None
    if len(line) > MAX_LINE_CHARACTERS:
        raise ValueError(f"has more than {MAX_LINE_CHARACTERS} characters")
    ignores = line[0] != "!"
    names = line.removeprefix("!").split("/")
    directories_only = len(names) > 1 and not names[-1]
    if directories_only:
        del names[-1]
    if len(names) > 1 and not names[0]:
        del names[0]
    elif len(names) == 1:
        names.insert(0, "**")  # a single name matches at any depth
    if not names[-1] and len(names) <= 2:
        raise ValueError("is no pattern")
    try:
        return Pattern(ignores, directories_only, _path_regex(names, directories_only=directories_only))
    except _NeverClosed:
        return None  # git ignores such a pattern, too


class _NeverClosed(Exception):
    """A `[` has no matching `]`."""


def _path_regex(names: list[str], *, directories_only: bool) -> str:
    below = False
    while len(names) > 1 and names[-1] == "**":
        below = not directories_only
        names = names[:-1]
    if names == ["**"]:
        return "(?s:.+)"
    groups: list[list[str]] = [[]]
    for name in names:
        if name != "**":
            groups[-1].append(_name_regex(name))
        elif groups[-1] or len(groups) == 1:
            groups.append([])
    regex = "/".join(groups[0])
    for group in groups[1:]:
        if regex:
            regex += "/"
        # The first match of these names that is followed by another name, or by the end of the path, is as good as any
        # later one.
        regex += f"(?>(?:{_ANY}++/)*?{'/'.join(group)}{'(?=/)' if below or group is not groups[-1] else chr(92) + 'Z'})"
    return f"(?>{regex}){_BELOW if below else ''}"


def _name_regex(glob: str) -> str:
    if glob == "*":
        return f"{_ANY}++"
    if not glob:
        return _NOTHING  # between two '/'
    first, *more = _between_stars(glob)
    if not more:
        return first
    found = "".join(f"(?>{_ANY}*?{piece})" for piece in more[:-1] if piece)
    return f"(?>{first}{found}{_ANY}*{more[-1]}(?=/|\\Z))"


def _between_stars(glob: str) -> list[str]:
    pieces = [""]
    atoms = iter(_atoms(glob))
    for atom in atoms:
        if atom == "*":
            pieces.append("")
        else:
            pieces[-1] += atom
    return pieces


def _atoms(glob: str) -> Iterator[str]:
    """Yield regular expressions that match one character each, and `*` for a star. Raise ValueError if the pattern ends
    with a backslash that escapes nothing, and the errors of `_bracket`.
    """
    at = 0
    while at < len(glob):
        char = glob[at]
        at += 1
        if char == "*":
            yield "*"
        elif char == "?":
            yield _ANY
        elif char == "[":
            atom, at = _bracket(glob, at)
            yield atom
        elif char == "\\":
            if at == len(glob):
                raise ValueError("ends with a backslash that escapes nothing")
            yield re.escape(glob[at])
            at += 1
        else:
            yield re.escape(char)


def _bracket(glob: str, at: int) -> tuple[str, int]:
    """Return the regular expression of the character set that begins at `at`, after its `[`, and the position after its
    `]`. The set never matches `/`. Raise _NeverClosed if there is no `]`.
    """
    negated = glob[at : at + 1] in {"!", "^"}
    at += negated
    members: list[str] = []
    first = True
    while True:
        if at >= len(glob):
            raise _NeverClosed
        if glob[at] == "]" and not first:
            break
        first = False
        if (named := re.compile(r"\[:([a-z]+):]").match(glob, at)) is not None:
            members.append(_CLASSES.get(named[1], ""))
            at = named.end()
            continue
        low, at = _class_character(glob, at)
        if glob[at : at + 1] == "-" and glob[at + 1 : at + 2] not in {"", "]"}:
            high, at = _class_character(glob, at + 1)
            if low <= high:
                members.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            members.append(re.escape(low))
    inside = "".join(members)
    if negated:
        return f"[^/{inside}]", at + 1
    return (f"(?!/)[{inside}]" if inside else _NOTHING), at + 1


def _class_character(glob: str, at: int) -> tuple[str, int]:
    if glob[at] == "\\" and at + 1 < len(glob):
        at += 1
    return glob[at], at + 1
