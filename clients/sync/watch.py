"""Knowing when to sync again: changes in the folder, doorbells of the space, and now and then in any case."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import watchfiles

from clients.sync.files import PRIVATE
from core.errors import SynclineError

SETTLE_MS = 400
"""How long a folder must have been quiet."""
FULL_SCAN_SECONDS = 300.0
"""How often to look without having been told, since a notification can be lost."""


class Alarm:
    """Set by whoever notices that there may be something to do. `failure` says why listening is pointless."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._stopped = threading.Event()
        self.failure: SynclineError | None = None

    def ring(self) -> None:
        self._event.set()

    def fail(self, error: SynclineError) -> None:
        self.failure = error
        self._event.set()

    def stop(self) -> None:
        self._stopped.set()
        self._event.set()

    @property
    def stopped(self) -> threading.Event:
        return self._stopped

    def wait(self, seconds: float) -> bool:
        """Wait to be rung; False once stopped. Raises `failure`."""
        self._event.wait(seconds)
        self._event.clear()
        if self.failure is not None:
            raise self.failure
        return not self._stopped.is_set()


def watch(root: Path, doorbells: Callable[[], Iterable[object]]) -> Iterator[None]:
    """Yield whenever a sync may have something to do, at once for the first time.

    `doorbells` listens to the space: each item means that it may have moved on. Raises what makes listening to it
    pointless. Ends when it is closed.
    """
    alarm = Alarm()
    for work in (lambda: _listen(alarm, doorbells), lambda: _look(alarm, root)):
        threading.Thread(target=work, name="watch", daemon=True).start()
    try:
        yield
        while alarm.wait(FULL_SCAN_SECONDS):
            yield
    finally:
        alarm.stop()


def _listen(alarm: Alarm, doorbells: Callable[[], Iterable[object]]) -> None:
    try:
        for _ in doorbells():
            if alarm.stopped.is_set():
                return
            alarm.ring()
    except SynclineError as error:
        alarm.fail(error)


def _look(alarm: Alarm, root: Path) -> None:
    private = f"{root / PRIVATE}/"

    def counts(change: watchfiles.Change, path: str) -> bool:  # noqa: ARG001 - the filter's signature
        return not path.startswith(private)

    for _ in watchfiles.watch(
        root, watch_filter=counts, debounce=SETTLE_MS * 4, step=SETTLE_MS, stop_event=alarm.stopped
    ):
        alarm.ring()
