"""A message is deleted when all is done, put back when not, and left alone when it is none."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from services.notify.mailer import HeldElsewhere
from services.notify.postman import Postman
from syncline.model.errors import Unavailable
from tests.services.notify.fakes import Person, commit, event, eventually
from tests.support.notify import InMemoryQueue

ANN = Person("ann@example.com")
SPACE = "a" * 26
BODY = event(SPACE, commit(1, ANN, "a.txt"))


class Teller:
    """A mailer that does what the test says."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.told = 0

    async def tell(self, event):
        self.told += 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            await outcome.wait()


class Queue(InMemoryQueue):
    """Remembers for how long messages were hidden."""

    def __init__(self):
        super().__init__(wait_seconds=1)
        self.hidden: list[int] = []

    async def hide(self, message, *, seconds):
        self.hidden.append(seconds)
        await super().hide(message, seconds=0)


@asynccontextmanager
async def working(queue, teller):
    task = asyncio.create_task(Postman(queue, teller).work())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_message_is_deleted_when_all_is_done():
    queue, teller = Queue(), Teller()
    queue.put(BODY)
    async with working(queue, teller):
        await eventually(lambda: teller.told == 1 and len(queue) == 0)


@pytest.mark.parametrize("problem", [HeldElsewhere(), Unavailable(), ValueError("a defect")])
async def test_what_failed_comes_again(problem):
    queue, teller = Queue(), Teller(problem)
    queue.put(BODY)
    async with working(queue, teller):
        await eventually(lambda: teller.told == 2 and len(queue) == 0)
    assert queue.hidden[0] >= 60


async def test_what_fails_again_and_again_comes_later_and_later():
    queue, teller = Queue(), Teller(*(ValueError() for _ in range(8)))
    queue.put(BODY)
    async with working(queue, teller):
        await eventually(lambda: len(queue) == 0)
    assert queue.hidden == [60, 180, 540, 1620, 4860, 14580, 21600, 21600]


async def test_a_malformed_message_is_left_for_the_dead_letters_and_stops_nobody():
    queue, teller = Queue(), Teller()
    queue.put("hello")
    queue.put(BODY)
    async with working(queue, teller):
        await eventually(lambda: teller.told == 1 and len(queue) == 1)
    assert queue.hidden == []


async def test_while_nothing_works_no_more_messages_are_taken():
    queue, teller = Queue(), Teller(*(Unavailable() for _ in range(100)))
    for _ in range(30):
        queue.put(BODY)
    async with working(queue, teller):
        await eventually(lambda: teller.told == 10)
        await asyncio.sleep(0.1)
    assert teller.told == 10


async def test_what_is_in_hand_is_finished_when_the_process_stops():
    going = asyncio.Event()
    queue, teller = Queue(), Teller(going)
    queue.put(BODY)
    async with working(queue, teller) as task:
        await eventually(lambda: teller.told == 1)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, going.set)
    assert len(queue) == 0
