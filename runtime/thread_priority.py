"""The scheduling priority of threads that compute for long without the interpreter's lock."""

from __future__ import annotations

import os
import sys
import threading
from typing import Final

NICENESS: Final = 10
"""Niceness of a thread with lowered priority, above that of its process. On a busy machine, Linux gives such a thread a
tenth of the time of a normal thread; on an idle one it loses nothing.
"""


def lower_priority() -> None:
    """Lower the priority of the calling thread for the rest of its life, so that other work on the machine comes first.
    Linux only; elsewhere nothing is done.

    It suits only a thread that holds the interpreter's lock for moments: if a thread with low priority is interrupted
    while it holds the lock, all other threads of the process wait for it.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # Linux takes a niceness above its maximum for the maximum.
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
