"""A message is deleted when all is done, put back when not, and left alone when it is none."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from services.notify.events import parse
from services.notify.mailer import MAILS_AT_ONCE, HeldElsewhere, Mailer
from services.notify.postman import MAX_ATTEMPTS, MAX_WAIT_SECONDS, MESSAGES_AT_ONCE, Postman
from syncline.model.errors import Unavailable
from tests.services.notify.fakes import Person, commit, event, eventually, fake_auth
from tests.support.notify import InMemoryMailSender, InMemoryNotifyStore, InMemoryQueue

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
        super().__init__(wait_seconds=1, max_receives=MAX_ATTEMPTS)
        self.hidden: list[int] = []
        self.receives: list[int] = []

    async def receive(self):
        messages = await super().receive()
        self.receives += [message.receives for message in messages]
        return messages

    async def hide(self, message, *, seconds):
        self.hidden.append(seconds)
        await super().hide(message, seconds=0)


@asynccontextmanager
async def working(queue, teller, *, clock=lambda: int(time.time() * 1000)):
    task = asyncio.create_task(Postman(queue, teller, clock=clock).work())
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
    assert queue.dead == [BODY]


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


# ---- one sender's mail does not wait for another's


class Held:
    """A mailer that never finishes what `sender` caused."""

    def __init__(self, sender):
        self.sender = sender
        self.begun = 0
        self.finished = 0

    async def tell(self, event):
        if event.sender == self.sender.user:
            self.begun += 1
            await asyncio.Event().wait()
        self.finished += 1


async def test_a_slow_message_delays_no_other():
    queue, teller = Queue(), Held(ANN)
    queue.put(BODY)
    for number in range(30):
        queue.put(event(SPACE, commit(number + 2, Person(f"{number}@example.com"), "x")))
    async with working(queue, teller):
        await eventually(lambda: teller.finished == 30 and len(queue) == 1)
    assert teller.begun == 1


async def test_a_flood_of_one_sender_is_put_back_behind_the_others_and_comes_no_nearer_to_the_dead_letters():
    queue, teller = Queue(), Held(ANN)
    for number in range(200):
        queue.put(event(SPACE, commit(number + 1, ANN, "x")))
    queue.put(event(SPACE, commit(201, Person("bob@example.com"), "x")))
    async with working(queue, teller):
        await eventually(lambda: teller.finished == 1)
        assert teller.begun == MESSAGES_AT_ONCE // 2
        assert len(queue) == 200
    assert max(queue.receives) == 1


class Flooded(Queue):
    """A queue in which what is put back comes at once."""

    def __init__(self):
        super().__init__()
        self.put_back_of: list[str] = []
        self.was_put_back = asyncio.Event()

    async def put_back(self, message, *, seconds):
        self.put_back_of.append(message.body)
        await super().put_back(message, seconds=0)
        self.was_put_back.set()


class Failing:
    """A mailer in a flood of one sender, which always fails to tell of `poison`.

    Announcements of SPACE beside that are never told. Those of another space keep their place until one was put back.
    """

    def __init__(self, queue, *, poison, filler):
        self.queue = queue
        self.poison = parse(poison)
        self.filler = filler
        self.failed = 0

    async def tell(self, event):
        if event == self.poison:
            self.failed += 1
            self.queue.was_put_back.clear()
            self.queue.put_first(self.filler)  # The filler has the place when the poison comes again.
            raise ValueError("it cannot be told")
        if event.space != SPACE:
            await self.queue.was_put_back.wait()
            return
        await asyncio.Event().wait()


async def test_what_always_fails_comes_to_the_dead_letters_although_it_is_put_back_between_its_attempts():
    queue = Flooded()
    for number in range(MESSAGES_AT_ONCE // 2 - 1):
        queue.put(event(SPACE, commit(number + 1, ANN, "x")))
    poison, filler = event(SPACE, commit(1000, ANN, "x")), event("b" * 26, commit(1, ANN, "x"))
    queue.put(poison)
    teller = Failing(queue, poison=poison, filler=filler)
    async with working(queue, teller):
        await eventually(lambda: teller.failed > MAX_ATTEMPTS or bool(queue.dead))
    assert queue.dead == [poison]
    assert teller.failed == MAX_ATTEMPTS
    assert queue.put_back_of == [poison] * (MAX_ATTEMPTS - 1)


async def test_what_has_waited_for_as_long_as_the_queue_keeps_a_message_is_not_put_back_any_more():
    queue, teller = Flooded(), Held(ANN)
    for number in range(MESSAGES_AT_ONCE // 2):
        queue.put(event(SPACE, commit(number + 1, ANN, "x")))
    last = event(SPACE, commit(1000, ANN, "x"))
    queue.put(last)
    now = time.time()
    async with working(queue, teller, clock=lambda: int(now * 1000)):
        await eventually(lambda: len(queue.put_back_of) > 2 * MAX_ATTEMPTS)
        assert not queue.dead
        now += MAX_WAIT_SECONDS + 1
        await eventually(lambda: queue.dead == [last])


class Stuck(InMemoryMailSender):
    """SES that answers nothing until it has got the mail to an address."""

    def __init__(self, awaited):
        super().__init__()
        self.awaited = awaited
        self.came = asyncio.Event()
        self.before = 0

    async def send(self, mail):
        if mail.to == self.awaited.email:
            self.came.set()
        elif not self.came.is_set():
            self.before += 1
            await self.came.wait()
        await super().send(mail)


@pytest.mark.parametrize("flooded", ["one large space", "many spaces"])
async def test_the_mail_of_another_sender_goes_out_after_few_of_a_flood(flooded):
    """SES answers none of the flood's mails. The other one goes out all the same, and all of the flood afterwards."""
    auth, store, dan, eve = fake_auth(), InMemoryNotifyStore(), Person("dan@example.com"), Person("eve@example.com")
    sender, queue = Stuck(eve), Queue()
    mailer = Mailer(
        directory=auth,
        preferences=store,
        claims=store,
        schedule=store,
        counts=store,
        sender=sender,
        url="http://127.0.0.1:8080",
        clock=lambda: 1_000_000,
        window_ms=0,
        per_sender=1000,
        per_person=1000,
    )
    crowd = [Person(f"{number}@example.com") for number in range(30)]
    if flooded == "one large space":
        space = auth.space(ANN, *crowd)
        events = [event(space, commit(number + 1, ANN, "x")) for number in range(10)]
    else:
        events = [event(auth.space(ANN, person), commit(1, ANN, "x")) for person in crowd]
    for body in events:
        queue.put(body)
    queue.put(event(auth.space(dan, eve), commit(1, dan, "x")))
    async with working(queue, mailer):
        await eventually(sender.came.is_set)
        assert sender.before <= MAILS_AT_ONCE // 2
        sent = 10 * 30 if flooded == "one large space" else 30
        await eventually(lambda: len(sender.sent) == sent + 1)
        await eventually(lambda: len(queue) == 0)
