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
