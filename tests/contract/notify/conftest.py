"""The ports of notify: in memory, on the embedded AWS in its own role, and on another emulator."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.notify.adapters.dynamodb import DynamoNotifyStore
from services.notify.adapters.ses import SesMailSender
from services.notify.adapters.sns import SnsDoorbellQueues
from services.notify.adapters.sqs import SqsQueue
from services.notify.ports import DoorbellQueues, MailSender, MessageQueue, NotifyStore
from stack.embedded_aws import Aws, AwsCredentials
from stack.running import EmbeddedAws
from syncline.model.identifiers import new_text_id
from tests.support.moto import moto_server
from tests.support.notify import InMemoryMailSender, InMemoryNotifyStore, InMemoryQueue, InMemoryTopic


class Outside:
    """The adapters under test, and the other side of each."""

    store: NotifyStore
    doorbell_queues: DoorbellQueues
    sender: MailSender

    @abstractmethod
    async def queue(self) -> MessageQueue:
        """A new, empty queue."""

    @abstractmethod
    async def shared_queue(self) -> MessageQueue:
        """A new, empty queue of which messages may be put back: like that of mail, which all instances share."""

    @abstractmethod
    async def put(self, queue: Any, *bodies: str) -> None:
        """Add messages to it."""

    @abstractmethod
    async def remove(self, queue: Any) -> None:
        """The queue is removed by somebody."""

    @abstractmethod
    async def announce(self, body: str) -> None:
        """Announce a change, as metadata does."""

    @abstractmethod
    def mails(self, to: str) -> list[dict[str, str]]:
        """The mails that arrived: `subject`, `text`, `html`."""


class InMemory(Outside):
    def __init__(self):
        self.store = InMemoryNotifyStore()
        self.doorbell_queues = self.topic = InMemoryTopic()
        self.sender = self.outbox = InMemoryMailSender()

    async def queue(self):
        return InMemoryQueue()

    async def shared_queue(self):
        return InMemoryQueue()

    async def put(self, queue, *bodies):
        for body in bodies:
            queue.put(body)

    async def remove(self, queue):
        queue.remove()

    async def announce(self, body):
        self.topic.publish(body)

    def mails(self, to):
        return [
            {"subject": mail.subject, "text": mail.text, "html": mail.html}
            for mail in self.outbox.sent
            if mail.to == to
        ]


class OnAws(Outside):
    """On something that speaks AWS: as `root`, but the adapters as `role`."""

    def __init__(self, root: dict[str, Any], role: dict[str, Any], *, prefix, table, topic, sender, configuration_set):
        self.root = root
        self.topic = topic
        self.store = DynamoNotifyStore(role["dynamodb"], table=table)
        self.doorbell_queues = SnsDoorbellQueues(role["sns"], role["sqs"], topic=topic, prefix=prefix)
        self.sender = SesMailSender(role["sesv2"], sender=sender, configuration_set=configuration_set)

    async def queue(self):
        return await self.doorbell_queues.open(self.doorbell_queues.prefix + new_text_id())

    async def shared_queue(self):
        # Our template has one queue of this kind, in which every announcement of these tests arrives.
        made = await self.root["sqs"].create_queue(QueueName=new_text_id())
        return SqsQueue(self.root["sqs"], url=made["QueueUrl"])

    async def put(self, queue, *bodies):
        for body in bodies:
            await self.root["sqs"].send_message(QueueUrl=queue._url, MessageBody=body)

    async def remove(self, queue):
        await self.root["sqs"].delete_queue(QueueUrl=queue._url)

    async def announce(self, body):
        await self.root["sns"].publish(TopicArn=self.topic, Message=body)


class OnEmbedded(OnAws):
    aws: EmbeddedAws

    def mails(self, to):
        return [
            {"subject": mail["Subject"], "text": mail["BodyText"], "html": mail["BodyHtml"]}
            for mail in self.aws.mails()
            if to in mail["To"]
        ]


class OnMoto(OnAws):
    def mails(self, to):
        from moto.ses.models import ses_backends

        return [
            {"subject": mail.subject, "text": mail.body, "html": mail.body}
            for mail in ses_backends["123456789012"]["us-east-1"].sent_messages
            if to in mail.destinations["ToAddresses"]
        ]


@asynccontextmanager
async def clients(aws: Aws, credentials: AwsCredentials | None = None) -> AsyncIterator[dict[str, Any]]:
    async with (
        aws.client("dynamodb", credentials) as dynamodb,
        aws.client("sqs", credentials) as sqs,
        aws.client("sns", credentials) as sns,
        aws.client("sesv2", credentials) as sesv2,
    ):
        yield {"dynamodb": dynamodb, "sqs": sqs, "sns": sns, "sesv2": sesv2}


@pytest.fixture(scope="session")
def moto() -> Iterator[Aws]:
    with moto_server() as aws:
        yield aws


@pytest.fixture(params=["in_memory", "embedded", "moto"])
async def outside(request) -> AsyncIterator[Outside]:
    match request.param:
        case "in_memory":
            yield InMemory()
        case "embedded":
            aws: EmbeddedAws = request.getfixturevalue("aws")
            ours = aws.resources
            role = await aws.assume(ours.notify_role_arn)
            async with clients(aws) as root, clients(aws, role) as restricted:
                on_embedded = OnEmbedded(
                    root,
                    restricted,
                    prefix=ours.doorbell_queue_prefix,
                    table=ours.notify_table_name,
                    topic=ours.changes_topic_arn,
                    sender=ours.mail_sender,
                    configuration_set=ours.mail_configuration_set_name,
                )
                on_embedded.aws = aws
                yield on_embedded
                await closed(on_embedded)
        case _:
            async with clients(request.getfixturevalue("moto")) as root:
                await root["sesv2"].create_email_identity(EmailIdentity="syncline@example.com")
                on_moto = OnMoto(
                    root,
                    root,
                    prefix="doorbell-",
                    table=await made_table(root["dynamodb"]),
                    topic=(await root["sns"].create_topic(Name="changes"))["TopicArn"],
                    sender="syncline@example.com",
                    configuration_set=None,
                )
                yield on_moto
                await closed(on_moto)


async def closed(outside: Outside) -> None:
    for name in await outside.doorbell_queues.names():
        await outside.doorbell_queues.close(name)


async def made_table(dynamodb: Any) -> str:
    """The other emulator's CloudFormation cannot read our template, so the table is made here."""
    name = "notify"
    if name in (await dynamodb.list_tables())["TableNames"]:
        return name
    await dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    return name
