"""A caller who was refused waits as long as the error says."""

import pytest

from syncline.model.errors import (
    LimitReached,
    NoSuchNode,
    RateExceeded,
    SynclineError,
    Unavailable,
    jittered_pause_seconds,
)


@pytest.mark.parametrize(
    ("told", "number", "least", "most"),
    [(12.0, 1, 12.0, 14.4), (0.0, 1, 0.02, 0.024), (0.05, 2, 0.05, 0.06), (0.01, 3, 0.08, 0.096), (0, 5000, 0.25, 0.3)],
)
def test_nobody_comes_earlier_than_told_or_again_and_again_at_once(told, number, least, most):
    pauses = [jittered_pause_seconds(told, number) for _ in range(200)]
    assert least <= min(pauses) < max(pauses) <= most


@pytest.mark.parametrize(
    ("error", "slow_down", "passing"),
    [
        (RateExceeded(retry_after_seconds="1.500"), 1.5, True),
        (LimitReached(), None, False),
        (Unavailable(), None, True),
        (NoSuchNode(retry_after_seconds="1"), None, False),
    ],
)
def test_only_a_limit_that_tells_when_is_waited_for(error: SynclineError, slow_down: float | None, passing: bool):
    assert (error.slow_down_seconds, error.passing) == (slow_down, passing)
