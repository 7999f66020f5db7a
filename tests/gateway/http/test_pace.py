"""The bytes that wait for slow readers of the gateway are bounded, whatever they answer."""

import asyncio

from gateway.http.pace import ACCOUNTED, MEMORY, Paced
from gateway.http.reception import SENDER
from gateway.identity.address import OwnAddress
from runtime.pool import MAX_WAITERS, Pool, TooMuchAtOnce
from syncline.model.blocks import KIB, MIB

PART = 128 * KIB


def answering(**more):
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(PART), "more_body": False, **more})

    return app


class Readers:
    """The readers ask, each at a connection of a network, and take nothing."""

    def __init__(self, app, answers):
        own = OwnAddress(public_url="", trusted_networks=[])
        self._paced = Paced(app, grace=3600, rate=1, answers=answers, own=own)
        self.begun = 0

    async def ask(self, network, *, sender=""):
        async def receive():
            return {"type": "http.request", "body": b""}

        async def send(_message):
            self.begun += 1
            await asyncio.Event().wait()

        scope = {
            "type": "http",
            "headers": [],
            "client": (network, 1),
            "scheme": "http",
            "path": "/",
            "server": ("x", 1),
            SENDER: lambda _scope: sender,
        }
        await self._paced(scope, receive, send)


async def settled(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def test_large_answers_that_nobody_takes_are_bounded():
    answers = Pool("answers", 4 * MIB)
    readers = Readers(answering(), answers)
    asked = [asyncio.create_task(readers.ask("192.0.2.1")) for _ in range(200)]
    await settled(lambda: sum(task.done() for task in asked) == 200 - 16 - MAX_WAITERS)
    assert readers.begun == 16, "half of the memory is one network's"
    assert all(isinstance(task.exception(), TooMuchAtOnce) for task in asked if task.done())
    other = asyncio.create_task(readers.ask("192.0.2.2"))
    await settled(lambda: readers.begun == 17)
    for task in (*asked, other):
        task.cancel()
    await asyncio.gather(*asked, other, return_exceptions=True)
    assert answers.taken() == 0


async def test_contents_that_have_memory_of_their_own_take_none_here():
    answers = Pool("answers", 4 * MIB)
    readers = Readers(answering(**{ACCOUNTED: True}), answers)
    asked = [asyncio.create_task(readers.ask("192.0.2.1")) for _ in range(50)]
    await settled(lambda: readers.begun == 50)
    assert answers.taken() == 0
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


def reserving(size):
    async def app(scope, receive, send):
        await scope[MEMORY].reserve(size)
        await answering()(scope, receive, send)

    return app


async def test_an_answer_has_its_memory_before_it_is_made_and_keeps_what_it_needs():
    answers = Pool("answers", 4 * MIB)
    readers = Readers(reserving(MIB), answers)
    asked = [asyncio.create_task(readers.ask("192.0.2.1")) for _ in range(2)]
    await settled(lambda: readers.begun == 2)
    assert answers.taken() == 2 * PART
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert answers.taken() == 0


async def test_who_is_known_has_memory_besides_the_strangers_of_the_network():
    answers = Pool("answers", 4 * MIB)
    readers = Readers(answering(), answers)
    asked = [asyncio.create_task(readers.ask("192.0.2.1")) for _ in range(17)]
    await settled(lambda: readers.begun == 16)
    known = asyncio.create_task(readers.ask("192.0.2.1", sender="ann"))
    await settled(lambda: readers.begun == 17)
    for task in (*asked, known):
        task.cancel()
    await asyncio.gather(*asked, known, return_exceptions=True)
    assert answers.taken() == 0


async def test_an_answer_that_is_never_made_gives_its_memory_back():
    answers = Pool("answers", 4 * MIB)

    async def app(scope, _receive, _send):
        await scope[MEMORY].reserve(MIB)
        assert answers.taken() == MIB
        raise ZeroDivisionError

    readers = Readers(app, answers)
    for _ in range(8):
        await asyncio.gather(readers.ask("192.0.2.1"), return_exceptions=True)
        assert answers.taken() == 0
