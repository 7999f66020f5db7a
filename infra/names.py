"""`python -m infra.names`: fails if one public name stands for several things, or the name of a number does not say
what is counted.

A reader who meets a name searches the tree for it, and must find one definition. Therefore no two files define a public
class of one name, and no two files define public functions of one name and different shapes (parameters and result). An
enumeration or a type alias that is made by an assignment counts as a class; several files may have the same assignment.
Commands and request handlers are exempt, because only their decorators' frameworks call them. `REASONS` lists the names
that may occur more than once, with reasons; an unnecessary entry also fails the check.

A constant that is a number is named for its unit of measurement and its bound: a bound begins with MAX or MIN and names
what is counted, and a name never ends in a quantity (`TIMEOUT`, `PAGE`) where its unit should be.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = ("lib", "clients", "runtime", "aws", "services", "gateway", "stack", "server", "infra", "benchmarks")
_PLAIN: Final = frozenset({"contextmanager", "asynccontextmanager", "cache", "lru_cache"})
"""Decorators that leave a function callable by its name."""

_ENUMERATIONS: Final = frozenset({"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"})

MODELS: Final = "gateway/api/models.py"
"""The module whose classes are the schemas of the HTTP API, with names published in /openapi.json. Code always refers
to them with their module (`models.Node`), which the check enforces, so that they are distinguishable from values of the
model.
"""

_BOUND: Final = re.compile(r"_?(MAX|MIN)_(?P<counted>[A-Z0-9_]+)")
_OTHER_BOUND: Final = re.compile(r"_?(MOST|LEAST|LONGEST|SHORTEST|LARGEST|SMALLEST)_[A-Z0-9_]+")
_QUANTITY: Final = re.compile(
    r"(.*_|_?)(AGE|CHUNK|DELAY|INTERVAL|LENGTH|LIMIT|LIFETIME|MEMORY|PAGE|PATIENCE|PAUSE|PERIOD|RATE|SIZE|TIMEOUT|TTL"
    r"|WINDOW)"
)
_UNIT: Final = re.compile(r"(.*_)?([A-Z]+S|CHILDREN|DEPTH|KIB|MIB|NUMBER)(_(PER|OF|AT|IN|ONE)_[A-Z_]+)?")
"""Pattern of a unit in a name: a noun in the plural (`BYTES`, `SECONDS`, `NODES`), optionally followed by the thing to
which the unit belongs.
"""

REASONS: Final[Mapping[str, str]] = {
    "main": "the entry point of a program",
    "bootstrap": "each process puts its own application together; the module says which",
    "on_aws": "each process puts its own adapters together; the module says which",
}


def problems(root: Path = ROOT, reasons: Mapping[str, str] = REASONS) -> list[str]:
    """Return one line for each fault:

    - a name that stands for several things;
    - a number whose name lacks a unit of measurement, or has another word than MAX or MIN for its bound;
    - a model of the HTTP API that is imported without its module;
    - an entry of `reasons` that is not necessary.
    """
    classes: dict[str, list[str]] = defaultdict(list)
    functions: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    assigned_types: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    found = []
    for file in _files(root):
        name = file.relative_to(root).as_posix()
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found += [f"{name}: {problem}" for problem in _misnamed_numbers(tree)]
        found += [f"{name} imports {one} by itself: write `models.{one}`" for one in _taken_from_models(tree, name)]
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and name != MODELS:
                classes[node.name].append(name)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_plain(node):
                functions[node.name][_shape(node)].append(name)
            elif (assigned := _assigned_type(node)) is not None:
                assigned_types[assigned[0]][assigned[1]].append(name)
    for name, values in assigned_types.items():
        if name in classes or len(values) > 1:
            classes[name] += [file for files in values.values() for file in files]
    several = {name: files for name, files in classes.items() if len(files) > 1}
    several |= {
        name: [file for files in shapes.values() for file in files]
        for name, shapes in functions.items()
        if len(shapes) > 1
    }
    several = {name: files for name, files in several.items() if not name.startswith("_")}
    for name in sorted(several.keys() - reasons.keys()):
        found.append(f"{name} stands for several things, in {', '.join(sorted(several[name]))}: say what differs")
    found += [f"{name} stands once: take it out of REASONS" for name in sorted(reasons.keys() - several.keys())]
    return found


def _files(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*.py")):
            if "node_modules" not in file.parts:
                yield file


def _misnamed_numbers(tree: ast.Module) -> Iterator[str]:
    """Return one sentence for each constant that is a number and whose name has no unit, or has another word than MAX
    or MIN for its bound.
    """
    for statement in tree.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case _:
                continue
        if not name.isupper() or not _is_number(value):
            continue
        bound = _BOUND.fullmatch(name)
        if _OTHER_BOUND.fullmatch(name):
            yield f"{name} is a bound: begin its name with MAX or MIN"
        elif (bound and not _UNIT.fullmatch(bound["counted"])) or _QUANTITY.fullmatch(name):
            yield f"{name} has no unit in its name: say what is counted"


def _is_number(value: ast.expr) -> bool:
    """Return True for a number, and for an expression that consists of numbers and constants."""
    match value:
        case ast.Constant(value=bool()):
            return False
        case ast.Constant(value=int() | float()):
            return True
        case ast.UnaryOp(operand=operand):
            return _is_number(operand)
        case ast.BinOp(left=left, right=right):
            return all(_is_number(one) or isinstance(one, ast.Name) for one in (left, right))
        case _:
            return False


def _assigned_type(statement: ast.stmt) -> tuple[str, str] | None:
    """Return the name and the source text of the value if the statement assigns a type alias, or an enumeration in the
    functional form of `Enum`; otherwise None.
    """
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias"), value=ast.expr() as value):
            return name, ast.unparse(value)
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=function)) as value):
            return (name, ast.unparse(value)) if function in _ENUMERATIONS else None
        case _:
            return None


def _taken_from_models(tree: ast.Module, name: str) -> list[str]:
    module = MODELS.removesuffix(".py").replace("/", ".")
    return [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == module and name != MODELS
        for alias in node.names
    ]


def _is_plain(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return {ast.unparse(one).partition("(")[0] for one in function.decorator_list} <= _PLAIN


def _shape(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    result = ast.unparse(function.returns) if function.returns else ""
    return f"({ast.unparse(function.args)}) -> {result}"


def main() -> int:
    """Print the problems. Return 1 if there are any, otherwise 0."""
    found = problems()
    sys.stderr.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
