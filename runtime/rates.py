"""Rate limits of this process: the number of calls per second that one person, or one public link, may make of each
kind of work.

A rate is a number of calls per second, and a burst that an idle caller may use at once. A call above the rate is
refused, with the time after which it will be admitted, or waits (runtime/rpc/pacing.py).

Some calls cost more than their size suggests. `charge` adds the difference afterwards: it refuses nothing, but the
caller's next call is refused, or waits, until that many calls would have been admitted.

The generic cell rate algorithm (ITU-T I.371), a form of the token bucket, decides: the only state per caller is the
time at which the burst will be full again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import prometheus_client

from runtime.permissions import Work
from syncline.model.errors import RETRY_AFTER, RateExceeded

BYTES_PER_CALL: Final = 16_384
"""Size in bytes of the part of a request that costs as much as one call: some 100 changes, 500 digests, or 150 paths.
"""
_FEW: Final = 4096
"""Number of remembered callers up to which `Rates` also keeps callers whose burst is full again, about whom nothing has
to be remembered.
"""
_ROUNDING: Final = 1e-6
"""Tolerance in seconds for rounding, so that a caller who waited as told is not refused again."""

_charging: ContextVar[Callable[[float], None] | None] = ContextVar("charging", default=None)
"""The function that charges a number of additional calls to the account of the current call; None if the caller has no
rate limit.
"""

REFUSED: Final = prometheus_client.Counter(
    "syncline_rate_refused", "Calls that were refused by a rate limit of their caller.", ["work"]
)


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit of `per_second` calls per second on average, with bursts of up to `burst` calls."""

    per_second: float
    burst: float


class Rates:
    """Counts calls by kind of work and by caller, and says which exceed a rate. For one event loop (not
    thread-safe).
    """

    def __init__(self, rates: Mapping[Work, Rate], *, clock: Callable[[], float] = time.monotonic) -> None:
        """`rates` has the rate of each kind of work; work without a rate is not limited. `clock` returns seconds."""
        self._rates = rates
        self._clock = clock
        self._whole_at: dict[tuple[Work, str], float] = {}
        """The clock's time, in seconds, at which the burst is full again, by kind of work and caller. A caller who is
        missing has a full burst.
        """
        self._next_look = _FEW

    def __len__(self) -> int:
        """Return the number of remembered callers, counted once for each kind of work."""
        return len(self._whole_at)

    def admit(self, work: Work, caller: str, calls: float = 1) -> None:
        """Count `calls` calls of `caller` if they are within the rate of `work`. Otherwise count nothing, and raise
        RateExceeded with the seconds after which the calls will be admitted. More calls than the burst has are admitted
        when the burst is full.
        """
        self.check(work, caller, calls)
        self.charge(work, caller, calls)

    def check(self, work: Work, caller: str, calls: float = 1) -> None:
        """Raise RateExceeded if `admit` would raise it now for `calls` calls. Nothing is counted."""
        seconds = self._late(work, caller, calls)
        if seconds > 0:
            raise self.refused(work, seconds)

    def owe(self, work: Work, caller: str, calls: float, *, most_seconds: float = math.inf) -> float:
        """Count `calls` calls of a caller even above the rate, and return the seconds after which `admit` would have
        admitted them; 0 within the rate. If these are `most_seconds` or more, count nothing, so that the excess is
        bounded.
        """
        late = self._late(work, caller, calls)
        if late < most_seconds:
            self.charge(work, caller, calls)
        return late

    async def take(self, work: Work, caller: str, calls: float = 1) -> None:
        """Count `calls` calls of a caller, after waiting until `admit` would have admitted them. If the wait is
        cancelled, they are not counted.

        A caller who is above the rate by more than a burst waits before the calls are counted, so that the excess is
        bounded.
        """
        rate = self._rates[work]
        most = rate.burst / rate.per_second
        while (early := self._late(work, caller, calls) - most) > _ROUNDING:  # noqa: ASYNC110 # waits for time alone
            await asyncio.sleep(early)
        seconds = self._late(work, caller, calls)
        self.charge(work, caller, calls)
        if seconds > 0:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                if (work, caller) in self._whole_at:
                    self._whole_at[work, caller] -= calls / rate.per_second
                raise

    def _late(self, work: Work, caller: str, calls: float) -> float:
        """Return the seconds after which `calls` calls of a caller will be within the rate; 0 if they are within the
        rate now.
        """
        rate = self._rates[work]
        ahead = max(0.0, self._whole_at.get((work, caller), 0.0) - self._clock())
        late = ahead + (calls - max(rate.burst, calls)) / rate.per_second
        return late if late > _ROUNDING else 0

    def charge(self, work: Work, caller: str, calls: float) -> None:
        """Count `calls` calls of a caller for the rate of `work`, even above the rate, without refusing or waiting."""
        now = self._clock()
        whole_at = max(now, self._whole_at.get((work, caller), now))
        self._whole_at[work, caller] = whole_at + calls / self._rates[work].per_second
        if len(self._whole_at) > self._next_look:
            self._whole_at = {key: at for key, at in self._whole_at.items() if at > now}
            self._next_look = max(_FEW, 2 * len(self._whole_at))

    def refused(self, work: Work, seconds: float, text: str = "") -> RateExceeded:
        """Return the RateExceeded for calls that will be admitted after `seconds`, and count the refusal in the metric.
        `text` tells people the reason; an empty one stands for a default text with the seconds.
        """
        REFUSED.labels(work.name.lower()).inc()
        whole = max(1, math.ceil(seconds))
        text = text or f"you make these requests faster than one person may; try again in {whole} s"
        return RateExceeded(text, work=work.name.lower(), **{RETRY_AFTER: f"{seconds:.3f}"})


def bind_charging(count: Callable[[float], None]) -> None:
    """Set the function with which `charge` counts additional calls, until the call that is being handled ends."""
    _charging.set(count)


def charge(calls: float) -> None:
    """Count `calls` additional calls for the caller of the call that is being handled. Do nothing if the caller has no
    rate limit.
    """
    count = _charging.get()
    if count is not None and calls > 0:
        count(calls)
