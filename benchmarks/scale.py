"""The scale of the measurements. The short form tells whether a benchmark runs, not how fast anything is."""

from __future__ import annotations

import os
from typing import Final, TypeVar

T = TypeVar("T")

SHORT_VARIABLE: Final = "SYNCLINE_BENCH_SHORT"
"""Set for a benchmark, and the processes that it starts, to have the short form."""


def sized(full: T, *, short: T) -> T:
    """The size that is asked for: `full` is what figures are from."""
    return short if os.environ.get(SHORT_VARIABLE) else full
