"""Clients obey the SDK's variables, try a bounded number of times, and tell passing faults from others."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError
from prometheus_client import REGISTRY

from aws.dynamodb import found_item
from aws.errors import aws_errors, error_code
from aws.session import MAX_AWS_REQUESTS, Clients, session
from runtime.network import charge_to
from runtime.pool import Share
from syncline.model.errors import Unavailable


@asynccontextmanager
async def answering(*answers: tuple[int, str]) -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP server that gives `answers` (status, body) in turn, the last one for ever; and who was asked for."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head.split("\r\n", 1)[0])
        status, body = answers[min(len(seen), len(answers)) - 1]
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.0\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in {
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    session.cache_clear()
    yield monkeypatch
    session.cache_clear()


async def test_standard_variables_are_honoured(environment):
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    environment.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2")
    async with Clients() as clients:
        dynamodb = await clients.open("dynamodb")
        s3 = await clients.open("s3")
        assert dynamodb.meta.endpoint_url == "http://127.0.0.1:1"
        assert s3.meta.endpoint_url == "http://127.0.0.1:2"
        assert dynamodb.meta.region_name == "eu-central-1"


@pytest.fixture(scope="module")
def whole_session() -> AioSession:
    """The session has all descriptions; tests share it, since loading these takes long."""
    return AioSession()


@pytest.mark.parametrize("service", ["dynamodb", "s3", "sesv2", "sns", "sqs", "sts"])
async def test_the_lean_models_are_the_whole_models(service, whole_session):
    async with (
        session().create_client(service) as lean,
        whole_session.create_client(service, region_name="eu-central-1") as whole,
    ):
        assert lean.meta.endpoint_url == whole.meta.endpoint_url
        assert lean.meta.service_model.operation_names == whole.meta.service_model.operation_names
        for name in whole.meta.service_model.operation_names:
            ours, theirs = (client.meta.service_model.operation_model(name) for client in (lean, whole))
            for shape in ("input_shape", "output_shape"):
                assert str(getattr(ours, shape)) == str(getattr(theirs, shape))
                assert getattr(getattr(ours, shape), "members", {}).keys() == (
                    getattr(getattr(theirs, shape), "members", {}).keys()
                )


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1"])
async def test_other_partitions_have_their_own_endpoints(environment, whole_session, region):
    environment.setenv("AWS_REGION", region)
    async with (
        session().create_client("s3") as lean,
        whole_session.create_client("s3", region_name=region) as whole,
    ):
        assert lean.meta.endpoint_url == whole.meta.endpoint_url


async def test_passing_faults_are_repeated(environment):
    throttled = '{"__type": "x#ThrottlingException", "message": "slow down"}'
    async with answering((400, throttled), (200, '{"TableNames": ["t"]}')) as (url, seen):
        environment.setenv("AWS_ENDPOINT_URL", url)
        async with Clients() as clients:
            dynamodb = await clients.open("dynamodb")
            assert (await dynamodb.list_tables())["TableNames"] == ["t"]
    assert len(seen) == 2


async def test_lasting_faults_become_unavailable(environment):
    async with answering((503, "{}")) as (url, seen):
        environment.setenv("AWS_ENDPOINT_URL", url)
        async with Clients() as clients:
            dynamodb = await clients.open("dynamodb", retries={"mode": "standard", "total_max_attempts": 2})
            with pytest.raises(Unavailable, match="the table does not answer"), aws_errors("the table"):
                await dynamodb.list_tables()
    assert len(seen) == 2


async def test_no_connection_becomes_unavailable(environment):
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    async with Clients() as clients:
        dynamodb = await clients.open("dynamodb", retries={"mode": "standard", "total_max_attempts": 1})
        with pytest.raises(Unavailable), aws_errors("the table"):
            await dynamodb.list_tables()


async def test_other_errors_stay_what_they_are(environment):
    refused = '{"__type": "x#ConditionalCheckFailedException", "message": "no", "Item": {"seq": {"N": "7"}}}'
    async with answering((400, refused)) as (url, seen):
        environment.setenv("AWS_ENDPOINT_URL", url)
        async with Clients() as clients:
            dynamodb = await clients.open("dynamodb")
            with pytest.raises(ClientError) as caught, aws_errors("the table"):
                await dynamodb.put_item(TableName="t", Item={"pk": {"S": "x"}})
    assert error_code(caught.value) == "ConditionalCheckFailedException"
    assert found_item(caught.value) == {"seq": {"N": "7"}}
    assert len(seen) == 1


def test_a_service_does_not_load_what_it_never_uses():
    heavy = {"boto3", "grpc_reflection.v1alpha.reflection", "httpx", "rich"}
    code = f"import sys; import runtime.rpc.server, aws.session; print(sorted({heavy!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


# -- what is measured


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


UNITS = '{"ConsumedCapacity": {"TableName": "t", "CapacityUnits": 1.5}}'
THROTTLED = '{"__type": "x#ThrottlingException", "message": "slower"}'
REFUSED = '{"__type": "x#ConditionalCheckFailedException", "message": "no"}'
BROKEN = '{"__type": "x#InternalServerError", "message": "oops"}'


@pytest.mark.parametrize(
    ("answers", "outcome", "throttles", "units"),
    [
        ([(200, UNITS)], "ok", 0, 1.5),
        ([(400, THROTTLED), (200, UNITS)], "ok", 1, 1.5),
        ([(400, THROTTLED)], "throttled", 4, 0),
        ([(400, REFUSED)], "refused", 0, 0),
        ([(500, BROKEN)], "failed", 0, 0),
    ],
)
async def test_calls_are_measured_in_one_place(environment, answers, outcome, throttles, units):
    call = {"service": "dynamodb", "operation": "PutItem"}

    def figures() -> tuple[float, float, float, float]:
        return (
            value("syncline_aws_calls_total", outcome=outcome, **call),
            value("syncline_aws_seconds_count", **call),
            value("syncline_aws_throttles_total", service="dynamodb"),
            value("syncline_dynamodb_units_total", operation="PutItem"),
        )

    before = figures()
    async with answering(*answers) as (url, _):
        environment.setenv("AWS_ENDPOINT_URL", url)
        async with Clients() as clients:
            dynamodb = await clients.open("dynamodb")
            with contextlib.suppress(ClientError):
                await dynamodb.put_item(TableName="t", Item={"pk": {"S": "x"}})
    assert tuple(now - then for now, then in zip(figures(), before, strict=True)) == (1, 1, throttles, units)


async def test_a_call_that_is_given_up_is_measured_as_failed(environment):
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    before = value("syncline_aws_calls_total", service="sns", operation="Publish", outcome="failed")
    async with Clients() as clients:
        sns = await clients.open("sns")
        call = asyncio.create_task(sns.publish(TopicArn="arn:aws:sns:eu-central-1:000000000000:t", Message="m"))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
    after = value("syncline_aws_calls_total", service="sns", operation="Publish", outcome="failed")
    assert after == before + 1


async def test_requests_of_one_caller_leave_places_for_others(environment):
    """The service answers nobody before it is released."""
    arrived: list[str] = []
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                arrived.append(json.loads(await reader.readexactly(length))["TableName"])
                await released.wait()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 2\r\n\r\n{}"
                )
        writer.close()

    async def ask(client: Any, caller: str) -> None:
        charge_to(Share(caller, f"network of {caller}"))
        await client.describe_table(TableName=caller)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Clients() as clients, asyncio.timeout(60):
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        dynamodb = await clients.open("dynamodb")
        asking = [asyncio.create_task(ask(dynamodb, "mallory")) for _ in range(2 * MAX_AWS_REQUESTS)]
        while len(arrived) < MAX_AWS_REQUESTS // 2:
            await asyncio.sleep(0.01)
        asking.append(asyncio.create_task(ask(dynamodb, "ann")))
        while "ann" not in arrived:
            await asyncio.sleep(0.01)
        assert arrived.count("mallory") == MAX_AWS_REQUESTS // 2
        released.set()
        await asyncio.gather(*asking)
        assert arrived.count("mallory") == 2 * MAX_AWS_REQUESTS
