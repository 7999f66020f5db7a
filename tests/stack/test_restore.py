"""A backup that was changed, damaged or made by somebody else is refused in a sentence, and nothing of it is left."""

import base64
import hashlib
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stack.archive import BackupFailed
from stack.backup import back_up
from stack.data_directory import RESTORING, data_directory
from stack.emulator.storage import OBJECT_ROWS, Storage
from stack.restore import restore
from syncline.model.blocks import object_key
from tests.stack.small_disk import on_small_disk
from tests.stack.test_backup import Silent, files, put_object

REFUSED = r"^(this is no backup of Syncline|the backup is damaged|the backup is not whole|the backup has format)"
STATE = "aws/state.db"


@dataclass
class Archive:
    """A backup taken apart, to be changed on purpose or by damage."""

    members: dict[str, bytes]
    manifest: dict[str, Any]
    extra: list[tuple[tarfile.TarInfo, bytes]] = field(default_factory=list)
    """Members that the manifest does not name, before it."""
    after: list[tuple[tarfile.TarInfo, bytes]] = field(default_factory=list)
    format: int = tarfile.PAX_FORMAT

    @classmethod
    def of(cls, path: Path) -> "Archive":
        with tarfile.open(path) as archive:
            members = {member.name: content.read() for member in archive if (content := archive.extractfile(member))}
        return cls(members, json.loads(members.pop("manifest.json")))

    def holding(self, content: bytes) -> str:
        return next(name for name, there in self.members.items() if there == content)

    def named(self) -> None:
        """Let the manifest name the members as they are now."""
        self.manifest["members"] = {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in self.members.items()
        }

    def change_rows(self, change: Callable[[sqlite3.Connection], object], scratch: Path) -> None:
        scratch.write_bytes(self.members[STATE])
        database = sqlite3.connect(scratch)
        with database:
            change(database)
        database.close()
        self.members[STATE] = scratch.read_bytes()
        self.named()

    def write(self, path: Path) -> Path:
        with tarfile.open(path, "w", format=self.format) as archive:
            members = [(header(name, len(content)), content) for name, content in self.members.items()]
            text = json.dumps(self.manifest).encode()
            manifest = (header("manifest.json", len(text)), text)
            for head, content in [*members, *self.extra, manifest, *self.after]:
                archive.addfile(head, io.BytesIO(content))
        return path


def header(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    head = tarfile.TarInfo(name)
    head.size = size
    for key, value in fields.items():
        setattr(head, key, value)
    return head


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a system with three objects: one with its SHA-256, one without, one that is no block."""
    place = tmp_path_factory.mktemp("backup")
    with data_directory(place / "data") as made:
        storage = Storage(made.aws)
        for body, checked, key in ((b"first", True, None), (b"second", False, None), (b"third", False, "other")):
            digest = hashlib.sha256(body).digest()
            checksums = {"SHA256": base64.b64encode(digest).decode()} if checked else {"CRC32": "AAAAAA=="}
            row = json.dumps(["000000000000", "bucket", key or object_key("s", digest)])
            record = {"body_file": storage.write_body(body), "checksums": checksums}
            storage.put(OBJECT_ROWS, row, json.dumps({"record": record}).encode())
        storage.put("numbers", "1", b"1")
        storage.commit()
        storage.close()
    back_up(place / "data", place / "backup.tar", Silent())
    return place / "backup.tar"


@pytest.fixture
def archive(backup: Path) -> Archive:
    return Archive.of(backup)


def refused(archive: Archive, tmp_path: Path, match: str) -> None:
    """The archive is refused with one sentence, by a directory that was there and by one that was not."""
    (tmp_path / "there").mkdir()
    before = files(tmp_path)
    path = archive.write(tmp_path / "other.tar")
    for place in (tmp_path / "there", tmp_path / "a" / "b" / "restored"):
        with pytest.raises(BackupFailed, match=match) as told:
            restore(path, place, Silent())
        assert re.search(REFUSED, str(told.value))
        assert "\n" not in str(told.value)
    path.unlink()
    assert files(tmp_path) == before


def test_what_is_taken_apart_and_put_together_is_restored(archive: Archive, tmp_path: Path) -> None:
    """Only this shows that the other tests see the effect of their change."""
    archive.named()
    assert restore(archive.write(tmp_path / "same.tar"), tmp_path / "restored", Silent()).damaged == ()
    assert not (tmp_path / "restored" / RESTORING).exists()


@pytest.mark.parametrize(
    "name",
    [
        *("secrets/extra", "secrets/.hidden", "secrets/a/b", "aws/state.db-wal", "aws/state.db-journal", "aws/tmp/x"),
        *(
            "aws/state.db/x",
            "aws/objects",
            "aws/objects/../state.db-wal",
            "lock",
            "logs/auth.log",
            "restoring",
            "secrets",
        ),
        *("/etc/outside", "../outside", "aws/objects//x", "aws/objects/./x", "aws/objects/x/", "./aws/state.db", "aws"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_what_a_backup_consists_of_is_a_closed_list(archive: Archive, tmp_path: Path, name: str, named: bool) -> None:
    archive.members[name] = b"evil"
    if named:
        archive.named()
    refused(archive, tmp_path, "no backup of Syncline")


def test_objects_that_the_manifest_does_not_name_are_refused(archive: Archive, tmp_path: Path) -> None:
    archive.members["aws/objects/ab/more"] = b"more"
    refused(archive, tmp_path, "it has 'aws/objects/ab/more', which its manifest does not name")


def test_objects_that_no_row_names_are_not_kept(archive: Archive, tmp_path: Path) -> None:
    """The objects were removed while the backup was made."""
    archive.members["aws/objects/ab/more"] = b"more"
    archive.named()
    restore(archive.write(tmp_path / "other.tar"), tmp_path / "restored", Silent())
    assert not (tmp_path / "restored/aws/objects/ab/more").exists()


@pytest.mark.parametrize(
    "name", ["aws/state.db", "secrets/signing-key.pem", "secrets/service-secret", "secrets/aws-credentials"]
)
@pytest.mark.parametrize("named", [False, True])
def test_each_absence_is_named(archive: Archive, tmp_path: Path, name: str, named: bool) -> None:
    del archive.members[name]
    if named:
        archive.named()
    refused(archive, tmp_path, f"it lacks {name}$")


def test_an_absent_object_is_named(archive: Archive, tmp_path: Path) -> None:
    name = archive.holding(b"first")
    del archive.members[name]
    archive.named()
    refused(archive, tmp_path, f"it lacks {name}$")


@pytest.mark.parametrize(
    "name", ["aws/state.db", "secrets/signing-key.pem", "secrets/service-secret", "secrets/aws-credentials"]
)
@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"[default]\n"])
def test_a_member_that_is_something_else_is_refused(
    archive: Archive, tmp_path: Path, name: str, content: bytes
) -> None:
    archive.members[name] = content
    archive.named()
    refused(archive, tmp_path, name)


@pytest.mark.parametrize("content", [b"first", b"second"])
def test_bytes_are_those_of_the_object_that_names_them(archive: Archive, tmp_path: Path, content: bytes) -> None:
    """S3 was told their SHA-256, or the key alone says it."""
    name = archive.holding(content)
    archive.members[name] = b"others"
    refused(Archive(archive.members, archive.manifest), tmp_path, f"{name} is not what its manifest says")
    (tmp_path / "there").rmdir()
    archive.named()
    refused(archive, tmp_path, f"{name} has not the bytes of the object that names it")


def test_what_was_wrong_when_it_was_backed_up_is_restored(archive: Archive, tmp_path: Path) -> None:
    """Damaged by the disk, or uploaded wrong: the first is said."""
    name = archive.holding(b"second")
    archive.members[name] = b"others"
    archive.named()
    archive.manifest["mismatched"] = [name]
    done = restore(archive.write(tmp_path / "other.tar"), tmp_path / "restored", Silent())
    assert done.damaged == (str(tmp_path / "restored" / name),)
    assert (tmp_path / "restored" / name).read_bytes() == b"others"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("objects", -1), ("objects", 2), ("objects", "3"), ("objects", 3.5), ("objects", True), ("objects", None)),
        *(("rows", "x"), ("rows", -1), ("rows", 5), ("rows", 10**30), ("made", ""), ("made", "yesterday"), ("made", 5)),
        *(("made", "2026-11-28"), ("made", "\x1b]0;owned\x07"), ("syncline", 1), ("syncline", "x" * 101), ("more", 1)),
        *(("members", []), ("members", {"x": 1}), ("members", {"x": {"size": -1, "sha256": "0" * 64}})),
        *(("members", {"x": {"size": 1, "sha256": "0"}}), ("mismatched", 5), ("mismatched", [5]), ("format", "1")),
        *(("format", 2), ("format", True), ("format", None)),
    ],
)
def test_every_field_of_the_manifest_is_looked_at(archive: Archive, tmp_path: Path, field: str, value: object) -> None:
    archive.manifest[field] = value
    refused(archive, tmp_path, REFUSED)


@pytest.mark.parametrize("name", ["format", "syncline", "made", "rows", "objects", "members"])
def test_every_field_of_the_manifest_is_needed(archive: Archive, tmp_path: Path, name: str) -> None:
    del archive.manifest[name]
    refused(archive, tmp_path, f"its manifest has not the form of one .*{name}")


KINDS = {
    "symbolic link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "directory": tarfile.DIRTYPE,
    "fifo": tarfile.FIFOTYPE,
    "contiguous": tarfile.CONTTYPE,
    "sparse": tarfile.GNUTYPE_SPARSE,
    "long name": tarfile.GNUTYPE_LONGNAME,
    "global header": tarfile.XGLTYPE,
    "unknown": b"Z",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["aws/objects/ab/x", "secrets/signing-key.pem"])
def test_only_ordinary_files_are_taken(archive: Archive, tmp_path: Path, kind: str, name: str) -> None:
    archive.extra.append((header(name, type=KINDS[kind], linkname="/etc/passwd"), b""))
    refused(archive, tmp_path, f"'{name}' in it is no ordinary file")


def test_a_file_with_holes_is_none(archive: Archive, tmp_path: Path) -> None:
    sparse = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,0", "GNU.sparse.size": "999999999"}
    archive.extra.append((header("aws/objects/ab/x", pax_headers=sparse), b""))
    refused(archive, tmp_path, "'aws/objects/ab/x' in it is no ordinary file")


def test_a_header_of_any_length_is_not_read(archive: Archive, tmp_path: Path) -> None:
    archive.extra.append((header("aws/objects/ab/x", pax_headers={"comment": "x" * 100_000}), b""))
    refused(archive, tmp_path, "the header of a file in it has 100,")


@pytest.mark.parametrize("name", ["secrets/service-secret", "aws/state.db"])
def test_a_member_comes_once(archive: Archive, tmp_path: Path, name: str) -> None:
    archive.extra.append((header(name), b""))
    refused(archive, tmp_path, f"it has '{name}' twice")


def test_a_member_is_not_in_the_place_of_another(archive: Archive, tmp_path: Path) -> None:
    archive.members |= {"aws/objects/ab/x": b"", "aws/objects/ab/x/y": b""}
    refused(archive, tmp_path, "another file in it is in the place of 'aws/objects/ab/x/y'")
    del archive.members["aws/objects/ab/x"]
    archive.members["aws/objects/ab/x"] = b""
    (tmp_path / "there").rmdir()
    refused(archive, tmp_path, "another file in it is in the place of 'aws/objects/ab/x'")


def test_nothing_comes_after_the_manifest(archive: Archive, tmp_path: Path) -> None:
    archive.after.append((header("secrets/service-secret"), b""))
    refused(archive, tmp_path, "'secrets/service-secret' comes after its manifest")


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE more (a)",
        "CREATE TRIGGER more AFTER INSERT ON rows BEGIN DELETE FROM rows; END",
        "DROP TABLE rows",
        "ALTER TABLE rows ADD COLUMN more",
        "UPDATE rows SET crc32 = 1 WHERE store = 'numbers'",
        "UPDATE rows SET value = 'text' WHERE store = 'numbers'",
        "DELETE FROM rows WHERE store = 'numbers'",
    ],
)
def test_a_database_of_another_form_is_refused(archive: Archive, tmp_path: Path, change: str) -> None:
    scratch = tmp_path / "scratch.db"
    archive.change_rows(lambda database: database.execute(change), scratch)
    scratch.unlink()
    refused(archive, tmp_path, "state.db")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ('["a", "b", "c"]', b"[]"),
        ('["a", "b", "c"]', b"{}"),
        ('["a", "b", "c"]', b'{"record": {}}'),
        ('["a", "b", "c"]', b'{"record": {"body_file": 5}}'),
        ('["a", "b", "c"]', b'{"record": {"body_file": "../../../etc/passwd"}}'),
        ('["a", "b", "c"]', b'{"record": {"body_file": "state.db"}}'),
        ('["a", "b", "c"]', b'{"record": {"body_file": "objects/x", "checksums": {"SHA256": "!"}}}'),
        ('["a", "b", "c"]', b"[" * 100_000),
        ('["a", "b", "c"]', b"\xff"),
        ('["a"]', b'{"record": {"body_file": "objects/x"}}'),
        ("5", b"{}"),
        ("[", b"{}"),
    ],
)
def test_a_row_of_another_form_is_refused(archive: Archive, tmp_path: Path, key: str, value: bytes) -> None:
    """A row of another form might name any file of this machine, that is then downloaded."""

    def change(database: sqlite3.Connection) -> None:
        database.execute(
            "UPDATE rows SET key = ?, value = ?, crc32 = ? WHERE store = ? AND key LIKE '%other%'",
            (key, value, zlib.crc32(value), OBJECT_ROWS),
        )

    scratch = tmp_path / "scratch.db"
    archive.change_rows(change, scratch)
    scratch.unlink()
    refused(archive, tmp_path, "describes no object|it lacks aws/|has not the bytes")


def test_what_is_refused_is_said_in_a_line(archive: Archive, tmp_path: Path) -> None:
    archive.members["secrets/\x1b[31m\nextra"] = b""
    path = archive.write(tmp_path / "other.tar")
    command = [sys.executable, "-m", "syncline.cli", "restore-backup", str(path), str(tmp_path / "restored")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: this is no backup of Syncline: it has a file ")
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("name", ["with space", "per%cent", "q?mode=ro", "has#hash", "ünï"])
def test_any_name_of_a_directory_will_do(backup: Path, tmp_path: Path, name: str) -> None:
    restore(backup, tmp_path / name, Silent())
    back_up(tmp_path / name, tmp_path / "again.tar", Silent())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["again.tar", name])


def test_a_directory_that_cannot_be_made_is_said(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for place in (tmp_path / "file" / "restored", tmp_path / "dangling"):
        with pytest.raises(BackupFailed, match="cannot be filled"):
            restore(backup, place, Silent())


def test_a_file_that_cannot_be_made_is_said(backup: Path, tmp_path: Path) -> None:
    restore(backup, tmp_path / "restored", Silent())
    with pytest.raises(BackupFailed, match=r"nowhere/backup.tar cannot be written: No such file or directory"):
        back_up(tmp_path / "restored", tmp_path / "nowhere" / "backup.tar", Silent())


def test_a_system_that_lacks_a_secret_is_not_backed_up(backup: Path, tmp_path: Path) -> None:
    """Nobody could use what is made of it."""
    restore(backup, tmp_path / "restored", Silent())
    (tmp_path / "restored/secrets/signing-key.pem").unlink()
    with pytest.raises(BackupFailed, match=r"cannot be backed up: secrets/signing-key.pem is missing"):
        back_up(tmp_path / "restored", tmp_path / "again.tar", Silent())
    assert not (tmp_path / "again.tar").exists()


FULL = """
import os, sys
from pathlib import Path
from stack.archive import BackupFailed
from stack.backup import back_up
from stack.restore import restore
from tests.stack.small_disk import on_small_disk
from tests.stack.test_backup import Silent, files
small, data, archive = map(Path, sys.argv[1:])
for act in (lambda: back_up(data, small / "backup.tar", Silent()), lambda: restore(archive, small / "data", Silent())):
    try:
        act()
    except BackupFailed as error:
        print(error)
    assert files(small) == [], files(small)
"""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with data_directory(tmp_path / "data") as made:
        storage = Storage(made.aws)
        for _ in range(20):
            put_object(storage, os.urandom(100_000))
        storage.commit()
        storage.close()
    small = tmp_path / "small"
    small.mkdir()
    archive = tmp_path / "big.tar"
    back_up(tmp_path / "data", archive, Silent())
    assert on_small_disk(small, "1m", FULL, tmp_path / "data", archive) == [
        f"{small}/backup.tar cannot be written: No space left on device",
        f"{small}/data cannot be filled: No space left on device",
    ]
