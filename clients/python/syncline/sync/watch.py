"""Continuous syncing: a sync after each sign of a change, and retries after errors.

A watch ends when it is stopped, or when there is nothing left to sync: the account, the device, the access to the space
or the link of the folder is gone for good. Any other error is reported once and retried, also that the space is
deleted, for as long as it can be undeleted.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol, TypeVar

from syncline.model.errors import (
    AccountSuspended,
    DeviceRevoked,
    NoSuchSpace,
    RefreshTokenReused,
    SpaceDeleted,
    SynclineError,
)
from syncline.sdk.errors import NotSignedIn
from syncline.sync.errors import FolderNotLinked, NotExcluded
from syncline.sync.filesystem_events import Lookout
from syncline.sync.report import Report
from syncline.sync.trees import Problem

T = TypeVar("T")

LOOK_SECONDS: Final = 300.0
"""Seconds between two syncs if no change is noticed, because the notification of a change can be lost."""
DEAF_SECONDS: Final = 60.0
"""Seconds between two syncs while the service cannot notify this device of changes."""
FIRST_PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 60.0
"""Maximum pause after a failed sync, in seconds; the pause doubles each time. If only some items were not synced, the
maximum is `LOOK_SECONDS`.
"""
MIN_PAUSE_SECONDS: Final = 2.0
"""Minimum pause after an error, in seconds, even if a change is noticed in the meantime."""
_WORK_SHARE: Final = 5
"""Minimum pause after an error, as a multiple of the duration of the failed sync."""

FINAL: Final = (
    NotSignedIn,
    AccountSuspended,
    DeviceRevoked,
    RefreshTokenReused,
    NoSuchSpace,
    FolderNotLinked,
    NotExcluded,
)
"""Errors after which a watch ends, because no later sync can succeed: there is nothing left to sync, or the request is
a mistake. SpaceDeleted is none of them, although it is a NoSuchSpace: the space may be undeleted.
"""


class DoorbellSource(Protocol):
    """Notifies that the space has changed."""

    def __iter__(self) -> Iterator[object]:
        """Yield an item for each notification. The iterator ends when the source is closed."""

    @property
    def trouble(self) -> SynclineError | None:
        """The error that currently prevents notifications; None while they arrive."""


class Teller(Protocol):
    """Output for the user of a watch."""

    def tell(self, report: Report) -> None:
        """Report the results of a sync. Problems that were already reported after the preceding sync have been removed
        from `report`.
        """

    def remark(self, text: str) -> None:
        """Report an error that prevents syncs; `text` says in words for people what is wrong and what to do."""


class Alarm:
    """Event on which the watch waits, and which each source of possible changes (doorbells, filesystem events) sets."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        self._event.set()

    def wait(self, *, least: float = 0.0, most: float) -> None:
        """Wait until the alarm is set, at least `least` and at most `most` seconds, and reset it. An alarm that was set
        before the call ends the wait as well.
        """
        if least:
            time.sleep(least)
        self._event.wait(max(most - least, 0.0))
        self._event.clear()


class WatchPatience:
    """Determines the pause after an error, and keeps the texts that have been reported about errors, so that no text is
    reported twice.
    """

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE_SECONDS
        self._said: frozenset[str] = frozenset()

    def news(self, texts: Iterable[str]) -> set[str]:
        """Return those of `texts` that were not passed to the last call, and remember `texts` for the next call."""
        now = frozenset(texts)
        new = now - self._said
        self._said = now
        return set(new)

    @property
    def is_over(self) -> bool:
        """True if the trouble is over: the last attempt had no error to report, and so the last call of `news` had no
        text. Also true before the first call of `news`.
        """
        return not self._said

    def pause(self, *, longest: float, took: float = 0.0) -> float:
        """Return the seconds to wait after an error. The pauses double with each call, up to `longest` seconds, until
        `relax` is called. A pause is at least _WORK_SHARE times `took`, the seconds that the failed attempt took.
        """
        pause = max(self._pause * random.uniform(0.7, 1.0), _WORK_SHARE * took)  # noqa: S311 - no secret
        self._pause = min(2 * self._pause, longest)
        return min(pause, LOOK_SECONDS)

    def relax(self) -> None:
        self._pause = FIRST_PAUSE_SECONDS


def patiently(begin: Callable[[], T], teller: Teller, *, passing: Callable[[Exception], bool]) -> T:
    """Call `begin` until it succeeds, and return its result. An error for which `passing` returns True is taken to be
    temporary: `begin` is called again after a pause, which grows up to MAX_PAUSE_SECONDS. Such an error is reported to
    `teller` unless the attempt before had the same one. All other errors are raised.
    """
    patience = WatchPatience()
    while True:
        try:
            return begin()
        except Exception as error:  # `passing` decides which errors are retried
            if not passing(error):
                raise
            for text in patience.news([meaning(error)]):
                teller.remark(f"{text}; trying again")
            time.sleep(patience.pause(longest=MAX_PAUSE_SECONDS))


def keep_syncing(root: Path, sync: Callable[[], Report], doorbells: DoorbellSource, teller: Teller) -> None:
    """Sync the folder at `root` at once by `sync`, and again after each change in the folder and each doorbell. Never
    returns: it raises an error of a class in `FINAL`, or a BaseException that is no Exception, such as an interruption.
    Other errors are reported to `teller`, and the sync is tried again.
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
                except SpaceDeleted as error:
                    failure = meaning(error)
                except FINAL:
                    raise
                except Exception as error:
                    failure = meaning(error)
                troubles = [failure] if failure else [*map(_line, report.problems), report.waiting]
                was_over = patience.is_over
                new = patience.news(filter(None, troubles))
                if new or was_over != patience.is_over:
                    lookout.renew()  # A directory that could not be watched, or was unavailable, may be available now.
                if failure:
                    if new:
                        teller.remark(f"{failure}; trying again")
                else:
                    _tell(teller, report, new, always=first or was_over != patience.is_over)
                    first = False
                remarks.hear(None if failure else doorbells.trouble)
                remarks.tell()
                if failure or report.problems:
                    longest = MAX_PAUSE_SECONDS if failure else LOOK_SECONDS
                    alarm.wait(least=MIN_PAUSE_SECONDS, most=patience.pause(longest=longest, took=report.seconds))
                else:
                    patience.relax()
                    alarm.wait(most=LOOK_SECONDS if doorbells.trouble is None else DEAF_SECONDS)
        finally:
            stopped.set()


def meaning(error: Exception) -> str:
    """Return the text of an error for people."""
    if isinstance(error, SynclineError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    return f"internal error ({type(error).__name__}: {error}); please report it"


def _line(problem: Problem) -> str:
    return f"{problem.path}: {problem.reason}"


def _tell(teller: Teller, report: Report, new: set[str], *, always: bool) -> None:
    """Report the new texts of a report, if there are any."""
    if report.waiting not in new:
        report.waiting = ""
    if always or new or report.notices or report.did_anything:
        report.problems = [problem for problem in report.problems if _line(problem) in new]
        teller.tell(report)


class _Remarks:
    """Collects the errors that other threads report during a watch, and the state of notifications. Each text is shown
    to the user between two syncs.
    """

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self._deaf_since: float | None = None

    def add(self, text: str) -> None:
        with self._lock:
            self._waiting.append(text)

    def hear(self, trouble: SynclineError | None) -> None:
        """Record the state of notifications: `trouble` is the error that prevents them, or None. Report that
        notifications are unavailable if that lasts for more than DEAF_SECONDS.
        """
        now = time.monotonic()
        if trouble is None:
            self._deaf_since = None
        elif self._deaf_since is None:
            self._deaf_since = now
        elif now - self._deaf_since > DEAF_SECONDS:
            self._deaf_since = math.inf  # reported
            self.add(
                f"notifications of changes are unavailable ({trouble}); looking every {DEAF_SECONDS:.0f} s "
                "until they work"
            )

    def tell(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for text in waiting:
            self._teller.remark(text)


def _listen(alarm: Alarm, doorbells: DoorbellSource, stopped: threading.Event) -> None:
    """Set the alarm for each doorbell, until `stopped` is set. An error does not end the watch: the alarm is set, and
    the sync that follows raises an error in FINAL if the watch has to end.
    """
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
            stopped.wait(patience.pause(longest=MAX_PAUSE_SECONDS))
