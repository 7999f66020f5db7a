"""An instance has an ear of its own, leaves none behind, and clears away what others left."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from services.notify.doorbells import Doorbells
from services.notify.listener import LEASE_MS, Listener
from syncline.model.doorbell import Doorbell
from syncline.model.errors import Unavailable
from syncline.model.identifiers import SpaceId
from tests.services.notify.fakes import Person, commit, event, eventually
from tests.support.notify import InMemoryNotifyStore, InMemoryTopic

ANN = Person("ann@example.com")
A = SpaceId("a" * 26)


class World:
    def __init__(self):
        self.topic = InMemoryTopic()
        self.store = InMemoryNotifyStore()
        self.doorbells = Doorbells()
        self.now = 1_000_000

    def listener(self, **more):
        return Listener(self.topic, self.store, self.doorbells, clock=lambda: self.now, **more)

    @asynccontextmanager
    async def listening(self, **more):
        listener = self.listener(**more)
        async with listener.opened():
            task = asyncio.create_task(listener.listen())
            try:
                yield listener
            finally:
                task.cancel()
                await asyncio.wait([task])

    def announce(self, seq):
        self.topic.publish(event(A, commit(seq, ANN, "a.txt")))


@pytest.fixture
def world():
    return World()


async def test_what_is_announced_rings(world):
    async with world.listening():
        with world.doorbells.watching([A]) as watcher:
            world.announce(7)
            assert await watcher.next() == Doorbell(A, 7)
        await eventually(lambda: not any(map(len, world.topic.queues.values())))


async def test_each_instance_hears_everything(world):
    other = World()
    other.topic = world.topic
    async with world.listening(), other.listening():
        with world.doorbells.watching([A]) as here, other.doorbells.watching([A]) as there:
            world.announce(7)
            assert await here.next() == await there.next() == Doorbell(A, 7)


async def test_nothing_is_left_behind(world):
    async with world.listening():
        assert len(world.topic.queues) == 1
        assert await world.store.held_queues(now=world.now) == set(world.topic.queues)
    assert world.topic.queues == {}
    assert not await world.store.held_queues(now=world.now)


async def test_malformed_events_stop_nothing(world):
    async with world.listening():
        with world.doorbells.watching([A]) as watcher:
            world.topic.publish("hello")
            world.announce(7)
            assert await watcher.next() == Doorbell(A, 7)


async def test_abandoned_queues_are_removed_and_others_are_not(world):
    crashed = world.listener()
    await crashed._open()
    (abandoned,) = world.topic.queues
    world.now += LEASE_MS // 2
    async with world.listening() as listener:
        await listener.sweep()
        assert abandoned in world.topic.queues
        world.now += LEASE_MS // 2
        await listener.sweep()
        assert abandoned not in world.topic.queues
        assert len(world.topic.queues) == 1


async def test_the_lease_is_renewed_and_own_queue_survives(world):
    async with world.listening() as listener:
        world.now += 2 * LEASE_MS
        keeping = asyncio.create_task(listener.keep())
        held = set()

        async def look():
            held.update(await world.store.held_queues(now=world.now))

        async with asyncio.timeout(60):
            while not held:
                await look()
                await asyncio.sleep(0.001)
        keeping.cancel()
        assert held == set(world.topic.queues)


async def test_when_its_queue_is_gone_it_makes_another_and_ends_watches(world):
    async with world.listening():
        with world.doorbells.watching([A]) as watcher:
            (name,) = world.topic.queues
            await world.topic.close(name)
            with pytest.raises(Unavailable):
                await watcher.next()
        assert name not in world.topic.queues
        with world.doorbells.watching([A]) as watcher:
            world.announce(7)
            assert await watcher.next() == Doorbell(A, 7)


async def test_after_a_silence_in_which_messages_expired_watches_end(world):
    now = [0.0]
    async with world.listening(monotonic=lambda: now[0]):
        with world.doorbells.watching([A]) as watcher:
            now[0] = 301
            world.announce(7)
            with pytest.raises(Unavailable):
                await watcher.next()


async def test_a_passing_fault_is_waited_out(world):
    async with world.listening() as listener:
        queue, failed = listener._queue, asyncio.Event()

        class Flaky:
            async def receive(self):
                if not failed.is_set():
                    failed.set()
                    raise Unavailable
                return await queue.receive()

            async def delete(self, messages):
                await queue.delete(messages)

        listener._queue = Flaky()
        with world.doorbells.watching([A]) as watcher:
            world.announce(6)
            assert await watcher.next() == Doorbell(A, 6)
            world.announce(7)
            assert await watcher.next() == Doorbell(A, 7)
        assert failed.is_set()


async def test_where_storage_takes_no_lease_yet_the_queue_is_made_later(world):
    full = True

    class Full(InMemoryNotifyStore):
        async def hold_queue(self, name, *, until):
            if full:
                raise Unavailable
            await super().hold_queue(name, until=until)

    world.store = Full()
    async with world.listening():
        with world.doorbells.watching([A]) as watcher:
            assert not world.topic.queues
            full = False
            await eventually(lambda: world.topic.queues)
            with pytest.raises(Unavailable):
                await watcher.next()  # the watcher asks for what was announced before
        with world.doorbells.watching([A]) as watcher:
            world.announce(7)
            assert await watcher.next() == Doorbell(A, 7)
    assert not world.topic.queues
