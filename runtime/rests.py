"""Rests of networks whose work has occupied the event loop: their next request or call begins some time later.

Turns alone are not fair by time. If a network's requests take ten milliseconds of the event loop each, and one of them
begins whenever it is its turn, each step of everybody else's requests waits for ten milliseconds.
"""

from __future__ import annotations

import time
import types
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")

REST_STEP_SECONDS: Final = 0.00025
"""Seconds of work on the event loop for which a network rests one iteration."""
REST_FACTOR: Final = 2
"""Maximum duration of a rest, as a multiple of that of the work before it."""
MAX_REST_SECONDS: Final = 0.05
"""Maximum number of seconds for which a network rests at a time."""
ALONE_SECONDS: Final = 0.05
"""Seconds without work of any other network after which a network does not rest."""
_MAX_REMEMBERED_NETWORKS: Final = 1_000


@dataclass(slots=True)
class _Rest:
    """The rest of a network, which began in an iteration and at a time, for the work that it has done since."""

    iteration: int
    began_at: float
    work_seconds: float = 0.0

    def is_over(self, now: float, iteration: int | None) -> bool:
        """Return True if the rest has ended at the time `now`, or in this iteration; None for no such end."""
        if now - self.began_at >= min(REST_FACTOR * self.work_seconds, MAX_REST_SECONDS):
            return True
        return iteration is not None and iteration - self.iteration >= self.work_seconds / REST_STEP_SECONDS


class Rests:
    """The rests of networks on one event loop. Not thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, *, by_time: bool = False) -> None:
        """`clock` returns seconds. With `by_time`, rests do not end after a number of iterations."""
        self._clock = clock
        self._by_time = by_time
        self._iteration = 0
        self._worked_at: OrderedDict[str, float] = OrderedDict()
        """The time of the last work of each network, the latest one at the end."""
        self._rests: dict[str, _Rest] = {}

    async def charged(self, network: str, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` and return its result. The network rests for the time that its steps take on the event loop."""
        return await _measured(work, partial(self.work, network))

    def work(self, network: str, seconds: float) -> None:
        """Let `network` rest for work that has just taken `seconds` on the event loop."""
        now = self._clock()
        rest = self._rests.get(network)
        if rest is None:
            rest = self._rests[network] = _Rest(self._iteration, now)
        rest.work_seconds += seconds
        self._worked_at[network] = now
        self._worked_at.move_to_end(network)
        if len(self._worked_at) > _MAX_REMEMBERED_NETWORKS:
            forgotten, _ = self._worked_at.popitem(last=False)
            self._rests.pop(forgotten, None)

    def has_rested(self, network: str) -> bool:
        """Return True if a request of `network` may begin: its rest has ended, or no other network has worked for
        ALONE_SECONDS.
        """
        rest, now = self._rests.get(network), self._clock()
        if rest is None:
            return True
        is_over = rest.is_over(now, None if self._by_time else self._iteration)
        if not is_over and not self._is_alone(network, now):
            return False
        del self._rests[network]
        return True

    def _is_alone(self, network: str, now: float) -> bool:
        latest = next((one for one in reversed(self._worked_at) if one != network), None)
        return latest is None or now - self._worked_at[latest] > ALONE_SECONDS

    def count_iteration(self) -> None:
        """Count one iteration of the event loop, of which each rest has a number."""
        self._iteration += 1

    def end_all(self) -> None:
        """End all rests, because the event loop is idle."""
        self._rests.clear()


@types.coroutine
def _measured(work: Coroutine[Any, Any, T], spend: Callable[[float], None]) -> Generator[Any, Any, T]:
    """Run the steps of `work` as `await work` would, and call `spend` with the seconds that each step takes."""
    step: Callable[[], Any] = partial(work.send, None)
    while True:
        began = time.perf_counter()
        try:
            awaited = step()
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            spend(time.perf_counter() - began)
        try:
            sent = yield awaited
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # a cancellation, too, is raised within `work`
            step = partial(work.throw, error)
        else:
            step = partial(work.send, sent)
