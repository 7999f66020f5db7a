"""The embedded AWS in a container of its own: `python -m stack.container`, see `compose.override.yaml`.

It creates our resources, and gives each service its secrets in a directory that only this service mounts:

service-secret     authenticates the services to each other; not for the gateway, which acts only for its callers
gateway-secret     proves to the services for which network the gateway calls
signing-key.pem    the key with which auth signs access tokens
aws-config         an AWS configuration file that makes every SDK read the next file, and read it again in time
credentials.json   temporary credentials of the service's role, renewed before they expire

All secrets are generated at the first start and kept in the data directory. Services thus act in their own roles, and
root credentials never leave this container. (Files are used because an SDK fetches credentials from a server, such as
the one in `credentials`, only on the loopback interface.)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.listening import split_address
from stack.credentials import LIFETIME, process_credentials
from stack.data_directory import DataDirectory, data_directory
from stack.deploy import Resources, deploy_embedded
from stack.embedded_aws import HOST, READY_SECONDS, Aws, emulator, listen
from stack.errors import StackError
from stack.output import Output, complain
from stack.supervisor import Supervisor

# SDKs renew credentials when 15 minutes are left, at the latest when 10 are left.
_RENEW_SECONDS: Final = LIFETIME.total_seconds() / 3
_MOUNTED_AT: Final = "/run/syncline"
_CREDENTIALS: Final = "credentials.json"


@dataclass(frozen=True, slots=True)
class Handout:
    """The directories below `root`, one for each service, in which the services find their secrets."""

    root: Path

    def withdraw(self) -> None:
        """Delete the files with AWS credentials that an earlier run has left for the services, so that the services
        wait for those of this run.
        """
        for directory in self.root.iterdir():
            (directory / _CREDENTIALS).unlink(missing_ok=True)

    def secrets(self, directory: DataDirectory) -> None:
        """Write to each service's directory the secrets of the data directory `directory`, which never change."""
        for service in ("auth", "metadata", "notify"):
            self._write(service, "service-secret", directory.service_secret())
        self._write("auth", "signing-key.pem", directory.signing_key_file.read_text())
        for service in ("auth", "metadata", "notify", "gateway"):
            self._write(service, "gateway-secret", directory.gateway_secret())
            command = f"cat {_MOUNTED_AT}/{_CREDENTIALS}"
            self._write(service, "aws-config", f"[default]\ncredential_process = {command}\n")

    async def credentials(self, aws: Aws, resources: Resources) -> None:
        """Request temporary credentials of each service's role from `aws`, and write them to the service's directory,
        over the earlier ones. To be called again before they expire.
        """
        for service, role in resources.roles().items():
            document = await process_credentials(aws, role)
            self._write(service, _CREDENTIALS, json.dumps(document))

    def _write(self, service: str, name: str, text: str) -> None:
        """Write a file atomically, readable by its owner only."""
        path = self.root / service / name
        draft = path.with_name(f".{name}.draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        draft.replace(path)


async def run_container(*, listen_on: str, name: str, data: Path, services: Path) -> None:
    """Serve the embedded AWS at `listen_on` (host:port) until SIGTERM or SIGINT. `name` is its host name in the view of
    the other containers. `data` is the data directory, and `services` the directory with one directory for each
    service, in which the service finds its secrets.

    Raise StackError if the embedded AWS cannot start or cannot continue.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    handout = Handout(services)
    handout.withdraw()
    with ExitStack() as opened:
        directory = opened.enter_context(data_directory(data, volume=True))
        output = opened.enter_context(Output(directory.logs, terminal=sys.stderr))
        async with _serving(directory, output, listen_on, name) as (supervisor, aws):
            resources = await deploy_embedded(aws)
            handout.secrets(directory)
            await handout.credentials(aws, resources)
            output.say(f"the embedded AWS serves, at {listen_on} and with everything in its place")
            failure = asyncio.ensure_future(supervisor.failure())
            stop = asyncio.ensure_future(stopping.wait())
            while not (failure.done() or stop.done()):
                await asyncio.wait((failure, stop), timeout=_RENEW_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not (failure.done() or stop.done()):
                    await handout.credentials(aws, resources)
            if failure.done():
                raise failure.result()


@asynccontextmanager
async def _serving(
    directory: DataDirectory, output: Output, listen_on: str, name: str
) -> AsyncIterator[tuple[Supervisor, Aws]]:
    host, port = split_address(listen_on)
    async with Supervisor(output) as supervisor:
        aws = Aws(endpoint=f"http://{HOST}:{port}", root=directory.root_credentials())
        with listen(port, "embedded AWS", host=host) as listener:
            child = emulator(listener, directory.aws, aws.root, name=name, inherited=(directory.lock,))
            await supervisor.start(child, within=READY_SECONDS)
            yield supervisor, aws


def main() -> int:
    """Run the embedded AWS in a container until it is stopped; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stack.container", description="The embedded AWS in a container.")
    parser.add_argument("--listen", required=True, help="host:port to serve at; the loopback interface among others")
    parser.add_argument("--name", required=True, help="the host name by which the services find this one")
    parser.add_argument("--data", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--services", type=Path, required=True, help="where each service has its directory")
    given = parser.parse_args()
    try:
        asyncio.run(run_container(listen_on=given.listen, name=given.name, data=given.data, services=given.services))
    except StackError as error:
        complain(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
