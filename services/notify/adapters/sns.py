"""Doorbell queues: one SQS queue for each process, subscribed to the SNS topic of changes."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from aws.errors import aws_errors
from services.notify.adapters.sqs import SqsQueues
from services.notify.ports import MessageQueue

if TYPE_CHECKING:
    from types_aiobotocore_sns.client import SNSClient
    from types_aiobotocore_sqs.client import SQSClient

_KEPT_SECONDS: Final = 300
_HIDDEN_SECONDS: Final = 30
_NO_SUBSCRIPTION: Final = ("PendingConfirmation", "Deleted")
"""Values in place of the ARN of a subscription that delivers nothing."""


class SnsDoorbellQueues:
    """Implements DoorbellQueues on SNS and SQS."""

    def __init__(self, sns: SNSClient, sqs: SQSClient, *, topic: str, prefix: str) -> None:
        """`topic` is the ARN of the topic of changes. The names of all doorbell queues begin with `prefix`."""
        self._sns = sns
        self._queues = SqsQueues(sqs, prefix=prefix)
        self._topic = topic
        self._prefix = prefix

    @property
    def prefix(self) -> str:
        return self._prefix

    async def open(self, name: str) -> MessageQueue:
        queue, arn = await self._queues.create(
            name,
            attributes={
                "MessageRetentionPeriod": str(_KEPT_SECONDS),
                "VisibilityTimeout": str(_HIDDEN_SECONDS),
                "SqsManagedSseEnabled": "true",
            },
        )
        await self._queues.set_policy(name, _only_from(self._topic, to=arn))
        with aws_errors("the topic"):
            await self._sns.subscribe(
                TopicArn=self._topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
            )
        return queue

    async def close(self, name: str) -> None:
        # The queue is removed last, because `names` lists it only while it exists.
        for subscription in (await self._subscriptions()).get(name, []):
            with aws_errors("the topic"):
                await self._sns.unsubscribe(SubscriptionArn=subscription)
        await self._queues.delete(name)

    async def names(self) -> Collection[str]:
        return {*await self._queues.names(), *await self._subscriptions()}

    async def _subscriptions(self) -> dict[str, list[str]]:
        """Return the ARNs of subscriptions by the name of their queue."""
        found: dict[str, list[str]] = {}
        with aws_errors("the topic"):
            pages = self._sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=self._topic)
            async for page in pages:
                for subscription in page["Subscriptions"]:
                    name = subscription["Endpoint"].rpartition(":")[2]
                    if name.startswith(self._prefix) and subscription["SubscriptionArn"] not in _NO_SUBSCRIPTION:
                        found.setdefault(name, []).append(subscription["SubscriptionArn"])
        return found


def _only_from(topic: str, *, to: str) -> str:
    statement = {
        "Sid": "OnlyTheChangesTopic",
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": to,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
