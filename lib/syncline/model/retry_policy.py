"""The retry policy: the number of attempts and the pauses between them, for what may succeed later.

This module is the one place that says so for S3, DynamoDB and mail. It decides nothing about which faults pass: whoever
makes the call knows that. Decision 56 tells why no library does this.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential back-off: each pause is `factor` times the one before it, up to a longest one."""

    first_pause_seconds: float
    max_pause_seconds: float
    factor: float = 2.0
    max_attempts: int = 1
    """The first attempt counts too. `pauses` goes by this number; `pause_seconds` has no end."""
    jitter: float = 0.5
    """The share of a pause, from 0 to 1, that is random, so that those who failed together do not return together."""

    def pause_seconds(self, failures: int) -> float:
        """Return the pause in seconds after so many failures in a row (from 1 on), without jitter."""
        try:
            return min(self.first_pause_seconds * self.factor ** max(failures - 1, 0), self.max_pause_seconds)
        except OverflowError:
            return self.max_pause_seconds

    def pauses(self) -> Iterator[float]:
        """Yield once for each attempt: the seconds to wait if that attempt fails, with jitter; 0 for the last attempt.

        The caller makes an attempt for each value and leaves the loop when an attempt succeeds. The loop ends by itself
        when no attempt is left.
        """
        for failures in range(1, self.max_attempts):
            spread = 1 - self.jitter * random.random()  # noqa: S311 - spreads load, guards nothing
            yield self.pause_seconds(failures) * spread
        yield 0.0
