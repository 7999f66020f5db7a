"""The only module that prints to the terminal: it escapes names, so that no name can control the terminal or imitate a
line of this program.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from syncline.model.printable import harmless, harmless_json


def say(text: str, *, err: bool = False) -> None:
    """Print `text` as one line to standard output, or to standard error if `err` is True. Control characters are
    escaped.
    """
    click.echo(harmless(text), err=err)


def complain(text: str) -> None:
    """Print a problem, or another remark beside the result, to standard error."""
    say(f"syncline: {text}", err=True)


def print_json(value: Any) -> None:
    """Print one line of JSON, which parses to the same value."""
    click.echo(harmless_json(value))


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Print rows as a table with left-aligned columns."""
    rows = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show(error: click.ClickException) -> None:
    """Print a usage error as click does, but escaped, because an argument may contain a name of another person, for
    example from a shell pattern.
    """
    told = error.format_message()
    if isinstance(error, click.NoSuchOption):
        told += " If this is a name that begins with '-', write '--' before it."
    # the message of a MissingParameter spans several lines, all of them our own text
    if not isinstance(error, click.MissingParameter):
        told = harmless(told)
    if isinstance(error, click.UsageError):
        click.UsageError(told, error.ctx).show()
    else:
        click.ClickException(told).show()
