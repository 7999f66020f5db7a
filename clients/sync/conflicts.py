"""How a conflict copy is named: `report (conflict laptop 2026-11-03 142501).txt`."""

from __future__ import annotations

import re
from collections.abc import Container
from datetime import datetime

from core.names import MAX_NAME_BYTES, normalize

_LONGEST_SUFFIX = 32
"""A longer 'extension' is part of the name."""
_LONGEST_DEVICE_BYTES = 64


def conflict_label(device: str, now: datetime) -> str:
    """What tells the copies of one sync: the device and the local time."""
    name = re.sub(r"[/\0\s]+", " ", normalize(device)).strip() or "device"
    return f"conflict {_shortened(name, _LONGEST_DEVICE_BYTES)} {now:%Y-%m-%d %H%M%S}"


def conflict_name(name: str, label: str, taken: Container[str]) -> str:
    """A name for the copy of `name` that is not `taken` and keeps the rules of names."""
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) > _LONGEST_SUFFIX:
        stem, dot, suffix = name, "", ""
    number = 1
    while True:
        mark = f" ({label})" if number == 1 else f" ({label} {number})"
        tail = mark + dot + suffix
        candidate = normalize(_shortened(stem, MAX_NAME_BYTES - len(tail.encode())) + tail)
        if candidate not in taken:
            return candidate
        number += 1


def _shortened(text: str, size: int) -> str:
    """The beginning of `text` that has at most `size` bytes, not cut within a character."""
    return text.encode()[:size].decode(errors="ignore")
