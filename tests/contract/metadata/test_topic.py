"""Every topic owes this."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from services.metadata.adapters.sns import SnsTopic
from stack.embedded_aws import Aws, AwsCredentials
from syncline.model.errors import Unavailable
from syncline.model.identifiers import new_text_id
from tests.contract.metadata.conftest import where_concurrent
from tests.support.metadata import MemoryTopic

EVENT = json.dumps({"seq": 7, "by": "é😀"})
LARGEST = json.dumps({"nodes": "x" * 199_900})


@asynccontextmanager
async def subscribed(backend):
    """A queue on the topic, and a function that waits for its next message: body and attribute `space`."""
    async with backend.aws.client("sqs") as sqs, backend.aws.client("sns") as sns:
        url = (await sqs.create_queue(QueueName=f"contract-{new_text_id()}"))["QueueUrl"]
        arn = (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        await sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        subscription = await sns.subscribe(
            TopicArn=backend.topic_arn,
            Protocol="sqs",
            Endpoint=arn,
            Attributes={"RawMessageDelivery": "true"},
            ReturnSubscriptionArn=True,
        )

        async def receive():
            async with asyncio.timeout(60):
                while True:
                    answer = await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MessageAttributeNames=["All"])
                    for message in answer.get("Messages", []):
                        await sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                        return message["MessageAttributes"]["space"]["StringValue"], message["Body"]

        try:
            yield receive
        finally:
            await sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
            await sqs.delete_queue(QueueUrl=url)


@where_concurrent
@pytest.mark.parametrize("event", [EVENT, LARGEST], ids=["small", "largest"])
async def test_subscribers_get_what_is_published(backend, space, event):
    if backend is None:
        topic = MemoryTopic()
        await topic.publish(space, event)
        assert topic.published == [(space, event)]
        return
    async with subscribed(backend) as receive, backend.aws.client("sns", backend.metadata) as client:
        await SnsTopic(client, topic_arn=backend.topic_arn).publish(space, event)
        assert await receive() == (space, event)


async def test_a_topic_that_does_not_answer_is_unavailable(space):
    nowhere = Aws("http://127.0.0.1:1", AwsCredentials("key", "secret"))
    async with nowhere.client("sns", retries={"total_max_attempts": 1}) as client:
        topic = SnsTopic(client, topic_arn="arn:aws:sns:us-east-1:000000000000:changes")
        with pytest.raises(Unavailable):
            await topic.publish(space, EVENT)
