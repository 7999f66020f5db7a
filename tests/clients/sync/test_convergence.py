"""Devices that are changed at random, and that crash at any step, converge and lose nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.clients.sync.fakes import POINTS
from tests.clients.sync.histories import History

SEEDS = range(300)

_crashed: Counter[str] = Counter()
_lived: set[int] = set()


@pytest.mark.parametrize("seed", SEEDS)
def test_devices_converge_and_nothing_is_lost(base: Path, seed: int) -> None:
    """`make soak SEED=seed N=1` runs the same."""
    history = History(base, seed)
    history.run()
    _crashed.update(history.crashed)
    _lived.add(seed)


def test_a_sync_has_crashed_at_every_point() -> None:
    if _lived != set(SEEDS):
        pytest.skip("says nothing unless all histories ran before it")
    assert _crashed.keys() == set(POINTS), sorted(set(POINTS) - _crashed.keys())
