"""compose.yaml, compose.override.yaml, the Dockerfile and Envoy's configuration agree, without a Docker to try them.

`make test-compose` runs them.
"""

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import GatewaySettings
from runtime.settings import SettingsBase
from services.auth.settings import AuthSettings
from services.metadata.settings import MetadataSettings
from services.notify.settings import NotifySettings
from stack.output import MAX_LOG_BYTES
from stack.running import EmbeddedAws

ROOT = Path(__file__).resolve().parent.parent.parent
SERVICES: dict[str, type[SettingsBase]] = {
    "auth": AuthSettings,
    "metadata": MetadataSettings,
    "notify": NotifySettings,
    "gateway": GatewaySettings,
}


def interpolated(value: Any) -> Any:
    """Return the value as compose reads it when nothing is set."""
    match value:
        case dict():
            return {key: interpolated(each) for key, each in value.items()}
        case list():
            return [interpolated(each) for each in value]
        case str():
            return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
    return value


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Merge two files as compose does, as far as these need it."""
    return base | {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in more.items()
    }


def compose(*names: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in names:
        result = merged(result, interpolated(yaml.safe_load((ROOT / name).read_text())))
    return result


WHOLE = compose("compose.yaml", "compose.override.yaml")
ON_AWS = compose("compose.yaml")


@pytest.mark.parametrize("name", sorted(WHOLE["services"]))
def test_a_container_can_change_nothing_but_its_volumes(name: str) -> None:
    service = WHOLE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"user", "privileged", "cap_add", "network_mode", "pid"}


@pytest.mark.parametrize("name", sorted(WHOLE["services"]))
def test_the_log_of_a_container_has_a_maximum_size(name: str) -> None:
    kept = {"max-size": f"{MAX_LOG_BYTES // 1024**2}m", "max-file": "2"}
    assert WHOLE["services"][name]["logging"] == {"driver": "json-file", "options": kept}


@pytest.mark.parametrize("name", sorted(WHOLE["services"]))
def test_a_container_is_one_of_many_of_the_one_image(name: str) -> None:
    service = WHOLE["services"][name]
    assert service["build"]["dockerfile"] == "infra/Dockerfile"
    assert service["command"] == [name]
    assert "healthcheck" not in service, "the image has one"
    assert "container_name" not in service
    assert ("ports" in service) == (name == "balancer"), "only the balancer is published"
    assert service.get("scale", 1) == (2 if name in SERVICES else 1)


def test_it_is_published_on_this_machine_only_unless_told_otherwise() -> None:
    assert WHOLE["services"]["balancer"]["ports"] == ["127.0.0.1:8080:8080"]


def test_the_image_runs_as_nobody_in_particular_and_tells_its_health() -> None:
    lines = (ROOT / "infra" / "Dockerfile").read_text().splitlines()
    last_stage = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 10001:10001" in last_stage
    assert 'ENTRYPOINT ["serve"]' in last_stage
    assert [line for line in last_stage if line.startswith("HEALTHCHECK ") and '["serve", "healthy"]' in line]


def server_parts() -> list[str]:
    """The paths that server/hatch_build.py puts into the wheel of the server; the module needs hatchling to load."""
    module = ast.parse((ROOT / "server" / "hatch_build.py").read_text())
    told = {
        ast.unparse(node.targets[0]): ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign)
    }
    return [*told["PACKAGES"], told["TEMPLATE"]]


def test_the_image_is_made_of_all_that_both_wheels_are_made_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    parts = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], project["project"]["readme"]}
    parts |= {*server_parts(), "server", "pyproject.toml", "constraints.txt"}
    everything, *exceptions = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert everything == "*"
    assert [line for line in exceptions if not line.startswith("!")] == ["**/__pycache__", "**/node_modules"]
    let_in = [line.removeprefix("!") for line in exceptions]
    for part in parts:
        assert [each for each in let_in if f"{part}/".startswith(f"{each}/")], part


def test_what_version_1_refuses_is_not_there() -> None:
    for file in ("compose.yaml", "compose.override.yaml"):
        assert not yaml.safe_load((ROOT / file).read_text()).keys() & {"name", "version"}
    assert "--mount=" not in (ROOT / "infra" / "Dockerfile").read_text(), "only BuildKit knows these"


def test_no_secret_is_written_down() -> None:
    for service in WHOLE["services"].values():
        for variable, value in service.get("environment", {}).items():
            if re.search("SECRET|PASSWORD|TOKEN|ACCESS_KEY", variable):
                assert value == "", variable
    assert "SYNCLINE_SERVICE_SECRET" not in WHOLE["services"]["gateway"]["environment"]
    for name in SERVICES:
        assert "SYNCLINE_GATEWAY_SECRET" in WHOLE["services"][name]["environment"], name


def test_only_the_embedded_aws_sees_what_several_services_know() -> None:
    for name, service in WHOLE["services"].items():
        volumes = [volume.split(":") for volume in service.get("volumes", [])]
        if name == "aws":
            assert volumes == [["aws", "/data"], *([each, f"/run/services/{each}"] for each in SERVICES)]
        else:
            assert volumes == ([[name, "/run/syncline", "ro"]] if name in SERVICES else [])


def test_the_embedded_aws_is_started_again_like_the_rest() -> None:
    assert WHOLE["services"]["aws"]["restart"] == "unless-stopped"
    for name in SERVICES:
        assert WHOLE["services"][name]["depends_on"] == {"aws": {"condition": "service_healthy"}}


def test_the_balancer_finds_every_service_where_it_listens(tmp_path: Path) -> None:
    envoy = yaml.safe_load((ROOT / "infra" / "envoy.yaml").read_text())["static_resources"]
    addresses = {}
    for cluster in envoy["clusters"]:
        (locality,) = cluster["load_assignment"]["endpoints"]
        (endpoint,) = locality["lb_endpoints"]
        addresses[cluster["name"]] = endpoint["endpoint"]["address"]["socket_address"]
    assert addresses.keys() == {*SERVICES, "aws"}
    for name, address in addresses.items():
        assert address["address"] == name, "the service's name in DNS"
        assert started(tmp_path, name)["port"] == address["port_value"], name
    (listener,) = envoy["listeners"]
    assert listener["address"]["socket_address"] == {"address": "0.0.0.0", "port_value": 8080}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_runs_by_its_name(tmp_path: Path, name: str) -> None:
    module = "gateway" if name == "gateway" else f"services.{name}"
    assert started(tmp_path, name)["argv"] == ["-P", "-m", module]


def test_an_unknown_name_is_explained(tmp_path: Path) -> None:
    done = subprocess.run(["sh", ROOT / "infra" / "serve", "everything"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "serve auth | metadata" in done.stderr


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_service_is_told_all_that_it_needs(monkeypatch: pytest.MonkeyPatch, aws: EmbeddedAws, name: str) -> None:
    for file, told in (("with the embedded AWS", WHOLE), ("on AWS", ON_AWS)):
        for variable in [each for each in os.environ if each.startswith(("SYNCLINE_", "AWS_"))]:
            monkeypatch.delenv(variable)
        for variable, value in told["services"][name]["environment"].items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("SYNCLINE_SERVICE_SECRET", "s" * 32)
        settings = SERVICES[name]().model_dump()
        # The names in compose.yaml are those that the template gives.
        for setting, resource in {
            "bucket": "bucket_name",
            "changes_topic_arn": "changes_topic_arn",
            "doorbell_queue_prefix": "doorbell_queue_prefix",
            "gateway_table": "gateway_table_name",
            "audit_table": "audit_table_name",
            "identity_table": "identity_table_name",
            "mail_configuration_set": "mail_configuration_set_name",
            "mail_sender": "mail_sender",
            "metadata_table": "metadata_table_name",
            "notify_table": "notify_table_name",
            "transfer_role_arn": "transfer_role_arn",
        }.items():
            if setting in settings:
                assert settings[setting] == getattr(aws.resources, resource), f"{setting} {file}"
        if name in {"notify", "gateway"}:
            assert settings["public_url"] == f"http://{told['services']['balancer']['ports'][0].rpartition(':')[0]}"
        if name in {"auth", "notify"}:
            queue = aws.resources.mail_queue_url.rpartition("/")[2]
            assert settings["mail_queue_url"].rpartition("/")[2] == queue
        assert told["services"][name]["environment"]["AWS_REGION"] == aws.region


def started(scratch: Path, name: str) -> dict[str, Any]:
    """Return how `serve` would start `name`: a stand-in for Python tells it."""
    stand_in = scratch / "python"
    stand_in.write_text('#!/bin/sh\necho "$SYNCLINE_LISTEN"\necho "$@"\n')
    stand_in.chmod(0o755)
    done = subprocess.run(
        [ROOT / "infra" / "serve", name],
        env={"PATH": f"{scratch}:{os.environ['PATH']}", "SYNCLINE_LISTEN": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    listen, argv = done.stdout.splitlines()
    told = listen or argv.split("--listen ")[1].split()[0]
    return {"port": int(told.rpartition(":")[2]), "argv": argv.split()}
