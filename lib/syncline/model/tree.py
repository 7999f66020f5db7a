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
    """One immutable content of a file or symlink.

    `digest` is the SHA-256 of the whole content (for a symlink, of the target's UTF-8), `size` its size in bytes,
    `mtime_ns` its modification time in nanoseconds since 1970; a time that does not fit into 64 bits is replaced by the
    nearest time that fits (years 1677 to 2262). `manifest_object`, if not empty, is a sealed object that contains the
    manifest.
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
    """Return the time if it can be stored, otherwise the nearest time that can be stored."""
    return max(FIRST_TIME_NS, min(time_ns, LAST_TIME_NS))


@dataclass(frozen=True, slots=True)
class Node:
    """A node's complete state as of journal entry `seq`.

    `version` is 0 and `content` None for a directory. `deleted_at_ms` is 0 unless the node itself was deleted; the node
    is live if neither the node nor an ancestor of it is deleted. Times are milliseconds since 1970.
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
    """One version of a file: its number, its content, its author and device, and its time (milliseconds since 1970)."""

    number: int
    content: Content
    user: str
    device: str
    committed_at_ms: int


@dataclass(frozen=True, slots=True)
class CreateNode:
    """Create a node; its id is derived from the request (`syncline.model.identifiers.created_node_id`)."""

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
    """Move or rename the node at `from_parent`/`from_name`, with everything below it."""

    node: NodeId
    from_parent: NodeId
    from_name: str
    parent: NodeId
    name: str


@dataclass(frozen=True, slots=True)
class DeleteNode:
    """Move a node, whose current version is `base_version`, to the trash with everything below it.

    With `discard`, a node whose removal loses nothing leaves no trace in the trash: an empty directory, or a file each
    of whose versions is empty or one of the last versions of the file `kept_in`.
    """

    node: NodeId
    base_version: int
    discard: bool = False
    kept_in: NodeId | None = None


@dataclass(frozen=True, slots=True)
class RestoreNode:
    """Restore a node from the trash; `parent` and `name`, if given, are its new directory and name."""

    node: NodeId
    parent: NodeId | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class RestoreVersion:
    """Make version `version` of a file, whose current version is `base_version`, its newest version."""

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
    """The verdict on one mutation, and a node: its new state if the mutation was accepted, otherwise the blocking node.

    `change` is the effect of an accepted mutation, and `moved_from` the former place (parent and name) of a moved node.
    """

    verdict: Verdict
    node: Node | None = None
    change: Change | None = None
    moved_from: tuple[NodeId, str] | None = None
