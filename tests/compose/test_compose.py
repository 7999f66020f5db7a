"""The containers, as a person runs them: built, brought up, loaded, killed one by one, scaled, taken down and up again.

`make test-compose` runs these in order, on a Docker of this machine; `make test` leaves them out. It takes a project of
its own, on a port of its own, and removes both with all that they hold. Figures are printed.
"""

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stack.embedded_aws import listen
from stack.errors import PortInUse
from stack.up import FREE_PORTS
from tests.support.passwords import STRONG

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SERVICES = ("auth", "metadata", "notify", "gateway")
CLIENTS = 3
SCALED = 3
DEADLINE = 300.0
PASSWORD = STRONG


def compose_command() -> list[str]:
    """Version 2 as Docker's plugin where there is one, else the program of version 1."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]


@dataclass(frozen=True)
class Project:
    """One running compose project."""

    port: int
    command: list[str] = field(default_factory=compose_command)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __call__(self, *arguments: str) -> str:
        """One compose command; what it prints on stdout."""
        address = f"127.0.0.1:{self.port}"
        done = subprocess.run(
            [*self.command, "-p", f"syncline-test-{self.port}", *arguments],
            env={
                **os.environ,
                "SYNCLINE_PUBLISH": address,
                "SYNCLINE_PUBLIC_ADDRESS": address,
                "SYNCLINE_PUBLIC_URL": self.endpoint,
                "SYNCLINE_SIGN_UP_POLICY": "open",
                "SYNCLINE_PROVE_ADDRESSES": "false",
            },
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}"
        return done.stdout

    def containers(self, service: str) -> list[str]:
        """The ids of a service's running containers."""
        ids = self("ps", "-q", service).split()
        return [each for each in ids if inspected(each)["State"]["Running"]]

    def up(self, *arguments: str) -> float:
        """Bring all up and wait until all are healthy; the seconds that took."""
        began = time.monotonic()
        self("up", "-d", "--no-build", *arguments)
        eventually(lambda: all(healthy(each) for each in self("ps", "-q").split()))
        eventually(lambda: all(self.upstreams()[service].healthy for service in SERVICES))
        return time.monotonic() - began

    def upstreams(self) -> "dict[str, Upstreams]":
        """Return the instances of each service that the balancer knows."""
        (balancer,) = self.containers("balancer")
        ask = (
            "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9901/clusters?format=json').read().decode())"
        )
        answer = json.loads(output("docker", "exec", balancer, "python", "-c", ask))
        found = {}
        for cluster in answer["cluster_statuses"]:
            requests, well = {}, True
            for host in cluster.get("host_statuses", []):
                figures = {each["name"]: int(each.get("value", 0)) for each in host["stats"]}
                requests[host["address"]["socket_address"]["address"]] = figures["rq_total"]
                well = well and not host["health_status"].get("failed_active_health_check", False)
            found[cluster["name"]] = Upstreams(
                requests, healthy=well and len(requests) == len(self.containers(cluster["name"]))
            )
        return found


@dataclass(frozen=True)
class Upstreams:
    """The instances of a service as the balancer sees them."""

    requests: dict[str, int]
    """By address, since the balancer started."""
    healthy: bool
    """All containers are there, and none fails its check."""


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def inspected(container: str) -> dict[str, Any]:
    answer: list[dict[str, Any]] = json.loads(output("docker", "inspect", container))
    return answer[0]


def healthy(container: str) -> bool:
    return bool(inspected(container)["State"].get("Health", {}).get("Status") == "healthy")


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not so after {DEADLINE:g} s"
        time.sleep(0.5)


def free_port() -> int:
    for port in random.sample(FREE_PORTS, 50):
        with suppress(PortInUse), listen(port, "containers"):
            return port
    raise AssertionError("no free port found")


def figure(text: str) -> None:
    sys.stderr.write(f"\n  {text}\n")


@dataclass
class Client:
    """A person with one device, at the command line."""

    home: Path
    endpoint: str
    email: str

    @property
    def folder(self) -> Path:
        return self.home / "folder"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "syncline.cli", *arguments],
            env={**os.environ, "SYNCLINE_HOME": str(self.home / "state")},
            input=f"{PASSWORD}\n",
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            check=False,
        )

    def must(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def sign(self, verb: str) -> None:
        self.must(verb, "--endpoint", self.endpoint, "--email", self.email, "--password-stdin", "--device", "d")
        self.folder.mkdir(parents=True)


class Load:
    """Clients that sync, check, list and choose mail in a loop, and one that asks the gateway. Failures are kept."""

    def __init__(self, clients: list[Client]) -> None:
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []
        self._clients = clients
        self._stop = threading.Event()

    def goes_on(self, rounds: int) -> None:
        """Return when the clients have done so many more rounds each, on average."""
        target = self.done["notify"] + rounds * len(self._clients)
        eventually(lambda: self.done["notify"] >= target)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        threads = [threading.Thread(target=self._live, args=(client,)) for client in self._clients]
        threads.append(threading.Thread(target=self._ask, args=(self._clients[0].endpoint,)))
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _live(self, client: Client) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            (client.folder / f"file-{turn % 20}.txt").write_text(f"{client.email} at {time.time()}\n" * 50)
            for arguments in (
                ("sync", str(client.folder), "--json"),
                ("check", str(client.folder), "--json"),
                ("spaces", "list"),
                ("notify", "personal", "instant"),
            ):
                result = client.run(*arguments)
                self.done[arguments[0]] += 1
                if result.returncode != 0:
                    self.failures.append(f"{arguments[0]} ended with {result.returncode}: {result.stderr.strip()}")

    def _ask(self, endpoint: str) -> None:
        address = endpoint.removeprefix("http://")
        while not self._stop.wait(0.02):
            connection = http.client.HTTPConnection(address, timeout=30)
            try:
                connection.request("GET", "/.well-known/syncline")
                status: object = connection.getresponse().status
            except (OSError, http.client.HTTPException) as error:
                status = repr(error)
            finally:
                connection.close()
            self.done["http"] += 1
            if status != http.HTTPStatus.OK:
                self.failures.append(f"the gateway answered {status}")


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """Built and up."""
    project = Project(free_port())
    began = time.monotonic()
    project("build")
    figure(f"built in {time.monotonic() - began:.0f} s")
    try:
        figure(f"up and healthy after {project.up():.0f} s")
        yield project
        for line in project("logs", "--no-color").splitlines():
            if '"level": "error"' in line or "Traceback" in line:
                figure(line[:300])
    finally:
        with suppress(AssertionError):
            project("down", "-v", "--timeout", "20")


@pytest.fixture(scope="module")
def clients(project: Project, tmp_path_factory: pytest.TempPathFactory) -> list[Client]:
    root = tmp_path_factory.mktemp("clients")
    people = [Client(root / str(each), project.endpoint, f"load{each}@example.com") for each in range(CLIENTS)]
    for client in people:
        client.sign("signup")
    return people


def test_the_containers_are_as_told(project: Project) -> None:
    for service, count in {"aws": 1, "balancer": 1, **dict.fromkeys(SERVICES, 2)}.items():
        containers = project.containers(service)
        assert len(containers) == count, service
        for each in containers:
            found = inspected(each)
            assert found["HostConfig"]["ReadonlyRootfs"], service
            assert output("docker", "exec", each, "id", "-u").strip() == "10001", service
            published = [port for port, at in found["NetworkSettings"]["Ports"].items() if at]
            assert published == (["8080/tcp"] if service == "balancer" else []), service


def test_services_act_in_their_own_roles_and_hold_no_root_credentials(project: Project) -> None:
    for service in SERVICES:
        container, _ = project.containers(service)
        environment = inspected(container)["Config"]["Env"]
        assert not [each for each in environment if each.startswith(("AWS_ACCESS_KEY_ID", "AWS_SECRET"))]
        who = (
            "import boto3, os; sts = boto3.client('sts', region_name=os.environ['AWS_REGION']); "
            "print(sts.get_caller_identity()['Arn'])"
        )
        assert f"assumed-role/syncline-{service}/" in output("docker", "exec", container, "python", "-c", who)
        held = set(output("docker", "exec", container, "ls", "/run/syncline").split())
        expected = {"aws-config", "credentials.json"}
        expected |= set() if service == "gateway" else {"service-secret"}
        expected |= {"signing-key.pem"} if service == "auth" else set()
        assert held == expected, service


def test_the_story_holds(project: Project) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "stack.demo", "--endpoint", project.endpoint],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr
    figure(f"the story: {told.stdout.count(chr(10))} lines, {told.stdout.strip().splitlines()[-1]}")


def test_a_killed_replica_of_each_service_is_not_noticed(project: Project, clients: list[Client]) -> None:
    with Load(clients).running() as load:
        load.goes_on(1)
        for service in SERVICES:
            victim, _ = project.containers(service)
            output("docker", "kill", victim)
            load.goes_on(2)
            figure(f"{service} killed: {load.done.total()} operations so far, {len(load.failures)} failed")
    figure(f"in all {dict(load.done)}")
    assert not load.failures
    project.up()


def test_more_replicas_share_the_load(project: Project, clients: list[Client]) -> None:
    project.up("--scale", f"metadata={SCALED}")
    before = project.upstreams()["metadata"].requests
    assert len(before) == SCALED
    with Load(clients).running() as load:
        eventually(lambda: sum(project.upstreams()["metadata"].requests.values()) >= sum(before.values()) + 300)
    after = project.upstreams()["metadata"].requests
    share = sorted(after[address] - before[address] for address in before)
    figure(f"requests of each metadata replica: {share}")
    assert not load.failures
    assert share[-1] <= 1.2 * share[0]


def test_down_and_up_keep_everything(project: Project, clients: list[Client], tmp_path: Path) -> None:
    client = clients[0]
    (client.folder / "kept.txt").write_text("still here\n")
    client.must("sync", str(client.folder))
    began = time.monotonic()
    project("down")
    assert not project("ps", "-q").split()
    figure(f"down in {time.monotonic() - began:.0f} s, up again in {project.up():.0f} s")
    assert json.loads(client.must("sync", str(client.folder), "--json"))["problems"] == []
    again = Client(tmp_path, client.endpoint, client.email)
    again.sign("login")
    again.must("sync", str(again.folder))
    assert (again.folder / "kept.txt").read_text() == "still here\n"
    ours, theirs = ({path.name: path.read_bytes() for path in each.folder.glob("*.txt")} for each in (client, again))
    assert ours == theirs
