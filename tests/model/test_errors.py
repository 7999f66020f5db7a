"""A caller who was refused waits as long as the error says, and each error says in one line what to do next."""

from collections.abc import Iterator
from types import ModuleType

import pytest

import syncline.model.errors
import syncline.sdk.errors
import syncline.sdk.network
import syncline.sdk.trust
import syncline.sync.errors
import syncline.transfer.objects
from syncline.model.errors import (
    LimitReached,
    NoSuchNode,
    RateExceeded,
    SynclineError,
    Unavailable,
    jittered_pause_seconds,
)

MODULES = (
    syncline.model.errors,
    syncline.sdk.errors,
    syncline.sdk.network,
    syncline.sdk.trust,
    syncline.sync.errors,
    syncline.transfer.objects,
)
"""Modules whose errors people read."""


def errors_of(module: ModuleType) -> Iterator[type[SynclineError]]:
    for found in vars(module).values():
        if isinstance(found, type) and issubclass(found, SynclineError) and found.__module__ == module.__name__:
            yield found


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


@pytest.mark.parametrize(
    "error", [error for module in MODULES for error in errors_of(module) if error is not SynclineError]
)
def test_the_text_of_each_error_is_one_line_that_says_what_happened_and_what_to_do(error: type[SynclineError]) -> None:
    text = (error.__doc__ or "").partition("\n\n")[0].strip()
    assert "\n" not in text, "only the first line of the docstring is the text of the error"
    happened, _, next_step = text.partition("; ")
    assert happened, text
    assert next_step, text
