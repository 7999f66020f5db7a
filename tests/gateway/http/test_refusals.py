"""A network that does not wait as its limits tell it to gets their refusals late, and nobody else does."""

import asyncio
from contextlib import AsyncExitStack
from ipaddress import ip_network

from prometheus_client import REGISTRY

from gateway.http.reception import GatewayReception
from gateway.http.refusals import RefusalMiddleware
from gateway.identity.address import OwnAddress
from runtime.http.connection import CLOSE_UNANSWERED
from runtime.refusals import (
    MAX_DELAYED_REFUSALS,
    MAX_PAUSE_SECONDS,
    REFUSALS_AT_ONCE,
    DelayedRefusals,
    RefusalRate,
)
from tests.gateway.http.refusing import Refusing
from tests.runtime.connections import SECONDS, connect, serving, until

MALLORY, ANN = "192.0.2.1", "192.0.2.2"


class Asked:
    """An application that answers with a status, what of its answers is sent, and the connections that are closed."""

    def __init__(self):
        self.rate = RefusalRate(clock=lambda: 0.0)
        self.ended = self.sent = 0
        self.pauses: list[float] = []
        self.over = asyncio.Event()
        """Set when the pauses are over."""
        self.shut: list[float] = []
        """The pause of each connection that was closed without an answer."""
        own = OwnAddress(public_url="", trusted_networks=[])
        self._status = 429
        self._app = RefusalMiddleware(self._answer, own=own, delayed=DelayedRefusals(self.rate, sleep=self._sleep))

    async def ask(self, network=MALLORY, *, status=429):
        self._status = status
        scope = {"type": "http", "headers": [], "client": (network, 1), CLOSE_UNANSWERED: self.shut.append}
        await self._app(scope, self._receive, self._send)

    async def _sleep(self, seconds):
        self.pauses.append(seconds)
        await self.over.wait()

    async def _answer(self, _scope, _receive, send):
        await send({"type": "http.response.start", "status": self._status, "headers": []})
        await send({"type": "http.response.body", "body": b"later", "more_body": False})
        self.ended += 1

    async def _receive(self):
        return {"type": "http.request", "body": b""}

    async def _send(self, message):
        self.sent += message["type"] == "http.response.body"


def unanswered():
    return REGISTRY.get_sample_value("syncline_http_unanswered_total")


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
    await until(lambda: bool(asked.pauses))
    assert asked.pauses == [MAX_PAUSE_SECONDS]
    assert asked.ended == REFUSALS_AT_ONCE + 1
    assert asked.sent == REFUSALS_AT_ONCE
    await asked.ask(ANN)
    await asked.ask(MALLORY, status=200)
    assert asked.sent == REFUSALS_AT_ONCE + 2
    asked.over.set()
    await late
    assert asked.sent == REFUSALS_AT_ONCE + 3
    assert asked.shut == []


async def test_one_network_has_half_of_the_delayed_answers_and_further_ones_are_not_sent():
    asked, before = Asked(), unanswered()
    above(asked, MAX_PAUSE_SECONDS)
    asking = [asyncio.create_task(asked.ask()) for _ in range(MAX_DELAYED_REFUSALS)]
    await until(lambda: asked.ended == MAX_DELAYED_REFUSALS)
    assert len(asked.pauses) == MAX_DELAYED_REFUSALS // 2
    assert asked.shut == [MAX_PAUSE_SECONDS] * (MAX_DELAYED_REFUSALS // 2)
    assert unanswered() - before == MAX_DELAYED_REFUSALS // 2
    assert asked.sent == 0
    asked.over.set()
    await asyncio.gather(*asking)
    assert asked.sent == MAX_DELAYED_REFUSALS // 2


async def test_a_trusted_proxy_gets_a_refusal_that_cannot_be_delayed_as_the_last_answer_of_its_connection():
    """A proxy would repeat a request whose connection is closed without an answer."""
    refusing = Refusing()
    proxy = [ip_network("127.0.0.2")]
    own = OwnAddress(public_url="", trusted_networks=proxy)
    app = RefusalMiddleware(refusing, own=own, delayed=refusing.delayed)
    reception = GatewayReception(100, own, header_section_seconds=30.0)
    asking = f"GET /v1/spaces HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {MALLORY}\r\n\r\n".encode()
    async with serving(app, reception) as port, refusing.exhausted(MALLORY), AsyncExitStack() as opened:
        reader, writer = await connect(opened, port, "127.0.0.2")
        writer.write(asking)
        async with asyncio.timeout(SECONDS):
            head, _, rest = (await reader.read()).decode().partition("\r\n\r\n")
    status, *headers = head.split("\r\n")
    assert status.startswith("HTTP/1.1 429 ")
    assert {"retry-after: 1", "connection: close"} <= set(headers)
    assert rest == ""
    assert refusing.asked == 1
