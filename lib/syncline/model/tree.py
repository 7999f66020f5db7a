"""The values of a space: nodes, their contents, and the changes that a client requests."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from syncline.model.blocks import EMPTY_MANIFEST, Digest, Manifest
from syncline.model.identifiers import NodeId
from syncline.model.verdicts import Verdict

MAX_MUTATIONS = 2000
"""Maximum number of mutations in one request."""
MAX_REQUEST_BYTES = 300_000
"""Maximum serialised size of the mutations in one request, in bytes, which leaves room for their results in a journal
entry.
"""
MAX_CHECK_FILES = 1000
"""Maximum number of files in one batch of a version check."""


FIRST_TIME_NS, LAST_TIME_NS = -(1 << 63), (1 << 63) - 1
"""The first and the last time that can be stored, in nanoseconds since 1970."""


class NodeKind(Enum):
    """The kind of a node, which never changes. The values are those of the wire."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file or the target of a symlink, at one time, with the facts about them. A value never changes: a
    saved file gets another Content.

    - `digest` is the SHA-256 of the whole content; for a symlink, of the target as UTF-8.
    - `size` is in bytes.
    - `mtime_ns` is the modification time in nanoseconds since 1970. A time that does not fit into 64 bits is replaced
      by the nearest one that fits (years 1677 to 2262).
    - `executable` is the executable bit of a file.
    - `manifest` lists the blocks. A long manifest is an object of its own: `manifest` is then empty, and
      `manifest_object` is the digest of the sealed object that contains the manifest.
    - `target` is the target of a symlink, and empty for a file.
    """

    digest: Digest
    size: int
    mtime_ns: int = 0
    executable: bool = False
    manifest: Manifest = EMPTY_MANIFEST
    manifest_object: bytes = b""
    target: str = ""

    def __post_init__(self) -> None:
        if not FIRST_TIME_NS <= self.mtime_ns <= LAST_TIME_NS:
            object.__setattr__(self, "mtime_ns", fitting_time_ns(self.mtime_ns))


def fitting_time_ns(time_ns: int) -> int:
    """Return `time_ns`, in nanoseconds since 1970, if it fits into 64 bits; otherwise the nearest time that fits."""
    return max(FIRST_TIME_NS, min(time_ns, LAST_TIME_NS))


@dataclass(frozen=True, slots=True)
class Node:
    """A file, directory or symlink, with its state as of the journal entry with sequence number `seq`.

    - `version` is 0 and `content` None for a directory.
    - `deleted_at_ms` is 0 unless this node itself was deleted. A node whose ancestor was deleted is not live either,
      but its `deleted_at_ms` stays 0.
    - `user`, `device` and `committed_at_ms` say who committed the current content, and when; a move does not change
      them.

    Times are milliseconds since 1970.
    """

    id: NodeId
    parent: NodeId
    name: str
    kind: NodeKind
    version: int = 0
    content: Content | None = None
    seq: int = 0
    deleted_at_ms: int = 0
    user: str = ""
    device: str = ""
    committed_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """One version in the history of a file: its number, the content that the file got, the ids of the user and the
    device that committed it, and the time in milliseconds since 1970.
    """

    number: int
    content: Content
    user: str
    device: str
    committed_at_ms: int


@dataclass(frozen=True, slots=True)
class CreateNode:
    """A mutation: create a node in the directory `parent`. The service derives the id of the node from the request
    (`syncline.model.identifiers.created_node_id`). `content` is None for a directory.
    """

    parent: NodeId
    name: str
    kind: NodeKind
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class UpdateContent:
    """A mutation: make `content` the new version of a file or symlink. The service refuses the mutation if the current
    version is no longer `base_version`, because the client would overwrite a version that it has not seen.
    """

    node: NodeId
    base_version: int
    content: Content


@dataclass(frozen=True, slots=True)
class MoveNode:
    """A mutation: move or rename a node, with everything below it, to `name` in the directory `parent`. The service
    refuses the mutation unless the node still has the name `from_name` in the directory `from_parent`.
    """

    node: NodeId
    from_parent: NodeId
    from_name: str
    parent: NodeId
    name: str


@dataclass(frozen=True, slots=True)
class DeleteNode:
    """A mutation: move a node, with everything below it, to the trash. `base_version` is the version that the client
    has seen, 0 for a directory; the service refuses the mutation if the current version is another one.

    With `discard`, a node that holds nothing worth keeping is removed without a trace in the trash. Any other node goes
    to the trash as usual. These nodes hold nothing worth keeping:

    - an empty directory;
    - a file of at most four versions, each of which is empty or equal to one of the last four versions of `kept_in`.

    `kept_in` is the id of another live file, or None to compare with no file.
    """

    node: NodeId
    base_version: int
    discard: bool = False
    kept_in: NodeId | None = None


@dataclass(frozen=True, slots=True)
class RestoreNode:
    """A mutation: restore a node from the trash. `parent` is the id of the directory into which it is put, or None for
    the directory that it was in. `name` is its new name; an empty name stands for the name that it had.
    """

    node: NodeId
    parent: NodeId | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class RestoreVersion:
    """A mutation: make the content of the earlier version `version` the newest version of a file. The service refuses
    the mutation if the current version is no longer `base_version`.
    """

    node: NodeId
    version: int
    base_version: int


Mutation = CreateNode | UpdateContent | MoveNode | DeleteNode | RestoreNode | RestoreVersion


class Change(Enum):
    """The effect that an accepted mutation had on its node. The values are those of the wire."""

    CREATED = 1
    UPDATED = 2
    MOVED = 3
    DELETED = 4
    RESTORED = 5
    DISCARDED = 6


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one mutation, and the node that it is about.

    - For an accepted mutation, `node` is its new state and `change` the effect. `moved_from` is the former parent and
      name of a node that was moved, otherwise None.
    - For a refused mutation, `node` is the node that is the reason of the refusal, such as the node that already has
      the name; None if there is none. `change` and `moved_from` are None.
    """

    verdict: Verdict
    node: Node | None = None
    change: Change | None = None
    moved_from: tuple[NodeId, str] | None = None
