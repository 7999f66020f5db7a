"""Doorbells: messages to connected clients ("watchers") that a space has a new sequence number, made from the
announcements that this process receives.

A watcher costs a few hundred bytes, however much happens: only the latest sequence number of each space is kept.
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
    """The doorbells of one client that the client has not read yet; created by `Doorbells.watching`."""

    __slots__ = ("_ended", "_pending", "_waiter")

    def __init__(self) -> None:
        self._pending: dict[SpaceId, int] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False

    async def next(self) -> Doorbell:
        """Wait for the next doorbell and return it. Raise Unavailable after announcements may have been missed."""
        while not self._pending and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._ended:
            raise Unavailable("announcements may have been missed; open the watch again, and pull the changes")
        space = next(iter(self._pending))
        return Doorbell(space, self._pending.pop(space))

    def ring(self, space: SpaceId, seq: int) -> None:
        """Record the doorbell that the head of the space is at sequence number `seq` now, for `next` to return."""
        self._pending[space] = seq
        self._wake()

    def end(self) -> None:
        """Make `next` raise Unavailable, because announcements may have been missed."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(slots=True)
class _Watched:
    """A space with at least one watcher."""

    seq: int = 0
    watchers: set[Watcher] = field(default_factory=set)


class Doorbells:
    """Passes announcements on to the clients that watch their spaces in this process."""

    def __init__(self) -> None:
        self._watched: dict[SpaceId, _Watched] = {}
        self._watchers: set[Watcher] = set()

    @contextmanager
    def watching(self, spaces: Sequence[SpaceId]) -> Iterator[Watcher]:
        """Context manager that yields a watcher, which receives every announcement of these spaces within the
        context.
        """
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
        """Notify the watchers of the space that its head is at `seq`, unless they were notified of this or a later
        sequence number.
        """
        watched = self._watched.get(space)
        if watched is None or seq <= watched.seq:
            return
        watched.seq = seq
        metrics.DOORBELLS.inc(len(watched.watchers))
        for watcher in watched.watchers:
            watcher.ring(space, seq)

    def interrupt(self) -> None:
        """End the calls of all watching clients, because announcements may have been missed. Clients that call again
        pull all changes.
        """
        for watcher in self._watchers:
            watcher.end()
