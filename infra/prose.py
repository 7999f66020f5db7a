"""`python -m infra.prose`: fails if a docstring or a comment breaks a rule of prose that a program can check.

The rules are those of CONTRIBUTING.md. A docstring of one or two words adds nothing to the name. A docstring that only
refers to another place is deleted instead. An opening such as "What", "Whether" or "It" begins a text without a subject
or without the noun of its pronoun; `OPENINGS` lists these words, each with the reason.

The docstring of a function that returns something begins with a verb, and `PHRASES` lists homely phrases for which the
field has a term. These two rules do not apply to tests, whose helpers are read beside their only use.

`python -m infra.prose ROOM ...` checks only the folders of `ROOMS` that are named; without arguments it checks all.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

ROOMS: Final = (
    "lib/syncline",
    "clients/python/syncline/sdk",
    "clients/python/syncline/transfer",
    "clients/python/syncline/sync",
    "clients/python/syncline/cli",
    "runtime",
    "aws",
    "services/auth",
    "services/metadata",
    "services/notify",
    "gateway",
    "stack",
    "infra",
    "benchmarks",
    "examples",
    "tests",
)
"""Folders with Python files, each of which is a room: a part of the repository that can be checked by itself. No room
is inside another one.
"""

MIN_WORDS: Final = 3
"""Minimum number of words of a docstring."""

_NOUN_CLAUSE: Final = "it opens a clause that stands for a noun, so that the text has no subject and verb of its own"
_PRONOUN: Final = "a pronoun at the beginning has no noun that it stands for"
_CONTINUES: Final = "it continues a sentence that is not there"

OPENINGS: Final[Mapping[str, str]] = {
    "what": f"{_NOUN_CLAUSE}: name the thing, as in `The ids that ...`",
    "whatever": f"{_NOUN_CLAUSE}: name the thing",
    "whether": f"{_NOUN_CLAUSE}: write `True if ...` or `Return True if ...`",
    "how": f"{_NOUN_CLAUSE}: name the number or the way, as in `The number of ...`",
    "where": f"{_NOUN_CLAUSE}: name the place, as in `The directory that ...`",
    "who": f"{_NOUN_CLAUSE}: name the person or the program, as in `The account that ...`",
    "whoever": f"{_NOUN_CLAUSE}: name the person or the program",
    "whose": f"{_NOUN_CLAUSE}: name the owner",
    "which": f"{_NOUN_CLAUSE}: name the thing that is chosen, as in `The spaces that ...`",
    "why": f"{_NOUN_CLAUSE}: write `The reason that ...` or `The error that ...`",
    "it": _PRONOUN,
    "its": _PRONOUN,
    "they": _PRONOUN,
    "their": _PRONOUN,
    "them": _PRONOUN,
    "that": _PRONOUN,
    "those": _PRONOUN,
    "he": _PRONOUN,
    "she": _PRONOUN,
    "and": _CONTINUES,
    "but": _CONTINUES,
    "or": _CONTINUES,
    "else": _CONTINUES,
    "so": f"{_CONTINUES}: say first what the consequence follows from",
    "of": f"{_CONTINUES}: name first what is counted or described",
    "as": f"{_CONTINUES}: say first what is compared",
}
"""First words, in lower case, that no docstring and no comment begins with; the reason of each."""

_ALONE: Final = re.compile(
    r"(this|these|one|each|both|all|some|none|any|another|other|others)\s+"
    r"(who|whom|that|which|whose|is|are|was|has|have|had|may|can|must|will|of (it|them|these|those))\b"
)
"""A pronoun without a noun: `one who`, `each is`, `all that`."""

_PREPOSITION: Final = frozenset(
    {
        *("after", "around", "at", "because", "before", "beside", "between", "by", "for", "from", "if", "in", "on"),
        *("since", "though", "under", "unless", "until", "when", "while", "with", "within", "without"),
    }
)
"""Words that open a clause, which a comma or a colon has to separate from the sentence that it belongs to."""

_ERROR: Final = r"(?:[A-Z][a-z]+){2,}"
_ERRORS_ALONE: Final = re.compile(
    rf"(?:^|[.;] )({_ERROR}(?:,? (?:or |and )?{_ERROR})*)(?=[.;]|$| if | for (?!the class))"
)
"""Names of errors, in CamelCase, that stand where a sentence should: `NoSuchSpace.`"""

PHRASES: Final[Mapping[str, str]] = {
    r"\bunder way\b": "in progress",
    r"\blets? go of\b": "release",
    r"\bg[ai]ves? back\b": "return",
    r"\bgoes on (to|with|from|after|until)\b": "continue",
    r"\b(of late|lately)\b": "recently",
    r"\b(is|are) told (of|about|that|when)\b": "is notified",
    r"\bhears? of\b": "receives",
}
"""The term to use instead of a phrase that no docstring and no comment contains, by the regular expression of the
phrase in lower case.
"""

_NOUN_FIRST: Final = re.compile(r"(the|a|an|all|up to|number|bytes|seconds|names|true|false|none)\b", re.IGNORECASE)
"""The beginning of a noun phrase, which names a result without saying that it is returned."""

_NOT_CALLED: Final = frozenset({"property", "cached_property"})
"""Decorators of functions that are read like attributes, so that a noun phrase describes them."""

_TESTS: Final = "tests/"

_NO_PROSE: Final = re.compile(r"#!|#:|#\s*(noqa|type:|fmt:|ruff:|mypy:|pragma|isort:|-\*-|-{2,})")


@dataclass(frozen=True, slots=True)
class Finding:
    """One text that breaks a rule: the file relative to the root, the line from 1 on, and the reason."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


def fault_of_docstring(text: str) -> str | None:
    """Return the reason that a docstring breaks a rule, or None if it breaks none."""
    words = text.split()
    if re.match(r"See (?!to\b)", text.lstrip()):
        return "a docstring that only refers to another place: delete it, or say what this one promises more"
    if len(words) < MIN_WORDS:
        return f"a docstring of fewer than {MIN_WORDS} words says no more than the name: write a sentence, or delete it"
    if alone := _ERRORS_ALONE.search(" ".join(words)):
        return f"names {alone[1]} without a verb: write `Raise {alone[1]}`"
    return fault_of_opening(text)


def fault_of_opening(text: str) -> str | None:
    """Return the reason that a text must not begin as it does, or None if it may."""
    plain = " ".join(text.split()).lower()
    first = re.match(r"[a-z']*", plain)
    word = first[0] if first else ""
    if word in OPENINGS:
        return f"begins with `{word}`: {OPENINGS[word]}"
    if alone := _ALONE.match(plain):
        return f"begins with `{alone[0]}`: {_PRONOUN}"
    return None


def fault_of_fragment(text: str) -> str | None:
    """Return the reason that a docstring is no more than an adverbial clause, or None if it is more."""
    sentence = re.split(r"[.;](?:\s|$)", " ".join(text.split()), maxsplit=1)[0]
    word = sentence.partition(" ")[0].lower()
    if word in _PREPOSITION and not re.search(r"[,:]\s", sentence):
        return f"begins with `{word}` and has no main clause: say of what it is true"
    return None


def fault_of_function(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    """Return the reason that the docstring of a function does not fit its signature, or None if it does."""
    text = ast.get_docstring(function) or ""
    decorators = {ast.unparse(one).partition("(")[0].rpartition(".")[2] for one in function.decorator_list}
    if decorators & _NOT_CALLED or function.returns is None or ast.unparse(function.returns) in {"None", "Never"}:
        return None
    if noun := _NOUN_FIRST.match(text):
        return f"begins with `{noun[0]}`: say what the function does, as in `Return {noun[0].lower()} ...`"
    return None


def fault_of_phrase(text: str) -> str | None:
    """Return the reason that a text must not contain one of its phrases, or None if it contains none of `PHRASES`."""
    plain = " ".join(text.split()).lower()
    for phrase, term in PHRASES.items():
        if found := re.search(phrase, plain):
            return f"contains `{found[0]}`: write `{term}`"
    return None


def findings_of(source: str, file: str) -> list[Finding]:
    """Return every finding of one Python file with the text `source`, in the order of its lines; `file` is the name to
    report.
    """
    found = []
    tree = ast.parse(source)
    is_shipped = not file.startswith(_TESTS)
    for line, text in _docstrings(tree):
        if fault := fault_of_docstring(text) or fault_of_fragment(text) or (is_shipped and fault_of_phrase(text)):
            found.append(Finding(file, line, fault))
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if is_shipped and (fault := fault_of_function(node)):
                found.append(Finding(file, node.lineno, fault))
    for line, text in _comments(source):
        if fault := fault_of_opening(text) or (is_shipped and fault_of_phrase(text)):
            found.append(Finding(file, line, f"comment {fault}"))
    return sorted(found, key=lambda one: one.line)


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every docstring: of modules, classes, functions, and of the attribute above it."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield statement.lineno, text


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of the first line of every block of comments."""
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line = token.start[0]
            if line != last + 1 and not _NO_PROSE.match(token.string):
                yield line, token.string.lstrip("# ")
            last = line


def findings(room: str, root: Path = ROOT) -> list[Finding]:
    """Return every finding in the Python files of `room`, a folder of `ROOMS`; its path is relative to `root`."""
    return [
        finding
        for path in sorted((root / room).rglob("*.py"))
        if "node_modules" not in path.parts
        for finding in findings_of(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix())
    ]


def main(rooms: Sequence[str]) -> int:
    """Check `rooms`, which are folders of `ROOMS`, or all of `ROOMS` if `rooms` is empty; print the findings. Return
    the exit status: 0 if there are no findings, 1 if there are some, 2 if one of `rooms` is not in `ROOMS`; then
    nothing is checked.
    """
    if unknown := sorted(set(rooms) - set(ROOMS)):
        sys.stderr.write(f"no room: {', '.join(unknown)}; the rooms are {', '.join(ROOMS)}\n")
        return 2
    found = [finding for room in rooms or ROOMS for finding in findings(room)]
    sys.stderr.writelines(f"{finding}\n" for finding in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
