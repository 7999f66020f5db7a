"""The doorbells and heartbeats of a Watch call, for as long as the caller has the right to them."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

from runtime.rpc.pacing import STREAM_PAUSE_SECONDS
from services.notify import metrics
from services.notify.access import GrantCache
from services.notify.doorbells import Doorbells
from syncline.model.doorbell import Doorbell
from syncline.model.errors import RETRY_AFTER, RateExceeded, Unavailable
from syncline.model.identifiers import DeviceId, SpaceId, UserId


class Watches:
    """Serves Watch calls: yields doorbells, and None for a heartbeat."""

    def __init__(
        self, doorbells: Doorbells, access: GrantCache, *, heartbeat_seconds: float, ask_seconds: float, most: int
    ) -> None:
        """`heartbeat_seconds` is the time between two heartbeats, and `ask_seconds` the time between two checks of the
        caller's right. One person may watch `most` spaces at the same time, summed over all Watch calls of the person.
        """
        self._doorbells = doorbells
        self._access = access
        self._heartbeat_seconds = heartbeat_seconds
        self._ask_seconds = ask_seconds
        self._most = most
        self._watched: Counter[UserId] = Counter()

    async def watch(
        self, spaces: Sequence[SpaceId], *, user: UserId, device: DeviceId
    ) -> AsyncGenerator[Doorbell | None, None]:
        """Yield a heartbeat (None), after which every announcement of `spaces` is delivered, then doorbells and
        heartbeats without end. `user` and `device` are the caller.

        - Raise the errors of `GrantCache.require`: at the start for all spaces, later for the space of each doorbell,
          and every few seconds for all spaces again. Only in the last case, Unavailable is not raised.
        - Raise Unavailable if announcements may have been missed.
        - Raise RateExceeded if the person watches too many spaces.
        """
        with (
            self._counted(len(spaces), user),
            # opened before the check, so that no announcement during the check is missed
            self._doorbells.watching(spaces) as watcher,
        ):
            await self._access.require(*spaces, user=user, device=device)
            yield None
            clock = asyncio.get_running_loop().time
            beat_at, ask_at = clock() + self._heartbeat_seconds, self._next_question(user, clock())
            while True:
                try:
                    async with asyncio.timeout_at(min(beat_at, ask_at)):  # a timer is cheaper than a task
                        doorbell = await watcher.next()
                except TimeoutError:
                    await self._still_a_member(spaces, user=user, device=device)
                    ask_at = self._next_question(user, clock())
                    if clock() >= beat_at:
                        yield None
                        beat_at = clock() + self._heartbeat_seconds
                else:
                    await self._access.require(doorbell.space, user=user, device=device)
                    yield doorbell

    @contextmanager
    def _counted(self, spaces: int, user: UserId) -> Iterator[None]:
        if self._watched[user] + spaces > self._most:
            metrics.WATCHES_REFUSED.inc()
            text = f"you watch {self._watched[user]} spaces on all your devices together, of {self._most} at most"
            raise RateExceeded(f"{text}; end some watches", **{RETRY_AFTER: f"{STREAM_PAUSE_SECONDS:.3f}"})
        self._watched[user] += spaces
        try:
            yield
        finally:
            self._watched[user] -= spaces
            if not self._watched[user]:
                del self._watched[user]

    def _next_question(self, user: UserId, now: float) -> float:
        """Return the time of the next check of a user's right, at most `ask_seconds` after `now`, both in seconds of
        the event loop's clock.

        All Watch calls of one person check at the same time, so that they share one request to auth; those of different
        people check at different times.
        """
        phase = zlib.crc32(user.encode()) / 2**32 * self._ask_seconds
        return now + self._ask_seconds - (now - phase) % self._ask_seconds

    async def _still_a_member(self, spaces: Sequence[SpaceId], *, user: UserId, device: DeviceId) -> None:
        try:
            await self._access.require(*spaces, user=user, device=device)
        except Unavailable:
            # A heartbeat carries no data, and ending all watches whenever auth restarts would help nobody.
            return
