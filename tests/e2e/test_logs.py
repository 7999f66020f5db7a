"""Every line that a service writes is one JSON object, when it starts, serves, fails and is told to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from runtime.logs import LOG_FORMAT
from stack.demo import REPOSITORY
from stack.running import running_stack
from stack.services import NAMES
from stack.up import Stack
from tests.gateway.client import Person, sign_up

DEADLINE = 60.0
BLOCK_BYTES = 8 << 20
VARIABLES = {"SYNCLINE_GRACE_SECONDS": "1"}


@pytest.fixture(autouse=True)
def _as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOG_FORMAT, "json")


@contextmanager
def held(person: Person, path: str, *, read: int = 1, **headers: str) -> Iterator[socket.socket]:
    """A request whose answer has begun and is not read any further."""
    address = urlsplit(person.endpoint)
    with socket.create_connection((address.hostname, address.port), timeout=DEADLINE) as connection:
        # The small buffer leaves as little as possible of the answer on its way.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lines = [f"GET {path} HTTP/1.1", f"host: {address.netloc}"]
        lines += [f"{name}: {value}" for name, value in (person.headers | headers).items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.recv(read)
        yield connection


def lines_of(data: Path, name: str) -> list[str]:
    files = [data / "logs" / f"{name}.log.1", data / "logs" / f"{name}.log"]
    return [line for file in files if file.exists() for line in file.read_text().splitlines()]


def no_objects(data: Path) -> list[tuple[str, str]]:
    """The lines of services that are no JSON object, and whose they are."""
    found = []
    for name in (*NAMES, "aws"):
        lines = lines_of(data, name)
        assert lines or name == "aws"
        for line in lines:
            try:
                whole = isinstance(json.loads(line), dict)
            except ValueError:
                whole = False
            if not whole:
                found.append((name, line))
    return found


@contextmanager
def busy(stack: Stack) -> Iterator[None]:
    """Somebody watches, downloads a file, an archive, and by WebDAV; none of them is read to its end."""
    ann = sign_up(stack.endpoint, "ann")
    for number in range(4):
        ann.file(f"{number}.bin", os.urandom(BLOCK_BYTES))
    with ExitStack() as opened:
        for path in ("/v1/events", f"{ann.top}/nodes/root/archive", f"{ann.top}/content/0.bin"):
            opened.enter_context(held(ann, path))
        yield


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_amid_streams(tmp_path: Path, number: signal.Signals) -> None:
    data = tmp_path / "data"
    with running_stack(data=data, variables=VARIABLES) as stack, busy(stack):
        for name in reversed(NAMES):
            child = psutil.Process(stack.pids[name])
            child.send_signal(number)
            child.wait(DEADLINE)
    assert no_objects(data) == []


def test_peers_and_aws_that_are_gone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_stack(data=data, variables=VARIABLES) as stack, busy(stack):
        ann = sign_up(stack.endpoint, "ann")
        for name in ("metadata", "aws", "notify", "auth"):
            psutil.Process(stack.pids[name]).kill()
            for path in (f"{ann.top}/nodes/root/children", "/v1/spaces", f"{ann.top}/content/0.bin"):
                ann.ask("GET", path)
        deadline = time.monotonic() + DEADLINE
        while ann.ask("GET", "/v1/spaces").status != 200:
            assert time.monotonic() < deadline, "the system does not come back"
            time.sleep(0.2)
    assert no_objects(data) == []


@pytest.mark.parametrize("module", ["services.auth", "services.metadata", "services.notify", "gateway"])
def test_a_process_that_cannot_start(module: str) -> None:
    """Wrong settings are told as everything else, to whoever reads logs by program."""
    done = subprocess.run(
        [sys.executable, "-m", module], env={}, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=60
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    event = json.loads(line)
    assert event["event"] == "invalid settings"
    assert "SYNCLINE_" in event["reason"]


@pytest.mark.parametrize("name", NAMES)
def test_a_port_that_is_taken(stack: Stack, name: str) -> None:
    """gRPC's core has a log of its own, in another form."""
    taken = getattr(stack.ports, name)
    child = psutil.Process(stack.pids[name])
    done = subprocess.run(
        child.cmdline(),
        env=child.environ()
        | {LOG_FORMAT: "json", "SYNCLINE_LISTEN": f"127.0.0.1:{taken}", "SYNCLINE_METRICS_LISTEN": ""},
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        timeout=60,
    )
    assert done.returncode == 1
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert events[-1]["event"] == "cannot start"
    assert f"127.0.0.1:{taken}" in events[-1]["reason"]


UNCAUGHT = """
import asyncio, gc, sys, threading
from runtime import process

class Bad:
    def __del__(self):
        raise ValueError("in a finaliser")

async def life():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    Bad()
    asyncio.get_running_loop().call_soon(lambda: [][0])
    asyncio.create_task(lost())
    await asyncio.sleep(0.01)
    gc.collect()
    raise RuntimeError("at last")

async def lost():
    raise KeyError("nobody awaits")

process.live(life, name="x", log_format="json", log_level="info")
"""


def test_what_nobody_catches() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=60
    )
    assert done.returncode == 1
    assert done.stdout == ""
    said = "".join(str(json.loads(line)) for line in done.stderr.splitlines())
    for what in ("ZeroDivisionError", "in a finaliser", "IndexError", "nobody awaits", "at last"):
        assert what in said
