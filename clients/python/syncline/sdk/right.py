"""The rights of a device in a space, as the service tells them with the changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Right:
    """`writes_since_ms` is when the right to write was given, 0 if it came with the space.

    If a right equals one that was told before, it has lasted without a gap.
    """

    read_only: bool = False
    writes_since_ms: int = 0
