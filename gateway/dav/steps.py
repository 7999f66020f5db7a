"""The recent steps of a client in a space, for requests that need to know of earlier ones.

The steps of a client are in records of the space, which all gateways read. There are SLOTS records for a client, of
a few steps each, so that the memory has a bound whatever a client does, and concurrent requests seldom meet. A step
that is forgotten before its time only makes two changes of what might have been one.
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
"""A request that begins within this many seconds after a step of the same client may belong to the same save."""
SLOTS: Final = 64
_STEPS: Final = 16
"""Maximum number of steps in one slot."""
_SLOT_BYTES: Final = 128 * 1024
_ATTEMPTS: Final = 8
_KEPT_SECONDS: Final = 3600
"""Seconds for which steps are kept: a request looks at the steps a moment before it began, and may take long."""

StepData = dict[str, Any]
"""The data that is remembered of a step; `saving.py` knows the keys."""


class StepKind(StrEnum):
    """The kind of a step that is remembered, by a path or a digest."""

    TAKEN_AWAY = "taken_away"
    """The node that was at a path: the client deleted it, moved it over something, or moved it away."""
    MOVED_HERE = "moved_here"
    """The node that the client moved to a path."""
    MOVED_INTO = "moved_into"
    """The nodes that the client moved into the directory at a path."""
    EMPTIED = "emptied"
    """The nodes that were in the directory at a path, which the client deleted and made anew."""
    CONTENT_HOLDERS = "content_holders"
    """The files that hold the content of a digest."""


def slot(session: DavSession, key: Sequence[str]) -> str:
    """The name of the record that has the steps of this key, of the client that asks."""
    person = session.person
    client = hashlib.sha256(f"{person.user}\0{person.device}".encode()).hexdigest()[:32]
    return f"saving/{client}/{int(_short(key)[:8], 16) % SLOTS}"


def remembered(session: DavSession, space: DavSpace, what: StepKind, key: Sequence[str]) -> StepData | None:
    """Return the data of the client's step with this key, if that was a moment before this request began; else None."""
    name = _short(key)
    for step in _steps(session, space, key):
        if (step["what"], step["key"]) == (what, name) and step["at"] > session.began - SAVE_SECONDS:
            told: StepData = step["told"]
            return told
    return None


def remember(session: DavSession, space: DavSpace, what: StepKind, key: Sequence[str], told: StepData) -> None:
    """Remember what the client does now, in place of what it did there before."""
    _change(session, space, what, key, told)


def forget_step(session: DavSession, space: DavSpace, what: StepKind, key: Sequence[str]) -> None:
    """Let go of what is over."""
    if remembered(session, space, what, key) is not None:
        _change(session, space, what, key, None)


def _change(session: DavSession, space: DavSpace, what: StepKind, key: Sequence[str], told: StepData | None) -> None:
    name, now = _short(key), time.time()
    for _ in range(_ATTEMPTS):
        steps = [
            step
            for step in _steps(session, space, key)
            if (step["what"], step["key"]) != (what, name) and step["at"] > now - _KEPT_SECONDS
        ]
        if told is not None:
            steps.insert(0, {"what": what, "key": name, "at": now, "told": told})
        try:
            session.write(space, slot(session, key), _fitting(steps), expires_at=now + _KEPT_SECONDS)
        except RecordMoved:  # another request of the client has written; what it remembers stays
            continue
        return


def _fitting(steps: list[StepData]) -> bytes:
    """The newest steps that a slot holds."""
    steps = steps[:_STEPS]
    while steps and len(data := json.dumps(steps).encode()) > _SLOT_BYTES:
        steps = steps[:-1]
    return data if steps else b""


def _steps(session: DavSession, space: DavSpace, key: Sequence[str]) -> list[StepData]:
    found: list[StepData] = json.loads(session.record(space, slot(session, key)).data or b"[]")
    return found


def _short(key: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]
