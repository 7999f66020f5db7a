"""A bandwidth limit for all threads of a transfer together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

MIN_BYTES_PER_SECOND: Final = 1024
MAX_BYTES_PER_SECOND: Final = 1 << 40
LIMITED_WORKERS: Final = 2
"""Maximum number of concurrent requests of a transfer with a bandwidth limit. More requests would only wait for each
other, and time out before they are complete.
"""


class Limit:
    """Limits the bandwidth of a transfer: makes threads wait so that at most `rate` bytes per second pass, averaged
    from the first byte on. Usable from any thread.

    The limit is a token bucket that may be overdrawn: a caller waits until the time for the bytes of earlier callers
    has passed. Unused capacity of idle times is not accumulated.
    """

    def __init__(
        self,
        rate: int,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not MIN_BYTES_PER_SECOND <= rate <= MAX_BYTES_PER_SECOND:
            raise ValueError(f"a rate is {MIN_BYTES_PER_SECOND} to {MAX_BYTES_PER_SECOND} bytes a second")
        self.rate = rate
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_at = now()

    def take(self, size: int) -> None:
        """Account for `size` more bytes, and block until the bandwidth permits them after the bytes of all earlier
        calls.
        """
        with self._lock:
            now = self._now()
            start = max(now, self._paid_at)
            self._paid_at = start + size / self.rate
        if start > now:
            self._sleep(start - now)
