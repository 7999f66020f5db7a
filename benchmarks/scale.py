"""The scale of the measurements. The short form only shows that a benchmark runs; its figures mean nothing."""

from __future__ import annotations

import os
from typing import Final, TypeVar

T = TypeVar("T")

SHORT_VARIABLE: Final = "SYNCLINE_BENCH_SHORT"
"""Environment variable that selects the short form for a benchmark and its processes."""


def sized(full: T, *, short: T) -> T:
    """Return `full`, the size for real figures, or `short` in the short form."""
    return short if os.environ.get(SHORT_VARIABLE) else full
