"""Delay of refusals by limits: if a network exceeds a rate of refused requests (runtime/refusals.py), an answer with
the status 429 is sent after a pause. Otherwise a client that asks again at once would take more of the process than its
limit grants.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.identity.address import OwnAddress
from runtime.pool import Pool, Share
from runtime.refusals import RefusalRate

MAX_DELAYED_REFUSALS: Final = 512
"""Maximum number of answers that are delayed at the same time; further ones are sent at once."""


class DelayedRefusals:
    """ASGI middleware that delays answers with the status 429 while their network exceeds the rate of refused requests.

    The application has ended when an answer waits, so that the request holds nothing but its answer.
    """

    def __init__(self, app: ASGIApp, *, own: OwnAddress, rate: RefusalRate) -> None:
        """`own` determines the network of a request, and `rate` counts the refused requests of each network."""
        self._app = app
        self._own = own
        self._rate = rate
        self._delayed = Pool("delayed_refusals", MAX_DELAYED_REFUSALS, counted=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        pause, network = 0.0, ""
        answer: list[Message] = []

        async def sending(message: Message) -> None:
            nonlocal pause, network
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.TOO_MANY_REQUESTS:
                network = self._own.network(Request(scope))
                pause = self._rate.pause(network)
            if pause:
                answer.append(message)
            else:
                await send(message)

        await self._app(scope, receive, sending)
        share = Share.alone(network)
        if pause and self._delayed.try_take(1, share):
            try:
                await asyncio.sleep(pause)
            finally:
                self._delayed.give(1, share)
        for message in answer:
            await send(message)
