"""The names of conflict copies: `report (conflict laptop 2026-11-03 142501).txt`."""

from __future__ import annotations

import re
from collections.abc import Container
from datetime import datetime
from itertools import count

from syncline.model.names import normalize, shortened, with_mark

_LONGEST_DEVICE_BYTES = 64


def conflict_label(device: str, now: datetime) -> str:
    """Return the label that distinguishes the conflict copies of one sync: the device and the local time."""
    name = re.sub(r"[/\0\s]+", " ", normalize(device)).strip() or "device"
    return f"conflict {shortened(name, _LONGEST_DEVICE_BYTES)} {now:%Y-%m-%d %H%M%S}"


def conflict_name(name: str, label: str, taken: Container[str]) -> str:
    """Return a valid name for the conflict copy of `name` that is not in `taken`."""
    candidates = (with_mark(name, f"({label})" if number == 1 else f"({label} {number})") for number in count(1))
    return next(candidate for candidate in candidates if candidate not in taken)
