"""Takes events from the shared mail queue, has them told, and puts back what could not be told yet.

A message is deleted only when everybody was told. What fails comes again later and later, and after MAX_ATTEMPTS
goes to the dead letters (the queue's redrive policy). A malformed message goes there too.

Messages are in hand together, and none waits for another one. What one sender may have in hand is bounded as in any
shared pool; what is beyond that is put back behind all other messages of the queue, as often as needed: that it waits
is no failure, and brings it no nearer to the dead letters. A message that is put back is a new one to the queue, so it
carries the number of attempts so far and the time of the first message. Once it has had MAX_ATTEMPTS nobody is told any
more, and it is handed back until the queue's own count sends it to the dead letters. What has waited for
MAX_WAIT_SECONDS, for which the queue would have kept the first message, is not put back any more: from then on it is an
attempt that it finds no place.
"""

from __future__ import annotations

import asyncio
from typing import Final

from runtime.logs import structlog
from runtime.pool import Pool, Share
from services.notify import metrics
from services.notify.events import Event, MalformedEvent, parse
from services.notify.mailer import LEASE_SECONDS, HeldElsewhere, Mailer, Postponed
from services.notify.ports import MessageQueue
from services.notify.records import SECOND, Clock, QueueMessage
from syncline.model.errors import Unavailable
from syncline.model.retry_policy import RetryPolicy
from syncline.rpc import traces

MESSAGES_IN_HAND: Final = 64
"""Messages that are worked on at a time (pool `mail messages`). One sender alone has half of them."""
MAX_ATTEMPTS: Final = 8
"""Attempts at one announcement, also if it is put back between these; `maxReceiveCount` of the queue of mail."""
PUT_BACK_SECONDS: Final = 60
"""Seconds for which a message that was put back is not handed out."""
MAX_WAIT_SECONDS: Final = 4 * 24 * 3600
"""Seconds from the first message of an announcement on in which it is put back; the retention of the queue of mail."""
_GIVEN_UP_SECONDS: Final = 1
"""Seconds for which a message without attempts left is hidden each time, until the queue's own count ends it."""
_TOGETHER_SECONDS: Final = 1.0
"""Seconds for which those messages are waited for that came together, before further ones are asked for."""
_KEEP_SECONDS: Final = 20.0
_HIDDEN_SECONDS: Final = 60
"""Seconds for which the queue hides a message that this process took, before the process must ask for more time."""
_LONGEST_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 5.0
_MAIL_RETRIES: Final = RetryPolicy(first_pause_seconds=60, max_pause_seconds=6 * 3600, factor=3)
"""The pauses before a mail is tried again that could not be sent."""
_QUEUE_RETRIES: Final = RetryPolicy(first_pause_seconds=1, max_pause_seconds=60)
"""The pauses before the queue is asked again while nothing works."""

log = structlog.get_logger()


class Postman:
    """Works off a queue of events."""

    def __init__(self, queue: MessageQueue, mailer: Mailer, *, clock: Clock) -> None:
        self._queue = queue
        self._mailer = mailer
        self._clock = clock
        self._in_hand = Pool("mail messages", MESSAGES_IN_HAND, counted=True)
        metrics.MAIL_IN_HAND.set_function(self._in_hand.taken)
        self._attending: set[asyncio.Task[bool]] = set()

    async def work(self) -> None:
        """Work for ever. When cancelled, what is in hand gets a few seconds to be finished."""
        failures = 0
        try:
            while True:
                progress = await self._take_more()
                if progress:
                    failures = 0
                elif progress is False:  # taking more messages would only bring them nearer to the dead letters
                    failures += 1
                    await asyncio.sleep(_QUEUE_RETRIES.pause_seconds(failures))
        except asyncio.CancelledError:
            if self._attending:
                await asyncio.wait(self._attending, timeout=_STOP_SECONDS)
            raise
        finally:
            for task in self._attending:
                task.cancel()
            self._attending.clear()

    async def _take_more(self) -> bool | None:
        """Take messages from the queue, and wait a moment for them.

        False if what was done since the last time shows that nothing works at the moment, None if nothing was done.
        """
        try:
            messages = await self._queue.receive()
        except Unavailable as error:
            log.warning("mail queue does not answer", reason=str(error))
            return False
        came = {asyncio.create_task(self._attend(message)) for message in messages}
        self._attending |= came
        if came:
            await asyncio.wait(came, timeout=_TOGETHER_SECONDS)
        done = {task for task in self._attending if task.done()}
        self._attending -= done
        return any(task.result() for task in done) if done else None

    async def _attend(self, message: QueueMessage) -> bool:
        """Deal with a message and keep it hidden meanwhile; False if what we depend on does not answer."""
        keeping = asyncio.create_task(self._keep(message))
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                return await self._settle(message)
        except Exception as error:  # the message comes again; the loop must go on
            log.exception("message not settled", receives=message.receives)
            return not isinstance(error, Unavailable)
        finally:
            keeping.cancel()

    async def _settle(self, message: QueueMessage) -> bool:
        if message.receives > MAX_ATTEMPTS:
            log.error("mail given up", receives=message.receives)
            await self._queue.hide(message, seconds=_GIVEN_UP_SECONDS)
            return True
        try:
            event = parse(message.body)
        except MalformedEvent as error:
            log.error("malformed event", reason=str(error), receives=message.receives)  # noqa: TRY400 # no more to it
            return True
        share = Share.alone(event.sender)
        if not self._in_hand.try_take(1, share):
            if self._clock() - message.first_ms >= MAX_WAIT_SECONDS * SECOND:
                log.warning("mail waits for too long", receives=message.receives)
                await self._queue.hide(message, seconds=PUT_BACK_SECONDS)
                return True
            metrics.MAIL_PUT_BACK.inc()
            await self._queue.put_back(message, seconds=PUT_BACK_SECONDS)
            return True
        try:
            return await self._tell(message, event)
        finally:
            self._in_hand.give(1, share)

    async def _tell(self, message: QueueMessage, event: Event) -> bool:
        try:
            with traces.span("mail", parent=traces.cause(event.traceparent)):
                await self._mailer.tell(event)
        except HeldElsewhere:
            await self._queue.hide(message, seconds=LEASE_SECONDS + 1)
            return True
        except Postponed as postponed:
            await self._queue.hide(message, seconds=postponed.seconds + 1)
            return True
        except Unavailable as error:
            log.warning("mail delayed", reason=str(error), receives=message.receives)
            await self._queue.hide(message, seconds=_retry_in(message.receives))
            return False
        except Exception:
            log.exception("mail failed", receives=message.receives)
            await self._queue.hide(message, seconds=_retry_in(message.receives))
            return True
        await self._queue.delete([message])
        return True

    async def _keep(self, message: QueueMessage) -> None:
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            try:
                await self._queue.hide(message, seconds=_HIDDEN_SECONDS)
            except Unavailable:
                continue  # there is time for another attempt


def _retry_in(receives: int) -> int:
    return int(_MAIL_RETRIES.pause_seconds(receives))
