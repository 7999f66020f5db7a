"""A limit on the bytes in memory at once, for threads that fill and empty it."""

from __future__ import annotations

import threading

from syncline.transfer.run import GivenUp


class Budget:
    """Up to `limit` bytes. One who takes more than that alone gets it when nothing else is out."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Wait until `size` bytes are free, and take them. Raise GivenUp if that will not be."""
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
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
