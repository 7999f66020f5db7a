"""Rate limit for calls that limits refuse.

A refusal costs a process nearly as much as a cheap call. A client that is refused, and asks again at once instead of
waiting as the refusal says, would therefore take more of the process by its refused calls than its limit grants. Once a
network exceeds a rate of refused calls, the answers to its refused calls are delayed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from runtime.permissions import Work
from runtime.rates import Rate, Rates

REFUSALS_PER_SECOND: Final = 50.0
"""Maximum rate at which limits refuse calls of one network without a pause."""
REFUSALS_AT_ONCE: Final = 256
MAX_PAUSE_SECONDS: Final = 5.0
"""Maximum seconds of one pause, however far a network is above the rate."""


class RefusalRate:
    """Counts refused calls by network, and says for how long to delay their answers. For one event loop (not
    thread-safe).
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._rates = Rates({Work.ANONYMOUS: Rate(REFUSALS_PER_SECOND, burst=REFUSALS_AT_ONCE)}, clock=clock)

    def pause(self, network: str) -> float:
        """Count a refused call of `network`, unless its answers are already delayed by the maximum. Return the seconds
        by which the answer has to be delayed; 0 within the rate.
        """
        late = self._rates.owe(Work.ANONYMOUS, network, 1, most_seconds=MAX_PAUSE_SECONDS)
        return min(late, MAX_PAUSE_SECONDS)
