"""What the template asks for and the emulator does not show: checked in its text."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from stack.deploy import template

TABLES = ("IdentityTable", "MetadataTable", "NotifyTable")
KEPT = (*TABLES, "ContentBucket")


class _Loader(yaml.SafeLoader):
    """Reads `!Ref x` as {"Ref": "x"} and `!Sub x` as {"Fn::Sub": "x"}."""


def _intrinsic(loader: Any, suffix: str, node: Any) -> Mapping[str, Any]:
    construct = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: lambda node: loader.construct_sequence(node, deep=True),
        yaml.MappingNode: lambda node: loader.construct_mapping(node, deep=True),
    }[type(node)]
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": construct(node)}


_Loader.add_multi_constructor("!", _intrinsic)


@pytest.fixture(scope="module")
def resources() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.load(template().read_text(), _Loader)["Resources"]
    return found


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_on_demand_recoverable_and_expire_items(resources: Mapping[str, Any], table: str) -> None:
    properties = resources[table]["Properties"]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["DeletionProtectionEnabled"] is True


@pytest.mark.parametrize("resource", KEPT)
def test_what_people_saved_outlives_the_stack(resources: Mapping[str, Any], resource: str) -> None:
    assert resources[resource]["DeletionPolicy"] == "Retain"
    assert resources[resource]["UpdateReplacePolicy"] == "Retain"


def test_abandoned_multipart_uploads_are_removed(resources: Mapping[str, Any]) -> None:
    [rule] = resources["ContentBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def test_no_role_may_do_everything(resources: Mapping[str, Any]) -> None:
    roles = {name: body["Properties"] for name, body in resources.items() if body["Type"] == "AWS::IAM::Role"}
    assert set(roles) == {"TransferRole", "AuthRole", "MetadataRole", "NotifyRole", "GatewayRole"}
    for name, role in roles.items():
        assert "ManagedPolicyArns" not in role, name
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                actions = statement["Action"]
                for action in [actions] if isinstance(actions, str) else actions:
                    assert "*" not in action, (name, action)


def test_the_bucket_takes_only_tls_unless_told_otherwise(resources: Mapping[str, Any]) -> None:
    statements = resources["ContentBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    [condition, then, _] = statements[1]["Fn::If"]
    assert condition == "TlsOnly"
    assert then["Effect"] == "Deny"
    assert then["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
