"""Safe saves: how programs replace a file so that a crash never leaves half of one, and what that is here.

| a program | here it is |
|---|---|
| PUTs a new file and MOVEs it over the old one | a new version of the old one |
| DELETEs the old one, then PUTs or MOVEs the new one there | the old one comes back with a new version |
| MOVEs the old one away, PUTs or MOVEs the new one there, then DELETEs the old one | as above, when it is deleted |

So a file keeps its history, its public links and its place on devices, and the trash gets nothing. What has to be
known of earlier requests are records of the space by path, of one client each, good for SECONDS.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from core.identifiers import NodeId
from core.tree import DeleteNode, MoveNode, Mutation, Node, NodeKind, UpdateContent
from gateway.dav import properties
from gateway.dav.ports import RecordMoved
from gateway.dav.refusals import Refused
from gateway.dav.session import Session, Space, accepted

SECONDS: Final = 60
"""How long after a file was deleted or moved away the same client's next step is taken for the end of a save."""

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """What a client did to a file at a path: it deleted it, or (`was`) moved it from there to `now`."""

    node: NodeId
    was: Names | None = None
    now: Names | None = None


def record(session: Session, names: Names) -> str:
    """The name of the record of a path in a space, of the client that asks."""
    person = session.person
    known = "\0".join((person.user, person.device, *names))
    return f"saving/{hashlib.sha256(known.encode()).hexdigest()[:40]}"


def deleted(session: Session, space: Space, names: Names, node: Node) -> None:
    """Remember that a file was deleted at a path."""
    _remember(session, space, names, _Step(node.id))


def moved(session: Session, space: Space, *, was: Names, now: Names, node: Node) -> None:
    """Remember that a file was moved away from a path: by where it is now, and by the directory that took it in."""
    step = _Step(node.id, was, now)
    _remember(session, space, now, step)
    if now[:-1] != was[:-1] and now[:-1]:
        _remember(session, space, now[:-1], step)


def reconnected(session: Session, space: Space, names: Names) -> Node | None:
    """The file that the client deleted at a path a moment ago, taken out of the trash; None if there is none."""
    step = _remembered(session, space, names)
    if step is None or step.was is not None:
        return None
    _forget(session, space, names)
    try:
        node = session.restore(space, step.node)
    except Refused:  # others have done something about it
        return None
    return node if node.kind is NodeKind.FILE else None


def replaced(session: Session, space: Space, *, source: Node, target: Node) -> None:
    """Make a file's content the newest version of another, and the file itself go, in one commit. Refused."""
    updated, gone = session.commit(space, _replacing(source, target))
    accepted(updated)
    properties.copy(session, space, [(source.id, target.id)])
    accepted(gone)


def put_back(session: Session, space: Space, names: Names, *, writable: Callable[[Names], bool]) -> bool:
    """Before what is at a path is deleted: end the save in which the client moved a file there, or into it.

    If another file has come to where the old one was, the old one goes back there, with the new content. True if that
    was what is at the path itself. `writable` says whether the client may write to a file, for which there are locks.
    """
    step = _remembered(session, space, names)
    if step is None or step.was is None or step.now is None:
        return False
    _forget(session, space, names)
    old, new = session.find(space, step.now), session.find(space, step.was)
    if old is None or old.id != step.node or old.kind is not NodeKind.FILE or new is None or not _fresh(session, new):
        return False
    if not writable(step.was):
        return False
    mutations = _replacing(new, old)
    mutations.append(MoveNode(old.id, old.parent, old.name, new.parent, new.name))
    # If the old file did not get the new content, it is deleted where it is, as asked for. If it did, it is the only
    # file that has that content, so it stays even if it could not go back.
    updated, gone, _moved = session.commit(space, mutations)
    if isinstance(updated, Refused) or isinstance(gone, Refused):
        return False
    properties.copy(session, space, [(new.id, old.id)])
    return step.now == names


def forgettable(session: Session, node: Node) -> bool:
    """Whether a file is one that the client has just made and never filled, to see whether it can."""
    return node.content is not None and not node.content.size and _fresh(session, node)


def _replacing(source: Node, target: Node) -> list[Mutation]:
    assert source.content is not None
    assert target.content is not None
    content = replace(source.content, executable=target.content.executable)
    return [
        UpdateContent(target.id, target.version, content),
        DeleteNode(source.id, source.version, discard=True, kept_in=target.id),
    ]


def _fresh(session: Session, node: Node) -> bool:
    """Whether this client has written the file's current version a moment ago."""
    person = session.person
    return (
        node.kind is NodeKind.FILE
        and (node.user, node.device) == (person.user, person.device)
        and node.committed_at_ms > (time.time() - SECONDS) * 1000
    )


def _remember(session: Session, space: Space, names: Names, step: _Step) -> None:
    told = {"node": step.node.hex(), "at": time.time(), "was": step.was, "now": step.now}
    _write(session, space, names, json.dumps(told).encode())


def _remembered(session: Session, space: Space, names: Names) -> _Step | None:
    data = session.record(space, record(session, names)).data
    if not data:
        return None
    told = json.loads(data)
    if told["at"] < time.time() - SECONDS:
        return None
    was, now = (tuple(told[name]) if told[name] is not None else None for name in ("was", "now"))
    return _Step(NodeId(bytes.fromhex(told["node"])), was, now)


def _forget(session: Session, space: Space, names: Names) -> None:
    _write(session, space, names, b"")


def _write(session: Session, space: Space, names: Names, data: bytes) -> None:
    name = record(session, names)
    session.record(space, name)
    with contextlib.suppress(RecordMoved):  # another request of the client is about the same path: what it did counts
        session.write(space, name, data, expires_at=time.time() + 2 * SECONDS)
