"""A limit on how fast bytes travel, for all threads of a transfer together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

LEAST_RATE: Final = 1024
MOST_RATE: Final = 1 << 40
LIMITED_WORKERS: Final = 2
"""Requests at once where there is a limit: more would only wait for each other, and be given up half done."""


class Limit:
    """At most `rate` bytes a second, as an average since the first one. For any thread.

    A bucket that may be overdrawn: whoever takes from it waits until what was taken before has been paid for. What was
    not used while nobody had anything to send is not saved up.
    """

    def __init__(
        self,
        rate: int,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not LEAST_RATE <= rate <= MOST_RATE:
            raise ValueError(f"a rate is {LEAST_RATE} to {MOST_RATE} bytes a second")
        self.rate = rate
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_at = now()

    def take(self, size: int) -> None:
        """Return when `size` bytes may pass."""
        with self._lock:
            now = self._now()
            start = max(now, self._paid_at)
            self._paid_at = start + size / self.rate
        if start > now:
            self._sleep(start - now)
