"""Announcements: messages that a space has a new sequence number, with a summary of the commits and their users, small
enough for SNS.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from services.metadata.entry import Commit, JournalEntry
from syncline.model.identifiers import SpaceId
from syncline.model.tree import Change

MAX_COMMITS_PER_EVENT = 100
MAX_NAMES_PER_COMMIT = 10
"""Maximum number of names in the announcement of one commit. 100 commits of 10 names of 255 bytes stay below SNS's
limit of 256 KB even when JSON escapes the names.
"""
MAX_EVENT_BYTES = 200_000


def events(space: SpaceId, entries: Sequence[JournalEntry], *, traceparent: str = "") -> Iterator[str]:
    """Yield the announcements of consecutive entries, in order, as JSON.

    {"v": 1, "space", "from_seq", "to_seq", "commits": [{"seq", "user", "device", "at_ms", "created", "updated",
    "moved", "deleted", "restored", "names"}]}; `created` to `restored` are numbers of nodes, and `names` are the first
    MAX_NAMES_PER_COMMIT names of changed nodes. `traceparent` is included unless it is empty.
    """
    commits = [(entry.seq, commit) for entry in entries for commit in entry.commits]
    described: list[dict[str, Any]] = []
    size = 0
    for seq, commit in commits:
        one = _describe(seq, commit)
        size += len(json.dumps(one))
        if described and (len(described) == MAX_COMMITS_PER_EVENT or size > MAX_EVENT_BYTES):
            yield _event(space, described, traceparent)
            described, size = [], 0
        described.append(one)
    if described:
        yield _event(space, described, traceparent)


def _event(space: SpaceId, described: list[dict[str, Any]], traceparent: str) -> str:
    trace = {"traceparent": traceparent} if traceparent else {}
    return json.dumps(
        {
            **trace,
            "v": 1,
            "space": space,
            "from_seq": described[0]["seq"],
            "to_seq": described[-1]["seq"],
            "commits": described,
        }
    )


def _describe(seq: int, commit: Commit) -> dict[str, Any]:
    # The content of a discarded node is held by another node, whose own result is announced.
    told = [result for result in commit.accepted() if result.change is not Change.DISCARDED]
    counts = Counter(result.change for result in told)
    names = [result.node.name for result in told[:MAX_NAMES_PER_COMMIT] if result.node]
    return {
        "seq": seq,
        "user": commit.user,
        "device": commit.device,
        "at_ms": commit.at_ms,
        **{change.name.lower(): counts[change] for change in Change if change is not Change.DISCARDED},
        "names": names,
    }
