"""The credentials of a space permit only this: AWS decides on every request, whatever our services think.

The same chain as in production: auth's role assumes the transfer role with a session policy for one space.
"""

import asyncio
import base64
import hashlib
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Literal

import aiohttp
import pytest
from botocore.exceptions import ClientError

from services.metadata.adapters.s3 import S3Storage
from stack.embedded_aws import AwsCredentials
from stack.running import EmbeddedAws
from syncline.model.identifiers import SpaceId, new_text_id

A, B = "a" * 26, "b" * 26


def session_policy(bucket: str, space: str, access: Literal["read", "write"]) -> dict[str, Any]:
    """Return the policy as auth issues it."""
    actions = ["s3:GetObject"] if access == "read" else ["s3:GetObject", "s3:PutObject"]
    resource = f"arn:aws:s3:::{bucket}/spaces/{space}/objects/{'?' * 64}"
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resource}]}


class Holder:
    """Somebody with credentials, and the requests they might try."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self.s3 = s3
        self.bucket = bucket

    async def put(
        self, space: str, data: bytes, *, claimed: bytes | None = None, condition: dict[str, str] | None = None
    ) -> Any:
        """Upload `data` as the client does, claiming that it is `claimed`; `condition` replaces If-None-Match."""
        return await self.s3.put_object(
            Bucket=self.bucket,
            Key=key(space, data),
            Body=data,
            ChecksumSHA256=base64.b64encode(hashlib.sha256(data if claimed is None else claimed).digest()).decode(),
            **({"IfNoneMatch": "*"} if condition is None else condition),
        )

    async def get(self, space: str, data: bytes) -> bytes:
        answer = await self.s3.get_object(Bucket=self.bucket, Key=key(space, data))
        content: bytes = await answer["Body"].read()
        return content

    async def head(self, space: str, data: bytes) -> Any:
        return await self.s3.head_object(Bucket=self.bucket, Key=key(space, data), ChecksumMode="ENABLED")

    async def list(self, space: str) -> Any:
        return await self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"spaces/{space}/")

    async def delete(self, space: str, data: bytes) -> Any:
        return await self.s3.delete_object(Bucket=self.bucket, Key=key(space, data))

    async def delete_many(self, space: str, data: bytes) -> Any:
        return await self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": [{"Key": key(space, data)}]})

    async def copy(self, source: str, target: str, data: bytes) -> Any:
        found = {"Bucket": self.bucket, "Key": key(source, data)}
        return await self.s3.copy_object(Bucket=self.bucket, Key=f"{key(target, data)}-copy", CopySource=found)

    async def begin_multipart(self, space: str, data: bytes) -> Any:
        return await self.s3.create_multipart_upload(Bucket=self.bucket, Key=key(space, data))

    async def put_part(self, space: str, data: bytes) -> Any:
        return await self.s3.upload_part(
            Bucket=self.bucket, Key=key(space, data), UploadId="an upload", PartNumber=1, Body=data
        )

    def send(self, name: str, value: str) -> None:
        """Send a header with each request from now on, whatever the SDK thinks of it."""

        def add(request: Any, **_: object) -> None:
            del request.headers[name]
            request.headers[name] = value

        self.s3.meta.events.register("before-sign.s3", add)


def key(space: str, data: bytes) -> str:
    return f"spaces/{space}/objects/{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def holder_of(aws: EmbeddedAws) -> Any:
    @asynccontextmanager
    async def holder_of(
        space: str, access: Literal["read", "write"] = "write", *, seconds: int = 900
    ) -> AsyncIterator[Holder]:
        auth = await aws.assume(aws.resources.auth_role_arn)
        policy = session_policy(aws.resources.bucket_name, space, access)
        held = await aws.assume(aws.resources.transfer_role_arn, by=auth, policy=policy, seconds=seconds)
        # Without saying so, botocore signs addresses by the version 2 that proves no header.
        options: dict[str, Any] = {"signature_version": "s3v4", "retries": {"total_max_attempts": 1}}
        async with aws.client("s3", held, **options) as s3:
            yield Holder(s3, aws.resources.bucket_name)

    return holder_of


async def refusal(attempt: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as refused:
        await attempt
    response = refused.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


DENIED = (HTTPStatus.FORBIDDEN, "AccessDenied")
DENIED_HEAD = (HTTPStatus.FORBIDDEN, "403")  # an answer to HEAD has no body to say more


async def test_an_editor_creates_and_reads_objects_of_the_space(holder_of: Any) -> None:
    async with holder_of(A) as editor:
        await editor.put(A, b"mine")
        assert await editor.get(A, b"mine") == b"mine"
        head = await editor.head(A, b"mine")
    assert base64.b64decode(head["ChecksumSHA256"]) == hashlib.sha256(b"mine").digest()
    assert head["ChecksumType"] == "FULL_OBJECT"


async def test_nothing_of_another_space_is_in_reach(holder_of: Any) -> None:
    async with holder_of(B) as neighbour, holder_of(A) as intruder:
        await neighbour.put(B, b"theirs")
        assert await refusal(intruder.put(B, b"planted")) == DENIED
        assert await refusal(intruder.get(B, b"theirs")) == DENIED
        assert await refusal(intruder.head(B, b"theirs")) == DENIED_HEAD
        assert await refusal(intruder.list(B)) == DENIED
        assert await refusal(intruder.delete(B, b"theirs")) == DENIED
        assert await refusal(intruder.delete_many(B, b"theirs")) == DENIED
        assert await refusal(intruder.copy(B, A, b"theirs")) == DENIED
        assert await neighbour.get(B, b"theirs") == b"theirs"


async def test_who_may_not_list_is_not_told_whether_an_object_is_missing(holder_of: Any, aws: EmbeddedAws) -> None:
    """By a signature in headers as by one in the address, and by HEAD; metadata, which may list, is told."""
    async with holder_of(A, "read") as reader:
        assert await refusal(reader.get(A, b"never stored")) == DENIED
        assert await refusal(reader.head(A, b"never stored")) == DENIED_HEAD
        params = {"Bucket": reader.bucket, "Key": key(A, b"never stored")}
        address = await reader.s3.generate_presigned_url("get_object", Params=params)
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        assert answer.status == HTTPStatus.FORBIDDEN
        assert "<Code>AccessDenied</Code>" in await answer.text()
    for role, said in (
        (aws.resources.gateway_role_arn, DENIED),
        (aws.resources.metadata_role_arn, (HTTPStatus.NOT_FOUND, "NoSuchKey")),
    ):
        async with aws.client("s3", await aws.assume(role), retries={"total_max_attempts": 1}) as s3:
            assert await refusal(Holder(s3, aws.resources.bucket_name).get(A, b"never stored")) == said


async def test_not_even_ones_own_space_can_be_listed_or_emptied(holder_of: Any) -> None:
    async with holder_of(A) as editor:
        await editor.put(A, b"stays")
        assert await refusal(editor.list(A)) == DENIED
        assert await refusal(editor.delete(A, b"stays")) == DENIED
        assert await refusal(editor.delete_many(A, b"stays")) == DENIED
        assert await editor.get(A, b"stays") == b"stays"


HEX = hashlib.sha256(b"x").hexdigest()
KEY_CHARACTERS = set("0123456789abcdef")
UNSEALABLE = {
    "a path below": f"{HEX}/x",
    "a path of that length": f"{HEX[:60]}/x/y",
    "short": HEX[:-1],
    "long": f"{HEX}0",
    "nothing": "",
    "with a slash at the end": f"{HEX}/",
    "with two slashes at the end": f"{HEX[:-1]}//",
    "with a slash before": f"/{HEX}",
    "with a newline at the end": f"{HEX}\n",
    "with a newline before": f"\n{HEX}",
    **{f"with U+{ord(character):04X} at the end": HEX + character for character in "\t\r\x7f\x85é\u2028😀"},
    "of half the length, of characters with two units": "😀" * 32,
    **{
        f"with {character!r}": HEX[:-1] + character
        for character in map(chr, range(0x20, 0x7F))
        if character not in KEY_CHARACTERS
    },
}


async def test_only_keys_that_can_be_sealed_can_be_put(holder_of: Any, aws: EmbeddedAws) -> None:
    """Holders of credentials, even wider ones than auth gives out, put no object where no version can name it."""
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    auth = await aws.assume(aws.resources.auth_role_arn)
    held = await aws.assume(aws.resources.transfer_role_arn, by=auth, policy=everything)
    async with holder_of(A) as editor, aws.client("s3", held, retries={"total_max_attempts": 1}) as unlimited:
        for s3 in (editor.s3, unlimited):
            for name, last in UNSEALABLE.items():
                place = f"spaces/{A}/objects/{last}"
                refused = await refusal(s3.put_object(Bucket=editor.bucket, Key=place, Body=b"x", IfNoneMatch="*"))
                assert refused == DENIED, name
            for character in "\0\ufffe":  # XML has neither, so the SDK cannot read the reason of the refusal
                place = f"spaces/{A}/objects/{HEX}{character}"
                status, _ = await refusal(s3.put_object(Bucket=editor.bucket, Key=place, Body=b"x", IfNoneMatch="*"))
                assert status == HTTPStatus.FORBIDDEN
        elsewhere = (
            *(HEX, f"spaces/{A}/{HEX}", f"other/{A}/objects/{HEX}", f"spaces/{A}/objects/a/objects/{HEX}"),
            *(f"/spaces/{A}/objects/{HEX}", f"spaces/{A}/objects/{HEX}/"),
        )
        for s3, place in itertools.product((editor.s3, unlimited), elsewhere):
            assert await refusal(s3.put_object(Bucket=editor.bucket, Key=place, Body=b"x", IfNoneMatch="*")) == DENIED
        for place in (f"spaces//{A}/objects/{HEX}", f"spaces/{A}//objects/{HEX}", f"spaces/{A}\n/objects/{HEX}"):
            put = editor.s3.put_object(Bucket=editor.bucket, Key=place, Body=b"x", IfNoneMatch="*")
            assert await refusal(put) == DENIED


BEYOND_POLICIES = {
    "a control character": "\x01",
    "a null": "\0",
    "a newline": "\n",
    "an escape": "\x1b",
    "a deletion": "\x7f",
    "a control character of Latin-1": "\x85",
    "a letter": "é",
    "a digit": "\u0663",
    "a mark": "\u0301",
    "punctuation": "\u2026",
    "a symbol": "\u20ac",
    "a separator": "\u2028",
    "a format character": "\u200b",
    "one for private use": "\ue000",
    "no character": "\ufffe",
    "one beyond the first plane": "😀",
}


@pytest.mark.parametrize("character", BEYOND_POLICIES.values(), ids=BEYOND_POLICIES)
async def test_keys_that_no_policy_can_deny_are_seen_and_removed(
    holder_of: Any, aws: EmbeddedAws, character: str
) -> None:
    """A policy cannot list all characters. Such an object counts as unsealed, and is removed by its name."""
    space = SpaceId(new_text_id())
    name = HEX[:30] + character + HEX[31:]
    async with holder_of(space) as editor, aws.client("s3", await aws.assume(aws.resources.metadata_role_arn)) as s3:
        await editor.s3.put_object(
            Bucket=editor.bucket, Key=f"spaces/{space}/objects/{name}", Body=b"x", IfNoneMatch="*"
        )
        storage = S3Storage(s3, bucket=editor.bucket)
        (found,) = (await storage.list(space)).objects
        assert (found.name, found.digest, found.size) == (name, None, 1)
        assert (await storage.remove_once(space, name, etag=found.etag)).removed
        assert (await storage.list(space)).objects == []


async def test_an_object_is_never_overwritten(holder_of: Any) -> None:
    async with holder_of(A) as editor:
        await editor.put(A, b"once")
        assert await refusal(editor.put(A, b"once")) == (HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed")
        assert await refusal(editor.put(A, b"once", condition={})) == DENIED
        assert await refusal(editor.put(A, b"once", condition={"IfNoneMatch": '"other"'})) == DENIED
        assert await refusal(editor.put(A, b"once", condition={"IfMatch": "*"})) == DENIED
        assert await refusal(editor.copy(A, A, b"once")) == DENIED
        assert await refusal(editor.begin_multipart(A, b"once")) == DENIED
        assert await editor.get(A, b"once") == b"once"


async def test_nothing_is_uploaded_in_parts_whatever_header_comes_with_it(holder_of: Any) -> None:
    """Parts that are never completed are in no listing: no quota would count them."""
    async with holder_of(A) as editor:
        for attempt in (editor.begin_multipart, editor.put_part):
            assert await refusal(attempt(A, b"in parts")) == DENIED
        editor.send("If-None-Match", "*")
        for attempt in (editor.begin_multipart, editor.put_part):
            assert await refusal(attempt(A, b"in parts")) == DENIED
        await editor.put(A, b"whole")


@pytest.mark.parametrize(
    "more",
    [
        {"ACL": "public-read"},
        {"GrantRead": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'},
        {"ObjectLockLegalHoldStatus": "ON"},
        {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": "2035-01-01T00:00:00Z"},
    ],
    ids=["an ACL", "a grant", "a legal hold", "a retention"],
)
async def test_nothing_is_stored_that_others_may_read_or_that_nobody_may_remove(
    holder_of: Any, more: dict[str, str]
) -> None:
    async with holder_of(A) as editor:
        status, _ = await refusal(editor.put(A, repr(more).encode(), condition={"IfNoneMatch": "*"} | more))
        assert status in {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}
        assert await refusal(editor.head(A, repr(more).encode())) == DENIED_HEAD


@pytest.mark.parametrize(
    ("unreadable", "harmless"),
    [
        ({"StorageClass": "GLACIER"}, {"StorageClass": "STANDARD"}),
        ({"ServerSideEncryption": "aws:kms"}, {"ServerSideEncryption": "AES256"}),
        ({"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}, {}),
    ],
    ids=["archived", "another key", "the customer's key"],
)
async def test_nothing_is_stored_that_others_cannot_read(
    holder_of: Any, unreadable: dict[str, str], harmless: dict[str, str]
) -> None:
    data = repr(unreadable).encode()
    async with holder_of(A) as editor:
        assert await refusal(editor.put(A, data, condition={"IfNoneMatch": "*"} | unreadable)) == DENIED
        await editor.put(A, data, condition={"IfNoneMatch": "*"} | harmless)
        assert await editor.get(A, data) == data


async def test_metadata_removes_nothing_but_the_bytes_that_it_names(aws: EmbeddedAws, holder_of: Any) -> None:
    metadata = await aws.assume(aws.resources.metadata_role_arn)
    async with holder_of(A) as editor, aws.client("s3", metadata) as s3:
        stored = await editor.put(A, b"wrong")
        where = {"Bucket": editor.bucket, "Key": key(A, b"wrong")}
        assert await refusal(Holder(s3, editor.bucket).delete(A, b"wrong")) == DENIED
        assert await refusal(Holder(s3, editor.bucket).put(A, b"own")) == DENIED
        other = '"0123456789abcdef0123456789abcdef"'
        assert await refusal(s3.delete_object(**where, IfMatch=other)) == (412, "PreconditionFailed")
        assert await refusal(editor.s3.delete_object(**where, IfMatch=stored["ETag"])) == DENIED
        assert await editor.get(A, b"wrong") == b"wrong"
        outside = {"Bucket": editor.bucket, "Key": "spaces/elsewhere", "IfMatch": stored["ETag"]}
        assert await refusal(s3.delete_object(**outside)) == DENIED
        await s3.delete_object(**where, IfMatch=stored["ETag"])
        status, _ = await refusal(Holder(s3, editor.bucket).head(A, b"wrong"))
        assert status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("role", ["auth_role_arn", "notify_role_arn", "gateway_role_arn"])
async def test_nobody_but_metadata_removes_objects(aws: EmbeddedAws, holder_of: Any, role: str) -> None:
    held = await aws.assume(getattr(aws.resources, role))
    async with holder_of(A) as editor, aws.client("s3", held) as s3:
        data = role.encode()
        stored = await editor.put(A, data)
        where = {"Bucket": editor.bucket, "Key": key(A, data)}
        assert await refusal(s3.delete_object(**where, IfMatch=stored["ETag"])) == DENIED


async def test_auth_adds_events_and_changes_none(aws: EmbeddedAws) -> None:
    table = aws.resources.audit_table_name
    key = {"pk": {"S": new_text_id()}, "sk": {"S": "event"}}
    put = {"TableName": table, "Item": key, "ConditionExpression": "attribute_not_exists(pk)"}
    async with aws.client("dynamodb", await aws.assume(aws.resources.auth_role_arn)) as auth:
        await auth.transact_write_items(TransactItems=[{"Put": put}])
        found = await auth.query(
            TableName=table, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": key["pk"]}
        )
        assert found["Items"] == [key]
        for refused in (
            auth.delete_item(TableName=table, Key=key),
            auth.update_item(TableName=table, Key=key, UpdateExpression="REMOVE event"),
            auth.transact_write_items(TransactItems=[{"Delete": {"TableName": table, "Key": key}}]),
            auth.batch_write_item(RequestItems={table: [{"DeleteRequest": {"Key": key}}]}),
            auth.scan(TableName=table),
        ):
            _, code = await refusal(refused)
            assert "AccessDenied" in code, code
    for role in (aws.resources.metadata_role_arn, aws.resources.notify_role_arn, aws.resources.gateway_role_arn):
        async with aws.client("dynamodb", await aws.assume(role)) as other:
            _, code = await refusal(other.put_item(TableName=table, Item=key))
            assert "AccessDenied" in code, code


async def test_auth_asks_for_mail_and_reads_none(aws: EmbeddedAws) -> None:
    auth = await aws.assume(aws.resources.auth_role_arn)
    metadata = await aws.assume(aws.resources.metadata_role_arn)
    async with aws.client("sqs", auth) as ours, aws.client("sqs", metadata) as others:
        queue, dead = aws.resources.mail_queue_url, aws.resources.mail_dead_letter_queue_url
        await ours.send_message(QueueUrl=queue, MessageBody="a request")
        for refused in (
            ours.receive_message(QueueUrl=queue),
            ours.send_message(QueueUrl=dead, MessageBody="a request"),
            others.send_message(QueueUrl=queue, MessageBody="a request"),
        ):
            status, code = await refusal(refused)
            assert (status, "AccessDenied" in code) == (HTTPStatus.FORBIDDEN, True), code


async def test_bytes_that_are_not_what_they_claim_are_not_stored(holder_of: Any) -> None:
    async with holder_of(A) as editor:
        wrong = editor.put(A, b"sent", claimed=b"claimed")
        assert await refusal(wrong) == (HTTPStatus.BAD_REQUEST, "BadDigest")
        # No device is told what is missing.
        assert await refusal(editor.head(A, b"sent")) == DENIED_HEAD


async def test_a_viewer_reads_and_writes_nothing(holder_of: Any) -> None:
    async with holder_of(A) as editor, holder_of(A, "read") as viewer:
        await editor.put(A, b"for all")
        assert await viewer.get(A, b"for all") == b"for all"
        assert await refusal(viewer.put(A, b"not by me")) == DENIED
        assert await refusal(viewer.list(A)) == DENIED
        assert await refusal(viewer.delete(A, b"for all")) == DENIED


async def test_expired_credentials_permit_nothing(holder_of: Any) -> None:
    # AWS issues none for less than 15 minutes; the emulator takes any duration, so that this need not wait.
    async with holder_of(A) as editor, holder_of(A, seconds=1) as late:
        await editor.put(A, b"in time")
        deadline = time.monotonic() + 60
        while True:
            try:
                await late.get(A, b"in time")
            except ClientError as error:
                assert error.response["Error"]["Code"] == "ExpiredToken"  # noqa: PT017  # any other fails the test
                break
            assert time.monotonic() < deadline, "still valid"
            await asyncio.sleep(0.1)
        assert await refusal(late.put(A, b"too late")) == (HTTPStatus.BAD_REQUEST, "ExpiredToken")


async def test_without_credentials_nothing_is_in_reach(aws: EmbeddedAws, holder_of: Any) -> None:
    async with holder_of(A) as editor, aiohttp.ClientSession() as session:
        await editor.put(A, b"not public")
        address = f"{aws.endpoint}/{aws.resources.bucket_name}/{key(A, b'not public')}"
        for method in ("GET", "PUT", "DELETE"):
            async with session.request(method, address) as answer:
                assert answer.status == HTTPStatus.FORBIDDEN


async def test_a_page_in_a_browser_uploads_by_a_signed_address(aws: EmbeddedAws, holder_of: Any) -> None:
    data, page = b"from a page", {"Origin": "https://files.example.com"}
    proof = base64.b64encode(hashlib.sha256(data).digest()).decode()
    async with holder_of(A) as editor, aiohttp.ClientSession() as browser:
        address = await editor.s3.generate_presigned_url(
            "put_object",
            Params={"Bucket": editor.bucket, "Key": key(A, data), "ChecksumSHA256": proof, "IfNoneMatch": "*"},
            ExpiresIn=60,
        )
        headers = {"If-None-Match": "*", "x-amz-checksum-sha256": proof}
        asked = {
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": ",".join(headers).lower(),
        }
        async with browser.options(address, headers=page | asked) as preflight:
            assert preflight.status == HTTPStatus.OK
            assert preflight.headers["Access-Control-Allow-Origin"] in {"*", page["Origin"]}
        async with browser.put(address, data=b"altered   !", headers=page | headers) as refused:
            assert refused.status == HTTPStatus.BAD_REQUEST
        async with browser.put(address, data=data, headers=page | headers) as stored:
            assert stored.status == HTTPStatus.OK
            assert "etag" in stored.headers["Access-Control-Expose-Headers"].lower()
        async with browser.put(address, data=data, headers=page | headers) as repeated:
            assert repeated.status == HTTPStatus.PRECONDITION_FAILED
        async with browser.put(address, data=data, headers={"x-amz-checksum-sha256": proof}) as unconditional:
            assert unconditional.status == HTTPStatus.FORBIDDEN
        assert await editor.get(A, data) == data


async def test_only_auth_issues_credentials_of_a_space(aws: EmbeddedAws) -> None:
    for role in (aws.resources.metadata_role_arn, aws.resources.notify_role_arn, aws.resources.gateway_role_arn):
        held: AwsCredentials = await aws.assume(role)
        assert await refusal(aws.assume(aws.resources.transfer_role_arn, by=held)) == DENIED
