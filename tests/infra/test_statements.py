"""Every permission is there for a reason: what uses it is tested, or it is said here why that cannot be."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra import templates
from stack.embedded_aws import ACCOUNT
from tests.infra import test_deploy, test_enforcement, test_machine
from tests.infra.conftest import RELEASE, Production

SERVICES = ("auth", "metadata", "notify", "gateway")
REFUSED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "403"}


async def attempt(production: Production, role: str, service: str, operation: str, **arguments: Any) -> str:
    """`ok`, or the code of the error."""
    held = await production.aws.assume(f"arn:aws:iam::{ACCOUNT}:role/syncline-test-{role}")
    async with production.aws.client(service, held) as client:
        try:
            await getattr(client, operation)(**arguments)
        except ClientError as error:
            code: str = error.response["Error"]["Code"]
            return "refused" if code in REFUSED else code
    return "ok"


@pytest.mark.parametrize("role", SERVICES)
async def test_a_machine_reads_its_own_secrets_only(production: Production, role: str) -> None:
    read = {
        secret: await attempt(
            production, role, "secretsmanager", "get_secret_value", SecretId=f"syncline-test/{secret}"
        )
        for secret in ("service-secret", "gateway-secret", "signing-secret")
    }
    assert read == {
        "service-secret": "refused" if role == "gateway" else "ok",
        "gateway-secret": "ok",
        "signing-secret": "ok" if role == "auth" else "refused",
    }
    change = {"SecretId": "syncline-test/service-secret", "SecretString": "mine"}
    assert await attempt(production, role, "secretsmanager", "put_secret_value", **change) == "refused"


@pytest.mark.parametrize("role", SERVICES)
async def test_a_machine_writes_its_own_log_only(production: Production, role: str) -> None:
    for owner in SERVICES:
        stream = {"logGroupName": f"/syncline-test/{owner}", "logStreamName": f"i-{role}"}
        made = await attempt(production, role, "logs", "create_log_stream", **stream)
        event = {"timestamp": 1_800_000_000_000, "message": "{}"}
        written = await attempt(production, role, "logs", "put_log_events", **stream, logEvents=[event])
        assert (made, written) == (("ok", "ok") if owner == role else ("refused", "refused"))
    group = {"logGroupName": f"/syncline-test/{role}"}
    assert await attempt(production, role, "logs", "filter_log_events", **group) == "refused"
    assert await attempt(production, role, "logs", "delete_log_group", **group) == "refused"


@pytest.mark.parametrize("role", SERVICES)
async def test_a_machine_reads_releases_and_changes_none(production: Production, role: str) -> None:
    bucket = production.outputs["ReleaseBucket"]
    assert await attempt(production, role, "s3", "head_object", Bucket=bucket, Key=RELEASE) == "ok"
    assert await attempt(production, role, "s3", "put_object", Bucket=bucket, Key=RELEASE, Body=b"") == "refused"
    assert await attempt(production, role, "s3", "delete_object", Bucket=bucket, Key=RELEASE) == "refused"
    assert await attempt(production, role, "s3", "head_object", Bucket=bucket, Key="templates/a.yaml") == "refused"


@pytest.mark.parametrize("role", SERVICES)
async def test_a_machine_leaves_its_own_group_only(production: Production, role: str) -> None:
    for owner in SERVICES:
        left = await attempt(
            production,
            role,
            "autoscaling",
            "complete_lifecycle_action",
            AutoScalingGroupName=f"syncline-test-{owner}",
            InstanceId="i-0123456789abcdef0",
            LifecycleActionResult="CONTINUE",
            LifecycleHookName="drain",
        )
        assert left == ("ok" if owner == role else "refused"), owner
    group = {"AutoScalingGroupName": f"syncline-test-{role}"}
    assert await attempt(production, role, "autoscaling", "delete_auto_scaling_group", **group) == "refused"


@pytest.mark.parametrize("role", SERVICES)
async def test_only_notify_looks_for_doorbells(production: Production, role: str) -> None:
    topic = production.outputs["ChangesTopicArn"]
    expected = "ok" if role == "notify" else "refused"
    assert await attempt(production, role, "sqs", "list_queues", QueueNamePrefix="syncline-test-doorbell-") == expected
    assert await attempt(production, role, "sns", "list_subscriptions_by_topic", TopicArn=topic) == expected


SECRETS, LOGS = test_a_machine_reads_its_own_secrets_only, test_a_machine_writes_its_own_log_only
LEAVES, RELEASES = test_a_machine_leaves_its_own_group_only, test_a_machine_reads_releases_and_changes_none
EMULATOR_WITHOUT = "the emulator does not deliver these logs; the template test and cfn-lint hold the statement"
# By template, resource and Sid (or number): the test that needs the statement, or why there is none.
USES: Mapping[tuple[str, str, str], Any] = {
    ("network", "FlowLogRole", "WriteFlowLogs"): "written by the network itself, which no emulator does",
    ("artefacts", "ArtefactBucketPolicy", "TlsOnly"): "the emulator has no TLS; false there, true by default",
    ("data", "ContentBucketPolicy", "CreateOnly"): test_enforcement.test_an_object_is_never_overwritten,
    ("data", "ContentBucketPolicy", "TlsOnly"): "the emulator has no TLS; test_template.py holds the statement",
    (
        "data",
        "ContentBucketPolicy",
        "NoKeysOfCustomers",
    ): test_enforcement.test_nothing_is_stored_that_others_cannot_read,
    (
        "data",
        "ContentBucketPolicy",
        "OnlyTheBucketsEncryption",
    ): test_enforcement.test_nothing_is_stored_that_others_cannot_read,
    (
        "data",
        "ContentBucketPolicy",
        "OnlyStandardStorage",
    ): test_enforcement.test_nothing_is_stored_that_others_cannot_read,
    (
        "data",
        "ContentBucketPolicy",
        "NoParts",
    ): test_enforcement.test_nothing_is_uploaded_in_parts_whatever_header_comes_with_it,
    ("data", "ContentBucketPolicy", "OnlyKeysOfDigests"): test_enforcement.test_only_keys_that_can_be_sealed_can_be_put,
    (
        "data",
        "ContentBucketPolicy",
        "OnlyHexadecimalKeys",
    ): test_enforcement.test_only_keys_that_can_be_sealed_can_be_put,
    ("data", "AuditBucketPolicy", "WrittenOnce"): "the export, in tests/contract/auth/test_audit_export.py",
    ("data", "AuditBucketPolicy", "TlsOnly"): "the emulator has no TLS; the bucket is made only where it is asked for",
    (
        "data",
        "ChangesTopicPolicy",
        "MetadataAnnounces",
    ): test_deploy.test_changes_reach_the_mail_queue_as_they_were_published,
    (
        "data",
        "MailQueuePolicy",
        "OnlyTheChangesTopic",
    ): test_deploy.test_changes_reach_the_mail_queue_as_they_were_published,
    ("data", "TransferRole", "0"): test_enforcement.test_an_editor_creates_and_reads_objects_of_the_space,
    ("data", "AuthRole", "Identity"): test_machine.test_a_machine_becomes_its_service_with_its_own_role_and_secrets,
    ("data", "AuthRole", "Audit"): test_enforcement.test_auth_adds_events_and_changes_none,
    ("data", "AuthRole", "ExportAudit"): "the export, in tests/contract/auth/test_audit_export.py",
    ("data", "AuthRole", "Mail"): test_enforcement.test_auth_asks_for_mail_and_reads_none,
    ("data", "AuthRole", "Transfer"): test_enforcement.test_only_auth_issues_credentials_of_a_space,
    ("data", "MetadataRole", "Metadata"): test_deploy.test_the_sweeper_finds_dirty_spaces_by_the_sparse_index,
    ("data", "MetadataRole", "VerifyObjects"): "sealing, in tests/contract/metadata/test_object_storage.py",
    (
        "data",
        "MetadataRole",
        "RemoveWrongObjects",
    ): test_enforcement.test_metadata_removes_nothing_but_the_bytes_that_it_names,
    (
        "data",
        "MetadataRole",
        "MissingObjectsAreNotFound",
    ): "sealing, listing, in tests/contract/metadata/test_object_storage.py",
    ("data", "MetadataRole", "Announce"): test_deploy.test_changes_reach_the_mail_queue_as_they_were_published,
    ("data", "NotifyRole", "Notify"): "preferences and claims, in tests/services/notify/test_end_to_end.py",
    ("data", "NotifyRole", "ConsumeMail"): test_deploy.test_changes_reach_the_mail_queue_as_they_were_published,
    ("data", "NotifyRole", "ConsumeDoorbells"): test_deploy.test_a_notify_instance_makes_and_removes_its_doorbell,
    ("data", "NotifyRole", "OwnDoorbells"): test_deploy.test_a_notify_instance_makes_and_removes_its_doorbell,
    ("data", "NotifyRole", "FindDoorbells"): test_only_notify_looks_for_doorbells,
    ("data", "NotifyRole", "SubscribeDoorbells"): test_deploy.test_a_notify_instance_makes_and_removes_its_doorbell,
    (
        "data",
        "NotifyRole",
        "ListSubscriptions",
    ): "the sweep of queues, in tests/contract/notify/test_doorbell_queues.py",
    ("data", "NotifyRole", "UnsubscribeDoorbells"): test_deploy.test_a_notify_instance_makes_and_removes_its_doorbell,
    ("data", "NotifyRole", "SendMail"): test_deploy.test_mail_is_sent_from_our_address,
    ("data", "GatewayRole", "ReadObjects"): "downloads, in tests/gateway/storage/test_objects.py",
    ("data", "GatewayRole", "Records"): "locks and properties, in tests/contract/gateway/test_records.py",
    ("services", "AccessLogBucketPolicy", "LoadBalancersWrite"): EMULATOR_WITHOUT,
    ("services", "AccessLogBucketPolicy", "TlsOnly"): "the emulator has no TLS",
    ("services", "AlarmTopicPolicy", "AlarmsPublish"): "alarms go off by metrics, which no emulator has of its own",
    ("services", "MachinePolicy", "FetchRelease"): RELEASES,
    ("services", "MachinePolicy", "SessionManager"): "used by the agent of Session Manager, which is not ours",
    ("services", "AuthPolicy", "ReadSecrets"): SECRETS,
    ("services", "MetadataPolicy", "ReadSecrets"): SECRETS,
    ("services", "NotifyPolicy", "ReadSecrets"): SECRETS,
    ("services", "GatewayPolicy", "ReadSecret"): SECRETS,
    **{("services", f"{service.title()}Policy", "WriteLog"): LOGS for service in SERVICES},
    **{("services", f"{service.title()}Policy", "LeaveInOrder"): LEAVES for service in SERVICES},
}


def statements() -> Iterator[tuple[str, str, str]]:
    """Every statement that permits or denies something, but not who may assume a role."""
    for template in templates.ORDER:
        for name, body in templates.read(template)["Resources"].items():
            properties = body.get("Properties", {})
            policies = [entry["PolicyDocument"] for entry in properties.get("Policies", [])]
            policies += [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
            for policy in policies:
                for index, entry in enumerate(policy["Statement"]):
                    statement = entry["Fn::If"][1] if "Fn::If" in entry else entry
                    yield template, name, statement.get("Sid", str(index))


def test_every_statement_is_used_or_accounted_for() -> None:
    assert sorted(statements()) == sorted(USES)
    for use in USES.values():
        assert isinstance(use, str) or inspect.isfunction(use)


def test_what_the_reasons_name_is_there() -> None:
    for reason in USES.values():
        if isinstance(reason, str) and "tests/" in reason:
            assert (templates.HERE.parent / reason.split(", in ")[1]).is_file(), reason
