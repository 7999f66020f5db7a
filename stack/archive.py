"""The form of a backup: a tar archive whose entries are a closed list of files.

    aws/objects/...   the bytes of objects, or aws/s3/... if an earlier version of Syncline stored them there
    secrets/...       keys and secrets, readable by the owner only, like the archive itself
    aws/state.db      the database at one moment; all bytes that its rows name are in the archive
    manifest.json     the list of the entries with sizes and SHA-256; it comes last, so that an archive without it is
                      recognised as incomplete

`backup.py` makes an archive, `restore.py` makes a data directory from one.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from stack.data_directory import SECRETS
from stack.emulator.storage import DATABASE, OBJECT_DIRECTORIES, Body, body_of, has_schema
from stack.errors import StackError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
STATE: Final = f"aws/{DATABASE}"
REQUIRED: Final = (STATE, *(f"secrets/{name}" for name in SECRETS))
"""Names of the entries that every backup has; all other entries are bytes of objects."""
MAX_MANIFEST_BYTES: Final = 512 * 1024 * 1024
_NAME_CHARACTERS: Final = 100


class BackupFailed(StackError):
    """A backup could not be made or restored. The text says why; no new file and no new directory remains of the
    attempt.
    """


class ArchiveProgress(Protocol):
    """Receives the progress of a backup or a restore, in order to show it to a person."""

    def expect(self, activity: str, *, files: int, size: int) -> None:
        """Start to report an activity, such as "backing up", with the number of files and the number of bytes (`size`)
        that are expected in all. Several activities follow one another.
        """

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """Report that `files` more files and `size` more bytes are done since the last call."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class BackupEntry(_Strict):
    """The size in bytes and the SHA-256 (in hexadecimal) of one entry of the archive, which is a file."""

    size: NonNegativeInt
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ArchiveManifest(_Strict):
    """The content of the entry `manifest.json`: how the archive was made, and what belongs into it. `rows` and
    `objects` are the numbers of rows in the database and of files with bytes of objects.
    """

    format: int
    syncline: Annotated[str, Field(max_length=100)]
    """The version of Syncline that made the archive."""
    made: AwareDatetime
    rows: NonNegativeInt
    objects: NonNegativeInt
    entries: dict[str, BackupEntry] = Field(alias="members")
    """The entries by name, without the manifest. In the file, the field is called `members`."""
    mismatched: tuple[str, ...] = ()
    """Names of the entries whose bytes did not match their object when the backup was made. Any further mismatch
    happened later.
    """

    def summary(self, directory: Path, damaged: list[str]) -> Summary:
        """Return the summary of a backup that was made of `directory`, or restored into it, for people to read.
        `damaged` names the files whose bytes differ from the uploaded ones.
        """
        return Summary(
            self.made.isoformat(timespec="seconds"),
            self.rows,
            self.objects,
            sum(entry.size for entry in self.entries.values()),
            tuple(str(directory / name) for name in damaged),
        )


class _Format(BaseModel):
    model_config = ConfigDict(strict=True)

    format: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a backup or a restore, for people to read. `rows` and `objects` count the rows of the database and
    the files with bytes of objects.
    """

    made: str
    """Time of the backup, in ISO 8601."""
    rows: int
    objects: int
    size: int
    """Total size of all entries of the archive, in bytes."""
    damaged: tuple[str, ...] = ()
    """Files whose bytes differ from the uploaded bytes, because the source disk damaged them before the backup was
    made.
    """


def parsed_manifest(text: bytes) -> ArchiveManifest:
    """Return the manifest of a backup, parsed from the bytes of its entry `manifest.json`. Raise BackupFailed if it is
    malformed or was written in another format.
    """
    try:
        written = _Format.model_validate_json(text).format
        if written != FORMAT:
            raise BackupFailed(f"the backup has format {written}; use the Syncline that made it")
        return ArchiveManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:_NAME_CHARACTERS] for part in first["loc"])
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise BackupFailed(f"this is no backup of Syncline: its manifest has not the form of one ({what})") from None


def is_entry_name(name: str) -> bool:
    """Return True if a backup may contain a file of this name. That is: a database, a secret, or a path below the
    directories of the bytes of objects, without empty names, `.` and `..`, so that it leads nowhere else.
    """
    if name in REQUIRED:
        return True
    top, *rest = name.split("/")
    plain = all(part not in {"", ".", ".."} and "\0" not in part for part in rest)
    return top == "aws" and len(rest) > 1 and rest[0] in OBJECT_DIRECTORIES and plain


def read_rows(database: sqlite3.Connection, place: str) -> tuple[int, list[Body]]:
    """Return the number of rows in a database of the storage, and the files with bytes of objects that the rows name.

    Raise BackupFailed, whose text names `place`, if a row is damaged, and sqlite3.Error if the database cannot be read.
    """
    rows, bodies = 0, []
    if not has_schema(database):
        raise BackupFailed(f"{place} is no database of Syncline")
    for store, key, value, crc in database.execute("SELECT store, key, value, crc32 FROM rows"):
        if not isinstance(value, bytes) or zlib.crc32(value) != crc:
            raise BackupFailed(f"{place}: the row {key} of {store} is damaged")
        rows += 1
        try:
            body = body_of(store, key, value)
        except (ValueError, RecursionError):
            raise BackupFailed(f"{place}: the row {key} of {store} describes no object") from None
        if body is not None:
            bodies.append(body)
    return rows, bodies


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Context that converts an error of the operating system in its body, such as a full disk, to BackupFailed. `what`
    names the step that the body carries out, for the text of the error.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of the output has exited, so nobody can be told
        raise
    except OSError as error:
        raise BackupFailed(f"{what}: {error.strerror or error}") from None
