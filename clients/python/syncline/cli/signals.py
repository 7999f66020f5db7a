"""Signals that end a command from outside: Ctrl-C, SIGTERM, or the loss of its terminal.

All of these signals raise a KeyboardInterrupt in the main thread, so that what is open is closed and what is temporary
removed, and end the process with 128 plus the number of the signal, as a shell has it. A `sync --watch` ends with 0,
since a signal is its usual end.

The module is imported before anything else, and therefore imports no module that takes its time.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_SECONDS = 10.0
"""Seconds after a signal at which the process ends, whatever has not come to its end."""

_received: list[int] = []


def install_handlers() -> None:
    """Handle the signals from now on. One that is ignored, as SIGHUP under nohup, goes on being ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def received() -> bool:
    """Return True if a signal was received.

    From then on any error may be a result of it: a KeyboardInterrupt in the midst of foreign code, of an import above
    all, may come out of that code as any other error.
    """
    return bool(_received)


def status() -> int:
    """The exit status of an interrupted command."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
    if _received:  # What the first one began is not to be interrupted.
        return
    _received.append(number)
    timer = threading.Timer(PATIENCE_SECONDS, os._exit, (status(),))
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt
