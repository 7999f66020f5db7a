"""The listener of this process: it receives announcements from its own SQS queue, which is subscribed to the topic, and
rings doorbells.

Each queue has a lease of an hour in the table, which is taken before the queue is created and renewed while the process
runs. A queue without a lease was abandoned by a process that crashed; any process removes it. A process whose own queue
is gone creates another one, and ends the Watch calls of all clients, because announcements may have been missed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from runtime.logs import structlog
from services.notify import metrics
from services.notify.doorbells import Doorbells
from services.notify.events import MalformedEvent, parse
from services.notify.ports import DoorbellQueues, LeaseStore, MessageQueue, QueueGone
from services.notify.records import MINUTE_MS, Clock
from syncline.model.errors import Unavailable
from syncline.model.identifiers import new_text_id

LEASE_MS: Final = 60 * MINUTE_MS
_RENEW_SECONDS: Final = 600.0
_KEPT_SECONDS: Final = 300.0
"""Minimum retention of messages in a queue, in seconds."""
_PAUSE_SECONDS: Final = 1.0

log = structlog.get_logger()


class Listener:
    """Receives announcements and rings doorbells."""

    def __init__(
        self,
        queues: DoorbellQueues,
        leases: LeaseStore,
        doorbells: Doorbells,
        *,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queues = queues
        self._leases = leases
        self._doorbells = doorbells
        self._clock = clock
        self._monotonic = monotonic
        self._name = ""
        self._queue: MessageQueue | None = None
        self._heard_at = 0.0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Context manager for whose duration the queue of this process exists, so that no announcement is missed.

        If the queue cannot be created yet, for example while storage is full, `listen` creates it later, and then ends
        the calls of all watching clients.
        """
        try:
            await self._open()
        except Unavailable as error:
            log.warning("no doorbell queue yet", reason=str(error))
        try:
            yield
        finally:
            await self._close()

    async def listen(self) -> None:
        """Receive announcements and ring doorbells for ever."""
        while True:
            try:
                if self._queue is None:
                    await self._open()
                    self._doorbells.interrupt()
                await self._hear()
            except Unavailable as error:
                log.warning("doorbell queue does not answer", reason=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)
            except QueueGone:
                log.error("doorbell queue is gone", queue=self._name)  # noqa: TRY400 # there is no more to it
                self._queue = None

    async def keep(self) -> None:
        """Renew the lease of this process's queue, and remove abandoned queues, for ever."""
        while True:
            try:
                if self._name:
                    await self._leases.hold_queue(self._name, until=self._clock() + LEASE_MS)
                await self.sweep()
            except Unavailable as error:
                log.warning("doorbell queues were not looked after", reason=str(error))
            await asyncio.sleep(_RENEW_SECONDS)

    async def sweep(self) -> None:
        """Remove queues without a lease."""
        # The names are read before the leases: a lease is taken before its queue is created.
        names = await self._queues.names()
        held = await self._leases.held_queues(now=self._clock())
        for name in sorted(set(names) - set(held) - {self._name}):
            await self._queues.close(name)
            log.info("abandoned doorbell queue removed", queue=name)

    async def _hear(self) -> None:
        assert self._queue is not None, "listen within `opened`"
        messages = await self._queue.receive()
        if self._monotonic() - self._heard_at > _KEPT_SECONDS:
            log.error("doorbells were missed")
            self._doorbells.interrupt()
        self._heard_at = self._monotonic()
        for message in messages:
            try:
                event = parse(message.body)
            except MalformedEvent as error:
                log.error("malformed event", reason=str(error))  # noqa: TRY400 # its mail goes to the dead letters
            else:
                metrics.EVENTS.inc()
                self._doorbells.ring(event.space, event.to_seq)
        if messages:
            await self._queue.delete(messages)

    async def _open(self) -> None:
        name = self._queues.prefix + new_text_id()
        await self._leases.hold_queue(name, until=self._clock() + LEASE_MS)
        self._queue = await self._queues.open(name)
        self._name = name
        self._heard_at = self._monotonic()
        log.info("doorbell queue made", queue=name)

    async def _close(self) -> None:
        if not self._name:
            return
        try:
            await self._queues.close(self._name)
            await self._leases.drop_queue(self._name)
        except Unavailable as error:
            log.warning("doorbell queue left behind", queue=self._name, reason=str(error))
