"""Machines run their user data as deployed, and the programs of a release; both run here as they are there."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.settings import GatewaySettings
from infra import templates
from infra.machine.start import signing_key
from infra.release import build_wheels, pack
from services.auth.settings import AuthSettings
from services.metadata.settings import MetadataSettings
from services.notify.settings import NotifySettings
from stack.probe import grpc_serving
from tests.infra.conftest import RELEASE, Production

ROOT = templates.HERE.parent
MACHINE = templates.HERE / "machine"
SETTINGS: Mapping[str, Any] = {
    "auth": AuthSettings,
    "metadata": MetadataSettings,
    "notify": NotifySettings,
    "gateway": GatewaySettings,
}
SECRET = re.compile(r"SYNCLINE_(SERVICE|GATEWAY)_SECRET=|PRIVATE KEY")


@pytest.fixture
def user_data(production: Production) -> Callable[[str], str]:
    def user_data(service: str) -> str:
        [version] = production.session.client("ec2").describe_launch_template_versions(
            LaunchTemplateName=f"syncline-test-{service}", Versions=["$Latest"]
        )["LaunchTemplateVersions"]
        return base64.b64decode(version["LaunchTemplateData"]["UserData"]).decode()

    return user_data


def environment_in(script: str) -> dict[str, str]:
    """Return what the script writes to /etc/syncline/environment, as systemd reads it."""
    text = script.split("<<'END'\n")[1].split("\nEND\n", maxsplit=1)[0]
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.mark.parametrize("service", SETTINGS)
def test_user_data_is_a_script_that_fetches_the_release_and_holds_no_secret(
    user_data: Callable[[str], str], service: str
) -> None:
    script = user_data(service)
    assert script.startswith("#!/bin/bash\nset -euo pipefail\n")
    assert "${" not in script, "everything is filled in"
    assert f"/{RELEASE}'" in script
    assert not SECRET.search(script)
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("service", SETTINGS)
def test_a_service_accepts_the_settings_of_its_machine(
    user_data: Callable[[str], str], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = environment_in(user_data(service))
    given = {name.removeprefix("SYNCLINE_").lower() for name in environment if name.startswith("SYNCLINE_")}
    of_start = {"service_secret", "gateway_secret", "signing_key_file"}  # start.py adds these
    for name in [name for name in os.environ if name.startswith("SYNCLINE_")]:
        monkeypatch.delenv(name)
    for name, value in (
        environment | {"SYNCLINE_SERVICE_SECRET": "s" * 64, "SYNCLINE_SIGNING_KEY_FILE": "signing-key.pem"}
    ).items():
        monkeypatch.setenv(name, value)
    settings = SETTINGS[service]()
    assert settings.drain_seconds == 15
    assert settings.grace_seconds == 15
    assert settings.listen == ("0.0.0.0:8080" if service == "gateway" else "0.0.0.0:50051")
    assert given & of_start == set()
    known = set(SETTINGS[service].model_fields) | {"metrics_listen"}
    assert given <= known, "a variable that nobody reads"
    if service != "auth":
        assert settings.peer_tls is True
        assert settings.auth_target == "files.example.com:8441"
    assert settings.trusted_proxies == 1
    assert settings.trusted_networks == (), "the gateway proves for whom it calls"
    assert environment["GATEWAY_SECRET_ID"] == "syncline-test/gateway-secret"
    assert ("SERVICE_SECRET_ID" in environment) is (service != "gateway")
    if service == "gateway":
        assert settings.metadata_target == "files.example.com:8442"
        assert settings.notify_target == "files.example.com:8443"
    if service in {"notify", "gateway"}:
        assert settings.public_url == "https://files.example.com"


def role(production: Production, service: str) -> dict[str, str]:
    """The environment of a process that acts in the role of a service."""
    arn = f"arn:aws:iam::000000000000:role/syncline-test-{service}"
    sts = production.session.client("sts")
    held = sts.assume_role(RoleArn=arn, RoleSessionName="machine")["Credentials"]
    return production.environment() | {
        "AWS_ACCESS_KEY_ID": held["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": held["SecretAccessKey"],
        "AWS_SESSION_TOKEN": held["SessionToken"],
    }


@contextmanager
def started(
    production: Production, environment: Mapping[str, str], service: str, runtime: Path
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The service as systemd starts it; yields the process and its port once it says that it serves."""
    here = {
        "PYTHONPATH": os.pathsep.join([str(templates.HERE.parent), str(templates.HERE.parent / "protos" / "gen")]),
        "RUNTIME_DIRECTORY": str(runtime),
        "SYNCLINE_DRAIN_SECONDS": "0",
        "SYNCLINE_LISTEN": "127.0.0.1:0",
        "SYNCLINE_METRICS_LISTEN": "",
    }
    process = subprocess.Popen(
        [sys.executable, "-P", str(MACHINE / "start.py")],
        env=role(production, service) | dict(environment) | here,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "serving":
                yield process, event["port"]
                break
        else:
            raise AssertionError(f"did not serve: {said}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("service", ["auth", "metadata", "notify"])
async def test_a_machine_becomes_its_service_with_its_own_role_and_secrets(
    production: Production, user_data: Callable[[str], str], service: str, tmp_path: Path
) -> None:
    environment = environment_in(user_data(service))
    with started(production, environment, service, tmp_path) as (process, port):
        deadline = time.monotonic() + 60
        while not await grpc_serving(f"127.0.0.1:{port}"):
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    keys = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert keys == ({"signing-key.pem": 0o600} if service == "auth" else {})


def test_a_key_follows_from_its_secret_and_the_next_one_is_published_first(
    production: Production, user_data: Callable[[str], str], tmp_path: Path
) -> None:
    secrets = production.session.client("secretsmanager")
    name = "syncline-test/signing-secret"
    current = secrets.get_secret_value(SecretId=name)["SecretString"]
    assert len(current) == 64
    secrets.put_secret_value(SecretId=name, SecretString="n" * 64, VersionStages=["AWSPENDING"])
    environment = environment_in(user_data("auth"))
    with started(production, environment, "auth", tmp_path):
        assert (tmp_path / "signing-key.pem").read_bytes() == signing_key(current)
        assert (tmp_path / "previous-key.pem").read_bytes() == signing_key("n" * 64)
    assert signing_key("a") == signing_key("a") != signing_key("b")
    load_pem_private_key(signing_key("a"), None)


def test_a_machine_that_may_not_read_its_secrets_says_so(production: Production, tmp_path: Path) -> None:
    mine = {"SERVICE": "gateway", "AWS_REGION": "us-east-1", "SERVICE_SECRET_ID": "syncline-test/service-secret"}
    done = subprocess.run(
        [sys.executable, str(MACHINE / "start.py")],
        env=role(production, "gateway") | mine | {"RUNTIME_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("cannot read the secrets of gateway: ")
    assert "Traceback" not in done.stderr


class _Metadata(BaseHTTPRequestHandler):
    """The instance metadata service, version 2 only; `state` is what Auto Scaling intends."""

    state = "InService"
    asked = 0

    def do_PUT(self) -> None:
        self._answer("a token" if self.path == "/latest/api/token" else None)

    def do_GET(self) -> None:
        known = {
            "/latest/meta-data/autoscaling/target-lifecycle-state": type(self).state,
            "/latest/meta-data/instance-id": "i-0123456789abcdef0",
        }
        type(self).asked += 1
        self._answer(known.get(self.path) if self.headers["X-aws-ec2-metadata-token"] == "a token" else None)

    def _answer(self, text: str | None) -> None:
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_arguments: object) -> None:
        pass


def test_a_machine_that_is_taken_away_stops_its_service_and_then_lets_go(
    production: Production, tmp_path: Path
) -> None:
    _Metadata.state = "InService"
    log, systemctl = tmp_path / "log", tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    systemctl.chmod(0o755)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mine = {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "DRAIN_POLL_SECONDS": "0.05",
        "GROUP": "syncline-test-notify",
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    }
    process = subprocess.Popen([sys.executable, "-P", str(MACHINE / "drain.py")], env=role(production, "notify") | mine)
    try:
        deadline = time.monotonic() + 60
        while _Metadata.asked < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not log.exists(), "it stays while it is wanted"
        _Metadata.state = "Terminated"
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()
    assert log.read_text() == "stop syncline.service\n"


ONLY_FOR_CHECKS = {
    "gateway/web/biome.json",
    "gateway/web/package.json",
    "gateway/web/tsconfig.json",
    "gateway/web/vendor/noble-hashes/sha2.d.ts",
}
"""Files of the web app that the tools of `make check` read, and no machine needs."""


def test_the_release_holds_what_a_machine_needs(tmp_path: Path) -> None:
    wheels = build_wheels(tmp_path / "wheels")
    names: dict[Path, set[str]] = {}
    for wheel in (wheels.client, wheels.server):
        with zipfile.ZipFile(wheel) as packed:
            names[wheel] = set(packed.namelist())
    with zipfile.ZipFile(wheels.server) as packed:
        for page in ("app.html", "link.html", "reference.html"):
            assert packed.read(f"gateway/web/{page}") == (ROOT / "gateway" / "web" / page).read_bytes()
    assert "syncline/auth/v1/auth_pb2.py" in names[wheels.client]
    assert names[wheels.server] >= {"stack/probe.py", "stack/data.yaml"}
    # The wheels hold files that are not Python, too: pages and what they load, statements of SQL.
    for wheel, source in (
        *((wheels.client, ROOT / root / "syncline") for root in ("lib", "clients/python", "protos/gen")),
        *((wheels.server, ROOT / package) for package in ("runtime", "aws", "services", "gateway", "stack")),
    ):
        files = {
            path.relative_to(source.parent).as_posix()
            for path in source.rglob("*")
            if path.is_file() and path.parent.name != "__pycache__"
        }
        assert files
        assert files - names[wheel] <= ONLY_FOR_CHECKS, sorted(files - names[wheel])
    for program in (
        *("install", "start.py", "drain.py", "ready.py", "logrotate"),
        *("syncline.service", "syncline-drain.service", "syncline-logs.service", "syncline-logs.timer"),
    ):
        assert (MACHINE / program).is_file()
    checked = subprocess.run(["bash", "-n", str(MACHINE / "install")], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_log_of_a_machine_is_rotated_by_its_size_every_minute() -> None:
    """A flood of requests that are logged fills a disk within a day."""
    rules = (MACHINE / "logrotate").read_text()
    size, kept = (int(re.search(pattern, rules)[1]) for pattern in (r"size (\d+)M\n", r"rotate (\d+)\n"))  # type: ignore[index]
    assert (kept + 1) * size <= 256
    assert "/var/log/syncline/service.log {" in rules
    assert "append:/var/log/syncline/service.log" in (MACHINE / "syncline.service").read_text()
    assert "OnUnitActiveSec=1min\n" in (MACHINE / "syncline-logs.timer").read_text()
    unit, install = (MACHINE / "syncline-logs.service").read_text(), (MACHINE / "install").read_text()
    [used] = re.findall(r"ExecStart=/usr/sbin/logrotate --state \S+ (\S+)\n", unit)
    assert f'"$here/logrotate" {used}\n' in install
    assert re.search(r"systemctl enable --now .*syncline-logs\.timer", install)


def test_the_same_content_is_the_same_release(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tree = tmp_path / name
        tree.mkdir()
        (tree / "install").write_text("#!/bin/sh\n")
        (tree / "install").chmod(0o755 if name == "one" else 0o775)
        os.utime(tree / "install", (0, len(name)))
        pack(tree, tmp_path / f"{name}.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
