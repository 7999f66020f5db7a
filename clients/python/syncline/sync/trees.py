"""The three trees that a plan is made from: the base, the folder and the space, all keyed by node id.

A node that exists only locally has a provisional id, which is longer than ids of the space. Names are in NFC; the local
spelling of a name is kept beside it, so that no file is renamed for its spelling.
"""

from __future__ import annotations

import dataclasses
import heapq
import re
from collections.abc import Mapping
from dataclasses import dataclass

from syncline.model.blocks import Digest
from syncline.model.identifiers import ID_BYTES, ROOT, NodeId
from syncline.model.names import MAX_PATH_BYTES, MAX_PATH_NAMES, RESERVED_AT_ROOT, SCRATCH_PREFIX, name_problem
from syncline.model.tree import Node, NodeKind
from syncline.sync.filesystem_names import EVERY_NAME, Naming
from syncline.transfer.jobs import Signature

Place = tuple[NodeId, str]
"""A position in a tree: the id of the parent directory, and the name in it."""


@dataclass(frozen=True, slots=True)
class BaseNode:
    """A node as it was when folder and space last agreed on it.

    - `name` is in NFC, `local_name` its spelling in the folder.
    - `signature` is that of the local file when it had this content; for a directory, its inode only.
    - `trusted` is False if the file could have changed since it was read without a change of its signature, so that it
      has to be read again.
    - `filesystem` is the name of the filesystem that was mounted at a directory, and empty if that was the filesystem
      of its parent.
    """

    id: NodeId
    parent: NodeId
    name: str
    kind: NodeKind
    version: int
    digest: Digest | None
    executable: bool
    signature: Signature
    local_name: str
    trusted: bool = True
    filesystem: str = ""

    @property
    def place(self) -> Place:
        return self.parent, self.name


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node as it is in the folder.

    - `digest` is None for a file whose content equals none of those that it was compared with.
    - `home` is the former parent and name of a node that was found under a temporary name, which an interrupted move
      left; otherwise None.
    - `seen` is False for a node in a directory that cannot be read now; the node is assumed to be unchanged.
    - `filesystem` is empty unless another filesystem is mounted at this directory.
    """

    id: NodeId
    parent: NodeId
    name: str
    kind: NodeKind
    digest: Digest | None
    executable: bool
    signature: Signature
    local_name: str
    trusted: bool = True
    filesystem: str = ""
    home: Place | None = None
    seen: bool = True

    @property
    def place(self) -> Place:
        return self.home or (self.parent, self.name)


@dataclass(frozen=True, slots=True)
class RemoteNode:
    """A node as it is in the space, without the values that only transfers need.

    - `version` is 0 and `digest` None for a directory. `size` is in bytes.
    - `seq` is the sequence number of the entry that has this state.
    - `deleted` is True if the node itself was deleted, and not only a directory above it.
    """

    id: NodeId
    parent: NodeId
    name: str
    kind: NodeKind
    version: int
    digest: Digest | None
    executable: bool
    size: int
    seq: int
    deleted: bool = False

    @property
    def place(self) -> Place:
        return self.parent, self.name

    @classmethod
    def of(cls, node: Node) -> RemoteNode:
        content = node.content
        return cls(
            id=node.id,
            parent=node.parent,
            name=node.name,
            kind=node.kind,
            version=node.version,
            digest=content.digest if content else None,
            executable=content.executable if content else False,
            size=content.size if content else 0,
            seq=node.seq,
            deleted=node.deleted_at_ms != 0,
        )


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A path that this device does not sync, and the space's node at that path. The exclusion follows the node when it
    is renamed.
    """

    path: str
    node: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A file, directory or symlink that was not synced, by its path from the folder's root, and the reason in words for
    people.
    """

    path: str
    reason: str


# ---- provisional ids ----

_NEW, _RECREATED, _COPY = b"\1", b"\2", b"\3"


def new_local_id(number: int) -> NodeId:
    """Return the provisional id of the local entry with this number."""
    return NodeId(_NEW + number.to_bytes(ID_BYTES, "big"))


def recreated_id(node: NodeId) -> NodeId:
    """Return the provisional id of a node that was deleted in the space and is created again from its local copy."""
    return NodeId(_RECREATED + node)


def copy_id(node: NodeId) -> NodeId:
    """Return the provisional id of the conflict copy of a node."""
    return NodeId(_COPY + node)


def is_provisional(node: NodeId) -> bool:
    return len(node) != ID_BYTES


def original_id(node: NodeId) -> NodeId:
    """Return the id that a recreated node, or the original of a conflict copy, has in the local tree; for other nodes,
    return `node` itself.
    """
    return NodeId(node[1:]) if node[:1] in {_RECREATED, _COPY} and is_provisional(node) else node


# ---- names in transit ----

RECOVERED = "recovered item"
"""Name of an item that an interrupted run had moved aside and whose original name is unknown."""
_TRANSIT = re.compile(r"\.syncline-((?:[0-9a-f]{2})+)")


def transit_name(node: NodeId) -> str:
    """Return the temporary name of a node that is moved aside because another node gets its name first. It contains the
    id, so that the next run after a crash recognises the node.
    """
    return f".syncline-{node.hex()}"


def in_transit(name: str) -> NodeId | None:
    """Return the node whose transit name this is; None for any other name."""
    match = _TRANSIT.fullmatch(name)
    return NodeId(bytes.fromhex(match[1])) if match else None


# ---- the remote tree ----

_TOO_DEEP = (
    f"it is so deep that what is in it ({{count}}) would have paths of more than {MAX_PATH_NAMES} names or "
    f"{MAX_PATH_BYTES} bytes; that stays in the space only, move it up there"
)


@dataclass(frozen=True, slots=True)
class Live:
    """The nodes of the space that are not deleted and can be in a folder, parents before children, and the problems
    with the remaining ones, by path. `withheld` are the nodes whose name or position is invalid on this device; the
    nodes below them are not in the tree either.
    """

    nodes: dict[NodeId, RemoteNode]
    problems: list[Problem]
    withheld: frozenset[NodeId]


def live_nodes(
    known: Mapping[NodeId, RemoteNode], base: Mapping[NodeId, BaseNode] | None = None, naming: Naming = EVERY_NAME
) -> Live:
    """Return the live nodes of the space. `known` has all nodes of the space that this device knows, by id. `naming`
    has the rules of the folder's filesystem for names. `base` is the last state on which folder and space agreed; None
    means that there is none.

    The space's data are not trusted: a name that leads elsewhere, a second node of one name, a cycle or a node without
    a parent never gets into the tree. A node of the `base` whose new name is invalid on this device keeps its old name
    and parent, and is still synced. Nodes deeper than a path can be are left out. The running time is that of sorting
    the nodes, however many of them have invalid names.
    """
    base = base or {}
    children: dict[NodeId, list[RemoteNode]] = {}
    for node in known.values():
        if not node.deleted and node.id != ROOT:
            children.setdefault(node.parent, []).append(node)
    live: dict[NodeId, RemoteNode] = {}
    problems: list[Problem] = []
    names: dict[NodeId, dict[str, str]] = {}
    withheld: dict[NodeId, RemoteNode] = {}
    waiting: dict[NodeId, list[tuple[int, NodeId]]] = {}
    """Withheld nodes, in order, by the directory of the base that has to be in the tree before these nodes can be
    added.
    """
    returning: list[tuple[int, NodeId]] = []
    pending = [ROOT]

    def claim(node: RemoteNode) -> tuple[bool, str, int, NodeId]:
        before = base.get(node.id) if naming.folds_case else None
        return before is None or before.place != node.place, node.name, node.seq, node.id

    def withhold(node: RemoteNode) -> None:
        withheld[node.id] = node
        before = base.get(node.id)
        if before is None or before.kind is not node.kind:
            return
        if node.kind is NodeKind.DIRECTORY or node.digest is not None:
            turn = (len(withheld), node.id)
            if before.parent == ROOT or before.parent in live:
                heapq.heappush(returning, turn)
            else:
                waiting.setdefault(before.parent, []).append(turn)

    def admit(node: RemoteNode) -> None:
        live[node.id] = node
        for turn in waiting.pop(node.id, ()):
            heapq.heappush(returning, turn)
        if node.kind is NodeKind.DIRECTORY:
            pending.append(node.id)

    def descend() -> None:
        while pending:
            parent = pending.pop()
            taken = names.setdefault(parent, {})
            way = _way(parent, live)
            size = sum(len(name.encode()) + 1 for name in way)
            too_deep = 0
            for node in sorted(children.get(parent, ()), key=claim):
                if problem := _unusable(node, taken, naming):
                    problems.append(Problem(printable("/".join([*way, node.name])), problem))
                    withhold(node)
                    continue
                if len(way) >= MAX_PATH_NAMES or size + len(node.name.encode()) > MAX_PATH_BYTES:
                    before = base.get(node.id)
                    if before is None or before.place != node.place:
                        withhold(node)
                        too_deep += 1
                        continue
                taken[naming.key(node.name)] = node.name
                admit(node)
            if too_deep:
                problems.append(Problem(printable("/".join(way)), _TOO_DEEP.format(count=too_deep)))

    descend()
    while returning:
        _, returned = heapq.heappop(returning)
        before = base[returned]
        taken = names.setdefault(before.parent, {})
        if naming.key(before.name) not in taken:
            taken[naming.key(before.name)] = before.name
            admit(dataclasses.replace(withheld[returned], parent=before.parent, name=before.name))
            descend()
    return Live(live, problems, frozenset(withheld))


def _way(directory: NodeId, live: Mapping[NodeId, RemoteNode]) -> list[str]:
    """Return the names on the path from the root to a live directory."""
    names: list[str] = []
    while directory != ROOT:
        node = live[directory]
        names.append(node.name)
        directory = node.parent
    names.reverse()
    return names


def _unusable(node: RemoteNode, taken: Mapping[str, str], naming: Naming) -> str | None:
    if problem := name_problem(node.name):
        return f"{problem}; rename it in the space"
    if node.parent == ROOT and naming.key(node.name) == RESERVED_AT_ROOT:
        return f"{RESERVED_AT_ROOT!r} is reserved; rename it in the space"
    if _is_clients_own(naming.key(node.name), node.id):
        return "names like this one are given by clients to what they move or write; rename it in the space"
    if problem := naming.problem(node.name):
        return f"{problem}; it stays in the space only, rename it there"
    other = taken.get(naming.key(node.name))
    if other == node.name:
        return "another item of the space has the same name; rename one of them"
    if other is not None:
        return (
            f"its name differs from {other!r} in upper and lower case only, which the filesystem of this folder "
            "cannot tell apart; it stays in the space only, rename one of them"
        )
    if node.kind is not NodeKind.DIRECTORY and node.digest is None:
        return "the space says nothing about its content"
    return None


def _is_clients_own(name: str, node: NodeId) -> bool:
    """Return True for the name of a scratch directory, and for a transit name other than the node's own. A node with
    its own transit name was moved aside in the space and has to return; a foreign transit name would make the node look
    like another one.
    """
    return name.startswith(SCRATCH_PREFIX) or in_transit(name) not in {None, node}


def printable(path: str) -> str:
    """Return a path that can be shown and put into JSON, whatever its bytes are."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def path_of(node: NodeId, places: Mapping[NodeId, Place]) -> str:
    """Return the path of a node from the root. A parent that is not in `places` counts as the root."""
    names: list[str] = []
    while node != ROOT and (place := places.get(node)) is not None and len(names) < len(places):
        names.append(place[1])
        node = place[0]
    return "/".join(reversed(names))
