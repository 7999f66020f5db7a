"""Events that metadata publishes to the topic of changes: at least once, in any order, with ranges that may overlap."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import SpaceId, UserId, parse_text_id

_VERSION: Final = 1


class MalformedEvent(ValueError):
    """The message is not an event of a known version."""


@dataclass(frozen=True, slots=True)
class CommitSummary:
    """Summary of the changes of one request: counts of nodes, and the names of the first few."""

    seq: int
    user: UserId
    created: int
    updated: int
    moved: int
    deleted: int
    restored: int
    names: tuple[str, ...]

    @property
    def changes(self) -> int:
        """Number of changes."""
        return self.created + self.updated + self.moved + self.deleted + self.restored


@dataclass(frozen=True, slots=True)
class Event:
    """The announcement that the head of a space has advanced to `to_seq`. If `truncated`, the announcement does not
    list all commits.
    """

    space: SpaceId
    to_seq: int
    commits: tuple[CommitSummary, ...]
    truncated: bool
    traceparent: str | None = None
    """The `traceparent` (W3C Trace Context) of the span that published the announcement; None if it was not traced."""

    @property
    def sender(self) -> str:
        """The account that mail about this event is charged to: the person who made most of its commits, or the space
        if it lists no commits.
        """
        most = Counter(commit.user for commit in self.commits).most_common(1)
        return most[0][0] if most else self.space


def parse(body: str) -> Event:
    """Return the announcement in a message's body. Raise MalformedEvent, with the reason, for any other text. Unknown
    fields are ignored.
    """
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedEvent(f"it is not JSON: {error}") from None
    try:
        if raw["v"] != _VERSION:
            raise MalformedEvent(f"its version is {raw['v']!r}")
        return Event(
            space=SpaceId(_id(raw["space"], what="space")),
            to_seq=_count(raw["to_seq"], what="to_seq"),
            commits=tuple(map(_commit, raw["commits"])),
            truncated=bool(raw.get("truncated", False)),
            traceparent=None if raw.get("traceparent") is None else _text(raw["traceparent"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedEvent(f"a field is missing or of a wrong type: {error}") from None


def waiting_to_text(commits: Sequence[CommitSummary], *, truncated: bool) -> str:
    """Return the text in which the summaries of commits are stored until the next mail. `truncated` is True if their
    event has left some commits out; the text holds it as well.
    """
    kept = {"commits": [dataclasses.asdict(commit) for commit in commits], "truncated": truncated}
    return json.dumps(kept, separators=(",", ":"))


def waiting_from_text(text: str) -> tuple[tuple[CommitSummary, ...], bool]:
    """Return the summaries in a text that `waiting_to_text` has made, and True if their event has left some commits
    out.
    """
    kept = json.loads(text)
    return tuple(map(_commit, kept["commits"])), kept["truncated"]


def _commit(raw: Mapping[str, Any]) -> CommitSummary:
    return CommitSummary(
        seq=_count(raw["seq"], what="seq"),
        user=UserId(_id(raw["user"], what="user")),
        created=_count(raw["created"], what="created"),
        updated=_count(raw["updated"], what="updated"),
        moved=_count(raw["moved"], what="moved"),
        deleted=_count(raw["deleted"], what="deleted"),
        restored=_count(raw["restored"], what="restored"),
        names=tuple(_text(name) for name in raw["names"]),
    )


def _id(raw: Any, *, what: str) -> str:
    try:
        return parse_text_id(raw, what=what)
    except InvalidArgument as error:
        raise MalformedEvent(str(error)) from None


def _count(raw: Any, *, what: str) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or raw < 0:
        raise MalformedEvent(f"{what} is {raw!r}")
    return raw


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise MalformedEvent(f"a name is {raw!r}")
    return raw
