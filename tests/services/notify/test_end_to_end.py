"""From SNS through SQS to SES on the embedded AWS, in notify's own role; and as a process."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import pytest

from runtime.rpc.server import running
from services.notify.adapters.dynamodb import DynamoNotifyStore
from services.notify.adapters.ses import SesMailSender
from services.notify.adapters.sns import SnsDoorbellQueues
from services.notify.adapters.sqs import SqsQueue
from services.notify.bootstrap import NotifyAdapters, bootstrap, system_clock
from services.notify.mailer import LEASE_SECONDS
from stack.running import EmbeddedAws, embedded_aws
from syncline.model.accounts import MailMode
from syncline.model.errors import Draining
from syncline.model.identifiers import new_request_id, new_text_id
from syncline.notify.v1 import notify_pb2
from syncline.notify.v1.notify_pb2_grpc import NotifyServiceStub
from syncline.rpc.channel import aio_channel
from syncline.rpc.errors import error_from_rpc
from tests.services.notify.fakes import SECRET, FakeAuth, Person, commit, event, fake_auth, settings

ROOT = Path(__file__).resolve().parents[3]
ANN, BOB, CAT = Person("ann@example.com"), Person("bob@example.com"), Person("cat@example.com")


@pytest.fixture(scope="module")
def aws():
    with embedded_aws() as running_aws:
        asyncio.run(impatient(running_aws))
        yield running_aws


async def impatient(aws: EmbeddedAws) -> None:
    """A message that a test took from the mail queue and did not delete comes again soon."""
    async with aws.client("sqs") as sqs:
        await sqs.set_queue_attributes(QueueUrl=aws.resources.mail_queue_url, Attributes={"VisibilityTimeout": "3"})


@pytest.fixture(autouse=True)
async def empty_mail_queue(aws):
    """A message that one test leaves in the mail queue, by design or by failing, is not in the next one's way."""
    yield
    async with aws.client("sqs") as sqs:
        await sqs.purge_queue(QueueUrl=aws.resources.mail_queue_url)


@pytest.fixture
async def auth():
    fake = fake_auth()
    async with fake.serving() as fake.target:
        yield fake


def configured(aws: EmbeddedAws, auth: FakeAuth, **more: Any):
    return settings(
        auth.target,
        notify_table=aws.resources.notify_table_name,
        mail_queue_url=aws.resources.mail_queue_url,
        changes_topic_arn=aws.resources.changes_topic_arn,
        doorbell_queue_prefix=aws.resources.doorbell_queue_prefix,
        mail_sender=aws.resources.mail_sender,
        mail_configuration_set=aws.resources.mail_configuration_set_name,
        **more,
    )


@asynccontextmanager
async def notify(
    aws: EmbeddedAws, auth: FakeAuth, *, clock=system_clock, **more: Any
) -> AsyncIterator[tuple[str, NotifyAdapters]]:
    """The service in this process; yields its address."""
    used = configured(aws, auth, **more)
    role = await aws.assume(aws.resources.notify_role_arn)
    async with AsyncExitStack() as opened:
        names = ("dynamodb", "sqs", "sns", "sesv2")
        dynamodb, sqs, sns, sesv2 = [await opened.enter_async_context(aws.client(name, role)) for name in names]
        adapters = NotifyAdapters(
            DynamoNotifyStore(dynamodb, table=used.notify_table),
            SqsQueue(sqs, url=used.mail_queue_url),
            SnsDoorbellQueues(sns, sqs, topic=used.changes_topic_arn, prefix=used.doorbell_queue_prefix),
            SesMailSender(sesv2, sender=used.mail_sender, configuration_set=used.mail_configuration_set),
        )
        async with bootstrap(used, adapters, clock=clock) as app, running(app, used) as target:
            yield target, adapters


async def announce(aws: EmbeddedAws, body: str) -> None:
    """Announce as metadata does, in its role."""
    role = await aws.assume(aws.resources.metadata_role_arn)
    async with aws.client("sns", role) as sns:
        await sns.publish(
            TopicArn=aws.resources.changes_topic_arn,
            Message=body,
            MessageAttributes={"space": {"DataType": "String", "StringValue": json.loads(body)["space"]}},
        )


def mailed(aws: EmbeddedAws, about: str) -> list[str]:
    """Return who was mailed about a file of this name."""
    return sorted(to for mail in aws.mails() if about in mail["BodyText"] for to in mail["To"])


async def waiting(aws: EmbeddedAws) -> int:
    """Messages in the mail queue, taken or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    async with aws.client("sqs") as sqs:
        answer = await sqs.get_queue_attributes(QueueUrl=aws.resources.mail_queue_url, AttributeNames=names)
    return sum(int(answer["Attributes"][name]) for name in names)


async def doorbells(aws: EmbeddedAws) -> tuple[set[str], set[str]]:
    """The doorbell queues, and where the topic leads."""
    async with aws.client("sqs") as sqs, aws.client("sns") as sns:
        queues = await sqs.list_queues(QueueNamePrefix=aws.resources.doorbell_queue_prefix)
        subscriptions = await sns.list_subscriptions_by_topic(TopicArn=aws.resources.changes_topic_arn)
    return set(queues.get("QueueUrls", [])), {each["Endpoint"] for each in subscriptions["Subscriptions"]}


async def emptied(aws: EmbeddedAws) -> None:
    async with asyncio.timeout(60):
        while await waiting(aws):
            await asyncio.sleep(0.05)


@asynccontextmanager
async def process(aws: EmbeddedAws, auth: FakeAuth, **more: str):
    """The service as a process; yields it and the port that it serves on."""
    used = configured(aws, auth)
    role = await aws.assume(aws.resources.notify_role_arn)
    fields = used.model_dump(mode="json", exclude={"service_secret", "listen", "trusted_networks"}, exclude_none=True)
    env = {
        **os.environ,
        **aws.environment(role),
        **{f"SYNCLINE_{name.upper()}": str(value) for name, value in fields.items()},
        "SYNCLINE_SERVICE_SECRET": SECRET,
        **more,
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.notify", cwd=ROOT, env=env, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            assert started.stderr
            while True:
                line = json.loads(await started.stderr.readline())
                if line["event"] == "serving":
                    break
        yield started, line["port"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.communicate()


async def test_what_a_crash_left_undone_is_done_when_the_lease_has_run_out(aws, auth):
    space, file = auth.space(ANN, BOB), f"{new_text_id()}.txt"
    reached = asyncio.Event()

    async def silent(reader, writer):
        reached.set()
        await reader.read()  # never answers
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, process(aws, auth, AWS_ENDPOINT_URL_SESV2=address) as (crashing, _port):
        await announce(aws, event(space, commit(1, ANN, file)))
        async with asyncio.timeout(60):
            await reached.wait()
        crashing.kill()
        await crashing.wait()
    assert await waiting(aws) == 1

    def later() -> int:
        return system_clock() + LEASE_SECONDS * 1000

    async with notify(aws, auth, clock=later):
        await emptied(aws)
    assert mailed(aws, file) == [BOB.email]


async def test_a_process_serves_is_small_and_stops_cleanly(aws, auth):
    space = auth.space(ANN)
    async with process(aws, auth) as (service, port):
        assert psutil.Process(service.pid).memory_info().rss < 90_000_000
        token = auth.token(ANN)
        async with aio_channel(f"127.0.0.1:{port}", authorization=lambda: token) as channel:
            call: Any = NotifyServiceStub(channel).Watch(notify_pb2.WatchRequest(space_ids=[space]))
            assert (await call.read()).HasField("heartbeat")
            await announce(aws, event(space, commit(1, ANN, "a.txt")))
            assert (await call.read()).doorbell.seq == 1
            service.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                with pytest.raises(grpc.aio.AioRpcError) as broken:
                    await call.read()
                assert isinstance(error_from_rpc(broken.value), Draining)
                assert await service.wait() == 0


async def test_twenty_saves_in_a_row_are_two_mails(aws, auth):
    space, about = auth.space(ANN, BOB), [f"saved-{number:02}.txt" for number in range(20)]

    def to_bob(aws: EmbeddedAws) -> list[str]:
        return [mail["Subject"] for mail in aws.mails() if mail["To"] == [BOB.email] and "saved-" in mail["BodyText"]]

    async with notify(aws, auth, mail_window_seconds=3600) as (_, adapters):
        await announce(aws, event(space, commit(1, ANN, about[0])))
        async with asyncio.timeout(60):
            while not to_bob(aws):  # saves that are received together are told together
                await asyncio.sleep(0.05)
        for number, name in enumerate(about[1:]):
            await announce(aws, event(space, commit(2 + number, ANN, name)))
        async with asyncio.timeout(60):
            while len(await adapters.store.postponed(space, BOB.user)) < 19:
                await asyncio.sleep(0.05)
    assert len(to_bob(aws)) == 1

    def later() -> int:
        return system_clock() + 2 * 3_600_000

    async with notify(aws, auth, clock=later, mail_window_seconds=3600):
        await announce(aws, event(space, commit(21, ANN, "saved-20.txt")))
        async with asyncio.timeout(60):
            while len(to_bob(aws)) < 2:
                await asyncio.sleep(0.05)
    assert [subject.partition(" in ")[0] for subject in to_bob(aws)] == [
        "ann@example.com changed 1 item",
        "ann@example.com changed 20 items",
    ]


async def test_from_the_topic_to_mail_and_doorbell(aws, auth):
    space, before = auth.space(ANN, BOB, CAT), await doorbells(aws)
    async with notify(aws, auth) as (target, adapters):
        await adapters.store.set_mode(space, CAT.user, MailMode.OFF, request=new_request_id(), now=0)
        token = auth.token(BOB)
        async with aio_channel(target, authorization=lambda: token) as channel:
            call: Any = NotifyServiceStub(channel).Watch(notify_pb2.WatchRequest(space_ids=[space]))
            assert (await call.read()).HasField("heartbeat")
            body = event(space, commit(3, ANN, "first.txt"), commit(4, ANN, "second.txt"))
            await announce(aws, body)
            async with asyncio.timeout(60):
                rung = await call.read()
            assert (rung.doorbell.space_id, rung.doorbell.seq) == (space, 4)
            call.cancel()
        await emptied(aws)
        # Repeated while the mail is being sent, it would wait for the end of a lease; tests/services/notify/
        # test_mailer.py has that case.
        await announce(aws, body)
        await emptied(aws)
        assert mailed(aws, "first.txt") == [BOB.email]
        assert mailed(aws, "second.txt") == [BOB.email]
    assert await doorbells(aws) == before
