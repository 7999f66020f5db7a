"""Refusals by limits have a rate of their own, for each network."""

import pytest

from runtime.refusals import MAX_PAUSE_SECONDS, REFUSALS_AT_ONCE, REFUSALS_PER_SECOND, RefusalRate


def test_who_is_refused_again_and_again_pauses_for_longer_and_longer():
    now = 0.0
    rate = RefusalRate(clock=lambda: now)
    assert {rate.pause("192.0.2.1") for _ in range(REFUSALS_AT_ONCE)} == {0}
    pauses = [rate.pause("192.0.2.1") for _ in range(1_000)]
    assert pauses[:3] == pytest.approx([1 / REFUSALS_PER_SECOND, 2 / REFUSALS_PER_SECOND, 3 / REFUSALS_PER_SECOND])
    assert pauses[-1] == max(pauses) == MAX_PAUSE_SECONDS
    assert rate.pause("192.0.2.2") == 0
    now = (REFUSALS_AT_ONCE + 1_000) / REFUSALS_PER_SECOND
    assert rate.pause("192.0.2.1") == 0


def test_a_network_that_stops_has_worked_off_its_excess_soon():
    """Others of the same network are refused, too."""
    now = 0.0
    rate = RefusalRate(clock=lambda: now)
    for _ in range(50_000):
        rate.pause("192.0.2.1")
    now = MAX_PAUSE_SECONDS + 2 / REFUSALS_PER_SECOND
    assert rate.pause("192.0.2.1") == 0
