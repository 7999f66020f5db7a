"""Ctrl-C at any moment of a command: one line, exit code 130, nothing broken, nothing left lying about."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.demo import REPOSITORY, DemoDevice, same_trees
from stack.up import Stack
from syncline.cli.main import INTERRUPTED
from syncline.model.names import SCRATCH_PREFIX
from tests.e2e.proxy import behind_proxies
from tests.support.passwords import STRONG

NewDevice = Callable[..., DemoDevice]

SAID = "syncline: interrupted; what was done so far is kept, run the same command again to continue\n"
SAID_BY_GET = "syncline: interrupted; nothing is left of it, run the same command again to begin anew\n"


def interrupted_sync(device: DemoDevice, after: float, *arguments: str) -> tuple[int, str]:
    """A sync that gets SIGINT so many seconds after it began to work; its exit code and what it said on stderr."""
    child = device.start("sync", str(device.folder), *arguments)
    lock = device.folder / ".syncline" / "lock"
    deadline = time.monotonic() + 60
    while child.poll() is None and not is_locked(lock) and time.monotonic() < deadline:
        time.sleep(0.005)
    try:
        child.wait(after)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    return child.returncode, said


def is_locked(path: Path) -> bool:
    """Return True if the sync holds the folder, by the system's own list."""
    if not path.exists():
        return False
    inode = path.stat().st_ino
    return any(line.split()[5].endswith(f":{inode}") for line in Path("/proc/locks").read_text().splitlines())


AT_THE_WORST_MOMENT = """
import grpc._channel
from syncline.cli.main import main

def interrupt(state):
    raise KeyboardInterrupt

grpc._channel._run_channel_spin_thread = interrupt
main()
"""
"""gRPC knows of a call already, and the thread that would read its events does not run yet."""


def test_an_interruption_between_the_steps_of_grpc(new_device: NewDevice) -> None:
    device = new_device("one")
    (device.folder / "f").write_bytes(b"x")
    ended = subprocess.run(
        [sys.executable, "-c", AT_THE_WORST_MOMENT, "sync", str(device.folder)],
        env={**os.environ, "SYNCLINE_HOME": str(device.root / "home")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == INTERRUPTED, ended.stderr
    assert ended.stderr == SAID
    assert device.sync()["uploaded"] == 1


AT_AN_IMPORT = """
import os, signal, sys
_, number, module, becomes, *sys.argv[1:] = sys.argv

class Signalling:
    def find_spec(self, name, path, target=None):
        if name == module:
            try:
                os.kill(os.getpid(), int(number))
            except KeyboardInterrupt:
                if becomes:
                    raise getattr(__builtins__, becomes)("an import that was broken off") from None
                raise

sys.meta_path.insert(0, Signalling())
from syncline.cli.entry import main
main()
"""
"""A signal arrives when a module is about to be imported, and what imports it may make another error of that."""


@pytest.mark.parametrize(
    ("number", "becomes"),
    [(signal.SIGINT, ""), (signal.SIGTERM, ""), (signal.SIGINT, "ImportError"), (signal.SIGINT, "AttributeError")],
)
@pytest.mark.parametrize("module", ["syncline.cli.main", "click", "grpc"])
def test_an_interruption_of_an_import(tmp_path: Path, number: signal.Signals, module: str, becomes: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/account.json").write_text("{}")
    ended = subprocess.run(
        [sys.executable, "-c", AT_AN_IMPORT, str(int(number)), module, becomes, "status", str(tmp_path)],
        env={**os.environ, "SYNCLINE_HOME": str(tmp_path / "home")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (128 + number, "syncline: interrupted; nothing was changed\n")


def test_an_interrupted_signup_may_be_done(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        child = DemoDevice("Ann", "one", tmp_path).start(
            "signup", "--endpoint", endpoint, "--email", "ann@example.com", "--password-stdin"
        )
        assert child.stdin is not None
        child.stdin.write(f"{STRONG}\n")
        child.stdin.flush()
        waiting, _ = listener.accept()
        with waiting:
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (
        INTERRUPTED,
        "syncline: interrupted; it may be done already, so look before you run the same command again\n",
    )


def test_of_an_interrupted_restore_nothing_is_left(tmp_path: Path) -> None:
    child = DemoDevice("Ann", "one", tmp_path).start("restore-backup", "-", str(tmp_path / "restored"))
    deadline = time.monotonic() + 60
    while not (tmp_path / "restored").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (143, "syncline: interrupted; nothing is left of it\n")
    assert not (tmp_path / "restored").exists()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("arguments", [(), ("--limit-up", "300K", "--limit-down", "300K")])
def test_a_sync_that_is_interrupted_at_random_moments(new_device: NewDevice, arguments: tuple[str, ...]) -> None:
    source = random.Random(1)
    one, two = new_device("one"), None
    interrupted = 0
    for turn in range(5):
        for n in range(100):
            (one.folder / f"{turn}-{n}").write_bytes(source.randbytes(2000))
        (one.folder / f"large {turn}").write_bytes(source.randbytes(700_000))
        for device in filter(None, (one, two)):
            code, said = interrupted_sync(device, source.uniform(0, 0.2), *arguments)
            # Once the work is done the interpreter has no handler any more, and a shell makes 130 of that, too.
            assert code in {0, INTERRUPTED, -signal.SIGINT}, said
            assert "Traceback" not in said
            assert "Exception ignored" not in said
            if code == INTERRUPTED:
                interrupted += 1
                assert said == SAID
        one.sync()
        two = two or new_device("two", one.owner)
        two.sync()
        assert same_trees(one, two) == 101 * (turn + 1)
        for device in (one, two):
            assert not list((device.folder / ".syncline" / "tmp").iterdir())
    assert interrupted


@pytest.fixture
def goes_on() -> threading.Event:
    """Until this event is set, storage answers the slow device nothing after its first request."""
    return threading.Event()


@pytest.fixture
def slow(new_device: NewDevice, stack: Stack, goes_on: threading.Event) -> Iterator[DemoDevice]:
    """A device whose downloads do not end before `goes_on`, however busy the machine is. The space has `large` and
    `small`.
    """
    device = new_device("one")
    (device.folder / "large").write_bytes(random.Random(1).randbytes(24 << 20))
    (device.folder / "small").write_bytes(b"small")
    device.sync()

    asked = itertools.count()

    def wait() -> None:
        if next(asked):
            goes_on.wait()

    with behind_proxies(stack.endpoint, wait) as (endpoint, _):
        yield new_device("slow", device.owner, endpoint=endpoint)
        goes_on.set()


def getting(device: DemoDevice, place: Path, *arguments: str) -> tuple[subprocess.Popen[str], Path]:
    """A `get` of the large file that has begun to write in `place`, and where it writes."""
    before = set(place.glob(f"{SCRATCH_PREFIX}*"))
    child = device.start("get", "large", *arguments)
    deadline = time.monotonic() + 60
    while child.poll() is None and time.monotonic() < deadline:
        for directory in set(place.glob(f"{SCRATCH_PREFIX}*")) - before:
            if (directory / "content").exists():
                return child, directory
        time.sleep(0.002)
    raise AssertionError(f"it did not begin: {child.communicate()}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("to_stdout", [False, True])
def test_an_interrupted_get_leaves_nothing(
    slow: DemoDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, to_stdout: bool
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    child, _ = getting(slow, place, "-" if to_stdout else str(place / "large"))
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + number, said
    assert said == SAID_BY_GET
    assert not list(place.iterdir())


def test_what_a_killed_get_left_is_removed_by_the_next_and_nothing_else(
    slow: DemoDevice, goes_on: threading.Event, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    killed, left = getting(slow, place, str(place / "large"))
    killed.kill()
    killed.communicate()
    living, own = getting(slow, place, str(place / "other"))
    living.send_signal(signal.SIGSTOP)
    assert not left.exists(), "the next one removes it"
    goes_on.set()
    slow.run("get", "small", str(place / "small"))
    assert own.exists(), "what belongs to a living process stays"
    living.send_signal(signal.SIGCONT)
    living.communicate(timeout=60)
    assert living.returncode == 0
    assert sorted(path.name for path in place.iterdir()) == ["other", "small"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_any_command_ends_with_the_status_of_its_signal(slow: DemoDevice, number: signal.Signals) -> None:
    child = slow.start("sync", str(slow.folder))
    deadline = time.monotonic() + 60
    while not is_locked(slow.folder / ".syncline" / "lock") and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + number, said
    assert said == SAID


def test_a_file_that_get_replaces_keeps_what_it_had(new_device: NewDevice, tmp_path: Path) -> None:
    device = new_device("one")
    (device.folder / "file").write_bytes(b"from the space")
    device.sync()
    target = tmp_path / "file"
    target.write_bytes(b"old")
    target.chmod(0o604)
    try:
        os.setxattr(target, "user.mine", b"x")
    except OSError:
        pytest.skip("this filesystem has no attributes of users")
    device.run("get", "file", str(target), expect=1)
    device.run("get", "--force", "file", str(target))
    assert target.read_bytes() == b"from the space"
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    assert os.getxattr(target, "user.mine") == b"x"
