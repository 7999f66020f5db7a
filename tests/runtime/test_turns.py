"""Turns go round the callers that wait, one in each round of the event loop, and everybody else runs in between."""

from __future__ import annotations

import asyncio
import time

import pytest

from runtime.rests import ALONE_SECONDS, MAX_REST_SECONDS, REST_STEP_SECONDS, Rests
from runtime.turns import REST_ITERATIONS, charged_to, granted, turn


async def test_a_caller_with_many_requests_gets_no_more_turns_than_one_with_few() -> None:
    order: list[str] = []

    async def work(key: str, slices: int) -> None:
        for _ in range(slices):
            await turn(key)
            order.append(key)

    await asyncio.gather(*(work("mallory", 20) for _ in range(50)), work("ann", 20), work("ben", 20))
    assert order.count("mallory") == 1000
    first = order[:60]
    assert [first.count(key) for key in ("mallory", "ann", "ben")] == [20, 20, 20]


async def test_who_share_a_key_share_its_turns() -> None:
    order: list[str] = []

    async def wait(key: str, person: str) -> None:
        await granted(key, person)
        order.append(person)

    waiting = [("office", "mallory")] * 50 + [("office", "ann")] * 2 + [("home", "ben")] * 4
    await asyncio.gather(*(wait(*one) for one in waiting))
    assert order[:8] == ["mallory", "ben", "ann", "ben", "mallory", "ben", "ann", "ben"]
    assert len(order) == 56


async def test_what_is_not_bulk_runs_between_two_slices() -> None:
    slices, rounds = 0, 0

    async def bulk(key: str) -> None:
        nonlocal slices
        for _ in range(50):
            await turn(key)
            slices += 1

    working = [asyncio.create_task(bulk(f"{n}")) for n in range(10)]
    await turn("first")
    while slices < 500:
        before = slices
        await asyncio.sleep(0)
        assert slices - before <= 1
        rounds += 1
    assert rounds >= 499 * REST_ITERATIONS
    await asyncio.gather(*working)


async def test_a_call_of_some_rounds_meets_one_slice_whoever_does_bulk_work() -> None:
    slices = 0

    async def bulk(key: str) -> None:
        nonlocal slices
        for _ in range(50):
            await turn(key)
            slices += 1

    working = [asyncio.create_task(bulk(f"{n}")) for n in range(10)]
    while not all(one.done() for one in working):
        before = slices
        for _ in range(REST_ITERATIONS - 1):
            await asyncio.sleep(0)
        assert slices - before <= 1


async def test_a_rest_is_kept_also_where_nobody_waited_for_it_to_end() -> None:
    await turn("ann")
    for _ in range(3):
        await asyncio.sleep(0)
    turning = asyncio.ensure_future(turn("ben"))
    rounds = 0
    while not turning.done():
        await asyncio.sleep(0)
        rounds += 1
    assert rounds >= REST_ITERATIONS - 5


async def test_who_gives_up_takes_no_turn() -> None:
    waiting = [asyncio.create_task(turn("mallory")) for _ in range(10)]
    await asyncio.sleep(0)
    for one in waiting:
        one.cancel()
    async with asyncio.timeout(60):
        await turn("mallory")
        await turn("ann")


async def test_a_request_that_is_charged_ends_as_it_would_alone() -> None:
    async def told(text: str) -> str:
        await asyncio.sleep(0)
        return text

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    ended: list[str] = []

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    assert await charged_to("ann", told("yes")) == "yes"
    with pytest.raises(ValueError, match="no"):
        await charged_to("ann", failing())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await charged_to("ann", lasting())
    assert ended == ["cancelled"]
    async with asyncio.timeout(60):
        assert await asyncio.gather(*(charged_to("ann", told(f"{n}")) for n in range(3))) == ["0", "1", "2"]


LONG_SECONDS = 20 * REST_STEP_SECONDS


async def begun_during(steps: int, *, by: str) -> int:
    """Let fifty requests of mallory, each of which blocks the event loop for a while, meet a request with so many
    steps of `by`; return how many of them began before it ended.
    """
    begun = 0

    async def block() -> None:
        time.sleep(LONG_SECONDS)

    async def request() -> None:
        nonlocal begun
        await granted("mallory")
        begun += 1
        await charged_to("mallory", block())

    async def many() -> int:
        for _ in range(steps):
            await asyncio.sleep(0)
        return begun

    flood = [asyncio.create_task(request()) for _ in range(50)]
    await granted(by)
    found = await charged_to(by, many())
    async with asyncio.timeout(60):
        await asyncio.gather(*flood)
    return found


async def test_a_network_whose_requests_take_long_rests_while_others_are_at_work() -> None:
    assert await begun_during(40, by="ann") <= 4


async def test_a_network_that_is_alone_does_not_rest() -> None:
    await asyncio.sleep(2 * ALONE_SECONDS)
    assert await begun_during(40, by="mallory") >= 35


def test_a_rest_lasts_as_long_as_its_maximum_at_most_whatever_goes_on_meanwhile() -> None:
    """Requests in progress of the same network go on to work while its next request waits."""
    now = 0.0
    rests = Rests(lambda: now, by_time=True)
    waited = 0.0
    rests.work("home", 0.001)
    rests.work("office", 0.001)
    while not rests.has_rested("office"):
        now += 0.008
        waited += 0.008
        rests.work("office", 0.008)
        rests.work("home", 0.001)
    assert 0.002 < waited <= MAX_REST_SECONDS + 0.008


def test_many_short_steps_count_as_much_as_one_long_one() -> None:
    now = 0.0
    rests = Rests(lambda: now)
    rests.work("home", 0.001)
    for _ in range(100):
        rests.work("office", REST_STEP_SECONDS * 0.9)
    iterations = 0
    while not rests.has_rested("office"):
        rests.count_iteration()
        iterations += 1
    assert iterations == 90
