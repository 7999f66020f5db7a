"""The values that a space consists of: nodes, their contents, and the changes that a client asks for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from syncline.model.blocks import EMPTY_MANIFEST, Digest, Manifest
from syncline.model.identifiers import NodeId
from syncline.model.verdicts import Verdict

MAX_MUTATIONS = 2000
"""Mutations in one request."""
MAX_REQUEST_BYTES = 300_000
"""Serialised mutations in one request: what a journal entry can hold beside their results."""
MAX_CHECK_BATCH = 1000
"""Files in one batch of a version check."""


FIRST_TIME_NS, LAST_TIME_NS = -(1 << 63), (1 << 63) - 1
"""The times that can be stored, in nanoseconds since 1970."""


class NodeKind(Enum):
    """The kind of a node, which never changes. The values are those of the wire."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3


@dataclass(frozen=True, slots=True)
class Content:
    """One immutable content of a file or symlink.

    `digest` is the SHA-256 of the whole (of the target's UTF-8 for a symlink), `size` in bytes, `mtime_ns` in
    nanoseconds since 1970; a time that 64 bits cannot hold becomes the nearest that they can (years 1677 to 2262).
    `manifest_object`, if not empty, is a sealed object that holds the manifest.
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
    """The time, or the nearest that can be stored."""
    return max(FIRST_TIME_NS, min(time_ns, LAST_TIME_NS))


@dataclass(frozen=True, slots=True)
class Node:
    """A node's whole state as of journal entry `seq`.

    `version` is 0 and `content` None for a directory. `deleted_at_ms` is 0 unless the node was deleted itself; it is
    live when neither it nor an ancestor is deleted. Times are milliseconds since 1970.
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
    """One version of a file: number, content, and who made it where and when (milliseconds since 1970)."""

    number: int
    content: Content
    user: str
    device: str
    committed_at_ms: int


@dataclass(frozen=True, slots=True)
class CreateNode:
    """Make a node; its id follows from the request (`syncline.model.identifiers.created_node_id`)."""

    parent: NodeId
    name: str
    kind: NodeKind
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class UpdateContent:
    """Give a file or symlink, whose current version is `base_version`, a new version."""

    node: NodeId
    base_version: int
    content: Content


@dataclass(frozen=True, slots=True)
class MoveNode:
    """Move or rename a node that is at `from_parent`/`from_name`, with all that is below it."""

    node: NodeId
    from_parent: NodeId
    from_name: str
    parent: NodeId
    name: str


@dataclass(frozen=True, slots=True)
class DeleteNode:
    """Put a node, whose current version is `base_version`, into the trash with all that is below it.

    With `discard`, a node of which nothing would be lost does not come into the trash: an empty directory, or a file
    each of whose versions is empty or one of the last of the file `kept_in`.
    """

    node: NodeId
    base_version: int
    discard: bool = False
    kept_in: NodeId | None = None


@dataclass(frozen=True, slots=True)
class RestoreNode:
    """Take a node out of the trash; `parent` and `name`, where given, say where to."""

    node: NodeId
    parent: NodeId | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class RestoreVersion:
    """Make version `version` of a file, whose current version is `base_version`, its newest again."""

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
    """The verdict on one mutation, and the node: its new state if accepted, else the one that stands in the way.

    `change` says what an accepted mutation did, `moved_from` where it took the node from.
    """

    verdict: Verdict
    node: Node | None = None
    change: Change | None = None
    moved_from: tuple[NodeId, str] | None = None
