"""Counts of the requests that a device has sent to the services and to storage."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests and bytes of content so far; a retried request counts each time."""

    grpc: int = 0
    s3_put: int = 0
    s3_get: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    waited_seconds: float = 0.0
    """The seconds that calls waited for limits of the service, summed over all threads."""


class RequestCounts:
    """Request counters, usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counts()

    def add(
        self,
        *,
        grpc: int = 0,
        s3_put: int = 0,
        s3_get: int = 0,
        bytes_up: int = 0,
        bytes_down: int = 0,
        waited_seconds: float = 0.0,
    ) -> None:
        with self._lock:
            now = self._counts
            self._counts = Counts(
                now.grpc + grpc,
                now.s3_put + s3_put,
                now.s3_get + s3_get,
                now.bytes_up + bytes_up,
                now.bytes_down + bytes_down,
                now.waited_seconds + waited_seconds,
            )

    def counts(self) -> Counts:
        """Return the present counts."""
        with self._lock:
            return self._counts
