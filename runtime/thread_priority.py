"""The scheduling priority of threads that compute for long without the interpreter's lock."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Final

from runtime.logs import structlog

NICENESS: Final = 10
"""Niceness of a thread with lowered priority, above that of its process. On a busy machine, Linux gives such a thread a
tenth of the time of a normal thread of the same cgroup; on an idle one it loses nothing.
"""

log = structlog.get_logger()


def lower_priority(*, set_priority: Callable[[int, int, int], None] = os.setpriority) -> None:
    """Lower the priority of the calling thread for the rest of its life, so that other work comes first. Linux only;
    elsewhere nothing is done. If the system refuses, as a sandbox may, the reason is logged and the thread keeps its
    priority. `set_priority` has the arguments and errors of `os.setpriority`.

    Linux compares priorities only within one cgroup, and within one session where it groups processes by session
    (`kernel.sched_autogroup_enabled`). Other containers of the machine get their own share of the processor in any
    case, whatever the priority.

    A lower priority suits only a thread that holds the interpreter's lock for moments: if such a thread is interrupted
    while it holds the lock, all other threads of the process wait for it.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        try:
            # Linux takes a niceness above its maximum for the maximum.
            set_priority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
        except OSError as error:
            log.warning("priority not lowered", error=str(error))
