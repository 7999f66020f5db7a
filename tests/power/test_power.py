"""The power is cut: kill -9 of every process at once, at any moment; nothing acknowledged may be missing.

`make soak-power N=200` cuts so often; some cuts run with the tests. What is acknowledged is compared after each start.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.durability import cut_power
from stack.up import reserved_ports
from syncline.model.errors import Unavailable
from syncline.sdk.account import Accounts, sign_in
from syncline.sdk.session import Session
from syncline.sdk.space import Space
from tests.power.load import PASSWORD, Place, prepare

CUTS = int(os.environ.get("SYNCLINE_TEST_CUTS", "5"))
"""`make soak-power` sets it."""
SEED = int(os.environ.get("SYNCLINE_TEST_SEED", "1"))
READY_SECONDS = 120.0
REPOSITORY = Path(__file__).resolve().parent.parent.parent


class Machine:
    """`syncline up` in a process of its own, on a data directory that outlives it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._held = ExitStack()  # No other system takes the ports while this one is off.
        ports, listener = self._held.enter_context(reserved_ports(0))
        listener.close()
        self.port = ports.gateway
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def close(self) -> None:
        """Let others have its ports."""
        self._held.close()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stack", "--port", str(self.port), "--data", str(self.data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=REPOSITORY,
        )

    def serves(self) -> float:
        """Wait until it says so; the seconds that took."""
        assert self.process is not None
        assert self.process.stdout is not None
        began = time.monotonic()
        line = self.process.stdout.readline()  # empty if it ended
        assert line == f"syncline is up: {self.endpoint}\n", self.said()
        return time.monotonic() - began

    def said(self) -> str:
        return "".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in (self.data / "logs").glob("*.log")
        )

    def processes(self) -> list[psutil.Process]:
        assert self.process is not None
        with suppress(psutil.NoSuchProcess):
            machine = psutil.Process(self.process.pid)
            return [machine, *machine.children(recursive=True)]
        return []

    def cut(self, *others: subprocess.Popen[str]) -> None:
        """End it and `others`, as a power cut does."""
        assert self.process is not None
        victims = [*self.processes(), *(psutil.Process(other.pid) for other in others if other.poll() is None)]
        cut_power(victims)
        self.process.communicate()
        for other in others:
            other.communicate()
        self.process = None

    def kill_embedded_aws(self) -> None:
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                if "stack.emulator" in process.cmdline():
                    process.kill()


@contextmanager
def machine_on(data: Path) -> Iterator[Machine]:
    """A machine that is off at first, and cut off at the end if it still runs."""
    machine = Machine(data)
    try:
        yield machine
    finally:
        if machine.process is not None:
            machine.cut()
        machine.close()


@contextmanager
def working(machine: Machine, place: Place) -> Iterator[subprocess.Popen[str]]:
    """People at work, in a process that has begun and is gone at the end."""
    argv = [sys.executable, "-m", "tests.power.load", machine.endpoint, str(place.directory)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY) as load:
        try:
            assert load.stdout is not None
            assert load.stdout.readline() == "working\n"
            yield load
        finally:
            load.kill()


class Auditor:
    """Compares what was acknowledged with what there is."""

    def __init__(self, machine: Machine, place: Place) -> None:
        self._machine = machine
        self._place = place
        self.seen = 0

    def compare(self) -> int:
        """AssertionError with what is missing; how much was acknowledged so far."""
        lines = list(self._place.lines())
        new = lines[self.seen :]
        with Session.open(self._place.owner) as session:
            space = Space(session, self._place.space())
            nodes = {node.name: node for node in space.list_nodes()}
            members = {member.email for member in Accounts(session).members(space.id)}
            for line in lines:
                match line["kind"]:
                    case "directory":
                        assert line["name"] in nodes, f"a directory is missing: {line}"
                    case "file":
                        content = nodes[line["name"]].content
                        assert content is not None
                        assert content.digest.hex() == line["digest"]
                    case "member":
                        assert line["email"] in members, f"a member is missing: {line}"
            for line in new:
                if line["kind"] == "file":
                    self._read(session, space, line)
        for line in new:
            if line["kind"] == "account":
                self._sign_in(line["email"])
        self.seen = len(lines)
        return self.seen

    def _read(self, session: Session, space: Space, line: dict[str, str]) -> None:
        url = f"{self._machine.endpoint}/v1/spaces/{space.id}/content/{line['name']}"
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {session.token()}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert hashlib.sha256(answer.read()).hexdigest() == line["digest"], f"other bytes: {line}"

    def _sign_in(self, email: str) -> None:
        home = self._place.directory / "again"
        shutil.rmtree(home, ignore_errors=True)
        sign_in(home, endpoint=self._machine.endpoint, email=email, password=PASSWORD, device_name="again").close()


@pytest.mark.timeout(120 + 60 * CUTS)
def test_nothing_acknowledged_is_lost_when_the_power_is_cut(tmp_path: Path) -> None:
    with machine_on(tmp_path / "data") as machine:
        cut_again_and_again(machine, Place(tmp_path), random.Random(SEED))


@pytest.mark.timeout(300)
def test_the_rest_goes_on_when_the_embedded_aws_alone_is_killed(tmp_path: Path) -> None:
    """Services keep their credentials, as those are not forgotten; clients wait for a moment."""
    with machine_on(tmp_path / "data") as machine:
        place = Place(tmp_path)
        machine.start()
        machine.serves()
        prepare(machine.endpoint, place)
        services = {process.pid for process in machine.processes() if "stack.emulator" not in process.cmdline()}
        for _ in range(2):
            machine.kill_embedded_aws()
            with Session.open(place.owner) as session:
                eventually(Accounts(session).create_space, "made after it was killed")
        Auditor(machine, place).compare()
        assert services <= {process.pid for process in machine.processes()}, "a service was restarted"


def eventually(call: Callable[..., object], *arguments: object) -> None:
    """Make a call until it is answered, as people do while something is away for a moment."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            call(*arguments)
        except Unavailable:
            assert time.monotonic() < deadline
        else:
            return


def cut_again_and_again(machine: Machine, place: Place, rng: random.Random) -> None:
    auditor = Auditor(machine, place)
    # During the first start, with everything still to be made.
    first = _cut_first_starts(machine, rng, cuts=max(1, CUTS // 6))
    machine.start()
    machine.serves()
    prepare(machine.endpoint, place)
    moments = {"load": 0, "start": 0, "stop": 0, "embedded AWS": 0}
    for cut in range(CUTS - first):
        moment = list(moments)[cut % len(moments)] if CUTS < 20 else rng.choice([*moments, "load", "load"])
        moments[moment] += 1
        with working(machine, place) as load:
            time.sleep(rng.uniform(0.2, 4.0))
            match moment:
                case "start":
                    machine.cut(load)
                    machine.start()
                    time.sleep(rng.uniform(0.0, 8.0))
                    machine.cut()
                case "stop":
                    assert machine.process is not None
                    machine.process.terminate()
                    time.sleep(rng.uniform(0.0, 2.0))
                    machine.cut(load)
                case "embedded AWS":
                    machine.kill_embedded_aws()  # started again by itself, while the rest goes on
                    time.sleep(rng.uniform(0.0, 6.0))
                    machine.cut(load)
                case _:
                    machine.cut(load)
        machine.start()
        seconds = machine.serves()
        known = auditor.compare()
        print(f"cut {first + cut + 1}, {moment}: serves after {seconds:.1f} s, {known} acknowledgements are all there")
    assert auditor.seen > CUTS


def _cut_first_starts(machine: Machine, rng: random.Random, *, cuts: int) -> int:
    for cut in range(cuts):
        if cut % 3 == 0:
            shutil.rmtree(machine.data, ignore_errors=True)
        machine.start()
        time.sleep(rng.uniform(0.5, 12.0))
        machine.cut()
    return cuts
