"""Progress on stderr, for people: only on a terminal, and only if it takes noticeably long."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class CommandProgress(Protocol):
    """Receives the progress of a command. Usable from any thread."""

    def expect(self, activity: str, *, files: int, size: int) -> None:
        """Report the start of an activity, with its total numbers of files and bytes."""

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """Report that `files` more files and `size` more bytes are done."""


class _Silent:
    def expect(self, activity: str, *, files: int, size: int) -> None:
        pass

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        pass


class _Bar:
    """One line: the activity, a bar of bytes, files. Drawn a few times a second, however often progress is reported."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._lock = threading.Lock()
        self._task: Any = None
        self._files = 0

    def expect(self, activity: str, *, files: int, size: int) -> None:
        with self._lock:
            if self._task is not None:
                self._display.remove_task(self._task)
            self._files = 0
            self._task = self._display.add_task(activity, total=size, files=0, of=files)

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        with self._lock:
            if self._task is not None:
                self._files += files
                self._display.update(self._task, advance=size, files=self._files)


@contextmanager
def progress() -> Iterator[CommandProgress]:
    """Context with the receiver of the progress of a command, which is shown on stderr until the body of the `with`
    statement ends. Nothing is shown if stderr is no terminal.
    """
    if not sys.stderr.isatty():
        yield _Silent()
        return
    from rich import progress as shown  # noqa: PLC0415 - takes its time to import
    from rich.console import Console  # noqa: PLC0415 - as above

    with shown.Progress(
        shown.TextColumn("{task.description}"),
        shown.BarColumn(),
        shown.DownloadColumn(binary_units=True),
        shown.TextColumn("{task.fields[files]}/{task.fields[of]} files"),
        shown.TransferSpeedColumn(),
        shown.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=5,
    ) as display:
        yield _Bar(display)
