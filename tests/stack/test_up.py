"""`syncline up` with the embedded AWS and stand-ins for the services: small programs on the services' ports."""

import asyncio
import base64
import configparser
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiobotocore.session import AioSession

from stack.data_directory import data_directory
from stack.embedded_aws import HOST, Aws, AwsCredentials, bound
from stack.errors import DataDirectoryInUse, PortInUse, StackError
from stack.probe import http_ok
from stack.running import running_stack
from stack.services import Wiring, service_children
from stack.supervisor import Child
from stack.up import Stack, reserved_ports, stack

DEADLINE = 120.0

STAND_IN = """
    import json, os
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(dict(os.environ)).encode())

        def log_message(self, *_): pass

    host, _, port = os.environ["SYNCLINE_LISTEN"].rpartition(":")
    print("serving")
    HTTPServer((host, int(port)), Answer).serve_forever()
"""

UP = """
    import asyncio, pathlib, sys
    sys.path.insert(0, sys.argv[1])
    from stack.errors import StackError
    from stack.up import up
    from test_up import stand_ins
    data = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
    try:
        raise SystemExit(asyncio.run(up(port=int(sys.argv[2]), data=data, children=stand_ins)))
    except StackError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1)
"""


def stand_ins(wiring: Wiring) -> list[Child]:
    """In place of each service, a program that tells its environment over HTTP."""

    def stand_in(child: Child) -> Child:
        port = int(child.env["SYNCLINE_LISTEN"].rpartition(":")[2])
        argv = (sys.executable, "-c", textwrap.dedent(STAND_IN))
        return Child(child.name, argv, child.env, partial(http_ok, HOST, port, "/readyz"))

    return [stand_in(child) for child in service_children(wiring)]


@contextmanager
def up(port: int, data: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """`up` in a process of its own, killed at the end if it still runs."""
    argv = [sys.executable, "-c", textwrap.dedent(UP), str(Path(__file__).parent), str(port)]
    argv += [str(data)] if data else []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def free_port() -> Iterator[int]:
    """The first of five ports that nobody else takes for free."""
    with reserved_ports(0) as (ports, listener):
        listener.close()
        yield ports.gateway


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=DEADLINE)
    assert not alive


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_it_tells_when_it_serves_and_stops_without_a_trace_and_comes_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with free_port() as port, free_port() as other, up(port, data) as process:
        assert first_line(process) == f"syncline is up: http://127.0.0.1:{port}\n"
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 5

        with up(other, data) as second, up(port - 2) as third:
            out, err = second.communicate(timeout=DEADLINE)
            assert (second.returncode, out) == (1, "")
            assert f"{data} is in use by another `syncline up` (process {process.pid})" in err
            out, err = third.communicate(timeout=DEADLINE)
            assert (third.returncode, out) == (1, "")
            assert f"port {port} (metadata) is in use" in err

        told = asyncio.run(told_environment(port + 1))
        aws = aws_of(data, port)
        asyncio.run(save(aws, told["SYNCLINE_IDENTITY_TABLE"], told["SYNCLINE_BUCKET"]))

        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE)
        assert (process.returncode, out) == (0, "")
        assert re.search(r"^metadata \| serving$", err, re.MULTILINE)
        wait_until_gone(children)
    assert (data / "logs" / "auth.log").read_text() == "serving\n"
    private = [data / "secrets", *(data / "secrets").iterdir()]
    assert [path.stat().st_mode & 0o077 for path in private] == [0] * 5
    key = Path(told["SYNCLINE_SIGNING_KEY_FILE"]).read_text()
    assert "PRIVATE KEY" in key

    with running_stack(data=data, children=stand_ins) as again:
        assert again.aws.root == aws.root
        after = asyncio.run(told_environment(again.ports.auth))
        assert after["SYNCLINE_SERVICE_SECRET"] == told["SYNCLINE_SERVICE_SECRET"]
        assert Path(after["SYNCLINE_SIGNING_KEY_FILE"]).read_text() == key
        assert again.aws.endpoint in again.resources.mail_queue_url
        asyncio.run(find(again.aws, again.resources.identity_table_name, again.resources.bucket_name))


def aws_of(data: Path, port: int) -> Aws:
    """Return the embedded AWS of a running stack, as any AWS tool would reach it."""
    parser = configparser.ConfigParser()
    parser.read(data / "secrets" / "aws-credentials")
    found = parser["default"]
    root = AwsCredentials(found["aws_access_key_id"], found["aws_secret_access_key"])
    return Aws(f"http://{HOST}:{port + 4}", root)


async def save(aws: Aws, table: str, bucket: str) -> None:
    async with aws.client("dynamodb") as dynamodb, aws.client("s3") as s3:
        await dynamodb.put_item(TableName=table, Item={"pk": {"S": "a"}, "sk": {"S": "b"}})
        await s3.put_object(Bucket=bucket, Key=f"spaces/a/objects/{0:064}", Body=b"kept")


async def find(aws: Aws, table: str, bucket: str) -> None:
    async with aws.client("dynamodb") as dynamodb, aws.client("s3") as s3:
        assert (await dynamodb.scan(TableName=table))["Count"] == 1
        found = await s3.get_object(Bucket=bucket, Key=f"spaces/a/objects/{0:064}")
        assert await found["Body"].read() == b"kept"


def test_interrupting_the_start_leaves_nothing(tmp_path: Path) -> None:
    with free_port() as port, up(port, tmp_path) as process:
        deadline = time.monotonic() + DEADLINE
        while not (children := psutil.Process(process.pid).children()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=DEADLINE)
        assert (process.returncode, out) == (0, "")
        wait_until_gone(children)


async def told_environment(port: int) -> dict[str, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{HOST}:{port}/") as answer:
        told: dict[str, str] = await answer.json(content_type=None)
        return told


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    """One stack for the tests that only look at it, or that it survives."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_PROFILE", "my-own")
        patched.setenv("SYNCLINE_QUOTA_BYTES", "1000")
        with running_stack(children=stand_ins, variables={"SYNCLINE_LOG_LEVEL": "debug"}) as running:
            yield running
    assert not running.data.exists()


async def environments(running: Stack) -> dict[str, dict[str, str]]:
    ports = running.ports
    places = {"auth": ports.auth, "metadata": ports.metadata, "notify": ports.notify, "gateway": ports.gateway}
    assert set(running.pids) == {"aws", *places}
    return {name: await told_environment(port) for name, port in places.items()}


async def test_services_know_their_peers_and_nothing_of_the_users_aws(running: Stack) -> None:
    told = await environments(running)
    for environ in told.values():
        assert environ["SYNCLINE_QUOTA_BYTES"] == "1000"
        assert environ["SYNCLINE_LOG_LEVEL"] == "debug"
        assert "AWS_PROFILE" not in environ
        assert "AWS_ACCESS_KEY_ID" not in environ
    assert told["metadata"]["SYNCLINE_AUTH_TARGET"] == told["auth"]["SYNCLINE_LISTEN"]
    assert told["gateway"]["SYNCLINE_PUBLIC_URL"] == running.endpoint


async def test_services_act_in_their_own_roles(running: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, environ in (await environments(running)).items():
        with monkeypatch.context() as patched:
            for variable in os.environ:
                patched.delenv(variable)
            for variable, value in environ.items():
                patched.setenv(variable, value)
            assert f":assumed-role/syncline-{name}/" in await who_am_i()


async def who_am_i() -> str:
    """Return the ARN that a service would find out for itself: the SDK, configured by its environment alone."""
    async with AioSession().create_client("sts") as sts:
        identity: str = (await sts.get_caller_identity())["Arn"]
        return identity


async def test_credentials_are_for_who_holds_the_token(running: Stack) -> None:
    told = await environments(running)
    uri = told["auth"]["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    async with aiohttp.ClientSession() as session:
        for token in ("", told["gateway"]["AWS_CONTAINER_AUTHORIZATION_TOKEN"]):
            async with session.get(uri, headers={"Authorization": token}) as answer:
                assert answer.status == 403


async def test_pages_in_a_browser_cannot_reset_or_read_the_embedded_aws(running: Stack) -> None:
    async with aiohttp.ClientSession() as session:
        for method, path, headers in (
            ("POST", "/_ministack/reset", {}),
            ("POST", "/_ministack/config", {}),
            ("GET", "/_ministack/ses/messages", {"Origin": "https://example.com"}),
            ("GET", "/_ministack/ses/messages", {"Host": "example.com:8084"}),
        ):
            async with session.request(method, running.aws.endpoint + path, headers=headers) as answer:
                assert answer.status == 403
    assert running.aws.mails() == []


async def test_other_users_of_this_machine_read_no_mails(running: Stack) -> None:
    """Other users reach the port. Only those who may read the secrets of the data directory may read mails."""
    root = running.aws.root
    async with aiohttp.ClientSession() as session:
        for path in ("/_ministack/ses/messages", "/_ministack/sqs/messages"):
            for key, secret, status in (
                (None, "", 403),
                (root.access_key_id, "wrong", 403),
                ("test", "test", 403),
                (root.access_key_id, root.secret_access_key, 200),
            ):
                login = base64.b64encode(f"{key}:{secret}".encode()).decode()
                headers = {"Authorization": f"Basic {login}"} if key else {}
                async with session.get(running.aws.endpoint + path, headers=headers) as answer:
                    assert answer.status == status, (path, key)


async def test_only_the_owner_reads_what_is_in_the_data_directory(running: Stack) -> None:
    found = [running.data, *running.data.rglob("*")]
    assert {path.name for path in found} >= {"logs", "aws", "secrets", "state.db", "stack.log", "tmp"}
    assert [str(path) for path in found if path.lstat().st_mode & 0o077 and not path.is_symlink()] == []


async def test_the_gateway_does_not_know_the_secret_of_the_services(running: Stack) -> None:
    """The gateway acts in its callers' names only."""
    told = await environments(running)
    assert {name for name, variables in told.items() if "SYNCLINE_SERVICE_SECRET" in variables} == {
        "auth",
        "metadata",
        "notify",
    }
    secret = (running.data / "secrets" / "service-secret").read_text().strip()
    assert secret not in told["gateway"].values()
    proof = (running.data / "secrets" / "gateway-secret").read_text().strip()
    assert {name for name, variables in told.items() if proof in variables.values()} == {
        "auth",
        "metadata",
        "notify",
        "gateway",
    }
    assert secret != proof


async def test_nobody_is_believed_by_the_address_of_the_call_alone(running: Stack) -> None:
    told = await environments(running)
    assert {variables.get("SYNCLINE_TRUSTED_NETWORKS", "") for variables in told.values()} == {""}


async def test_a_service_that_dies_is_started_again(running: Stack) -> None:
    first = running.pids["auth"]
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE
    while running.pids["auth"] == first:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"port {port} \(gateway\) is in use"):
            async with stack(port=port, data=tmp_path):
                pass


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is bound beside a socket that listens")
def test_ports_of_one_stack_are_not_free_for_another_before_its_children_listen() -> None:
    with reserved_ports(0) as (ports, _):
        for port in range(ports.gateway, ports.aws + 1):
            with pytest.raises(PortInUse), bound(port, "another stack", alone=True):
                pass
        for _again in range(2):  # a child may be restarted
            with socket.create_server((HOST, ports.auth)):
                pass
        with bound(ports.auth, "a stack whose port was named", alone=False):
            pass


async def test_ports_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="leaves no room"):
        async with stack(port=65533, data=tmp_path):
            pass


def test_the_data_directory_is_for_one_stack(tmp_path: Path) -> None:
    held = f"process {os.getpid()}"
    with data_directory(tmp_path), pytest.raises(DataDirectoryInUse, match=held), data_directory(tmp_path):
        pass
    with data_directory(tmp_path):
        pass


SOMEBODY_ELSE = 12_345


def test_a_directory_of_somebody_else_is_no_data_directory(tmp_path: Path) -> None:
    """Such as one with a name that can be guessed, where everybody may make directories."""
    if os.geteuid():
        pytest.skip("only root gives directories away")
    theirs = tmp_path / "data"
    theirs.mkdir()
    os.chown(theirs, SOMEBODY_ELSE, -1)
    with pytest.raises(StackError, match="belongs to other users"), data_directory(theirs):
        pass
    assert not list(theirs.iterdir())
    with data_directory(theirs, volume=True):
        pass


def test_a_directory_that_everybody_shares_is_no_data_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(StackError, match="is shared with other users"), data_directory(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_a_file_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="cannot be used as the data directory"), data_directory(tmp_path / "file"):
        pass
