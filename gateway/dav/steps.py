"""Facts about a WebDAV client's recent requests in a space, such as "the client moved this node here". Later requests
of the same client depend on them (`saving.py`). Each fact is called a step.

The steps are stored in records of the space, which all gateway processes read. There are SLOTS records per client, of a
few steps each, so that the storage is bounded whatever a client does, and concurrent requests seldom write the same
record. If a step is lost early, the save that it belongs to is not recognised: its requests are carried out one by one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

from gateway.dav.session import DavSession, DavSpace
from gateway.records.ports import RecordMoved

SAVE_SECONDS: Final = 60
"""Seconds after a stored step within which a further request of the same client may belong to the same save."""
SLOTS: Final = 64
_MAX_SLOT_STEPS: Final = 16
"""Maximum number of steps in one of the SLOTS records of a client."""
_MAX_SLOT_BYTES: Final = 128 * 1024
_MAX_ATTEMPTS: Final = 8
_KEPT_SECONDS: Final = 3600
"""Seconds for which steps are kept: a request evaluates the steps as of its start, and may take long."""

StepData = dict[str, Any]
"""The stored data of a step; `saving.py` defines the keys."""


class StepKind(StrEnum):
    """The kind of a stored step. The key of a step is a path or a digest, depending on the kind."""

    TAKEN_AWAY = "taken_away"
    """The former node of a path: the client deleted it, moved it over something, or moved it away."""
    MOVED_HERE = "moved_here"
    """The node that the client moved to a path."""
    MOVED_INTO = "moved_into"
    """The nodes that the client moved into the directory at a path."""
    EMPTIED = "emptied"
    """The former nodes of the directory at a path, which the client deleted and made again."""
    CONTENT_HOLDERS = "content_holders"
    """The files that have the content with this digest."""


def slot(session: DavSession, key: Sequence[str]) -> str:
    """Return the name of the record in which a step of the calling client with this key is stored."""
    person = session.person
    client = hashlib.sha256(f"{person.user}\0{person.device}".encode()).hexdigest()[:32]
    return f"saving/{client}/{int(_short(key)[:8], 16) % SLOTS}"


def remembered(session: DavSession, space: DavSpace, what: StepKind, key: Sequence[str]) -> StepData | None:
    """Return the data of the calling client's step of the kind `what` with this key, if it was stored within
    SAVE_SECONDS before this request began; otherwise None.
    """
    name = _short(key)
    for step in _steps(session, space, key):
        if (step["what"], step["key"]) == (what, name) and step["at"] > session.began - SAVE_SECONDS:
            told: StepData = step["told"]
            return told
    return None


def remember(session: DavSession, space: DavSpace, what: StepKind, key: Sequence[str], told: StepData) -> None:
    """Store a step of the calling client, in place of an earlier one of the same kind with the same key. `told` is the
    data of the step. The step is not stored if concurrent requests write the record again and again.
    """
    _change(session, space, what, key, told)


def forget_step(session: DavSession, space: DavSpace, what: StepKind, key: Sequence[str]) -> None:
    """Remove the calling client's step of the kind `what` with this key, if there is one."""
    if remembered(session, space, what, key) is not None:
        _change(session, space, what, key, None)


def _change(session: DavSession, space: DavSpace, what: StepKind, key: Sequence[str], told: StepData | None) -> None:
    name, now = _short(key), time.time()
    for _ in range(_MAX_ATTEMPTS):
        steps = [
            step
            for step in _steps(session, space, key)
            if (step["what"], step["key"]) != (what, name) and step["at"] > now - _KEPT_SECONDS
        ]
        if told is not None:
            steps.insert(0, {"what": what, "key": name, "at": now, "told": told})
        try:
            session.write(space, slot(session, key), _fitting(steps), expires_at=now + _KEPT_SECONDS)
        except RecordMoved:  # another request of the client has written the record; its steps stay
            continue
        return


def _fitting(steps: list[StepData]) -> bytes:
    """Return the value of a record with the newest of `steps`, as many as fit into one record. `steps` has the newest
    first.
    """
    steps = steps[:_MAX_SLOT_STEPS]
    while steps and len(data := json.dumps(steps).encode()) > _MAX_SLOT_BYTES:
        steps = steps[:-1]
    return data if steps else b""


def _steps(session: DavSession, space: DavSpace, key: Sequence[str]) -> list[StepData]:
    found: list[StepData] = json.loads(session.record(space, slot(session, key)).data or b"[]")
    return found


def _short(key: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]
