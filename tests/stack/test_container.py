"""The embedded AWS as in a container, in a process of its own: what it hands out, and what it keeps."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stack.data_directory import data_directory
from stack.embedded_aws import HOST, Aws, AwsCredentials, listen
from stack.errors import PortInUse
from stack.up import FREE_PORTS

DEADLINE = 60.0
SERVICES = ("auth", "metadata", "notify", "gateway")


def credentials(services: Path, name: str) -> AwsCredentials:
    document = json.loads((services / name / "credentials.json").read_text())
    assert document["Version"] == 1
    return AwsCredentials(document["AccessKeyId"], document["SecretAccessKey"], document["SessionToken"])


@contextmanager
def serving(data: Path, services: Path) -> Iterator[str]:
    """The endpoint, when everything is handed out; at the end SIGTERM."""
    for candidate in random.sample(FREE_PORTS, 50):
        with suppress(PortInUse), listen(candidate, "test"):
            port = candidate
            break
    for name in SERVICES:
        (services / name).mkdir(parents=True, exist_ok=True)
    argv = ["--listen", f"{HOST}:{port}", "--name", HOST, "--data", data, "--services", services]
    left = services / "gateway" / "credentials.json"
    before = left.stat().st_ino if left.exists() else None
    process = subprocess.Popen([sys.executable, "-m", "stack.container", *map(str, argv)], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + DEADLINE
        while not left.exists() or left.stat().st_ino == before:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://{HOST}:{port}"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, said.decode()
    finally:
        process.kill()
        process.communicate()


async def test_each_service_gets_what_it_needs_and_no_more(tmp_path: Path) -> None:
    data, services = tmp_path / "data", tmp_path / "services"
    with serving(data, services) as endpoint:
        held = {name: sorted(path.name for path in (services / name).iterdir()) for name in SERVICES}
        assert held == {
            "auth": ["aws-config", "credentials.json", "gateway-secret", "service-secret", "signing-key.pem"],
            "metadata": ["aws-config", "credentials.json", "gateway-secret", "service-secret"],
            "notify": ["aws-config", "credentials.json", "gateway-secret", "service-secret"],
            "gateway": ["aws-config", "credentials.json", "gateway-secret"],
        }
        proofs = {(services / name / "gateway-secret").read_text() for name in SERVICES}
        assert len(proofs) == 1
        assert (services / "auth" / "service-secret").read_text() not in proofs
        assert {path.stat().st_mode & 0o777 for path in services.glob("*/*")} == {0o600}
        anybody = Aws(endpoint, root=AwsCredentials("nobody", "nothing"))
        for name in SERVICES:
            async with anybody.client("sts", credentials(services, name)) as sts:
                assert f"assumed-role/syncline-{name}/" in (await sts.get_caller_identity())["Arn"]


async def test_a_restart_keeps_data_secrets_and_credentials_and_hands_out_new_ones(tmp_path: Path) -> None:
    data, services = tmp_path / "data", tmp_path / "services"
    item = {"pk": {"S": "S#a"}, "sk": {"S": "STATE"}}
    with serving(data, services) as endpoint:
        secret = (services / "auth" / "service-secret").read_text()
        key = (services / "auth" / "signing-key.pem").read_text()
        old = credentials(services, "metadata")
        async with Aws(endpoint, root=old).client("dynamodb") as dynamodb:
            await dynamodb.put_item(TableName="syncline-metadata", Item=item)
    with serving(data, services) as endpoint:
        assert (services / "notify" / "service-secret").read_text() == secret
        assert (services / "auth" / "signing-key.pem").read_text() == key
        async with Aws(endpoint, root=credentials(services, "metadata")).client("dynamodb") as dynamodb:
            assert (await dynamodb.get_item(TableName="syncline-metadata", Key=item))["Item"] == item
        assert credentials(services, "metadata") != old
        # Services go on, as after a moment in which AWS did not answer.
        async with Aws(endpoint, root=old).client("dynamodb") as dynamodb:
            assert (await dynamodb.get_item(TableName="syncline-metadata", Key=item))["Item"] == item
    with data_directory(data) as directory:
        assert directory.service_secret() == secret
