"""ObjectSource and ObjectSink: in memory, and on S3 in the gateway's own role or in a member's name."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.credentials import ReadOnlyCredentials

from gateway.ports import ObjectSource, ObjectUnreadable, WriteCredentials
from gateway.storage.s3 import S3ObjectSink, S3ObjectSource, S3Place, origin
from gateway.storage.segments import SEGMENT_BYTES
from runtime.pool import Share
from services.auth.adapters.sts import StsCredentialSource
from services.auth.credentials import TransferTarget, session_name, session_policy
from stack.embedded_aws import AwsCredentials
from syncline.model.accounts import Access
from syncline.model.blocks import MAX_OBJECT_BYTES, Digest, object_key
from syncline.model.errors import PermissionDenied, Unavailable
from syncline.model.identifiers import DeviceId, SpaceId, UserId, new_text_id
from tests.clients.transfer.proxy import Proxy
from tests.support.storage import InMemoryObjectSource

ANN = Share.alone("ann")


def signing_as(held: AwsCredentials):
    """The credentials of a role, as a process has its own."""

    async def current() -> ReadOnlyCredentials:
        return ReadOnlyCredentials(held.access_key_id, held.secret_access_key, held.session_token)

    return current


class Outside:
    """The adapter under test, and the other side of it."""

    def __init__(self, source: Any, s3: Any = None, bucket: str = "") -> None:
        self.source: ObjectSource = source
        self._s3 = s3
        self._bucket = bucket

    async def put(self, space: SpaceId, data: bytes) -> Digest:
        if isinstance(self.source, InMemoryObjectSource):
            return self.source.put(space, data)
        digest = Digest(hashlib.sha256(data).digest())
        await self._s3.put_object(Bucket=self._bucket, Key=object_key(space, digest), Body=data, IfNoneMatch="*")
        return digest


@pytest.fixture(params=["in_memory", "embedded"])
async def outside(request) -> AsyncIterator[Outside]:
    if request.param == "in_memory":
        yield Outside(InMemoryObjectSource())
        return
    aws = request.getfixturevalue("aws")
    bucket, role = aws.resources.bucket_name, await aws.assume(aws.resources.gateway_role_arn)
    place = S3Place(bucket, aws.region, aws.endpoint)
    async with aws.client("s3") as root, origin(place) as connections:
        yield Outside(S3ObjectSource(connections, signing_as(role), place), root, bucket)


async def test_parts_and_wholes(outside):
    space, data = SpaceId(new_text_id()), bytes(range(251)) * 10_000
    digest = await outside.put(space, data)
    assert await outside.source.read_all(space, digest, most=MAX_OBJECT_BYTES, share=ANN) == data
    for offset, length in ((0, len(data)), (0, 1), (1000, 5000), (1000, SEGMENT_BYTES), (len(data) - 1, 1)):
        parts = await outside.source.read(space, digest, offset=offset, length=length, share=ANN)
        assert b"".join(parts) == data[offset : offset + length]
        assert max(map(len, parts)) <= SEGMENT_BYTES


async def test_an_object_that_is_too_short(outside):
    space = SpaceId(new_text_id())
    digest = await outside.put(space, b"abc")
    for offset, length in ((0, 4), (2, 2), (3, 1), (100, 1)):
        with pytest.raises(ObjectUnreadable):
            await outside.source.read(space, digest, offset=offset, length=length, share=ANN)


async def test_an_object_that_is_not_there_or_in_another_space(outside):
    digest = await outside.put(SpaceId(new_text_id()), b"abc")
    with pytest.raises(ObjectUnreadable):
        await outside.source.read(SpaceId(new_text_id()), digest, offset=0, length=3, share=ANN)
    with pytest.raises(ObjectUnreadable):
        await outside.source.read_all(SpaceId(new_text_id()), digest, most=MAX_OBJECT_BYTES, share=ANN)


# -- a body that breaks off


@asynccontextmanager
async def breaking(times: int, data: bytes) -> AsyncIterator[S3ObjectSource]:
    """Serve an S3 that breaks the first bodies off."""
    left = times

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            f"HTTP/1.1 206 Partial Content\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n".encode()
        )
        writer.write(data[:-1] if left > 0 else data)
        left -= 1
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    place = S3Place("content", "eu-central-1", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server, origin(place) as connections:
        yield S3ObjectSource(connections, signing_as(AwsCredentials("key", "secret")), place)


async def test_a_body_that_breaks_off_is_read_again():
    async with breaking(2, b"abcdef") as source:
        parts = await source.read(SpaceId("a" * 26), Digest(bytes(32)), offset=0, length=6, share=ANN)
        assert b"".join(parts) == b"abcdef"


async def test_bodies_that_always_break_off_are_a_passing_fault():
    async with breaking(100, b"abcdef") as source:
        with pytest.raises(Unavailable):
            await source.read(SpaceId("a" * 26), Digest(bytes(32)), offset=0, length=6, share=ANN)


async def test_what_is_larger_than_any_of_ours_is_not_read():
    async with breaking(0, bytes(MAX_OBJECT_BYTES + 1)) as source:
        with pytest.raises(ObjectUnreadable):
            await source.read_all(SpaceId("a" * 26), Digest(bytes(32)), most=MAX_OBJECT_BYTES, share=ANN)


# -- objects that are put


async def issued(aws: Any, space: SpaceId, access: Access) -> WriteCredentials:
    """A member's credentials for a space."""
    async with aws.client("sts", await aws.assume(aws.resources.auth_role_arn)) as sts:
        source = StsCredentialSource(sts, role_arn=aws.resources.transfer_role_arn)
        made = await source.assume(
            session_name=session_name(UserId(new_text_id()), DeviceId(new_text_id())),
            policy=session_policy(TransferTarget(aws.resources.bucket_name), space, access),
            seconds=900,
        )
    return WriteCredentials(made.access_key_id, made.secret_access_key, made.session_token, made.expires_at_ms)


async def test_an_object_is_put_once_by_whoever_may_write(aws):
    space, data = SpaceId(new_text_id()), bytes(range(256)) * 1000
    digest = Digest(hashlib.sha256(data).digest())
    place = S3Place(aws.resources.bucket_name, aws.region, aws.endpoint)
    role = await aws.assume(aws.resources.gateway_role_arn)
    async with origin(place) as connections:
        source = S3ObjectSource(connections, signing_as(role), place)
        sink = S3ObjectSink(connections, place)
        for credentials in (
            await issued(aws, space, Access.READ),
            await issued(aws, SpaceId(new_text_id()), Access.WRITE),
        ):
            with pytest.raises(PermissionDenied):
                await sink.put(credentials, space=space, digest=digest, data=data, share=ANN)
        with pytest.raises(ObjectUnreadable):
            await source.read_all(space, digest, most=MAX_OBJECT_BYTES, share=ANN)
        writer = await issued(aws, space, Access.WRITE)
        for _ in range(2):  # the second round finds the object stored
            await sink.put(writer, space=space, digest=digest, data=data, share=ANN)
        assert await source.read_all(space, digest, most=MAX_OBJECT_BYTES, share=ANN) == data


async def test_what_is_not_what_its_digest_says_is_not_stored(aws):
    space, digest = SpaceId(new_text_id()), Digest(hashlib.sha256(b"abc").digest())
    place = S3Place(aws.resources.bucket_name, aws.region, aws.endpoint)
    async with origin(place) as connections:
        sink = S3ObjectSink(connections, place)
        with pytest.raises(Unavailable):  # S3 takes it for damaged on the way, which may pass
            await sink.put(await issued(aws, space, Access.WRITE), space=space, digest=digest, data=b"abd", share=ANN)
        await sink.put(await issued(aws, space, Access.WRITE), space=space, digest=digest, data=b"abc", share=ANN)


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_wrong_clock_is_corrected_by_what_s3_says(aws, hours):
    space, data = SpaceId(new_text_id()), bytes(range(256)) * 1000
    digest = Digest(hashlib.sha256(data).digest())
    role = await aws.assume(aws.resources.gateway_role_arn)
    proxy = Proxy(aws.endpoint)
    try:
        proxy.ahead, proxy.root = hours * 3600, aws.root
        place = S3Place(aws.resources.bucket_name, aws.region, proxy.endpoint)
        async with origin(place) as connections:
            source = S3ObjectSource(connections, signing_as(role), place)
            sink = S3ObjectSink(connections, place)
            await sink.put(await issued(aws, space, Access.WRITE), space=space, digest=digest, data=data, share=ANN)
            assert await source.read_all(space, digest, most=MAX_OBJECT_BYTES, share=ANN) == data
            assert b"".join(await source.read(space, digest, offset=5, length=10, share=ANN)) == data[5:15]
            assert proxy.requests == ["PUT", "PUT", "GET", "GET", "GET"], "each asks once more when it is refused"
            proxy.ahead = 0.0
            assert await source.read_all(space, digest, most=MAX_OBJECT_BYTES, share=ANN) == data
    finally:
        await asyncio.to_thread(proxy.close)
