"""Each test that docs/threat-model.md names is there, so that what it says somebody cannot do is held by something."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
TEXT = (REPOSITORY / "docs/threat-model.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)


def test_what_it_names_is_there() -> None:
    assert len(NAMED) > 40
    missing = [f"{path}::{name}" for path, name in NAMED if name not in _tests(path)]
    assert not missing


def test_whatever_somebody_cannot_do_is_held_by_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| cannot ")]
    assert len(rows) > 30
    # One row tells of something that is nowhere to be found.
    assert [row for row in rows if "::" not in row and "nowhere" not in row] == []


def _tests(path: str) -> set[str]:
    """The names of the functions of a module."""
    file = REPOSITORY / path
    if not file.exists():
        return set()
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
