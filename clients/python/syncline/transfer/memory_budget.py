"""A budget for bytes in memory, shared by the threads that allocate and release them."""

from __future__ import annotations

import threading

from syncline.transfer.pipeline import GivenUp


class Budget:
    """Reserves up to `limit` bytes of memory for the threads of one transfer. A single request for more than `limit`
    bytes waits until nothing else is reserved, and is then granted.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Wait until `size` bytes are free, and reserve them. Raise GivenUp if the budget is closed."""
        with self._changed:
            while not self._closed and self._used and self._used + size > self._limit:
                self._changed.wait()
            if self._closed:
                raise GivenUp
            self._used += size

    def give_back(self, size: int) -> None:
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Make all waiting and future calls of `take` raise GivenUp."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
