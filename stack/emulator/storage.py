"""The durable storage of the embedded AWS: one SQLite database, and the bytes of objects in files beside it.

    state.db    rows: the value that a store holds under a key, as JSON; written with a write-ahead log (`state.db-wal`)
    objects/    the bytes of S3 objects, each in a file that is written once under a name of its own

Changes are collected while a request runs, and one transaction makes all collected changes durable at once, while
further changes are collected for the next transaction (group commit). A row that names a file of bytes is in no
transaction before the bytes are on disk, and a file is removed only after the transaction that no longer names it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import sqlite3
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stack.emulator.wal import unreadable_transactions

STORAGE: Final = "SYNCLINE_EMBEDDED_STORAGE"
"""Environment variable of the storage directory; without it, everything is in memory only."""
DAMAGED: Final = 3
"""Exit status of the embedded AWS if the stored data are damaged."""

DATABASE: Final = "state.db"
OBJECTS: Final = "objects"
OBJECT_DIRECTORIES: Final = (OBJECTS, "s3")
"""Directories of the files of bytes. The second directory has the files of an earlier version of Syncline."""
OBJECT_ROWS: Final = "s3.objects"
"""The store whose rows name files of bytes, in `record.body_file`."""
FORMAT: Final = 1

_NOT_WRITTEN: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
RESERVE_BYTES: Final = 32 * 1024 * 1024
"""Bytes that must stay free on the disk for changes that free space, such as deletions, and for requests in progress.
"""

_PAGE_BYTES: Final = 8192
_CHECKPOINT_PAGES: Final = 2048
"""Number of pages (16 MiB) after which the log is checkpointed into the database and restarted."""
_WRITERS: Final = 4
_NAME_BYTES: Final = 16

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rows (
    store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, crc32 INTEGER NOT NULL, PRIMARY KEY (store, key)
) WITHOUT ROWID
"""
_PUT: Final = """
INSERT INTO rows VALUES (?, ?, ?, ?)
ON CONFLICT (store, key) DO UPDATE SET value = excluded.value, crc32 = excluded.crc32
"""
_ANY: Final = "SELECT 1 FROM rows LIMIT 1"
_ANY_OF: Final = "SELECT 1 FROM rows WHERE store = ? LIMIT 1"
_DELETE: Final = "DELETE FROM rows WHERE store = ? AND key = ?"
_CLEAR: Final = "DELETE FROM rows WHERE store = ?"


class StorageDamaged(Exception):
    """The data on the disk differ from what was written; the text says where and what to do."""


class StorageFailed(Exception):
    """The disk did not accept a change; the text gives the reason. This process can acknowledge nothing more."""


@dataclass(slots=True)
class _Batch:
    """Changes that become durable in one transaction of SQLite, or not at all."""

    changes: list[tuple[str, str | None, bytes | None]] = field(default_factory=list)
    """The changes in order, each as (store, key, value). If the value is None, the row is deleted; if the key is None
    as well, all rows of the store are.
    """
    bodies: list[Future[Path]] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)
    durable: asyncio.Future[None] | None = None


class Storage:
    """Stores rows (store, key, value), and the bytes of objects as files, in a directory that one process uses. `put`,
    `delete` and `clear` only collect a change and may be called from any thread; `durable` and `commit` write what was
    collected.
    """

    def __init__(self, directory: Path) -> None:
        """Open the storage in `directory`, or create it if it does not exist. Raise StorageDamaged if the database or
        its log is damaged.
        """
        self.directory = directory
        self._objects = directory / OBJECTS
        self._objects.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._database, self.log_bytes = _open(directory / DATABASE)
        """Size in bytes of the write-ahead log that was found at the start; 0 after a clean stop."""
        sync_directory(directory)
        self._lock = threading.Lock()
        self._pending = _Batch()
        self._writing: dict[str, Future[Path]] = {}
        """The files of bytes that are being written, by name."""
        self._written: asyncio.Future[None] | None = None
        self._committer = ThreadPoolExecutor(1, "commit")
        self._writers = ThreadPoolExecutor(_WRITERS, "bodies")
        self.on_failure: Callable[[], None] = _nothing
        """Function without arguments that is called on the event loop when the disk did not accept a change."""
        self._failure: StorageFailed | None = None

    def rows(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield (store, key, value) of all rows, by store. Raise StorageDamaged if the database cannot be read."""
        try:
            for store, key, value, crc in self._database.execute("SELECT store, key, value, crc32 FROM rows"):
                if not isinstance(value, bytes) or zlib.crc32(value) != crc:
                    raise StorageDamaged(f"{self._place}: the row {key} of {store} is damaged; {_ADVICE}")
                yield store, key, value
        except sqlite3.DatabaseError as error:
            raise StorageDamaged(f"{self._place} is damaged ({error}); {_ADVICE}") from None

    def has_rows(self, store: str | None = None) -> bool:
        """Return True if there is a durable row: in `store` if one is named, otherwise in any store. Raise
        StorageDamaged if the database cannot be read.
        """
        try:
            found = self._database.execute(_ANY) if store is None else self._database.execute(_ANY_OF, (store,))
            return found.fetchone() is not None
        except sqlite3.DatabaseError as error:
            raise StorageDamaged(f"{self._place} is damaged ({error}); {_ADVICE}") from None

    def put(self, store: str, key: str, value: bytes) -> None:
        """Collect a change: the value of `key` in `store` becomes `value`. A later `durable` or `commit` writes it."""
        with self._lock:
            self._pending.changes.append((store, key, value))

    def delete(self, store: str, key: str) -> None:
        """Collect a change: the row `key` of `store` is deleted. A later `durable` or `commit` writes it."""
        with self._lock:
            self._pending.changes.append((store, key, None))

    def clear(self, store: str) -> None:
        """Collect a change: all rows of `store` are deleted. A later `durable` or `commit` writes it."""
        with self._lock:
            self._pending.changes.append((store, None, None))

    def write_body(self, body: bytes) -> str:
        """Start to write `body`, the bytes of an object, to a new file, without waiting for the end. Return the name of
        the file, relative to the directory of the storage. The caller must collect, by `put`, a row with this name
        before the next `durable` or `commit`, so that the row and the file belong to one transaction.
        """
        name = secrets.token_hex(_NAME_BYTES)
        name = f"{OBJECTS}/{name[:2]}/{name}"
        writing = self._writers.submit(_write, self.directory / name, body)
        self._writing[name] = writing
        writing.add_done_callback(lambda _: self._writing.pop(name, None))
        with self._lock:
            self._pending.bodies.append(writing)
        return name

    def read_body(self, name: str) -> bytes:
        """Return the bytes of the object in the file `name`, after waiting until the file is written. Raise OSError if
        it cannot be read.
        """
        if (writing := self._writing.get(name)) is not None:
            writing.result()
        return (self.directory / name).read_bytes()

    def discard_body(self, name: str) -> None:
        """Collect a change: the file `name` with the bytes of an object is removed, once the changes that were
        collected before this call are durable. After these changes, no row may name the file.
        """
        with self._lock:
            self._pending.discarded.append(name)

    def remove_unnamed(self, named: set[str]) -> int:
        """Remove the files with bytes of objects whose names are not in `named`; a process that was killed may have
        left them. Return their number.
        """
        removed = 0
        for shard in self._objects.iterdir():
            if not shard.is_dir():  # a foreign file, for example of a file manager
                continue
            for file in os.scandir(shard):
                if f"{OBJECTS}/{shard.name}/{file.name}" not in named:
                    Path(file.path).unlink()
                    removed += 1
        return removed

    def room(self) -> int:
        """Return the number of free bytes on the disk, less the reserve of RESERVE_BYTES; negative if less than the
        reserve is free.
        """
        return shutil.disk_usage(self.directory).free - RESERVE_BYTES

    async def durable(self) -> None:
        """Wait until all changes that were collected before this call are durable. Changes that must become durable
        together must be collected without a call of this method in between. Raise StorageFailed if the disk does not
        accept the changes; then nothing more can be stored.
        """
        if self._failure is not None:
            raise self._failure
        waited = self._written
        if self._pending.changes or self._pending.discarded:
            if self._pending.durable is None:
                self._pending.durable = asyncio.get_running_loop().create_future()
            waited = self._pending.durable
            if self._written is None:
                self._begin()
        if waited is not None:
            await asyncio.shield(waited)

    def commit(self) -> None:
        """Write all changes that were collected before this call, in one transaction of SQLite, and return when they
        are durable. This method blocks the calling thread: code on an event loop must call `durable` instead. Raise
        StorageFailed if the disk does not accept the changes.
        """
        batch, self._pending = self._pending, _Batch()
        self._commit(batch)

    def close(self) -> None:
        """Write the remaining changes, move the write-ahead log into the database, and close it. Blocks. Raise
        StorageFailed if the disk did not accept a change, now or before; the database is closed all the same.
        """
        self._committer.shutdown()
        try:
            if self._failure is not None:
                raise self._failure
            self.commit()
        finally:
            self._writers.shutdown()
            self._database.close()

    @property
    def _place(self) -> Path:
        return self.directory / DATABASE

    def _begin(self) -> None:
        """Start to write the collected changes on the thread that makes transactions. When they are written, the
        changes that were collected meanwhile are written, until none are left. Called on the event loop; this method
        does not wait.
        """
        with self._lock:
            batch, self._pending = self._pending, _Batch()
        loop = asyncio.get_running_loop()
        self._written = batch.durable

        def done(commit: asyncio.Future[None]) -> None:
            self._written = None
            error = commit.exception()
            waiters = [batch.durable]
            if error is not None:
                self._failure = error if isinstance(error, StorageFailed) else StorageFailed(str(error))
                self.on_failure()
                waiters.append(self._pending.durable)
            for waiter in waiters:
                if waiter is None or waiter.done():
                    continue
                if self._failure is not None:
                    waiter.set_exception(self._failure)
                    waiter.exception()  # retrieved, in case that no caller waits any more
                else:
                    waiter.set_result(None)
            if self._failure is None and self._pending.durable is not None:
                self._begin()

        loop.run_in_executor(self._committer, self._commit, batch).add_done_callback(done)

    def _commit(self, batch: _Batch) -> None:
        try:
            if shards := {body.result().parent for body in batch.bodies}:
                for directory in (*shards, self._objects):
                    sync_directory(directory)
            with self._database:
                self._database.execute("BEGIN")
                for store, key, value in batch.changes:
                    if key is None:
                        self._database.execute(_CLEAR, (store,))
                    elif value is None:
                        self._database.execute(_DELETE, (store, key))
                    else:
                        self._database.execute(_PUT, (store, key, value, zlib.crc32(value)))
        except (OSError, sqlite3.Error) as error:
            raise StorageFailed(f"{self._place} could not be written: {error}") from error
        for name in batch.discarded:
            with contextlib.suppress(OSError):  # otherwise removed at the next start
                (self.directory / name).unlink()


_DIGEST_KEY: Final = re.compile("spaces/[^/]+/objects/([0-9a-f]{64})")
_ADVICE: Final = "restore a backup: syncline restore-backup --help"


@dataclass(frozen=True, slots=True)
class Body:
    """A file with the bytes of an object, as the row of the object names it."""

    name: str
    uploaded_sha256: str | None
    """SHA-256 of the uploaded bytes, in hex; None if the client sent another kind of checksum."""
    named_sha256: str | None
    """The SHA-256 in the object's key, in hex; None if the key is no digest."""

    @property
    def path(self) -> str:
        """The path of the file below the data directory, which is also the name of its entry in a backup."""
        return f"aws/{self.name}"

    def differs(self, sha256: str) -> bool:
        """Return True if `sha256`, the digest of the present bytes in hexadecimal, differs from that of the upload or
        from that in the key of the object: the bytes are damaged now, or were wrong from the start.
        """
        return not {self.uploaded_sha256, self.named_sha256} <= {sha256, None}

    def is_damaged(self, sha256: str) -> bool:
        """Return True if `sha256`, the digest of the present bytes in hexadecimal, differs from that of the uploaded
        bytes. Return False if the upload had no SHA-256.
        """
        return (self.uploaded_sha256 or self.named_sha256) not in {sha256, None}


def body_of(store: str, key: str, value: bytes) -> Body | None:
    """Return the file that the row names, with its known digests; None if the row names no file. `store`, `key` and
    `value` (JSON) are those of the row. Raise ValueError for a malformed row of an object.
    """
    if store != OBJECT_ROWS:
        return None
    match json.loads(key), json.loads(value):
        case [str(), str(), str(object_key)], {"record": {"body_file": str(name), **record}}:
            checksums = record.get("checksums") or {}
            uploaded = checksums.get("SHA256") if isinstance(checksums, dict) else None
            named = _DIGEST_KEY.fullmatch(object_key)
            return Body(
                name,
                None if uploaded is None else base64.b64decode(str(uploaded), validate=True).hex(),
                named[1] if named else None,
            )
        case [str(), str(), str()], {"is_delete_marker": True}:
            return None
    raise ValueError("not a row of an object")


def has_schema(database: sqlite3.Connection) -> bool:
    """Return True if a database has exactly the schema of this module."""
    query = "SELECT type, name, sql FROM sqlite_schema"
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        fresh.execute(_SCHEMA)
        return database.execute(query).fetchall() == fresh.execute(query).fetchall()


def _open(path: Path) -> tuple[sqlite3.Connection, int]:
    log = path.with_name(f"{path.name}-wal")
    log_bytes = log.stat().st_size if log.exists() else 0
    # Checked before SQLite opens the log, because it would drop what it cannot read.
    if (unreadable := unreadable_transactions(log)) > 1:
        raise StorageDamaged(f"{log} is damaged: {unreadable} transactions in it cannot be read; {_ADVICE}")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    # Transactions are controlled by this module; once open, the database is used by the committing thread.
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # the log is on disk before a transaction counts
        database.execute("PRAGMA fullfsync = ON")  # for macOS, where it would otherwise be in the disk's cache only
        database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        database.execute(f"PRAGMA journal_size_limit = {2 * _CHECKPOINT_PAGES * _PAGE_BYTES}")
        # Restart the log: the next transaction would otherwise follow a torn one, whose end would look like damage.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version <= FORMAT:
            database.execute(_SCHEMA)
            database.execute(f"PRAGMA user_version = {FORMAT}")
    except sqlite3.DatabaseError as error:
        database.close()
        if (error.sqlite_errorcode & 0xFF) in _NOT_WRITTEN and shutil.disk_usage(path.parent).free < RESERVE_BYTES:
            raise StorageFailed(f"{path.parent} is on a disk that is full; make room there") from None
        raise StorageDamaged(f"{path} is damaged ({error}); {_ADVICE}") from None
    if version > FORMAT:
        database.close()
        raise StorageDamaged(f"{path} was written by a newer Syncline (format {version}); install that one again")
    return database, log_bytes


def _write(path: Path, body: bytes) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        left = memoryview(body)
        while left:
            left = left[file.write(left) :]
        sync(descriptor)
    return path


def sync(descriptor: int) -> None:
    """Flush the open file `descriptor` to the disk. On macOS `fsync` alone would leave bytes in the disk's cache."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Flush the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _nothing() -> None:
    pass
