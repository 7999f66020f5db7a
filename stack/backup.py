"""One file that holds all that a data directory does, made while the system runs, and a directory made of it again.

The file is a tar archive:

aws/objects/...     the bytes of objects
secrets/...         keys and secrets, readable by the owner only, like the archive itself
aws/state.db        the database at one moment; it names no bytes that are not in the archive
manifest.json       what is in the archive, with sizes and SHA-256; last, so that an archive without it is not whole
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import importlib.metadata
import io
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Protocol

from stack.directory import RESTORING, check_restored, is_in_use
from stack.errors import StackError
from stack.storage import DATABASE, Body, body_of, sync, sync_directory
from stack.wal import unreadable_transactions

FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_STATE: Final = f"aws/{DATABASE}"
_PRIVATE_FILE: Final = 0o600
_PRIVATE_DIRECTORY: Final = 0o700
_CHUNK_BYTES: Final = 1024 * 1024
_MANIFEST_BYTES: Final = 512 * 1024 * 1024
_PASSES: Final = 20


class BackupFailed(StackError):
    """A backup could not be made or used; nothing is left of the attempt."""


class Progress(Protocol):
    """Somebody who wants to know how far it has got."""

    def expect(self, activity: str, *, files: int, size: int) -> None:
        """From now on this is done, for so many files of so many bytes in all."""

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """So much of it is done."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is in a backup."""

    made: str
    """When, in ISO 8601."""
    rows: int
    objects: int
    size: int
    """Bytes of all members."""
    damaged: tuple[str, ...] = ()
    """Files whose bytes are not those that were uploaded: this disk has damaged them before the backup was made."""


@dataclass(slots=True)
class _Members:
    """What is in an archive so far: size and SHA-256, by name."""

    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, size: int, digest: str) -> None:
        self.found[name] = {"size": size, "sha256": digest}

    def differs(self, body: Body) -> bool:
        """Whether the bytes of an object are others than those that were uploaded."""
        return body.sha256 is not None and self.found[f"aws/{body.name}"]["sha256"] != body.sha256

    def size(self) -> int:
        return sum(member["size"] for member in self.found.values())


def back_up(directory: Path, to: Path | IO[bytes], progress: Progress) -> Summary:
    """Copy the data directory of a system that runs, or does not, into a file that is not there yet, or a stream.

    All that was acknowledged when this was called is in it. Raises BackupFailed.
    """
    if not (directory / _STATE).is_file():
        raise BackupFailed(
            f"{directory} holds no system: there is no {_STATE}; name the directory of `syncline up --data`"
        )
    _check_log(directory)
    if not isinstance(to, Path):
        scratch = directory / "aws" / "tmp"  # is not there before the first start
        return _written(directory, to, scratch if scratch.is_dir() else None, progress)
    if to.exists():
        raise _is_there(to)
    with _draft_beside(to) as draft:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE), "wb") as file:
            summary = _written(directory, file, to.parent, progress)
            file.flush()
            sync(file.fileno())
        _publish(draft, to)
        sync_directory(to.parent)
    return summary


def restore(file: Path | IO[bytes], directory: Path, progress: Progress) -> Summary:
    """Make a data directory of a backup; what is restored is compared with the manifest.

    `directory` must be empty, or not there. Raises BackupFailed, and then leaves it so.
    """
    existed = directory.exists()
    if existed and any(directory.iterdir()):
        raise BackupFailed(f"{directory} is not empty; name a new directory for what is restored")
    directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    try:
        # Until it is gone, nothing starts on what may be half of it.
        (directory / RESTORING).touch(mode=_PRIVATE_FILE)
        with file.open("rb") if isinstance(file, Path) else contextlib.nullcontext(file) as source:
            size = file.stat().st_size if isinstance(file, Path) else 0
            summary = _extracted(source, size, directory, progress)
        for path in (directory, *(path for path in directory.rglob("*") if path.is_dir())):
            sync_directory(path)
        (directory / RESTORING).unlink()
        sync_directory(directory)
    except BaseException:
        for left in directory.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if not existed:
            directory.rmdir()
        raise
    return summary


# ---- writing -------------------------------------------------------------------------------------------------------


def _check_log(directory: Path) -> None:
    """BackupFailed if no system runs and the log that the last one left is damaged, as a copy would lack a part."""
    check_restored(directory)
    if is_in_use(directory):
        return
    unreadable = unreadable_transactions(directory / f"{_STATE}-wal")
    if unreadable > 1 and not is_in_use(directory):  # one that was started meanwhile writes to the log
        raise BackupFailed(f"{directory / _STATE}-wal is damaged: {unreadable} transactions in it cannot be read")


def _written(directory: Path, file: IO[bytes], scratch: Path | None, progress: Progress) -> Summary:
    """Write the archive; the copy of the database is made in `scratch` first, or where temporary files belong."""
    members = _Members()
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        with _settled(directory, archive, members, scratch, progress) as (snapshot, rows, bodies):
            for secret in sorted((directory / "secrets").iterdir()):
                if not secret.name.startswith("."):  # one that is being generated
                    _add(archive, members, f"secrets/{secret.name}", secret)
            _add(archive, members, _STATE, snapshot)
        summary = Summary(
            dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            rows,
            len(bodies),
            members.size(),
            tuple(str(directory / "aws" / body.name) for body in bodies if members.differs(body)),
        )
        manifest = {
            "format": FORMAT,
            "syncline": importlib.metadata.version("syncline"),
            "made": summary.made,
            "rows": rows,
            "objects": len(bodies),
            "members": members.found,
        }
        _add_bytes(archive, _MANIFEST, json.dumps(manifest, indent=1).encode())
    return summary


@contextmanager
def _settled(
    directory: Path, archive: tarfile.TarFile, members: _Members, scratch: Path | None, progress: Progress
) -> Iterator[tuple[Path, int, list[Body]]]:
    """Put bytes into the archive until it holds all that a copy of the database names; yields that copy.

    The system goes on meanwhile: it adds bytes, which the copy does not name, and may remove some that it does. Then
    another copy is made, and the bytes that came are added; each pass has less to do than the one before. Bytes are
    removed after nothing names them any more: what is missing and still named by the next copy is lost.
    """
    missing: list[str] = []
    for _ in range(_PASSES):
        with _snapshot(directory, scratch) as (snapshot, rows, bodies):
            new = [body.name for body in bodies if f"aws/{body.name}" not in members.found]
            sizes = [_size(directory / "aws" / name) for name in new]
            progress.expect("backing up", files=len(new), size=sum(sizes))
            before, missing = missing, []
            for name, size in zip(new, sizes, strict=True):
                try:
                    _add(archive, members, f"aws/{name}", directory / "aws" / name)
                except FileNotFoundError:
                    missing.append(name)
                progress.advance(files=1, size=size)
            if not missing:
                yield snapshot, rows, bodies
                return
        if lost := sorted(set(before).intersection(missing)):
            raise BackupFailed(f"{directory / 'aws' / lost[0]} is missing, which an object names")
    raise BackupFailed(f"{directory} changes faster than it can be copied; try again when less is removed from it")


@contextmanager
def _snapshot(directory: Path, scratch: Path | None) -> Iterator[tuple[Path, int, list[Body]]]:
    """A copy of the database at one moment, how many rows it has, and the bytes that it names."""
    with tempfile.TemporaryDirectory(prefix=".syncline-backup-", dir=scratch) as own:
        copy = Path(own) / DATABASE
        try:
            with (
                contextlib.closing(sqlite3.connect(f"file:{directory / _STATE}?mode=rw", uri=True)) as source,
                contextlib.closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")  # one file
                rows, bodies = _checked(target, directory)
        except sqlite3.Error as error:
            raise BackupFailed(f"{directory / _STATE} cannot be copied: {error}") from None
        yield copy, rows, bodies


def _checked(database: sqlite3.Connection, place: Path) -> tuple[int, list[Body]]:
    """How many rows there are, and the files of bytes that they name. BackupFailed if one is damaged."""
    rows, bodies = 0, []
    for store, key, value, crc in database.execute("SELECT store, key, value, crc32 FROM rows"):
        if not isinstance(value, bytes) or zlib.crc32(value) != crc:
            raise BackupFailed(f"{place}: the row {key} of {store} is damaged")
        rows += 1
        if (body := body_of(store, value)) is not None:
            bodies.append(body)
    return rows, bodies


def _add(archive: tarfile.TarFile, members: _Members, name: str, path: Path) -> None:
    with path.open("rb") as file:
        head = _head(name, os.fstat(file.fileno()).st_size)
        summed = _Summed(file)
        archive.addfile(head, summed)  # type: ignore[arg-type]  # it reads, and asks for no more
    members.add(name, head.size, summed.sha256.hexdigest())


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_head(name, len(content)), io.BytesIO(content))


def _head(name: str, size: int) -> tarfile.TarInfo:
    head = tarfile.TarInfo(name)
    head.size, head.mode = size, _PRIVATE_FILE
    return head


class _Summed:
    """A file that sums up what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        read = self._file.read(size)
        self.sha256.update(read)
        return read


@contextmanager
def _draft_beside(path: Path) -> Iterator[Path]:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, to: Path) -> None:
    """Give a file its name, which nothing else has. Raises BackupFailed."""
    try:
        try:
            os.link(draft, to)
        except FileExistsError:
            raise
        except OSError:  # there are no hard links, as on many a disk that is carried about
            os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE))
            draft.rename(to)
    except FileExistsError:
        raise _is_there(to) from None


def _is_there(to: Path) -> BackupFailed:
    return BackupFailed(f"{to} is there already; choose another name, or remove it")


# ---- reading -------------------------------------------------------------------------------------------------------


def _extracted(source: IO[bytes], size: int, directory: Path, progress: Progress) -> Summary:
    members, manifest = _Members(), None
    progress.expect("restoring", files=0, size=size)
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for head in archive:
                content = archive.extractfile(head)
                if content is None or not head.isfile():
                    raise BackupFailed(f"this is no backup of Syncline: {head.name} is no file")
                if head.name == _MANIFEST:
                    manifest = json.loads(content.read(_MANIFEST_BYTES))
                    break
                digest = _extract(content, directory, head.name)
                members.add(head.name, head.size, digest)
                progress.advance(files=1, size=head.size)
    except (tarfile.TarError, EOFError, ValueError, RecursionError) as error:
        raise BackupFailed(f"this is no backup of Syncline, or not all of it: {error}") from None
    return _verified(manifest, members, directory)


def _extract(content: IO[bytes], directory: Path, name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] not in {"aws", "secrets"} or ".." in parts or "/".join(parts) != name:
        raise BackupFailed(f"this is no backup of Syncline: it has a file {name!r}")
    path = directory.joinpath(*parts)
    path.parent.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    sha256 = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE), "wb") as file:
        while chunk := content.read(_CHUNK_BYTES):
            sha256.update(chunk)
            file.write(chunk)
        file.flush()
        sync(file.fileno())
    return sha256.hexdigest()


def _verified(manifest: Any, members: _Members, directory: Path) -> Summary:
    if manifest is None:
        raise BackupFailed("the backup is not whole: its manifest is missing, which is the last that is written")
    match manifest:
        case {"format": int(written)} if written != FORMAT:
            raise BackupFailed(f"the backup has format {written}; use the Syncline that made it")
        case {"format": int(), "made": str(made), "rows": int(rows), "objects": int(objects), "members": dict(named)}:
            pass
        case _:
            raise BackupFailed("this is no backup of Syncline: its manifest has not the form of one")
    for name in sorted(named.keys() | members.found.keys()):
        if named.get(name) != members.found.get(name):
            raise BackupFailed(f"the backup is damaged: {name} is not what its manifest says")
    try:
        with contextlib.closing(sqlite3.connect(directory / _STATE)) as database:
            _, bodies = _checked(database, directory)
    except sqlite3.Error as error:
        raise BackupFailed(f"this is no backup of Syncline: {_STATE} cannot be read: {error}") from None
    if missing := [body.name for body in bodies if f"aws/{body.name}" not in members.found]:
        raise BackupFailed(f"the backup is damaged: it lacks {missing[0]}")
    damaged = tuple(str(directory / "aws" / body.name) for body in bodies if members.differs(body))
    return Summary(made, rows, objects, members.size(), damaged)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
