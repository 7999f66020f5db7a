"""The archive of the audit log on S3: objects are added by auth alone, once, and nobody changes them."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from services.auth.adapters.dynamodb_audit import DynamoAuditStore
from services.auth.adapters.s3 import S3AuditArchive
from services.auth.audit.events import AuditKind, audit_event, event_to_json
from services.auth.audit.export import SETTLED_SECONDS, AuditExport, object_key_of_hour
from services.auth.records import HOUR_MS
from stack.deploy import template
from stack.embedded_aws import ACCOUNT
from stack.running import EmbeddedAws
from syncline.model.errors import Unavailable

PREFIX = "exporting"


@pytest.fixture(scope="module")
def outputs(aws: EmbeddedAws) -> dict[str, str]:
    """The outputs of a stack of the template whose audit log is exported."""
    return asyncio.run(deploy(aws))


async def deploy(aws: EmbeddedAws) -> dict[str, str]:
    given = {
        "Prefix": PREFIX,
        "RequireTls": "false",
        "TrustedPrincipals": f"arn:aws:iam::{ACCOUNT}:root",
        "MailSender": f"{PREFIX}@example.com",
        "AuditExport": "yes",
        "AuditLockDays": "2",
    }
    async with aws.client("cloudformation") as cloudformation:
        await cloudformation.create_stack(
            StackName=f"{PREFIX}-data",
            TemplateBody=template().read_text(),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        )
        deadline = time.monotonic() + 60
        while True:
            stack = (await cloudformation.describe_stacks(StackName=f"{PREFIX}-data"))["Stacks"][0]
            if not stack["StackStatus"].endswith("_IN_PROGRESS"):
                break
            assert time.monotonic() < deadline, stack
            await asyncio.sleep(0.1)
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


async def code_of(call: Any) -> str:
    with pytest.raises(ClientError) as caught:
        await call
    return str(caught.value.response["Error"]["Code"])


async def test_an_object_is_added_once_and_auth_neither_reads_nor_removes_it(aws, outputs):
    bucket = outputs["AuditBucketName"]
    role = await aws.assume(outputs["AuthRoleArn"])
    async with aws.client("s3", role) as s3, aws.client("s3") as root:
        archive = S3AuditArchive(s3, bucket=bucket)
        await archive.put("audit/2026/11/30/19-0000.jsonl", b"first\n")
        await archive.put("audit/2026/11/30/19-0000.jsonl", b"second\n")
        where = {"Bucket": bucket, "Key": "audit/2026/11/30/19-0000.jsonl"}
        assert await (await root.get_object(**where))["Body"].read() == b"first\n"
        assert (await root.get_bucket_versioning(Bucket=bucket))["Status"] == "Enabled"
        for refused in (
            s3.put_object(**where, Body=b"third\n"),
            s3.put_object(Bucket=bucket, Key="elsewhere", Body=b"", IfNoneMatch="*"),
            s3.delete_object(**where),
            s3.get_object(**where),
        ):
            assert await code_of(refused) == "AccessDenied"


async def test_hours_of_the_table_are_objects_of_the_bucket(aws, outputs):
    hour = int(time.time() * 1000) // HOUR_MS - 10
    role = await aws.assume(outputs["AuthRoleArn"])
    async with aws.client("dynamodb", role) as dynamodb, aws.client("s3", role) as s3, aws.client("s3") as root:
        log = DynamoAuditStore(dynamodb, table=outputs["AuditTableName"], days=400)
        events = [
            audit_event(AuditKind.SIGNED_IN, at_ms=hour * HOUR_MS + number * 60_000, name="caf\u00e9\n")
            for number in range(30)
        ]
        await log.append(events)
        after = audit_event(AuditKind.SIGNED_IN, at_ms=(hour + 2) * HOUR_MS)
        await log.append([after])
        export = AuditExport(
            log,
            S3AuditArchive(s3, bucket=outputs["AuditBucketName"]),
            clock=lambda: (hour + 1) * HOUR_MS + SETTLED_SECONDS * 1000,
        )
        assert await export.export() == 1
        assert await export.export() == 0, "the second hour is not over"
        found = await root.get_object(Bucket=outputs["AuditBucketName"], Key=object_key_of_hour(hour, 0))
        assert (await found["Body"].read()).decode().splitlines() == [event_to_json(event) for event in events]
        assert await log.exported_hour() == hour


async def test_a_bucket_that_does_not_answer_is_unavailable(aws, outputs):
    nowhere = replace(aws, endpoint="http://127.0.0.1:9")
    async with nowhere.client("s3", retries={"total_max_attempts": 1}, connect_timeout=1) as s3:
        with pytest.raises(Unavailable):
            await S3AuditArchive(s3, bucket=outputs["AuditBucketName"]).put("audit/one", b"")
