"""The bytes that wait for slow readers of the gateway are bounded, whatever they answer."""

import asyncio

from gateway.http.pace import ACCOUNTED, Paced
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

    async def ask(self, network):
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
        }
        await self._paced(scope, receive, send)


async def settled(condition):
    async with asyncio.timeout(30):
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
