"""The topic of changes in SNS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws.errors import aws_errors
from syncline.model.identifiers import SpaceId

if TYPE_CHECKING:
    from types_aiobotocore_sns.client import SNSClient


class SnsTopic:
    """Implements Topic on SNS. Subscribers can filter by the attribute `space`."""

    def __init__(self, client: SNSClient, *, topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    async def publish(self, space: SpaceId, event: str) -> None:
        with aws_errors("the topic of changes"):
            await self._client.publish(
                TopicArn=self._topic_arn,
                Message=event,
                MessageAttributes={"space": {"DataType": "String", "StringValue": space}},
            )
