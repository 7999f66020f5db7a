"""Common functions of commands: the signed-in session, and the output of results."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from syncline.cli.terminal import complain
from syncline.model.errors import SynclineError
from syncline.sdk.account import Device
from syncline.sdk.home import default_home
from syncline.sdk.session import Session

F = TypeVar("F", bound=Callable[..., Any])


_NOTICED_SECONDS: Final = 1.0
"""Seconds of waiting after which people wonder why nothing happens."""
_AGAIN_SECONDS: Final = 30.0


def signed_in() -> Session:
    """Provide the session of this device; it prints the reason of its waits. Raise NotSignedIn if this device is not
    signed in.
    """
    session = Session.open(default_home())
    session.on_wait = _Waits().tell
    return session


class _Waits:
    """Prints to stderr that the service asks to wait: once the wait is noticeable, and periodically while it lasts."""

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
        complain(f"slowing down, as the service asks: {error}")


def json_option(command: F) -> F:
    """Return `command` with the option `--json`, with which the command prints exactly one JSON object to standard
    output.
    """
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(command)


def kind_of(device: Device) -> str:
    """Return the name of the kind of a device; empty if the service did not state a known kind."""
    return device.kind.name.lower() if device.kind else ""


def device_as_json(device: Device) -> dict[str, Any]:
    """Return a device in the form in which `--json` prints it."""
    return {**dataclasses.asdict(device), "kind": kind_of(device)}


def moment(milliseconds: int) -> str:
    """Return a time, in milliseconds since 1970, as text for people, in the time zone of this device. For a time that
    no calendar has, which the service may send, the text says that the time is unknown.
    """
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "at no known time"


def taken_of(taken: int, quota: int | None) -> str:
    """Return how much of a quota is taken, as text. Both are numbers of bytes; None stands for no quota."""
    return f"{size(taken)} of {size(quota)}" if quota is not None else f"{size(taken)} without a limit"


def size(count: float) -> str:
    """Return `count`, a number of bytes, as text with a binary unit: `512 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
