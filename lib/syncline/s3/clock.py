"""S3's time, for signing requests on a machine whose clock may be wrong."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Final

TOLERANCE_SECONDS: Final = 60.0
"""Deviation of the system's clock, in seconds, below which no correction is needed."""


class ServerClock:
    """S3's time: the system's clock, corrected by the time in S3's answers."""

    def __init__(self) -> None:
        self._offset = 0.0

    @property
    def is_corrected(self) -> bool:
        """True if the system's clock was found wrong."""
        return self._offset != 0.0

    def now(self) -> float:
        """Return the present time of S3 in seconds since 1970."""
        return time.time() + self._offset

    def hear(self, date: str) -> bool:
        """Adjust the clock to `date`, the value of the `Date` header of an answer, and return True. Return False if it
        is no valid time; the clock is then unchanged.
        """
        try:
            offset = parsedate_to_datetime(date).timestamp() - time.time()
        except ValueError:
            return False
        self._offset = offset if abs(offset) > TOLERANCE_SECONDS else 0.0
        return True
