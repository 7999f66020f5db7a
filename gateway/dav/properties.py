"""Properties that WebDAV clients set on a node and that the gateway only keeps ("dead" properties in RFC 4918). A node
that is moved keeps its properties.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Final, TypeVar

from gateway.dav.refusals import DavRefused
from gateway.dav.session import DavSession, DavSpace
from gateway.records.ports import RecordMoved
from syncline.model.identifiers import NodeId

T = TypeVar("T")

MAX_PROPERTIES_BYTES: Final = 32 * 1024
"""Maximum size of all properties of one node, in bytes."""
READ_BYTES_PER_SECOND: Final = 2 * 1024 * 1024
"""Maximum number of property bytes per second, on average, that requests of one person read and write."""
READ_BURST_BYTES: Final = 8 * READ_BYTES_PER_SECOND
"""Maximum number of property bytes that an idle person's requests may read and write at once."""
_SLICE_BYTES: Final = 512 * 1024
"""Size in bytes that the properties of one slice of nodes should have together, estimated from earlier slices."""
_FIRST_NODES: Final = 64
"""Number of nodes in the first slice, when the size of their properties is unknown."""
_MAX_BATCH_NODES: Final = 200
"""Maximum number of nodes in a slice, however small their properties are."""
_MAX_ATTEMPTS: Final = 8
_FEW: Final = _FIRST_NODES
"""Maximum number of nodes whose properties are read one by one; those of more nodes are read by one query for the whole
space.
"""
_PREFIX: Final = "properties/"


def read_properties(session: DavSession, space: DavSpace, node: NodeId) -> Mapping[str, str]:
    """Return the properties of a node: names in Clark notation, values as XML."""
    data = session.record(space, _record(node)).data
    session.owe(len(data))
    properties: dict[str, str] = json.loads(data or b"{}")
    return properties


class Slices:
    """Chooses how many nodes are processed together with their properties: the larger the properties of earlier nodes
    were, the fewer.
    """

    def __init__(self) -> None:
        self._nodes = _FIRST_NODES

    def cut(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Yield the items in order, in slices. The size of a slice is decided when the slice is requested."""
        at = 0
        while at < len(items):
            some = items[at : at + self._nodes]
            at += len(some)
            yield some

    def learn(self, nodes: int, size: int) -> None:
        """Record that the properties of `nodes` nodes have `size` bytes in total."""
        if nodes:
            self._nodes = min(_MAX_BATCH_NODES, max(1, _SLICE_BYTES * nodes // max(size, 1)))


def read_ahead(session: DavSession, space: DavSpace, nodes: Sequence[NodeId]) -> int:
    """Read the properties of many nodes together, and keep them for `read_properties`. Return their size in bytes.

    Few nodes have properties, so one query for the whole space is faster than a read for each node, unless there are
    too many records.
    """
    names = [_record(node) for node in nodes]
    many = len(nodes) >= _FEW or session.has_asked_for_all(space, _PREFIX)
    every = session.read_all(space, _PREFIX) if many else None
    if every is None:
        session.records(space, names)
    else:
        session.hold(space, names, every)
    return sum(len(session.record(space, name).data) for name in names)


def forget_properties(session: DavSession, space: DavSpace, nodes: Sequence[NodeId]) -> None:
    """Drop the properties of these nodes that `read_ahead` keeps."""
    session.forget(space, [_record(node) for node in nodes])


def change(session: DavSession, space: DavSpace, node: NodeId, changes: Sequence[tuple[str, str | None]]) -> None:
    """Set properties of a node, or remove those whose value is None. `changes` has names in Clark notation and values
    as XML; they are applied in order and atomically. Raise DavRefused, and change nothing, if the properties would
    exceed MAX_PROPERTIES_BYTES, or if concurrent requests change them too often.
    """
    for _ in range(_MAX_ATTEMPTS):
        known = dict(read_properties(session, space, node))
        changed = _changed(known, changes)
        if changed == known:
            return
        data = json.dumps(changed).encode() if changed else b""
        if len(data) > MAX_PROPERTIES_BYTES:
            raise DavRefused(
                HTTPStatus.INSUFFICIENT_STORAGE,
                f"the properties of a file have at most {MAX_PROPERTIES_BYTES} bytes together",
            )
        session.owe(len(data))
        try:
            session.write(space, _record(node), data)
        except RecordMoved:
            continue
        return
    raise DavRefused(
        HTTPStatus.SERVICE_UNAVAILABLE, "too many requests change the properties of this file at once; try again"
    )


def copy(session: DavSession, space: DavSpace, nodes: Sequence[tuple[NodeId, NodeId]]) -> None:
    """Copy all properties of the first node of each pair to the second node of the pair."""
    slices = Slices()
    for some in slices.cut(nodes):
        sources = [source for source, _ in some]
        slices.learn(len(some), read_ahead(session, space, sources))
        for source, target in some:
            if found := read_properties(session, space, source):
                change(session, space, target, list(found.items()))
        forget_properties(session, space, sources)
        session.wait(session.settle())


def _changed(known: Mapping[str, str], changes: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    changed = dict(known)
    for name, value in changes:
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = value
    return changed


def _record(node: NodeId) -> str:
    return f"{_PREFIX}{node.hex()}"
