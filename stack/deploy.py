"""Create or update our AWS resources from `infra/data.yaml`, by CloudFormation."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError

from stack.embedded_aws import ACCOUNT, Aws
from stack.errors import DeployFailed

_HERE: Final = Path(__file__).resolve().parent
_POLL_SECONDS: Final = 0.05
_DEADLINE_SECONDS: Final = 60.0
_COMPLETE: Final = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})
_UNUSABLE: Final = frozenset({"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"})


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of the deployed template: one field for each output, in snake case."""

    bucket_name: str
    bucket_arn: str
    identity_table_name: str
    identity_table_arn: str
    audit_table_name: str
    audit_table_arn: str
    metadata_table_name: str
    metadata_table_arn: str
    notify_table_name: str
    notify_table_arn: str
    gateway_table_name: str
    gateway_table_arn: str
    changes_topic_arn: str
    mail_queue_url: str
    mail_queue_arn: str
    mail_dead_letter_queue_url: str
    mail_dead_letter_queue_arn: str
    doorbell_queue_prefix: str
    mail_sender: str
    mail_configuration_set_name: str
    transfer_role_arn: str
    auth_role_arn: str
    auth_role_name: str
    metadata_role_arn: str
    metadata_role_name: str
    notify_role_arn: str
    notify_role_name: str
    gateway_role_arn: str
    gateway_role_name: str

    def roles(self) -> dict[str, str]:
        """Return the ARN of each service's role, by the service's name."""
        return {
            "auth": self.auth_role_arn,
            "metadata": self.metadata_role_arn,
            "notify": self.notify_role_arn,
            "gateway": self.gateway_role_arn,
        }


def template() -> Path:
    """Return the path of the template: in a checkout beside this package, in an installed distribution within it."""
    return next(path for path in (_HERE.parent / "infra" / "data.yaml", _HERE / "data.yaml") if path.is_file())


async def deploy_embedded(aws: Aws, *, prefix: str = "syncline") -> Resources:
    """Create in `aws` the resources of the template, with names that begin with `prefix`, or update them to the present
    template; return the resources. May be repeated after an incomplete or failed deployment.

    Raise DeployFailed with CloudFormation's reason for each resource that failed.
    """
    name = f"{prefix}-data"
    arguments = {
        "StackName": name,
        "TemplateBody": template().read_text(),
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in {
                "Prefix": prefix,
                "RequireTls": "false",  # the emulator is on the loopback interface or in the containers' own network
                "TrustedPrincipals": f"arn:aws:iam::{ACCOUNT}:root",
            }.items()
        ],
    }
    deadline = time.monotonic() + _DEADLINE_SECONDS
    async with aws.client("cloudformation") as cloudformation:
        while True:
            stack = await _in_final_state(cloudformation, name, deadline)
            if stack is not None and stack["StackStatus"] in _UNUSABLE:
                # The first deployment failed: CloudFormation has rolled back the resources, and the stack's name
                # remains.
                await cloudformation.delete_stack(StackName=name)
                continue
            try:
                if stack is None:
                    await cloudformation.create_stack(**arguments)
                else:
                    await cloudformation.update_stack(**arguments)
            except ClientError as error:
                if "No updates are to be performed" not in str(error):
                    raise DeployFailed(str(error)) from error
            stack = await _in_final_state(cloudformation, name, deadline)
            if stack is None:
                continue  # the embedded AWS was killed during the deployment and restarted without any of it
            if stack["StackStatus"] not in _COMPLETE:
                raise DeployFailed(await _reasons(cloudformation, name, stack["StackStatus"]))
            return _resources(aws, stack)


async def _in_final_state(cloudformation: Any, name: str, deadline: float) -> Mapping[str, Any] | None:
    """Wait until no operation is in progress on the CloudFormation stack `name`; return its description, or None if
    there is no such stack. `deadline` is a time of `time.monotonic`, in seconds; raise DeployFailed if an operation is
    still in progress then.
    """
    while True:
        try:
            stack: Mapping[str, Any] = (await cloudformation.describe_stacks(StackName=name))["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise DeployFailed(str(error)) from error
        status = stack["StackStatus"]
        if not status.endswith("_IN_PROGRESS"):
            return stack
        if time.monotonic() > deadline:
            raise DeployFailed(f"CloudFormation still says {status} after {_DEADLINE_SECONDS:g} s")
        await asyncio.sleep(_POLL_SECONDS)


async def _reasons(cloudformation: Any, name: str, status: str) -> str:
    events = (await cloudformation.describe_stack_events(StackName=name))["StackEvents"]
    reasons = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED")
    ]
    return f"CloudFormation says {status}: {'; '.join(reasons)}"


def _resources(aws: Aws, stack: Mapping[str, Any]) -> Resources:
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    values = {field.name: outputs[_output_key(field.name)] for field in dataclasses.fields(Resources)}
    # The emulator stores queue URLs with the port that it had when it created the queues.
    here = urllib.parse.urlsplit(aws.endpoint).netloc
    for name in ("mail_queue_url", "mail_dead_letter_queue_url"):
        values[name] = urllib.parse.urlsplit(values[name])._replace(netloc=here).geturl()
    return Resources(**values)


def _output_key(field: str) -> str:
    return "".join(word.capitalize() for word in field.split("_"))
