"""Bad input and bad luck: a clear error and exit code, nothing lost, no traceback."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.demo import DemoDevice, contents, same_trees
from stack.up import Stack
from syncline.sync.folder.link import open_folder
from tests.e2e.conftest import PASSWORD
from tests.e2e.proxy import behind_proxies
from tests.support.http import serving

MIB = 1 << 20
NewDevice = Callable[..., DemoDevice]


def failing(device: DemoDevice, *arguments: str, stdin: str = "", expect: int) -> str:
    """Return the error text of a command that fails: one line, without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "syncline.cli", *arguments],
        env={**os.environ, "SYNCLINE_HOME": str(device.root / "home")},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("syncline: ")
    return done.stderr


def problems(device: DemoDevice, *arguments: str) -> list[dict[str, str]]:
    """Return the items that a sync could not do; the sync ends with 4."""
    found: list[dict[str, str]] = json.loads(device.run("sync", str(device.folder), "--json", *arguments, expect=4))[
        "problems"
    ]
    return found


def test_no_content_passes_between_clients_and_services(new_device: NewDevice, stack: Stack) -> None:
    with behind_proxies(stack.endpoint) as (endpoint, proxies):
        one = new_device("one", endpoint=endpoint)
        (one.folder / "big").write_bytes(random.Random(1).randbytes(32 * MIB))
        for n in range(200):
            (one.folder / f"{n}").write_bytes(random.Random(n).randbytes(8192))
        one.sync()
        two = new_device("two", one.owner, endpoint=endpoint)
        two.sync()
        same_trees(one, two)
        content = sum(path.stat().st_size for path in one.folder.rglob("*") if path.is_file())
        services = sum(proxies[name].bytes for name in ("auth", "metadata", "notify"))
        assert proxies["s3"].bytes > 2 * content, "the bytes did go through storage"
        assert services < 500_000 < content // 50, f"{services} bytes passed between clients and services"


def test_storage_that_fails_now_and_then_loses_nothing(new_device: NewDevice, stack: Stack) -> None:
    luck = random.Random(4)

    def fault() -> str | None:
        draw = luck.random()
        return "503" if draw < 0.01 else "reset" if draw < 0.02 else None

    with behind_proxies(stack.endpoint, fault) as (endpoint, proxies):
        one = new_device("one", endpoint=endpoint)
        (one.folder / "big").write_bytes(random.Random(1).randbytes(64 * MIB))
        for n in range(300):
            (one.folder / f"{n}").write_bytes(random.Random(n).randbytes(100_000))
        two = new_device("two", one.owner, endpoint=endpoint)
        for device in (one, two):
            for _ in range(10):
                figures = subprocess.run(
                    [sys.executable, "-m", "syncline.cli", "sync", str(device.folder), "--json"],
                    env={**os.environ, "SYNCLINE_HOME": str(device.root / "home")},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert "Traceback" not in figures.stderr
                if figures.returncode == 0:
                    break
            else:
                pytest.fail(f"ten syncs did not get through: {figures.stderr}")
        assert proxies["s3"].faults > 3
    assert same_trees(one, two) == 301


def test_who_may_not_sign_in(new_device: NewDevice, stack: Stack) -> None:
    one = new_device("one")
    other = DemoDevice(one.owner, "other", one.root.parent / "other")
    sign_in = ("login", "--endpoint", stack.endpoint, "--email", one.email, "--password-stdin")
    assert "password is wrong" in failing(other, *sign_in, stdin="wrong password\n", expect=3)
    assert "sign" in failing(other, "sync", str(other.folder), expect=3)
    sign_up = ("signup", "--endpoint", stack.endpoint, "--email", one.email, "--password-stdin")
    assert "already" in failing(other, *sign_up, stdin=f"{PASSWORD}\n", expect=1)


def test_a_revoked_device_is_told_so(new_device: NewDevice) -> None:
    one = new_device("one")
    (one.folder / "a.txt").write_text("text")
    one.sync()
    two = new_device("two", one.owner)
    (two.folder / "b.txt").write_text("text")
    devices = json.loads(one.run("devices", "--json"))["devices"]
    (revoked,) = (device["id"] for device in devices if device["name"] == "two")
    one.run("devices", "revoke", revoked)
    assert "sign in" in failing(two, "sync", str(two.folder), expect=3)
    assert (two.folder / "b.txt").read_text() == "text"


def test_an_endpoint_that_is_down_or_something_else(new_device: NewDevice, stack: Stack) -> None:
    one = new_device("one")
    other = DemoDevice("nobody", "other", one.root.parent / "other")

    def sign_in(endpoint: str) -> str:
        arguments = ("login", "--endpoint", endpoint, "--email", one.email, "--password-stdin")
        return failing(other, *arguments, stdin=f"{PASSWORD}\n", expect=1)

    assert "does not answer" in sign_in("http://127.0.0.1:1")
    with serving(lambda _: (200, b"<html>hello</html>"), content_type="text/html") as elsewhere:
        assert "not Syncline" in sign_in(elsewhere)
    with serving(lambda _: (200, b'{"syncline": 99}')) as newer:
        assert "update the client" in sign_in(newer)
    with behind_proxies(stack.endpoint) as (endpoint, _):
        two = new_device("two", one.owner, endpoint=endpoint)
        (two.folder / "a.txt").write_text("text")
    failing(two, "sync", str(two.folder), expect=1)
    assert (two.folder / "a.txt").read_text() == "text"


def test_names_that_cannot_travel_are_said_and_stay(new_device: NewDevice) -> None:
    one = new_device("one")
    (one.folder / "good").write_text("good")
    bad = os.fsencode(one.folder) + b"/not \xff utf-8"
    with open(bad, "wb") as file:  # noqa: PTH123 - a name that no Path of text holds
        file.write(b"bad")
    os.mkfifo(one.folder / "pipe")
    found = problems(one)
    assert any("utf-8" in problem["path"] for problem in found)
    assert os.path.exists(bad)  # noqa: PTH110 - as above
    assert [node["name"] for node in json.loads(one.run("ls", "--json"))["nodes"]] == ["good"]


def test_a_full_quota_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    from stack.running import running_stack

    with running_stack(variables={"SYNCLINE_QUOTA_BYTES": str(MIB)}) as small:
        one = DemoDevice("ann", "one", tmp_path / "one")
        arguments = ("signup", "--endpoint", small.endpoint, "--email", one.email, "--password-stdin")
        one.run(*arguments, stdin=f"{PASSWORD}\n")
        one.folder.mkdir()
        (one.folder / "small").write_bytes(b"small")
        (one.folder / "big").write_bytes(bytes(2 * MIB))
        (problem,) = problems(one)
        assert problem["path"] == "big"
        assert "quota" in problem["reason"]
        assert (one.folder / "big").stat().st_size == 2 * MIB
        assert [node["name"] for node in json.loads(one.run("ls", "--json"))["nodes"]] == ["small"]


def test_a_corrupt_state_database_is_rebuilt_and_loses_nothing(new_device: NewDevice) -> None:
    one = new_device("one")
    for n in range(20):
        (one.folder / f"{n}").write_text(f"text {n}")
    one.sync()
    before = contents(one.folder)
    (database,) = (one.root / "home").rglob("state.db")
    for path in database.parent.glob("state.db-*"):
        path.unlink()
    database.write_bytes(b"this is no database" * 1000)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(database).execute("select * from sqlite_master")
    figures = one.sync()
    assert (figures["uploaded"], figures["deleted_local"], figures["deleted_remote"]) == (0, 0, 0)
    assert contents(one.folder) == before
    assert not any(one.sync()[count] for count in ("uploaded", "downloaded", "conflicts"))


def test_a_second_sync_of_the_same_folder_is_refused(new_device: NewDevice) -> None:
    one = new_device("one")
    (one.folder / "a.txt").write_text("text")
    one.sync()
    folder = open_folder(one.root / "home", one.folder)
    assert folder is not None
    with folder.locked():
        (one.folder / "b.txt").write_text("text")
        assert "another sync" in failing(one, "sync", str(one.folder), expect=1)
    assert one.sync()["uploaded"] == 1


def test_watching_brings_changes_both_ways_and_ends_when_told(new_device: NewDevice) -> None:
    one = new_device("one")
    one.sync()
    two = new_device("two", one.owner)
    two.sync()
    watching = one.start("sync", str(one.folder), "--watch")
    try:
        assert watching.stdout is not None
        assert "up to date" in watching.stdout.readline()
        (two.folder / "from two").write_text("text")
        two.sync()
        poll((one.folder / "from two").exists)
        (one.folder / "from one").write_text("text")

        def arrived() -> bool:
            two.sync()
            return (two.folder / "from one").exists()

        poll(arrived)
    finally:
        watching.terminate()
        said = watching.communicate(timeout=60)[1]
    assert watching.returncode == 0
    assert said == ""


def poll(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    """Wait for a condition with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def test_hostile_arguments_of_commands(new_device: NewDevice) -> None:
    one = new_device("one")
    for path in ("..", "a/../b", "a\x01" * 200, "x" * 256):
        assert "Traceback" not in failing(one, "mkdir", path, expect=1)
    failing(one, "sync", str(one.folder), "--space", "no such space", expect=1)
    failing(one, "restore", str(one.folder / "nothing"), "--version", "1", expect=1)
    failing(one, "trash", "restore", "zz", expect=1)
