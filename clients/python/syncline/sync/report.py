"""The report of a sync: what was done, and what could not be done."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from syncline.sync.trees import Problem


@dataclass(slots=True)
class Report:
    """The report of one sync.

    - `uploaded` and `downloaded` are numbers of files and symlinks. `moved`, `deleted_local`, `deleted_remote` and
      `conflicts` (nodes that got a conflict name) are numbers of nodes of any kind.
    - `skipped` is the number of sockets, pipes and devices in the folder, which are never synced.
    - `bytes_up` and `bytes_down` are the bytes of content that were transferred, and `requests` counts the requests by
      their kind.
    - `problems` have the items that were not synced, and `notices` further texts for people.
    """

    uploaded: int = 0
    downloaded: int = 0
    moved: int = 0
    deleted_local: int = 0
    deleted_remote: int = 0
    conflicts: int = 0
    skipped: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    requests: dict[str, int] = field(default_factory=lambda: {"s3_put": 0, "s3_get": 0, "grpc": 0})
    seconds: float = 0.0
    waited_seconds: float = 0.0
    """Seconds that calls waited because a limit of the service asked them to, summed over all threads."""
    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    waiting: str = ""
    """A text about the deletions that wait for a confirmation, and the way to confirm them; empty if none waits."""
    planned: list[tuple[str, str]] = field(default_factory=list)
    """In a dry run: each operation that would be done, and its path."""
    excluded: list[str] = field(default_factory=list)
    """In a dry run: the paths that this device does not sync."""

    @property
    def did_anything(self) -> bool:
        """True if anything has changed, here or in the space."""
        return bool(
            self.uploaded
            or self.downloaded
            or self.moved
            or self.deleted_local
            or self.deleted_remote
            or self.conflicts
        )

    def document(self) -> dict[str, Any]:
        """Return the report as the document that the command line prints with --json."""
        document = dataclasses.asdict(self)
        del document["notices"], document["waiting"], document["planned"], document["excluded"]
        document["seconds"] = round(self.seconds, 3)
        document["waited_seconds"] = round(self.waited_seconds, 3)
        return document

    def summary(self) -> str:
        """Return a summary of one line for people."""
        done = [
            f"{count} {word}"
            for count, word in (
                (self.uploaded, "uploaded"),
                (self.downloaded, "downloaded"),
                (self.moved, "moved"),
                (self.deleted_local, "deleted here"),
                (self.deleted_remote, "deleted in the space"),
                (self.conflicts, "conflict copies" if self.conflicts > 1 else "conflict copy"),
            )
            if count
        ]
        left = [f"{self.skipped} skipped"] if self.skipped else []
        if self.problems:
            left.append(f"{len(self.problems)} not synced")
        if self.waited_seconds >= 1:
            left.append(
                f"calls waited {self.waited_seconds:.0f} s in total, because the service asked them to slow down"
            )
        return f"{', '.join(done or ['up to date'])}{''.join(f'; {text}' for text in left)} ({self.seconds:.1f} s)"
