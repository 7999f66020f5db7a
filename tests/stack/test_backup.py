"""A backup is whole or not there, whatever happens while it is made or restored."""

import asyncio
import base64
import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from stack.archive import BackupFailed
from stack.backup import back_up
from stack.data_directory import RESTORING, data_directory
from stack.emulator.storage import OBJECT_ROWS, Storage
from stack.errors import StackError
from stack.restore import restore
from syncline.model.blocks import object_key

BODIES = 30


class Silent:
    def expect(self, activity: str, *, files: int, size: int) -> None:
        pass

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        pass


class Acting(Silent):
    """Does something once, when the first file is done."""

    def __init__(self, deed) -> None:
        self._deed = deed

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        deed, self._deed = self._deed, lambda: None
        deed()


class Passes(Silent):
    """Counts how often the database was copied."""

    count = 0

    def expect(self, activity: str, *, files: int, size: int) -> None:
        self.count += 1


def interrupt() -> None:
    raise KeyboardInterrupt


def put_object(storage: Storage, body: bytes) -> None:
    name, digest = storage.write_body(body), hashlib.sha256(body).digest()
    key = json.dumps(["000000000000", "bucket", object_key("s", digest)])
    record = {"body_file": name, "checksums": {"SHA256": base64.b64encode(digest).decode()}}
    storage.put(OBJECT_ROWS, key, json.dumps({"record": record}).encode())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A data directory with some objects and rows, after a clean stop."""
    with data_directory(tmp_path / "data") as made:
        storage = Storage(made.aws)
        (made.aws / "tmp").mkdir()
        for number in range(BODIES):
            put_object(storage, os.urandom(3000))
            storage.put("numbers", str(number), b"%d" % number)
        storage.commit()
        storage.close()
    return tmp_path / "data"


def content(directory: Path) -> dict[tuple[str, str], bytes]:
    """Every row, those of objects with their bytes."""
    storage = Storage(directory / "aws")
    try:
        found = {}
        for store, key, value in storage.rows():
            found[store, key] = value
            if store == OBJECT_ROWS:
                found[store, key] = (directory / "aws" / json.loads(value)["record"]["body_file"]).read_bytes()
        return found
    finally:
        storage.close()


def files(directory: Path) -> list[Path]:
    return sorted(path.relative_to(directory) for path in directory.rglob("*"))


def test_what_is_restored_is_what_was_backed_up(directory: Path, tmp_path: Path) -> None:
    made = back_up(directory, tmp_path / "backup.tar", Silent())
    assert (made.rows, made.objects) == (2 * BODIES, BODIES)
    assert stat.S_IMODE((tmp_path / "backup.tar").stat().st_mode) == 0o600
    again = tmp_path / "restored"
    assert restore(tmp_path / "backup.tar", again, Silent()) == made
    assert content(again) == content(directory)
    kept = {path.name: path.read_bytes() for path in (again / "secrets").iterdir()}
    made_anew = {"gateway-secret"}  # by which the gateway proves itself: any other one does as well
    assert kept == {
        path.name: path.read_bytes() for path in (directory / "secrets").iterdir() if path.name not in made_anew
    }
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (again / "secrets").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((again / "secrets").stat().st_mode) == 0o700
    with data_directory(again):
        pass


def test_a_stream_is_as_good_as_a_file(directory: Path, tmp_path: Path) -> None:
    stream = io.BytesIO()
    made = back_up(directory, stream, Silent())
    stream.seek(0)
    assert restore(stream, tmp_path / "restored", Silent()) == made
    assert content(tmp_path / "restored") == content(directory)


async def test_a_backup_of_a_system_that_goes_on_is_of_one_moment(directory: Path, tmp_path: Path) -> None:
    """While it is made, objects it knows of are removed and others come."""
    storage = Storage(directory / "aws")
    named = {
        key: json.loads(value)["record"]["body_file"] for store, key, value in storage.rows() if store == OBJECT_ROWS
    }

    async def go_on() -> None:
        for key in (min(named), max(named)):
            storage.delete(OBJECT_ROWS, key)
            storage.discard_body(named[key])
        put_object(storage, b"came meanwhile")
        storage.put("numbers", "new", b"1")
        await storage.durable()

    loop = asyncio.get_running_loop()

    def meanwhile() -> None:
        asyncio.run_coroutine_threadsafe(go_on(), loop).result(60)

    made = await asyncio.to_thread(back_up, directory, tmp_path / "backup.tar", Acting(meanwhile))
    storage.close()
    restore(tmp_path / "backup.tar", tmp_path / "restored", Silent())
    assert content(tmp_path / "restored") == content(directory)
    assert made.objects == BODIES - 1


def test_an_interrupted_backup_leaves_nothing(directory: Path, tmp_path: Path) -> None:
    before = files(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        back_up(directory, tmp_path / "backup.tar", Acting(interrupt))
    assert files(tmp_path) == before


def test_a_backup_writes_nothing_into_what_it_backs_up(directory: Path, tmp_path: Path) -> None:
    """Not even what is missing there, as in a directory that was restored and never started."""
    (directory / "aws" / "tmp").rmdir()
    (directory / "lock").write_text("4711\n")
    before = files(directory)
    back_up(directory, io.BytesIO(), Silent())
    assert files(directory) == before
    assert (directory / "lock").read_text() == "4711\n"
    (directory / "lock").unlink()
    back_up(directory, tmp_path / "backup.tar", Silent())
    assert not (directory / "lock").exists()


def test_a_file_that_came_meanwhile_is_not_written_over(directory: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    with pytest.raises(BackupFailed, match="is there already"):
        back_up(directory, there, Acting(lambda: there.write_text("mine")))
    assert there.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "there"]


@pytest.mark.parametrize(
    "manifest",
    [
        "[]",
        "5",
        "{}",
        '{"format": []}',
        '{"format": 1, "members": {}}',
        '{"format": 1, "made": "", "rows": 0, "objects": 0, "members": []}',
        '{"format": 1, "made": "", "rows": 0, "objects": 0, "members": {}}',
        '{"format": 1, "made": "", "rows": 0, "objects": 0, "members": {"x": 1}}',
        "[" * 100_000,
    ],
)
def test_a_manifest_of_another_form_is_refused(tmp_path: Path, manifest: str) -> None:
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        head = tarfile.TarInfo("manifest.json")
        head.size = len(manifest)
        archive.addfile(head, io.BytesIO(manifest.encode()))
    with pytest.raises(BackupFailed, match=r"no backup of Syncline|is damaged"):
        restore(tmp_path / "other.tar", tmp_path / "restored", Silent())
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("existed", [False, True])
def test_an_interrupted_restore_leaves_nothing(directory: Path, tmp_path: Path, existed: bool) -> None:
    back_up(directory, tmp_path / "backup.tar", Silent())
    if existed:
        (tmp_path / "restored").mkdir()
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "backup.tar", tmp_path / "restored", Acting(interrupt))
    assert (tmp_path / "restored").exists() == existed
    assert not existed or not list((tmp_path / "restored").iterdir())


def test_nothing_starts_on_half_of_a_restored_backup(directory: Path) -> None:
    (directory / RESTORING).touch()
    with pytest.raises(StackError, match="half of a restored backup"), data_directory(directory):
        pass
    with pytest.raises(StackError, match="half of a restored backup"):
        back_up(directory, directory.parent / "backup.tar", Silent())


def test_a_backup_that_is_cut_off_anywhere_is_refused(directory: Path, tmp_path: Path) -> None:
    back_up(directory, tmp_path / "backup.tar", Silent())
    whole = (tmp_path / "backup.tar").read_bytes()
    end = whole.rindex(b'"members"')
    for at in [*range(0, end, 17_011), end]:
        (tmp_path / "cut.tar").write_bytes(whole[:at])
        with pytest.raises(BackupFailed, match=r"no backup of Syncline|not whole"):
            restore(tmp_path / "cut.tar", tmp_path / "restored", Silent())
        assert not (tmp_path / "restored").exists()


def test_a_backup_that_is_damaged_anywhere_is_refused(directory: Path, tmp_path: Path) -> None:
    back_up(directory, tmp_path / "backup.tar", Silent())
    with tarfile.open(tmp_path / "backup.tar") as archive:
        places = {member.name: member.offset_data for member in archive if member.name != "manifest.json"}
    whole = (tmp_path / "backup.tar").read_bytes()
    for name in (next(iter(places)), "secrets/signing-key.pem", "aws/state.db"):
        at = places[name] + 100
        (tmp_path / "bad.tar").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(BackupFailed, match=f"{name} is not what its manifest says"):
            restore(tmp_path / "bad.tar", tmp_path / "restored", Silent())
        assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "aws/../../outside", "outside", "aws//x"])
def test_an_archive_of_somebody_else_writes_nowhere(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        head = tarfile.TarInfo(name)
        head.size = 4
        archive.addfile(head, io.BytesIO(b"evil"))
    with pytest.raises(BackupFailed, match="no backup of Syncline"):
        restore(tmp_path / "other.tar", tmp_path / "a" / "restored", Silent())
    assert not list(tmp_path.rglob("outside"))


def test_nothing_is_written_over(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(BackupFailed, match="is there already"):
        back_up(directory, tmp_path / "there", Silent())
    assert (tmp_path / "there").read_text() == "mine"
    back_up(directory, tmp_path / "backup.tar", Silent())
    with pytest.raises(BackupFailed, match="is not empty"):
        restore(tmp_path / "backup.tar", directory, Silent())
    with pytest.raises(BackupFailed, match="holds no system"):
        back_up(tmp_path, tmp_path / "other.tar", Silent())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_which_leaves_nothing(directory: Path, number: signal.Signals) -> None:
    """The output is a pipe that nobody reads, so that the command is amid the archive when it is interrupted."""
    before = files(directory)
    command = [sys.executable, "-m", "syncline.cli", "backup", str(directory), "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(100)
        assert list((directory / "aws" / "tmp").glob(".syncline-backup-*"))
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, b"syncline: interrupted; what was written is no whole backup\n")
    assert files(directory) == before


def test_the_command_says_in_a_line_what_is_wrong(directory: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "syncline.cli", "backup", str(directory / "logs"), str(tmp_path / "backup.tar")]
    (directory / "logs").mkdir(exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert "holds no system" in done.stderr


def test_bytes_that_the_disk_damaged_are_named_and_the_rest_is_backed_up(directory: Path, tmp_path: Path) -> None:
    damaged = next(iter((directory / "aws" / "objects").glob("*/*")))
    damaged.write_bytes(b"other bytes")
    command = [sys.executable, "-m", "syncline.cli", "backup", str(directory), str(tmp_path / "backup.tar"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 4
    assert json.loads(done.stdout)["damaged"] == [str(damaged)]
    assert f"damaged before the backup was made: {damaged}" in done.stderr
    restored = restore(tmp_path / "backup.tar", tmp_path / "restored", Silent())
    assert restored.damaged == (str(tmp_path / "restored" / damaged.relative_to(directory)),)
    damaged.unlink()
    passes = Passes()
    with pytest.raises(BackupFailed, match=f"{damaged.name} is missing, which an object names"):
        back_up(directory, tmp_path / "other.tar", passes)
    assert passes.count == 2
