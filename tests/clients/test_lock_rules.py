"""A method whose name ends in `_locked` is only called with the lock of its object held: seen from the code alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "clients" / "python"
SUFFIX = "_locked"
LOCKS = frozenset({"lock", "_lock"})
"""The names of the attribute that is the lock of an object. A condition that is made over it is the lock as well."""


def violations(source: str) -> list[str]:
    """Return one line for each use of a `_locked` method of `self` where the lock of `self` may not be held."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            locks = LOCKS | set(_conditions(node))
            for statement in node.body:
                _look(statement, locks, held=False, found=found)
    return found


def _conditions(class_: ast.ClassDef) -> Iterator[str]:
    """Yield the attributes that are conditions over the lock: `self._room = threading.Condition(self.lock)`."""
    for node in ast.walk(class_):
        match node:
            case ast.Assign(
                targets=[ast.Attribute(value=ast.Name("self"), attr=name)],
                value=ast.Call(
                    func=ast.Name("Condition") | ast.Attribute(attr="Condition"),
                    args=[ast.Attribute(value=ast.Name("self"), attr=lock)],
                ),
            ) if lock in LOCKS:
                yield name


def _look(node: ast.AST, locks: frozenset[str], *, held: bool, found: list[str]) -> None:
    match node:
        case ast.ClassDef():
            return  # A class within has a lock of its own, and is looked at by itself.
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            held = name.endswith(SUFFIX)
        case ast.Lambda():
            held = False  # A lambda may be called later, when nobody holds the lock.
        case ast.With(items=items) if any(_is_lock(item.context_expr, locks) for item in items):
            if held:
                found.append(f"line {node.lineno} takes the lock that is held already")
            held = True
        case ast.Call(func=ast.Attribute(value=ast.Name("self"), attr=name)) if name.endswith(SUFFIX):
            if not held:
                found.append(f"line {node.lineno} calls {name} without the lock")
            for argument in (*node.args, *node.keywords):
                _look(argument, locks, held=held, found=found)
            return
        case ast.Attribute(attr=name) if name.endswith(SUFFIX):
            found.append(f"line {node.lineno} uses {name} otherwise than by a call of self, perhaps without the lock")
    for child in ast.iter_child_nodes(node):
        _look(child, locks, held=held, found=found)


def _is_lock(expression: ast.expr, locks: frozenset[str]) -> bool:
    match expression:
        case ast.Attribute(value=ast.Name("self"), attr=name):
            return name in locks
    return False


def test_locked_methods_are_called_with_the_lock() -> None:
    files = sorted(CLIENT.rglob("*.py"))
    sources = {file: file.read_text(encoding="utf-8") for file in files}
    assert any(f"{SUFFIX}(self" in source for source in sources.values()), "the rule is about some methods"
    found = {str(file.relative_to(CLIENT)): violations(source) for file, source in sources.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


CLASS = """
class Queue:
    def __init__(self):
        self._lock, self._other_lock = threading.Lock(), threading.Lock()
        self._room = threading.Condition(self._lock)
    def _add_locked(self, item): ...
    def {method}(self):
        {statement}
"""
WITHOUT, OTHERWISE, AGAIN = "calls _add_locked without the lock", "uses _add_locked otherwise", "that is held already"


@pytest.mark.parametrize(
    ("method", "statement", "expected"),
    [
        ("work_locked", "self._add_locked(1)", ""),
        ("work", "with self._lock: self._add_locked(1)", ""),
        ("work", "with self._room: go(self._add_locked(1)) if ready else None", ""),
        ("work", "with closing(file), self._lock: self._add_locked(1)", ""),
        ("work", "with self._lock: go(f(1, last=self._add_locked(1)))", ""),
        ("work", "self._add_locked(1)", WITHOUT),
        ("work", "with self._other_lock: self._add_locked(1)", WITHOUT),
        ("work", "with other._lock: self._add_locked(1)", WITHOUT),
        ("work", "with self._lock: go(lambda: self._add_locked(1))", WITHOUT),
        ("work_locked", "go(lambda: self._add_locked(1))", WITHOUT),
        ("work", "with self._lock: go(self._add_locked)", OTHERWISE),
        ("work", "with self._lock: other._add_locked(1)", OTHERWISE),
        ("work_locked", "with self._lock: pass", AGAIN),
    ],
)
def test_what_breaks_the_rule_is_found(method: str, statement: str, expected: str) -> None:
    found = violations(CLASS.format(method=method, statement=statement))
    assert len(found) == bool(expected)
    assert all(line.startswith("line 8 ") and expected in line for line in found)


def test_the_lock_is_not_held_after_its_block() -> None:
    statement = "with self._lock: pass\n        self._add_locked(1)"
    assert violations(CLASS.format(method="work", statement=statement)) == [f"line 9 {WITHOUT}"]
