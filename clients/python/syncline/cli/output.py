"""The part that commands have in common: the signed-in session, and the output of results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from syncline.cli.terminal import complain
from syncline.model.errors import SynclineError
from syncline.sdk.home import default_home
from syncline.sdk.session import Session

F = TypeVar("F", bound=Callable[..., Any])


_NOTICED_SECONDS: Final = 1.0
"""A wait of which people wonder why nothing happens."""
_AGAIN_SECONDS: Final = 30.0


def signed_in() -> Session:
    """The session of this device, which says why it waits. Raise NotSignedIn if there is none."""
    session = Session.open(default_home())
    session.on_wait = _Waits().tell
    return session


class _Waits:
    """Says on stderr that the service asks to wait: once it is noticed, and now and then while it lasts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waited = 0.0
        self._silent_until = 0.0

    def tell(self, error: SynclineError, seconds: float) -> None:
        with self._lock:
            self._waited += seconds
            now = time.monotonic()
            if self._waited < _NOTICED_SECONDS or now < self._silent_until:
                return
            self._silent_until = now + _AGAIN_SECONDS
        complain(f"going on more slowly, as the service asks: {error}")


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
