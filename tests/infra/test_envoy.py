"""The balancer's configuration as it is for containers: Envoy accepts it, and it agrees with the contract."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.balancer import DRAIN_SECONDS
from stack.deploy import template
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import metadata_pb2
from syncline.notify.v1 import notify_pb2

FILE = Path(__file__).resolve().parents[2] / "infra" / "envoy.yaml"
CONFIGURATION: dict[str, Any] = yaml.safe_load(FILE.read_text())
RESOURCES = CONFIGURATION["static_resources"]
# These make something each time; all other rpcs may be repeated at any time.
ONCE = {"SignUp", "SignIn"}


def rpcs() -> Iterator[tuple[str, str]]:
    """Each method's path, and whose it is."""
    for name, module in (("auth", auth_pb2), ("metadata", metadata_pb2), ("notify", notify_pb2)):
        (service,) = module.DESCRIPTOR.services_by_name.values()
        for method in service.methods:
            yield f"/{service.full_name}/{method.name}", name


def route(path: str, **headers: str) -> dict[str, Any]:
    """Where a request with these headers goes, as Envoy decides: the first route that matches."""
    (listener,) = RESOURCES["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    for candidate in manager["route_config"]["virtual_hosts"][0]["routes"]:
        match = candidate["match"]
        if not (path == match["path"] if "path" in match else path.startswith(match["prefix"])):
            continue
        if all(_has(headers, wanted) for wanted in match.get("headers", [])):
            found: dict[str, Any] = candidate["route"]
            return found
    raise AssertionError(f"no route for {path}")


def _has(headers: dict[str, str], wanted: dict[str, Any]) -> bool:
    value = headers.get(wanted["name"].strip(":").replace("-", "_"), "")
    match = wanted["string_match"]
    return value == match["exact"] if "exact" in match else bool(re.fullmatch(match["safe_regex"]["regex"], value))


def repeats_what_arrived(found: dict[str, Any]) -> bool:
    return "reset" in found["retry_policy"]["retry_on"].split(",")


def test_envoy_accepts_it() -> None:
    pytest.importorskip("envoy", reason="there is no Envoy for this platform")
    done = subprocess.run(
        [sys.executable, "-m", "envoy._main", "--mode", "validate", "-c", str(FILE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


@pytest.mark.parametrize(("path", "service"), list(rpcs()))
def test_each_rpc_goes_to_its_service_and_is_repeated_if_that_is_harmless(path: str, service: str) -> None:
    found = route(path)
    assert found["cluster"] == service
    assert found["timeout"] == "0s", "deadlines are the callers', and streams have none"
    assert repeats_what_arrived(found) is (path.rpartition("/")[2] not in ONCE)


def test_health_is_of_the_service_that_is_named() -> None:
    path = "/grpc.health.v1.Health/Check"
    for service in ("auth", "metadata", "notify"):
        assert route(path, x_syncline_service=service)["cluster"] == service
    assert route(path)["cluster"] == "metadata"


def test_the_rest_is_storage_or_the_gateway() -> None:
    bucket = next(
        line.split(":", 1)[1].strip().split()[-1]
        for line in template().read_text().splitlines()
        if line.strip().startswith("BucketName:")
    ).strip('"')
    assert bucket.startswith("${Prefix}-content-")
    assert route("/syncline-content-000000000000-us-east-1/spaces/a/objects/b")["cluster"] == "aws"
    for method, repeated in (("GET", True), ("HEAD", True), ("POST", False), ("PUT", False), ("DELETE", False)):
        for path in ("/", "/.well-known/syncline", "/v1/spaces/a/content/b"):
            assert route(path, method=method)["cluster"] == "gateway"
            assert repeats_what_arrived(route(path, method=method)) is repeated


def test_who_drains_is_noticed_in_time_and_nobody_else_reaches_the_admin_interface() -> None:
    assert CONFIGURATION["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    for cluster in RESOURCES["clusters"]:
        for check in cluster.get("health_checks", []):
            assert check["interval"] == check["no_traffic_interval"] == "1s"
            noticed = float(check["interval"].rstrip("s")) + float(check["timeout"].rstrip("s"))
            assert check["unhealthy_threshold"] == 1
            assert noticed <= DRAIN_SECONDS
    assert {cluster["name"] for cluster in RESOURCES["clusters"] if "health_checks" in cluster} == {
        "auth",
        "metadata",
        "notify",
        "gateway",
    }
