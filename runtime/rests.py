"""Rests of networks whose work has occupied the event loop: their next request or call begins some time later.

Turns alone are not fair by time. If a network's requests take ten milliseconds of the event loop each, and one of them
begins whenever it is its turn, each step of everybody else's requests waits for ten milliseconds.
"""

from __future__ import annotations

import time
import types
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Generator
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


class Rests:
    """The rests of networks on one event loop. Not thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._iteration = 0
        self._worked_at: OrderedDict[str, float] = OrderedDict()
        """The time of the last work of each network, the latest one at the end."""
        self._ends: dict[str, tuple[int, float]] = {}
        """The end of the rest of each network: an iteration, and a time at which it ends if fewer have passed."""

    async def charged(self, network: str, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` and return its result. The network rests for the time that its steps take on the event loop."""
        return await _measured(work, partial(self.work, network))

    def work(self, network: str, seconds: float) -> None:
        """Let `network` rest for work that has just taken `seconds` on the event loop."""
        now = self._clock()
        iteration, until = self._ends.get(network, (0, 0.0))
        iteration = max(iteration, self._iteration) + int(seconds / REST_STEP_SECONDS)
        self._ends[network] = iteration, min(max(until, now) + REST_FACTOR * seconds, now + MAX_REST_SECONDS)
        self._worked_at[network] = now
        self._worked_at.move_to_end(network)
        if len(self._worked_at) > _MAX_REMEMBERED_NETWORKS:
            forgotten, _ = self._worked_at.popitem(last=False)
            self._ends.pop(forgotten, None)

    def has_rested(self, network: str) -> bool:
        """Return True if a request of `network` may begin: its rest has ended, or no other network has worked for
        ALONE_SECONDS.
        """
        iteration, until = self._ends.get(network, (0, 0.0))
        now = self._clock()
        return iteration <= self._iteration or until <= now or self._is_alone(network, now)

    def _is_alone(self, network: str, now: float) -> bool:
        latest = next((one for one in reversed(self._worked_at) if one != network), None)
        return latest is None or now - self._worked_at[latest] > ALONE_SECONDS

    def count_iteration(self) -> None:
        """Count one iteration of the event loop, of which each rest has a number."""
        self._iteration += 1

    def end_all(self) -> None:
        """End all rests, because the event loop is idle."""
        self._ends.clear()


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
