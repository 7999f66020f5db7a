"""Syncing for as long as the user wishes: at each sign of a change, and again after whatever went wrong.

A watch ends when it is stopped, or when there is nothing left to sync: the account, the device, the access to the space
or the link of the folder is gone for good. Everything else is said once and tried again.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol, TypeVar

from syncline.model.errors import DeviceRevoked, NoSuchSpace, RefreshTokenReused, SynclineError
from syncline.sdk.errors import NotSignedIn
from syncline.sync.errors import FolderNotLinked, NotExcluded
from syncline.sync.filesystem_events import Lookout
from syncline.sync.report import Report
from syncline.sync.trees import Problem

T = TypeVar("T")

LOOK_SECONDS: Final = 300.0
"""Seconds between syncs that no sign has asked for, since a sign can be lost."""
DEAF_SECONDS: Final = 60.0
"""Seconds between syncs while the service cannot tell us of changes."""
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
"""Maximum pause after a failed sync, in seconds; the pause doubles each time. If only some items were not synced, the
maximum is `LOOK_SECONDS`.
"""
LEAST_PAUSE_SECONDS: Final = 2.0
"""A change may cut a pause short, but not below this."""
_WORK_SHARE: Final = 5
"""A pause is at least so many times as long as what went wrong took."""

FINAL: Final = (NotSignedIn, DeviceRevoked, RefreshTokenReused, NoSuchSpace, FolderNotLinked, NotExcluded)
"""No later sync would fare better: there is nothing left to be synced, or what was asked for is a mistake."""


class DoorbellSource(Protocol):
    """Tells that the space has moved on."""

    def __iter__(self) -> Iterator[object]:
        """An item for each time. Ends when it is closed."""

    @property
    def trouble(self) -> SynclineError | None:
        """The reason that nothing is told at the moment; None while everything is."""


class Teller(Protocol):
    """Says things to the user."""

    def tell(self, report: Report) -> None:
        """Tell what a sync did, without what was told of the sync before."""

    def remark(self, text: str) -> None:
        """Tell of a trouble that keeps syncs from working."""


class Alarm:
    """Set by whoever notices that there may be something to do."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        self._event.set()

    def wait(self, *, least: float = 0.0, most: float) -> None:
        """Wait until it is rung, between these seconds; what rang before counts."""
        if least:
            time.sleep(least)
        self._event.wait(max(most - least, 0.0))
        self._event.clear()


class WatchPatience:
    """The pause after a trouble, and the texts that have been told of it."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE_SECONDS
        self._said: frozenset[str] = frozenset()

    def news(self, texts: Iterable[str]) -> set[str]:
        """Return those of the texts that were not among the last ones, and remember only the new ones."""
        now = frozenset(texts)
        new = now - self._said
        self._said = now
        return set(new)

    @property
    def is_over(self) -> bool:
        """True if there was no trouble the last time."""
        return not self._said

    def pause(self, *, longest: float, took: float = 0.0) -> float:
        """Seconds to wait, more each time until `relax`."""
        pause = max(self._pause * random.uniform(0.7, 1.0), _WORK_SHARE * took)  # noqa: S311 - no secret
        self._pause = min(2 * self._pause, longest)
        return min(pause, LOOK_SECONDS)

    def relax(self) -> None:
        self._pause = FIRST_PAUSE_SECONDS


def patiently(begin: Callable[[], T], teller: Teller, *, passing: Callable[[Exception], bool]) -> T:
    """Return the result of `begin`, which is called again for as long as it raises an error that `passing` accepts."""
    patience = WatchPatience()
    while True:
        try:
            return begin()
        except Exception as error:  # the caller says which
            if not passing(error):
                raise
            for text in patience.news([meaning(error)]):
                teller.remark(f"{text}; trying again")
            time.sleep(patience.pause(longest=LONGEST_PAUSE_SECONDS))


def keep_syncing(root: Path, sync: Callable[[], Report], doorbells: DoorbellSource, teller: Teller) -> None:
    """Sync at once, and whenever there may be something to do. Ends only by raising: what is in `FINAL`, and what is no
    Exception, such as an interruption.
    """
    alarm = Alarm()
    remarks = _Remarks(teller)
    stopped = threading.Event()
    threading.Thread(target=_listen, args=(alarm, doorbells, stopped), name="doorbells", daemon=True).start()
    patience = WatchPatience()
    first = True
    with Lookout(root, ring=alarm.ring, say=remarks.add) as lookout:
        try:
            while True:
                failure: str | None = None
                report = Report()
                try:
                    report = sync()
                except FINAL:
                    raise
                except Exception as error:
                    failure = meaning(error)
                troubles = [failure] if failure else [*map(_line, report.problems), report.waiting]
                was_over = patience.is_over
                new = patience.news(filter(None, troubles))
                if new or was_over != patience.is_over:
                    lookout.renew()  # A directory that could not be watched, or was away, may be there now.
                if failure:
                    if new:
                        teller.remark(f"{failure}; trying again")
                else:
                    _tell(teller, report, new, always=first or was_over != patience.is_over)
                    first = False
                remarks.hear(None if failure else doorbells.trouble)
                remarks.tell()
                if failure or report.problems:
                    longest = LONGEST_PAUSE_SECONDS if failure else LOOK_SECONDS
                    alarm.wait(least=LEAST_PAUSE_SECONDS, most=patience.pause(longest=longest, took=report.seconds))
                else:
                    patience.relax()
                    alarm.wait(most=LOOK_SECONDS if doorbells.trouble is None else DEAF_SECONDS)
        finally:
            stopped.set()


def meaning(error: Exception) -> str:
    """An error for people."""
    if isinstance(error, SynclineError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    return f"internal error ({type(error).__name__}: {error}); please report it"


def _line(problem: Problem) -> str:
    return f"{problem.path}: {problem.reason}"


def _tell(teller: Teller, report: Report, new: set[str], *, always: bool) -> None:
    """Tell what is new in a report, if anything is."""
    if report.waiting not in new:
        report.waiting = ""
    if always or new or report.notices or report.did_anything:
        report.problems = [problem for problem in report.problems if _line(problem) in new]
        teller.tell(report)


class _Remarks:
    """The remarks of other threads, and the doorbells. Each is told between syncs, once while it lasts."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self._deaf_since: float | None = None

    def add(self, text: str) -> None:
        with self._lock:
            self._waiting.append(text)

    def hear(self, trouble: SynclineError | None) -> None:
        """Remark that the space is not heard, if that lasts."""
        now = time.monotonic()
        if trouble is None:
            self._deaf_since = None
        elif self._deaf_since is None:
            self._deaf_since = now
        elif now - self._deaf_since > DEAF_SECONDS:
            self._deaf_since = math.inf  # said
            self.add(f"not told of what others change ({trouble}); looking every {DEAF_SECONDS:.0f} s meanwhile")

    def tell(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for text in waiting:
            self._teller.remark(text)


def _listen(alarm: Alarm, doorbells: DoorbellSource, stopped: threading.Event) -> None:
    """Ring for each doorbell. Whether one has to give up is found out by the sync that this rings for."""
    patience = WatchPatience()
    while not stopped.is_set():
        try:
            for _ in doorbells:
                if stopped.is_set():
                    return
                patience.relax()
                alarm.ring()
        except Exception:
            alarm.ring()
        if not stopped.is_set():
            stopped.wait(patience.pause(longest=LONGEST_PAUSE_SECONDS))
