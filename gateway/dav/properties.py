"""Dead properties: what clients want remembered of a node. They stay with it wherever it is moved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from gateway.dav.refusals import DavRefused
from gateway.dav.session import DavSession, DavSpace
from gateway.records.ports import RecordMoved
from syncline.model.identifiers import NodeId

MAX_BYTES: Final = 32 * 1024
"""Maximum size of all properties of one node, in bytes."""
_ATTEMPTS: Final = 8
_FEW: Final = 100
"""Nodes that one call can ask for, each by itself."""
_PREFIX: Final = "properties/"


def read_properties(session: DavSession, space: DavSpace, node: NodeId) -> Mapping[str, str]:
    """The properties of a node: names in Clark notation, values as XML."""
    properties: dict[str, str] = json.loads(session.record(space, _record(node)).data or b"{}")
    return properties


def read_ahead(session: DavSession, space: DavSpace, nodes: Sequence[NodeId]) -> None:
    """Read those of many nodes together.

    Few nodes have properties, so one query for all of the space is faster than asking for each node, unless there are
    too many.
    """
    names = [_record(node) for node in nodes]
    every = session.read_all(space, _PREFIX) if len(nodes) > _FEW else None
    if every is None:
        session.records(space, names)
    else:
        session.hold(space, names, every)


def forget_properties(session: DavSession, space: DavSpace, nodes: Sequence[NodeId]) -> None:
    """Let go of what was read ahead."""
    session.forget(space, [_record(node) for node in nodes])


def change(session: DavSession, space: DavSpace, node: NodeId, changes: Sequence[tuple[str, str | None]]) -> None:
    """Set properties in order, or remove those whose value is None: all or none."""
    for _ in range(_ATTEMPTS):
        known = dict(read_properties(session, space, node))
        changed = _changed(known, changes)
        if changed == known:
            return
        data = json.dumps(changed).encode() if changed else b""
        if len(data) > MAX_BYTES:
            raise DavRefused(
                HTTPStatus.INSUFFICIENT_STORAGE, f"the properties of a file have at most {MAX_BYTES} bytes together"
            )
        try:
            session.write(space, _record(node), data)
        except RecordMoved:
            continue
        return
    raise DavRefused(HTTPStatus.SERVICE_UNAVAILABLE, "too many change the properties of this file at once; try again")


def copy(session: DavSession, space: DavSpace, nodes: Sequence[tuple[NodeId, NodeId]]) -> None:
    """Give each second node the properties of the first."""
    read_ahead(session, space, [source for source, _ in nodes])
    for source, target in nodes:
        if found := read_properties(session, space, source):
            change(session, space, target, list(found.items()))


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
