"""`sync --watch` goes on whatever happens, says what stands in the way once, and ends only when it should."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from stack.demo import REPOSITORY, DemoDevice
from stack.up import Stack
from syncline.sync.folder.link import open_folder
from tests.clients.transfer.proxy import Proxy as StorageProxy
from tests.e2e.conftest import PASSWORD
from tests.e2e.proxy import behind_proxies
from tests.support.http import serving

NewDevice = Callable[..., DemoDevice]

SECONDS = 120.0
"""Maximum number of seconds that anything here may take on a busy machine, pauses of the watch included."""


class Watching:
    """A running watch, and what it has said so far."""

    def __init__(self, device: DemoDevice, *arguments: str, prefix: Sequence[str] = ()) -> None:
        self.device = device
        self.said: list[str] = []
        self.told: list[str] = []
        self.child = subprocess.Popen(
            [*prefix, sys.executable, "-m", "syncline.cli", "sync", str(device.folder), "--watch", *arguments],
            env={**os.environ, "SYNCLINE_HOME": str(device.root / "home")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        self._readers = [
            threading.Thread(target=lines.extend, args=(stream,))
            for lines, stream in ((self.told, self.child.stdout), (self.said, self.child.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition; the watch must go on meanwhile."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert self.child.poll() is None, f"the watch ended with {self.child.returncode}: {self.said}"
            assert time.monotonic() < deadline, f"it did not happen; said: {self.said}; told: {self.told}"
            time.sleep(0.05)

    def says(self, *words: str) -> int:
        """Return the number of lines with all these words."""
        return sum(all(word in line for word in words) for line in [*self.said])

    def brings(self, name: str) -> None:
        """A file that is saved now gets into the space."""
        (self.device.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.device.folder / name).write_text(name)
        self.until(lambda: self.has(name))

    def has(self, path: str) -> bool:
        """Return True if the personal space has a file at this path."""
        return self.has_in("personal", path)

    def has_in(self, space: str, path: str) -> bool:
        """Return True if a space has a file at this path."""
        directory, _, name = path.rpartition("/")
        try:
            listed = json.loads(self.device.run("ls", f"{space}:{directory}", "--json"))
        except Exception:
            return False
        return name in [node["name"] for node in listed["nodes"]]

    def ends(self) -> int:
        """Wait for its end; the exit status."""
        status = self.child.wait(SECONDS)
        for reader in self._readers:
            reader.join()
        for stream in (self.child.stdout, self.child.stderr):
            assert stream is not None
            stream.close()
        assert not any("Traceback" in line or "internal error" in line for line in self.said), self.said
        return status


@contextmanager
def watching(device: DemoDevice, *arguments: str, prefix: Sequence[str] = ()) -> Iterator[Watching]:
    """A watch that has begun; it must still be there at the end, and ends with 0 when it is told to."""
    watch = Watching(device, *arguments, prefix=prefix)
    try:
        watch.until(lambda: watch.told)
        yield watch
        assert watch.child.poll() is None, watch.said
    finally:
        if watch.child.poll() is None:
            watch.child.terminate()
        status = watch.ends()
    assert status == 0


def test_a_mass_deletion_waits_until_it_is_confirmed(new_device: NewDevice) -> None:
    one = new_device("one")
    for n in range(30):
        (one.folder / "modules" / str(n % 3)).mkdir(parents=True, exist_ok=True)
        (one.folder / "modules" / str(n % 3) / f"{n}").write_text(f"{n}")
    (one.folder / "keep").write_text("keep")
    with watching(one) as watch:
        # At once: a deletion that takes longer may be seen in several parts, each of which is a small one.
        (one.folder / "modules").rename(one.root / "gone")
        watch.until(lambda: watch.says("would be deleted in the space", "syncline sync --allow-mass-delete"))
        watch.brings("after the deletion")
        watch.brings("and another one")
        assert watch.has("modules/1/1")
        one.run("sync", str(one.folder), "--allow-mass-delete")
        assert not watch.has("modules")
        watch.brings("after the confirmation")
    assert watch.says("would be deleted") <= 3, "said again only when the numbers have changed"


def test_a_mass_deletion_that_is_undone_is_forgotten(new_device: NewDevice) -> None:
    one = new_device("one")
    (one.folder / "objects").mkdir()
    for n in range(30):
        (one.folder / "objects" / f"{n}").write_text(f"{n}")
    with watching(one) as watch:
        (one.folder / "objects").rename(one.root / "aside")
        watch.until(lambda: watch.says("would be deleted"))
        (one.root / "aside").rename(one.folder / "objects")
        watch.until(lambda: "up to date" in watch.told[-1])
        assert watch.has("objects/29")


LIMITED = "echo {number} > /proc/sys/user/{limit} && exec "
"""A process in a user namespace has limits of its own."""


def limited(limit: str, number: int) -> list[str]:
    """Return the command that runs another one with this limit of inotify."""
    prefix = [
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        f'{LIMITED.format(limit=limit, number=number)}"$@"',
        "sh",
    ]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system gives a process no user namespace of its own")
    return prefix


@pytest.mark.parametrize(
    ("limit", "number", "sysctl"),
    [
        ("max_inotify_watches", 4, "fs.inotify.max_user_watches="),
        ("max_inotify_watches", 0, "fs.inotify.max_user_watches="),
        ("max_inotify_instances", 0, "fs.inotify.max_user_instances="),
    ],
)
def test_what_cannot_be_watched_is_looked_at(new_device: NewDevice, limit: str, number: int, sysctl: str) -> None:
    one = new_device("one")
    for n in range(10):
        (one.folder / f"d{n}" / "below").mkdir(parents=True)
    with watching(one, prefix=limited(limit, number)) as watch:
        watch.until(lambda: watch.says(sysctl))
        for path in ("top", "d0/below/file", "d9/below/file", "d5/new/deep/file"):
            watch.brings(path)
    assert watch.says(sysctl) == 1


def test_directories_that_come_after_the_limit_are_looked_at_too(new_device: NewDevice) -> None:
    one = new_device("one")
    (one.folder / "a").mkdir()
    with watching(one, prefix=limited("max_inotify_watches", 5)) as watch:
        for n in range(4):
            watch.brings(f"new{n}/below/file")
        watch.until(lambda: watch.says("fs.inotify.max_user_watches="))
        for n in range(4):
            (one.folder / f"new{n}/below/file").write_text("changed")
            watch.brings(f"new{n}/below/another")
        assert watch.says("fs.inotify.max_user_watches=") == 1


def nobody() -> list[str]:
    """Return the command that runs another one without the right to read everything, which root has to give up."""
    if os.geteuid() or not shutil.which("setpriv"):
        return []
    given_up = "-dac_override,-dac_read_search"
    return ["setpriv", f"--inh-caps={given_up}", f"--bounding-set={given_up}"]


def test_a_directory_that_cannot_be_read_stops_nothing(new_device: NewDevice) -> None:
    prefix = nobody()
    one = new_device("one")
    (one.folder / "lost+found").mkdir()
    (one.folder / "fine").mkdir()
    (one.folder / "lost+found").chmod(0)
    with watching(one, prefix=prefix) as watch:
        watch.until(lambda: watch.says("lost+found", "cannot be read"))
        for name in ("fine/1", "2"):
            watch.brings(name)
        (one.folder / "lost+found").chmod(0o755)
        watch.brings("lost+found/now")
        (one.folder / "lost+found" / "later").mkdir()
        watch.brings("lost+found/later/deep")
    assert watch.says("lost+found", "cannot be read") == 1


@pytest.mark.parametrize("linked", [False, True])
def test_a_watch_that_begins_before_its_folder_can_be_read(new_device: NewDevice, linked: bool) -> None:
    prefix = nobody()
    one = new_device("one")
    (one.folder / "file").write_text("file")
    if linked:
        one.sync()
    one.folder.chmod(0)
    watch = Watching(one, prefix=prefix)
    try:
        watch.until(lambda: watch.says("cannot be read", "Permission denied", "trying again"))
        one.folder.chmod(0o755)
        watch.until(lambda: watch.told)
        watch.brings("another")
        assert watch.has("file")
    finally:
        one.folder.chmod(0o755)
        watch.child.terminate()
        assert watch.ends() == 0
    assert watch.says("cannot be read") == 1


UNREADABLE = [
    ("sync", "folder"),
    ("sync", "folder", "--dry-run"),
    ("check", "folder"),
    ("status", "folder"),
    ("sync", "folder/below"),
    ("put", "folder/file", "there"),
    ("put", "shut file", "there"),
    ("get", "there", "folder/"),
    ("get", "there", "folder/file"),
    ("backup", "folder", "backup.tar"),
    ("backup", "none", "backup.tar"),
    ("restore-backup", "shut file", "restored"),
    ("restore-backup", "none", "restored"),
    ("restore-backup", "there", "folder"),
    ("up", "--port", "0", "--data", "folder"),
]


def test_what_cannot_be_read_is_no_error_of_usage(new_device: NewDevice) -> None:
    prefix = nobody()
    one = new_device("one")
    (one.root / "there").write_text("there")
    one.run("put", str(one.root / "there"), "there")
    one.sync()
    (one.root / "shut file").write_text("x")
    (one.root / "shut file").chmod(0)
    one.folder.chmod(0)
    try:
        for command in UNREADABLE:
            done = subprocess.run(
                [*prefix, sys.executable, "-m", "syncline.cli", *command],
                env={**os.environ, "SYNCLINE_HOME": str(one.root / "home"), "PYTHONPATH": str(REPOSITORY)},
                cwd=one.root,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            assert done.returncode == 1, (command, done.stderr)
            (said,) = done.stderr.strip().splitlines()
            assert "none" in command or "Permission denied" in said, (command, said)
            assert any(word.rstrip("/") in said for word in command[1:]), (command, said)
    finally:
        one.folder.chmod(0o755)


def test_services_and_storage_that_are_away_for_a_while(new_device: NewDevice, stack: Stack) -> None:
    away = False
    with behind_proxies(stack.endpoint, lambda: "503" if away else None) as (endpoint, proxies):
        one = new_device("one", endpoint=endpoint)
        two = new_device("two", one.owner)
        (one.folder / "first").write_text("first")
        with watching(one) as watch:
            watch.until(lambda: watch.has("first"))
            away = True
            (one.folder / "without storage").write_text("x")
            watch.until(lambda: watch.says("storage does not answer", "trying again"))
            away = False
            watch.until(lambda: (two.sync(), (two.folder / "without storage").exists())[1])
            for proxy in proxies.values():
                proxy.refuse()
            (one.folder / "without services").write_text("y")
            watch.until(lambda: watch.says("trying again") > 1)
            for proxy in proxies.values():
                proxy.refuse(False)
            watch.until(lambda: (two.sync(), (two.folder / "without services").exists())[1])
            # The device hears again of others' changes, too.
            (two.folder / "from two").write_text("two")
            two.sync()
            watch.until((one.folder / "from two").exists)
        assert watch.says("storage does not answer") <= 2


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_wrong(new_device: NewDevice, stack: Stack, hours: int) -> None:
    """The device sees a storage that has another time from some moment on."""
    with urllib.request.urlopen(f"{stack.endpoint}/.well-known/syncline") as answer:
        deployment = json.load(answer)
    storage = StorageProxy(stack.aws.endpoint)
    storage.ahead, storage.root = 0.0, stack.aws.root
    deployment["s3"]["endpoint"] = storage.endpoint
    try:
        with serving(lambda _: (200, json.dumps(deployment).encode())) as endpoint:
            one = new_device("one", endpoint=endpoint)
            two = new_device("two", one.owner, endpoint=endpoint)
            with watching(one) as watch:
                watch.brings("before")
                storage.ahead = hours * 3600.0
                watch.brings("while it is wrong")
                two.sync()
                (two.folder / "from two").write_text("from two")
                two.sync()
                watch.until((one.folder / "from two").exists)
                storage.ahead = 0.0
                watch.brings("when it is right again")
            assert watch.said == []
            assert (two.folder / "while it is wrong").read_text() == "while it is wrong"
    finally:
        storage.close()


def test_a_watch_that_begins_before_the_network(new_device: NewDevice, stack: Stack) -> None:
    with behind_proxies(stack.endpoint) as (endpoint, proxies):
        one = new_device("one", endpoint=endpoint)
        one.run("spaces", "create", "Project")
        for proxy in proxies.values():
            proxy.refuse()
        watch = Watching(one, "--space", "Project")
        try:
            watch.until(lambda: watch.says("trying again"))
            for proxy in proxies.values():
                proxy.refuse(False)
            watch.until(lambda: watch.told)
        finally:
            watch.child.terminate()
            assert watch.ends() == 0


def test_a_folder_that_is_away_for_a_while(new_device: NewDevice) -> None:
    one = new_device("one")
    (one.folder / "file").write_text("file")
    with watching(one) as watch:
        away = one.root / "away"
        one.folder.rename(away)
        watch.until(lambda: watch.says("is not there"))
        away.rename(one.folder)
        watch.until(lambda: "up to date" in watch.told[-1])
        watch.brings("new/after")
        one.folder.rename(away)  # a disk that is unmounted leaves its directory, empty
        one.folder.mkdir()
        watch.until(lambda: watch.says("no .syncline/folder"))
        one.folder.rmdir()
        away.rename(one.folder)
        watch.brings("again")
        assert watch.has("file")


def test_a_full_disk(new_device: NewDevice) -> None:
    if os.geteuid():
        pytest.skip("only root can mount a small filesystem")
    one = new_device("one")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", one.folder], check=False).returncode:
        pytest.skip("no filesystem can be mounted here")
    try:
        two = new_device("two", one.owner)
        (one.folder / "ballast").write_bytes(bytes(2 << 20))
        with watching(one, "--exclude", "ballast") as watch:
            (two.folder / "large").write_bytes(os.urandom(2 << 20))
            two.sync()
            watch.until(lambda: watch.says("large", "does not fit on the disk"))
            watch.brings("small")
            (one.folder / "ballast").unlink()
            watch.until((one.folder / "large").exists)
        assert watch.says("does not fit on the disk") == 1
        assert (one.folder / "large").read_bytes() == (two.folder / "large").read_bytes()
    finally:
        subprocess.run(["umount", one.folder], check=True)


def test_a_state_database_that_is_damaged_or_in_the_way(new_device: NewDevice) -> None:
    one = new_device("one")
    (one.folder / "file").write_text("file")
    with watching(one) as watch:
        folder = open_folder(one.root / "home", one.folder)
        assert folder is not None
        for path in folder.state.glob("state.db-*"):
            path.unlink()
        folder.database.write_bytes(b"this is no database" * 1000)
        watch.brings("after the damage")
        assert watch.says("the state database was damaged") == 1
        folder.database.unlink()
        folder.database.mkdir()
        (one.folder / "later").write_text("later")
        watch.until(lambda: watch.says("state database", "cannot be used"))
        folder.database.rmdir()
        watch.until(lambda: watch.has("later"))
        assert watch.has("file")


def test_another_sync_of_the_folder(new_device: NewDevice) -> None:
    one = new_device("one")
    with watching(one) as watch:
        folder = open_folder(one.root / "home", one.folder)
        assert folder is not None
        with folder.locked():
            (one.folder / "file").write_text("file")
            watch.until(lambda: watch.says("another sync"))
        watch.until(lambda: watch.has("file"))


def test_an_account_that_is_gone_ends_it(new_device: NewDevice, stack: Stack) -> None:
    one = new_device("one")
    two = new_device("two", one.owner)
    watch = Watching(two)
    watch.until(lambda: watch.told)
    devices = json.loads(one.run("devices", "--json"))["devices"]
    (revoked,) = (device["id"] for device in devices if device["name"] == "two")
    one.run("devices", "revoke", revoked)
    (two.folder / "file").write_text("file")
    assert watch.ends() == 3
    assert watch.says("sign in") == 1

    two.run(
        *("login", "--endpoint", stack.endpoint, "--email", two.email, "--password-stdin", "--device", "two"),
        stdin=f"{PASSWORD}\n",
    )
    watch = Watching(two)
    watch.until(lambda: watch.told)
    two.run("logout")
    (two.folder / "file").write_text("once more")
    assert watch.ends() == 3


def test_a_space_that_is_closed_to_one_ends_it(new_device: NewDevice) -> None:
    ann, ben = new_device("ann"), new_device("ben")
    ann.run("spaces", "create", "Project")
    ann.run("share", "Project", ben.email, "--role", "editor")
    watch = Watching(ben, "--space", "Project")
    watch.until(lambda: watch.told)
    ann.run("unshare", "Project", ben.email)
    deadline = time.monotonic() + SECONDS
    while watch.child.poll() is None and time.monotonic() < deadline:
        (ben.folder / "file").write_text(f"{time.monotonic()}")
        time.sleep(0.5)
    assert watch.ends() == 1
    assert watch.says("no such space") == 1


def test_a_folder_that_is_linked_no_more_ends_it(new_device: NewDevice) -> None:
    one = new_device("one")
    watch = Watching(one)
    watch.until(lambda: watch.told)
    folder = open_folder(one.root / "home", one.folder)
    assert folder is not None
    shutil.rmtree(folder.state)
    (one.folder / "file").write_text("file")
    assert watch.ends() == 1
    assert watch.says("not linked any more") == 1


def test_a_mistake_on_the_command_line_ends_it(new_device: NewDevice) -> None:
    one = new_device("one")
    watch = Watching(one, "--include", "never excluded")
    assert watch.ends() == 1
    assert watch.says("is not excluded") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_with_0_when_it_is_told_to(new_device: NewDevice, number: signal.Signals) -> None:
    watch = Watching(new_device("one"))
    watch.until(lambda: watch.told)
    watch.child.send_signal(number)
    assert watch.ends() == 0
    assert watch.said == []
