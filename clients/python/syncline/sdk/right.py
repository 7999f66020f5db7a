"""The right of a device to write in a space, which the service sends together with the changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Right:
    """The right that a device has in a space at one time: to read only, or also to write. The service states it with
    the changes of the space, and a commit that is based on it carries it back (`Space.commit`).

    - `read_only` is True if the device may not write.
    - `writes_since_ms` is the time at which the right to write was granted, in milliseconds since 1970. It is 0 without
      the right to write, and for the maker of the space.

    If the rights to write at two times are equal, the device had the right to write at all times in between.
    """

    read_only: bool = False
    writes_since_ms: int = 0
