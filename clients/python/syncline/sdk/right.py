"""The right of a device in a space, which the service sends together with the changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Right:
    """The right to write in a space. `writes_since_ms` is the time of its grant, 0 for the maker of the space.

    If the rights at two times are equal, the device had the right at all times in between.
    """

    read_only: bool = False
    writes_since_ms: int = 0
