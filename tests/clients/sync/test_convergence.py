"""Devices that are changed at random, and that crash at any step, converge and lose nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.clients.sync.fakes import POINTS
from tests.clients.sync.histories import History

SEEDS = range(300)
MORE_SEEDS = range(1000, 1100)

_crashed: Counter[str] = Counter()


@pytest.mark.parametrize("seed", SEEDS)
def test_devices_converge_and_nothing_is_lost(base: Path, seed: int) -> None:
    """`make soak SEED=seed N=1` runs the same."""
    history = History(base, seed)
    history.run()
    _crashed.update(history.crashed)


@pytest.mark.parametrize("point", POINTS)
def test_a_sync_crashes_at_every_point(base: Path, point: str) -> None:
    """Points that are passed seldom may not have been crashed at so far: some more histories then try nothing else."""
    for seed in MORE_SEEDS:
        if _crashed[point]:
            return
        (base / f"{seed}").mkdir()
        history = History(base / f"{seed}", seed, favourite=point)
        history.run()
        _crashed.update(history.crashed)
    assert _crashed[point]
