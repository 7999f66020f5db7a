"""The tables of docs/permissions.md: one row for each operation, one column for each caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.permissions.scene import CALLERS

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "permissions.md"

WORDS: Final[Mapping[str, frozenset[str]]] = {
    "suspended": frozenset({"ACCOUNT_SUSPENDED"}),
    "no": frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "TOKEN_INVALID", "TOKEN_MALFORMED"}),
    "unseen": frozenset({"NO_SUCH_SPACE"}),
    "ended": frozenset({"DEVICE_REVOKED"}),
    "expired": frozenset({"TOKEN_EXPIRED"}),
}
"""The reasons of errors that each word of the tables stands for. `yes` stands for an answer without any of them."""
YES: Final = "yes"


def word_of(reason: str | None) -> str:
    """The word for an answer: for the reason of an error, or None if the request was carried out."""
    return next((word for word, reasons in WORDS.items() if reason in reasons), YES)


def tables(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """The tables of the document by the heading above them: the words by operation, and by caller."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        cells = list(_cells(line))
        if len(cells) == len(CALLERS) + 1 and cells[0].startswith("`"):
            operation = cells[0].strip("`")
            rows = found.setdefault(heading, {})
            assert operation not in rows, f"{operation} has two rows"
            rows[operation] = dict(zip(CALLERS, cells[1:], strict=True))
    return found


def heads(text: str) -> list[list[str]]:
    """The heads of all tables of operations."""
    return [list(_cells(line))[1:] for line in text.splitlines() if line.startswith("| operation |")]


def table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """The text of a table, as the document has it."""
    lines = ["| operation | " + " | ".join(CALLERS) + " |", "|---" * (len(CALLERS) + 1) + "|"]
    lines += [f"| `{name}` | " + " | ".join(row[caller] for caller in CALLERS) + " |" for name, row in rows.items()]
    return "\n".join(lines)


def _cells(line: str) -> Iterator[str]:
    if line.startswith("|") and line.endswith("|"):
        yield from (cell.strip() for cell in line.strip("|").split("|"))
