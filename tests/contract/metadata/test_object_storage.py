"""What every object storage owes."""

import base64
import hashlib

import pytest
from botocore.exceptions import ClientError

from core.blocks import MAX_OBJECT_BYTES, Digest, object_key
from core.errors import Unavailable
from core.identifiers import SpaceId, new_text_id
from services.metadata.in_memory import MemoryObjects
from services.metadata.ports import StoredObject
from services.metadata.s3 import S3Storage
from stack.emulator import Aws, Credentials
from tests.contract.metadata.conftest import EMBEDDED, IN_MEMORY, MOTO, everywhere


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
    """As root, who may store what no client may."""
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
    assert await storage.head(space, sha256(b"missing")) is None
    assert await storage.read(space, sha256(b"missing")) is None


@everywhere
@pytest.mark.parametrize("data", [b"", b"hello", bytes(range(256)) * 40_000], ids=len)
async def test_an_object_has_its_bytes_and_the_checksum_that_storage_computed(storage, put, space, data):
    name = await put(space, data)
    assert await storage.head(space, name) == StoredObject(len(data), name)
    assert await storage.read(space, name) == data


@everywhere
async def test_objects_belong_to_their_space(storage, put, space):
    name = await put(space, b"hello")
    other = SpaceId(new_text_id())
    assert await storage.head(other, name) is None
    assert await storage.read(other, name) is None


@everywhere
async def test_an_object_under_a_wrong_name_tells_by_its_checksum(storage, put, space):
    name = await put(space, b"something else", name=sha256(b"hello"))
    assert await storage.head(space, name) == StoredObject(14, sha256(b"something else"))


@everywhere
async def test_the_largest_object_is_read(storage, put, space):
    data = bytes(MAX_OBJECT_BYTES)
    assert await storage.read(space, await put(space, data)) == data


where_conditional = pytest.mark.parametrize("backend", [IN_MEMORY, EMBEDDED], indirect=True)
"""moto removes whatever is there."""


@where_conditional
async def test_an_object_is_removed_by_its_etag_alone(storage, put, space):
    name = await put(space, b"something else", name=sha256(b"hello"))
    wrong = await storage.head(space, name)
    assert not await storage.remove(space, name, etag='"0123456789abcdef0123456789abcdef"')
    assert await storage.head(space, name) == wrong
    assert await storage.remove(space, name, etag=wrong.etag)
    assert await storage.head(space, name) is None
    await put(space, b"hello")
    assert not await storage.remove(space, name, etag=wrong.etag)
    assert await storage.read(space, name) == b"hello"


@where_conditional
async def test_what_is_gone_need_not_be_removed(storage, put, space):
    name = await put(space, b"hello")
    etag = (await storage.head(space, name)).etag
    assert [await storage.remove(space, name, etag=etag) for _ in range(2)] == [True, False]
    assert await storage.read(space, name) is None


on_embedded = pytest.mark.parametrize("backend", [EMBEDDED], indirect=True)


@on_embedded
async def test_a_larger_object_is_none_of_ours(storage, put, space):
    name = await put(space, bytes(MAX_OBJECT_BYTES + 1))
    assert await storage.read(space, name) is None
    assert (await storage.head(space, name)).size == MAX_OBJECT_BYTES + 1


@on_embedded
async def test_an_object_without_a_sha256_has_none(storage, put, space):
    name = await put(space, b"hello", ChecksumCRC32="NhCmhg==")
    assert await storage.head(space, name) == StoredObject(5, None)


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
    assert await storage.head(space, sha256(b"hello")) == StoredObject(5, None)
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
        assert await storage.head(space, sha256(b"missing")) is None
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
        stored = await storage.head(space, name)
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
    nowhere = Aws("http://127.0.0.1:1", Credentials("key", "secret"))
    async with nowhere.client("s3", retries={"total_max_attempts": 1}) as client:
        storage = S3Storage(client, bucket="bucket")
        with pytest.raises(Unavailable):
            await storage.head(space, sha256(b"hello"))
        with pytest.raises(Unavailable):
            await storage.read(space, sha256(b"hello"))
