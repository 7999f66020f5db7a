"""Everything that the embedded AWS was told and has acknowledged is there after kill -9, as it was before."""

import asyncio
import base64
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError, HTTPClientError

from stack.data_directory import new_root
from stack.deploy import Resources, deploy_embedded
from stack.embedded_aws import HOST, Aws, emulator, listen
from stack.emulator.durability import durable
from stack.emulator.storage import Storage, StorageFailed
from stack.errors import DeployFailed
from stack.output import Output
from stack.running import EmbeddedAws, embedded_aws
from stack.supervisor import Supervisor
from tests.stack.small_disk import on_small_disk

DEADLINE = 60.0
ITEM = {"pk": {"S": "a"}, "sk": {"S": "b"}}
BODY = os.urandom(100_000)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def aws(data: Path) -> Iterator[EmbeddedAws]:
    with embedded_aws(data=data) as running:
        yield running


def emulators(data: Path) -> list[psutil.Process]:
    """Return the emulators that keep their state in this directory; other tests of this process may have theirs."""
    return [
        process
        for process in psutil.Process().children()
        if "stack.emulator" in process.cmdline() and process.environ()["S3_DATA_DIR"] == str(data.resolve() / "s3")
    ]


async def killed(data: Path) -> None:
    """Kill it, and return when its successor serves."""
    (process,) = emulators(data)
    log = data / "logs" / "aws.log"
    before = log.read_text().count("read back") if log.exists() else 0
    process.kill()
    deadline = time.monotonic() + DEADLINE
    while not log.exists() or log.read_text().count("read back") == before:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def plain(answer: Any) -> Any:
    """An answer without what differs between two of the same."""
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


async def observed(aws: EmbeddedAws) -> dict[str, Any]:
    """Return what the AWS says of all that it has, that a restart must not change."""
    found: dict[str, Any] = {}
    async with (
        aws.client("dynamodb") as dynamodb,
        aws.client("s3") as s3,
        aws.client("iam") as iam,
        aws.client("sns") as sns,
        aws.client("sqs") as sqs,
        aws.client("sesv2") as ses,
        aws.client("cloudformation") as cloudformation,
    ):
        for table in (await dynamodb.list_tables())["TableNames"]:
            described = (await dynamodb.describe_table(TableName=table))["Table"]
            arn = described["TableArn"]
            found[f"table {table}"] = [
                described,
                plain(await dynamodb.describe_time_to_live(TableName=table)),
                plain(await dynamodb.describe_continuous_backups(TableName=table))["ContinuousBackupsDescription"][
                    "ContinuousBackupsStatus"
                ],
                plain(await dynamodb.list_tags_of_resource(ResourceArn=arn)),
                sorted((await dynamodb.scan(TableName=table))["Items"], key=repr),
            ]
        for bucket in (await s3.list_buckets())["Buckets"]:
            name = bucket["Name"]
            objects = (await s3.list_objects_v2(Bucket=name)).get("Contents", [])
            found[f"bucket {name}"] = [bucket, objects]
            for at in objects:
                head = await s3.head_object(Bucket=name, Key=at["Key"], ChecksumMode="ENABLED")
                body = await (await s3.get_object(Bucket=name, Key=at["Key"]))["Body"].read()
                tags = plain(await s3.get_object_tagging(Bucket=name, Key=at["Key"]))
                found[f"object {at['Key']}"] = [plain(head), hashlib.sha256(body).hexdigest(), tags]
        bucket = aws.resources.bucket_name
        found["bucket policy"] = plain(await s3.get_bucket_policy(Bucket=bucket))
        found["bucket cors"] = plain(await s3.get_bucket_cors(Bucket=bucket))
        found["public access"] = plain(await s3.get_public_access_block(Bucket=bucket))
        for role in (await iam.list_roles())["Roles"]:
            name = role["RoleName"]
            role.pop("RoleLastUsed", None)
            policies = (await iam.list_role_policies(RoleName=name))["PolicyNames"]
            found[f"role {name}"] = [
                role,
                [plain(await iam.get_role_policy(RoleName=name, PolicyName=policy)) for policy in policies],
            ]
        for topic in (await sns.list_topics())["Topics"]:
            arn = topic["TopicArn"]
            found[f"topic {arn}"] = [
                plain(await sns.get_topic_attributes(TopicArn=arn)),
                plain(await sns.list_subscriptions_by_topic(TopicArn=arn)),
            ]
        for url in (await sqs.list_queues()).get("QueueUrls", []):
            found[f"queue {url.rpartition('/')[2]}"] = plain(
                await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            )
        found["identities"] = plain(await ses.list_email_identities())
        found["mail settings"] = plain(await ses.list_configuration_sets())
        found["mails"] = aws.mails()
        (stack,) = (await cloudformation.describe_stacks())["Stacks"]
        found["stack"] = stack
        found["stack's resources"] = plain(await cloudformation.describe_stack_resources(StackName=stack["StackName"]))
    return found


async def test_everything_is_as_it_was_before_a_kill(aws: EmbeddedAws, data: Path) -> None:
    made = await use(aws)
    before = await observed(aws)
    # Read by nobody before the kill, so that only the answers to the changes themselves can have made them durable.
    held = await aws.assume(aws.resources.metadata_role_arn)
    await killed(data)
    after = await observed(aws)
    assert after == before
    async with aws.client("dynamodb", held) as dynamodb, aws.client("sqs") as sqs, aws.client("dynamodb") as root:
        await dynamodb.get_item(TableName=aws.resources.metadata_table_name, Key=ITEM)
        # A transaction that is repeated because its answer was lost is not applied again.
        await root.transact_write_items(**made["transaction"])
        counted = await root.get_item(TableName=aws.resources.identity_table_name, Key=made["counter"])
        assert counted["Item"]["n"] == {"N": "1"}
        received = await sqs.receive_message(QueueUrl=made["queue"], MaxNumberOfMessages=10)
        # One message was received and deleted before the kill; another was received only, and is hidden still.
        seen = {message["Body"] for message in received["Messages"]}
        assert len(seen) == 3
        assert seen | {made["hidden"]["Body"], made["deleted"]["Body"]} == set("01234")
        await sqs.delete_message(QueueUrl=made["queue"], ReceiptHandle=made["hidden"]["ReceiptHandle"])
    await killed(data)
    async with aws.client("sqs") as sqs:
        with pytest.raises(ClientError, match="ReceiptHandleIsInvalid"):
            await sqs.delete_message(QueueUrl=made["queue"], ReceiptHandle=made["hidden"]["ReceiptHandle"])


async def use(aws: EmbeddedAws) -> dict[str, Any]:
    """Change something of every kind."""
    tables, bucket = aws.resources, aws.resources.bucket_name
    async with (
        aws.client("dynamodb") as dynamodb,
        aws.client("s3") as s3,
        aws.client("iam") as iam,
        aws.client("sns") as sns,
        aws.client("sqs") as sqs,
        aws.client("sesv2") as ses,
    ):
        identity = tables.identity_table_name
        for number in range(5):
            await dynamodb.put_item(TableName=identity, Item={"pk": {"S": "items"}, "sk": {"S": str(number)}})
        await dynamodb.delete_item(TableName=identity, Key={"pk": {"S": "items"}, "sk": {"S": "3"}})
        await dynamodb.update_item(
            TableName=identity,
            Key={"pk": {"S": "items"}, "sk": {"S": "4"}},
            UpdateExpression="SET #b = :b, l = :l",
            ExpressionAttributeNames={"#b": "binary"},
            ExpressionAttributeValues={
                ":b": {"B": bytes(range(256))},
                ":l": {"L": [{"NULL": True}, {"NS": ["1", "2"]}]},
            },
        )
        await dynamodb.batch_write_item(
            RequestItems={
                tables.notify_table_name: [
                    {"PutRequest": {"Item": {"pk": {"S": "\u00fc\u0000\u2028"}, "sk": {"S": str(number)}}}}
                    for number in range(25)
                ]
            }
        )
        counter = {"pk": {"S": "counter"}, "sk": {"S": "n"}}
        transaction = {
            "ClientRequestToken": "once",
            "TransactItems": [
                {
                    "Update": {
                        "TableName": identity,
                        "Key": counter,
                        "UpdateExpression": "ADD n :one",
                        "ExpressionAttributeValues": {":one": {"N": "1"}},
                    }
                },
                {"Delete": {"TableName": identity, "Key": {"pk": {"S": "items"}, "sk": {"S": "0"}}}},
            ],
        }
        await dynamodb.transact_write_items(**transaction)
        # A table that goes, and one that comes again under its name with other items.
        keys: dict[str, Any] = {
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "N"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        }
        for name in ("gone", "again"):
            await dynamodb.create_table(TableName=name, **keys)
            await dynamodb.put_item(TableName=name, Item={"id": {"N": "1"}})
            await dynamodb.delete_table(TableName=name)
        await dynamodb.create_table(TableName="again", **keys)
        await dynamodb.put_item(TableName="again", Item={"id": {"N": "2"}})

        await s3.put_object(
            Bucket=bucket, Key=f"spaces/a/objects/{0:064}", Body=BODY, IfNoneMatch="*", ChecksumAlgorithm="SHA256",
            Metadata={"of": "us"},
        )  # fmt: skip
        await s3.put_object(Bucket=bucket, Key=f"spaces/a/objects/{1:064}", Body=b"gone", IfNoneMatch="*")
        await s3.delete_object(Bucket=bucket, Key=f"spaces/a/objects/{1:064}")
        await s3.create_bucket(Bucket="own")
        for body in (b"first", b"second"):
            await s3.put_object(Bucket="own", Key="a key/with ../odd//parts", Body=body, Tagging="name=value")
        await s3.copy_object(Bucket="own", Key="copy", CopySource={"Bucket": "own", "Key": "a key/with ../odd//parts"})
        await s3.create_bucket(Bucket="gone")
        await s3.delete_bucket(Bucket="gone")

        statement = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
        await iam.put_role_policy(
            RoleName=tables.gateway_role_name,
            PolicyName="more",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )
        queue = (await sqs.create_queue(QueueName="kept"))["QueueUrl"]
        await sqs.create_queue(QueueName="gone")
        for number in range(5):
            await sqs.send_message(QueueUrl=queue, MessageBody=str(number))
        (first,) = (await sqs.receive_message(QueueUrl=queue, VisibilityTimeout=600))["Messages"]
        await sqs.delete_message(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"])
        (second,) = (await sqs.receive_message(QueueUrl=queue, VisibilityTimeout=600))["Messages"]
        await sqs.delete_queue(QueueUrl=(await sqs.get_queue_url(QueueName="gone"))["QueueUrl"])
        topic = (await sns.create_topic(Name="kept"))["TopicArn"]
        arn = (await sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]
        await sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
        await ses.send_email(
            FromEmailAddress=tables.mail_sender,
            Destination={"ToAddresses": ["ann@example.com"]},
            Content={"Simple": {"Subject": {"Data": "kept"}, "Body": {"Text": {"Data": "a text"}}}},
        )
    return {"transaction": transaction, "counter": counter, "queue": queue, "hidden": second, "deleted": first}


async def test_a_failed_deployment_leaves_nothing_in_the_way_of_the_next(aws: EmbeddedAws) -> None:
    taken = aws.resources.bucket_name.replace("syncline-", "other-", 1)
    async with aws.client("s3") as s3:
        await s3.create_bucket(Bucket=taken)
        with pytest.raises(DeployFailed, match="ROLLBACK_COMPLETE"):
            await deploy_embedded(aws, prefix="other")
        await s3.delete_bucket(Bucket=taken)
    made = await deploy_embedded(aws, prefix="other")
    assert made.bucket_name == taken
    assert (await deploy_embedded(aws, prefix="other")) == made


@pytest.mark.parametrize("after_seconds", [0.05, 0.4, 1.2])
async def test_a_deployment_that_is_killed_is_made_by_the_next(
    aws: EmbeddedAws, data: Path, after_seconds: float
) -> None:
    """Answers of others meanwhile are kept, too."""
    deployment = asyncio.ensure_future(deploy_embedded(aws, prefix="other"))
    await asyncio.sleep(after_seconds)
    async with aws.client("dynamodb") as dynamodb:
        await dynamodb.put_item(TableName=aws.resources.identity_table_name, Item=ITEM)
    await killed(data)
    made = await deployment  # the deployment asked again, or begins anew
    async with aws.client("dynamodb") as dynamodb:
        found = await dynamodb.get_item(TableName=aws.resources.identity_table_name, Key=ITEM)
        assert found["Item"] == ITEM
        await dynamodb.put_item(TableName=made.identity_table_name, Item=ITEM)
    await killed(data)
    assert await deploy_embedded(aws, prefix="other") == made
    async with aws.client("dynamodb") as dynamodb:
        assert (await dynamodb.scan(TableName=made.identity_table_name))["Items"] == [ITEM]


async def test_mails_are_kept_in_their_order(aws: EmbeddedAws, data: Path) -> None:
    async with aws.client("sesv2") as ses:
        for number in range(3):
            await ses.send_email(
                FromEmailAddress=aws.resources.mail_sender,
                Destination={"ToAddresses": ["ann@example.com"]},
                Content={"Simple": {"Subject": {"Data": str(number)}, "Body": {"Text": {"Data": "a text"}}}},
            )
            await killed(data)
    assert [mail["Subject"] for mail in aws.mails()] == ["0", "1", "2"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process")
async def test_a_disk_that_fails_is_no_acknowledgement_and_it_is_started_again(aws: EmbeddedAws, data: Path) -> None:
    (process,) = emulators(data)
    limit = (data / "state.db-wal").stat().st_size + 300_000
    process.rlimit(psutil.RLIMIT_FSIZE, (limit, limit))  # to the process this is a disk that takes no more
    acknowledged = 0
    table = aws.resources.identity_table_name
    async with aws.client("dynamodb", retries={"total_max_attempts": 1}) as dynamodb:
        with suppress(ClientError, HTTPClientError):
            while True:
                item = {"pk": {"S": "many"}, "sk": {"S": str(acknowledged)}, "data": {"B": os.urandom(20_000)}}
                await dynamodb.put_item(TableName=table, Item=item)
                acknowledged += 1
                assert acknowledged < 100
    assert acknowledged
    async with aws.client("dynamodb") as dynamodb:
        found = await dynamodb.scan(TableName=table, Select="COUNT")
        assert found["Count"] == acknowledged
        await dynamodb.put_item(TableName=table, Item=ITEM)
    assert "could not be written" in (data / "logs" / "aws.log").read_text()
    assert emulators(data) != [process]


async def test_what_an_earlier_version_saved_is_taken_over(data: Path) -> None:
    """The earlier version kept all in memory, saved it at a clean stop, and had objects in files named by key."""
    resources = await _earlier_version(data)
    with embedded_aws(data=data) as aws:
        assert aws.resources == dataclasses.replace(
            resources,
            mail_queue_url=aws.resources.mail_queue_url,
            mail_dead_letter_queue_url=aws.resources.mail_dead_letter_queue_url,
        )
        await _has_item_and_object(aws)
        await killed(data)
        await _has_item_and_object(aws)
    assert not (data / "state").exists()
    with embedded_aws(data=data) as aws:
        await _has_item_and_object(aws)


async def test_a_take_over_that_breaks_off_is_made_by_the_next_start(data: Path) -> None:
    await _earlier_version(data)
    await asyncio.to_thread(_break_off_taking_over, data)
    with embedded_aws(data=data) as aws:
        await _has_item_and_object(aws)
    assert not (data / "state").exists()


def _break_off_taking_over(data: Path) -> None:
    """Killed when the database was made and not filled, and then by a disk that did not take what fills it."""
    with listen(0, "embedded AWS") as listener:
        child = emulator(listener, data, new_root())
        with subprocess.Popen(child.argv, env=child.env, pass_fds=child.inherited) as process:
            deadline = time.monotonic() + DEADLINE
            while not (data / "state.db").exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.kill()
        limited = (
            "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        failed = subprocess.run(
            [sys.executable, "-c", limited, *child.argv],
            env=child.env,
            pass_fds=child.inherited,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    assert failed.returncode == 1
    assert "could not be written" in failed.stderr


async def test_what_is_left_of_a_state_that_was_taken_over_is_removed(data: Path) -> None:
    """Killed after it was taken over, and before it was removed; what came later counts."""
    await _earlier_version(data)
    shutil.copytree(data / "state", data / "copy")
    with embedded_aws(data=data) as aws:
        async with aws.client("dynamodb") as dynamodb:
            await dynamodb.delete_item(TableName=aws.resources.identity_table_name, Key=ITEM)
    (data / "copy").rename(data / "state")
    with embedded_aws(data=data) as aws:
        async with aws.client("dynamodb") as dynamodb:
            assert "Item" not in await dynamodb.get_item(TableName=aws.resources.identity_table_name, Key=ITEM)
    assert not (data / "state").exists()


async def test_an_earlier_state_beside_another_system_is_put_aside(data: Path) -> None:
    await _earlier_version(data)
    (data / "state").rename(data / "copy")
    (data / "s3").rename(data / "objects of the copy")
    with embedded_aws(data=data):
        pass
    (data / "copy").rename(data / "state")
    with embedded_aws(data=data) as aws:
        async with aws.client("dynamodb") as dynamodb:
            assert not (await dynamodb.scan(TableName=aws.resources.identity_table_name))["Count"]
    assert not (data / "state").exists()
    (kept,) = (data / "incomplete").glob("state-*/dynamodb.json")
    assert kept.stat().st_size


def test_tokens_are_forgotten_by_age_and_not_those_that_are_used_anew(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import json, sys, time
        from pathlib import Path
        from stack.emulator.storage import Storage
        from stack.emulator.writethrough import WriteThrough

        storage = Storage(Path(sys.argv[1]))
        emulation = WriteThrough(storage)
        dynamodb, now = emulation._dynamodb, time.time()
        # In the order of keys, the old ones follow a new one.
        ages = {"a": 10, "used anew": 590, "z": 590}
        for token, age in ages.items():
            key = repr(dynamodb._txn_idempotency._scoped(token))
            storage.put("dynamodb.tokens", key, json.dumps({"completed_at": now - age}).encode())
        storage.commit()
        emulation.read_back()
        dynamodb._TXN_TOKEN_TTL = 500
        for token in ("used anew", "b"):
            dynamodb._txn_token_store(token, {})
        storage.commit()
        left = {store_key for _, store_key, _ in storage.rows()}
        print([token for token in (*ages, "b") if repr(dynamodb._txn_idempotency._scoped(token)) in left])
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.stdout, done.returncode) == ("['a', 'used anew', 'b']\n", 0), done.stderr


@pytest.mark.parametrize("left", [(), ("dynamodb.json",)])
async def test_what_an_earlier_version_left_when_it_was_killed_is_put_aside(data: Path, left: tuple[str, ...]) -> None:
    """A bucket without its tables, over which no deployment succeeded."""
    await _earlier_version(data)
    for file in (data / "state").iterdir():
        if file.name not in left:
            file.unlink()
    with embedded_aws(data=data) as aws:
        async with aws.client("dynamodb") as dynamodb, aws.client("s3") as s3:
            assert not (await dynamodb.scan(TableName=aws.resources.identity_table_name))["Count"]
            assert not (await s3.list_objects_v2(Bucket=aws.resources.bucket_name)).get("Contents")
    (kept,) = (data / "incomplete").glob(f"s3-*/*/*/spaces/a/objects/{0:064}")
    assert kept.read_bytes() == BODY
    assert "is put aside in" in (data / "logs" / "aws.log").read_text()


async def _earlier_version(data: Path) -> Resources:
    with Output(data / "logs", terminal=None) as output, listen(0, "embedded AWS") as listener:
        aws = Aws(endpoint=f"http://{HOST}:{listener.getsockname()[1]}", root=new_root())
        child = emulator(listener, data, aws.root, durable=False)
        saving = {**child.env, "PERSIST_STATE": "1", "STATE_DIR": str(data / "state")}
        async with Supervisor(output) as supervisor:
            await supervisor.start(dataclasses.replace(child, env=saving), within=DEADLINE)
            resources = await deploy_embedded(aws)
            async with aws.client("dynamodb") as dynamodb, aws.client("s3") as s3:
                await dynamodb.put_item(TableName=resources.identity_table_name, Item=ITEM)
                await s3.put_object(
                    Bucket=resources.bucket_name,
                    Key=f"spaces/a/objects/{0:064}",
                    Body=BODY,
                    IfNoneMatch="*",
                    ChecksumAlgorithm="SHA256",
                )
    assert (data / "state" / "dynamodb.json").exists()
    return resources


async def _has_item_and_object(aws: EmbeddedAws) -> None:
    async with aws.client("dynamodb") as dynamodb, aws.client("s3") as s3:
        found = await dynamodb.get_item(TableName=aws.resources.identity_table_name, Key=ITEM)
        assert found["Item"] == ITEM
        got = await s3.get_object(
            Bucket=aws.resources.bucket_name, Key=f"spaces/a/objects/{0:064}", ChecksumMode="ENABLED"
        )
        assert await got["Body"].read() == BODY
        assert got["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(BODY).digest()).decode()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), StorageFailed("the disk is gone")])
async def test_an_answer_that_has_begun_is_not_begun_again(tmp_path: Path, error: BaseException) -> None:
    """The answer is broken off, which its reader notices; one that has not begun is an error that says why."""
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    async def breaks_off(_scope: Any, _receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    storage = Storage(tmp_path)
    app = durable(breaks_off, storage)
    begun = True
    with pytest.raises(type(error)):
        await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]
    begun = False
    await app(scope, receive, send)
    storage.close()
    assert [message.get("status") for message in sent] == [200, 503, None]


def test_a_full_disk_refuses_what_needs_room_and_goes_on(tmp_path: Path) -> None:
    """Nothing is acknowledged that is not there; reading goes on; once there is room again, so does writing."""
    program = """
        import asyncio, pathlib, shutil, sys
        from botocore.exceptions import ClientError, HTTPClientError
        from stack.running import embedded_aws
        from stack.emulator.storage import RESERVE_BYTES

        place = pathlib.Path(sys.argv[1])
        filler = place / "filler"

        def key(number):
            return f"spaces/a/objects/{number:064}"

        async def fill(aws):
            table, bucket, stored = aws.resources.identity_table_name, aws.resources.bucket_name, 0
            once = {"retries": {"total_max_attempts": 1}}
            async with aws.client("s3", **once) as s3, aws.client("dynamodb", **once) as dynamodb:
                with filler.open("wb") as file:
                    file.write(bytes(40 << 20))
                try:
                    while True:
                        await s3.put_object(Bucket=bucket, Key=key(stored), Body=bytes(1 << 20), IfNoneMatch="*")
                        stored += 1
                except ClientError as error:
                    print(error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"])
                with filler.open("ab") as file:
                    while shutil.disk_usage(place).free > RESERVE_BYTES:
                        file.write(bytes(1 << 20))
                        file.flush()
                try:
                    await dynamodb.put_item(TableName=table, Item={"pk": {"S": "a"}, "sk": {"S": "b"}})
                except ClientError as error:
                    print(error.response["Error"]["Message"])
                assert (await s3.list_objects_v2(Bucket=bucket))["KeyCount"] == stored
                await s3.delete_object(Bucket=bucket, Key=key(0))
                filler.unlink()
                await s3.put_object(Bucket=bucket, Key=key(1 << 40), Body=b"there", IfNoneMatch="*")
                await dynamodb.put_item(TableName=table, Item={"pk": {"S": "a"}, "sk": {"S": "b"}})
            return stored

        async def count(aws):
            async with aws.client("s3") as s3:
                return (await s3.list_objects_v2(Bucket=aws.resources.bucket_name))["KeyCount"]

        with embedded_aws(data=place / "data") as aws:
            stored = asyncio.run(fill(aws))
        with embedded_aws(data=place / "data") as aws:
            print(stored, asyncio.run(count(aws)) == stored)
        print((place / "data/logs/aws.log.1").read_text())
    """
    status, message, counted, *said = on_small_disk(tmp_path, "96m", program)
    assert status == "507 InsufficientStorage"
    assert "the disk of the embedded AWS is full" in message
    stored, same = counted.split()
    assert int(stored) > 5
    assert same == "True"
    assert any("no room" in line for line in said)
