"""Deployments: to the embedded AWS by the command that production uses, to moto template by template."""

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import boto3  # type: ignore[import-untyped]  # published without types
import pytest

from infra import templates
from infra.cost import Prices, fixed
from infra.deploy import main, parameters_of
from infra.errors import DeployError
from tests.infra.conftest import CHOSEN, RELEASE, Production
from tests.support.moto import moto_server


def test_calls_are_led_to_their_service_by_their_path(production: Production) -> None:
    elb = production.session.client("elbv2")
    [balancer] = elb.describe_load_balancers(Names=["syncline-test-public"])["LoadBalancers"]
    assert balancer["Scheme"] == "internet-facing"
    listeners = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    [tls] = [listener for listener in listeners if listener["Port"] == 443]
    groups = {
        group["TargetGroupArn"]: group["TargetGroupName"] for group in elb.describe_target_groups()["TargetGroups"]
    }
    led: dict[str, str] = {}
    for rule in elb.describe_rules(ListenerArn=tls["ListenerArn"])["Rules"]:
        [action] = rule["Actions"]
        paths = [path for condition in rule["Conditions"] for path in condition["PathPatternConfig"]["Values"]]
        led |= dict.fromkeys(paths or ["everything else"], groups[action["TargetGroupArn"]])
    assert led == {
        "/syncline.auth.v1.AuthService/*": "syncline-test-auth",
        "/syncline.admin.v1.AdminService/*": "syncline-test-auth",
        "/syncline.metadata.v1.MetadataService/*": "syncline-test-metadata",
        "/syncline.notify.v1.NotifyService/*": "syncline-test-notify",
        "everything else": "syncline-test-gateway",
    }


def test_services_reach_each_other_by_the_internal_load_balancer(production: Production) -> None:
    elb = production.session.client("elbv2")
    [balancer] = elb.describe_load_balancers(Names=["syncline-test-internal"])["LoadBalancers"]
    assert balancer["Scheme"] == "internal"
    assert set(balancer["SecurityGroups"]) == {
        production.outputs["ToAuthSecurityGroup"],
        production.outputs["ToMetadataSecurityGroup"],
        production.outputs["ToNotifySecurityGroup"],
    }
    listeners = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    groups = {
        group["TargetGroupArn"]: group["TargetGroupName"] for group in elb.describe_target_groups()["TargetGroups"]
    }
    led = {listener["Port"]: groups[listener["DefaultActions"][0]["TargetGroupArn"]] for listener in listeners}
    assert led == {
        8441: "syncline-test-auth-in",
        8442: "syncline-test-metadata-in",
        8443: "syncline-test-notify-in",
    }


def test_each_service_has_a_group_of_machines(production: Production) -> None:
    found = production.session.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert {group["AutoScalingGroupName"]: group["MinSize"] for group in found} == {
        "syncline-test-auth": 2,
        "syncline-test-metadata": 2,
        "syncline-test-notify": 2,
        "syncline-test-gateway": 2,
    }


def test_deploying_again_changes_nothing(production: Production) -> None:
    said = production.deploy()
    for name in templates.ORDER:
        assert f"syncline-test-{name}: no changes" in said


def test_a_change_is_shown_and_made_only_when_confirmed(production: Production) -> None:
    def most() -> int:
        [group] = production.session.client("autoscaling").describe_auto_scaling_groups(
            AutoScalingGroupNames=["syncline-test-auth"]
        )["AutoScalingGroups"]
        size: int = group["MaxSize"]
        return size

    before = most()
    with pytest.raises(DeployError, match="syncline-test-services was not changed"):
        production.deploy(confirm=False, AuthMax=str(before + 1))
    assert most() == before
    said = production.deploy(AuthMax=str(before + 1))
    assert any(line.strip().startswith("~ AuthGroup AWS::AutoScaling::AutoScalingGroup") for line in said)
    assert most() == before + 1
    production.deploy()
    assert most() == before + 1, "what was chosen once stays"


def test_an_earlier_release_is_brought_back_by_its_name(production: Production) -> None:
    def released() -> str:
        ec2 = production.session.client("ec2")
        [newest] = ec2.describe_launch_template_versions(LaunchTemplateName="syncline-test-auth", Versions=["$Latest"])[
            "LaunchTemplateVersions"
        ]
        return base64.b64decode(newest["LaunchTemplateData"]["UserData"]).decode()

    other = "releases/0.2.0-test.tar.gz"
    production.session.client("s3").put_object(Bucket=production.outputs["ReleaseBucket"], Key=other, Body=b"newer")
    production.deploy(release=other)
    assert other in released()
    production.deploy()
    assert RELEASE in released()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["test", "--release", "releases/9-none.tar.gz", "--yes"], "there is no releases/9-none.tar.gz"),
        (["test", "--release", RELEASE, "--set", "AuthMaximum=7"], "no template has a parameter AuthMaximum"),
        (["test", "--release", RELEASE, "--set", "AuthMax=2"], r"AuthMax (2) must be more than AuthMin (2)"),
        (["test", "--release", RELEASE, "--set", "AuthMax"], "'AuthMax' is not of the form Name=value"),
        (["test", "--release", RELEASE, "--set", "Prefix=mine"], "no template has a parameter Prefix"),
        (["test", "--release", RELEASE, "--set", "NotifyMax=9"], "there is nobody to ask; YES=1"),
        (["test", "--release", RELEASE, "--yes", "--set", "AuthInstanceType=x9.huge"], "has no price for x9.huge"),
        (["other", "--release", RELEASE, "--yes"], "these need a value, by SET='Name=value ...':\n  MailSender: "),
    ],
)
def test_what_is_wrong_is_told_in_words(
    production: Production,
    arguments: list[str],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in production.aws.environment().items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 1
    assert complaint in capsys.readouterr().err


def test_without_credentials_nothing_is_begun(
    production: Production, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in production.aws.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert main(["test", "--release", RELEASE]) == 1
    complaint = capsys.readouterr().err
    assert "Unable to locate credentials" in complaint
    assert "AWS_PROFILE" in complaint


def test_the_command_deploys(production: Production) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.deploy", "test", "--release", RELEASE, "--yes"],
        env=production.environment(),
        cwd=templates.HERE.parent,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    assert "Estimate for a month in dollars, at list prices of us-east-1 as of" in done.stdout
    assert "not included: " in done.stdout
    assert f"{RELEASE} serves at https://files.example.com" in done.stdout


def test_the_estimate_adds_up() -> None:
    prices = Prices.read()
    small = {item.what: item.dollars for item in fixed(prices, {})}
    large = {item.what: item.dollars for item in fixed(prices, {"Zones": "3", "AuthMin": "4", "NatGateways": "one"})}
    machine = prices.machines["t4g.small"] * 730
    assert small["auth: t4g.small, at least"] == pytest.approx(2 * machine)
    assert large["auth: t4g.small, at least"] == pytest.approx(4 * machine)
    assert small["NAT gateway"] == pytest.approx(2 * large["NAT gateway"])
    assert large["public IPv4 address"] == pytest.approx(small["public IPv4 address"])  # 3 + 1 and 2 + 2


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as aws:
        yield aws.endpoint


@pytest.mark.filterwarnings("ignore:Tried to parse:UserWarning")  # moto names the resources that it skips
def test_all_templates_deploy_to_another_emulator(moto: str) -> None:
    """With what the embedded AWS lacks: three zones, NAT, and flow logs; without what this one skips."""

    def client(service: str) -> Any:
        return boto3.Session().client(
            service, endpoint_url=moto, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )

    certificate = client("acm").request_certificate(DomainName="files.example.com")["CertificateArn"]
    chosen = CHOSEN | {"CertificateArn": certificate, "Zones": "3", "MonitoringSecurityGroup": "sg-0123"}
    monitoring = client("ec2").create_security_group(GroupName="monitoring", Description="Prometheus")
    chosen["MonitoringSecurityGroup"] = monitoring["GroupId"]
    outputs = {"Prefix": "syncline-moto", "ReleaseKey": RELEASE, "MailConfigurationSetName": "syncline-moto-mail"}
    cloudformation = client("cloudformation")
    for name in templates.ORDER:
        stack = f"syncline-moto-{name}"
        cloudformation.create_stack(
            StackName=stack,
            TemplateBody=templates.path(name).read_text(),
            Parameters=parameters_of(name, chosen, outputs, None),
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        deadline = time.monotonic() + 60
        while (made := cloudformation.describe_stacks(StackName=stack)["Stacks"][0])[
            "StackStatus"
        ] != "CREATE_COMPLETE":
            assert time.monotonic() < deadline, made
            time.sleep(0.1)
        outputs |= {output["OutputKey"]: output["OutputValue"] for output in made.get("Outputs", [])}
    ec2 = client("ec2")
    # Two, not three: moto takes a condition within Fn::And for false.
    assert len(ec2.describe_nat_gateways()["NatGateways"]) == 2
    assert len(outputs["PrivateSubnets"].split(",")) == 3
    [flow] = ec2.describe_flow_logs()["FlowLogs"]
    assert (flow["ResourceId"], flow["TrafficType"]) == (outputs["VpcId"], "ALL")
    [auth] = ec2.describe_security_groups(GroupIds=[outputs["AuthSecurityGroup"]])["SecurityGroups"]
    open_to = {
        (rule["FromPort"], pair["GroupId"]) for rule in auth["IpPermissions"] for pair in rule["UserIdGroupPairs"]
    }
    assert open_to == {
        (50051, outputs["PublicSecurityGroup"]),
        (50051, outputs["ToAuthSecurityGroup"]),
        (9464, monitoring["GroupId"]),
    }
    [notify] = ec2.describe_security_groups(GroupIds=[outputs["NotifySecurityGroup"]])["SecurityGroups"]
    open_to = {
        (rule["FromPort"], pair["GroupId"]) for rule in notify["IpPermissions"] for pair in rule["UserIdGroupPairs"]
    }
    assert open_to == {
        (50051, outputs["PublicSecurityGroup"]),
        (50051, outputs["ToNotifySecurityGroup"]),
        (9464, monitoring["GroupId"]),
    }
    assert len(client("elbv2").describe_target_groups()["TargetGroups"]) == 7
    machine = client("ec2").describe_launch_template_versions(LaunchTemplateName="syncline-moto-notify")
    [version] = machine["LaunchTemplateVersions"]
    assert version["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"] == "required"
