"""A network that does not wait as its limits tell it to gets their refusals late, and nobody else does."""

import asyncio

from gateway.http.refusals import MAX_DELAYED_REFUSALS, DelayedRefusals
from gateway.identity.address import OwnAddress
from runtime.refusals import MAX_PAUSE_SECONDS, REFUSALS_AT_ONCE, REFUSALS_PER_SECOND, RefusalRate

MALLORY, ANN = "192.0.2.1", "192.0.2.2"


class Asked:
    """An application that answers with a status, and what of its answers is sent."""

    def __init__(self):
        self.rate = RefusalRate(clock=lambda: 0.0)
        self.ended = self.sent = 0
        own = OwnAddress(public_url="", trusted_networks=[])
        self._status = 429
        self._app = DelayedRefusals(self._answer, own=own, rate=self.rate)

    async def ask(self, network=MALLORY, *, status=429):
        self._status = status
        await self._app({"type": "http", "headers": [], "client": (network, 1)}, self._receive, self._send)

    async def _answer(self, _scope, _receive, send):
        await send({"type": "http.response.start", "status": self._status, "headers": []})
        await send({"type": "http.response.body", "body": b"later", "more_body": False})
        self.ended += 1

    async def _receive(self):
        return {"type": "http.request", "body": b""}

    async def _send(self, message):
        self.sent += message["type"] == "http.response.body"


def above(asked, seconds):
    """Refuse so much that the next refusal has such a pause."""
    while asked.rate.pause(MALLORY) < seconds:
        pass


async def test_refusals_above_the_rate_are_sent_late_when_their_requests_have_ended():
    asked = Asked()
    for _ in range(REFUSALS_AT_ONCE):
        await asked.ask()
    assert asked.sent == REFUSALS_AT_ONCE
    above(asked, MAX_PAUSE_SECONDS)
    late = asyncio.create_task(asked.ask())
    while asked.ended == REFUSALS_AT_ONCE:
        await asyncio.sleep(0)
    assert asked.sent == REFUSALS_AT_ONCE
    await asked.ask(ANN)
    await asked.ask(MALLORY, status=200)
    assert asked.sent == REFUSALS_AT_ONCE + 2
    async with asyncio.timeout(60):
        await late
    assert asked.sent == REFUSALS_AT_ONCE + 3


async def test_so_many_answers_are_delayed_at_once_and_one_network_has_half():
    asked = Asked()
    above(asked, MAX_PAUSE_SECONDS)
    asking = [asyncio.create_task(asked.ask()) for _ in range(MAX_DELAYED_REFUSALS)]
    while asked.ended < MAX_DELAYED_REFUSALS:
        await asyncio.sleep(0)
    await asyncio.sleep(1 / REFUSALS_PER_SECOND)
    assert asked.sent == MAX_DELAYED_REFUSALS // 2
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
