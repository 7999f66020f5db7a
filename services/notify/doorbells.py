"""Doorbells: from the announcements that this instance hears to the watchers connected to it.

A watcher costs a few hundred bytes, however much happens: of each space only the latest sequence number waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.notify import metrics
from syncline.model.doorbell import Doorbell
from syncline.model.errors import Unavailable
from syncline.model.identifiers import SpaceId


class Watcher:
    """The doorbells that wait for one watcher; made by `Doorbells.watching`."""

    __slots__ = ("_ended", "_pending", "_waiter")

    def __init__(self) -> None:
        self._pending: dict[SpaceId, int] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False

    async def next(self) -> Doorbell:
        """The next doorbell, once there is one; Unavailable once announcements may have been missed."""
        while not self._pending and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._ended:
            raise Unavailable("changes may have gone unannounced; open the watch again, and pull")
        space = next(iter(self._pending))
        return Doorbell(space, self._pending.pop(space))

    def ring(self, space: SpaceId, seq: int) -> None:
        """The space is at `seq` now."""
        self._pending[space] = seq
        self._wake()

    def end(self) -> None:
        """The watch is to end."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(slots=True)
class _Watched:
    """A space that somebody watches."""

    seq: int = 0
    watchers: set[Watcher] = field(default_factory=set)


class Doorbells:
    """The watchers of this instance by space."""

    def __init__(self) -> None:
        self._watched: dict[SpaceId, _Watched] = {}
        self._watchers: set[Watcher] = set()

    @contextmanager
    def watching(self, spaces: Sequence[SpaceId]) -> Iterator[Watcher]:
        """A watcher who hears of everything that is announced in this block."""
        watcher = Watcher()
        self._watchers.add(watcher)
        metrics.WATCHES.inc()
        for space in spaces:
            self._watched.setdefault(space, _Watched()).watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            metrics.WATCHES.dec()
            for space in spaces:
                watched = self._watched[space]
                watched.watchers.discard(watcher)
                if not watched.watchers:
                    del self._watched[space]

    def ring(self, space: SpaceId, seq: int) -> None:
        """Tell the space's watchers, unless they have been told of this or a later sequence number."""
        watched = self._watched.get(space)
        if watched is None or seq <= watched.seq:
            return
        watched.seq = seq
        metrics.DOORBELLS.inc(len(watched.watchers))
        for watcher in watched.watchers:
            watcher.ring(space, seq)

    def interrupt(self) -> None:
        """End all watches: announcements may have been missed. Whoever comes again pulls what there is."""
        for watcher in self._watchers:
            watcher.end()
