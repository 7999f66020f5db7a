"""Rate limit for calls that limits refuse.

A refusal costs a process nearly as much as a cheap call. A client that is refused, and asks again at once instead of
waiting as the refusal says, would therefore take more of the process by its refused calls than its limit grants. Once a
network exceeds a rate of refused calls, the answers to its refused calls are delayed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from runtime.permissions import Work
from runtime.pool import Pool, Share
from runtime.rates import Rate, Rates

REFUSALS_PER_SECOND: Final = 50.0
"""Maximum rate at which limits refuse calls of one network without a pause."""
REFUSALS_AT_ONCE: Final = 256
MAX_PAUSE_SECONDS: Final = 5.0
"""Maximum seconds of one pause, however far a network is above the rate."""
MAX_DELAYED_REFUSALS: Final = 512
"""Maximum number of answers of one process that are delayed at the same time. The connection of a further one is not
used for the time of the delay instead.
"""


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


class DelayedRefusals:
    """Delays the answers to refused calls while their network exceeds the rate. For one event loop (not
    thread-safe).
    """

    def __init__(self, rate: RefusalRate, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """`rate` counts the refused calls of each network, and `sleep` waits for a number of seconds."""
        self._rate = rate
        self._sleep = sleep
        self._delayed = Pool("delayed_refusals", MAX_DELAYED_REFUSALS, counted=True)

    async def delay(self, share: Share) -> float:
        """Count a refused call of `share`, and wait until it may be answered; then return 0.

        If MAX_DELAYED_REFUSALS answers are delayed already, or too many of this share, return at once the seconds by
        which the answer would have to be delayed. The caller of this method then has to keep the connection of the
        refused call from sending further calls for that time.
        """
        pause = self._rate.pause(share.network)
        if not pause:
            return 0.0
        if not self._delayed.try_take(1, share):
            return pause
        try:
            await self._sleep(pause)
        finally:
            self._delayed.give(1, share)
        return 0.0
