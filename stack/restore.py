"""Restore of a data directory from a backup: only entries that a backup can have are accepted, and each is compared
with the manifest of the archive.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from stack.archive import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    REQUIRED,
    STATE,
    ArchiveManifest,
    ArchiveProgress,
    BackupEntry,
    BackupFailed,
    Summary,
    disk_errors,
    is_entry_name,
    parsed_manifest,
    read_rows,
)
from stack.data_directory import PRIVATE_DIRECTORY, PRIVATE_FILE, RESTORING, check_secrets
from stack.emulator.storage import sync, sync_directory
from stack.errors import StackError

_CHUNK_BYTES: Final = 1024 * 1024
_EXTENDED_HEADER_BYTES: Final = 64 * 1024
"""Maximum size in bytes of the pax extended header of an entry, which contains a long name or a large size."""
_NO_BACKUP: Final = "this is no backup of Syncline"


def restore(file: Path | IO[bytes], directory: Path, progress: ArchiveProgress) -> Summary:
    """Create a data directory from the backup `file`, and compare the result with the manifest of the backup.
    `progress` receives the progress. Return the figures of the restore.

    `directory` must be empty or missing. Raise BackupFailed, and leave the directory unchanged, if it is not empty, or
    if the backup is unreadable, incomplete or cannot be written.
    """
    with disk_errors(f"{file} cannot be read"):
        opened = file.open("rb") if isinstance(file, Path) else contextlib.nullcontext(file)
    with disk_errors(f"{directory} cannot be filled"), opened as source, _filling(directory):
        progress.expect("restoring", files=0, size=file.stat().st_size if isinstance(file, Path) else 0)
        found, manifest = _extracted(source, directory, progress)
        summary = _verified(manifest, found, directory)
        for path in directory.rglob("*"):
            if path.is_dir():
                sync_directory(path)
    return summary


@contextmanager
def _filling(directory: Path) -> Iterator[None]:
    """Context in whose body the caller writes the restored files into `directory`, which is empty or missing at the
    start and is created if necessary.

    - Without an error, the written files stay.
    - If the body raises, everything in the directory is removed, and so are the directories that were created; the
      error continues.
    - A file named `restoring` in the directory shows that it is incomplete. No stack starts on it until the context
      ends.

    Raise BackupFailed if the directory is not empty, before anything is changed.
    """
    if directory.exists() and any(directory.iterdir()):
        raise BackupFailed(f"{directory} is not empty; name a new directory for what is restored")
    made = _make(directory)
    marker = directory / RESTORING
    try:
        marker.touch(mode=PRIVATE_FILE)
        sync_directory(directory)
        yield
        sync_directory(directory)
        marker.unlink()
        sync_directory(directory)
    except BaseException:
        for left in directory.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left != marker:
                left.unlink()
        marker.unlink(missing_ok=True)  # removed last, because the marker shows that the rest is incomplete
        for path in made:
            path.rmdir()
        raise


def _make(directory: Path) -> list[Path]:
    """Create a directory, and the missing ones above it, accessible to their owner only. Return the created
    directories, the innermost first.
    """
    made: list[Path] = []
    for path in reversed([directory, *directory.parents]):
        if not path.exists():
            path.mkdir(mode=PRIVATE_DIRECTORY)
            made.insert(0, path)
    return made


class _EntryHeader(tarfile.TarInfo):
    """The header of an entry of the tar archive. If it is neither a file nor an extended header of bounded size,
    parsing raises BackupFailed, before any data is read.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _EntryHeader:
        header = super().frombuf(buf, encoding, errors)
        if header.type == tarfile.XHDTYPE:
            if header.size > _EXTENDED_HEADER_BYTES:
                raise BackupFailed(f"{_NO_BACKUP}: the header of a file in it has {header.size:,} bytes")
        elif header.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            raise BackupFailed(f"{_NO_BACKUP}: {header.name!r} in it is no ordinary file")
        return header


def _extracted(
    source: IO[bytes], directory: Path, progress: ArchiveProgress
) -> tuple[dict[str, BackupEntry], ArchiveManifest]:
    """Write the files of the archive `source` to the directory; return their sizes and digests by name, and the
    manifest. Raise BackupFailed if the archive is incomplete, or has an entry that no backup contains; files that were
    written before stay.
    """
    found: dict[str, BackupEntry] = {}
    manifest = None
    try:
        with tarfile.open(fileobj=source, mode="r|", tarinfo=_EntryHeader) as archive:
            for header in archive:
                if manifest is not None:
                    raise BackupFailed(f"{_NO_BACKUP}: {header.name!r} comes after its manifest")
                content = archive.extractfile(header)
                if content is None or header.sparse is not None or header.size < 0:
                    raise BackupFailed(f"{_NO_BACKUP}: {header.name!r} in it is no ordinary file")
                if header.name == MANIFEST:
                    if header.size > MAX_MANIFEST_BYTES:
                        raise BackupFailed(f"{_NO_BACKUP}: its manifest has {header.size:,} bytes")
                    manifest = parsed_manifest(content.read())
                    continue
                if header.name in found:
                    raise BackupFailed(f"{_NO_BACKUP}: it has {header.name!r} twice")
                found[header.name] = BackupEntry(size=header.size, sha256=_extract(content, directory, header.name))
                progress.advance(files=1, size=header.size)
    except (tarfile.TarError, EOFError, ValueError):
        raise BackupFailed(f"{_NO_BACKUP}, or not all of it") from None
    if manifest is None:
        raise BackupFailed("the backup is not whole: its manifest is missing, which is the last that is written")
    return found, manifest


def _extract(content: IO[bytes], directory: Path, name: str) -> str:
    """Write the bytes of `content` to the new file `name` below `directory`; return their SHA-256 in hexadecimal. Raise
    BackupFailed if no backup has an entry of this name, or if another entry has the same name or is a file where this
    one needs a directory.
    """
    if not is_entry_name(name):
        raise BackupFailed(f"{_NO_BACKUP}: it has a file {name!r}")
    path = directory / name
    sha256 = hashlib.sha256()
    try:
        _make(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    except (FileExistsError, NotADirectoryError):
        raise BackupFailed(f"{_NO_BACKUP}: another file in it is in the place of {name!r}") from None
    with os.fdopen(descriptor, "wb") as file:
        while chunk := content.read(_CHUNK_BYTES):
            sha256.update(chunk)
            file.write(chunk)
        file.flush()
        sync(file.fileno())
    return sha256.hexdigest()


def _verified(manifest: ArchiveManifest, found: dict[str, BackupEntry], directory: Path) -> Summary:
    """Compare the extracted files with the manifest, and the rows of the database with the files with bytes of objects.
    Remove files with bytes that no row names. Return the summary; it names the files that were damaged before the
    backup. Raise BackupFailed if anything else differs.
    """
    _compare(manifest, found)
    try:
        check_secrets(directory)
    except StackError as error:
        raise BackupFailed(f"the backup is damaged: {error}") from None
    place = (directory / STATE).absolute()
    try:
        # The database is opened immutably: no other file is read, and none is created.
        with contextlib.closing(sqlite3.connect(f"{place.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            rows, bodies = read_rows(database, f"the backup is damaged: {STATE}")
    except sqlite3.Error as error:
        raise BackupFailed(f"{_NO_BACKUP}: {STATE} cannot be read: {error}") from None
    if (rows, len(bodies)) != (manifest.rows, manifest.objects):
        raise BackupFailed(
            f"the backup is damaged: {STATE} has {rows:,} rows and {len(bodies):,} objects, "
            f"but its manifest says {manifest.rows:,} and {manifest.objects:,}"
        )
    objects = {name: entry for name, entry in found.items() if name not in REQUIRED}
    damaged = []
    for body in bodies:
        if (entry := objects.get(body.path)) is None:
            raise BackupFailed(f"the backup is damaged: it lacks {body.path}")
        if body.differs(entry.sha256) and body.path not in manifest.mismatched:
            raise BackupFailed(f"the backup is damaged: {body.path} has not the bytes of the object that names it")
        if body.is_damaged(entry.sha256):
            damaged.append(body.path)
    # objects that were removed from the system during the backup
    for name in objects.keys() - {body.path for body in bodies}:
        (directory / name).unlink()
    return manifest.summary(directory, damaged)


def _compare(manifest: ArchiveManifest, found: dict[str, BackupEntry]) -> None:
    for name in (*REQUIRED, *sorted(manifest.entries)):
        if name not in found:
            raise BackupFailed(f"the backup is damaged: it lacks {name}")
    for name, entry in sorted(found.items()):
        if (said := manifest.entries.get(name)) is None:
            raise BackupFailed(f"the backup is damaged: it has {name!r}, which its manifest does not name")
        if said != entry:
            raise BackupFailed(f"the backup is damaged: {name} is not what its manifest says")
