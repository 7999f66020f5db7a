"""The template as deployed to the embedded AWS: the same file that production deploys."""

import json

import pytest
from botocore.exceptions import ClientError

from services.notify.postman import MAX_ATTEMPTS, MAX_WAIT_SECONDS
from stack.deploy import deploy_embedded
from stack.embedded_aws import AwsCredentials
from stack.errors import DeployFailed
from stack.running import EmbeddedAws


async def test_deploying_again_changes_nothing(aws: EmbeddedAws) -> None:
    async with aws.client("cloudformation") as cloudformation:
        before = (await cloudformation.describe_stack_events(StackName="syncline-data"))["StackEvents"]
        assert await deploy_embedded(aws) == aws.resources
        after = (await cloudformation.describe_stack_events(StackName="syncline-data"))["StackEvents"]
    assert len(after) == len(before)


async def test_several_systems_share_an_account(aws: EmbeddedAws) -> None:
    other = await deploy_embedded(aws, prefix="other")
    assert other.metadata_table_name == "other-metadata"
    assert other.bucket_name != aws.resources.bucket_name


async def test_what_cloudformation_refuses_is_told(aws: EmbeddedAws) -> None:
    with pytest.raises(DeployFailed, match="Prefix"):
        await deploy_embedded(aws, prefix="ab")  # too short


async def test_the_bucket_is_private_encrypted_and_open_to_pages(aws: EmbeddedAws) -> None:
    bucket = aws.resources.bucket_name
    async with aws.client("s3") as s3:
        blocked = (await s3.get_public_access_block(Bucket=bucket))["PublicAccessBlockConfiguration"]
        owned = await s3.get_bucket_ownership_controls(Bucket=bucket)
        encrypted = await s3.get_bucket_encryption(Bucket=bucket)
        [cors] = (await s3.get_bucket_cors(Bucket=bucket))["CORSRules"]
        versioning = await s3.get_bucket_versioning(Bucket=bucket)
    assert set(blocked.values()) == {True}
    assert owned["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    [rule] = encrypted["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert set(cors["AllowedMethods"]) == {"GET", "HEAD", "PUT"}
    assert {"ETag", "x-amz-checksum-sha256"} <= set(cors["ExposeHeaders"])
    assert "Status" not in versioning


async def test_the_sweeper_finds_dirty_spaces_by_the_sparse_index(aws: EmbeddedAws) -> None:
    table = aws.resources.metadata_table_name
    dirty = {"pk": {"S": "S#a"}, "sk": {"S": "STATE"}, "dirty_pk": {"S": "dirty"}, "dirty_until": {"N": "7"}}
    clean = {"pk": {"S": "S#b"}, "sk": {"S": "STATE"}}
    role = await aws.assume(aws.resources.metadata_role_arn)
    async with aws.client("dynamodb", role) as dynamodb:
        for item in (dirty, clean):
            await dynamodb.put_item(TableName=table, Item=item)
        found = await dynamodb.query(
            TableName=table,
            IndexName="dirty",
            KeyConditionExpression="dirty_pk = :d AND dirty_until < :now",
            ExpressionAttributeValues={":d": {"S": "dirty"}, ":now": {"N": "8"}},
        )
    assert found["Items"] == [dirty]


async def test_changes_reach_the_mail_queue_as_they_were_published(aws: EmbeddedAws) -> None:
    metadata = await aws.assume(aws.resources.metadata_role_arn)
    notify = await aws.assume(aws.resources.notify_role_arn)
    async with aws.client("sns", metadata) as sns, aws.client("sqs", notify) as sqs:
        await sns.publish(TopicArn=aws.resources.changes_topic_arn, Message='{"space": "a", "seq": 7}')
        received = await sqs.receive_message(QueueUrl=aws.resources.mail_queue_url, WaitTimeSeconds=5)
        [message] = received["Messages"]
        assert json.loads(message["Body"]) == {"space": "a", "seq": 7}
        await sqs.send_message(QueueUrl=aws.resources.mail_queue_url, MessageBody=message["Body"], DelaySeconds=0)
        again = await sqs.receive_message(QueueUrl=aws.resources.mail_queue_url, WaitTimeSeconds=5)
        assert [one["Body"] for one in again["Messages"]] == [message["Body"]], "put back by notify"
        queue = await sqs.get_queue_attributes(QueueUrl=aws.resources.mail_queue_url, AttributeNames=["All"])
    assert queue["Attributes"]["VisibilityTimeout"] == "60"
    assert json.loads(queue["Attributes"]["RedrivePolicy"]) == {
        "deadLetterTargetArn": aws.resources.mail_dead_letter_queue_arn,
        "maxReceiveCount": MAX_ATTEMPTS,
    }
    assert queue["Attributes"]["MessageRetentionPeriod"] == str(MAX_WAIT_SECONDS)


async def test_a_notify_instance_makes_and_removes_its_doorbell(aws: EmbeddedAws) -> None:
    role = await aws.assume(aws.resources.notify_role_arn)
    topic = aws.resources.changes_topic_arn
    async with aws.client("sqs", role) as sqs, aws.client("sns", role) as sns, aws.client("sns") as root:
        made = await sqs.create_queue(QueueName=f"{aws.resources.doorbell_queue_prefix}one")
        queue = made["QueueUrl"]
        attributes = await sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        arn = attributes["Attributes"]["QueueArn"]
        allow = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
        await sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
        subscribed = await sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
        )
        await root.publish(TopicArn=topic, Message="ding")
        received = await sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)
        assert [message["Body"] for message in received["Messages"]] == ["ding"]
        await sns.unsubscribe(SubscriptionArn=subscribed["SubscriptionArn"])
        await sqs.delete_queue(QueueUrl=queue)
        with pytest.raises(ClientError, match="AccessDenied"):
            await sqs.create_queue(QueueName="anything")


async def test_mail_is_sent_from_our_address(aws: EmbeddedAws) -> None:
    role = await aws.assume(aws.resources.notify_role_arn)
    async with aws.client("sesv2", role) as ses:
        await ses.send_email(
            FromEmailAddress=f"Syncline <{aws.resources.mail_sender}>",
            Destination={"ToAddresses": ["ada@example.org"]},
            ConfigurationSetName=aws.resources.mail_configuration_set_name,
            Content={
                "Simple": {
                    "Subject": {"Data": "Two files changed"},
                    "Body": {"Text": {"Data": "text"}, "Html": {"Data": "<p>html</p>"}},
                    "Headers": [{"Name": "List-Unsubscribe-Post", "Value": "List-Unsubscribe=One-Click"}],
                }
            },
        )
    [mail] = [mail for mail in aws.mails() if mail["To"] == ["ada@example.org"]]
    assert (mail["Subject"], mail["BodyText"], mail["BodyHtml"]) == ("Two files changed", "text", "<p>html</p>")


@pytest.mark.parametrize(
    ("role", "service", "operation", "arguments"),
    [
        (
            "auth",
            "dynamodb",
            "get_item",
            {"TableName": "syncline-metadata", "Key": {"pk": {"S": "a"}, "sk": {"S": "b"}}},
        ),
        ("auth", "s3", "get_object", {"Bucket": "BUCKET", "Key": "spaces/a/objects/0"}),
        (
            "metadata",
            "dynamodb",
            "get_item",
            {"TableName": "syncline-identity", "Key": {"pk": {"S": "a"}, "sk": {"S": "b"}}},
        ),
        ("metadata", "dynamodb", "scan", {"TableName": "syncline-metadata"}),
        ("metadata", "dynamodb", "delete_table", {"TableName": "syncline-metadata"}),
        ("metadata", "s3", "put_object", {"Bucket": "BUCKET", "Key": "spaces/a/objects/0", "IfNoneMatch": "*"}),
        ("metadata", "s3", "delete_object", {"Bucket": "BUCKET", "Key": "spaces/a/objects/0"}),
        ("metadata", "sts", "assume_role", {"RoleArn": "TRANSFER", "RoleSessionName": "mine"}),
        ("notify", "sns", "publish", {"TopicArn": "TOPIC", "Message": "false alarm"}),
        ("notify", "s3", "get_object", {"Bucket": "BUCKET", "Key": "spaces/a/objects/0"}),
        ("gateway", "s3", "put_object", {"Bucket": "BUCKET", "Key": "spaces/a/objects/0", "IfNoneMatch": "*"}),
        ("gateway", "s3", "list_objects_v2", {"Bucket": "BUCKET"}),
        (
            "gateway",
            "dynamodb",
            "get_item",
            {"TableName": "syncline-metadata", "Key": {"pk": {"S": "a"}, "sk": {"S": "b"}}},
        ),
        ("gateway", "dynamodb", "scan", {"TableName": "syncline-gateway"}),
        ("gateway", "sts", "assume_role", {"RoleArn": "TRANSFER", "RoleSessionName": "mine"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_service_may_do_no_more_than_its_work(
    aws: EmbeddedAws, role: str, service: str, operation: str, arguments: dict[str, object]
) -> None:
    names = {
        "BUCKET": aws.resources.bucket_name,
        "TOPIC": aws.resources.changes_topic_arn,
        "TRANSFER": aws.resources.transfer_role_arn,
    }
    filled = {key: names.get(str(value), value) for key, value in arguments.items()}
    held = await aws.assume(getattr(aws.resources, f"{role}_role_arn"))
    async with aws.client(service, held) as client:
        with pytest.raises(ClientError) as refused:
            await getattr(client, operation)(**filled)
    assert refused.value.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException", "AuthorizationError"}


@pytest.mark.parametrize("access_key_id", ["test", "000000000000", "AKIAAAAAAAAAAAAAAAAA"])
async def test_nobody_else_is_root(aws: EmbeddedAws, access_key_id: str) -> None:
    async with aws.client("s3", AwsCredentials(access_key_id, "test")) as s3:
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            await s3.list_buckets()


async def test_roots_signature_is_checked(aws: EmbeddedAws) -> None:
    async with aws.client("s3", AwsCredentials(aws.root.access_key_id, "test")) as s3:
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            await s3.list_buckets()
