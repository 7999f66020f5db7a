"""Deploy a stage: `python -m infra.deploy STAGE [--set Name=value ...] [--release KEY] [--yes]`.

In order: the templates are checked, the cost is estimated, the release is built unless an earlier one is named, and
each stack is shown its changes and, when they are confirmed, changed. AWS is configured by the SDK's own variables.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import boto3  # type: ignore[import-untyped]  # published without types
from botocore.exceptions import BotoCoreError, ClientError

from infra import release, templates
from infra.cost import estimate
from infra.errors import DeployError
from infra.stacks import Existing, Stacks

_OURS: Final = frozenset({"Prefix", "ReleaseBucket", "ReleaseKey"})
"""Parameters that a user cannot choose: they follow from the stage and the release."""
_FOR_EMULATOR: Final = frozenset({"MailSender"})
"""Parameters whose default value is meant for the stack on one machine only, so that a deployment has to state a
value.
"""


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """The options of a deployment."""

    stage: str
    chosen: Mapping[str, str]
    """Values of parameters, by name; a name has the same meaning in every template."""
    release: str | None = None
    """The key of a release that was uploaded before; None builds a new one."""

    @property
    def prefix(self) -> str:
        """The prefix of the names of all resources and stacks."""
        return f"syncline-{self.stage}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy the stage that `arguments` (those of the command line if None) name, and return 0. After a failure, print
    the reason and return 1.
    """
    parser = argparse.ArgumentParser(prog="make deploy", description="Deploy a stage to AWS.")
    parser.add_argument("stage", help="the stage, such as prod: names begin with syncline-STAGE")
    parser.add_argument("--set", nargs="*", default=[], metavar="Name=value", help="parameters of the templates")
    parser.add_argument("--release", metavar="KEY", help="run a release that was uploaded before, to roll back")
    parser.add_argument("--yes", action="store_true", help="do not ask before each change")
    given = parser.parse_args(arguments)
    try:
        deploy(
            DeployOptions(given.stage, _chosen(given.set), given.release),
            session=boto3.Session(),
            confirm=(lambda _question: True) if given.yes else _asked,
        )
    except DeployError as error:
        _fail(str(error))
    except ClientError as error:
        _fail(f"AWS refuses {error.operation_name}: {error.response['Error'].get('Message', error)}")
    except BotoCoreError as error:
        _fail(f"{error}; the SDK's variables (AWS_PROFILE, AWS_REGION, ...) say which account and region is meant")
    except KeyboardInterrupt:
        _fail("interrupted; what CloudFormation has begun goes on there")
    else:
        return 0
    return 1


def deploy(
    plan: DeployOptions,
    *,
    session: Any,
    confirm: Callable[[str], bool],
    say: Callable[[str], None] = lambda line: print(line, flush=True),  # noqa: T201 - the terminal is the interface
    poll_seconds: float = 3.0,
) -> Mapping[str, str]:
    """Deploy all stacks of the stage in the order that the module states; return the outputs of all stacks, by name.
    Raise DeployError, whose text says what to do, if a step fails; the stacks that were changed before stay changed.

    `session` is a session of the AWS SDK. `confirm` is asked before the changes of each stack, with the question as
    text, and returns True to apply them. `say` prints one line of progress.
    """
    s3 = session.client("s3")
    stacks = Stacks(session.client("cloudformation"), say=say, poll_seconds=poll_seconds)
    existing = {name: stacks.find(f"{plan.prefix}-{name}") for name in templates.ORDER}
    check_values(plan.chosen, existing)
    check_templates()
    say(estimate({**_before(existing), **plan.chosen}))
    outputs: dict[str, str] = {"Prefix": plan.prefix}

    def apply(name: str, template: Mapping[str, str]) -> None:
        parameters = parameters_of(name, plan.chosen, outputs, existing[name])
        outputs.update(stacks.apply(f"{plan.prefix}-{name}", template, parameters, confirm=confirm))

    first, *others = templates.ORDER
    with release.built() if plan.release is None else nullcontext(None) as made:
        apply(first, {"TemplateBody": templates.path(first).read_text()})
        bucket = outputs["ReleaseBucket"]
        if made is not None:
            _upload(s3, bucket, made.key, made.file.read_bytes(), say=say)
    outputs["ReleaseKey"] = made.key if made is not None else str(plan.release)
    if not _is_there(s3, bucket, outputs["ReleaseKey"]):
        raise DeployError(f"there is no {outputs['ReleaseKey']} in {bucket}; `aws s3 ls {bucket}/releases/` lists them")
    for name in others:
        text = templates.path(name).read_bytes()
        key = f"templates/{hashlib.sha256(text).hexdigest()[:12]}-{name}.yaml"
        _upload(s3, bucket, key, text)
        apply(name, {"TemplateURL": f"{s3.meta.endpoint_url}/{bucket}/{key}"})
    say(f"{outputs['ReleaseKey']} serves at {outputs['Endpoint']}; {outputs['PublicDnsName']} is its load balancer")
    return outputs


@cache
def check_templates() -> None:
    """Raise DeployError with the findings of cfn-lint, if there are any."""
    paths = [str(templates.path(name)) for name in templates.ORDER]
    lint = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([str(lint), *paths], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DeployError(f"the templates are not right:\n{(done.stdout + done.stderr).strip()}")


def check_values(chosen: Mapping[str, str], existing: Mapping[str, Existing | None]) -> None:
    """Check that every parameter of a template has a value, and that every value in `chosen` is that of a parameter.
    `existing` has the present stack of each template, or None, by the name of the template. Raise DeployError, whose
    text names the wrong parameters.
    """
    declared = templates.parameters()
    known = {name for template in declared.values() for name in template} - _OURS
    unknown = sorted(chosen.keys() - known)
    if unknown:
        raise DeployError(f"no template has a parameter {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    made = set(_OURS)
    lacking = []
    for name in templates.ORDER:
        stack = existing[name]
        known_here = chosen.keys() | made | (stack.parameters.keys() if stack is not None else set())
        lacking += [
            f"\n  {parameter}: {body['Description']}"
            for parameter, body in declared[name].items()
            if ("Default" not in body or parameter in _FOR_EMULATOR) and parameter not in known_here
        ]
        made |= templates.read(name)["Outputs"].keys()
    if lacking:
        raise DeployError("these need a value, by SET='Name=value ...':" + "".join(lacking))
    defaults = {name: str(body["Default"]) for name, body in declared["services"].items() if "Default" in body}
    value = {**defaults, **_before(existing), **chosen}
    for service in ("Auth", "Metadata", "Notify", "Gateway"):
        least, most = value[f"{service}Min"], value[f"{service}Max"]
        if int(least) >= int(most):
            raise DeployError(f"{service}Max ({most}) must be more than {service}Min ({least}): updates need room")


def _before(existing: Mapping[str, Existing | None]) -> dict[str, str]:
    """Return the present values of the parameters of a stack, by the name of the parameter."""
    return {name: value for stack in existing.values() if stack is not None for name, value in stack.parameters.items()}


def parameters_of(
    name: str, chosen: Mapping[str, str], outputs: Mapping[str, str], existing: Existing | None
) -> list[dict[str, Any]]:
    """Return the parameters of the template `name` in the form of CloudFormation. A value is taken from `chosen`,
    otherwise from `outputs`, those of the stacks that were deployed before, and otherwise from `existing`, the present
    stack. A parameter without any of these keeps its default and is left out.
    """
    values: list[dict[str, Any]] = []
    for parameter in templates.parameters()[name]:
        if parameter in chosen:
            values.append({"ParameterKey": parameter, "ParameterValue": chosen[parameter]})
        elif parameter in outputs:
            values.append({"ParameterKey": parameter, "ParameterValue": outputs[parameter]})
        elif existing is not None and parameter in existing.parameters:
            values.append({"ParameterKey": parameter, "UsePreviousValue": True})
    return values


def _upload(s3: Any, bucket: str, key: str, content: bytes, *, say: Callable[[str], None] | None = None) -> None:
    if _is_there(s3, bucket, key):  # keys are derived from the content
        return
    s3.put_object(Bucket=bucket, Key=key, Body=content, ChecksumAlgorithm="SHA256")
    if say is not None:
        say(f"uploaded {key}, {len(content) / 1e6:.1f} MB")


def _is_there(s3: Any, bucket: str, key: str) -> bool:
    found = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
    return bool(found) and found[0]["Key"] == key


def _chosen(pairs: Sequence[str]) -> dict[str, str]:
    chosen = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise DeployError(f"{pair!r} is not of the form Name=value")
        chosen[name] = value
    return chosen


def _asked(question: str) -> bool:
    if not sys.stdin.isatty():
        raise DeployError("there is nobody to ask; YES=1 applies the changes without asking")
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def _fail(text: str) -> None:
    sys.stderr.write(f"deploy: {text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
