"""Live updates: server-sent events, driven by notify's doorbells."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Final, TypeAlias

from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse
from starlette.types import Send

from gateway.api.identifiers import TextId
from gateway.identity.caller import Caller, GatewayServices, Signed
from gateway.services.calls import Services, ask, stream
from runtime.drain import Drain
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import InvalidArgument, SynclineError
from syncline.model.limits import MAX_WATCHED_SPACES
from syncline.notify.v1 import notify_pb2

router: Final = APIRouter(tags=["events"])

WatchAnswers: TypeAlias = AsyncGenerator[notify_pb2.WatchResponse, None]

_OVERLAP_SECONDS: Final = 30.0
"""Seconds before the token of a call of Watch expires at which the next call begins; by then KeyTokens returns a new
token.
"""
_MAX_UNREAD_MESSAGES: Final = 16
"""Maximum number of messages of Watch that wait in memory for a client that reads slowly."""


class Events(StreamingResponse):
    """A response of server-sent events. After its first event, every change of the watched spaces is announced.

    The stream never ends normally: if the gateway ends it, the last event is `problem` with the reason.
    """

    media_type = "text/event-stream"

    def __init__(self, first: notify_pb2.WatchResponse, rest: WatchAnswers, drain: Drain) -> None:
        super().__init__((), headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self._first = first
        self._rest = rest
        self._drain = drain

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._rest):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._tell(send, self._first)
            try:
                async for message in self._drain.until(self._rest):
                    await self._tell(send, message)
            except SynclineError as error:
                body = _event("problem", {"reason": error.reason, "detail": str(error)})
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send, message: notify_pb2.WatchResponse) -> None:
        if message.WhichOneof("kind") == "doorbell":
            body = _event("doorbell", {"space_id": message.doorbell.space_id, "seq": message.doorbell.seq})
        else:
            body = _event("heartbeat", {})
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def doorbells(services: Services, request: notify_pb2.WatchRequest, caller: Caller) -> WatchAnswers:
    """Yield the messages of notify's rpc Watch for as long as the caller has an access token; then raise the error that
    ends the call.

    A call of Watch ends when its token expires. A caller with a key always gets a new token, so that the next call
    begins before the present one ends. While both are open, both are read: some doorbells ring twice, and none is
    missed.
    """
    heard: asyncio.Queue[notify_pb2.WatchResponse | Exception] = asyncio.Queue(_MAX_UNREAD_MESSAGES)
    latest = caller

    async def listen(by: Caller) -> None:
        try:
            async with aclosing(stream(services.notify.Watch, request, token=by.token)) as messages:
                async for message in messages:
                    await heard.put(message)
        except Exception as error:
            if by is latest:
                await heard.put(error)

    async def follow() -> None:
        nonlocal latest
        async with asyncio.TaskGroup() as watches:
            watches.create_task(listen(latest))
            while True:
                await asyncio.sleep(latest.expires_at - _OVERLAP_SECONDS - time.time())
                try:
                    fresh = replace(latest, token=await latest.fresh())
                except Exception as error:
                    await heard.put(error)
                    return
                if fresh.expires_at <= latest.expires_at:  # the key of a program expires together with its last token
                    return
                latest = fresh
                watches.create_task(listen(latest))

    following = asyncio.create_task(follow())
    try:
        while True:
            message = await heard.get()
            if isinstance(message, Exception):
                raise message
            yield message
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@router.get(
    "/events",
    status_code=200,
    response_class=Events,
    responses={
        200: {
            "description": "Events `doorbell` and `heartbeat`, until the client goes. Where the server ends it, "
            "the last event is `problem`; from then on changes go unannounced.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def watch(
    request: Request,
    caller: Signed,
    services: GatewayServices,
    space: Annotated[
        list[TextId] | None,
        Query(max_length=MAX_WATCHED_SPACES, description="The spaces to watch; by default all of the caller's."),
    ] = None,
) -> Events:
    """Server-sent events: `doorbell` with a space's new sequence number, `heartbeat` every 25 s."""
    if space is None:
        asked = auth_pb2.ListSpacesRequest(page_size=MAX_WATCHED_SPACES)
        answer = await ask(services.auth.ListSpaces, asked, token=caller.token)
        space = [found.space_id for found in answer.spaces]
    if not space:
        raise InvalidArgument("there is no space to watch")
    rest = doorbells(services, notify_pb2.WatchRequest(space_ids=space), caller)
    first = await anext(rest)  # a watch that fails at once can still be answered with a status
    return Events(first, rest, request.app.state.drain)


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
