"""Many calls, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from runtime.turns import turn
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


class Places:
    """Places that are counted."""

    def __init__(self) -> None:
        self.taken = 0
        self.held = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        self.taken += 1
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1


@pytest.mark.parametrize("account", [None, "ann"])
@pytest.mark.parametrize("count", [0, 1, 50])
async def test_a_place_is_taken_for_each_call_and_for_nothing_else(account: str | None, count: int) -> None:
    calls, places = Calls(), Places()
    numbers = (partial(calls.call, number) for number in range(count))
    assert await results_of(numbers, at_once=4, account=account, place=places.place) == list(range(count))
    assert places.taken == count


async def test_nobody_holds_a_place_while_waiting_for_a_turn() -> None:
    """Each turn of "bob" comes while workers of "ann" wait for theirs."""
    places = Places()
    held: list[int] = []

    async def others() -> None:
        for _ in range(10):
            await turn("bob")
            held.append(places.held)

    async def call() -> None:
        pass

    other = asyncio.create_task(others())
    await results_of((call for _ in range(10)), at_once=4, account="ann", place=places.place)
    await other
    assert held == [0] * 10


@pytest.mark.parametrize("count", [0, 9])
async def test_one_turn_at_most_finds_nothing_left(count: int) -> None:
    """The turns of two accounts alternate, so that "bob" has as many as "ann" takes."""
    had = 0

    async def others() -> None:
        nonlocal had
        while True:
            await turn("bob")
            had += 1

    async def call() -> None:
        pass

    other = asyncio.create_task(others())
    await results_of((call for _ in range(count)), at_once=4, account="ann")
    other.cancel()
    assert had <= count + 2
