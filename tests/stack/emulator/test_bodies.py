"""Bodies that are sent to the embedded AWS: what it holds of them is bounded, and nobody has much without a key."""

from __future__ import annotations

import asyncio
import hashlib
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from stack.embedded_aws import REGION
from stack.emulator.bodies import MAX_BODY_BYTES, MAX_UNSIGNED_BYTES
from stack.running import EmbeddedAws, embedded_aws
from syncline.s3.sigv4 import Signer

SIZE = 20_000_000
SOMETHING = "0" * 64
LITTLE = 48_000_000
"""The bytes that the process may take for other reasons while bodies come."""
SECONDS = 60.0


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedAws, psutil.Process]]:
    """An embedded AWS for nothing else, and its process, which is measured."""
    data: Path = tmp_path_factory.mktemp("aws")
    with embedded_aws(data=data) as running:
        (process,) = [
            one
            for one in psutil.Process().children()
            if "stack.emulator" in one.cmdline() and one.environ()["S3_DATA_DIR"] == str(data.resolve() / "s3")
        ]
        yield running, process


def place(aws: EmbeddedAws) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(aws.endpoint)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def signed(aws: EmbeddedAws, *, key: str = "", secret: str = "") -> dict[str, str]:
    """Headers of a PUT of an object; by root, unless another key or secret is given."""
    signer = Signer(f"http://{':'.join(map(str, place(aws)))}/{aws.resources.bucket_name}/", region=REGION)
    whose = SimpleNamespace(
        access_key=key or aws.root.access_key_id, secret_key=secret or aws.root.secret_access_key, token=None
    )
    return signer.headers("x", {}, credentials=whose, method="PUT", body_sha256=SOMETHING)


@asynccontextmanager
async def putting(
    aws: EmbeddedAws, headers: Mapping[str, str], *, query: str = ""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A request to put an object, of which only the head has been sent."""
    host, port = place(aws)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        lines = [f"PUT /{aws.resources.bucket_name}/x{query} HTTP/1.1", f"host: {host}:{port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        yield reader, writer
    finally:
        writer.transport.abort()


async def status(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(SECONDS):
        return int((await reader.readline()).split()[1])


async def test_a_large_body_that_no_key_covers_is_refused_before_it_is_read(
    alone: tuple[EmbeddedAws, psutil.Process],
) -> None:
    aws, process = alone
    scope = f"{aws.root.access_key_id}%2F20260101%2F{REGION}%2Fs3%2Faws4_request"
    presigned = (
        f"?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={scope}&X-Amz-Date=20260101T000000Z"
        f"&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature={SOMETHING}"
    )
    heads: list[tuple[dict[str, str], str]] = [
        ({}, ""),
        ({}, presigned),
        (signed(aws, key="AKIAEXAMPLE"), ""),
        (signed(aws, secret="wrong"), ""),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=é/a/b, SignedHeaders=é, Signature=é"}, ""),
        ({"authorization": f"AWS {aws.root.access_key_id}:wrong"}, ""),
    ]
    before = process.memory_info().rss
    for headers, query in heads * 5:
        async with putting(aws, {**headers, "content-length": str(SIZE)}, query=query) as (reader, writer):
            assert await status(reader) == 403, (headers, query)
            writer.write(bytes(SIZE - 1))
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(1):
                    await writer.drain()
    assert process.memory_info().rss - before < LITTLE
    async with putting(aws, {"content-length": str(MAX_UNSIGNED_BYTES)}) as (reader, writer):
        writer.write(bytes(MAX_UNSIGNED_BYTES))
        assert await status(reader) == 403  # by S3, when all has come


async def test_a_body_without_a_length_is_refused(alone: tuple[EmbeddedAws, psutil.Process]) -> None:
    aws, _ = alone
    async with putting(aws, {**signed(aws), "transfer-encoding": "chunked"}) as (reader, _writer):
        assert await status(reader) == 411


async def test_a_length_of_thousands_of_digits_is_refused(alone: tuple[EmbeddedAws, psutil.Process]) -> None:
    aws, _ = alone
    async with putting(aws, {**signed(aws), "content-length": "0" * 5_000 + "1"}) as (reader, _writer):
        assert await status(reader) == 400


@pytest.mark.parametrize("target", ["DynamoDB_20120810.GetItem", "AmazonSQS.SendMessage"])
async def test_json_that_is_nested_too_deeply_is_refused(
    alone: tuple[EmbeddedAws, psutil.Process], target: str
) -> None:
    aws, _ = alone
    body = b"[" * 60_000
    host, port = place(aws)
    reader, writer = await asyncio.open_connection(host, port)
    service = "sqs" if "SQS" in target else "dynamodb"
    claimed = (
        f"AWS4-HMAC-SHA256 Credential=nobody/20300101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
    head = [
        "POST / HTTP/1.1",
        f"host: {host}:{port}",
        f"authorization: {claimed}",
        f"x-amz-target: {target}",
        "content-type: application/x-amz-json-1.0",
        f"content-length: {len(body)}",
    ]
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    assert await status(reader) == 400
    writer.transport.abort()


async def test_bodies_under_way_share_what_there_is(alone: tuple[EmbeddedAws, psutil.Process]) -> None:
    """One key has half of it, whatever it begins; what is small is served beside that."""
    aws, process = alone
    before = process.memory_info().rss
    async with asyncio.TaskGroup() as group:
        taken: list[int] = []
        enough = asyncio.Event()

        async def one() -> None:
            async with putting(aws, {**signed(aws), "content-length": str(SIZE)}) as (_, writer):
                writer.write(bytes(SIZE - 1))
                await writer.drain()
                while writer.transport.get_write_buffer_size():
                    await asyncio.sleep(0.05)
                taken.append(SIZE)
                await enough.wait()

        tasks = [group.create_task(one()) for _ in range(14)]
        async with asyncio.timeout(SECONDS):
            while sum(taken) < MAX_BODY_BYTES // 2 - SIZE:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)  # for more to be taken, if there were room
        assert sum(taken) <= MAX_BODY_BYTES // 2
        assert process.memory_info().rss - before < MAX_BODY_BYTES // 2 + LITTLE
        async with aws.client("s3") as s3, aws.client("dynamodb") as dynamodb:
            content = b"small"
            digest = hashlib.sha256(content).hexdigest()
            await s3.put_object(Bucket=aws.resources.bucket_name, Key=f"small/{digest}", Body=content)
            assert (await dynamodb.list_tables())["TableNames"]
        enough.set()
        for task in tasks:
            task.cancel()
