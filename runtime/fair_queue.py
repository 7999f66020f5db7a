"""A fair queue of requests that wait for a turn, which is the permission to run once: a person with many waiting
requests gets no more turns than a person with one.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable


class FairQueue:
    """Futures that wait for a turn, each for a key (a network, for example) and a person. Turns go round the keys, and
    within each key round its people. Not thread-safe.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, OrderedDict[str, deque[asyncio.Future[None]]]] = OrderedDict()
        """The futures by key and by person of the key. Both mappings are in the order in which turns go round."""
        self._counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Return True if a future is waiting, which may have been cancelled."""
        return bool(self._waiting)

    def count(self, key: str) -> int:
        """Return the number of futures of `key`, including cancelled ones that no `take` has removed yet."""
        return self._counts.get(key, 0)

    def add(self, key: str, person: str) -> asyncio.Future[None]:
        """Return a new future, queued behind all other futures of `person`. Cancelling the future removes it from the
        queue.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, OrderedDict()).setdefault(person, deque()).append(future)
        self._counts[key] += 1
        return future

    def take(self, may: Callable[[str], bool] = lambda _key: True) -> tuple[str, asyncio.Future[None]] | None:
        """Remove the next future from the queue, and return it with its key; the caller sets its result. Only keys for
        which `may` returns True are considered. Return None if no future waits for such a key.

        The key and the person move to the end of their queues. Futures that are done, because their caller was
        cancelled, are skipped.
        """
        while (key := next(filter(may, self._waiting), None)) is not None:
            people = self._waiting.pop(key)
            person, queue = people.popitem(last=False)
            future = queue.popleft()
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
            if queue:
                people[person] = queue
            if people:
                self._waiting[key] = people
            if not future.done():
                return key, future
        return None
