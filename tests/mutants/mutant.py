"""Mutants, and the copy of the tree that has one in it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
COPIED = (
    *("aws", "clients", "docs", "examples", "gateway", "infra", "lib", "protos", "runtime", "server", "services"),
    *("stack", "tests", "pyproject.toml"),
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """In a file of the repository, `was` (which is there once) becomes `now`."""

    name: str
    file: str
    was: str
    now: str
    tests: tuple[str, ...] = ()
    """The tests of which each must fail; none stands for all of the engine, of which one must."""

    def text(self) -> str:
        """The text of the file with the mutant in it. Raise ValueError if the mutant does not apply."""
        text = (REPOSITORY / self.file).read_text()
        if text.count(self.was) != 1:
            raise ValueError(f"{self.name!r} does not apply: {self.file} has its text {text.count(self.was)} times")
        return text.replace(self.was, self.now)

    def check_tests(self) -> None:
        """Raise ValueError if one of the tests is not there."""
        for test in self.tests:
            file, _, function = test.partition("::")
            if f"def {function}(" not in (REPOSITORY / file).read_text():
                raise ValueError(f"{self.name!r} names a test that is not there: {test}")


def breed(mutant: Mutant | None, folder: Path) -> None:
    """A copy of the tree with the mutant in it, or a sound one. Raise ValueError if the mutant does not apply."""
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            # With what was compiled of it, which is good there too: all but the mutant is as it was.
            shutil.copytree(source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("node_modules"))
        else:
            shutil.copy(source, folder / name)
    if mutant is not None:
        (folder / mutant.file).write_text(mutant.text())
