"""Every object storage owes this."""

import base64
import hashlib
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from services.metadata.adapters.s3 import S3Storage
from services.metadata.ports import Barrier, Deletion, Listing, StoredObject
from stack.embedded_aws import Aws, AwsCredentials
from syncline.model.blocks import MAX_OBJECT_BYTES, Digest, key_prefix, object_key
from syncline.model.errors import Unavailable
from syncline.model.identifiers import SpaceId, new_text_id
from tests.contract.metadata.conftest import EMBEDDED, IN_MEMORY, MOTO, everywhere
from tests.support.metadata import MemoryObjects


def sha256(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).digest())


@pytest.fixture
async def storage(backend):
    if backend is None:
        yield MemoryObjects()
        return
    async with backend.aws.client("s3", backend.metadata) as client:
        yield S3Storage(client, bucket=backend.bucket)


@pytest.fixture
async def s3(backend):
    """The client of root, who may store what no client may."""
    if backend is None:
        yield None
        return
    async with backend.aws.client("s3", request_checksum_calculation="when_required") as client:
        yield client


@pytest.fixture
def put(backend, storage, s3):
    """Stores as clients do: under the digest, with the digest as checksum."""

    async def put(space: SpaceId, data: bytes, **other):
        name = other.pop("name", sha256(data))
        if backend is None:
            storage.stored[space, name] = data
        else:
            checksum = base64.b64encode(sha256(data)).decode()
            await s3.put_object(
                Bucket=backend.bucket,
                Key=object_key(space, name),
                Body=data,
                IfNoneMatch="*",
                **(other or {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}),
            )
        return name

    return put


@everywhere
async def test_a_missing_object_is_none(storage, space):
    assert await storage.describe(space, sha256(b"missing")) is None
    assert await storage.read(space, sha256(b"missing")) is None


@everywhere
@pytest.mark.parametrize("data", [b"", b"hello", bytes(range(256)) * 40_000], ids=len)
async def test_an_object_has_its_bytes_and_the_checksum_that_storage_computed(storage, put, space, data):
    name = await put(space, data)
    assert await storage.describe(space, name) == StoredObject(len(data), name)
    assert await storage.read(space, name) == data


@everywhere
async def test_objects_belong_to_their_space(storage, put, space):
    name = await put(space, b"hello")
    other = SpaceId(new_text_id())
    assert await storage.describe(other, name) is None
    assert await storage.read(other, name) is None


@everywhere
async def test_an_object_under_a_wrong_name_tells_by_its_checksum(storage, put, space):
    name = await put(space, b"something else", name=sha256(b"hello"))
    assert await storage.describe(space, name) == StoredObject(14, sha256(b"something else"))


@everywhere
async def test_the_largest_object_is_read(storage, put, space):
    data = bytes(MAX_OBJECT_BYTES)
    assert await storage.read(space, await put(space, data)) == data


@everywhere
async def test_all_objects_of_a_space_are_listed_page_by_page(storage, put, space):
    assert await storage.list(space) == Listing([], "")
    put_by_name = {await put(space, b"%d" % number): b"%d" % number for number in range(1_020)}
    await put(SpaceId(new_text_id()), b"of another space")
    first = await storage.list(space)
    second = await storage.list(space, after=first.after)
    assert (len(first.objects), first.after) == (1_000, first.objects[-1].digest.hex())
    assert (len(second.objects), second.after) == (20, "")
    listed = [*first.objects, *second.objects]
    assert [one.digest for one in listed] == sorted(put_by_name)
    assert [one.size for one in listed] == [len(put_by_name[one.digest]) for one in listed]
    found = await storage.describe(space, listed[0].digest)
    assert listed[0].etag == found.etag


@pytest.mark.parametrize("backend", [EMBEDDED, MOTO], indirect=True)
async def test_a_listing_tells_when_an_object_was_put_and_names_that_are_no_digests(storage, s3, backend, space):
    name = key_prefix(space) + "not-a-digest"
    begun = time.time()
    await s3.put_object(Bucket=backend.bucket, Key=name, Body=b"hello", IfNoneMatch="*")
    (one,) = (await storage.list(space)).objects
    assert (one.digest, one.size) == (None, 5)
    assert abs(one.modified_at_ms / 1000 - begun) < 60


where_conditional = pytest.mark.parametrize("backend", [IN_MEMORY, EMBEDDED], indirect=True)
"""moto removes whatever is there."""


@where_conditional
async def test_an_object_is_removed_by_its_etag_alone(storage, put, space):
    name = await put(space, b"something else", name=sha256(b"hello"))
    wrong = await storage.describe(space, name)
    assert not await storage.remove(space, name, etag='"0123456789abcdef0123456789abcdef"')
    assert await storage.describe(space, name) == wrong
    assert await storage.remove(space, name, etag=wrong.etag)
    assert await storage.describe(space, name) is None
    await put(space, b"hello")
    assert not await storage.remove(space, name, etag=wrong.etag)
    assert await storage.read(space, name) == b"hello"


@where_conditional
async def test_what_is_gone_need_not_be_removed(storage, put, space):
    name = await put(space, b"hello")
    etag = (await storage.describe(space, name)).etag
    assert [await storage.remove(space, name, etag=etag) for _ in range(2)] == [True, False]
    assert await storage.read(space, name) is None


on_embedded = pytest.mark.parametrize("backend", [EMBEDDED], indirect=True)


@on_embedded
async def test_a_larger_object_is_none_of_ours(storage, put, space):
    name = await put(space, bytes(MAX_OBJECT_BYTES + 1))
    assert await storage.read(space, name) is None
    assert (await storage.describe(space, name)).size == MAX_OBJECT_BYTES + 1


@on_embedded
async def test_an_object_without_a_sha256_has_none(storage, put, space):
    name = await put(space, b"hello", ChecksumCRC32="NhCmhg==")
    assert await storage.describe(space, name) == StoredObject(5, None)


LOCKED = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}


@on_embedded
async def test_an_object_with_a_key_of_a_customer_is_told_and_can_be_removed(storage, put, space):
    """HEAD of it is a bad request."""
    name = await put(space, b"hello", **LOCKED)
    locked = await storage.describe(space, name)
    assert locked == StoredObject(5, None, barrier=Barrier.KEY)
    assert not await storage.remove(space, name, etag='"0123456789abcdef0123456789abcdef"')
    assert await storage.remove(space, name, etag=locked.etag)
    assert await storage.describe(space, name) is None
    await put(space, b"hello")
    assert await storage.describe(space, name) == StoredObject(5, name)


@on_embedded
@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE", "GLACIER_IR", "STANDARD_IA"])
async def test_an_archived_object_is_told(storage, put, space, storage_class):
    name = await put(space, b"hello", StorageClass=storage_class, ChecksumCRC32="NhCmhg==")
    is_archived = storage_class in {"GLACIER", "DEEP_ARCHIVE"}
    assert await storage.describe(space, name) == StoredObject(
        5, None, barrier=Barrier.ARCHIVE if is_archived else None
    )
    assert await storage.read(space, name) == (None if is_archived else b"hello")


HELLO = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": base64.b64encode(sha256(b"hello")).decode()}
STRANGE: dict[str, dict[str, Any]] = {
    "an encoding": {"ContentEncoding": "gzip"},
    "a disposition": {"ContentDisposition": "attachment"},
    "a language": {"ContentLanguage": "en"},
    "an end": {"Expires": datetime(2030, 1, 1, tzinfo=UTC)},
    "another place": {"WebsiteRedirectLocation": "https://example.com/"},
    "metadata": {"Metadata": {"a": "b"}},
    "very many headers": {"Metadata": {f"{number:x}": "" for number in range(60)}},
    "a long cache": {"CacheControl": "x" * 7000},
    "a cache of other characters": {"CacheControl": "no-store\N{LATIN SMALL LETTER A WITH DIAERESIS}"},
    "a type of other characters": {"ContentType": "text/pl\N{LATIN SMALL LETTER A WITH DIAERESIS}in"},
}


@on_embedded
@pytest.mark.parametrize("strange", STRANGE)
async def test_an_object_with_headers_that_are_not_ours_is_told(storage, put, space, strange):
    name = await put(space, b"hello", **HELLO, **STRANGE[strange])
    found = await storage.describe(space, name)
    assert found is not None
    assert (found.size, found.barrier) == (5, Barrier.HEADERS)
    assert (await storage.remove_once(space, name.hex(), etag=found.etag)).removed


@on_embedded
@pytest.mark.parametrize("usual", [{}, {"ContentType": "text/html; charset=utf-8"}, {"CacheControl": "no-cache"}])
async def test_an_object_with_headers_of_an_upload_is_told_to_be_readable(storage, put, space, usual):
    name = await put(space, b"hello", **HELLO, **usual)
    assert await storage.describe(space, name) == StoredObject(5, name)


class Server(ThreadingHTTPServer):
    """S3 where HEAD is answered as AWS does for what the emulator does not know."""

    daemon_threads = True

    def __init__(self, kind: str) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.kind = kind


class Answers(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        if self.server.kind == "expired":
            self.say(400)
        elif "x-amz-checksum-mode" in self.headers:
            self.say(403)  # S3 tells the checksum under a key of KMS only to those who may use the key
        elif self.server.kind == "kms":
            self.say(200, {"x-amz-server-side-encryption": "aws:kms", "ETag": '"etag"', "Content-Length": "5"})
        else:
            self.say(403)

    def do_GET(self) -> None:
        self.say(400, body=b"<Error><Code>ExpiredToken</Code></Error>")

    def say(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def answering(kind: str):
    with Server(kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Aws(f"http://127.0.0.1:{server.server_port}", AwsCredentials("key", "secret"))
        server.shutdown()


async def test_an_object_with_another_key_of_kms_is_told(space):
    with answering("kms") as aws:
        async with aws.client("s3") as client:
            found = await S3Storage(client, bucket="bucket").describe(space, sha256(b"hello"))
    assert found == StoredObject(5, None, barrier=Barrier.KEY)
    assert found.etag == '"etag"'


async def test_an_object_that_the_role_may_not_see_is_not_taken_for_one_with_another_key(space):
    with answering("hidden") as aws:
        async with aws.client("s3") as client:
            assert await S3Storage(client, bucket="bucket").describe(space, sha256(b"hello")) is None


async def test_expired_credentials_are_not_taken_for_a_key_of_a_customer(space):
    """HEAD is a bad request then too, without a word of why."""
    with answering("expired") as aws:
        async with aws.client("s3") as client:
            with pytest.raises(ClientError):
                await S3Storage(client, bucket="bucket").describe(space, sha256(b"hello"))


@pytest.mark.parametrize("backend", [MOTO], indirect=True)
async def test_a_checksum_of_parts_is_none_of_the_whole(storage, s3, backend, space):
    where = {"Bucket": backend.bucket, "Key": object_key(space, sha256(b"hello"))}
    upload = (await s3.create_multipart_upload(**where, ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE"))[
        "UploadId"
    ]
    part = await s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"hello", ChecksumAlgorithm="SHA256")
    told = {"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}
    await s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": [told]})
    assert (await s3.head_object(**where, ChecksumMode="ENABLED"))["ChecksumSHA256"]
    assert await storage.describe(space, sha256(b"hello")) == StoredObject(5, None)
    assert await storage.read(space, sha256(b"hello")) == b"hello"


@on_embedded
async def test_a_role_that_may_not_list_sees_a_missing_object_as_missing(aws, backend, put, space):
    only_get = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    narrow = await aws.assume(
        aws.resources.metadata_role_arn, policy={"Version": "2012-10-17", "Statement": [only_get]}
    )
    name = await put(space, b"hello")
    async with aws.client("s3", narrow) as client:
        storage = S3Storage(client, bucket=backend.bucket)
        assert await storage.read(space, name) == b"hello"
        assert await storage.describe(space, sha256(b"missing")) is None
        assert await storage.read(space, sha256(b"missing")) is None


@on_embedded
async def test_an_object_that_may_not_be_removed_stays(aws, backend, put, space):
    only_read = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
    narrow = await aws.assume(
        aws.resources.metadata_role_arn, policy={"Version": "2012-10-17", "Statement": [only_read]}
    )
    name = await put(space, b"hello")
    async with aws.client("s3", narrow) as client:
        storage = S3Storage(client, bucket=backend.bucket)
        stored = await storage.describe(space, name)
        assert stored is not None
        assert not await storage.remove(space, name, etag=stored.etag)
        assert await storage.read(space, name) == b"hello"


@on_embedded
async def test_another_fault_is_not_taken_for_a_missing_object(backend, space):
    async with backend.aws.client("s3", backend.metadata) as client:
        storage = S3Storage(client, bucket="no-such-bucket")
        with pytest.raises(ClientError):
            await storage.read(space, sha256(b"hello"))


async def test_storage_that_does_not_answer_is_unavailable(space):
    nowhere = Aws("http://127.0.0.1:1", AwsCredentials("key", "secret"))
    async with nowhere.client("s3", retries={"total_max_attempts": 1}) as client:
        storage = S3Storage(client, bucket="bucket")
        with pytest.raises(Unavailable):
            await storage.describe(space, sha256(b"hello"))
        with pytest.raises(Unavailable):
            await storage.read(space, sha256(b"hello"))


@where_conditional
async def test_an_object_that_storage_was_asked_once_to_remove_is_settled(storage, put, space):
    name = await put(space, b"hello")
    etag = (await storage.describe(space, name)).etag
    settled = Deletion(removed=False, is_over=True)
    assert await storage.remove_once(space, name.hex(), etag='"0123456789abcdef0123456789abcdef"') == settled
    assert await storage.read(space, name) == b"hello"
    removed = Deletion(removed=True, is_over=True)
    assert [await storage.remove_once(space, name.hex(), etag=etag) for _ in range(2)] == [removed, settled]
    assert await storage.read(space, name) is None


@on_embedded
@pytest.mark.parametrize("name", ["\u00e9" * 32 + "\x07" * 32, "a b+%2F&" * 8, "not-a-digest"])
async def test_an_object_is_removed_by_whatever_name_it_has(storage, s3, backend, space, name):
    await s3.put_object(Bucket=backend.bucket, Key=key_prefix(space) + name, Body=b"hello", IfNoneMatch="*")
    (one,) = (await storage.list(space)).objects
    assert (one.name, one.digest) == (name, None)
    assert not (await storage.remove_once(space, one.name, etag='"0123456789abcdef0123456789abcdef"')).removed
    assert (await storage.list(space)).objects == [one]
    assert (await storage.remove_once(space, one.name, etag=one.etag)).removed
    assert (await storage.list(space)).objects == []


@on_embedded
async def test_a_request_that_was_repeated_may_still_be_on_its_way(put, backend, space):
    name = await put(space, b"hello")
    async with backend.aws.client("s3", backend.metadata, retries={"mode": "standard", "total_max_attempts": 3}) as s3:
        broken = [EndpointConnectionError(endpoint_url="http://127.0.0.1:1")]

        def fail_once(**_):
            if broken:
                raise broken.pop()

        s3.meta.events.register("before-send.s3.DeleteObject", fail_once)
        storage = S3Storage(s3, bucket=backend.bucket)
        stored = await storage.describe(space, name)
        assert stored is not None
        assert not (await storage.remove_once(space, name.hex(), etag=stored.etag)).is_over
        assert broken == []
        assert await storage.describe(space, name) is None
