"""Many calls, a few at a time."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from runtime.workers import results_of


class Calls:
    """Calls that count how many of them are under way."""

    def __init__(self, *, failing: int = -1) -> None:
        self.failing = failing
        self.begun: list[int] = []
        self.under_way = 0
        self.most = 0

    async def call(self, number: int) -> int:
        self.begun.append(number)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for _ in range(1 + number % 3):
                await asyncio.sleep(0)
            if number == self.failing:
                raise LookupError(number)
            return number
        finally:
            self.under_way -= 1


@pytest.mark.parametrize("account", [None, "ann"])
async def test_results_come_in_order_and_few_calls_are_under_way(account: str | None) -> None:
    calls = Calls()
    numbers = (partial(calls.call, number) for number in range(50))
    assert await results_of(numbers, at_once=4, account=account) == list(range(50))
    assert calls.most == 4 if account is None else 1 <= calls.most <= 4
    assert await results_of([], at_once=4, account=account) == []


@pytest.mark.parametrize("account", [None, "ann"])
async def test_after_a_failure_nothing_is_begun_or_under_way(account: str | None) -> None:
    calls = Calls(failing=10)
    with pytest.raises(LookupError):
        await results_of((partial(calls.call, number) for number in range(50)), at_once=4, account=account)
    assert calls.under_way == 0
    begun = len(calls.begun)
    assert begun < 20
    await asyncio.sleep(0)
    assert len(calls.begun) == begun
