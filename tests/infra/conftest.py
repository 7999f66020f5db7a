import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3  # type: ignore[import-untyped]  # published without types
import pytest

from infra import templates
from infra.deploy import DeployOptions, deploy
from infra.stacks import Stacks
from stack.embedded_aws import ACCOUNT, Aws
from stack.running import EmbeddedAws, embedded_aws

RELEASE = "releases/0.1.0-test.tar.gz"
IMAGE = "/images/syncline"
ALSO = ("autoscaling", "cloudwatch", "ec2", "elbv2", "logs", "route53", "secretsmanager", "ssm")
CHOSEN = {
    "AlarmEmail": "operators@example.com",
    "CertificateArn": f"arn:aws:acm:us-east-1:{ACCOUNT}:certificate/1",
    "DomainName": "files.example.com",
    "MailSender": "syncline@example.com",
}
ON_EMULATOR = {
    "FlowLogs": "false",  # a resource that it does not know, like NAT gateways
    "ImageId": IMAGE,
    "NatGateways": "none",
    "RequireTls": "false",
    "TrustedPrincipals": f"arn:aws:iam::{ACCOUNT}:root",
}


@pytest.fixture(scope="session")
def aws() -> Iterator[EmbeddedAws]:
    """One embedded AWS with the template deployed, for all tests here; spaces keep them apart."""
    with embedded_aws() as running:
        yield running


@dataclass(frozen=True)
class Session:
    """The part of a boto3 session that deployments use, on the embedded AWS. A client, slow to make, is made once."""

    aws: Aws
    session: Any = field(default_factory=boto3.Session)
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = self.session.client(
                service,
                endpoint_url=self.aws.endpoint,
                region_name=self.aws.region,
                aws_access_key_id=self.aws.root.access_key_id,
                aws_secret_access_key=self.aws.root.secret_access_key,
            )
        return self.clients[service]


@dataclass(frozen=True)
class Production:
    """The stage `test`, deployed to an embedded AWS with the services that production takes."""

    aws: Aws
    session: Session
    outputs: Mapping[str, str]

    def deploy(self, *, confirm: bool = True, release: str = RELEASE, **chosen: str) -> list[str]:
        """Deploy again with these changes; what was said."""
        said: list[str] = []
        deploy(
            DeployOptions("test", chosen, release),
            session=self.session,
            confirm=lambda _question: confirm,
            say=said.append,
            poll_seconds=0.05,
        )
        return said

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that deploys."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return inherited | self.aws.environment()


@pytest.fixture(scope="session")
def production() -> Iterator[Production]:
    with embedded_aws(also=ALSO) as aws:
        session, said = Session(aws), list[str]()  # nobody listens
        session.client("ssm").put_parameter(Name=IMAGE, Value="ami-0123456789abcdef0", Type="String")
        # A release is there already, so that no test waits for one to be built.
        bucket = Stacks(session.client("cloudformation"), say=said.append, poll_seconds=0.05).apply(
            "syncline-test-artefacts",
            {"TemplateBody": templates.path("artefacts").read_text()},
            [
                {"ParameterKey": "Prefix", "ParameterValue": "syncline-test"},
                {"ParameterKey": "RequireTls", "ParameterValue": "false"},
            ],
            confirm=lambda _question: True,
        )["ReleaseBucket"]
        session.client("s3").put_object(Bucket=bucket, Key=RELEASE, Body=b"a release")
        outputs = deploy(
            DeployOptions("test", CHOSEN | ON_EMULATOR, RELEASE),
            session=session,
            confirm=lambda _question: True,
            say=said.append,
            poll_seconds=0.05,
        )
        yield Production(aws, session, outputs)
