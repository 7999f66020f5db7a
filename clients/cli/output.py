"""What commands have in common: the signed-in session, and how results are told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from clients.sdk.home import default_home
from clients.sdk.session import Session

F = TypeVar("F", bound=Callable[..., Any])


def signed_in() -> Session:
    """The session of this device; NotSignedIn if there is none."""
    return Session.open(default_home())


def json_option(command: F) -> F:
    """`--json`: one object on stdout and nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(command)


def moment(milliseconds: int) -> str:
    """A time as people of this device's time zone read it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
