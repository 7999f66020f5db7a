"""Signals that end a command from outside: Ctrl-C, SIGTERM, or the loss of its terminal.

Each of these signals raises a KeyboardInterrupt in the main thread, so that open resources are closed and temporary
files removed, and ends the process with 128 plus the number of the signal, as in a shell. A `sync --watch` ends with 0,
because a signal is its usual end.

The module is imported before all others, and therefore imports no slow module.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REMINDER_SECONDS = 0.1
"""Seconds after which a signal that Python has not handled yet is sent to the main thread again."""
PATIENCE_SECONDS = 10.0
"""Seconds after a signal at which the process exits even if the command has not ended."""

_received: list[int] = []


def install_handlers() -> None:
    """Install handlers for SIGNALS, which end a command. The first signal raises KeyboardInterrupt in the main thread,
    and the process exits after PATIENCE_SECONDS at the latest; later signals do nothing. A signal that the process
    ignores now, such as SIGHUP under nohup, stays ignored. To be called in the main thread.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_remind, args=(reader,), name="signals", daemon=True).start()


def _remind(reader: int) -> None:
    """Send a signal to the main thread again until its handler has run. `reader` is a file descriptor from which the
    numbers of signals are read as they arrive.

    Python runs a handler between two steps of the main thread. A signal that arrives just before such a step waits for
    a lock is handled only after the wait, which may be long. A further signal interrupts the wait.
    """
    main = threading.main_thread().ident
    while not _received:
        (number,) = os.read(reader, 1)
        time.sleep(REMINDER_SECONDS)
        if number in SIGNALS and not _received and main is not None:
            signal.pthread_kill(main, number)


def received() -> bool:
    """Return True if a signal that ends the command was received.

    From then on any error may be a result of the signal: foreign code, above all an import, may convert a
    KeyboardInterrupt to another error.
    """
    return bool(_received)


def status() -> int:
    """Return the exit status of a command that a signal has interrupted: 128 plus the number of the first such signal.
    If none was recorded, the number is that of SIGINT.
    """
    return 128 + (_received[0] if _received else signal.SIGINT)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
    if _received:  # the clean-up after the first signal is not interrupted
        return
    _received.append(number)
    timer = threading.Timer(PATIENCE_SECONDS, os._exit, (status(),))
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt
