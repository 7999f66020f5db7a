"""The time that S3 goes by, for whoever signs requests on a machine whose clock may be wrong."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Final

TOLERANCE_SECONDS: Final = 60.0
"""A clock that is off by less is right enough."""


class ServerClock:
    """The time as S3 has it: that of the system, corrected by what S3 was heard to say."""

    def __init__(self) -> None:
        self._offset = 0.0

    @property
    def is_corrected(self) -> bool:
        """True if the system's clock was found wrong."""
        return self._offset != 0.0

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self._offset

    def hear(self, date: str) -> bool:
        """Go by the `Date` header of an answer; False if that says no time."""
        try:
            offset = parsedate_to_datetime(date).timestamp() - time.time()
        except ValueError:
            return False
        self._offset = offset if abs(offset) > TOLERANCE_SECONDS else 0.0
        return True
