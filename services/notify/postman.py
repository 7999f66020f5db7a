"""Consumer of the mail queue: takes events, has the mails sent, and puts back events that could not be completed.

A message is deleted only when all members were mailed. A failed message is retried with back-off, and after
MAX_ATTEMPTS moves to the dead-letter queue (the queue's redrive policy). A malformed message moves there, too.

Messages are processed concurrently and independently. The number per sender is bounded as in any shared pool; messages
above the bound are put back at the end of the queue, any number of times. Putting back is no attempt, so it does not
bring a message nearer to the dead-letter queue. A message that was put back is new to the queue, so it carries the
number of attempts so far and the time of the first message. After MAX_ATTEMPTS nobody is mailed any more, and the
message is released until the queue's own count moves it to the dead-letter queue. After MAX_WAIT_SECONDS, the queue's
retention of the first message, a message is not put back any more: if it cannot be processed because of the bound per
sender, that then counts as an attempt.
"""

from __future__ import annotations

import asyncio
from typing import Final

from runtime.logs import structlog
from runtime.pool import Pool, Share
from services.notify import metrics
from services.notify.events import AccountMailAsked, Event, MalformedEvent, parse_mail
from services.notify.mailer import LEASE_SECONDS, HeldElsewhere, Mailer, Postponed
from services.notify.ports import MessageQueue
from services.notify.records import SECOND_MS, Clock, QueueMessage
from syncline.model.errors import Unavailable
from syncline.model.retry_policy import RetryPolicy
from syncline.rpc import traces

MESSAGES_AT_ONCE: Final = 64
"""Maximum number of messages that are processed concurrently (pool `mail messages`). One sender alone may have half of
them.
"""
MAX_ATTEMPTS: Final = 8
"""Maximum number of attempts at one announcement, also across messages that were put back; the queue's
`maxReceiveCount`.
"""
PUT_BACK_SECONDS: Final = 60
"""Delay in seconds of a message that was put back."""
MAX_WAIT_SECONDS: Final = 4 * 24 * 3600
"""Maximum age in seconds of an announcement, counted from its first message, at which its message is still put back;
the retention of the mail queue.
"""
_GIVEN_UP_SECONDS: Final = 1
"""Visibility timeout in seconds of a message without attempts left. The message is hidden again and again until the
queue's own count of deliveries moves it to the dead-letter queue.
"""
_TOGETHER_SECONDS: Final = 1.0
"""Maximum seconds to wait for the completion of one batch of messages before further messages are received."""
_KEEP_SECONDS: Final = 20.0
_HIDDEN_SECONDS: Final = 60
"""Visibility timeout in seconds of a message that this process has taken, which is renewed while it is processed."""
_MAX_SETTLING_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 5.0
_MAIL_RETRIES: Final = RetryPolicy(first_pause_seconds=60, max_pause_seconds=6 * 3600, factor=3)
"""The pauses between attempts at a mail that could not be sent."""
_QUEUE_RETRIES: Final = RetryPolicy(first_pause_seconds=1, max_pause_seconds=60)
"""The pauses between reads of the queue while the queue or another dependency does not answer."""

log = structlog.get_logger()


class Postman:
    """Takes announcements of changes from the mail queue, and has the mailer send mail about them."""

    def __init__(self, queue: MessageQueue, mailer: Mailer, *, clock: Clock) -> None:
        self._queue = queue
        self._mailer = mailer
        self._clock = clock
        self._in_hand = Pool("mail messages", MESSAGES_AT_ONCE, counted=True)
        metrics.MAIL_IN_HAND.set_function(self._in_hand.taken)
        self._attending: set[asyncio.Task[bool]] = set()

    async def work(self) -> None:
        """Process messages for ever. When cancelled, messages in progress get a few seconds to be finished."""
        failures = 0
        try:
            while True:
                progress = await self._take_more()
                if progress:
                    failures = 0
                elif progress is False:  # taking more messages would only use up their attempts
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
        """Take messages from the queue, start to process them, and wait briefly for their completion.

        - Return None if no message was completed since the last call.
        - Return False if the queue does not answer, or if every message that was completed since then failed because
          another service or AWS does not answer.
        - Return True otherwise.
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
        """Process a message, and keep it hidden from other consumers until it is processed. Return False if another
        service or AWS does not answer, otherwise True.
        """
        keeping = asyncio.create_task(self._keep(message))
        try:
            async with asyncio.timeout(_MAX_SETTLING_SECONDS):
                return await self._settle(message)
        except Exception as error:  # the message is delivered again; the loop must continue
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
            event = parse_mail(message.body)
        except MalformedEvent as error:
            log.error("malformed event", reason=str(error), receives=message.receives)  # noqa: TRY400 # no more to it
            return True
        share = Share.alone(event.sender)
        if not self._in_hand.try_take(1, share):
            if self._clock() - message.first_ms >= MAX_WAIT_SECONDS * SECOND_MS:
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

    async def _tell(self, message: QueueMessage, event: Event | AccountMailAsked) -> bool:
        try:
            with traces.span("mail", parent=traces.cause(event.traceparent)):
                if isinstance(event, Event):
                    await self._mailer.tell(event)
                else:
                    await self._mailer.send_account_mail(event)
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
