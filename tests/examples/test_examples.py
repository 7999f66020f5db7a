"""Every program of `examples/` that people start from, run against one whole system."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from stack.up import Stack
from syncline.model.blocks import MIB
from syncline.sdk import Accounts, Session, Space
from syncline.sdk.account import sign_in
from tests.e2e.dav import PASSWORD, Person
from tests.support.http import serving

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
WITHIN_SECONDS = 120


@pytest.fixture
def person(stack: Stack) -> Person:
    return Person(stack.endpoint)


@pytest.fixture
def device(person: Person, tmp_path: Path) -> Mapping[str, str]:
    """The environment of programs that are a device of the person."""
    home = tmp_path / "home"
    sign_in(home, endpoint=person.endpoint, email=person.email, password=PASSWORD, device_name="example").close()
    return os.environ | {"SYNCLINE_HOME": str(home)}


@pytest.fixture
def program(person: Person) -> Mapping[str, str]:
    """The environment of programs that have a key of the person."""
    return os.environ | {"SYNCLINE_ENDPOINT": person.endpoint, "SYNCLINE_KEY": person.key}


def run(*command: str | Path, environment: Mapping[str, str], expect: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(command, env=environment, capture_output=True, timeout=WITHIN_SECONDS, check=False)
    assert done.returncode == expect, done.stdout.decode() + done.stderr.decode()
    return done


def python(name: str, *arguments: str | Path) -> tuple[str | Path, ...]:
    return (sys.executable, EXAMPLES / "python" / name, *arguments)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_upload_and_download(device: Mapping[str, str], tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    for version, data in enumerate((b"first", noise(9 * MIB)), start=1):
        source.write_bytes(data)
        done = run(*python("upload_and_download.py", "up", source, "report"), environment=device)
        assert done.stdout.decode() == f"report is at version {version}\n"
        run(*python("upload_and_download.py", "down", "report", back), environment=device)
        assert back.read_bytes() == data
    done = run(*python("upload_and_download.py", "down", "nothing", back), environment=device, expect=1)
    assert done.stderr.startswith(b"NO_SUCH_NODE: ")


def test_follow_changes(device: Mapping[str, str], person: Person, tmp_path: Path) -> None:
    cursor, told = tmp_path / "cursor", tmp_path / "told"
    session = Session.open(Path(device["SYNCLINE_HOME"]))
    space = Space(session, Accounts(session).resolve("personal"))
    assert person.dav("PUT", "personal/there before", b"1").status == 201

    def follow() -> subprocess.Popen[bytes]:
        with told.open("ab") as output:
            command = python("follow_changes.py", "personal", cursor)
            return subprocess.Popen(command, env=device, stdout=output, stderr=subprocess.STDOUT)

    def wait_for(*lines: str) -> None:
        deadline = time.monotonic() + WITHIN_SECONDS
        while told.read_text().splitlines() != list(lines):
            assert time.monotonic() < deadline, told.read_text()
            assert following.poll() is None, told.read_text()
            time.sleep(0.05)

    def end() -> None:
        # The cursor is stored after a change is told, and what is told between the two is told again.
        deadline = time.monotonic() + WITHIN_SECONDS
        while not cursor.exists() or any(page.nodes for page in space.changes(cursor.read_bytes())):
            assert time.monotonic() < deadline, "the cursor is not stored"
            time.sleep(0.05)
        following.send_signal(signal.SIGINT)
        assert following.wait(WITHIN_SECONDS) == 0, told.read_text()

    following = follow()
    try:
        wait_for("there before is at version 1")
        assert person.dav("MKCOL", "personal/folder").status == 201
        assert person.dav("PUT", "personal/folder/new", b"1").status == 201
        wait_for("there before is at version 1", "folder/new is at version 1")
        end()
        # The next run tells what happens while nobody follows, and nothing is told again.
        assert person.dav("PUT", "personal/folder/new", b"22").status == 204
        assert person.dav("DELETE", "personal/there before").status == 204
        told.write_text("")
        following = follow()
        wait_for("folder/new is at version 2", "there before was deleted")
        end()
    finally:
        following.kill()
        following.wait()
        session.close()


def test_read_with_boto3(device: Mapping[str, str], person: Person) -> None:
    data = noise(9 * MIB)
    assert person.dav("PUT", "personal/large", data).status == 201
    assert person.dav("PUT", "personal/small", b"a few bytes").status == 201
    assert run(*python("read_with_boto3.py", "large"), environment=device).stdout == data
    assert run(*python("read_with_boto3.py", "small"), environment=device).stdout == b"a few bytes"


def test_rest_with_httpx(program: Mapping[str, str], person: Person, tmp_path: Path) -> None:
    data = noise(9 * MIB)
    (tmp_path / "source").write_bytes(data)
    done = run(*python("rest_with_httpx.py", tmp_path / "source", "by rest"), environment=program)
    digest = hashlib.sha256(data).hexdigest()
    assert done.stdout.decode() == (f"by rest is at version 1\n{len(data)} bytes came back, SHA-256 {digest}\n")
    assert person.dav("GET", "personal/by rest").body == data
    done = run(*python("rest_with_httpx.py", tmp_path / "source", "by rest"), environment=program, expect=1)
    assert done.stderr == b"by rest was not stored: NAME_TAKEN\n"
    refused = {**program, "SYNCLINE_KEY": "syk_wrong"}
    done = run(*python("rest_with_httpx.py", tmp_path / "source", "x"), environment=refused, expect=1)
    assert done.stderr.startswith(b"TOKEN_")


def test_list_from_node(program: Mapping[str, str], person: Person, tmp_path: Path) -> None:
    for needed in ("node", "npm"):
        if shutil.which(needed) is None:
            pytest.skip(f"the client in JavaScript needs {needed}, which is not installed")
    # A copy beside the protos, so that what is installed does not lie in the work tree.
    copy = Path(
        shutil.copytree(EXAMPLES / "node", tmp_path / "examples/node", ignore=shutil.ignore_patterns("node_modules"))
    )
    (tmp_path / "protos").symlink_to(ROOT / "protos")
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund"],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"npm could not install what the client in JavaScript needs: {installed.stderr[-500:]}")
    assert run("node", copy / "list.js", environment=program).stdout == b""
    assert person.dav("MKCOL", "personal/folder").status == 201
    assert person.dav("PUT", "personal/folder/file", b"content").status == 201
    done = run("node", copy / "list.js", environment=program)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"path": "folder/file", "version": 1, "size": 7, "sha256": hashlib.sha256(b"content").hexdigest()}
    ]
    name = "a\u200b\x9b31m\u202e\U000e0041"
    assert person.dav("PUT", f"personal/{name}", b"").status == 201
    shown = run("node", copy / "list.js", environment=program).stdout
    assert shown.isascii()
    assert name in {json.loads(line)["path"] for line in shown.splitlines()}

    services = {name: {"target": "evil.example:443", "tls": True} for name in ("auth", "metadata")}
    with serving(lambda _: (200, json.dumps(services).encode())) as endpoint:
        done = run("node", copy / "list.js", environment={**program, "SYNCLINE_ENDPOINT": endpoint}, expect=1)
    assert b"nothing was sent" in done.stderr
    in_clear = {**program, "SYNCLINE_ENDPOINT": "http://files.example.com"}
    assert b"is not encrypted" in run("node", copy / "list.js", environment=in_clear, expect=1).stderr


def test_backup_by_rclone(program: Mapping[str, str], person: Person, tmp_path: Path) -> None:
    # The rclone that the development environment installs.
    program = {**program, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{program['PATH']}"}
    (tmp_path / "pictures/2026").mkdir(parents=True)
    for i in range(20):
        (tmp_path / f"pictures/2026/{i}.raw").write_bytes(noise(1000 + i))
    done = run(EXAMPLES / "rclone/backup.sh", tmp_path / "pictures", "personal/Pictures", environment=program)
    assert b"0 differences found" in done.stderr
    assert b"20 matching files" in done.stderr
    assert person.dav("GET", "personal/Pictures/2026/7.raw").body == noise(1007)
    run(EXAMPLES / "rclone/backup.sh", environment=program, expect=2)


def test_every_example_is_listed_and_run() -> None:
    programs = {
        str(path.relative_to(EXAMPLES))
        for path in EXAMPLES.rglob("*")
        if path.suffix in {".py", ".js", ".sh"} and "node_modules" not in path.parts
    }
    assert len(programs) == 6
    listed, tests = (EXAMPLES / "README.md").read_text(), Path(__file__).read_text()
    assert [name for name in programs if f"]({name})" not in listed] == []
    assert [name for name in programs if Path(name).name not in tests] == []
