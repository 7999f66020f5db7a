"""Delay of refusals by limits: if a network exceeds a rate of refused requests (runtime/refusals.py), an answer with
the status 429 is sent after a pause. Otherwise a client that asks again at once would take more of the process than its
limit grants.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import metrics
from gateway.identity.address import OwnAddress
from runtime.http.connection import CLOSE_UNANSWERED
from runtime.pool import Share
from runtime.refusals import DelayedRefusals


class RefusalMiddleware:
    """ASGI middleware that delays answers with the status 429 while their network has more of them per second than
    `runtime.refusals` allows without a delay.

    The application has ended when an answer waits, so that the request holds nothing but its answer. If no further
    answer can be delayed, the connection is closed without an answer. For the time of the delay, the connection still
    counts among the connections of its network, so that a client which connects again soon may be refused.

    A trusted proxy gets an answer that cannot be delayed at once, as the last one of its connection. A balancer would
    repeat a request whose connection was closed, and then tell its client that the gateway has failed.
    """

    def __init__(self, app: ASGIApp, *, own: OwnAddress, delayed: DelayedRefusals) -> None:
        """`own` determines the network of a request, and `delayed` delays the refused requests of each network."""
        self._app = app
        self._own = own
        self._delayed = delayed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer: list[Message] = []

        async def sending(message: Message) -> None:
            refuses = message["type"] == "http.response.start" and message["status"] == HTTPStatus.TOO_MANY_REQUESTS
            if refuses or answer:
                answer.append(message)
            else:
                await send(message)

        await self._app(scope, receive, sending)
        if answer and (seconds := await self._delayed.delay(Share.alone(self._own.network(Request(scope))))):
            if (close_unanswered := scope.get(CLOSE_UNANSWERED)) is not None:
                # The request was logged and counted with its status before its answer waited, since it holds nothing
                # in that time.
                metrics.UNANSWERED.inc()
                close_unanswered(seconds)
                return
            answer[0]["headers"] = [*answer[0].get("headers", ()), (b"connection", b"close")]
        for message in answer:
            await send(message)
