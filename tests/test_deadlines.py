"""The deadlines of tests: a busy machine is no failure, and programs may wait for leases and back-offs of a minute."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, settings

TESTS: Final = Path(__file__).parent
MIN_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 5.0
"""Seconds up to which `event.wait(seconds)` is taken for a pause."""

WAITING: Final = frozenset(
    {"HTTPConnection", "communicate", "create_connection", "join", "request", "run", "urlopen", "wait"}
)
"""Functions whose argument `timeout` is a deadline."""

EXEMPT: Final[Mapping[str, str]] = {
    "abuse/": "an attack lasts for a while, and what gives an attacker up is no failure",
    "compose/": "a request that is not answered is repeated until a later deadline",
    "gateway/http/test_connections.py": "a connection that says nothing ends by itself after half a minute",
    "gateway/storage/test_http1.py": "the silence after which a server is given up is told there",
    "lb/": "a request that is not answered counts as one that failed, and may fail",
    "runtime/rpc/test_answers.py": "an answer that nobody reads is given up after half a minute",
}
"""Files or folders that the rule does not apply to, each with the reason."""


def test_whatever_a_test_waits_for_has_a_minute() -> None:
    """A shorter deadline is either demanded of the product, and then told by the product's constant, or is expected to
    pass, within `pytest.raises(TimeoutError)` or the like.
    """
    short = [
        f"{name}:{line} waits for {seconds:g} s"
        for name, tree in _sources()
        for line, seconds in _Deadlines(tree).short
    ]
    assert not short


def test_each_exemption_is_needed() -> None:
    exempt = {name for name, tree in _sources(all_of_them=True) if _Deadlines(tree).short}
    assert [place for place in EXEMPT if not any(name.startswith(place) for name in exempt)] == []


def test_no_property_is_judged_by_the_time_that_its_examples_take() -> None:
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check


def test_deadlines_are_found() -> None:
    found = _Deadlines(
        ast.parse(
            "PATIENCE = 5.0\n"
            "deadline = time.monotonic() + PATIENCE\n"
            "asyncio.timeout(10)\n"
            "asyncio.wait_for(one, 20)\n"
            "child.communicate(timeout=30)\n"
            "asyncio.timeout(60)\n"
            "with suppress(OSError, TimeoutError):\n"
            "    asyncio.timeout(1)\n"
            "with pytest.raises(TimeoutError):\n"
            "    asyncio.timeout(1)\n"
            "try:\n"
            "    child.wait(timeout=2)\n"
            "except subprocess.TimeoutExpired:\n"
            "    child.wait(timeout=3)\n"
            "until = time.monotonic() + 1\n"
            "asyncio.wait(several, timeout=1)\n"
            "asyncio.timeout(HANDSHAKE_SECONDS / 2)\n"
            "event.wait(2.5)\n"
            "event.wait(20)\n"
        )
    )
    assert found.short == [(2, 5.0), (3, 10.0), (4, 20.0), (5, 30.0), (14, 3.0), (19, 20.0)]


def _sources(*, all_of_them: bool = False) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(TESTS.rglob("*.py")):
        name = path.relative_to(TESTS).as_posix()
        if all_of_them or not name.startswith(tuple(EXEMPT)):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


class _Deadlines(ast.NodeVisitor):
    """Collects the deadlines of a module that are too short."""

    def __init__(self, tree: ast.Module) -> None:
        self.short: list[tuple[int, float]] = []
        """The line and the seconds of each."""
        self._constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        self._may_pass = 0
        """Number of the enclosing blocks that expect a deadline to pass."""
        self.visit(tree)

    def visit_With(self, node: ast.With) -> None:
        self._within(any(_expects(item.context_expr) for item in node.items), node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        expects = any(handler.type is not None and _is_timeout(handler.type) for handler in node.handlers)
        self._may_pass += expects
        for statement in node.body:
            self.visit(statement)
        self._may_pass -= expects
        for rest in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(rest)

    def visit_Assign(self, node: ast.Assign) -> None:
        match node:
            case ast.Assign(targets=[ast.Name(id="deadline")], value=ast.BinOp(left=ast.Call(), right=seconds)):
                self._note(node.lineno, seconds)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        if called == "asyncio.timeout" and node.args:
            self._note(node.lineno, node.args[0])
        elif called == "asyncio.wait_for" and len(node.args) > 1:
            self._note(node.lineno, node.args[1])
        elif called.rpartition(".")[2] in {"join", "result", "wait"} and len(node.args) == 1:
            self._note(node.lineno, node.args[0], at_least=PAUSE_SECONDS)
        elif called != "asyncio.wait" and called.rpartition(".")[2] in WAITING:  # asyncio.wait raises nothing
            for keyword in node.keywords:
                if keyword.arg == "timeout":
                    self._note(node.lineno, keyword.value)
        self.generic_visit(node)

    def _within(self, expects: bool, node: ast.AST) -> None:
        self._may_pass += expects
        self.generic_visit(node)
        self._may_pass -= expects

    def _note(self, line: int, given: ast.expr, *, at_least: float = 0.0) -> None:
        value = self._constants.get(given.id, given) if isinstance(given, ast.Name) else given
        if self._may_pass or not isinstance(value, ast.Constant) or not isinstance(value.value, int | float):
            return
        if at_least <= value.value < MIN_SECONDS:
            self.short.append((line, float(value.value)))


def _expects(context: ast.expr) -> bool:
    """Return True for a context such as `pytest.raises(TimeoutError)`, from which an error of time does not come."""
    return isinstance(context, ast.Call) and any(_is_timeout(argument) for argument in context.args)


def _is_timeout(kind: ast.expr) -> bool:
    return any("Timeout" in ast.unparse(one) for one in (kind.elts if isinstance(kind, ast.Tuple) else [kind]))
