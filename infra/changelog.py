"""The changelog: fragments of one change each, and the document that is generated from them.

changelog/unreleased/NAME.md            one change that users notice, since the last release
changelog/VERSION_DATE/NAME.md          one change in the version that was released on that date
changelog/VERSION_DATE/summary.md       optional: the introduction of that version's section
CHANGELOG.md                            the generated document, newest version first
"""

from __future__ import annotations

import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
KINDS: Final = ("Fixed", "Changed", "New")
"""The words with which a change begins, in the order of the document: fixes come first."""
MAX_CHANGE_CHARACTERS: Final = 1200

_BEGINNING: Final = re.compile(rf"({'|'.join(KINDS)}): \S")
_INSIDE: Final = re.compile(rf"\s({'|'.join(KINDS)}): ")
_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.md")
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")
_SUMMARY: Final = "summary.md"
_WIDTH: Final = 120
_HEAD: Final = """\
# Changelog

What users notice, newest version first. This file is made of the fragments in [changelog](changelog/README.md);
`make changelog` prints what has changed since the last release.
"""


class BadChangelog(Exception):
    """The changelog is invalid; the text has one line for each reason."""


@dataclass(frozen=True, slots=True, order=True)
class Released:
    """A released version, from the name of its directory in changelog/. Versions are ordered by their numbers, not by
    their dates.
    """

    number: tuple[int, ...]
    day: date
    directory: Path

    @classmethod
    def of(cls, directory: Path) -> Released:
        """Return the version whose fragments are in `directory`. Raise ValueError if its name is not VERSION_DATE."""
        version, _, day = directory.name.partition("_")
        if not _VERSION.fullmatch(version):
            raise ValueError(version)
        return cls(tuple(map(int, version.split("."))), date.fromisoformat(day), directory)

    @property
    def version(self) -> str:
        return ".".join(map(str, self.number))


def faults(root: Path = ROOT) -> Iterator[str]:
    """Yield one line for each malformed fragment in `root`, the directory of the repository, and one for a CHANGELOG.md
    that does not match the fragments.
    """
    directory = root / "changelog"
    for path in sorted(directory.glob("*/[!.]*")):
        for fault in _fragment_faults(path):
            yield f"{path.relative_to(root)}: {fault}"
    try:
        if (root / "CHANGELOG.md").read_text() != changelog_document(root):
            yield "CHANGELOG.md is not what the fragments give: `python -m infra.changelog write` makes it anew"
    except BadChangelog as error:
        yield str(error)


def _fragment_faults(path: Path) -> Iterator[str]:
    if not _NAME.fullmatch(path.name):
        yield "the name is not of the form about-what.md"
        return
    if path.name == _SUMMARY and path.parent.name != "unreleased":
        return
    changes = _changes(path)
    if not changes:
        yield "the file is empty"
    for change in changes:
        if not _BEGINNING.match(change):
            yield f"{change[:40]!r} does not begin with one of {', '.join(f'{kind!r}' for kind in KINDS)} and a colon"
        elif inside := _INSIDE.search(change):
            yield f"{inside[0].strip()!r} begins a change of its own: an empty line comes before it"
        if not change.endswith((".", ".)", "`")):
            yield f"{change[-40:]!r} does not end with a full stop"
        if len(change) > MAX_CHANGE_CHARACTERS:
            yield f"a change has at most {MAX_CHANGE_CHARACTERS} characters: say less, or make several"


def changelog_document(root: Path = ROOT) -> str:
    """Return the text of CHANGELOG.md, made of the fragments in `root`, the directory of the repository. Raise
    BadChangelog if a fragment or a directory is malformed.
    """
    return "\n".join([_HEAD, *(_section(released) for released in reversed(versions(root)))])


def versions(root: Path = ROOT) -> list[Released]:
    """Return the versions that have been released, oldest first. Raise BadChangelog if the name of a directory is
    malformed.
    """
    found = []
    for directory in (root / "changelog").iterdir():
        if directory.is_dir() and directory.name != "unreleased":
            try:
                found.append(Released.of(directory))
            except ValueError:
                raise BadChangelog(f"changelog/{directory.name} is not of the form VERSION_YEAR-MONTH-DAY") from None
    return sorted(found)


def release(version: str, day: date, root: Path = ROOT) -> None:
    """Move the unreleased fragments to `version`, released on `day`, and write CHANGELOG.md. Raise BadChangelog if a
    fragment is malformed, or if `version` is not that of pyproject.toml.
    """
    if found := list(faults(root)):
        raise BadChangelog("\n".join(found))
    ours = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    if version != ours:
        raise BadChangelog(f"pyproject.toml has version {ours}: set it to {version} first")
    if not _VERSION.fullmatch(version):
        raise BadChangelog(f"{version!r} is not a version of three numbers")
    next_one = Released.of(root / "changelog" / f"{version}_{day}")
    if (last := versions(root)) and next_one.number <= last[-1].number:
        raise BadChangelog(f"{last[-1].version} was released: {version} does not come after it")
    fragments = sorted((root / "changelog/unreleased").glob("*.md"))
    if not fragments:
        raise BadChangelog("nothing has changed since the last release: changelog/unreleased is empty")
    next_one.directory.mkdir()
    for fragment in fragments:
        fragment.rename(next_one.directory / fragment.name)
    (root / "CHANGELOG.md").write_text(changelog_document(root))


def unreleased(root: Path = ROOT) -> str:
    """Return the changes since the last release as Markdown: a heading for each of `KINDS` that occurs, and below it a
    list of the changes, as in CHANGELOG.md. If there are none, return one sentence that says so.
    """
    return _listed(root / "changelog/unreleased") or "Nothing has changed since the last release.\n"


def _section(released: Released) -> str:
    summary = released.directory / _SUMMARY
    parts = [f"## {released.version} ({released.day})\n"]
    if summary.exists():
        parts.append(f"{summary.read_text().strip()}\n")
    return "\n".join([*parts, _listed(released.directory)])


def _listed(directory: Path) -> str:
    told: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for path in sorted(directory.glob("*.md")):
        if path.name != _SUMMARY:
            for change in _changes(path):
                kind, _, text = change.partition(": ")
                told[kind].append(_item(text))
    return "\n".join(f"### {kind}\n\n{''.join(items)}" for kind, items in told.items() if items)


def _changes(path: Path) -> list[str]:
    """Return the paragraphs of a fragment, each as one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", path.read_text()) if part.strip()]


def _item(text: str) -> str:
    lines = textwrap.wrap(
        text[:1].upper() + text[1:],
        _WIDTH,
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Run `check`, `show`, `write` (which writes CHANGELOG.md) or `release VERSION`. Return the exit status: 0, 1 for
    an invalid changelog, or 2 for other arguments.
    """
    try:
        match arguments:
            case ["check"]:
                if found := list(faults()):
                    raise BadChangelog("\n".join(found))
            case ["show"]:
                sys.stdout.write(unreleased())
            case ["write"]:
                (ROOT / "CHANGELOG.md").write_text(changelog_document())
            case ["release", version]:
                release(version, datetime.now(UTC).date())
            case _:
                sys.stderr.write("usage: python -m infra.changelog check|show|write|release VERSION\n")
                return 2
    except BadChangelog as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
