"""The state that a device keeps about a synced folder, in SQLite:

- the mirror, a copy of the space's tree as of a cursor of the journal;
- the base, the last state of each node on which folder and space agreed;
- the object and offset in S3 of each block that is known to be in the space;
- the commits in flight, whose answers are unknown.

None of it is needed to keep data safe. Without it, the next sync compares the folder and the space as if they had never
been synced, and unites them. Writes are collected until `commit`, which makes them durable. A State must be used within
`state_errors`, because any access may detect a damaged file. The database accepts names of any form; names from the
space are checked when the trees are made.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.blocks import EMPTY_MANIFEST, MIN_BLOCK_BYTES, BlockRef, Digest, MalformedManifest, Manifest
from syncline.model.identifiers import NodeId, RequestId
from syncline.model.tree import Content, Mutation, Node, NodeKind
from syncline.sdk.right import Right
from syncline.sync.errors import StateDamaged, StateUnusable
from syncline.sync.trees import BaseNode, Exclusion, RemoteNode
from syncline.transfer.jobs import Signature, Suspect
from syncline.wire.tree import manifest_from_wire, manifest_to_wire, mutation_from_wire, mutation_to_wire

_MIGRATIONS = files("syncline.sync.state") / "migrations"
"""Files `NNNN-name.sql`, each of which migrates the preceding format to format NNNN."""

_MAX_GATHERED_NODES = 2000
"""Maximum number of nodes that are held in memory before they are written."""
_LOOKUP_NODES = 500
"""Maximum number of nodes in one statement; some builds of SQLite allow 999 parameters."""
_REMOTE_COLUMNS = 17
_BASE_COLUMNS = 14
_DAMAGED = {11, 26}  # SQLITE_CORRUPT, SQLITE_NOTADB
_SIGN = 1 << 63


@dataclass(frozen=True, slots=True)
class Evidence:
    """Facts about the local file that was read for a mutation, to be recorded in the base when the space has accepted
    the mutation: the signature of the file, whether the signature can be trusted (`BaseNode.trusted`), and the spelling
    of the file's name.
    """

    signature: Signature
    trusted: bool
    local_name: str


@dataclass(frozen=True, slots=True)
class InFlight:
    """A commit that was sent, or was about to be sent, and whose answer is unknown. `evidence` has the facts for each
    of `mutations`, in order; None for a mutation without a local file that was read.
    """

    request: RequestId
    mutations: tuple[Mutation, ...]
    evidence: tuple[Evidence | None, ...]
    right: Right | None = None
    """The right that the mutations are based on; None if the service has reported none."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The values that a sync records when it found nothing to do: the fingerprint of the folder, and the number of
    sockets, pipes and devices that were skipped. If the fingerprint is the same at the next sync, and the journal has
    no new entry, that sync ends at once.
    """

    fingerprint: bytes
    skipped: int


@dataclass(frozen=True, slots=True)
class Unobtainable:
    """A content that could not be obtained, and the reason.

    A sync tries to obtain the content again in these cases:

    - the node's content differs from `content`;
    - the `suspect`, the object that caused the failure, was replaced;
    - `pause_seconds` have passed since the last attempt.

    Without a suspect, the content contradicts itself or is impossible on this device, and only a different content
    helps.
    """

    content: bytes
    reason: str
    suspect: Suspect | None
    tried_at: int
    """Time of the last attempt, in seconds since 1970."""
    pause_seconds: int

    def is_over(self, now: int) -> bool:
        """Return True if the pause is over at `now`, in seconds since 1970. A clock that was set back does not prolong
        the pause.
        """
        return not 0 <= now - self.tried_at < self.pause_seconds


class State:
    """Reads and writes the state database of one folder. To be used by one thread, except for `known_block`."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._db = connection
        self._path = path
        self._lookups: sqlite3.Connection | None = None
        self._lookup_lock = threading.Lock()
        self._nodes: dict[NodeId, Node] = {}
        self._base: dict[NodeId, BaseNode | None] = {}

    @classmethod
    def open(cls, path: Path) -> State:
        """Open or create the database at `path`, and return its State. Raise StateDamaged if the file is damaged, and
        StateUnusable if it cannot be opened or has a newer format.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with state_errors(path):
            connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                return cls(connection, path)._prepared()
            except BaseException:
                connection.close()
                raise

    @classmethod
    def in_memory(cls, path: Path | None = None) -> State:
        """Return a private in-memory copy of the database at `path`, or an empty one. Raise the errors of `open`."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        try:
            if path is not None and path.exists():
                with state_errors(path):
                    original = sqlite3.connect(path, timeout=30.0)
                    try:
                        original.backup(connection)
                    finally:
                        original.close()
            return cls(connection, None)._prepared()
        except BaseException:
            connection.close()
            raise

    def _prepared(self) -> State:
        _migrate(self._db, self._path)
        return self

    def close(self) -> None:
        """Close the database and drop uncommitted changes. Afterwards, `known_block` finds nothing."""
        # An interrupted run may leave threads that still call `known_block`: SQLite must not be closed during such a
        # call.
        with self._lookup_lock:
            if self._lookups is not None:
                self._lookups.close()
            self._lookups = self._path = None
        if self._db.in_transaction:
            self._db.rollback()
        self._db.close()

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def commit(self) -> None:
        """Commit the transaction: make all writes after the last commit durable."""
        self._write()
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    # ---- the mirror of the space ----

    @property
    def cursor(self) -> bytes:
        """The journal cursor from which the next listing continues; empty at the beginning."""
        return bytes(self._meta("cursor") or b"")

    @cursor.setter
    def cursor(self, cursor: bytes) -> None:
        self._begin()
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('cursor', ?)", (cursor,))

    @property
    def told_seq(self) -> int:
        """The sequence number of the cursor. Nodes with a higher one are known only from answers to commits."""
        seq = self._meta("seq")
        if seq is None and self.cursor:  # written by a client that did not record the number
            return _SIGN - 1
        return int(seq or 0)

    @told_seq.setter
    def told_seq(self, seq: int) -> None:
        self._begin()
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('seq', ?)", (seq,))

    def load_remote(self) -> dict[NodeId, RemoteNode]:
        """Return all nodes of the space that the state has stored, including deleted ones, by id."""
        kinds = {kind.value: kind for kind in NodeKind}
        return {
            NodeId(id_): RemoteNode(
                id=NodeId(id_),
                parent=NodeId(parent),
                name=name,
                kind=kinds[kind],
                version=version,
                digest=digest,
                executable=executable == 1,
                size=size,
                seq=seq,
                deleted=deleted_at_ms != 0,
            )
            for id_, parent, name, kind, version, digest, executable, size, seq, deleted_at_ms in self._db.execute(
                "SELECT id, parent, name, kind, version, digest, executable, size, seq, deleted_at_ms FROM remote"
            )
        }

    def put_node(self, node: Node) -> None:
        """Store a state of a node, replacing any earlier one."""
        self._nodes[node.id] = node
        if len(self._nodes) >= _MAX_GATHERED_NODES:
            self._write()

    def clear_remote(self) -> None:
        """Remove all nodes of the space from the state."""
        self._begin()
        self._nodes.clear()
        self._db.execute("DELETE FROM remote")

    def drop_deleted(self) -> None:
        """Remove the records of the nodes that were deleted themselves. To be called only when the cursor is after
        their deletion. The records are not needed then: a restore is listed with the whole node.
        """
        self._begin()
        self._write()
        self._db.execute("DELETE FROM remote WHERE deleted_at_ms != 0")

    def contents(self, nodes: Sequence[NodeId]) -> dict[NodeId, Content]:
        """Return the current content of each of these nodes, including its manifest, by node id."""
        self._write()
        found = {}
        for start in range(0, len(nodes), _LOOKUP_NODES):
            some = nodes[start : start + _LOOKUP_NODES]
            rows = self._db.execute(
                "SELECT id, digest, size, mtime_ns, executable, target, manifest, manifest_object FROM remote "  # noqa: S608
                f"WHERE digest IS NOT NULL AND id IN ({_marks(len(some))})",
                some,
            )
            for node, digest, size, mtime_ns, executable, target, manifest, manifest_object in rows:
                found[NodeId(node)] = Content(
                    digest, size, mtime_ns, executable == 1, _manifest(manifest), manifest_object, target
                )
        return found

    # ---- the base ----

    def load_base(self) -> dict[NodeId, BaseNode]:
        kinds = {kind.value: kind for kind in NodeKind}
        return {
            NodeId(id_): BaseNode(
                id=NodeId(id_),
                parent=NodeId(parent),
                name=name,
                kind=kinds[kind],
                version=version,
                digest=digest,
                executable=executable == 1,
                signature=Signature(size, mtime_ns, ctime_ns, inode % (2 * _SIGN)),
                local_name=local_name if local_name is not None else name,
                trusted=trusted == 1,
                filesystem=filesystem,
            )
            for (
                id_,
                parent,
                name,
                kind,
                version,
                digest,
                executable,
                size,
                mtime_ns,
                ctime_ns,
                inode,
                local_name,
                trusted,
                filesystem,
            ) in self._db.execute(
                "SELECT id, parent, name, kind, version, digest, executable, size, mtime_ns, ctime_ns, inode, "
                "local_name, trusted, filesystem FROM base"
            )
        }

    @property
    def right(self) -> Right | None:
        """The right that this device had in the space at the last sync; None if the service never reported it."""
        since = self._meta("right")
        return None if since is None else Right(read_only=since < 0, writes_since_ms=max(since, 0))

    @right.setter
    def right(self, right: Right) -> None:
        self._begin()
        since = -1 if right.read_only else right.writes_since_ms
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('right', ?)", (since,))

    @property
    def refused(self) -> bool:
        """True if the space has refused a commit since the last sync, because this device lacked the right."""
        return bool(self._meta("refused"))

    @refused.setter
    def refused(self, refused: bool) -> None:
        self._begin()
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('refused', ?)", (refused,))

    @property
    def outside_links(self) -> bool:
        """True if symlinks that lead out of the folder are made here."""
        return bool(self._meta("outside_links") != 0)

    @outside_links.setter
    def outside_links(self, wanted: bool) -> None:
        self._write()
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('outside_links', ?)", (int(wanted),))

    @property
    def place(self) -> tuple[Path, str] | None:
        """The path of the folder at the last sync, and the name of its filesystem (`mounts.OpenDirectory.name`); None
        before the first sync.
        """
        root, filesystem = self._meta("root"), self._meta("filesystem")
        return None if root is None or filesystem is None else (Path(os.fsdecode(root)), str(filesystem))

    @place.setter
    def place(self, place: tuple[Path, str]) -> None:
        self._begin()
        root, filesystem = place
        rows = [("root", os.fsencode(root)), ("filesystem", filesystem)]
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def put_base(self, node: BaseNode) -> None:
        self._base[node.id] = node

    def remove_base(self, node: NodeId) -> None:
        self._base[node] = None

    def base_manifest(self, node: NodeId) -> Manifest:
        """Return the manifest of the content of a file on which folder and space last agreed; an empty manifest if the
        content has few blocks, so that its manifest was not stored.
        """
        manifest = self._value("SELECT manifest FROM base WHERE id = ?", node)
        return _manifest(manifest) if manifest else EMPTY_MANIFEST

    # ---- where blocks are ----

    def known_block(self, digest: Digest) -> BlockRef | None:
        """Return the object, offset and length under which a block is stored in the space; None if that is unknown. May
        be called from any thread, at any time; blocks that were added since the last `commit` are not found.
        """
        with self._lookup_lock:
            if self._path is None:
                return None
            if self._lookups is None:
                self._lookups = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            row = self._lookups.execute(
                "SELECT object, offset, length FROM block WHERE digest = ?", (digest,)
            ).fetchone()
        if row is None:
            return None
        object_, offset, length = row
        return BlockRef(digest=digest, length=length, object=Digest(object_), offset=offset)

    def forget_blocks(self) -> None:
        """Remove the stored positions of all blocks, so that they are looked up again. To be called when the space has
        lost some blocks.
        """
        self._begin()
        self._db.execute("DELETE FROM block")

    # ---- contents that cannot be had ----

    def unobtainable(self, nodes: Sequence[NodeId]) -> dict[NodeId, Unobtainable]:
        """Return the record of the unobtainable content of each of these nodes that has one, by node id."""
        found = {}
        for start in range(0, len(nodes), _LOOKUP_NODES):
            some = nodes[start : start + _LOOKUP_NODES]
            rows = self._db.execute(
                "SELECT node, content, reason, object, tag, tried_at, pause FROM unobtainable "  # noqa: S608
                f"WHERE node IN ({_marks(len(some))})",
                some,
            )
            for node, content, reason, object_, tag, tried_at, pause in rows:
                suspect = Suspect(Digest(object_), tag) if object_ is not None else None
                found[NodeId(node)] = Unobtainable(content, reason, suspect, tried_at, pause)
        return found

    def put_unobtainable(self, node: NodeId, what: Unobtainable) -> None:
        """Record that the content of a node could not be obtained, as `what` describes. Remove such records of other
        nodes that the space does not have any more.
        """
        self._begin()
        self._db.execute("DELETE FROM unobtainable WHERE node NOT IN (SELECT id FROM remote WHERE deleted_at_ms = 0)")
        object_, tag = (what.suspect.object, what.suspect.tag) if what.suspect is not None else (None, "")
        self._db.execute(
            "INSERT OR REPLACE INTO unobtainable VALUES (?, ?, ?, ?, ?, ?, ?)",
            (node, what.content, what.reason, object_, tag, what.tried_at, what.pause_seconds),
        )

    def forget_unobtainable(self, node: NodeId | None = None) -> None:
        """Remove the record of the node, whose content was obtained; without a node, remove all records, so that all
        contents are tried again.
        """
        self._begin()
        self._db.execute("DELETE FROM unobtainable WHERE node = ?1 OR ?1 IS NULL", (node,))

    # ---- the commit in flight ----

    def put_in_flight(self, commit: InFlight) -> None:
        self._begin()
        request = metadata_pb2.CommitChangesRequest(
            mutations=map(mutation_to_wire, commit.mutations),
            writes_since_ms=commit.right.writes_since_ms if commit.right is not None else None,
        )
        evidence = [
            [
                seen.signature.size,
                seen.signature.mtime_ns,
                seen.signature.ctime_ns,
                seen.signature.inode,
                seen.trusted,
                seen.local_name,
            ]
            if seen
            else None
            for seen in commit.evidence
        ]
        self._db.execute(
            "INSERT OR REPLACE INTO in_flight VALUES (?, ?, ?)",
            (commit.request, request.SerializeToString(), json.dumps(evidence)),
        )

    def in_flight(self) -> list[InFlight]:
        """Return the commits whose answer is unknown."""
        rows = self._db.execute("SELECT request_id, mutations, evidence FROM in_flight").fetchall()
        requests = [
            (RequestId(request_id), metadata_pb2.CommitChangesRequest.FromString(mutations), evidence)
            for request_id, mutations, evidence in rows
        ]
        return [
            InFlight(
                id_,
                tuple(map(mutation_from_wire, request.mutations)),
                tuple(_evidence(seen) if seen else None for seen in json.loads(evidence)),
                Right(writes_since_ms=request.writes_since_ms) if request.HasField("writes_since_ms") else None,
            )
            for id_, request, evidence in requests
        ]

    def remove_in_flight(self, request: RequestId) -> None:
        self._begin()
        self._db.execute("DELETE FROM in_flight WHERE request_id = ?", (request,))

    # ---- what this device leaves out ----

    def excluded(self) -> list[Exclusion]:
        """Return all exclusions, sorted by path."""
        rows = self._db.execute("SELECT path, node FROM excluded ORDER BY path")
        return [Exclusion(path, NodeId(node) if node is not None else None) for path, node in rows]

    def put_excluded(self, exclusion: Exclusion) -> None:
        self._begin()
        self._db.execute("INSERT OR REPLACE INTO excluded VALUES (?, ?)", (exclusion.path, exclusion.node))

    def remove_excluded(self, path: str) -> None:
        self._begin()
        self._db.execute("DELETE FROM excluded WHERE path = ?", (path,))

    @property
    def included(self) -> tuple[str, ...]:
        """Return the paths that the last change of exclusions has included again, from the folder's root."""
        return tuple(json.loads(self._meta("included") or "[]"))

    @included.setter
    def included(self, paths: tuple[str, ...]) -> None:
        self._begin()
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('included', ?)", (json.dumps(paths),))

    # ---- whether anything is left to do ----

    @property
    def settled(self) -> Settled | None:
        """Return the values of the last settled sync; None if anything was written after it."""
        row = self._db.execute("SELECT fingerprint, skipped FROM settled").fetchone()
        return Settled(*row) if row else None

    @settled.setter
    def settled(self, settled: Settled) -> None:
        self._write()
        self._begin()
        self._db.execute("INSERT INTO settled VALUES (?, ?)", (settled.fingerprint, settled.skipped))

    # ---- inside ----

    def _meta(self, key: str) -> Any:
        return self._value("SELECT value FROM meta WHERE key = ?", key)

    def _value(self, query: str, key: str | bytes) -> Any:
        """Return the one value that a query for one column finds by a key; None if there is no such row."""
        (value,) = self._db.execute(query, (key,)).fetchone() or (None,)
        return value

    def _begin(self) -> None:
        """Begin a transaction if none is open. Every write calls this first."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM settled")

    def _write(self) -> None:
        if not self._nodes and not self._base:
            return
        self._begin()
        rows, blocks = [], []
        for node in self._nodes.values():
            rows.append(_remote_row(node))
            if node.content is not None and not node.deleted_at_ms:
                blocks += _block_rows(node.content.manifest)
        self._db.executemany(f"INSERT OR REPLACE INTO remote VALUES ({_marks(_REMOTE_COLUMNS)})", rows)  # noqa: S608
        self._db.executemany("INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?)", blocks)
        removed = [(node,) for node, base in self._base.items() if base is None]
        self._db.executemany("DELETE FROM base WHERE id = ?", removed)
        # A later download cannot reuse blocks of a file that is one block.
        self._db.executemany(
            f"INSERT OR REPLACE INTO base VALUES ({_marks(_BASE_COLUMNS)},"  # noqa: S608
            f" (SELECT manifest FROM remote WHERE id = ?1 AND size > {MIN_BLOCK_BYTES}))",
            [_base_row(base) for base in self._base.values() if base is not None],
        )
        self._nodes.clear()
        self._base.clear()


def migrations() -> list[tuple[int, str]]:
    """Return the formats and the scripts that migrate to them, in order."""
    found = [(int(one.name[:4]), one.read_text()) for one in _MIGRATIONS.iterdir() if one.name.endswith(".sql")]
    return sorted(found)


def _migrate(db: sqlite3.Connection, path: Path | None) -> None:
    """Migrate a database to the newest format in one transaction. Raise StateUnusable, and change nothing, if the
    format is newer than this program knows.
    """
    steps = migrations()
    newest, _ = steps[-1]
    if _format_of(db) == newest:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        found = _format_of(db)  # read again, now that no other process is migrating
        if found > newest:
            raise StateUnusable(
                f"{path} was written by a newer version of Syncline (format {found}, this one knows {newest}); "
                "nothing was changed, update this client"
            )
        for number, script in steps:
            if number > found:
                for statement in _statements(script):
                    db.execute(statement)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('format', ?)", (newest,))
        db.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


def _format_of(db: sqlite3.Connection) -> int:
    """Return the format of a database; 0 for an empty one."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
        return 0
    (number,) = db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone() or (0,)
    return int(number)


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script one by one: SQLite's own way to run a script ends the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def set_aside(path: Path, now: datetime) -> Path:
    """Rename a damaged database, with its log files, so that a new one can be created at `path`. Return the new path of
    the damaged database, which contains the time `now`.
    """
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%d-%H%M%S}")
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


@contextmanager
def state_errors(path: Path | None) -> Iterator[None]:
    """Context that converts errors of SQLite in its body to StateDamaged, if the file is damaged, or else to
    StateUnusable. `path` is the path of the database, for the texts of the errors.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise StateDamaged(f"the state database {path} is damaged ({error})") from None
        raise StateUnusable(f"the state database {path} cannot be used ({error}); fix that and sync again") from None


def _marks(count: int) -> str:
    return ", ".join(f"?{number}" for number in range(1, count + 1))


def _remote_row(node: Node) -> tuple[Any, ...]:
    content = node.content
    manifest = b""
    if content is not None and content.manifest.lengths:
        manifest = manifest_to_wire(content.manifest).SerializeToString()
    return (
        node.id,
        node.parent,
        node.name,
        node.kind.value,
        node.version,
        content.digest if content else None,
        content.size if content else 0,
        content.mtime_ns if content else 0,
        content.executable if content else False,
        content.target if content else "",
        manifest,
        content.manifest_object if content else b"",
        node.seq,
        node.deleted_at_ms,
        node.user,
        node.device,
        node.committed_at_ms,
    )


def _block_rows(manifest: Manifest) -> list[tuple[Any, ...]]:
    try:
        manifest.check()
    except MalformedManifest:
        return []
    return [(ref.digest, ref.object, ref.offset, ref.length) for ref in manifest.refs()]


def _base_row(node: BaseNode) -> tuple[Any, ...]:
    signature = node.signature
    return (
        node.id,
        node.parent,
        node.name,
        node.kind.value,
        node.version,
        node.digest,
        node.executable,
        signature.size,
        signature.mtime_ns,
        signature.ctime_ns,
        (signature.inode + _SIGN) % (2 * _SIGN) - _SIGN,  # SQLite's integers have 64 bits with a sign
        node.local_name if node.local_name != node.name else None,
        node.trusted,
        node.filesystem,
    )


def _evidence(columns: Sequence[Any]) -> Evidence:
    """Return the evidence that `put_in_flight` wrote as these columns."""
    size, mtime_ns, ctime_ns, inode, trusted, local_name = columns
    return Evidence(Signature(size, mtime_ns, ctime_ns, inode), trusted, local_name)


def _manifest(blob: bytes) -> Manifest:
    return manifest_from_wire(journal_pb2.Manifest.FromString(blob)) if blob else EMPTY_MANIFEST
