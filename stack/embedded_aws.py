"""The embedded AWS: its start, and access to it."""

from __future__ import annotations

import base64
import errno
import json
import os
import socket
import sys
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from runtime.imports import absent
from runtime.listening import listening_socket
from runtime.logs import LOG_FORMAT
from stack.emulator.storage import DAMAGED, STORAGE
from stack.errors import PortInUse, StackError
from stack.probe import http_ok
from stack.supervisor import Child

with absent("httpx", "httpx2"):  # an alternative to aiohttp, which aiobotocore imports if it is installed
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

HOST: Final = "127.0.0.1"
REGION: Final = "us-east-1"
ACCOUNT: Final = "000000000000"
NAME: Final = "aws"

READY_SECONDS: Final = 600.0
"""Maximum seconds in which the emulator has to be ready, because it reads its stored state first; a million items take
minutes on a slow machine.
"""

_STOP_SECONDS: Final = 20.0
_USED_SERVICES: Final = ("cloudformation", "dynamodb", "iam", "s3", "ses", "sns", "sqs", "sts")


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """AWS credentials; only temporary ones have a token."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Aws:
    """The address of an AWS, real or embedded, and the credentials of its root."""

    endpoint: str
    root: AwsCredentials
    region: str = REGION

    @asynccontextmanager
    async def client(
        self, service: str, credentials: AwsCredentials | None = None, **overrides: Any
    ) -> AsyncIterator[Any]:
        """Yield an aiobotocore client for a service of AWS, such as "s3", and close it at the end. Its requests are
        signed with `credentials`, or with those of root if that is None. `overrides` are arguments of botocore's
        Config.
        """
        key = credentials or self.root
        opening = _session().create_client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=key.access_key_id,
            aws_secret_access_key=key.secret_access_key,
            aws_session_token=key.session_token,
            config=AioConfig(proxies={}, **overrides),
        )
        async with opening as client:
            yield client

    async def assume(
        self,
        role_arn: str,
        *,
        by: AwsCredentials | None = None,
        policy: Mapping[str, Any] | None = None,
        seconds: int = 3600,
    ) -> AwsCredentials:
        """Return temporary credentials of the role with the ARN `role_arn`, restricted by the session policy `policy`
        if it is given. `by` are the credentials that request them; None means those of root.

        The credentials are valid for `seconds`. Unlike AWS, the embedded one accepts any number, so that expiry can be
        tested.
        """
        arguments = {"RoleArn": role_arn, "RoleSessionName": "stack", "DurationSeconds": seconds}
        if policy is not None:
            arguments["Policy"] = json.dumps(policy, separators=(",", ":"))
        async with self.client("sts", by, parameter_validation=False) as sts:
            answer = (await sts.assume_role(**arguments))["Credentials"]
        return AwsCredentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])

    def environment(self, credentials: AwsCredentials | None = None) -> dict[str, str]:
        """Return environment variables by which every SDK and tool uses this AWS, as root unless `credentials` are
        given.
        """
        key = credentials or self.root
        variables = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": key.access_key_id,
            "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
        }
        return variables if key.session_token is None else variables | {"AWS_SESSION_TOKEN": key.session_token}

    def mails(self) -> list[dict[str, Any]]:
        """Return all mails, oldest first, each with `Source`, `To`, `Subject`, `BodyText`, `BodyHtml`. Raise StackError
        if the embedded AWS does not accept the root credentials.
        """
        address = urllib.parse.urlsplit(self.endpoint)
        root = base64.b64encode(f"{self.root.access_key_id}:{self.root.secret_access_key}".encode()).decode()
        connection = HTTPConnection(address.hostname or HOST, address.port, timeout=5)
        try:
            connection.request("GET", "/_ministack/ses/messages", headers={"Authorization": f"Basic {root}"})
            response = connection.getresponse()
            if response.status != HTTPStatus.OK:
                raise StackError(f"{self.endpoint} does not show its mails: these are not its root credentials")
            answer = json.loads(response.read())
        finally:
            connection.close()
        sent: list[dict[str, Any]] = answer["messages"].get(ACCOUNT, [])
        return sent


@lru_cache(maxsize=1)
def _session() -> AioSession:
    # The SDK reads service descriptions once. It must not use the user's own AWS account: no profile, no files.
    nothing = (None, None, None, None)
    return AioSession({"profile": nothing, "config_file": nothing, "credentials_file": nothing})


def listen(port: int, what: str, *, host: str = HOST) -> socket.socket:
    """Return a listening TCP socket, on the loopback interface unless another `host` is given. Port 0 lets the system
    choose a free port. `what` is the purpose of the port in the text of errors.

    Raise PortInUse if another program listens on the port, and StackError if it cannot be used for another reason.
    """
    try:
        return listening_socket(f"{host}:{port}")
    except OSError as error:
        raise _unusable(error, port, what) from None


def bound(port: int, what: str, *, alone: bool) -> socket.socket:
    """Return a socket that is bound to `port` of the loopback interface and does not listen, so that a child can listen
    there and nothing takes the port for free. With `alone`, nothing else may be bound to the port, even without
    listening.

    Raise PortInUse, whose text names the purpose `what`, if the port is taken.
    """
    found = socket.socket()
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, not alone)
        found.bind((HOST, port))
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
    except OSError as error:
        found.close()
        raise _unusable(error, port, what) from None
    return found


def emulator(
    listener: socket.socket,
    directory: Path,
    root: AwsCredentials,
    *,
    name: str = HOST,
    inherited: tuple[int, ...] = (),
    also: tuple[str, ...] = (),
    durable: bool = True,
) -> Child:
    """Return the description of the process that runs the emulator, for a Supervisor to start. It serves on `listener`,
    stores its state in `directory`, and accepts the host name `name` in signatures and addresses.

    - `root` is the only access key with the rights of root.
    - `inherited` has further file descriptors that the process keeps open, such as the lock of the data directory.
    - `also` names additional services of AWS; their state is not stored.
    - Without `durable`, only the bytes of objects are written to the disk, in order to measure the cost of durability.

    `listener` must stay open in this process. An emulator that is restarted after a crash continues on the same socket,
    with everything that was acknowledged.
    """
    port = listener.getsockname()[1]
    scratch = directory / "tmp"
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SYNCLINE_"))} | {
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": root.access_key_id,
        "AWS_SECRET_ACCESS_KEY": root.secret_access_key,
        "DOCKER_HOST": f"unix://{scratch}/no-docker",  # no feature in use needs it
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",  # would listen on a port of its own
        "LOG_LEVEL": "WARNING",
        LOG_FORMAT: os.environ.get(LOG_FORMAT, "console"),
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_HOST": name,
        "MINISTACK_REGION": REGION,
        "S3_DATA_DIR": str(directory / "s3"),
        "S3_PERSIST": "0" if durable else "1",
        "SERVICES": ",".join((*_USED_SERVICES, *also)),
        "SFTP_ENABLED": "0",  # would listen on a port of its own
        "TMPDIR": str(scratch),
    }
    if durable:
        env[STORAGE] = str(directory)
    return Child(
        name=NAME,
        argv=(sys.executable, "-P", "-m", "stack.emulator", str(listener.fileno())),
        env=env,
        ready=partial(http_ok, HOST, port, "/_ministack/health"),
        hopeless=DAMAGED,
        stop_seconds=_STOP_SECONDS,
        inherited=(listener.fileno(), *inherited),
    )


def _unusable(error: OSError, port: int, what: str) -> StackError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(port, what)
    return StackError(f"port {port} ({what}) cannot be used: {error.strerror}; choose another with --port")
