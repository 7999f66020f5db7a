"""Queues on SQS."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from aws.errors import aws_errors, error_code
from services.notify.ports import QueueGone
from services.notify.records import QueueMessage

if TYPE_CHECKING:
    from types_aiobotocore_sqs.client import SQSClient
    from types_aiobotocore_sqs.literals import QueueAttributeNameType
    from types_aiobotocore_sqs.type_defs import MessageTypeDef

WAIT_SECONDS: Final = 20
"""Seconds for which `receive` waits. The client's read timeout must be longer."""
READ_TIMEOUT_SECONDS: Final = WAIT_SECONDS + 10
_MAX_BATCH_MESSAGES: Final = 10
_ATTEMPTS: Final = "attempts"
"""Message attribute of a message that was put back: the number of attempts at the messages that it replaces."""
_FIRST_MS: Final = "first_ms"
"""Message attribute of a message that was put back: the time at which the first of the messages that it replaces was
sent.
"""

_GONE: Final = frozenset({"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"})
_TIME_RAN_OUT: Final = frozenset(
    {
        "AWS.SimpleQueueService.MessageNotInflight",
        "InvalidParameterValue",  # SQS answers this for a receipt that is no longer valid
        "MessageNotInflight",
        "ReceiptHandleIsInvalid",
    }
)


class SqsQueue:
    """Implements MessageQueue on SQS."""

    def __init__(self, client: SQSClient, *, url: str) -> None:
        self._client = client
        self._url = url

    async def receive(self) -> Sequence[QueueMessage]:
        with _translated():
            answer = await self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_MAX_BATCH_MESSAGES,
                WaitTimeSeconds=WAIT_SECONDS,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
                MessageAttributeNames=[_ATTEMPTS, _FIRST_MS],
            )
        return [_message(received) for received in answer.get("Messages", [])]

    async def delete(self, messages: Collection[QueueMessage]) -> None:
        # Deleted one by one: an emulator that enforces roles has no batch action.
        await asyncio.gather(*(self._delete(message.receipt) for message in messages))

    async def _delete(self, receipt: str) -> None:
        try:
            with _translated():
                await self._client.delete_message(QueueUrl=self._url, ReceiptHandle=receipt)
        except ClientError as error:
            if error_code(error) not in _TIME_RAN_OUT:
                raise

    async def put_back(self, message: QueueMessage, *, seconds: int) -> None:
        with _translated():
            await self._client.send_message(
                QueueUrl=self._url,
                MessageBody=message.body,
                DelaySeconds=seconds,
                MessageAttributes={
                    # taking a message and putting it back is no attempt
                    _ATTEMPTS: {"DataType": "Number", "StringValue": str(message.receives - 1)},
                    _FIRST_MS: {"DataType": "Number", "StringValue": str(message.first_ms)},
                },
            )
        await self._delete(message.receipt)

    async def hide(self, message: QueueMessage, *, seconds: int) -> None:
        try:
            with _translated():
                await self._client.change_message_visibility(
                    QueueUrl=self._url, ReceiptHandle=message.receipt, VisibilityTimeout=seconds
                )
        except ClientError as error:
            if error_code(error) not in _TIME_RAN_OUT:
                raise


def _message(received: MessageTypeDef) -> QueueMessage:
    by_queue, ours = received["Attributes"], received.get("MessageAttributes", {})
    attempts = int(ours[_ATTEMPTS]["StringValue"]) if _ATTEMPTS in ours else 0
    return QueueMessage(
        received["Body"],
        received["ReceiptHandle"],
        receives=attempts + int(by_queue["ApproximateReceiveCount"]),
        first_ms=int(ours[_FIRST_MS]["StringValue"] if _FIRST_MS in ours else by_queue["SentTimestamp"]),
    )


class SqsQueues:
    """Makes, finds and removes queues whose names begin with `prefix`."""

    def __init__(self, client: SQSClient, *, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def create(self, name: str, *, attributes: dict[QueueAttributeNameType, str]) -> tuple[SqsQueue, str]:
        """Create a queue with this name and these attributes, or find the existing queue that has both. Return the
        queue, and its ARN.
        """
        with _translated():
            url = (await self._client.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
            found = await self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return SqsQueue(self._client, url=url), found["Attributes"]["QueueArn"]

    async def set_policy(self, name: str, policy: str) -> None:
        """Set the access policy of the queue with this name to `policy`, a JSON document."""
        with _translated():
            url = (await self._client.get_queue_url(QueueName=name))["QueueUrl"]
            await self._client.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})

    async def delete(self, name: str) -> None:
        """Delete a queue; do nothing if there is none."""
        try:
            with _translated():
                url = (await self._client.get_queue_url(QueueName=name))["QueueUrl"]
                await self._client.delete_queue(QueueUrl=url)
        except QueueGone:
            return

    async def names(self) -> list[str]:
        """Return the names of all queues with the prefix."""
        with _translated():
            pages = self._client.get_paginator("list_queues").paginate(
                QueueNamePrefix=self._prefix, PaginationConfig={"PageSize": 1000}
            )
            return [url.rpartition("/")[2] async for page in pages for url in page.get("QueueUrls", [])]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        with aws_errors("the queue"):
            yield
    except ClientError as error:
        if error_code(error) in _GONE:
            raise QueueGone from None
        raise
