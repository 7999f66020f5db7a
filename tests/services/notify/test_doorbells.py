"""Doorbells reach who watches, coalesced, and nobody else."""

import asyncio
import gc
import tracemalloc

import pytest

from services.notify.doorbells import Doorbells
from syncline.model.doorbell import Doorbell
from syncline.model.errors import Unavailable
from syncline.model.identifiers import SpaceId

A, B = SpaceId("a" * 26), SpaceId("b" * 26)


async def test_a_watcher_hears_of_its_spaces():
    doorbells = Doorbells()
    with doorbells.watching([A, B]) as both, doorbells.watching([B]) as only_b:
        doorbells.ring(A, 1)
        doorbells.ring(B, 5)
        assert [await both.next(), await both.next()] == [Doorbell(A, 1), Doorbell(B, 5)]
        assert await only_b.next() == Doorbell(B, 5)
    assert doorbells._watched == {}
    assert doorbells._watchers == set()


async def test_whoever_waits_is_woken():
    doorbells = Doorbells()
    with doorbells.watching([A]) as watcher:
        waiting = asyncio.create_task(watcher.next())
        await asyncio.sleep(0)
        doorbells.ring(A, 1)
        assert await waiting == Doorbell(A, 1)


async def test_only_the_latest_number_waits():
    doorbells = Doorbells()
    with doorbells.watching([A]) as watcher:
        for seq in range(1, 1000):
            doorbells.ring(A, seq)
        assert await watcher.next() == Doorbell(A, 999)
        assert not watcher._pending


async def test_old_news_is_no_news():
    doorbells = Doorbells()
    with doorbells.watching([A]) as watcher:
        for seq in (3, 2, 3, 1):
            doorbells.ring(A, seq)
        assert await watcher.next() == Doorbell(A, 3)
        assert not watcher._pending


async def test_a_wait_that_is_given_up_loses_nothing():
    doorbells = Doorbells()
    with doorbells.watching([A]) as watcher:
        try:
            async with asyncio.timeout(0.01):
                await watcher.next()
        except TimeoutError:
            pass
        doorbells.ring(A, 1)
        assert await watcher.next() == Doorbell(A, 1)


async def test_an_interruption_fails_the_watches_that_there_are():
    doorbells = Doorbells()
    with doorbells.watching([A]) as watcher:
        doorbells.interrupt()
        with pytest.raises(Unavailable):
            await watcher.next()
    with doorbells.watching([A]) as watcher:
        doorbells.ring(A, 1)
        assert await watcher.next() == Doorbell(A, 1)


def test_an_idle_watcher_is_small():
    doorbells = Doorbells()
    spaces = [A, B]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        watching = [doorbells.watching(spaces) for _ in range(1000)]
        for each in watching:
            each.__enter__()
        gc.collect()
        each_one = (tracemalloc.get_traced_memory()[0] - before) / 1000
    finally:
        tracemalloc.stop()
    for each in watching:
        each.__exit__(None, None, None)
    assert each_one < 2000
