"""The one place where text reaches the terminal: no name in it can steer that, or look like a line of ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from syncline.model.printable import harmless, harmless_json


def say(text: str, *, err: bool = False) -> None:
    """One line, for people."""
    click.echo(harmless(text), err=err)


def complain(text: str) -> None:
    """Print a problem, or another remark beside the result, to standard error."""
    say(f"syncline: {text}", err=True)


def print_json(value: Any) -> None:
    """One line: the same value to whoever parses it."""
    click.echo(harmless_json(value))


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Print rows as a table with left-aligned columns."""
    rows = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show(error: click.ClickException) -> None:
    """An error of usage, as click shows it. What was given may be the names of others, as by a pattern of the shell."""
    told = error.format_message()
    if not isinstance(error, click.MissingParameter):  # a MissingParameter spans several lines, all of our own text
        told = harmless(told)
    if isinstance(error, click.UsageError):
        click.UsageError(told, error.ctx).show()
    else:
        click.ClickException(told).show()
