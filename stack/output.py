"""Output of the children: each line goes to the terminal, prefixed with the child's name, and to a file of that
name.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from pathlib import Path
from typing import IO, Final, Self, TextIO

from syncline.model.printable import harmless

MAX_LOG_BYTES: Final = 32 * 1024 * 1024
"""Maximum size of a log file, in bytes. Strangers cause lines, so that logs need a bound. A child has two files."""
_MAX_KEPT_LINES: Final = 12
_NAME_WIDTH: Final = 8
_COLOURS: Final = (36, 32, 35, 33, 34, 31)  # cyan, green, magenta, yellow, blue, red
_OWN_NAME: Final = "stack"


class Output:
    """Writes the output of all child processes, line by line, to one file for each child and to the terminal.

    The file `{name}.log` is renamed to `{name}.log.1`, in place of an earlier file of that name, when a line would make
    it larger than the maximum, and when it was left by an earlier run. The line is then the first one of a new
    `{name}.log`.
    """

    def __init__(self, directory: Path, *, terminal: TextIO | None, max_log_bytes: int = MAX_LOG_BYTES) -> None:
        """The output is written to files in `directory`, which is created, and to `terminal` unless that is None. Only
        the owner can read the files. A file has at most `max_log_bytes`, or a single longer line.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._directory = directory
        self._terminal = terminal
        self._max_log_bytes = max_log_bytes
        self._coloured = terminal is not None and terminal.isatty() and "NO_COLOR" not in os.environ
        self._files: dict[str, IO[bytes]] = {}
        self._tails: dict[str, deque[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def say(self, text: str) -> None:
        """Write a line of the stack itself, not of a child, to the stack's own file and to the terminal; control
        characters are escaped.
        """
        self.line(_OWN_NAME, text)

    def line(self, name: str, text: str) -> None:
        """Write one line of the child `name` to the child's file and to the terminal. `text` is the line without its
        end; control characters are escaped. A full disk or a closed terminal is ignored.
        """
        text = harmless(text)
        self._tail(name).append(text)
        data = f"{text}\n".encode(errors="replace")
        with contextlib.suppress(OSError):  # a full disk or a closed terminal must not stop the stack
            file = self._file(name, len(data))
            file.write(data)
            file.flush()
        if self._terminal is not None:
            with contextlib.suppress(OSError, ValueError):
                self._terminal.write(f"{self._prefix(name)} {text}\n")
                self._terminal.flush()

    def last_lines(self, name: str) -> list[str]:
        """Return the last few lines of the child `name`, oldest first."""
        return list(self._tail(name))

    def _tail(self, name: str) -> deque[str]:
        return self._tails.setdefault(name, deque(maxlen=_MAX_KEPT_LINES))

    def _file(self, name: str, more: int) -> IO[bytes]:
        """Return the file for the next `more` bytes of the child `name`."""
        if file := self._files.get(name):
            if os.fstat(file.fileno()).st_size + more <= self._max_log_bytes:
                return file
            del self._files[name]  # before anything that can fail, so that the next line tries again
            file.close()
        path = self._directory / f"{name}.log"
        if path.exists():
            path.replace(path.with_name(f"{name}.log.1"))
        # Appending, so that a file that another program has emptied continues at its beginning.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._files[name] = os.fdopen(descriptor, "wb")
        return self._files[name]

    def _prefix(self, name: str) -> str:
        label = f"{name:<{_NAME_WIDTH}} |"
        if not self._coloured:
            return label
        colour = _COLOURS[list(self._tails).index(name) % len(_COLOURS)]
        return f"\x1b[{colour}m{label}\x1b[0m"


def complain(text: str) -> None:
    """Print `text`, the reason that the stack ends, to stderr. `text` may contain paths and output of children, so it
    is escaped.
    """
    for line in text.split("\n"):
        sys.stderr.write(f"{harmless(line)}\n")
