"""Patterns name what git's would, and no pattern takes longer than its length times that of a path."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pathspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from syncline.sync.scan.filters import MAX_PATTERN_CHARACTERS, MAX_PATTERNS
from syncline.sync.scan.patterns import MAX_LINE_CHARACTERS, Rules, pattern_of

NAMES = st.text("abc.", min_size=1, max_size=5).filter(lambda name: name not in {".", ".."})
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
PIECES = st.sampled_from(["a", "b", "c", ".", "*", "**", "?", "/", "/", "[ab]", "[a-c]", "\\a", "\\*", "**/", "/**"])
LINES = (
    st.lists(PIECES, min_size=1, max_size=8)
    .map("".join)
    .flatmap(lambda line: st.sampled_from([line, f"!{line}", f"/{line}", f"{line}/"]))
)


def verdict(lines: list[str], path: str, *, is_directory: bool) -> bool | None:
    patterns = [pattern for line in lines if (pattern := pattern_of(line)) is not None]
    return Rules(patterns).ignores(path, is_directory=is_directory)


def by_pathspec(lines: list[str], path: str, *, is_directory: bool) -> bool | None:
    """The last pattern that names the thing itself, by the regular expressions of pathspec."""
    marked = f"{path}/" if is_directory else path
    for pattern in reversed(list(pathspec.GitIgnoreSpec.from_lines(lines).patterns)):
        if pattern.include is None or pattern.regex is None:
            continue
        if "ps_d" not in pattern.regex.groupindex:
            if pattern.regex.match(path):
                return bool(pattern.include)
        elif any(match.end("ps_d") in {-1, len(marked)} for match in pattern.regex.finditer(marked)):
            return bool(pattern.include)
    return None


@settings(max_examples=500)
@given(st.lists(LINES, min_size=1, max_size=3), PATHS, st.booleans())
@example(["a/**/b"], "a/b", False)
@example(["**/a/**/b"], "a/a/c/b/b", False)
@example(["*a*b*"], "aab", False)
@example(["a*/**/*b/c"], "ab/ab/b/c", True)
@example(["/a/*/**/c/**"], "a/b/c/c", False)
def test_patterns_name_what_those_of_pathspec_do(lines: list[str], path: str, is_directory: bool) -> None:
    # pathspec takes a name of nothing but stars after a slash for the empty name too.
    assume(not any("//" in line or "***" in line or line in {"!/", "//"} for line in lines))
    try:
        expected = by_pathspec(lines, path, is_directory=is_directory)
    except ValueError:
        assume(False)
    assert verdict(lines, path, is_directory=is_directory) == expected


@pytest.mark.parametrize(
    ("line", "named", "others"),
    [
        ("[!a]", ["b"], ["a"]),
        ("a[!b]c", ["aac"], ["a/c", "abc"]),
        ("[[:digit:]]*", ["1a"], ["a1", ":a"]),
        ("[]x]", ["]", "x"], ["a"]),
        ("[z-a]", [], ["a", "z", "-"]),
        ("[a-]", ["a", "-"], ["b"]),
        (r"[\]]", ["]"], ["\\"]),
        ("[ab", [], ["[ab", "a"]),
        (r"\#a", ["#a"], [r"\#a"]),
        (r"a\ ", ["a "], ["a"]),
        ("a ", ["a"], ["a "]),
        ("*", ["a", "a\nb", "\udcff"], []),
    ],
)
def test_brackets_and_escapes(line: str, named: list[str], others: list[str]) -> None:
    for name in named:
        assert verdict([line], name, is_directory=False) is True
    for name in others:
        assert verdict([line], name, is_directory=False) is None


@pytest.mark.parametrize("line", ["", "  ", "#a", "/", "!/"])
def test_a_line_without_a_pattern(line: str) -> None:
    assert pattern_of(line) is None


@pytest.mark.parametrize("line", ["a\\", "a" * (MAX_LINE_CHARACTERS + 1), "!"])
def test_a_line_that_is_no_pattern(line: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|ends) "):
        pattern_of(line)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_patterns_name_what_those_of_git_do(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    dice = random.Random(7)
    pieces = ["a", "b", "*", "?", "/", "[ab]", "[!a]", "[a-c]", "**/", "/**", "[[:alpha:]]", "\\a"]
    paths = sorted(
        {"/".join("".join(dice.choices("abc", k=dice.randint(1, 3))) for _ in range(n % 3 + 1)) for n in range(60)}
    )
    for path in sorted(paths, key=lambda path: -path.count("/")):
        if not (tmp_path / path).exists():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
    files = [path for path in paths if (tmp_path / path).is_file()]
    for _ in range(150):
        line = "".join(dice.choices(pieces, k=dice.randint(1, 5)))
        if "//" in line or line.endswith("**/") or "***" in line:  # here pathspec differs from git, and so do we
            continue
        (tmp_path / ".gitignore").write_text(f"{line}\n")
        asked = subprocess.run(
            ["git", "-C", tmp_path, "check-ignore", "--stdin"],
            input="\n".join(files), check=False, capture_output=True, text=True, env=environment,
        )  # fmt: skip
        parts = {path: path.split("/") for path in files}
        ours = {
            path
            for path, names in parts.items()
            if any(verdict([line], "/".join(names[:n]), is_directory=n < len(names)) for n in range(1, len(names) + 1))
        }
        assert ours == set(asked.stdout.split()), line


HOSTILE = [
    "*a" * 60 + "b",
    "*a" * 500 + "b",
    "**/a/" * 200 + "b",
    "*a*/" * 200 + "**/b",
    "**/*a*a*a*a*a/" * 60 + "b",
    "*?" * 500 + "b",
    "*[ab]" * 200 + "c",
    "?*" * 500 + "/b",
]


def test_no_pattern_hangs() -> None:
    """A matcher that backtracks would take longer than the universe is old for each of these."""
    program = f"""
from syncline.sync.scan.patterns import Rules, pattern_of
lines = {HOSTILE!r}
lines = [line[:{MAX_LINE_CHARACTERS}] for line in lines]
rules = Rules([pattern_of(line) for line in lines])
for path in ["a" * 255, "/".join(["a" * 255] * 16), "/".join("a" * 2000), "/".join(["aaaaaaaa"] * 450)]:
    assert rules.ignores(path, is_directory=True) is None, path[:20]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_as_many_patterns_as_there_may_be_do_not_hang() -> None:
    program = f"""
from syncline.sync.scan.patterns import Rules, pattern_of
lines, size = [], 0
while len(lines) < {MAX_PATTERNS}:
    line = "*a" * 3 + "aaaab" + str(len(lines)).rjust(17, "c")
    size += len(line)
    lines.append(pattern_of(line))
assert {MAX_PATTERN_CHARACTERS} * 0.8 < size < {MAX_PATTERN_CHARACTERS}
rules = Rules(lines)
for n in range(100):
    assert rules.ignores("a" * 255, is_directory=False) is None
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240)
