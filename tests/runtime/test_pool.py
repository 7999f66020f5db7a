"""A shared pool is shared fairly, and comes back whole."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import pool as pool_module
from runtime.pool import MAX_NETWORK_WAITERS, MAX_WAITERS, Pool, Share, TooMuchAtOnce


def share(caller: str, network: str | None = None) -> Share:
    return Share(caller, network or f"of {caller}")


def fill(pool: Pool, who: Share, size: int) -> int:
    """Take as often as it goes; how much that was."""
    taken = 0
    while pool.try_take(size, who):
        taken += size
    return taken


def test_one_alone_gets_half_and_whoever_comes_next_finds_something():
    pool = Pool("test", 6000)
    assert fill(pool, share("a"), 10) == 3000
    assert fill(pool, share("b"), 10) == 1500
    assert fill(pool, share("c"), 10) == 750
    assert pool.free() == 750


def test_a_network_of_many_callers_does_not_get_all():
    pool = Pool("test", 10_000)
    held = sum(fill(pool, share(f"caller {number}", "one"), 200) for number in range(100))
    assert held <= 8000
    assert fill(pool, share("somebody"), 200) >= 800


def test_whoever_comes_next_from_a_network_that_holds_much_finds_something():
    pool = Pool("test", 10_000)
    assert sum(fill(pool, share(f"caller {number}", "one"), 500) for number in range(2)) == 7500
    assert pool.try_take(500, share("colleague", "one"))
    assert not pool.try_take(500, share("colleague", "one")), "they are one of those who hold something now"
    assert not pool.try_take(500, share("another colleague", "one")), "others are left a fifth"
    assert pool.try_take(500, share("somebody", "another"))


async def test_many_callers_of_one_network_wait_behind_one_of_another():
    pool, served = Pool("test", 4, counted=True), []
    holders = [share(f"holder {number}", "one") for number in range(4)]
    for number in range(3):
        await pool.take(1, holders[number])
    await pool.take(1, share("first", "two"))

    async def use(who: Share) -> None:
        async with pool.lent(1, who):
            served.append(who.caller)

    waiting = [asyncio.create_task(use(share(f"caller {number}", "one"))) for number in range(100)]
    await asyncio.sleep(0)
    waiting.append(asyncio.create_task(use(share("ann", "three"))))
    await asyncio.sleep(0)
    pool.give(1, holders[0])
    pool.give(1, holders[1])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert served[0] == "ann"
    pool.give(1, holders[2])
    pool.give(1, share("first", "two"))
    await asyncio.gather(*waiting)
    assert len(served) == 101


async def test_too_many_of_one_network_that_wait_are_refused():
    pool = Pool("test", 4, counted=True)
    for number in range(3):
        await pool.take(1, share(f"holder {number}", "one"))
    await pool.take(1, share("first", "two"))
    waiting = [
        asyncio.create_task(pool.take(1, share(f"caller {number}", "one"), patience=None))
        for number in range(MAX_NETWORK_WAITERS)
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        with pytest.raises(TooMuchAtOnce):
            await pool.take(1, share("one more", "one"), patience=None)
    other = asyncio.create_task(pool.take(1, share("ann", "three"), patience=None))
    await asyncio.sleep(0)
    pool.give(1, share("first", "two"))
    await other
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert not pool._waiting_of_network


def test_what_is_tiny_beside_what_is_free_is_always_had():
    pool = Pool("test", 10_000)
    for number in range(100):
        fill(pool, share(f"caller {number}", "one"), 200)
    assert not pool.try_take(200, share("caller 0", "one"))
    assert pool.try_take(1, share("caller 0", "one"))


def test_more_than_there_is_is_had_when_nothing_else_is_taken():
    pool = Pool("test", 10)
    assert pool.try_take(25, share("a"))
    assert not pool.try_take(1, share("b"))
    pool.give(25, share("a"))
    assert pool.try_take(1, share("b"))
    assert not pool.try_take(25, share("a"))


async def test_whoever_holds_least_is_served_first():
    pool, served = Pool("test", 100), []
    greedy, other = share("greedy"), share("other")
    await pool.take(40, greedy)
    await pool.take(50, share("third"))

    async def wait(who: Share) -> None:
        await pool.take(20, who)
        served.append(who.caller)

    waiting = [asyncio.create_task(wait(greedy)), asyncio.create_task(wait(other))]
    await asyncio.sleep(0)
    pool.give(25, share("third"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert served == ["other"]
    pool.give(25, share("third"))
    pool.give(40, greedy)
    await asyncio.gather(*waiting)
    assert served == ["other", "greedy"]


async def test_of_those_who_may_have_what_is_free_whoever_holds_least_is_served_first():
    pool, served = Pool("test", 100), []
    await pool.take(10, share("greedy"))
    for caller, size in (("second", 45), ("third", 20), ("fourth", 12), ("fifth", 6), ("sixth", 3)):
        await pool.take(size, share(caller))

    async def wait(who: str, size: int) -> None:
        await pool.take(size, share(who))
        served.append(who)

    waiting = [asyncio.create_task(wait(*one)) for one in (("greedy", 10), ("other", 25))]
    await asyncio.sleep(0)
    pool.give(26, share("second"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert served == ["other"], "though both may have it, and greedy came first"
    pool.give(25, share("other"))
    await asyncio.gather(*waiting)


async def test_whoever_comes_once_waits_one_turn_behind_one_who_comes_often():
    pool, served = Pool("test", 1), []
    await pool.take(1, share("first"))

    async def use(who: str) -> None:
        async with pool.lent(1, share(who)):
            served.append(who)

    often = [asyncio.create_task(use("often")) for _ in range(50)]
    await asyncio.sleep(0)
    once = asyncio.create_task(use("once"))
    await asyncio.sleep(0)
    pool.give(1, share("first"))
    await asyncio.gather(*often, once)
    assert served.index("once") <= 1


async def test_whoever_may_have_no_more_keeps_nobody_waiting():
    pool = Pool("test", 100)
    await pool.take(50, share("greedy"))
    waiting = [asyncio.create_task(pool.take(30, share("greedy"))) for _ in range(5)]
    await asyncio.sleep(0)
    assert pool.try_take(30, share("other"))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_whoever_waits_for_very_much_stops_nobody_and_for_little_is_not_passed_over():
    pool = Pool("test", 60)
    await pool.take(30, share("first"))
    much = asyncio.create_task(pool.take(40, share("much")))
    await asyncio.sleep(0)
    assert pool.try_take(15, share("other"))
    assert pool.try_take(6, share("another"))
    little = asyncio.create_task(pool.take(10, share("little")))
    await asyncio.sleep(0)
    assert not pool.try_take(9, share("somebody"))
    pool.give(6, share("another"))
    await little
    assert not much.done()
    pool.give(30, share("first"))
    pool.give(15, share("other"))
    await much


async def test_too_many_that_wait_are_refused_and_say_when_to_come_back():
    pool = Pool("test", 10)
    await pool.take(10, share("a"))
    waiting = [asyncio.create_task(pool.take(1, share("a"))) for _ in range(MAX_WAITERS)]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        with pytest.raises(TooMuchAtOnce) as refused:
            await pool.take(1, share("a"), patience=None)
    assert refused.value.retry_after_seconds == 5
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    pool.give(10, share("a"))
    assert (pool.free(), pool.taken()) == (10, 0)


async def test_patience_has_an_end():
    pool = Pool("test", 10)
    await pool.take(10, share("a"))
    before = pool_module.REFUSED.labels("test")._value.get()
    async with asyncio.timeout(60):
        with pytest.raises(TooMuchAtOnce):
            await pool.take(5, share("b"), patience=0.02)
    assert pool_module.REFUSED.labels("test")._value.get() == before + 1
    pool.give(10, share("a"))
    assert pool.try_take(5, share("b"))


async def test_whoever_is_served_and_cancelled_at_once_gives_it_back():
    pool = Pool("test", 10)
    await pool.take(10, share("a"))
    waiting = asyncio.create_task(pool.take(10, share("b")))
    await asyncio.sleep(0)
    pool.give(10, share("a"))
    waiting.cancel()
    await asyncio.wait([waiting])
    assert pool.free() == 10


async def test_those_who_are_cancelled_while_others_give_back_end_by_that_alone():
    pool = Pool("test", 12)
    await pool.take(6, share("a"))
    waiting = [asyncio.create_task(pool.take(3, share("a"))) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    pool.give(6, share("a"))
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 3
    assert pool.free() == 12


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.integers(1, 60)), max_size=30), st.data())
async def test_whatever_happens_everybody_is_served_and_it_comes_back_whole(wanted, data):
    pool, done = Pool("test", 50), []

    async def use(who: Share, size: int) -> None:
        async with pool.lent(size, who):
            await asyncio.sleep(0)
        done.append(size)

    tasks = [asyncio.create_task(use(Share(caller, network), size)) for caller, network, size in wanted]
    cancelled = data.draw(st.sets(st.integers(0, len(tasks) - 1), max_size=3)) if tasks else set()
    await asyncio.sleep(0)
    for index in cancelled:
        tasks[index].cancel()
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(done) >= len(tasks) - len(cancelled)
    assert (pool.free(), pool._waiting, +pool._held) == (50, {}, {})
