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
"""Maximum number of calls of one network per second that limits refuse without a delay of the answer."""
REFUSALS_AT_ONCE: Final = 256
MAX_PAUSE_SECONDS: Final = 5.0
"""Maximum seconds by which one answer is delayed, however many calls of its network were refused."""
MAX_DELAYED_REFUSALS: Final = 512
"""Maximum number of answers of one process that are delayed at the same time. For a further refused call, a service
answers at once and, where no balancer is in front, does not read the connection for the time of the delay. The gateway
closes the connection without an answer; a trusted proxy gets the answer at once, and its connection is closed then.
"""


class RefusalRate:
    """Counts the calls that limits refuse by network, and computes for how long to delay their answers. For one event
    loop (not thread-safe).
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._rates = Rates({Work.ANONYMOUS: Rate(REFUSALS_PER_SECOND, burst=REFUSALS_AT_ONCE)}, clock=clock)

    def pause(self, network: str) -> float:
        """Count a refused call of `network`, and return the seconds by which its answer has to be delayed. They are 0
        while the network has at most REFUSALS_PER_SECOND refused calls, or a burst of REFUSALS_AT_ONCE, and at most
        MAX_PAUSE_SECONDS. At that maximum, the call is not counted.
        """
        late = self._rates.owe(Work.ANONYMOUS, network, 1, most_seconds=MAX_PAUSE_SECONDS)
        return min(late, MAX_PAUSE_SECONDS)


class DelayedRefusals:
    """Delays the answers to calls that a limit has refused, while their network has more than REFUSALS_PER_SECOND such
    calls. For one event loop (not thread-safe).
    """

    def __init__(self, rate: RefusalRate, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """`rate` counts the refused calls of each network, and `sleep` waits for a number of seconds."""
        self._rate = rate
        self._sleep = sleep
        self._delayed = Pool("delayed_refusals", MAX_DELAYED_REFUSALS, counted=True)

    async def delay(self, share: Share) -> float:
        """Count a refused call of `share`, wait until it may be answered, and return 0.

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
