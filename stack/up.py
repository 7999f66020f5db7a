"""The whole system in the foreground: `syncline up`."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, TextIO

from stack.credentials import role_credentials
from stack.data_directory import data_directory
from stack.deploy import Resources, deploy_embedded
from stack.embedded_aws import HOST, READY_SECONDS, Aws, bound, emulator, listen
from stack.errors import PortInUse, StackError
from stack.output import Output, complain
from stack.services import Ports, Wiring, admitted, policy_of, service_children
from stack.supervisor import Child, Supervisor
from syncline.model.accounts import SignUpPolicy

DEFAULT_PORT: Final = 8080

_READY_SECONDS: Final = 60.0
_LAST_PORT: Final = 65535
# Below the kernel's range of ephemeral ports.
FREE_PORTS: Final = range(20000, 32000)

MakeChildren = Callable[[Wiring], Sequence[Child]]


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack."""

    endpoint: str
    """The address at which the gateway serves: `http://127.0.0.1:PORT`."""
    ports: Ports
    data: Path
    aws: Aws
    """The embedded AWS, with its root credentials."""
    resources: Resources
    supervisor: Supervisor
    first_account: str = field(default="", repr=False)
    """The link by which the first account is made; empty if there is one, or if the policy is not INVITED."""

    @property
    def pids(self) -> Mapping[str, int]:
        """The process id of each child: `aws`, `auth`, `metadata`, `notify`, `gateway`."""
        return self.supervisor.pids


def main(
    *,
    port: int = DEFAULT_PORT,
    data: Path | None = None,
    proxies: Sequence[IPv4Network | IPv6Network] = (),
    policy: SignUpPolicy | None = None,
    domains: Sequence[str] = (),
    prove_addresses: bool = False,
) -> int:
    """Run the stack until SIGINT, SIGTERM or SIGHUP; return the exit status.

    - The stack listens at `port` and at the four ports after it. With 0 it takes five free ports.
    - `data` is the directory of all data. With None, everything is lost when the stack ends.
    - `proxies` are networks that contain only trusted reverse proxies; empty for those of SYNCLINE_TRUSTED_NETWORKS.
    - `policy` says who may sign up, and `domains` with addresses of which domains. With `prove_addresses`, people have
      to prove that mail to their address reaches them. `Wiring` has the defaults.
    """
    try:
        return asyncio.run(
            up(port=port, data=data, proxies=proxies, policy=policy, domains=domains, prove_addresses=prove_addresses)
        )
    except StackError as error:
        complain(f"syncline up: {error}")
        return 1
    except OSError as error:  # usually a full disk; the error names no file
        complain(f"syncline up: {error.strerror or error}: {error.filename or data or 'the temporary directory'}")
        return 1


async def up(
    *,
    port: int = DEFAULT_PORT,
    data: Path | None = None,
    children: MakeChildren = service_children,
    proxies: Sequence[IPv4Network | IPv6Network] = (),
    policy: SignUpPolicy | None = None,
    domains: Sequence[str] = (),
    prove_addresses: bool = False,
) -> int:
    """Run the stack in the foreground until a signal stops it; a second signal kills all remaining processes. The
    arguments are those of `stack`.

    Return 0 after a clean stop, 1 after a forced one. Raise StackError if the stack cannot start or cannot continue.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    interruptions = 0

    def interrupt() -> None:
        nonlocal interruptions
        interruptions += 1
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    try:
        opening = stack(
            port=port,
            data=data,
            terminal=sys.stderr,
            children=children,
            proxies=proxies,
            policy=policy,
            domains=domains,
            prove_addresses=prove_addresses,
        )
        async with opening as running:
            sys.stdout.write(f"syncline is up: {running.endpoint}\n")
            if running.first_account:  # the log keeps no secrets, so this is printed alone
                sys.stdout.write(f"make the first account within a week: {running.first_account}\n")
            sys.stdout.flush()
            failure = await running.supervisor.failure()
    except asyncio.CancelledError:
        if not interruptions:
            raise
        return 0 if interruptions == 1 else 1
    raise failure


@asynccontextmanager
async def stack(
    *,
    port: int = DEFAULT_PORT,
    data: Path | None = None,
    terminal: TextIO | None = None,
    children: MakeChildren = service_children,
    variables: Mapping[str, str] | None = None,
    proxies: Sequence[IPv4Network | IPv6Network] = (),
    durable: bool = True,
    policy: SignUpPolicy | None = None,
    domains: Sequence[str] = (),
    prove_addresses: bool = False,
) -> AsyncIterator[Stack]:
    """Provide the whole stack, ready; stop it cleanly at the end of the context.

    - `port` is the first of its five ports; 0 takes free ones.
    - `data` is the data directory. With None, the data are in a temporary directory, which is removed at the end.
    - `terminal` receives the children's output; None keeps it in files only.
    - `children` makes the descriptions of the services' processes, and `variables` are added to their environment.
    - `proxies` are networks that contain only reverse proxies in front of the gateway, which the gateway trusts.
    - `policy`, `domains` and `prove_addresses` are those of `Wiring`.
    - Without `durable`, the embedded AWS stores nothing on disk except the bytes of objects.

    Raise StackError if the stack cannot start.
    """
    async with AsyncExitStack() as opened:
        path = opened.enter_context(_data(data))
        directory = opened.enter_context(data_directory(path))
        ports, listener = opened.enter_context(reserved_ports(port))
        output = opened.enter_context(Output(directory.logs, terminal=terminal))
        supervisor = await opened.enter_async_context(Supervisor(output))
        began = time.monotonic()
        aws = Aws(endpoint=f"http://{HOST}:{ports.aws}", root=directory.root_credentials())
        child = emulator(listener, directory.aws, aws.root, inherited=(directory.lock,), durable=durable)
        await supervisor.start(child, within=READY_SECONDS)
        resources = await deploy_embedded(aws)
        output.say(f"the embedded AWS serves at {aws.endpoint} after {time.monotonic() - began:.1f} s")
        wiring = Wiring(
            ports=ports,
            aws=aws,
            resources=resources,
            role_environment=await opened.enter_async_context(role_credentials(aws, resources.roles())),
            service_secret=directory.service_secret(),
            gateway_secret=directory.gateway_secret(),
            signing_key_file=directory.signing_key_file,
            variables=variables or {},
            proxies=proxies,
            policy=policy,
            domains=domains,
            prove_addresses=prove_addresses,
        )
        # The children are stopped before the resources that were opened above, which they use until their end.
        opened.push_async_callback(supervisor.stop)
        services = children(wiring)
        await supervisor.start(*services, within=_READY_SECONDS)
        output.say(f"everything serves after {time.monotonic() - began:.1f} s; data in {path}")
        output.say(admitted(wiring))
        first = await _first_account(wiring, services, output)
        yield Stack(wiring.endpoint, ports, path, aws, resources, supervisor, first)


async def _first_account(wiring: Wiring, services: Sequence[Child], output: Output) -> str:
    """Return the link by which the first account is made, if only invited people make accounts and none was made so;
    otherwise an empty text, and also if the invitation could not be made.

    A process with the environment of auth makes the invitation, since no caller of auth can.
    """
    if policy_of(wiring) != SignUpPolicy.INVITED.value:
        return ""
    auth = next(child for child in services if child.name.partition("-")[0] == "auth")
    inviting = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "services.auth.invite", "--first", "--url", wiring.endpoint),
        env=dict(auth.env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, complaint = await inviting.communicate()
    if inviting.returncode:
        output.say(f"no invitation for the first account could be made: {complaint.decode(errors='replace').strip()}")
    return told.decode().strip()


@contextmanager
def _data(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="syncline-") as temporary:
        yield Path(temporary)


@contextmanager
def reserved_ports(port: int) -> Iterator[tuple[Ports, socket.socket]]:
    """Provide the five ports of the stack, and the listening socket of the embedded AWS. The ports are `port` and the
    following ones, or free ones for 0.

    On Linux, no other stack takes one of these ports for free within the context: not before the children listen, and
    not while one of them is restarted. Raise PortInUse if one of them is in use, and StackError if no five free ports
    are found or `port` is too high.
    """
    if port:
        with ExitStack() as held:
            yield _checked(port, held)
        return
    for candidate in random.sample(FREE_PORTS, 50):
        with ExitStack() as held:
            try:
                reserved = _checked(candidate, held, alone=True)
            except PortInUse:
                continue
            yield reserved
            return
    raise StackError("no five free ports in a row found; choose them with --port")


def _checked(port: int, held: ExitStack, *, alone: bool = False) -> tuple[Ports, socket.socket]:
    ports = Ports(port)
    if not 0 < port <= ports.aws <= _LAST_PORT:
        raise StackError(f"port {port} leaves no room for the four that follow it; choose another with --port")
    for number, what in (
        (ports.gateway, "gateway"),
        (ports.auth, "auth"),
        (ports.metadata, "metadata"),
        (ports.notify, "notify"),
        (ports.aws, "embedded AWS"),
    ):
        if sys.platform == "linux":  # elsewhere a child could not listen beside it
            held.enter_context(bound(number, what, alone=alone))
        listen(number, what).close()
    return ports, held.enter_context(listen(ports.aws, "embedded AWS"))
