"""The retry policy: the number of attempts and the pauses between them.

This module is the only place with such numbers for S3, DynamoDB and mail. It does not decide which faults are
transient: the caller knows that. Decision 56 gives the reasons for not using a library.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential back-off: each pause is `factor` times as long as the preceding pause, up to a maximum."""

    first_pause_seconds: float
    max_pause_seconds: float
    factor: float = 2.0
    max_attempts: int = 1
    """Maximum number of attempts, including the first one, for `pauses`; `pause_seconds` has no such limit."""
    jitter: float = 0.5
    """The random share of a pause, from 0 to 1, which keeps callers that failed together from retrying together."""

    def pause_seconds(self, failures: int) -> float:
        """Return the pause in seconds after `failures` consecutive failures (from 1 on), without jitter."""
        try:
            return min(self.first_pause_seconds * self.factor ** max(failures - 1, 0), self.max_pause_seconds)
        except OverflowError:
            return self.max_pause_seconds

    def pauses(self) -> Iterator[float]:
        """Yield once for each attempt: the seconds to wait if that attempt fails, with jitter; 0 for the last attempt.

        The caller must make an attempt for each value, and leave the loop when an attempt succeeds. The loop ends by
        itself when no attempt is left.
        """
        for failures in range(1, self.max_attempts):
            spread = 1 - self.jitter * random.random()  # noqa: S311 - spreads load, guards nothing
            yield self.pause_seconds(failures) * spread
        yield 0.0
