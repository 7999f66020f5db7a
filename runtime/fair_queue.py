"""A queue for turns, in which many that wait for one person get no more turns than a single one of another."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable


class FairQueue:
    """Futures that wait for a turn. Turns go round the keys, and of one key round its members (not thread-safe)."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, OrderedDict[str, deque[asyncio.Future[None]]]] = OrderedDict()
        """The futures by key and by member. In both mappings the next to be served comes first."""

    def __bool__(self) -> bool:
        """True if something waits, which may have been given up."""
        return bool(self._waiting)

    def add(self, key: str, member: str) -> asyncio.Future[None]:
        """Return a future that waits behind all others of `member`; cancelling it gives the turn up."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, OrderedDict()).setdefault(member, deque()).append(future)
        return future

    def take(self, may: Callable[[str], bool] = lambda _key: True) -> tuple[str, asyncio.Future[None]] | None:
        """Take out who is served next of the keys that `may` be served, with its key; None if there is nobody.

        Key and member come last from then on. A future that is done, since its caller has given up, is left out.
        """
        while (key := next(filter(may, self._waiting), None)) is not None:
            members = self._waiting.pop(key)
            member, queue = members.popitem(last=False)
            future = queue.popleft()
            if queue:
                members[member] = queue
            if members:
                self._waiting[key] = members
            if not future.done():
                return key, future
        return None
