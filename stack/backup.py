"""Backup of a data directory into one file, while the system runs; `archive.py` describes the archive."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import importlib.metadata
import io
import os
import secrets
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from stack.archive import (
    FORMAT,
    MANIFEST,
    STATE,
    ArchiveManifest,
    ArchiveProgress,
    BackupEntry,
    BackupFailed,
    Summary,
    disk_errors,
    read_rows,
)
from stack.data_directory import PRIVATE_FILE, SECRETS, check_restored, check_secrets, is_in_use
from stack.emulator.storage import DATABASE, Body, sync, sync_directory
from stack.emulator.wal import unreadable_transactions
from stack.errors import StackError

_MAX_PASSES: Final = 20


def back_up(directory: Path, to: Path | IO[bytes], progress: ArchiveProgress) -> Summary:
    """Copy the data directory of a running or stopped system to the new file `to`, or to a stream. `progress` receives
    the progress. Return the figures of the backup.

    The backup includes every change that was acknowledged before this call. Raise BackupFailed, and leave no file, if
    the directory holds no usable data, the file exists already, or reading or writing fails. Raise StackError if the
    restore of a backup into the directory is incomplete.
    """
    if not (directory / STATE).is_file():
        raise BackupFailed(
            f"{directory} holds no system: there is no {STATE}; name the directory of `syncline up --data`"
        )
    check_restored(directory)
    try:
        check_secrets(directory)
    except StackError as error:
        raise BackupFailed(f"{directory} cannot be backed up: {error}") from None
    _check_log(directory)
    if not isinstance(to, Path):
        scratch = directory / "aws" / "tmp"  # does not exist before the first start
        with disk_errors("the backup cannot be written to standard output"):
            return _written(directory, to, scratch if scratch.is_dir() else None, progress)
    if to.exists():
        raise _is_there(to)
    with disk_errors(f"{to} cannot be written"), _draft_beside(to) as draft:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb") as file:
            summary = _written(directory, file, to.parent, progress)
            file.flush()
            sync(file.fileno())
        _publish(draft, to)
        sync_directory(to.parent)
    return summary


def _check_log(directory: Path) -> None:
    """Raise BackupFailed if no system runs and the last run left a damaged log, because a copy would be incomplete."""
    if is_in_use(directory):
        return
    unreadable = unreadable_transactions(directory / f"{STATE}-wal")
    if unreadable > 1 and not is_in_use(directory):  # a stack that was started in the meantime writes to the log
        raise BackupFailed(f"{directory / STATE}-wal is damaged: {unreadable} transactions in it cannot be read")


def _written(directory: Path, file: IO[bytes], scratch: Path | None, progress: ArchiveProgress) -> Summary:
    """Write the archive to `file`; return its summary. A copy of the database is first made in the directory `scratch`,
    or in the system's directory for temporary files if `scratch` is None.
    """
    entries: dict[str, BackupEntry] = {}
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        with _all_files_added(directory, archive, entries, scratch, progress) as (snapshot, rows, bodies):
            for name in SECRETS:
                _add(archive, entries, f"secrets/{name}", directory / "secrets" / name)
            _add(archive, entries, STATE, snapshot)
        manifest = ArchiveManifest(
            format=FORMAT,
            syncline=importlib.metadata.version("syncline"),
            made=dt.datetime.now(dt.UTC).replace(microsecond=0),
            rows=rows,
            objects=len(bodies),
            members=entries,
            mismatched=tuple(body.path for body in bodies if body.differs(entries[body.path].sha256)),
        )
        _add_bytes(archive, MANIFEST, manifest.model_dump_json(indent=1, by_alias=True).encode())
    damaged = [body.path for body in bodies if body.is_damaged(entries[body.path].sha256)]
    return manifest.summary(directory, damaged)


@contextmanager
def _all_files_added(
    directory: Path,
    archive: tarfile.TarFile,
    entries: dict[str, BackupEntry],
    scratch: Path | None,
    progress: ArchiveProgress,
) -> Iterator[tuple[Path, int, list[Body]]]:
    """Add the files with the bytes of objects to the archive, until a copy of the database names only files that are in
    the archive. Yield that copy: its path, its number of rows, and the files that it names.

    The system continues during the backup. Files that it adds are not named by the copy. It may remove files that the
    copy names; then another copy is made, and the files that this copy names in addition are added. Each pass adds
    fewer files than the one before.

    The system removes a file only after no row names it. A file that is missing although the next copy names it is
    therefore lost. Raise BackupFailed if a file is lost, or if the system removes files faster than they can be copied.
    """
    missing: list[str] = []
    for _ in range(_MAX_PASSES):
        with _snapshot(directory, scratch) as (snapshot, rows, bodies):
            new = [body.path for body in bodies if body.path not in entries]
            sizes = [_size(directory / name) for name in new]
            progress.expect("backing up", files=len(new), size=sum(sizes))
            before, missing = missing, []
            for name, size in zip(new, sizes, strict=True):
                try:
                    _add(archive, entries, name, directory / name)
                except FileNotFoundError:
                    missing.append(name)
                progress.advance(files=1, size=size)
            if not missing:
                yield snapshot, rows, bodies
                return
        if lost := sorted(set(before).intersection(missing)):
            raise BackupFailed(f"{directory / lost[0]} is missing, which an object names")
    raise BackupFailed(f"{directory} changes faster than it can be copied; try again when less is removed from it")


@contextmanager
def _snapshot(directory: Path, scratch: Path | None) -> Iterator[tuple[Path, int, list[Body]]]:
    """Yield a copy of the database as of one moment: its path, its number of rows, and the files with bytes of objects
    that the rows name. The copy is removed at the end of the context. Raise BackupFailed if the database cannot be
    copied.
    """
    place = (directory / STATE).absolute()
    with tempfile.TemporaryDirectory(prefix=".syncline-backup-", dir=scratch) as own:
        copy = Path(own) / DATABASE
        try:
            with (
                contextlib.closing(sqlite3.connect(f"{place.as_uri()}?mode=rw", uri=True)) as source,
                contextlib.closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")  # the result is a single file
                rows, bodies = read_rows(target, str(place))
        except sqlite3.Error as error:
            raise BackupFailed(f"{directory / STATE} cannot be copied into {own}: {error}") from None
        yield copy, rows, bodies


def _add(archive: tarfile.TarFile, entries: dict[str, BackupEntry], name: str, path: Path) -> None:
    with path.open("rb") as file:
        header = _header(name, os.fstat(file.fileno()).st_size)
        summed = _Summed(file)
        archive.addfile(header, summed)  # type: ignore[arg-type]  # it reads, and asks for no more
    entries[name] = BackupEntry(size=header.size, sha256=summed.sha256.hexdigest())


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_header(name, len(content)), io.BytesIO(content))


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, PRIVATE_FILE
    return header


class _Summed:
    """Wrapper of an open file that computes the SHA-256 of everything that is read through it."""

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
    """Rename a file to its final name. Raise BackupFailed if a file of that name exists."""
    try:
        try:
            os.link(draft, to)
        except FileExistsError:
            raise
        except OSError:  # no support for hard links, as on many portable disks
            os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
            draft.rename(to)
    except FileExistsError:
        raise _is_there(to) from None


def _is_there(to: Path) -> BackupFailed:
    return BackupFailed(f"{to} is there already; choose another name, or remove it")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
