"""The templates ask for things that no emulator shows: these are checked in their text."""

import configparser
import fnmatch
import re
from collections.abc import Mapping
from typing import Any

import pytest

from infra import templates

TABLES = ("IdentityTable", "AuditTable", "MetadataTable", "NotifyTable", "GatewayTable")
KEPT = (*TABLES, "ContentBucket", "AuditBucket")
SERVICES = ("Auth", "Metadata", "Notify", "Gateway")
BUCKETS = [
    ("data", "ContentBucket"),
    ("data", "AuditBucket"),
    ("artefacts", "ArtefactBucket"),
    ("services", "AccessLogBucket"),
]


def resources_of(template: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = templates.read(template)["Resources"]
    return found


@pytest.fixture(scope="module")
def resources() -> Mapping[str, Any]:
    return resources_of("data")


@pytest.fixture(scope="module")
def network() -> Mapping[str, Any]:
    return resources_of("network")


@pytest.fixture(scope="module")
def services() -> Mapping[str, Any]:
    return resources_of("services")


def number(template: str, table: str, key: str) -> int:
    found: int = templates.read(template)["Mappings"][table][key]["Number"]
    return found


def attributes(resource: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {item["Key"]: item["Value"] for item in resource["Properties"][f"{kind}Attributes"]}


# ---- data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_on_demand_recoverable_and_expire_items(resources: Mapping[str, Any], table: str) -> None:
    properties = resources[table]["Properties"]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["DeletionProtectionEnabled"] is True


@pytest.mark.parametrize("resource", KEPT)
def test_what_people_saved_outlives_the_stack(resources: Mapping[str, Any], resource: str) -> None:
    assert resources[resource]["DeletionPolicy"] == "RetainExceptOnCreate"
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
            for entry in policy["PolicyDocument"]["Statement"]:
                statement = entry["Fn::If"][1] if "Fn::If" in entry else entry
                actions = statement["Action"]
                for action in [actions] if isinstance(actions, str) else actions:
                    assert "*" not in action, (name, action)


def test_auth_changes_and_deletes_no_event(resources: Mapping[str, Any]) -> None:
    [policy] = resources["AuthRole"]["Properties"]["Policies"]
    [audit] = [one for one in policy["PolicyDocument"]["Statement"] if one.get("Sid") == "Audit"]
    assert audit["Resource"] == {"Fn::GetAtt": "AuditTable.Arn"}
    assert audit["Action"] == ["dynamodb:PutItem", "dynamodb:Query"]


def test_exported_events_are_locked_where_they_are_exported(resources: Mapping[str, Any]) -> None:
    bucket = resources["AuditBucket"]
    assert bucket["Condition"] == "ExportsAudit"
    assert bucket["Properties"]["ObjectLockEnabled"] is True
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    retention = bucket["Properties"]["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert retention == {"Mode": {"Ref": "AuditLockMode"}, "Days": {"Ref": "AuditLockDays"}}
    assert templates.parameters()["data"]["AuditExport"]["Default"] == "no"


def test_the_bucket_takes_only_tls_unless_told_otherwise(resources: Mapping[str, Any]) -> None:
    statements = resources["ContentBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    [condition, then, _] = statements[1]["Fn::If"]
    assert condition == "TlsOnly"
    assert then["Effect"] == "Deny"
    assert then["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.parametrize(("template", "bucket"), BUCKETS)
def test_no_bucket_is_public_or_in_the_clear(template: str, bucket: str) -> None:
    properties = templates.read(template)["Resources"][bucket]["Properties"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert "BucketEncryption" in properties


# ---- network ---------------------------------------------------------------------------------------------------


def callers(network: Mapping[str, Any], group: str) -> set[tuple[str, str]]:
    """Return who reaches a security group, and at which port."""
    return {
        (rule.get("CidrIp") or rule["SourceSecurityGroupId"]["Ref"], str(port(rule["FromPort"])))
        for rule in network[group]["Properties"]["SecurityGroupIngress"]
    }


def port(value: Any) -> Any:
    return value["Fn::FindInMap"][1] if isinstance(value, Mapping) else value


def test_each_is_reached_only_by_those_who_call_it(network: Mapping[str, Any]) -> None:
    groups = {name for name, body in network.items() if body["Type"] == "AWS::EC2::SecurityGroup"}
    assert {group: callers(network, group) for group in groups} == {
        "PublicSecurityGroup": {("0.0.0.0/0", "443"), ("0.0.0.0/0", "80")},
        "ToAuthSecurityGroup": {
            ("MetadataSecurityGroup", "ToAuth"),
            ("NotifySecurityGroup", "ToAuth"),
            ("GatewaySecurityGroup", "ToAuth"),
        },
        "ToMetadataSecurityGroup": {("GatewaySecurityGroup", "ToMetadata")},
        "ToNotifySecurityGroup": {("GatewaySecurityGroup", "ToNotify")},
        "AuthSecurityGroup": {("PublicSecurityGroup", "Grpc"), ("ToAuthSecurityGroup", "Grpc")},
        "MetadataSecurityGroup": {("PublicSecurityGroup", "Grpc"), ("ToMetadataSecurityGroup", "Grpc")},
        "NotifySecurityGroup": {("PublicSecurityGroup", "Grpc"), ("ToNotifySecurityGroup", "Grpc")},
        "GatewaySecurityGroup": {("PublicSecurityGroup", "Http")},
    }


def test_nobody_calls_whom_it_does_not_need(network: Mapping[str, Any]) -> None:
    def called(group: str) -> set[str]:
        rules = network[group]["Properties"]["SecurityGroupEgress"]
        return {str(port(rule["FromPort"])) for rule in rules} | {str(port(rule["ToPort"])) for rule in rules}

    assert called("AuthSecurityGroup") == {"443"}
    assert called("MetadataSecurityGroup") == {"443", "ToAuth"}
    assert called("NotifySecurityGroup") == {"443", "ToAuth"}
    assert called("GatewaySecurityGroup") == {"443", "ToAuth", "ToNotify"}
    first, *others = (number("network", "Port", door) for door in ("ToAuth", "ToMetadata", "ToNotify"))
    assert others == [first + 1, first + 2], "these three are all that is between"
    for door in ("ToAuth", "ToMetadata", "ToNotify"):
        assert called(f"{door}SecurityGroup") == {"Grpc"}


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_are_only_for_the_security_group_of_monitoring(network: Mapping[str, Any], service: str) -> None:
    rule = network[f"{service}Metrics"]
    assert rule["Condition"] == "Monitored"
    assert rule["Properties"]["SourceSecurityGroupId"] == {"Ref": "MonitoringSecurityGroup"}
    assert rule["Properties"]["GroupId"] == {"Ref": f"{service}SecurityGroup"}
    assert port(rule["Properties"]["FromPort"]) == port(rule["Properties"]["ToPort"]) == "Metrics"


@pytest.mark.parametrize(("endpoint", "service"), [("S3Endpoint", "s3"), ("DynamoDbEndpoint", "dynamodb")])
def test_no_nat_is_paid_for_what_is_moved_most(network: Mapping[str, Any], endpoint: str, service: str) -> None:
    properties = network[endpoint]["Properties"]
    assert properties["VpcEndpointType"] == "Gateway"
    assert properties["ServiceName"] == {"Fn::Sub": f"com.amazonaws.${{AWS::Region}}.{service}"}
    tables = [table["Fn::If"][1] if "Fn::If" in table else table for table in properties["RouteTableIds"]]
    assert tables == [{"Ref": f"PrivateRouteTable{zone}"} for zone in (1, 2, 3)]


def test_what_auth_trusts_is_the_network_itself() -> None:
    cidr = resources_of("network")["Vpc"]["Properties"]["CidrBlock"]
    assert templates.read("network")["Outputs"]["NetworkCidr"]["Value"] == cidr


def test_machines_get_no_public_address(network: Mapping[str, Any]) -> None:
    for name, body in network.items():
        if body["Type"] == "AWS::EC2::Subnet":
            assert not body["Properties"].get("MapPublicIpOnLaunch"), name
    flow = network["FlowLog"]["Properties"]
    assert (flow["ResourceId"], flow["TrafficType"]) == ({"Ref": "Vpc"}, "ALL")


# ---- services --------------------------------------------------------------------------------------------------


def test_the_network_opens_the_ports_on_which_services_listen() -> None:
    assert templates.read("network")["Mappings"]["Port"] == templates.read("services")["Mappings"]["Port"]


@pytest.mark.parametrize("balancer", ["PublicLoadBalancer", "InternalLoadBalancer"])
def test_load_balancers_are_protected_and_logged(services: Mapping[str, Any], balancer: str) -> None:
    found = attributes(services[balancer], "LoadBalancer")
    assert found["deletion_protection.enabled"] == "true"
    assert found["access_logs.s3.enabled"] == "true"
    assert found["access_logs.s3.bucket"] == {"Ref": "AccessLogBucket"}
    assert found["routing.http.drop_invalid_header_fields.enabled"] == "true"


def test_clients_and_services_speak_modern_tls_only(services: Mapping[str, Any]) -> None:
    listeners = {n: b["Properties"] for n, b in services.items() if b["Type"].endswith("V2::Listener")}
    plain = listeners.pop("ToTlsListener")
    assert plain["DefaultActions"][0]["RedirectConfig"]["Protocol"] == "HTTPS"
    assert set(listeners) == {"PublicListener", "ToAuthListener", "ToMetadataListener", "ToNotifyListener"}
    for listener in listeners.values():
        assert listener["Protocol"] == "HTTPS"
        assert listener["SslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2-Res")


@pytest.mark.parametrize("service", ["Auth", "Metadata", "Notify"])
def test_a_service_that_others_call_has_a_door_of_its_own(services: Mapping[str, Any], service: str) -> None:
    balancer = services["InternalLoadBalancer"]["Properties"]
    assert {"Ref": f"To{service}SecurityGroup"} in balancer["SecurityGroups"]
    door = services[f"To{service}Listener"]["Properties"]
    assert door["LoadBalancerArn"] == {"Ref": "InternalLoadBalancer"}
    assert port(door["Port"]) == f"To{service}"
    [action] = door["DefaultActions"]
    assert action["TargetGroupArn"] == {"Ref": f"{service}InternalTargets"}
    group = services[f"{service}Group"]
    assert {"Ref": f"{service}InternalTargets"} in group["Properties"]["TargetGroupARNs"]
    assert f"To{service}Listener" in group["DependsOn"], "targets without a listener are never healthy"


@pytest.mark.parametrize("group", ["Auth", "Metadata", "Notify", "AuthInternal", "MetadataInternal", "NotifyInternal"])
def test_services_are_grpc_targets_asked_for_their_health(services: Mapping[str, Any], group: str) -> None:
    target = services[f"{group}Targets"]["Properties"]
    assert target["ProtocolVersion"] == "GRPC"
    assert target["HealthCheckPath"] == "/grpc.health.v1.Health/Check"
    assert target["Matcher"] == {"GrpcCode": "0"}


def test_the_gateway_is_an_http_target(services: Mapping[str, Any]) -> None:
    target = services["GatewayTargets"]["Properties"]
    assert target["ProtocolVersion"] == "HTTP1"
    assert target["HealthCheckPath"] == "/readyz"
    assert services["PublicListener"]["Properties"]["DefaultActions"][0]["TargetGroupArn"] == {"Ref": "GatewayTargets"}


@pytest.mark.parametrize("service", SERVICES)
def test_machines_are_closed(services: Mapping[str, Any], service: str) -> None:
    machine = services[f"{service}Template"]["Properties"]["LaunchTemplateData"]
    assert machine["MetadataOptions"] == {
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "HttpEndpoint": "enabled",
    }
    [disk] = machine["BlockDeviceMappings"]
    assert (disk["Ebs"]["Encrypted"], disk["Ebs"]["VolumeType"]) == (True, "gp3")
    assert machine["SecurityGroupIds"] == [{"Ref": f"{service}SecurityGroup"}]
    assert "KeyName" not in machine


@pytest.mark.parametrize("service", SERVICES)
def test_machines_are_replaced_one_by_one_when_the_next_one_serves(services: Mapping[str, Any], service: str) -> None:
    group = services[f"{service}Group"]
    update = group["UpdatePolicy"]["AutoScalingRollingUpdate"]
    assert update["WaitOnResourceSignals"] is True
    assert update["MaxBatchSize"] == 1
    assert update["MinInstancesInService"] == {"Ref": f"{service}Min"}
    assert group["CreationPolicy"]["ResourceSignal"]["Count"] == {"Ref": f"{service}Min"}
    assert group["Properties"]["HealthCheckType"] == "ELB"
    [hook] = group["Properties"]["LifecycleHookSpecificationList"]
    assert hook["LifecycleHookName"] == "drain"
    assert hook["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"
    assert hook["DefaultResult"] == "CONTINUE"


def test_a_machine_has_the_time_to_leave_in_order(services: Mapping[str, Any]) -> None:
    drain, grace, deregistration, hook = (
        number("services", "Seconds", key) for key in ("Drain", "Grace", "Deregistration", "Hook")
    )
    unit = configparser.RawConfigParser(strict=False)
    unit.read(templates.HERE / "machine" / "syncline.service")
    stop = unit.getint("Service", "TimeoutStopSec")
    assert deregistration == drain + grace
    assert drain + grace < stop
    assert deregistration + stop < hook
    for name, body in services.items():
        if body["Type"].endswith("TargetGroup"):
            delay = attributes(body, "TargetGroup")["deregistration_delay.timeout_seconds"]
            assert delay == {"Fn::FindInMap": ["Seconds", "Deregistration", "Number"]}, name


@pytest.mark.parametrize(
    ("service", "metric"),
    [
        ("Auth", "ASGAverageCPUUtilization"),
        ("Metadata", "ASGAverageCPUUtilization"),
        ("Gateway", "ALBRequestCountPerTarget"),
    ],
)
def test_each_group_follows_what_limits_it(services: Mapping[str, Any], service: str, metric: str) -> None:
    tracking = services[f"{service}Scaling"]["Properties"]["TargetTrackingConfiguration"]
    assert tracking["PredefinedMetricSpecification"]["PredefinedMetricType"] == metric


def test_notify_follows_the_connections_of_a_machine(services: Mapping[str, Any]) -> None:
    policy = services["NotifyScaling"]["Properties"]["TargetTrackingConfiguration"]
    each, connections, machines = policy["CustomizedMetricSpecification"]["Metrics"]
    assert (each["Expression"], each["ReturnData"]) == ("connections / machines", True)
    assert connections["MetricStat"]["Metric"]["MetricName"] == "ActiveConnectionCount"
    assert machines["MetricStat"]["Metric"]["MetricName"] == "GroupInServiceInstances"
    collected = services["NotifyGroup"]["Properties"]["MetricsCollection"][0]
    assert "GroupInServiceInstances" in collected["Metrics"]


def test_secrets_are_generated_and_in_no_template(services: Mapping[str, Any]) -> None:
    for name, body in services.items():
        if body["Type"] == "AWS::SecretsManager::Secret":
            assert body["Properties"]["GenerateSecretString"]["PasswordLength"] >= 32, name
            assert "SecretString" not in body["Properties"], name
    text = templates.path("services").read_text()
    assert "{{resolve:" not in text


def test_every_alarm_tells_somebody(services: Mapping[str, Any]) -> None:
    alarms = {name: body["Properties"] for name, body in services.items() if body["Type"] == "AWS::CloudWatch::Alarm"}
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}], name
    watched = {alarm["MetricName"] for alarm in alarms.values()}
    assert watched >= {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesVisible",
        "HTTPCode_ELB_5XX_Count",
        "HTTPCode_Target_5XX_Count",
        "ReadThrottleEvents",
        "Reputation.BounceRate",
        "UnHealthyHostCount",
        "WriteThrottleEvents",
    }
    manual = (templates.HERE.parent / "docs" / "operate.md").read_text()
    explained = re.findall(r"^\| `([a-z*-]+)` \|", manual, re.MULTILINE)
    for name, alarm in alarms.items():
        called = alarm["AlarmName"]["Fn::Sub"].removeprefix("${Prefix}-")
        matching = [pattern for pattern in explained if fnmatch.fnmatchcase(called, pattern)]
        assert matching, f"docs/operate.md does not say what to do about {name}"


@pytest.mark.parametrize("service", SERVICES)
def test_logs_are_not_kept_for_ever(services: Mapping[str, Any], service: str) -> None:
    assert services[f"{service}Log"]["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}
