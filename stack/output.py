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

_MAX_KEPT_LINES: Final = 12
_NAME_WIDTH: Final = 8
_COLOURS: Final = (36, 32, 35, 33, 34, 31)  # cyan, green, magenta, yellow, blue, red
_OWN_NAME: Final = "stack"


class Output:
    """Writes the output of all child processes, line by line, to one file for each child and to the terminal. The files
    of the previous run are kept as `{name}.log.1`.
    """

    def __init__(self, directory: Path, *, terminal: TextIO | None) -> None:
        """The output is written to files in `directory`, which is created, and to `terminal` unless that is None. Only
        the owner can read the files.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._directory = directory
        self._terminal = terminal
        self._coloured = terminal is not None and terminal.isatty() and "NO_COLOR" not in os.environ
        self._files: dict[str, IO[str]] = {}
        self._tails: dict[str, deque[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def say(self, text: str) -> None:
        """Write a line of the stack itself, not of a child, in the same way as `line` does."""
        self.line(_OWN_NAME, text)

    def line(self, name: str, text: str) -> None:
        """Print one line of the child `name`, without its end; control characters are escaped."""
        text = harmless(text)
        self._tail(name).append(text)
        with contextlib.suppress(OSError):  # a full disk or a closed terminal must not stop the stack
            file = self._file(name)
            file.write(f"{text}\n")
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

    def _file(self, name: str) -> IO[str]:
        if name not in self._files:
            path = self._directory / f"{name}.log"
            if path.exists():
                path.replace(path.with_name(f"{name}.log.1"))
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._files[name] = os.fdopen(descriptor, "w", encoding="utf-8", errors="replace")
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
