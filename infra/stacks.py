"""Deployment of one stack: its changes, their confirmation, and the outcome."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from infra.errors import DeployError

_CHANGE_SET_SECONDS: Final = 300.0
_STACK_SECONDS: Final = 3600.0
_NOTHING: Final = ("didn't contain changes", "No updates are to be performed")
_DONE: Final = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"})
_MARKS: Final = {"Add": "+", "Modify": "~", "Remove": "-", "Import": ">", "Dynamic": "?"}


@dataclass(frozen=True, slots=True)
class Existing:
    """A CloudFormation stack that exists; `parameters` has the present values of its parameters, by name."""

    parameters: Mapping[str, str]


class Stacks:
    """Finds and changes the CloudFormation stacks of one account and region."""

    def __init__(self, cloudformation: Any, *, say: Callable[[str], None], poll_seconds: float = 3.0) -> None:
        self._cloudformation = cloudformation
        self._say = say
        self._poll_seconds = poll_seconds

    def find(self, name: str) -> Existing | None:
        """Return the stack `name`; None if there is none. Raise DeployError if its state allows no deployment, such as
        an operation in progress.
        """
        stack = self._described(name)
        if stack is None or stack["StackStatus"] == "REVIEW_IN_PROGRESS":  # a change set that was never applied
            return None
        if stack["StackStatus"] not in _DONE:
            raise DeployError(f"the stack {name} is in state {stack['StackStatus']}{_advice(stack['StackStatus'])}")
        return Existing({given["ParameterKey"]: given["ParameterValue"] for given in stack.get("Parameters", [])})

    def apply(
        self,
        name: str,
        template: Mapping[str, str],
        parameters: Sequence[Mapping[str, Any]],
        *,
        confirm: Callable[[str], bool],
    ) -> Mapping[str, str]:
        """Create or change the stack `name`: print its changes, call `confirm` with the question whether to apply them,
        apply them, and wait for the end. Without changes, nothing is asked. Return the outputs of the stack by name.

        `template` is TemplateBody or TemplateURL with its value, and `parameters` are in the form of CloudFormation.
        Raise DeployError in these cases:

        - the stack's state allows no deployment;
        - `confirm` returns False;
        - the changes were refused or a resource failed: the text then has CloudFormation's reasons.
        """
        new = self.find(name) is None
        change_set = f"deploy-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S-%f}"
        arguments = {"StackName": name, "ChangeSetName": change_set}
        self._cloudformation.create_change_set(
            **arguments,
            **template,
            ChangeSetType="CREATE" if new else "UPDATE",
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=list(parameters),
        )
        changes = self._changes(arguments)
        if not changes:
            self._cloudformation.delete_change_set(**arguments)
            self._say(f"{name}: no changes")
            return _outputs(self._described(name) or {})
        self._say(f"{name}: {len(changes)} changes")
        for change in changes:
            self._say(f"  {change}")
        if not confirm(f"Apply these to {name}?"):
            self._discard(arguments, new=new)
            raise DeployError(f"{name} was not changed, nor anything after it")
        began = dt.datetime.now(dt.UTC)
        self._cloudformation.execute_change_set(**arguments)
        return self._outcome(name, began)

    def _changes(self, arguments: Mapping[str, str]) -> list[str]:
        """Return the changes of a change set, in words. Raise DeployError if CloudFormation refuses the change set."""
        deadline = time.monotonic() + _CHANGE_SET_SECONDS
        while True:
            answer = self._cloudformation.describe_change_set(**arguments)
            if answer["Status"] == "CREATE_COMPLETE":
                found = list(answer["Changes"])
                while answer.get("NextToken"):
                    answer = self._cloudformation.describe_change_set(**arguments, NextToken=answer["NextToken"])
                    found += answer["Changes"]
                return [_in_words(change["ResourceChange"]) for change in found]
            if answer["Status"] == "FAILED":
                reason = answer.get("StatusReason", "no reason given")
                if any(nothing in reason for nothing in _NOTHING):
                    return []
                self._discard(arguments, new=False)
                raise DeployError(f"CloudFormation refuses the changes of {arguments['StackName']}: {reason}")
            if time.monotonic() > deadline:
                raise DeployError(f"the changes of {arguments['StackName']} are still being worked out; try again")
            time.sleep(self._poll_seconds)

    def _outcome(self, name: str, began: dt.datetime) -> Mapping[str, str]:
        deadline = time.monotonic() + _STACK_SECONDS
        while True:
            stack = self._described(name)
            status = "DELETE_COMPLETE" if stack is None else stack["StackStatus"]
            if stack is not None and status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
                self._say(f"{name}: {status}")
                return _outputs(stack)
            if not status.endswith("_IN_PROGRESS"):
                raise DeployError(f"{name}: {status}{self._failures(name, began)}{_advice(status)}")
            if time.monotonic() > deadline:
                raise DeployError(f"{name}: still {status} after an hour; look at its events in the console")
            time.sleep(self._poll_seconds)

    def _failures(self, name: str, began: dt.datetime) -> str:
        pages = self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=name)
        lines = [
            f"\n  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
            for page in pages
            for event in page["StackEvents"]
            if event["Timestamp"] >= began - dt.timedelta(seconds=1) and event["ResourceStatus"].endswith("_FAILED")
        ]
        return "".join(reversed(lines))

    def _described(self, name: str) -> Mapping[str, Any] | None:
        try:
            stack: Mapping[str, Any] = self._cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            return None
        return stack

    def _discard(self, arguments: Mapping[str, str], *, new: bool) -> None:
        self._cloudformation.delete_change_set(**arguments)
        if new:  # an empty stack holds the change set of a stack to be created
            self._cloudformation.delete_stack(StackName=arguments["StackName"])


def _outputs(stack: Mapping[str, Any]) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def _in_words(change: Mapping[str, Any]) -> str:
    replaced = {"True": " (replaced)", "Conditional": " (perhaps replaced)"}.get(change.get("Replacement", ""), "")
    return f"{_MARKS.get(change['Action'], '?')} {change['LogicalResourceId']} {change['ResourceType']}{replaced}"


def _advice(status: str) -> str:
    if status in {"ROLLBACK_COMPLETE", "CREATE_FAILED", "ROLLBACK_FAILED"}:
        return "\nIt was never made: delete it, then deploy again. Tables, the bucket and secrets are kept."
    if status == "UPDATE_ROLLBACK_COMPLETE":
        return "\nIt is as it was before."
    if status.endswith("_IN_PROGRESS"):
        return "; somebody else is at it: wait until that is over"
    return "\nLook at its events in the console."
